"""Free blocks of the KV cache: the order in which they became free, and the runs of neighbours among them. Pure.

Why it exists: on a CPU a sequence begins in the longest run of free blocks, so that it can grow without a gap; to look at every
block for that took longer than hundreds of tokens. It knows numbers only, not what a block holds.
"""

from bisect import bisect_right
from operator import sub


class FreeBlocks:
    def __init__(self, count: int = 0, *, contiguous: bool) -> None:
        """Blocks 0 ... count - 1, of which 0 counts as the newest. `contiguous`: runs are known too."""
        self._order: dict[int, None] = dict.fromkeys(reversed(range(count)))
        self._runs = BlockRuns(count) if contiguous else None

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, block: int) -> bool:
        return block in self._order

    def add(self, block: int) -> None:
        self._order[block] = None
        if self._runs is not None:
            self._runs.add(block)

    def remove(self, block: int) -> None:
        del self._order[block]
        if self._runs is not None:
            self._runs.remove(block)

    def newest(self) -> int:
        return next(reversed(self._order))

    def oldest(self) -> int:
        return next(iter(self._order))

    def roomiest(self) -> int:
        """Where a sequence can grow longest."""
        assert self._runs is not None
        return self._runs.middle_of_longest()


class BlockRuns:
    def __init__(self, count: int = 0) -> None:
        """Of the blocks 0 ... count - 1."""
        self._starts = [0] if count else []
        self._ends = [count] if count else []
        """Run i has the blocks starts[i] ... ends[i] - 1; a gap is between two runs."""

    def add(self, block: int) -> None:
        """One that is not in the set."""
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, block)
        joins_left, joins_right = at > 0 and ends[at - 1] == block, at < len(starts) and starts[at] == block + 1
        if joins_left and joins_right:
            ends[at - 1] = ends.pop(at)
            del starts[at]
        elif joins_left:
            ends[at - 1] += 1
        elif joins_right:
            starts[at] -= 1
        else:
            starts.insert(at, block)
            ends.insert(at, block + 1)

    def remove(self, block: int) -> None:
        """One that is in the set."""
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, block) - 1
        start, end = starts[at], ends[at]
        if start + 1 == end:
            del starts[at], ends[at]
        elif start == block:
            starts[at] += 1
        elif end == block + 1:
            ends[at] -= 1
        else:
            ends[at] = block
            starts.insert(at + 1, block + 1)
            ends.insert(at + 1, end)

    def middle_of_longest(self) -> int:
        """Of the first of the longest runs; the set is not empty. Where a sequence can grow longest: not at the beginning of
        a run, where whoever is before it will want to go on, unless nobody can be."""
        lengths = list(map(sub, self._ends, self._starts))
        longest = max(lengths)
        start = self._starts[lengths.index(longest)]
        return start + longest // 2 if start else start
