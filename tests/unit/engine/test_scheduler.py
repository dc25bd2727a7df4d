import random
from functools import partial
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_steps import fit_step, room_beside
from localmodel.engine.scheduler import GREEDY, Scheduler
from localmodel.engine.sequence import Sequence
from localmodel.engine.speculation import Speculation, StepCost


def sequence(key, length=3, max_tokens=4, seed=None, **more):
    """Every key has another prompt."""
    prompt = tuple(hash(key) % 1000 + number for number in range(length))
    return Sequence(key=key, prompt=prompt, max_tokens=max_tokens, sampling=Sampling(temperature=0, seed=seed), **more)


def make(slots, chunk, blocks=100, size=4, **more):
    return Scheduler(slots, chunk, BlockPool(blocks, size), **more)


def step(scheduler, token=5):
    works = scheduler.plan()
    return works, scheduler.commit(works, [token for work in works if work.samples])


def test_decoding_goes_first_and_a_long_prompt_takes_one_chunk_per_step():
    scheduler = make(slots=4, chunk=8)
    scheduler.add(sequence("running"))
    step(scheduler)
    scheduler.add(sequence("long", length=20))
    shapes = []
    for _ in range(4):
        works, _ = step(scheduler)
        shapes.append([(work.sequence.key, work.start, work.count, work.samples) for work in works])
    assert shapes[:3] == [
        [("running", 3, 1, True), ("long", 0, 8, False)],
        [("running", 4, 1, True), ("long", 8, 8, False)],
        [("running", 5, 1, True), ("long", 16, 4, True)],
    ]
    assert shapes[3] == [("long", 20, 1, True)]


def test_a_cancel_between_plan_and_launch_leaves_the_step_its_blocks():
    scheduler = make(slots=2, chunk=8)
    for key in ("a", "b"):
        scheduler.add(sequence(key, length=6))
    works = scheduler.plan()
    planned = [list(work.blocks) for work in works]
    assert all(len(blocks) == 2 for blocks in planned)
    for key in ("a", "b"):
        scheduler.end(key, "cancelled")
    assert [work.blocks for work in works] == planned, "the engine launches them without the lock"
    assert scheduler.commit(works, [5, 5]) == []


def test_prompts_share_a_step_in_order_and_use_its_whole_budget():
    scheduler = make(slots=4, chunk=8)
    for key, length in (("a", 3), ("b", 6), ("c", 2)):
        scheduler.add(sequence(key, length))
    shapes = [[(w.sequence.key, w.start, w.count, w.samples) for w in step(scheduler)[0]] for _ in range(2)]
    assert shapes == [
        [("a", 0, 3, True), ("b", 0, 5, False)],
        [("a", 3, 1, True), ("b", 5, 1, True), ("c", 0, 2, True)],
    ]


def test_more_of_a_prompt_while_nobody_waits_for_a_token():
    scheduler = make(slots=4, chunk=8, burst=16)
    scheduler.add(sequence("long", 40))
    assert [work.count for work in step(scheduler)[0]] == [16]
    scheduler.add(sequence("short", 1))
    assert [work.count for work in step(scheduler)[0]] == [16]
    assert [(w.sequence.key, w.count) for w in step(scheduler)[0]] == [("long", 8), ("short", 1)]
    scheduler.add(sequence("later", 30))
    assert [(w.sequence.key, w.count) for w in step(scheduler)[0]] == [("long", 1), ("short", 1), ("later", 8)]


def test_what_is_computed_beside_others_depends_on_how_many_decode():
    scheduler = make(slots=4, chunk=8, beside=lambda decoding, start: 6 // decoding - (start > 5))
    for key, length in (("a", 2), ("long", 30)):
        scheduler.add(sequence(key, length, max_tokens=9))
    step(scheduler)  # a, and what is left of 8
    shapes = [[(work.sequence.key, work.count) for work in step(scheduler)[0]] for _ in range(2)]
    assert shapes == [[("a", 1), ("long", 5)], [("a", 1), ("long", 5)]]
    scheduler.add(sequence("b", 2))
    scheduler.end("long", "cancelled")
    step(scheduler)
    scheduler.add(sequence("c", 7))
    assert [(work.sequence.key, work.count) for work in step(scheduler)[0]] == [("a", 1), ("b", 1), ("c", 3)]


def test_a_chunk_with_a_seed_is_computed_whole_when_it_comes_first():
    scheduler = make(slots=4, chunk=8, beside=lambda decoding, start: 5)
    scheduler.add(sequence("a", 2, max_tokens=9))
    step(scheduler)
    for key, length, seed in (("seeded", 10, 1), ("other", 9, None)):
        scheduler.add(sequence(key, length, seed=seed))
    shapes = [[(work.sequence.key, work.count) for work in step(scheduler)[0]] for _ in range(2)]
    assert shapes == [[("a", 1), ("seeded", 8)], [("a", 1), ("seeded", 2), ("other", 3)]]


def test_with_a_seed_chunks_begin_at_multiples_whatever_the_company():
    alone = make(slots=2, chunk=8)
    alone.add(sequence("long", 21, seed=1))
    company = make(slots=2, chunk=8)
    company.add(sequence("other", 5))
    company.add(sequence("long", 21, seed=1))

    def cuts(scheduler):
        works = [work for _ in range(6) for work in step(scheduler)[0] if work.sequence.key == "long"]
        return [(work.start, work.count) for work in works if work.start < 21]

    assert cuts(alone) == cuts(company) == [(0, 8), (8, 8), (16, 5)]


def test_the_youngest_gives_way_and_is_computed_anew_with_what_it_had_said():
    scheduler = make(slots=2, chunk=16, blocks=4)
    scheduler.add(sequence("old", 4, max_tokens=9))
    scheduler.add(sequence("young", 4, max_tokens=9))
    for token in range(6):
        step(scheduler, token)
    assert scheduler.running == 1 and scheduler.preemptions_total == 1
    young = next(iter(scheduler._waiting.values()))
    assert (young.key, young.answer, young.computed, young.blocks) == ("young", [0, 1, 2, 3, 4], 0, [])
    works = []
    while not works or works[-1].sequence is not young:
        works, _ = step(scheduler, 7)
    assert [(w.start, w.count, w.samples) for w in works] == [(4, 5, True)], "its first block was still there"
    assert young.tokens(2, 4) == [*young.prompt[2:], 0, 1]


def test_one_token_of_an_answer_computed_anew_comes_before_the_prompts():
    """A card decodes what is first and counts it: else it would compute this one twice and the prompt never."""
    scheduler = make(slots=2, chunk=8, size=2)
    scheduler.add(sequence("old", 7, max_tokens=9, seed=1))
    scheduler.add(sequence("young", 4, max_tokens=9))
    for _ in range(7):
        step(scheduler)
    for key in ("young", "old"):
        scheduler._preempt(scheduler._running[key])
    shapes = [(work.sequence.key, work.start, work.count, work.decodes) for work in scheduler.plan()]
    assert shapes == [("young", 8, 1, True), ("old", 0, 7, False)]


def test_with_a_seed_an_answer_is_computed_anew_token_by_token():
    scheduler = make(slots=2, chunk=16, blocks=4)
    scheduler.add(sequence("old", 4, max_tokens=9))
    scheduler.add(sequence("young", 4, max_tokens=9, seed=1))
    shapes = []
    for token in range(25):
        works, _ = step(scheduler, token)
        shapes += [(w.start, w.count, w.samples) for w in works if w.sequence.key == "young"]
    once = [(0, 4, True), *((at, 1, True) for at in range(4, 12))]
    assert shapes[:5] == once[:5]
    assert shapes[5:] == [(0, 4, False), *((at, 1, False) for at in range(4, 8)), *once[5:]]


def test_a_prefix_is_computed_once():
    scheduler = make(slots=2, chunk=32)
    text = tuple(range(100, 114))
    for key, tail in (("first", (1, 2)), ("second", (3, 4)), ("third", ())):
        scheduler.add(Sequence(key, text + tail, max_tokens=1))
        works, _ = step(scheduler)
        assert [(w.start, w.count) for w in works] == [{"first": (0, 16), "second": (12, 4), "third": (12, 2)}[key]]
    assert scheduler.prefix_tokens_total == 24
    scheduler.add(sequence("seeded", 16, seed=1, max_tokens=1))
    step(scheduler)
    scheduler.add(sequence("seeded", 16, seed=1, max_tokens=1))
    assert [(w.start, w.count) for w in step(scheduler)[0]] == [(0, 16)]


def test_what_many_share_counts_once_as_used():
    scheduler = make(slots=4, chunk=64, blocks=12)
    for key in "abcd":
        scheduler.add(Sequence(key, tuple(range(17)), max_tokens=9))
        step(scheduler)
    assert scheduler.running == 4
    assert scheduler.tokens_cached == (4 + 4) * 4, "four blocks of all, and the last of each: no more than there are"


def test_the_next_step_is_planned_while_one_runs():
    scheduler = make(slots=2, chunk=8)
    scheduler.add(sequence("a", 3, max_tokens=3))
    first = scheduler.plan()
    second = scheduler.plan()
    assert [(w.start, w.count, w.samples) for w in first + second] == [(0, 3, True), (3, 1, True)]
    assert [o.token for o in scheduler.commit(first, [7])] == [7]
    third = scheduler.plan()
    assert [o.token for o in scheduler.commit(second, [8])] == [8]
    assert scheduler.plan() == []
    assert [(o.token, o.finish) for o in scheduler.commit(third, [9])] == [(9, "length")]


def test_a_stop_token_makes_the_step_planned_meanwhile_void():
    scheduler = make(slots=1, chunk=8)
    scheduler.add(sequence("a", 3, stop_tokens={7}))
    scheduler.add(sequence("b", 3))
    first, second = scheduler.plan(), scheduler.plan()
    assert [o.finish for o in scheduler.commit(first, [7])] == ["stop"]
    third = scheduler.plan()
    assert scheduler.commit(second, [5]) == []
    assert [w.sequence.key for w in third] == ["b"]
    assert [o.key for o in scheduler.commit(third, [5])] == ["b"]


def test_a_cancelled_sequence_frees_its_slot_while_its_step_runs():
    scheduler = make(slots=1, chunk=8)
    scheduler.add(sequence("old"))
    scheduler.add(sequence("next"))
    works = scheduler.plan()
    assert scheduler.end("old", "cancelled").finish == "cancelled"
    assert scheduler.end("old", "cancelled") is None
    assert scheduler.commit(works, [5]) == []
    assert [work.sequence.key for work in scheduler.plan()] == ["next"]


def test_ends():
    scheduler = make(slots=4, chunk=64)
    scheduler.add(sequence("stop", stop_tokens={5}))
    scheduler.add(sequence("length", max_tokens=1))
    scheduler.add(sequence("late", deadline=10.0))
    _, outputs = step(scheduler)
    assert [(o.key, o.token, o.finish) for o in outputs] == [("stop", 5, "stop"), ("length", 5, "length"), ("late", 5, None)]
    assert scheduler.expire(9.9) == []
    assert [(o.key, o.finish) for o in scheduler.expire(10.0)] == [("late", "deadline")]
    assert scheduler.plan() == []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 30), st.integers(1, 10), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("step")),
    ),
    max_size=60,
)


LATE, AT_ONCE, BOTH = "late", "at once", "both"
MODES = st.sampled_from([LATE, AT_ONCE, BOTH])


class History:
    """A scheduler, and a device that remembers what was written where: it notices a block read by the wrong sequence.

    LATE: steps are committed one step late. AT_ONCE: they verify guesses. BOTH: late but where guesses pay. The token after a
    text is a function of the text.
    """

    def __init__(self, slots, chunk, blocks, size, mode):
        self.speculation = None if mode == LATE else Speculation(most_rows=slots + 8 if mode == BOTH else None)
        self.scheduler = make(slots, chunk, blocks, size, burst=2 * chunk, speculation=self.speculation)
        self.slots, self.chunk, self.mode = slots, chunk, mode
        self.cells = {}
        self.running = None
        self.asked, self.tokens, self.ended = {}, {}, {}
        self.deadline = None

    def add(self, length, max_tokens, family, seeded):
        """Four families of prompts share their beginnings."""
        key = len(self.asked)
        self.asked[key] = (tuple((family, number) for number in range(length)), max_tokens)
        prompt = tuple(family * 100 + number for number in range(length))
        sampling = Sampling(temperature=0, seed=1 if seeded else None)
        self.scheduler.add(Sequence(key, prompt, max_tokens, sampling=sampling, deadline=self.deadline))

    def note(self, outputs):
        for output in outputs:
            assert output.key not in self.ended
            if output.token is not None:
                self.tokens.setdefault(output.key, []).append(output.token)
            if output.finish:
                self.ended[output.key] = output.finish

    def cancel(self, key):
        self.note([output] if (output := self.scheduler.end(key, "cancelled")) else [])

    def step(self, cancel=None):
        works = self.scheduler.plan()
        self.check(works)
        before, self.running = self.running, (works, self.compute(works))
        if cancel is not None:
            self.cancel(cancel)
        if before:
            self.commit(before)
        waits = self.mode == BOTH and (any(work.draft for work in works) or self.scheduler.would_draft())
        if self.mode == AT_ONCE or waits:
            now, self.running = self.running, None
            self.commit(now)

    def commit(self, step):
        self.note(self.scheduler.commit(*step, 1 + 0.01 * sum(work.count for work in step[0])))

    def check(self, works):
        pool = self.scheduler.pool
        prompts = sum(work.count for work in works if not work.decodes)
        waited_for = any(work.decodes and (work.samples or work.sequence.sampling.seed) for work in works)
        assert prompts <= (self.chunk if waited_for else 2 * self.chunk)
        assert len(works) == len({work.slot for work in works}) <= self.slots
        rows = sum(work.choices for work in works)
        assert self.mode != BOTH or rows <= self.slots + 8, "more choose a token than there is room for"
        assert [work.decodes for work in works] == sorted((work.decodes for work in works), reverse=True)
        running = list(self.scheduler._running.values())
        held = [block for sequence in running for block in sequence.blocks]
        assert len(set(held)) == pool.held and all(pool.holders(block) == held.count(block) for block in set(held))
        assert [s.key for s in running] == sorted(s.key for s in running), "nobody overtakes"
        for sequence in running:
            assert sequence.computed <= len(sequence.blocks) * pool.size

    def compute(self, works):
        """Writes every token's place, then reads the whole past of those that sample."""
        size = self.scheduler.pool.size
        names, texts = {}, {}
        for work in works:
            sequence = work.sequence
            known = work.start + work.count - len(work.draft)
            texts[sequence.key] = [*[*sequence.prompt, *self.foresee(sequence)][:known], *work.draft]
            names[sequence.key] = list(accumulate(texts[sequence.key], lambda a, b: hash((a, b))))
            for at in range(work.start, work.start + work.count):
                self.cells[sequence.blocks[at // size] * size + at % size] = names[sequence.key][at]
        for work in works:
            end = work.start + work.count
            read = [self.cells.get(block * size + at) for block in work.sequence.blocks for at in range(size)][:end]
            assert read == names[work.sequence.key][:end], "a wrong key was read"
        ends = [(work, work.start + work.count - ahead) for work in works for ahead in reversed(range(work.choices))]
        return [choose(texts[work.sequence.key][:end]) for work, end in ends]

    def foresee(self, sequence, known=None):
        """Its answer with the token that the device has chosen, or chooses after `known` tokens, and the host not seen yet."""
        answer = list(sequence.answer)
        while len(sequence.prompt) + len(answer) <= (known or sequence.length - sequence.pending):
            answer.append(choose((*sequence.prompt, *answer)))
        return answer


def choose(text):
    """Texts come to repeat themselves, but not for ever."""
    return 1000 + (len(text) % 3 if len(text) % 19 else sum(text) % 97)


@pytest.mark.parametrize("mode", [AT_ONCE, BOTH])
def test_verified_guesses_take_fewer_steps_and_give_the_same_tokens(mode):
    steps = []
    for each in (LATE, mode):
        history = History(2, 8, 40, 4, each)
        for family in (0, 1):
            history.add(10, 60, family, False)
        while history.scheduler.running or history.scheduler.waiting:
            history.step()
            steps.append(each)
        history.step()
        assert all(len(tokens) == 60 for tokens in history.tokens.values())
    assert steps.count(mode) < 0.6 * steps.count(LATE)
    assert history.speculation.accepted_tokens_total > 50
    assert history.speculation.drafted_tokens_total > history.speculation.accepted_tokens_total, "none was wrong"


def test_guesses_leave_room_for_the_first_tokens_of_prompts():
    history = History(3, 8, 40, 4, BOTH)
    history.add(10, 60, 0, False)
    for number in range(40):
        if number > 10:
            history.add(2, 1, 1 + number % 3, False)
        history.step()
    assert history.speculation.accepted_tokens_total > 20


@pytest.mark.parametrize("slots", [8, 32, 128])
def test_steps_with_guesses_and_prompts_have_graphs(slots):
    """Else such a step is launched kernel by kernel, and others wait for it."""
    context, seen = 4096, 0
    scheduler = Scheduler(
        slots, 1024, BlockPool(2000, 64), burst=2048, beside=partial(room_beside, slots=slots),
        speculation=Speculation(StepCost(0.1, 0.001), most_rows=slots),
    )  # fmt: skip
    for number in range(4):
        scheduler.add(Sequence(number, (number, *(1, 2, 3) * 9), 400, sampling=GREEDY))
    for number in range(60):
        if number % 15 == 14:
            scheduler.add(Sequence(100 + number, (5000 + number,) * 1000, 1, sampling=GREEDY))
        works = scheduler.plan()
        decoding, prompts = ([work for work in works if work.decodes is kind] for kind in (True, False))
        if decoding and prompts:
            rows = sum(work.count for work in decoding)
            longest = max(work.start + work.count for work in prompts)
            assert fit_step(rows, [work.count for work in prompts], longest, slots=slots, context=context)
            seen += any(work.draft for work in decoding)
        tokens = [1 + (work.start + ahead) % 3 for work in works for ahead in range(work.choices)]
        scheduler.commit(works, tokens, 0.005)
    assert seen > 3


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.integers(1, 4), st.sampled_from([1, 4, 8]), st.integers(10, 24), st.sampled_from([4, 8]), MODES)
def test_any_history_ends_every_sequence_once_right_and_leaks_nothing(actions, slots, chunk, blocks, size, mode):
    history = History(slots, chunk, blocks, size, mode)
    for action, *details in actions:
        if action == "add":
            history.add(*details)
        elif action == "cancel" and not details[1]:
            history.cancel(details[0])
        else:
            history.step(cancel=details[0] if action == "cancel" else None)
    steps = 0
    while history.scheduler.running or history.scheduler.waiting:
        history.step()
        steps += 1
        assert steps < 100 * (1 + sum(len(prompt) + tokens for prompt, tokens in history.asked.values())), "starved"
    history.step()
    assert set(history.ended) == set(history.asked)
    for key, reason in history.ended.items():
        prompt, max_tokens = history.asked[key]
        text = tuple(family * 100 + number for family, number in prompt)
        for token in history.tokens.get(key, []):
            assert token == choose(text)
            text += (token,)
        if reason == "length":
            assert len(history.tokens[key]) == max_tokens
    assert history.scheduler.tokens_cached == history.scheduler.pool.held == 0
    assert history.scheduler.pool.free == blocks
    assert sorted(history.scheduler._free_slots) == list(range(slots))


@pytest.mark.parametrize("seed", range(9))
def test_long_histories_with_few_blocks(seed):
    """Many give way more than once, which no short history comes to."""
    source = random.Random(seed)
    slots, size = source.randint(1, 6), source.choice([1, 2, 4, 8])
    mode = (LATE, AT_ONCE, BOTH)[seed % 3]
    blocks = -(-41 // size) + source.randint(0, 3)
    history = History(slots, source.choice([1, 3, 8, 16]), blocks, size, mode)
    for _ in range(1200):
        action, keys = source.random(), range(max(0, len(history.asked) - 12), len(history.asked))
        if action < 0.18 and history.scheduler.waiting < 8:
            history.add(source.randint(1, 30), source.randint(1, 10), source.randint(0, 3), source.random() < 0.3)
        elif action < 0.23 and keys:
            history.cancel(source.choice(keys))
        else:
            history.step(cancel=source.choice(keys) if keys and source.random() < 0.05 else None)
    while history.scheduler.running or history.scheduler.waiting:
        history.step()
    history.step()
    assert set(history.ended) == set(history.asked)
    assert history.scheduler.pool.held == 0 and sorted(history.scheduler._free_slots) == list(range(slots))


@settings(max_examples=100, deadline=None)
@given(ACTIONS, st.integers(10, 16))
def test_a_deadline_ends_what_runs_and_what_waits(actions, blocks):
    history = History(2, 4, blocks, 4, LATE)
    for action, *details in actions:
        if action == "add":
            history.deadline = (5.0, 7.0, None)[len(history.asked) % 3]
            history.add(*details)
        else:
            history.step()
    assert history.scheduler.expire(4.9) == []
    for now, rest in ((5.0, 0), (6.9, None), (7.0, 1)):
        open_keys = {key for key in history.asked if key % 3 == rest} - set(history.ended)
        outputs = history.scheduler.expire(now)
        assert {output.key for output in outputs} == open_keys and all(output.finish == "deadline" for output in outputs)
    for key in set(history.asked) - set(history.ended):
        history.scheduler.end(key, "cancelled")
    assert history.scheduler.plan() == [] and history.scheduler.pool.free == blocks
