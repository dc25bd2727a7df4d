"""The same numbers once more, as OpenTelemetry's conventions for generative AI name and cut them (docs/decisions/0013).

It takes them from the record, so that they can't differ from ours. Requests that generate nothing are not counted.
"""

from collections.abc import Callable
from typing import Any

from localmodel.api import metrics as declared
from localmodel.gateway.record import Record

_OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_PROVIDER = "localmodel"


class GenAi:
    def __init__(self, of: Callable[[declared.Metric], Any]) -> None:
        self._of = of
        self._known: dict[tuple[str, ...], Any] = {}
        """Looking a series up by its labels costs more than counting."""

    def count(self, record: Record) -> None:
        operation = _OPERATIONS.get(record.endpoint)
        if operation is None:
            return
        model = record.served_name or ""

        def observe(metric: declared.Metric, value: float, *label: str) -> None:
            key = (metric.name, operation, model, *label)
            series = self._known.get(key)
            if series is None:
                series = self._known[key] = self._of(metric).labels(operation, _PROVIDER, model, *label)
            series.observe(value)

        observe(declared.GEN_AI_REQUEST_DURATION, record.total_seconds, "" if record.outcome == "ok" else record.outcome)
        if record.prompt_tokens is not None:
            observe(declared.GEN_AI_TOKEN_USAGE, record.prompt_tokens, "input")
            observe(declared.GEN_AI_TOKEN_USAGE, record.completion_tokens, "output")
        if record.outcome != "ok" or record.first_token_seconds is None:
            return
        first = (record.queue_seconds or 0.0) + record.first_token_seconds
        observe(declared.GEN_AI_TIME_TO_FIRST_TOKEN, first)
        if record.completion_tokens > 1:
            rest = max(0.0, record.total_seconds - first)
            observe(declared.GEN_AI_TIME_PER_OUTPUT_TOKEN, rest / (record.completion_tokens - 1))
