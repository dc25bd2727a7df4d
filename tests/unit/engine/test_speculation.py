"""What is guessed, when a guess is worth its row, and that an answer is the same with and without guesses."""

from array import array
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.api.channel import Sampling
from localmodel.engine.drafting import MATCHED, MOST_DRAFTED, Drafter, find_continuation
from localmodel.engine.sequence import Sequence
from localmodel.engine.speculation import LEAST_GAIN, MOST_DELAY, MOST_ROWS, Speculation, StepCost, choose_lengths

TOKENS = st.lists(st.sampled_from([0, 1, 256, 65536, 2**31 - 1]), max_size=40)


def find_slowly(tokens, matched, most):
    """The definition, token by token."""
    for end in range(len(tokens) - 1, matched - 1, -1):
        if tokens[end - matched : end] == tokens[-matched:]:
            text = list(tokens)
            for at in range(end, end + most):
                text.append(text[at])
            return text[len(tokens) :]
    return []


@settings(max_examples=300, deadline=None)
@given(TOKENS, st.integers(1, 4), st.integers(1, 20))
def test_a_guess_is_what_followed_the_last_time(tokens, matched, most):
    found = find_continuation(array("i", tokens).tobytes(), matched, most)
    assert found == (find_slowly(tokens, matched, most) if len(tokens) >= matched else [])


def test_tokens_whose_bytes_look_alike_are_not_confused():
    one, shifted = 0x01020304, 0x02030401
    text = [7, shifted, shifted, shifted, shifted, 8, one, one, one]
    assert find_continuation(array("i", text).tobytes(), 3, 4) == []


def test_guesses_follow_the_answer_and_learn_when_they_are_right():
    drafter = Drafter([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    assert drafter.guess()[:5] == [4, 5, 6, 7, 8]
    unsure = drafter.chances(4)
    answer = [4]
    for token in (5, 6, 7, 8):
        drafter.follow(answer)
        assert drafter.guess()[0] == token
        answer.append(token)
    sure = drafter.chances(4)
    assert all(after > before for before, after in zip(unsure, sure, strict=True))
    assert sure == sorted(sure, reverse=True)
    for token in range(50, 60):
        drafter.follow(answer)
        drafter.guess()
        answer = [*answer, token, 1, 2, 3]
    drafter.follow(answer)
    assert drafter.guess() and drafter.chances(1)[0] < 0.15


@given(st.lists(st.tuples(st.lists(st.floats(0, 1), max_size=5), st.just(None)), max_size=4), st.floats(0, 2), st.floats(0.01, 5))
def test_no_other_choice_of_lengths_promises_more(guesses, per_row, fixed):
    chances = [sorted(each, reverse=True) for each, _ in guesses]
    rows = len(chances) + 1

    def rate(lengths):
        gained = sum(sum(each[:length]) for each, length in zip(chances, lengths, strict=True))
        return (rows + gained) / (fixed + per_row * (rows + sum(lengths)))

    chosen = choose_lengths(chances, rows, lambda count: fixed + per_row * count)
    choices = product(*[range(len(each) + 1) for each in chances])
    longest = MOST_DELAY * (fixed + per_row * rows)  # one row has no guess
    allowed = [each for each in choices if sum(each) <= MOST_ROWS and fixed + per_row * (rows + sum(each)) <= longest]
    best = max(rate(lengths) for lengths in allowed)
    alone = rate([0] * len(chances))
    assert all(length <= len(each) for length, each in zip(chosen, chances, strict=True))
    if best > LEAST_GAIN * alone * (1 + 1e-9):
        assert rate(chosen) == pytest.approx(best)
    elif best < LEAST_GAIN * alone * (1 - 1e-9):
        assert not any(chosen)


def test_on_when_rows_are_cheap_and_off_when_they_are_not():
    sure = [[0.9**n for n in range(1, 17)]]
    assert choose_lengths(sure, 1, lambda rows: 40 + 3 * rows)[0] > 5
    assert choose_lengths(sure, 1, lambda rows: 1 * rows) == [0]
    assert choose_lengths(sure, 64, lambda rows: 40 + 3 * rows)[0] < choose_lengths(sure, 2, lambda rows: 40 + 3 * rows)[0]
    assert choose_lengths([[0.1], [0.1]], 2, lambda rows: 40 + 10 * rows) == [0, 0]
    assert choose_lengths(sure, 1, lambda rows: 0.0) == [0], "nothing was measured"


def test_who_gains_nothing_waits_no_more_than_half_a_step():
    sure, unsure = [0.99**n for n in range(1, 17)], [0.1**n for n in range(1, 17)]

    def seconds(rows):
        return 40 + 5 * rows

    for chances, rows in (([sure, unsure, unsure], 3), ([sure], 3)):
        lengths = choose_lengths(chances, rows, seconds)
        assert lengths[0] > 0 and seconds(rows + sum(lengths)) <= MOST_DELAY * seconds(rows)
    for chances in ([sure], [sure] * 3):
        assert seconds(len(chances) + sum(choose_lengths(chances, len(chances), seconds))) > MOST_DELAY * seconds(len(chances))


def test_prices_are_learned_and_forgotten():
    cost = StepCost()
    assert cost.seconds(1) == 0
    cost.note(1, 1.0)
    untried = cost.seconds(9)
    assert 1 < untried < 3
    for rows in (1, 9, 1, 9, 5) * 10:
        cost.note(rows, 1.0 if rows == 1 else 2.0 + 0.5 * rows)
    assert cost.seconds(9) == pytest.approx(6.5, rel=0.05) and cost.seconds(5) == pytest.approx(4.5, rel=0.1)
    for _ in range(1000):
        cost.note(1, 1.0)
    assert cost.seconds(9) == pytest.approx(untried, rel=0.05)


def test_one_stall_does_not_make_guesses_dear():
    cost = StepCost()
    for rows in (1, 9) * 20:
        cost.note(rows, 1 + 0.1 * rows)
    before = cost.seconds(9)
    cost.note(9, 500.0)
    assert cost.seconds(9) < 1.5 * before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.001, 10)), max_size=60))
def test_more_rows_never_cost_less(steps):
    cost = StepCost()
    for rows, seconds in steps:
        cost.note(rows, seconds)
    prices = [cost.seconds(rows) for rows in range(2, 60)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(prices))


def test_a_step_without_guesses_is_measured_now_and_then():
    """Sixteen copies, of which each row costs as much as the first: nothing is gained, and only a step without shows that."""
    speculation, drafted = Speculation(), []
    copies = [sequence([number, 1, 2, 3, 4] * 4) for number in range(16)]
    speculation.cost.note(32, 3.2)
    for number in range(300):
        drafts = speculation.draft(copies, 16)
        drafted.append(sum(map(len, drafts)))
        if number >= 20:  # before, prompts are computed in the same steps, and nothing can be learned
            speculation.cost.note(16 + drafted[-1], 0.1 * (16 + drafted[-1]))
        for copy in copies:
            copy.answer.append(copy.drafter.guess()[0])
            copy.max_tokens += 1
    assert 0 < sum(map(bool, drafted[20:])) < 60


def sequence(prompt, answer=(), **more):
    return Sequence("k", tuple(prompt), more.pop("max_tokens", 50), sampling=Sampling(temperature=0), answer=list(answer), **more)


def test_a_step_that_captured_a_graph_is_no_price_on_a_card():
    """Or guesses would stay off for the first minutes of a start, when each size is captured."""
    for forgets, dear in ((True, False), (False, True)):
        cost = StepCost(0.2, 0.01, forgets=forgets)
        for _ in range(20):
            cost.note(1, 0.005)
        cost.note(17, 0.3)
        cost.note(8, 0.3)
        assert (cost.seconds(8) > 0.01) == dear


def test_a_draft_ends_before_the_end_of_the_answer():
    speculation = Speculation()
    speculation.cost.seconds = lambda rows: 1.0
    loop = [1, 2, 3, 4] * 5
    assert speculation.draft([sequence(loop)], 1) == [[]], "the first step of all goes without"
    assert len(speculation.draft([sequence(loop)], 1)[0]) > 0
    assert speculation.draft([sequence(loop, [1, 2], max_tokens=3)], 1) == [[]]
    assert speculation.draft([sequence(loop, stop_tokens={1})], 1) == [[]]
    assert set(speculation.draft([sequence(loop, stop_tokens={3})], 1)[0]) <= {1, 2}
    assert speculation.draft([sequence([1, 2])], 1) == [[]]
    assert MATCHED < MOST_DRAFTED
