"""The plan of a long document fits the window in every call, comes to an end, and costs no more than it says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.gateway.reading_plan import LABEL, Sizes, fit_sizes, group, longest_answer, most_tokens

FRAMES = st.integers(0, 600)
WINDOWS = st.integers(256, 40_000)


@given(WINDOWS, FRAMES, FRAMES, st.none() | st.integers(1, 5000))
def test_every_call_fits(window: int, part_frame: int, join_frame: int, asked: int | None) -> None:
    sizes = fit_sizes(window, part_frame, join_frame, asked)
    if sizes is None:
        return
    assert sizes.part >= 1 and 0 <= sizes.overlap * 4 <= sizes.segment
    assert part_frame + sizes.segment + sizes.part <= window
    assert join_frame + 2 * (sizes.part + LABEL) + sizes.answer <= window, "two answers can always be joined"
    assert asked is None or (sizes.answer == asked and sizes.part <= asked)


def test_what_leaves_no_room_is_refused() -> None:
    assert fit_sizes(512, 480, 480, None) is None
    assert fit_sizes(512, 30, 30, 500) is None
    roomy = fit_sizes(512, 30, 30, 16)
    assert roomy is not None and roomy.part == 16 and roomy.segment > 400
    open_end = fit_sizes(4096, 50, 60, None)
    assert open_end is not None and open_end.answer == 1024 and open_end.part == 512


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=300), st.integers(2 * (100 + LABEL), 2000))
def test_groups_hold_all_in_order_and_halve(lengths: list[int], room: int) -> None:
    groups = group(lengths, room)
    covered = [index for each in groups for index in range(each.start, each.stop)]
    assert covered == list(range(len(lengths)))
    assert all(sum(length + LABEL for length in lengths[each]) <= room for each in groups)
    assert len(groups) <= (len(lengths) + 1) // 2 or len(lengths) <= 1


def test_even_answers_that_do_not_fit_come_to_an_end() -> None:
    assert group([10_000] * 4, 100) == [slice(0, 2), slice(2, 4)]
    assert group([10_000], 100) == [slice(0, 1)] and group([], 100) == []


@given(st.integers(1, 256), st.integers(1, 8), st.integers(300, 4096))
def test_the_most_is_more_than_any_reading_costs(segments: int, choices: int, window: int) -> None:
    sizes = fit_sizes(window, 40, 50, None)
    assert sizes is not None
    cost = segments * (sizes.part_frame + sizes.segment + sizes.part)
    lengths = [longest_answer(sizes) if longest_answer(sizes) < sizes.part else sizes.part] * segments
    while len(groups := group(lengths, sizes.join)) > 1:
        joined = [each for each in groups if each.stop - each.start > 1]
        cost += sum(sizes.join_frame + sum(length + LABEL for length in lengths[each]) + sizes.part for each in joined)
        lengths = [sizes.part] * len(groups)
    cost += sizes.join_frame + sum(length + LABEL for length in lengths) + choices * sizes.answer
    assert cost <= most_tokens(sizes, segments, choices)


def test_one_segment_is_one_part_and_one_answer() -> None:
    sizes = Sizes(100, 10, 20, 200, 5, 6, 50)
    assert most_tokens(sizes, 1, 1) == (5 + 100 + 20) + (6 + 20 + LABEL + 50)
