"""What went wrong in a step, in words: the one place that reads the errors of torch and of the device.

Why it exists: whoever waited for an answer, and whoever reads /status, should learn what happened and what to do. Nothing is
mended here: after any of these the process ends, because what a device computes after an error can't be trusted, and
memory that ran out once runs out again.
"""

from localmodel.api.engine_failure import EngineFailure, EngineFailureCode, parse_engine_failure

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
_DEVICE = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "NCCL", "device-side assert", "illegal memory access")


class RankFailed(Exception):
    """One of the ranks that share a network can't go on, and so nobody can. `str(error)`: what happened to which, or its own
    last words."""

    def __init__(self, words: str, name: str = "") -> None:
        super().__init__(words)
        self.name = name
        """Whose words these are."""


def explain_failure(error: BaseException) -> EngineFailure:
    """Of an exception that a step raised."""
    if isinstance(error, RankFailed):
        return _explain_rank(error)
    words = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    said = f"{type(error).__name__}: {words}" if words else type(error).__name__
    if isinstance(error, MemoryError) or _says(error, _MEMORY):
        return EngineFailure(
            EngineFailureCode.OUT_OF_MEMORY,
            f"a step of the engine ran out of memory ({said}); the engine starts again. If this comes again, lower maxBatchSize "
            "or contextWindow, or give the model more memory.",
        )
    if _says(error, _DEVICE):
        return EngineFailure(
            EngineFailureCode.DEVICE_FAILED,
            f"the card failed in a step ({said}); the engine starts again. If this comes again, look at nvidia-smi and the "
            "node's kernel log.",
        )
    message = f"a step of the engine failed ({said}); the engine starts again. Its log has the details."
    return EngineFailure(EngineFailureCode.ENGINE_FAILED, message)


def _explain_rank(error: RankFailed) -> EngineFailure:
    if own := parse_engine_failure(str(error)):
        return EngineFailure(own.code, f"{error.name}: {own.message}")
    return EngineFailure(EngineFailureCode.ENGINE_FAILED, f"{error}; the engine starts again. Its log has the details.")


def explain_hang(seconds: float) -> EngineFailure:
    message = f"a step of the engine has been running for {seconds:.0f} s; the engine starts again."
    return EngineFailure(EngineFailureCode.STEP_HUNG, message)


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    text = str(error).casefold()
    return any(sign.casefold() in text for sign in signs)
