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
        self._duration, self._usage, self._first, self._rest = (
            of(metric).labels
            for metric in (
                declared.GEN_AI_REQUEST_DURATION,
                declared.GEN_AI_TOKEN_USAGE,
                declared.GEN_AI_TIME_TO_FIRST_TOKEN,
                declared.GEN_AI_TIME_PER_OUTPUT_TOKEN,
            )
        )

    def count(self, record: Record) -> None:
        operation = _OPERATIONS.get(record.endpoint)
        if operation is None:
            return
        asked = (operation, _PROVIDER, record.served_name or "")
        self._duration(*asked, "" if record.outcome == "ok" else record.outcome).observe(record.total_seconds)
        if record.prompt_tokens is not None:
            self._usage(*asked, "input").observe(record.prompt_tokens)
            self._usage(*asked, "output").observe(record.completion_tokens)
        if record.outcome != "ok" or record.first_token_seconds is None:
            return
        first = (record.queue_seconds or 0.0) + record.first_token_seconds
        self._first(*asked).observe(first)
        if record.completion_tokens > 1:
            rest = max(0.0, record.total_seconds - first)
            self._rest(*asked).observe(rest / (record.completion_tokens - 1))
