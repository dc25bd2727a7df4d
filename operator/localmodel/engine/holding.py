"""What one sequence holds of the block pool: shared beginnings, blocks of its own, and what it gives back. Pure.

Why it exists: the scheduler decides who runs; which blocks that takes is told here, in terms of one sequence and the pool.
Nothing here takes a block from somebody else.
"""

from localmodel.engine.blocks import BlockPool
from localmodel.engine.sequence import Sequence


def find_prefix(pool: BlockPool, sequence: Sequence) -> list[int]:
    """Blocks with the beginning of its tokens, at least one of which is left to compute; none with a seed."""
    found: list[int] = []
    if sequence.sampling.seed is None:
        for number in range((sequence.length - 1) // pool.size):
            block = pool.find(sequence.digest(number, pool.size))
            if block is None:
                break
            found.append(block)
    return found


def try_hold(pool: BlockPool, sequence: Sequence, reserve: int) -> bool:
    """Gives `sequence` the blocks of all its tokens if `reserve` blocks stay free; what they hold already is computed."""
    shared = find_prefix(pool, sequence)
    needed = pool.blocks_for(sequence.length) - len(shared)
    kept = sum(pool.is_kept(block) for block in shared)
    if pool.free - kept - needed < reserve:
        return False
    for block in shared:
        pool.hold(block)
    sequence.blocks = list(shared)
    own: int | None = None
    for _ in range(needed):
        own = pool.allocate(own)
        sequence.blocks.append(own)
    sequence.computed = len(shared) * pool.size
    sequence.remembered = len(shared)
    return True


def make_room(pool: BlockPool, sequence: Sequence, tokens: int, reserve: int) -> int:
    """How many of `tokens` tokens after those computed have a block, taking more while over `reserve` blocks are free."""
    while len(sequence.blocks) * pool.size < sequence.computed + tokens and pool.free > reserve:
        sequence.blocks.append(pool.allocate(sequence.blocks[-1]))
    return min(tokens, len(sequence.blocks) * pool.size - sequence.computed)


def remember(pool: BlockPool, sequence: Sequence, computed: int) -> None:
    """Lets others find the full blocks of its first `computed` tokens, which are known."""
    for number in range(sequence.remembered, computed // pool.size):
        pool.remember(sequence.blocks[number], sequence.digest(number, pool.size))
        sequence.remembered = number + 1


def let_go(pool: BlockPool, sequence: Sequence) -> None:
    pool.release(sequence.blocks)
    sequence.blocks = []
    sequence.computed = sequence.remembered = 0
    sequence.life += 1
