"""What can go wrong before the engine serves (LoadError) and what it says no to while serving (Refused).

Why it exists: the operator maps the code at the beginning of a load error to a status reason, and the gateway maps a
refusal's code to an HTTP status. Messages are for people: what was found, what was expected, what to do. Nothing here
decides when an error applies.
"""

from typing import ClassVar, Literal

from localmodel.api.channel import Refusal
from localmodel.api.engine import LoadErrorCode

RefusalCode = Literal[
    "bad_token", "invalid_request", "context_length_exceeded", "overloaded", "no_event_stream", "stale_epoch", "failed"
]


class LoadError(Exception):
    """The model can't be served. `str(error)` begins with `[code] `."""

    code: ClassVar[LoadErrorCode]

    def __init__(self, message: str) -> None:
        super().__init__(f"[{self.code}] {message}")


class InvalidEngineConfig(LoadError):
    code = LoadErrorCode.INVALID_ENGINE_CONFIG


class ModelFilesMissing(LoadError):
    code = LoadErrorCode.MODEL_FILES_MISSING


class ModelFilesCorrupt(LoadError):
    code = LoadErrorCode.MODEL_FILES_CORRUPT


class UnsupportedArchitecture(LoadError):
    code = LoadErrorCode.UNSUPPORTED_ARCHITECTURE


class ContextWindowTooLarge(LoadError):
    code = LoadErrorCode.CONTEXT_WINDOW_TOO_LARGE


class OutOfMemory(LoadError):
    code = LoadErrorCode.OUT_OF_MEMORY


class DeviceUnavailable(LoadError):
    code = LoadErrorCode.DEVICE_UNAVAILABLE


class GpuCountUnsuitable(LoadError):
    code = LoadErrorCode.GPU_COUNT_UNSUITABLE


class SignatureMissing(LoadError):
    code = LoadErrorCode.SIGNATURE_MISSING


class SignatureMismatch(LoadError):
    code = LoadErrorCode.SIGNATURE_MISMATCH


class UnsafeModelFile(LoadError):
    code = LoadErrorCode.UNSAFE_MODEL_FILE


def load_error(code: LoadErrorCode, message: str) -> LoadError:
    """The error of `code`."""
    return next(kind for kind in LoadError.__subclasses__() if kind.code == code)(message)


class Refused(Exception):
    """One request can't be served; the engine and all other requests are well."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message)
