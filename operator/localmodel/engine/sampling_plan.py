"""The host's half of choosing tokens: what the rows of a step ask for, as a few tensors on the device.

Why it exists: it needs no logits, so on a card it runs while the network computes, and the device's half (`sampler`) has
no loop over rows. Rows that ask for nothing cost nothing: a step of greedy rows makes no tensor at all.
"""

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmodel.api.channel import Sampling
from localmodel.engine.constraint import ALL_ALLOWED, ConstraintError, Masks, mask_words
from localmodel.engine.sequence import Sequence

LEAST_TEMPERATURE = 1e-5
"""Below it only ties are left to chance, and logits divided by less leave the range of float32."""


@dataclass(frozen=True)
class Random:
    """Rows that are drawn. Columns are [R, 1] float64 on the device."""

    rows: Tensor | None
    """[R] int64; None: every row of the step."""
    uniform: Tensor
    temperature: Tensor
    top_k: Tensor
    """The vocabulary's size where there is no limit."""
    top_p: Tensor
    log_min_p: Tensor
    """-inf where there is no limit."""
    widest: int
    """The largest top_k; 0 if no row has one."""
    all_limited: bool
    """Every row has a top_k."""

    def of_rows(self, some: Tensor) -> "Random":
        """Of those of its rows alone."""
        columns = ("uniform", "temperature", "top_k", "top_p", "log_min_p")
        return replace(self, rows=None, **{name: getattr(self, name)[some] for name in columns})


@dataclass(frozen=True)
class Adjustment:
    """What is added to and hidden from single logits, at places row * vocabulary + token of the step's flat logits."""

    bias_places: Tensor | None = None
    bias: Tensor | None = None
    penalty_places: Tensor | None = None
    """One for each token of each penalized answer, so a token that came twice is there twice."""
    presence: Tensor | None = None
    frequency: Tensor | None = None
    mask_rows: Tensor | None = None
    masks: Tensor | None = None
    """[rows, words * 4] uint8, the bits of `Constraint.fill_mask`."""


@dataclass(frozen=True)
class SamplingPlan:
    sequences: list[Sequence]
    greedy_rows: Tensor | None
    """[G] int64; None if no row or every row is greedy (then there are no others)."""
    plain: Random | None
    """Drawn from the whole distribution."""
    filtered: Random | None
    """With top_k, top_p or min_p."""
    adjustment: Adjustment | None
    logprob_rows: list[int]
    """Rows whose log-probabilities were asked for."""
    most_logprobs: int


def make_plan(
    sequences: list[Sequence], vocabulary: int, device: torch.device, assumed: Rows[Rows[int]] | None = None
) -> SamplingPlan:
    """One row for each of `sequences`. Draws one number for each row that is not greedy; asks each constraint for its masks.

    `assumed[i]`: tokens of a draft that row i comes after, besides the answer. A sequence with a draft has several rows in
    a row, each with one token more.
    """
    assumed = assumed or [()] * len(sequences)
    greedy, plain, filtered, adjusted, logprob_rows = [], [], [], [], []
    for row, sequence in enumerate(sequences):
        sampling = sequence.sampling
        if sampling.temperature == 0:
            greedy.append(row)
        elif sampling.top_k or sampling.top_p < 1 or sampling.min_p:
            filtered.append(row)
        else:
            plain.append(row)
        if sequence.constraint or sampling.logit_bias or _penalizes(sampling):
            adjusted.append(row)
        if sampling.logprobs is not None:
            logprob_rows.append(row)
    return SamplingPlan(
        sequences=sequences,
        greedy_rows=_to_device(greedy, np.int64, device) if greedy and len(greedy) < len(sequences) else None,
        plain=_random(sequences, plain, vocabulary, device) if plain else None,
        filtered=_random(sequences, filtered, vocabulary, device) if filtered else None,
        adjustment=_adjustment(sequences, assumed, adjusted, vocabulary, device) if adjusted else None,
        logprob_rows=logprob_rows,
        most_logprobs=max((sequences[row].sampling.logprobs or 0 for row in logprob_rows), default=0),
    )


def depends_on_answer(sequence: Sequence) -> bool:
    """Whether a plan for its next token can only be made when all tokens before are known to the host."""
    return bool(sequence.constraint or _penalizes(sequence.sampling))


def _random(sequences: list[Sequence], rows: list[int], vocabulary: int, device: torch.device) -> Random:
    chosen = [sequences[row] for row in rows]
    table = [
        (
            sequence.draw(),
            max((sampling := sequence.sampling).temperature, LEAST_TEMPERATURE),
            min(sampling.top_k or vocabulary, vocabulary),
            sampling.top_p,
            log(sampling.min_p) if sampling.min_p else -inf,
        )
        for sequence in chosen
    ]
    uniform, temperature, top_k, top_p, log_min_p = _to_device(table, np.float64, device).unsqueeze(-1).unbind(1)
    everyone = len(rows) == len(sequences)
    return Random(
        rows=None if everyone else _to_device(rows, np.int64, device),
        uniform=uniform,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        log_min_p=log_min_p,
        widest=min(max(sequence.sampling.top_k for sequence in chosen), vocabulary),
        all_limited=all(sequence.sampling.top_k for sequence in chosen),
    )


def _adjustment(
    sequences: list[Sequence], assumed: Rows[Rows[int]], rows: list[int], vocabulary: int, device: torch.device
) -> Adjustment:
    biased = [row for row in rows if sequences[row].sampling.logit_bias]
    penalized = [row for row in rows if (sequences[row].answer or assumed[row]) and _penalizes(sequences[row].sampling)]
    masked = [row for row in rows if sequences[row].constraint]
    parts: dict[str, Tensor] = {}
    if biased:
        items = [(row * vocabulary + token, bias) for row in biased for token, bias in sequences[row].sampling.logit_bias.items()]
        parts["bias_places"] = _to_device([place for place, _ in items], np.int64, device)
        parts["bias"] = _to_device([bias for _, bias in items], np.float32, device)
    if penalized:
        answers = [np.array([*sequences[row].answer, *assumed[row]], dtype=np.int64) + row * vocabulary for row in penalized]
        lengths = [len(answer) for answer in answers]

        def per_token(value: Callable[[Sampling], float]) -> NDArray[np.float32]:
            return np.repeat(np.array([value(sequences[row].sampling) for row in penalized], dtype=np.float32), lengths)

        parts["penalty_places"] = _to_device(np.concatenate(answers), np.int64, device)
        parts["presence"] = _to_device(per_token(lambda sampling: sampling.presence_penalty), np.float32, device)
        parts["frequency"] = _to_device(per_token(lambda sampling: sampling.frequency_penalty), np.float32, device)
    if masked:
        masks = np.empty((len(masked), mask_words(vocabulary)), dtype=np.int32)
        for place, row in enumerate(masked):
            if not assumed[row]:
                ahead = sum(1 for _ in takewhile(lambda row: assumed[row], masked[place + 1 :]))
                _fill_masks(sequences[row], assumed[row + ahead], masks[place : place + 1 + ahead])
        parts["mask_rows"] = _to_device(masked, np.int64, device)
        parts["masks"] = _to_device(masks.view(np.uint8), np.uint8, device)
    return Adjustment(**parts)


def _fill_masks(sequence: Sequence, draft: Rows[int], masks: Masks) -> None:
    """masks [1 + len(draft), words]: for the token after the answer, and after each of `draft`."""
    constraint = sequence.constraint
    assert constraint is not None
    try:
        constraint.fill_mask(sequence.answer, masks[0])
    except ConstraintError as error:
        sequence.failure = str(error)
        masks[:] = ALL_ALLOWED
    else:
        if draft:
            constraint.look_ahead(draft, masks[1:])


def _penalizes(sampling: Sampling) -> bool:
    return bool(sampling.presence_penalty or sampling.frequency_penalty)


def _to_device(values: object, dtype: type[np.generic], device: torch.device) -> Tensor:
    """Through pinned memory, so that the host does not wait for the device."""
    tensor = torch.from_numpy(np.asarray(values, dtype=dtype))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
