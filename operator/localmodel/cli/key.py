"""`localmodel key create`: a new API key, shown once, and what to store of it. It talks to no cluster and keeps nothing.

With --into DIR it writes the hash into a directory for `localmodel run --keys DIR`, beside those of the name that are there.
"""

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from localmodel.api.keys import format_hash
from localmodel.cli.problems import Problem

PREFIX = "lm-"
_RANDOM_BYTES = 32
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}"


@dataclass(frozen=True)
class KeyOptions:
    """The command line of `localmodel key create`."""

    name: str
    secret: str = "api-keys"
    namespace: str = "default"
    rpm: int | None = None
    tpm: int | None = None
    max_concurrent: int | None = None
    models: tuple[str, ...] = ()
    into: Path | None = None


def create_key(options: KeyOptions) -> str:
    """What is shown to the user. Raises Problem."""
    if not re.fullmatch(_NAME, options.name):
        raise Problem(f"'{options.name[:64]}' is no name of a key; use at most 63 letters, digits, '-', '_' and '.'.")
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    stored = format_hash(key)
    lines = ["The key, shown only now; give it to whoever is to use it:", "", f"  {key}", ""]
    lines += _store(options, stored) if options.into else _describe_secret(options, stored)
    return "\n".join([*lines, *_describe_limits(options)])


def _store(options: KeyOptions, stored: str) -> list[str]:
    assert options.into is not None
    file = options.into / options.name
    try:
        options.into.mkdir(parents=True, exist_ok=True)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(f"{before.rstrip()}\n{stored}\n".lstrip(), encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"The hash can't be written to {file}: {error}.") from None
    older = "; keys that it held before stay good until you remove their lines" if before.strip() else ""
    return [f"Its hash is in {file}{older}. Start with `localmodel run FILE --keys {options.into}`."]


def _describe_secret(options: KeyOptions, stored: str) -> list[str]:
    where = f"-n {options.namespace}"
    patch = json.dumps({"stringData": {options.name: stored}})
    return [
        "What is stored of it, as an entry of the Secret:",
        "",
        f"  {options.name}: {stored}",
        "",
        "The first key of a new Secret:",
        "",
        f"  kubectl create secret generic {options.secret} {where} --from-literal={options.name}={stored}",
        "",
        "One more key, or another one under this name:",
        "",
        f"  kubectl patch secret {options.secret} {where} -p '{patch}'",
        "",
        "To change over without a gap, store both hashes under the name, one a line, until the old key is no longer used.",
        f"The LocalModel names the Secret: spec.gateway.auth: {{mode: APIKey, secretRef: {{name: {options.secret}}}}}",
    ]


def _describe_limits(options: KeyOptions) -> list[str]:
    values = {"rpm": options.rpm, "tpm": options.tpm, "maxConcurrent": options.max_concurrent, "models": list(options.models)}
    written = {name: value for name, value in values.items() if value}
    if not written:
        return []
    return ["", "Its limits, as an item of spec.gateway.limits:", "", f"  - {json.dumps({'key': options.name, **written})}"]
