"""What the gateway writes down about requests: how much, what it takes out, and where to.

Whether a pattern compiles is asked of RE2 itself: CEL's `matches` is RE2, and so is the gateway's.
"""

import importlib
from typing import Annotated, Literal

from pydantic import Field

from localmodel.api.access import SecretRef
from localmodel.api.gateway import RedactKind
from localmodel.api.rules import Rule
from localmodel.api.values import BYTES_PATTERN, INT_OR_STRING, SpecModel, parse_bytes


def is_usable_pattern(pattern: str) -> bool:
    """Whether RE2 takes it and it does not match the empty text. Without RE2 the gateway judges, when it starts."""
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        return True
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options).search("") is None
    except re2.error:
        return False


def _is_file_size(value: str | int) -> bool:
    try:
        return 2**20 <= parse_bytes(value) <= 10 * 2**30
    except ValueError:
        return False


RedactPattern = Annotated[
    str,
    Field(max_length=256),
    Rule(
        "!''.matches(self)",
        r"write a regular expression in RE2 syntax that does not match the empty text, such as 'EMP-[0-9]{6}'",
        is_usable_pattern,
    ),
]
FileSize = Annotated[
    str | int,
    INT_OR_STRING,
    Rule(
        "type(self) == int ? self >= 1048576 && self <= 10737418240 : "
        f"(self.matches(r'^({BYTES_PATTERN})$') && quantity(self).compareTo(quantity('1Mi')) >= 0"
        " && quantity(self).compareTo(quantity('10Gi')) <= 0)",
        "write an amount from 1Mi to 10Gi, such as 64Mi",
        _is_file_size,
    ),
]


class LogFileSpec(SpecModel):
    """Keep the log in files of the pod, too: in /var/log/localmodel of the container `gateway`, as long as the pod lives. What
    they may take is added to the container's ephemeral storage."""

    max_size: FileSize = Field("64Mi", description="A file that would become larger is followed by a new one.")
    max_files: int = Field(4, ge=2, le=100, description="The oldest is deleted before there are more.")


class GatewayLogging(SpecModel):
    """The request log: a JSON line for every request on the gateway's standard output, chained by hashes, which
    `localmodel verify-log` checks."""

    mode: Literal["None", "Metadata", "Full"] = Field(
        "Metadata", description="None; Metadata: everything but prompts and answers; Full: those too, redacted."
    )
    redact: tuple[RedactKind, ...] = Field(
        ("Email", "Phone", "IDCard", "BankCard"),
        max_length=4,
        description="What mode Full takes out of prompts and answers.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    redact_patterns: tuple[RedactPattern, ...] = Field(
        (),
        max_length=16,
        description="More that mode Full takes out: regular expressions in RE2 syntax; ^ and $ match at lines.",
    )
    file: LogFileSpec | None = None
    chain_key_ref: SecretRef | None = Field(
        None,
        description="Secret whose entry `key` (16 bytes or more) makes the chain an HMAC, so that only its holders can write a "
        "line that fits. Absent: SHA-256. Only the pods read it.",
    )


Logging = Annotated[
    GatewayLogging,
    Rule(
        "self.mode != 'None' || !has(self.file)",
        "leave out file with mode None, which writes nothing, or write mode Metadata or Full",
        lambda logging: logging.mode != "None" or logging.file is None,
        ".file",
    ),
]
