"""Takes log files apart: which lines are the log's, of which chain, and which look damaged. It judges nothing else. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from localmodel.gateway.chain import Line, read_line

Place = tuple[str, int]
"""File and line number, from 1."""


@dataclass(frozen=True, slots=True)
class Entry:
    place: Place
    line: Line

    def __str__(self) -> str:
        return f"{self.place[0]}:{self.place[1]}"


@dataclass
class LogFiles:
    chains: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)
    """By chain and file."""
    damaged: list[Place] = field(default_factory=list)
    """Lines that look like the log's and can't be read."""
    torn: list[Place] = field(default_factory=list)
    """The same, as the last of a file and without a line feed."""
    others: int = 0
    """Lines that were never the log's, such as those of standard error."""

    def entries(self, chain: str) -> list[Entry]:
        """In order; files by what they hold, in whatever order they were given."""
        files = sorted(self.chains[chain].values(), key=lambda entries: min(entry.line.seq for entry in entries))
        return [entry for entries in files for entry in entries]


def read_files(files: Iterable[tuple[str, bytes]], key: bytes) -> LogFiles:
    """Names and contents."""
    read = LogFiles()
    for name, data in files:
        lines = data.split(b"\n")
        for number, raw in enumerate(lines, 1):
            line = read_line(raw, key)
            if line is not None:
                read.chains.setdefault(line.chain, {}).setdefault(name, []).append(Entry((name, number), line))
            elif number == len(lines) and raw.startswith(b"{"):
                read.torn.append((name, number))
            elif raw.startswith(b"{") or b'"hash":"' in raw:
                read.damaged.append((name, number))
            elif raw.strip():
                read.others += 1
    return read
