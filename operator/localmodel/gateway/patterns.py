"""Compiles RE2 patterns as redaction wants them: bounded memory, and a reason when one can't be used."""

import re2

_MEMORY_BYTES = 1 << 23


class BadPattern(ValueError):
    """A pattern that can't be used; the message says why."""


def compile_pattern(pattern: str) -> "re2._Regexp":
    """Raises BadPattern."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise BadPattern(f"{pattern!r}: {said}; write a regular expression in RE2 syntax") from None
