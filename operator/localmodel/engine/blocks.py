"""Which pages of the KV cache are taken, by how many sequences, and which hold a prefix worth keeping. Pure.

Why it exists: pages are shared by prefix and taken back when memory runs short, and both must be provable by random
histories. It knows block numbers, counts and digests, never tensors or sequences. Rules:

* A block is unused (nothing in it), held (by one or more sequences), or kept: held by nobody, its keys and values still
  valid under a digest. Unused and kept blocks are free to allocate; kept ones go last, least recently used first.
* A digest names a block's tokens and everything before them, so equal digests mean equal keys and values.
"""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from localmodel.engine.free_blocks import FreeBlocks

ROOT = b""
"""Digest of nothing: the parent of every first block."""


def digest_block(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Digest of one full block after the blocks that `parent` names."""
    return blake2b(parent + array("q", tokens).tobytes(), digest_size=16).digest()


class BlockPool:
    """Blocks 0 ... count - 1 of `size` tokens each. Not thread-safe."""

    def __init__(self, count: int, size: int, *, contiguous: bool = False) -> None:
        """`contiguous`: give a sequence neighbouring blocks where possible, so that a CPU may read them without a copy."""
        self.count = count
        self.size = size
        self._contiguous = contiguous
        self._holders = [0] * count
        self._unused = FreeBlocks(count, contiguous=contiguous)
        self._kept = FreeBlocks(contiguous=contiguous)
        self._digest_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        """Blocks that `allocate` could give."""
        return len(self._unused) + len(self._kept)

    @property
    def held(self) -> int:
        return self.count - self.free

    def holders(self, block: int) -> int:
        return self._holders[block]

    def blocks_for(self, tokens: int) -> int:
        """Blocks that `tokens` tokens take."""
        return -(-tokens // self.size)

    def allocate(self, after: int | None = None) -> int:
        """Takes a free block, the neighbour of `after` if neighbours are wanted. The caller has checked `free`."""
        block = self._choose(after)
        if block in self._unused:
            self._unused.remove(block)
        else:
            self._kept.remove(block)
            del self._block_of[self._digest_of.pop(block)]
        self._holders[block] = 1
        return block

    def find(self, digest: bytes) -> int | None:
        """The block that holds these keys and values, held or kept."""
        return self._block_of.get(digest)

    def hold(self, block: int) -> None:
        """One more sequence reads a block that `find` gave."""
        if self._holders[block] == 0:
            self._kept.remove(block)
        self._holders[block] += 1

    def is_kept(self, block: int) -> bool:
        return block in self._kept

    def remember(self, block: int, digest: bytes) -> None:
        """A held block is full and computed. If another block has the digest already, that one stays the one to find."""
        if digest not in self._block_of and block not in self._digest_of:
            self._block_of[digest] = block
            self._digest_of[block] = digest

    def release(self, blocks: Iterable[int]) -> None:
        """One sequence lets go of `blocks`, given from first to last: the last are the first to be taken again."""
        for block in reversed(list(blocks)):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                (self._kept if block in self._digest_of else self._unused).add(block)

    def _choose(self, after: int | None) -> int:
        if not self._contiguous:
            return self._unused.newest() if self._unused else self._kept.oldest()
        if after is not None and (after + 1 in self._unused or after + 1 in self._kept):
            return after + 1
        return (self._unused or self._kept).roomiest()
