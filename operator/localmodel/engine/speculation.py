"""Which guessed tokens are worth a row of the next step. Pure: no torch, no clock; times are told.

Why it exists: a guess that is verified costs a row of every matrix product and brings as many tokens as were right. So a
step takes guesses while they raise the tokens per second that may be expected of it: with many sequences, or a machine on
which rows cost much, that is none. What is answered does not depend on guesses, but for how products of another count of
rows are rounded (0021).

A guess needs to know the last token, so its step is planned when the one before was taken in. Where a device is given its next
step meanwhile, that is asked first (`pays`).
"""

from collections.abc import Callable
from collections.abc import Sequence as Items
from math import inf

from localmodel.engine.drafting import Drafter
from localmodel.engine.sequence import Sequence

MOST_ROWS = 16
"""Guessed tokens of one step, of all sequences together: memory is planned for so many."""
MOST_SEEDED = 11
"""Guesses of a sequence with a seed: with its last token they are a product of 12 rows, of which `runner` knows that each is
rounded as if it had come alone."""
LEAST_GAIN = 1.15
"""Guesses that promise less are not worth the doubt: on a busy machine times are not known better."""
MOST_DELAY = 1.5
"""How much longer a step may take for guesses of some while others in it gain nothing."""
LIKELY = 0.5
SECOND_ROW_SHARE = 0.8
"""Of the time of a step of one row, what the second costs where nothing was measured: one row is a matrix times a vector,
more are a matrix times a matrix."""
ROW_SHARE = 0.1
"""The same for each row after the second."""
CARD_SHARES = {16: (0.2, 0.01), 8: (0.3, 0.01), 4: (0.8, 0.02)}
"""Both for a card, by bits of a weight (tests/bench/decode_cuda.py)."""
KEPT_SHARE = 0.99
"""Of what was measured, after each further step: some hundred steps after the last guess its price is forgotten, and tried
again."""
PROBE_EVERY = 32
"""Steps with guesses, of which the first goes without: what that costs is known only from steps that do."""
LEVEL_DOUBT, SLOPE_DOUBT = 0.2, 4.0
"""Weight of the shares above against what was measured: in steps, and in rows squared."""


class StepCost:
    """Learns how long steps take that only decode: those of one row, and a line through all others."""

    def __init__(self, second: float = SECOND_ROW_SHARE, further: float = ROW_SHARE, *, forgets: bool = False) -> None:
        """What is thought of the second row and of each further one where nothing was measured, of a step of one row.

        `forgets` a step that took more than four times what is known: on a card it captured a graph. On a processor somebody else
        has it, who may stay, so it counts as four times.
        """
        self._second, self._further, self._forgets = second, further, forgets
        self._one = 0.0
        self._weight = self._rows = self._seconds = self._squares = self._products = 0.0

    def note(self, rows: int, seconds: float) -> None:
        known = self.seconds(rows)
        if known and seconds > 4 * known:
            if self._forgets:
                return
            seconds = 4 * known
        if rows == 1:
            self._one = 0.9 * self._one + 0.1 * seconds if self._one else seconds
        weight = float(rows > 1)
        self._weight = self._weight * KEPT_SHARE + weight
        self._rows = self._rows * KEPT_SHARE + weight * rows
        self._seconds = self._seconds * KEPT_SHARE + weight * seconds
        self._squares = self._squares * KEPT_SHARE + weight * rows * rows
        self._products = self._products * KEPT_SHARE + weight * rows * seconds

    def seconds(self, rows: int) -> float:
        """Predicted; 0 if nothing was measured."""
        if rows == 1 and self._one:
            return self._one
        doubt = LEVEL_DOUBT if self._one else 0.0
        second = self._one * (1 + self._second)
        weight = self._weight + doubt
        if not weight:
            return 0.0
        mean_rows = (self._rows + doubt * 2) / weight
        mean_seconds = (self._seconds + doubt * second) / weight
        squares = self._squares + doubt * 4 - weight * mean_rows**2
        products = self._products + doubt * 2 * second - weight * mean_rows * mean_seconds
        usual = self._further * mean_seconds / (1 + self._second + self._further * (mean_rows - 2))
        slope = max(0.0, (products + SLOPE_DOUBT * usual) / (squares + SLOPE_DOUBT))
        return max(mean_seconds + slope * (rows - mean_rows), mean_seconds * rows / mean_rows if rows < mean_rows else 0.0)


def choose_lengths(chances: Items[Items[float]], rows: int, seconds: Callable[[int], float], most: int = MOST_ROWS) -> list[int]:
    """How many tokens of each guess to verify, at most `most` in all, for the most tokens per second.

    `chances[i][n]`: how likely the first n + 1 tokens of guess i are right, never rising. `rows`: those of the step without
    guesses, each of which brings a token. `seconds`: of a step of so many rows.
    """
    lengths = [0] * len(chances)
    alone = seconds(rows)
    if not alone:
        return lengths
    likeliest = sorted(((chance, number) for number, each in enumerate(chances) for chance in each), key=lambda pair: -pair[0])
    everyone_gains = sum(each[0] >= LIKELY for each in chances if each) == rows
    longest = inf if everyone_gains else MOST_DELAY * alone
    best, taken, tokens = LEAST_GAIN * rows / alone, 0, float(rows)
    for count, (chance, _) in enumerate(likeliest[: max(0, most)], 1):
        if seconds(rows + count) > longest:
            break
        tokens += chance
        if tokens / seconds(rows + count) > best:
            best, taken = tokens / seconds(rows + count), count
    for _, number in likeliest[:taken]:
        lengths[number] += 1
    return lengths


class Speculation:
    """Of one engine; the guesses of a sequence are the sequence's own."""

    def __init__(self, cost: StepCost | None = None, most_rows: int | None = None) -> None:
        """`most_rows` of a step after which a token is chosen, guesses included; None: no limit but that of guesses."""
        self.cost = cost or StepCost()
        self._most_rows = most_rows
        self._wanted = 0
        """Steps for which guesses would have paid."""
        self.drafted_tokens_total = 0
        """Guessed tokens that were verified."""
        self.accepted_tokens_total = 0
        """Those of them that were right."""

    def draft(self, sequences: Items[Sequence], rows: int, others: int = 0) -> list[list[int]]:
        """The tokens to verify after the last of each of `sequences`, all of whose tokens are known; [] for none.

        `rows` that decode in the step without them; `others`: sequences whose first token it may choose.
        """
        guesses, lengths = self._choose(sequences, rows, others)
        self._wanted += any(lengths)
        if self._wanted % PROBE_EVERY == 1:
            return [[] for _ in sequences]
        return [guess[:length] for guess, length in zip(guesses, lengths, strict=True)]

    def pays(self, sequences: Items[Sequence], others: int = 0) -> bool:
        """Whether guesses would in a step that decodes `sequences`, as far as their tokens are known."""
        return any(self._choose(sequences, len(sequences), others)[1])

    def _choose(self, sequences: Items[Sequence], rows: int, others: int) -> tuple[list[list[int]], list[int]]:
        """(guesses, how much of each to verify)"""
        most = MOST_ROWS if self._most_rows is None else min(MOST_ROWS, self._most_rows - rows - others)
        if most < 1 or (self._most_rows and rows > MOST_ROWS):  # who has that many answers is not asked to search them all
            return [[] for _ in sequences], [0] * len(sequences)
        guesses = [self._guess(sequence) for sequence in sequences]
        chances = [
            sequence.drafter.chances(len(guess)) if sequence.drafter else []
            for sequence, guess in zip(sequences, guesses, strict=True)
        ]
        return guesses, choose_lengths(chances, rows, self.cost.seconds, most)

    def note(self, drafted: int, accepted: int) -> None:
        self.drafted_tokens_total += drafted
        self.accepted_tokens_total += accepted

    @staticmethod
    def _guess(sequence: Sequence) -> list[int]:
        """Not beyond the end of the answer."""
        if sequence.drafter is None:
            sequence.drafter = Drafter(sequence.prompt)
        sequence.drafter.follow(sequence.answer)
        most = min(
            MOST_SEEDED if sequence.sampling.seed is not None else MOST_ROWS, sequence.max_tokens - len(sequence.answer) - 1
        )
        guess = sequence.drafter.guess()[: max(0, most)]
        ends = (number for number, token in enumerate(guess) if token in sequence.stop_tokens)
        return guess[: next(ends, len(guess))]


def for_card(bits: int, slots: int) -> Speculation:
    """`bits` of a weight."""
    return Speculation(StepCost(*CARD_SHARES[bits], forgets=True), most_rows=slots)
