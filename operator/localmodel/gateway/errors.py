"""Every way a request can be refused or fail, as one exception that knows its HTTP form and its outcome.

This is the only place that pairs a status with a code, apart from `unfit`. It must not do I/O, and a message must never carry a
traceback or a user's text: it says what was wrong and what to do.
"""

import json
import math
import re
from collections.abc import Mapping

from localmodel.api.engine_failure import EngineFailure
from localmodel.api.gateway import Outcome
from localmodel.gateway.api_error import ApiError as ApiError


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, code, message, outcome="rejected", param=param)


def invalid_json(message: str) -> ApiError:
    return bad_request(message, code="invalid_json")


def unsupported(param: str, message: str) -> ApiError:
    return bad_request(message, param, "unsupported_parameter")


def context_length_exceeded(message: str, param: str | None) -> ApiError:
    return bad_request(message, param, "context_length_exceeded")


def invalid_api_key(*, presented: bool) -> ApiError:
    found = "This API key is not known here." if presented else "There is no API key in this request."
    message = f"{found} Send 'authorization: Bearer KEY' with a key from whoever runs this server."
    challenge = 'Bearer realm="localmodel", error="invalid_token"' if presented else 'Bearer realm="localmodel"'
    extra = {"www-authenticate": challenge}
    return ApiError(401, "invalid_api_key", message, outcome="unauthorized", extra=extra)


def model_not_allowed(allowed: tuple[str, ...]) -> ApiError:
    message = f"This API key may not use this model. Use one of: {', '.join(allowed)}."
    return ApiError(403, "model_not_allowed", message, outcome="unauthorized", param="model")


def rate_limited(what: str, limit: int, retry_after: float, extra: Mapping[str, str]) -> ApiError:
    seconds = max(1, math.ceil(retry_after))
    message = f"The limit of {limit} {what} per minute is reached. Try again in {seconds} seconds."
    return _limited("rate_limit_exceeded", what, message, retry_after, extra)


def key_busy(limit: int, extra: Mapping[str, str]) -> ApiError:
    message = f"{limit} requests at once are allowed, and as many are running. Try again when one has ended."
    return _limited("key_concurrency_exceeded", "requests", message, 1.0, extra)


def _limited(code: str, kind: str, message: str, retry_after: float, extra: Mapping[str, str]) -> ApiError:
    return ApiError(429, code, message, outcome="rate_limited", kind=kind, retry_after=retry_after, retry=True, extra=extra)


def model_not_found(served: tuple[str, ...]) -> ApiError:
    names = ", ".join(served)
    message = f"This model is not served here. Use one of: {names}."
    return ApiError(404, "model_not_found", message, outcome="rejected", param="model")


def wrong_task(served: str, use: str) -> ApiError:
    message = f"This model serves the task {served}; this URL needs another kind of model. Use {use}."
    return ApiError(400, "model_task_mismatch", message, outcome="rejected", param="model")


def unknown_url(use: str = "/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/models") -> ApiError:
    return ApiError(404, "unknown_url", f"Unknown URL. Use {use}.", outcome="rejected")


def unknown_v2_url(name: str, verbs: tuple[str, ...]) -> ApiError:
    """In Triton's words first: its clients look for them."""
    behind = f"{', '.join(verbs[:-1])} or {verbs[-1]}"
    return ApiError(404, "unknown_url", f"Not Found. Use /v2/models/{name}, or {behind} behind that.", outcome="rejected")


def misdirected() -> ApiError:
    message = (
        "This server is for its own machine and asks for no API key, so it answers to names of that machine only. "
        "Use http://localhost or http://127.0.0.1; a proxy in between has to send such a Host. "
        "With API keys (spec.gateway.auth) it answers to any name."
    )
    return ApiError(421, "misdirected_request", message, outcome="rejected")


def method_not_allowed(allow: str) -> ApiError:
    message = f"This URL answers {allow} only."
    return ApiError(405, "method_not_allowed", message, outcome="rejected", allow=allow)


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "unsupported_media_type", message, outcome="rejected")


def too_large(status: int, what: str, limit: int) -> ApiError:
    message = f"The {what} is larger than {limit} bytes, the limit of this server. Send less."
    return ApiError(status, "request_too_large", message, outcome="rejected")


def http_not_implemented(status: int, what: str) -> ApiError:
    return ApiError(status, None, f"{what} Use HTTP/1.1 with content-length or 'transfer-encoding: chunked'.", outcome="rejected")


def body_timeout(what: str, seconds: float) -> ApiError:
    message = f"The {what} did not arrive within {seconds:g} seconds. Send the request again, in one go."
    return ApiError(408, "request_body_timeout", message, outcome="rejected")


def overloaded(retry_after: float, why: str = "All slots and the queue are full.") -> ApiError:
    message = f"{why} Try again in {max(1, math.ceil(retry_after))} seconds."
    return _unavailable("server_is_overloaded", message, retry_after, "shed")


def circuit_open(retry_after: float) -> ApiError:
    seconds = max(1, math.ceil(retry_after))
    message = f"The model's backend failed several times in a row, so nothing is sent to it. Try again in {seconds} seconds."
    return _unavailable("circuit_open", message, retry_after, "shed")


def not_ready(reason: str, retry_after: float = 2.0, *, resend: bool = False) -> ApiError:
    error = _unavailable("model_not_ready", f"The model can't answer now: {reason} Try again later.", retry_after, "shed")
    error.resend = resend
    return error


def draining() -> ApiError:
    message = "This replica is shutting down. Send the request again; another one will take it."
    return _unavailable("draining", message, 1.0, "drained")


def _unavailable(code: str, message: str, retry_after: float, outcome: Outcome) -> ApiError:
    return ApiError(503, code, message, outcome=outcome, kind="server_error", retry_after=retry_after, retry=True)


_TIMEOUTS = {
    "queue_timeout": "No slot became free within {0:g} seconds. Try again, or raise timeouts.queue.",
    "first_token_timeout": "The model sent no first token within {0:g} seconds. Shorten the prompt or raise timeouts.firstToken.",
    "idle_timeout": "The model sent nothing for {0:g} seconds. Try again, or raise timeouts.idle.",
    "total_timeout": "The answer was not finished within {0:g} seconds. Ask for fewer tokens, or raise timeouts.total.",
}


_OWN_LIMITS = {
    "total_timeout": "The answer was not finished within {0:g} seconds, the limit that this request set in '{1}'. "
    "Allow more time, or ask for fewer tokens.",
    "idle_timeout": "The model sent nothing for {0:g} seconds, the limit that this request set in '{1}'. Allow more time.",
}


def timed_out(outcome: Outcome, seconds: float, header: str = "") -> ApiError:
    """`header`: the client's own, if it set this limit."""
    message = (_OWN_LIMITS if header else _TIMEOUTS)[outcome].format(seconds, header)
    return ApiError(504, outcome, message, outcome=outcome, kind="server_error", retry=outcome == "queue_timeout")


def upstream(message: str, *, resend: bool = False) -> ApiError:
    text = f"The model's backend failed: {message} Try again."
    return ApiError(502, "upstream_error", text, outcome="upstream_error", kind="server_error", resend=resend)


def engine_failed(failure: EngineFailure) -> ApiError:
    """Codes engine_out_of_memory, engine_device_failed, engine_step_hung, engine_failed."""
    word = re.sub(r"(?<!^)(?=[A-Z])", "_", failure.code).lower()
    code = word if word.startswith("engine") else f"engine_{word}"
    text = f"The model's backend failed: {failure.message} Send the request again."
    return ApiError(502, code, text, outcome="upstream_error", kind="server_error")


def protocol(message: str) -> ApiError:
    text = f"The model's backend sent something unreadable ({message}). Report it to whoever runs this server."
    return ApiError(502, "upstream_protocol_error", text, outcome="protocol_error", kind="server_error")


def internal() -> ApiError:
    message = "The gateway failed on this request. Report it with the x-request-id of this answer."
    return ApiError(500, "internal_error", message, outcome="internal_error", kind="server_error")


def triton_body(message: str) -> bytes:
    """An error as Triton's own routes show it."""
    return json.dumps({"error": message}).encode()
