"""Refusals of what does not fit as it stands, however long the client waits: each says what to change, none offers another try.

As `errors` does, it pairs a status with a code. It must not do I/O.
"""

from collections.abc import Mapping

from localmodel.gateway.api_error import ApiError
from localmodel.gateway.errors import bad_request, context_length_exceeded


def above_limit(tokens: int, limit: int, extra: Mapping[str, str]) -> ApiError:
    """Of the caller's tokens per minute. OpenAI's status and code for it."""
    message = (
        f"This request may use {tokens} tokens, input and answers, but {limit} tokens per minute are allowed. "
        "Shorten the input, or ask for fewer tokens with max_tokens, or for fewer answers with n."
    )
    return ApiError(429, "rate_limit_exceeded", message, outcome="rate_limited", kind="tokens", extra=extra)


def over_capacity(tokens: int, capacity: int) -> ApiError:
    message = (
        f"The prompt and the longest answer are {tokens} tokens together, but the engine's memory holds {capacity}. "
        "Shorten the prompt, or ask for fewer tokens with max_tokens."
    )
    return context_length_exceeded(message, None)


def too_many_answers(count: int, most: int) -> ApiError:
    message = (
        f"'n' is {count}, but of answers with this prompt and max_tokens only {most} can run or wait here at once. "
        "Ask for fewer, or lower max_tokens."
    )
    return bad_request(message, "n")
