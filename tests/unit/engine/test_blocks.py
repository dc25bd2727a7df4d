from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.engine.blocks import BlockPool, digest_block
from localmodel.engine.free_blocks import BlockRuns


def test_a_digest_names_the_tokens_and_all_before_them():
    first, other = digest_block(b"", [1, 2]), digest_block(b"", [2, 1])
    assert len({first, other, digest_block(first, [1, 2]), digest_block(other, [1, 2])}) == 4
    assert digest_block(first, (1, 2)) == digest_block(first, [1, 2])


def test_a_released_prefix_is_found_until_its_block_is_needed_and_the_least_used_goes_first():
    pool = BlockPool(3, 4)
    a, b = pool.allocate(), pool.allocate()
    pool.remember(a, b"a")
    pool.remember(b, b"b")
    pool.release([a, b])
    assert pool.free == 3 and pool.held == 0
    assert (pool.find(b"a"), pool.find(b"b"), pool.find(b"c")) == (a, b, None)
    assert pool.allocate() not in {a, b}
    assert pool.allocate() == b, "the end of a prefix goes before its beginning"
    assert (pool.find(b"a"), pool.find(b"b")) == (a, None)
    pool.hold(a)
    assert pool.free == 0 and pool.holders(a) == 1


def test_two_with_the_same_contents_keep_one():
    pool = BlockPool(2, 4)
    a, b = pool.allocate(), pool.allocate()
    pool.remember(a, b"x")
    pool.remember(b, b"x")
    pool.release([b])
    pool.release([a])
    assert pool.find(b"x") == a
    assert pool.allocate() == b and pool.find(b"x") == a
    assert pool.allocate() == a and pool.find(b"x") is None


def test_neighbours_are_given_where_a_copy_would_cost():
    pool = BlockPool(8, 4, contiguous=True)
    first = [pool.allocate()]
    for _ in range(2):
        first.append(pool.allocate(first[-1]))
    assert first == [0, 1, 2]
    second = [pool.allocate()]
    assert second == [5], "between two sequences there is room for the first to grow"
    second.append(pool.allocate(second[-1]))
    assert pool.allocate(first[-1]) == 3
    pool.release([*first, 3])
    third = pool.allocate()
    assert third == 0
    assert pool.allocate(third) == 1


def test_sequences_that_grow_side_by_side_stay_in_one_piece():
    """Each to its sixteenth block, in turns, as decoding does it."""
    pool = BlockPool(8 * 16, 16, contiguous=True)
    sequences = [[pool.allocate()] for _ in range(8)]
    for _ in range(15):
        for blocks in sequences:
            blocks.append(pool.allocate(blocks[-1]))
    assert all(blocks == list(range(blocks[0], blocks[0] + 16)) for blocks in sequences)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["allocate", "release", "remember", "share"]), st.integers(0, 9))), st.booleans())
def test_any_history_counts_every_block_once(actions, contiguous):
    pool = BlockPool(6, 4, contiguous=contiguous)
    holders: list[list[int]] = []
    contents: dict[bytes, int] = {}
    for action, number in actions:
        if action == "allocate" and pool.free:
            before = {block for blocks in holders for block in blocks}
            block = pool.allocate(holders[-1][-1] if holders else None)
            assert block not in before
            contents = {digest: kept for digest, kept in contents.items() if kept != block}
            holders.append([block])
        elif action == "release" and holders:
            pool.release(holders.pop(number % len(holders)))
        elif action == "remember" and holders:
            digest, block = bytes([number]), holders[-1][0]
            if digest not in contents and block not in contents.values():
                contents[digest] = block
            pool.remember(block, digest)
        elif action == "share" and (block := pool.find(bytes([number]))) is not None:
            pool.hold(block)
            holders.append([block])
        held = {block for blocks in holders for block in blocks}
        assert pool.held == len(held) and pool.free == 6 - len(held)
        assert {digest: pool.find(digest) for digest in contents} == contents


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 24), st.lists(st.integers(0, 23), max_size=60))
def test_runs_are_those_of_the_set(count, changes):
    runs, blocks = BlockRuns(count), set(range(count))
    for block in changes:
        (runs.remove if block in blocks else runs.add)(block)
        blocks ^= {block}
        if blocks:
            lengths = {
                start: next(n for n in range(1, 26) if start + n not in blocks) for start in blocks if start - 1 not in blocks
            }
            start = min(lengths, key=lambda start: (-lengths[start], start))
            assert runs.middle_of_longest() == (start + lengths[start] // 2 if start else 0)
