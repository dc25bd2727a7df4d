"""What the backend said or failed to say, as what a client is told, and whether the request may be sent again.

Pure. Of Triton's own words a client sees one line at most.
"""

from localmodel.api import channel
from localmodel.api.engine_failure import parse_engine_failure
from localmodel.api.events import SCHEMA_TOO_COMPLEX, SequenceEvent
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import (
    BackendError,
    BackendGarbage,
    BackendGone,
    BackendSilent,
    BackendUnreachable,
    Refused,
)
from localmodel.gateway.timers import Limit


def first_line(message: str) -> str:
    """Of Triton's message: the rest may be a traceback, which is for the operator, not for users."""
    line = (message.splitlines() or [""])[0][:300].rstrip(". ")
    return f"{line}."


def explain_end(event: SequenceEvent, total: Limit) -> errors.ApiError:
    """Of a sequence that the engine did not complete: its deadline, the engine's own end, or what is special to the sequence."""
    if event.finish_reason == "deadline":
        return total.error()
    if event.finish_reason == "cancelled":
        return errors.upstream("It ended this request.")
    message = str(event.error or "It gave no reason.")
    if message.startswith(SCHEMA_TOO_COMPLEX):
        return errors.bad_request(f"{first_line(message.removeprefix(SCHEMA_TOO_COMPLEX))} Send a simpler one.")
    failure = parse_engine_failure(message)
    return errors.engine_failed(failure) if failure else errors.upstream(first_line(message))


def submit_error(error: Exception) -> errors.ApiError:
    """How a call of the channel failed."""
    match error:
        case Refused():
            return _refusal_error(error.refusal)
        case BackendError():
            return errors.upstream(first_line(str(error)), resend=isinstance(error, BackendGone))
        case BackendGarbage():
            return errors.protocol(str(error))
        case BackendSilent():
            return errors.upstream("It did not answer.")
        case BackendUnreachable():
            return errors.upstream("It could not be reached.", resend=True)
        case _:
            return errors.internal()


def _refusal_error(refusal: channel.Refusal) -> errors.ApiError:
    match refusal.code:
        case "invalid_request":
            return errors.bad_request(refusal.message)
        case "context_length_exceeded":
            return errors.context_length_exceeded(refusal.message, None)
        case "overloaded":
            return errors.overloaded(1.0, "The engine takes no more sequences now.")
        case "no_event_stream" | "stale_epoch":
            return errors.not_ready("The connection to the engine is being renewed.", 1.0, resend=True)
        case _:
            return errors.upstream(first_line(refusal.message))
