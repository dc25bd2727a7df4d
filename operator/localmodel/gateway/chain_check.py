"""Reads log files and says whether their hash chains hold, and if not, which line is wrong and what happened to it.

Pure: lines in, findings out. It believes nothing that a line says of itself before its hash fits; what an honest log may look
like (rotated, killed, records lost and said so) is told apart from what somebody did to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from localmodel.gateway.chain import FIRST_PREV, Head, Line
from localmodel.gateway.chain_files import Entry, LogFiles, Place, read_files


@dataclass(frozen=True, slots=True)
class Finding:
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass
class ChainReport:
    """What one chain amounts to."""

    chain: str
    pod: str
    first: int
    head: Head
    requests: int
    lost: int
    ended: bool


@dataclass
class Report:
    problems: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chains: list[ChainReport] = field(default_factory=list)


def check(files: Iterable[tuple[str, bytes]], key: bytes = b"", *, running: bool = False) -> Report:
    """`files`: names and contents. `running`: the log is still written, so that its last chain need not have an end."""
    read = read_files(files, key)
    report = Report()
    checks = [_ChainCheck(read.entries(chain), report) for chain in read.chains]
    starts = [each.start for each in checks if each.start is not None]
    deleted = _deleted([entry.line for each in checks for entry in each.entries])
    successors = {previous.chain: previous for start in starts if (previous := _head(start.fields.get("previous"))) is not None}
    for each in checks:
        each.run(deleted, successors.get(each.chain), running=running, torn=read.torn, damaged=read.damaged)
    _check_missing_chains(report, read, successors, deleted)
    if read.others:
        report.notes.append(f"{read.others} lines are not the log's own and were passed over")
    report.problems.sort(key=lambda finding: (finding.file, finding.line))
    return report


def _head(value: object) -> Head | None:
    match value:
        case {"chain": str(chain), "seq": int(seq), "hash": str(digest)}:
            return Head(chain, seq, digest)
    return None


def _deleted(lines: Sequence[Line]) -> dict[str, int]:
    """Chain to the last number that rotation has deleted, as intact lines say."""
    through: dict[str, int] = {}
    for line in lines:
        if line.intact and line.fields.get("kind") in ("start", "rotated") and isinstance(line.fields.get("deleted"), list):
            for each in line.fields["deleted"]:
                head = _head(each.get("through")) if isinstance(each, dict) else None
                if head is not None:
                    through[head.chain] = max(head.seq, through.get(head.chain, -1))
    return through


def _check_missing_chains(report: Report, read: LogFiles, successors: dict[str, Head], deleted: dict[str, int]) -> None:
    for chain, head in successors.items():
        if chain not in read.chains and deleted.get(chain, -1) < head.seq:
            entries = [entry for each in read.chains for entry in read.entries(each)]
            names = [entry for entry in entries if _head(entry.line.fields.get("previous")) == head]
            text = f"removed: the log before this one (chain {chain}, {head.seq + 1} lines) is not among the files"
            report.problems.append(Finding(*names[0].place, text))


class _ChainCheck:
    def __init__(self, entries: list[Entry], report: Report) -> None:
        self.entries = entries
        self.chain = entries[0].line.chain
        first = next((entry.line for entry in entries if entry.line.seq == 0), None)
        self.start = first if first is not None and first.intact and first.fields.get("kind") == "start" else None
        self._report = report
        self._by_seq: dict[int, Entry] = {}

    def run(
        self, deleted: dict[str, int], successor: Head | None, *, running: bool, torn: list[Place], damaged: list[Place]
    ) -> None:
        self._check_lines()
        self._check_links()
        self._check_gaps(damaged)
        self._check_beginning(deleted)
        last = self._by_seq[max(self._by_seq)]
        for entry in self._by_seq.values():
            if entry.line.fields.get("kind") == "end" and entry is not last:
                self._problem(entry, "added: lines follow the end of the chain")
        ended = last.line.fields.get("kind") == "end"
        if not ended:
            self._check_open_end(last, successor, running=running, torn=torn)
        self._summarize(last, ended)

    def _problem(self, entry: Entry, text: str) -> None:
        self._report.problems.append(Finding(*entry.place, text))

    def _check_lines(self) -> None:
        """Each by itself, and whether it stands where its number belongs."""
        highest: Entry | None = None
        for entry in self.entries:
            line = entry.line
            if not line.intact:
                self._problem(entry, "edited: its text does not give its hash")
            known = self._by_seq.get(line.seq)
            if known is not None:
                if line.intact:
                    same = known.line.hash == line.hash
                    self._problem(entry, f"duplicated: it repeats {known}" if same else f"added: {known} has its number")
                continue
            self._by_seq[line.seq] = entry
            if highest is None or line.seq > highest.line.seq:
                highest = entry
            else:
                self._problem(entry, f"swapped: it is line {line.seq} of the chain and stands after line {highest.line.seq}")

    def _check_links(self) -> None:
        for seq in sorted(self._by_seq):
            entry, before = self._by_seq[seq], self._by_seq.get(seq - 1)
            expected = before.line.hash if before is not None else FIRST_PREV if seq == 0 else entry.line.prev
            if entry.line.prev != expected and entry.line.intact and (before is None or before.line.intact):
                if before is None:
                    self._problem(entry, "replaced: a first line can't follow another")
                else:
                    self._problem(before, f"replaced: {entry} follows another line than this one")

    def _check_gaps(self, damaged: list[Place]) -> None:
        numbers = sorted(self._by_seq)
        for before, after in pairwise(numbers):
            if after == before + 1:
                continue
            left, right = self._by_seq[before], self._by_seq[after]
            between = [place for place in damaged if left.place[0] == place[0] and left.place[1] < place[1] and (
                place[0] != right.place[0] or place[1] < right.place[1])]  # fmt: skip
            if len(between) == after - before - 1:
                self._report.problems += [Finding(*place, "edited: it can't be read any more") for place in between]
            else:
                what = "line is" if after - before == 2 else f"{after - before - 1} lines are"
                self._problem(right, f"removed: {what} missing before this one (numbers {before + 1} to {after - 1})")

    def _check_beginning(self, deleted: dict[str, int]) -> None:
        first = min(self._by_seq)
        if first > 0 and deleted.get(self.chain, -1) < first - 1:
            self._problem(self._by_seq[first], f"removed: the first {first} lines of the chain are not among the files")
        elif first == 0 and self.start is None and self._by_seq[0].line.intact:
            self._problem(self._by_seq[0], "replaced: a chain begins with a line of kind start")

    def _check_open_end(self, last: Entry, successor: Head | None, *, running: bool, torn: list[Place]) -> None:
        half = next((place for place in torn if place[0] == last.place[0]), None)
        if successor == last.line.head:
            self._report.notes.append(
                f"chain {self.chain} has no end (its process was killed); the next chain confirms its last line"
            )
        elif successor is not None:
            self._problem(last, f"truncated: the next chain says that this one went on to line {successor.seq}")
        elif half is not None and not running:
            self._report.problems.append(Finding(*half, "truncated: half a line"))
        elif not running:
            self._problem(last, "truncated: the chain has no end; if its gateway still runs, say --running")

    def _summarize(self, last: Entry, ended: bool) -> None:
        lines = [entry.line for entry in self._by_seq.values()]
        lost = [line.fields.get("count") for line in lines if line.fields.get("kind") == "lost"]
        pods = [line.fields.get("pod") for line in lines if line.fields.get("pod")]
        self._report.chains.append(
            ChainReport(
                chain=self.chain,
                pod=str(pods[0]) if pods else "",
                first=min(self._by_seq),
                head=last.line.head,
                requests=sum(line.fields.get("kind") == "request" for line in lines),
                lost=sum(count for count in lost if isinstance(count, int)),
                ended=ended,
            )
        )
