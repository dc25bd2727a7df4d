"""Which API keys are good: from the files of a directory, one for each name, to a ring that a presented key is looked up in.

Pure. A file holds hashes, one a line: two during a rotation. What can't be read is a problem to tell, and no reason to turn
away those whose key is good. A file's text is never repeated in a message: it may hold a key that somebody put there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest

from localmodel.api.keys import digest_key, parse_hash

MOST_HASHES = 1024
"""All are compared with for each request."""
_LARGEST_FILE = 4096
_SHOWN = 3


@dataclass(frozen=True)
class Keyring:
    digests: tuple[tuple[str, bytes], ...] = ()
    """Name and SHA-256."""
    problems: tuple[str, ...] = ()
    """Sentences that say what to do."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.digests)

    def find(self, presented: str) -> str | None:
        """The name of this key. The time it takes says nothing of how near a guess was, nor of whose key fits."""
        digest = digest_key(presented)
        found = None
        for name, known in self.digests:
            if compare_digest(known, digest):
                found = name
        return found


def parse_keys(files: Mapping[str, bytes]) -> Keyring:
    """From the files' names and contents."""
    owners: dict[bytes, str] = {}
    problems: list[str] = []
    for name, content in sorted(files.items()):
        digests, wrong = _parse_file(name, content)
        problems += wrong
        for digest in digests:
            if owners.setdefault(digest, name) != name:
                problems.append(f"The keys '{owners[digest]}' and '{name}' are the same key. Make one for each name.")
    ring = [(name, digest) for digest, name in owners.items()]
    if len(ring) > MOST_HASHES:
        problems.append(f"There are {len(ring)} keys; only the first {MOST_HASHES} by name are used. Remove some.")
    return Keyring(tuple(ring[:MOST_HASHES]), tuple(problems))


def _parse_file(name: str, content: bytes) -> tuple[list[bytes], list[str]]:
    make = f"Make one with `localmodel key create {name}` and store the line that begins with sha256:."
    if len(content) > _LARGEST_FILE:
        return [], [f"The entry of the key '{name}' is larger than {_LARGEST_FILE} bytes. Keep one hash a line."]
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    written = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not written:
        return [], [f"The entry of the key '{name}' is empty. {make}"]
    digests = [(number, parse_hash(line)) for number, line in written]
    bad = [str(number) for number, digest in digests if digest is None]
    told = f"The key '{name}': line {', '.join(bad[:_SHOWN])} is no hash, and a key is not kept as it is. {make}"
    return [digest for _, digest in digests if digest is not None], [told] if bad else []


def describe_problems(problems: tuple[str, ...]) -> str:
    """A few of them, for a status; empty if there are none."""
    rest = len(problems) - _SHOWN
    return " ".join((*problems[:_SHOWN], *([f"{rest} more problems of this kind."] if rest > 0 else [])))
