"""What a scrape sees before anything has happened."""

from typing import Any

from localmodel.api.engine_status import EngineStatus
from localmodel.gateway.metrics import GatewayMetrics
from localmodel.gateway.record import Record

STATUS: dict[str, Any] = {
    "model_version": "1", "architecture": "a", "parameters": 1, "dtype": "d", "device": "cpu", "context_window": 1,
    "max_batch_size": 1, "running": 0, "waiting": 0, "kv_tokens_capacity": 1, "kv_tokens_used": 0, "weights_bytes": 1,
    "kv_bytes": 1, "memory_bytes": 1, "load_seconds": 1, "tokens_total": 1, "steps_total": 1, "step_age_seconds": 0,
}  # fmt: skip


def test_every_outcome_is_there_before_it_happens() -> None:
    text = GatewayMetrics("qwen").render().decode()
    assert 'localmodel_gateway_requests_total{endpoint="chat",model="qwen",outcome="shed"} 0.0' in text


def record(**fields: Any) -> Record:
    return Record("r", "p", "n", "m", "1", endpoint="chat", served_name="qwen", **fields)


def test_the_same_numbers_under_the_names_of_opentelemetry() -> None:
    metrics = GatewayMetrics("m")
    metrics.count(
        record(outcome="ok", prompt_tokens=10, completion_tokens=5, queue_seconds=1, first_token_seconds=2, total_seconds=7)
    )
    metrics.count(record(outcome="shed", total_seconds=0.5))
    metrics.count(Record("r", "p", "n", "m", "1", endpoint="models", outcome="ok"))
    text = metrics.render().decode()
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="localmodel",gen_ai_request_model="qwen"'
    for line in (
        f'gen_ai_server_request_duration_seconds_sum{{error_type="",{labels}}} 7.0',
        f'gen_ai_server_request_duration_seconds_sum{{error_type="shed",{labels}}} 0.5',
        f"gen_ai_server_time_to_first_token_seconds_sum{{{labels}}} 3.0",
        f"gen_ai_server_time_per_output_token_seconds_sum{{{labels}}} 1.0",
        f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}} 10.0',
        f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 5.0',
        f'gen_ai_server_request_duration_seconds_count{{error_type="",{labels}}} 1.0',
    ):
        assert line in text, line


def test_lost_records_are_counted_by_sink() -> None:
    metrics = GatewayMetrics("m")
    assert 'localmodel_gateway_log_records_lost_total{sink="file"} 0.0' in metrics.render().decode()
    metrics.count_lost({"stdout": 3, "file": 0})
    metrics.count_lost({"stdout": 5, "file": 1})
    text = metrics.render().decode()
    assert 'lost_total{sink="stdout"} 5.0' in text and 'lost_total{sink="file"} 1.0' in text


def test_guessed_tokens_are_the_engine_s_own_numbers_and_survive_its_end() -> None:
    metrics = GatewayMetrics("m")
    assert 'drafted_tokens_total{result="accepted"} 0.0' in metrics.render().decode()
    status = EngineStatus.model_validate({**STATUS, "drafted_tokens_total": 10, "accepted_tokens_total": 7})
    for _ in range(2):
        metrics.count_drafts(status)
    text = metrics.render().decode()
    assert 'total{result="accepted"} 7.0' in text and 'total{result="rejected"} 3.0' in text
    metrics.count_drafts(EngineStatus.model_validate({**STATUS, "drafted_tokens_total": 5, "accepted_tokens_total": 4}))
    text = metrics.render().decode()
    assert 'total{result="accepted"} 11.0' in text and 'total{result="rejected"} 4.0' in text
