"""Chooses the next token of each sequence from its logits, on the device and without a loop over rows.

Why it exists: greedy and random choice must depend on the sequence alone. A random choice takes exactly one number from
the sequence's own source and inverts the distribution, so that the company in the batch changes nothing. `prepare` is the
host's half and needs no logits; `sample` is the device's and waits for nothing, except where top_p or min_p is asked
for without top_k. Order: logit_bias, penalties, mask, temperature, top_k, top_p, min_p.
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.logprobs import Logprobs, measure_logprobs
from localmodel.engine.memory import SORTED_AT_ONCE
from localmodel.engine.sampling_plan import Adjustment, Random, SamplingPlan, make_plan
from localmodel.engine.sequence import Sequence

NUCLEUS_GUESS = 256
"""top_p is nearly always reached within so many tokens; if not, all are sorted."""
BLOCK = 256
"""Tokens whose shares are added up before the draw looks closer."""


@dataclass(frozen=True)
class Sampled:
    tokens: Tensor
    """[S] int64, on the device."""
    plan: SamplingPlan
    logprobs: Logprobs | None

    def report(self) -> list[int]:
        """The token of each row; waits for the device. Log-probabilities go to `Sequence.logprobs`, for `commit` to take."""
        if self.logprobs is not None:
            asked = [self.plan.sequences[row] for row in self.plan.logprob_rows]
            rows = self.logprobs.rows([sequence.sampling.logprobs or 0 for sequence in asked])
            for sequence, row in zip(asked, rows, strict=True):
                sequence.logprobs.append(row)
        tokens: list[int] = self.tokens.tolist()
        return tokens


class Sampler:
    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device

    def prepare(self, sequences: list[Sequence], assumed: Rows[Rows[int]] | None = None) -> SamplingPlan:
        """For one token of each row of the logits, in their order; call it while the network computes. See `make_plan`.

        Needs the whole answer so far of those for which `sampling_plan.depends_on_answer` is true.
        """
        return make_plan(sequences, self._vocabulary, self._device, assumed)

    def sample(self, logits: Tensor, plan: SamplingPlan) -> Sampled:
        """logits [S, V], a row per sequence of `plan`; they are not changed."""
        adjusted = logits if plan.adjustment is None else _adjust(logits, plan.adjustment)
        tokens = _choose(adjusted, plan)
        if not plan.logprob_rows:
            return Sampled(tokens, plan, None)
        rows: list[int] | slice = slice(None) if len(plan.logprob_rows) == len(plan.sequences) else plan.logprob_rows
        return Sampled(tokens, plan, measure_logprobs(logits[rows], tokens[rows], plan.most_logprobs))


def _choose(logits: Tensor, plan: SamplingPlan) -> Tensor:
    if plan.plain is None and plan.filtered is None:
        return _best(logits)
    tokens = torch.empty(logits.shape[0], dtype=torch.int64, device=logits.device)
    if plan.greedy_rows is not None:
        tokens[plan.greedy_rows] = _best(logits[plan.greedy_rows])
    for random, draw in ((plan.plain, _draw_plain), (plan.filtered, _draw_filtered)):
        if random is not None:
            rows = slice(None) if random.rows is None else random.rows
            tokens[rows] = draw(logits[rows].float() / random.temperature.float(), random)
    return tokens


def _best(logits: Tensor) -> Tensor:
    """[R, V] -> [R], the first of equals. torch's argmax of bfloat16 takes six times as long as max on a processor."""
    return logits.argmax(dim=-1) if logits.is_cuda else logits.max(dim=-1).indices


def _adjust(logits: Tensor, adjustment: Adjustment) -> Tensor:
    """A float32 copy with biases, penalties and masks."""
    logits = logits.to(torch.float32, copy=True)
    flat = logits.view(-1)
    if adjustment.bias_places is not None and adjustment.bias is not None:
        flat[adjustment.bias_places] += adjustment.bias
    if adjustment.penalty_places is not None and adjustment.presence is not None and adjustment.frequency is not None:
        places = adjustment.penalty_places
        flat[places] = flat[places] - adjustment.presence  # a place named twice gets the same value twice
        flat.index_add_(0, places, adjustment.frequency, alpha=-1)
    if adjustment.mask_rows is not None and adjustment.masks is not None:
        bits = torch.arange(8, dtype=torch.uint8, device=logits.device)
        allowed = (adjustment.masks.unsqueeze(-1) >> bits & 1).flatten(1)[:, : logits.shape[1]].bool()
        logits[adjustment.mask_rows] = logits[adjustment.mask_rows].masked_fill_(~allowed, float("-inf"))
    return logits


def _draw_plain(scaled: Tensor, random: Random) -> Tensor:
    """scaled [R, V] -> [R]: the token whose share of [0, 1) holds the row's number; first its block, then the token."""
    shares = torch.softmax(scaled, dim=-1)
    del scaled
    if shares.shape[1] % BLOCK:
        shares = F.pad(shares, (0, -shares.shape[1] % BLOCK))
    shares = shares.view(len(shares), -1, BLOCK)
    edges = shares.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    target = edges[:, -1:] * random.uniform
    block = torch.searchsorted(edges, target, right=True).clamp_(max=edges.shape[1] - 1)  # of logits that are no numbers
    before = torch.where(block > 0, edges.gather(1, (block - 1).clamp_(min=0)), 0)
    inner = shares.take_along_dim(block.unsqueeze(-1), dim=1).squeeze(1)
    return (block * BLOCK + _invert(inner, target - before)).squeeze(1)


def _draw_filtered(scaled: Tensor, random: Random) -> Tensor:
    """The same among the tokens that top_k, top_p and min_p leave.

    They leave all that are at least as likely as the last one: which of equals a sort puts first differs between devices
    and numbers of rows.
    """
    size = scaled.shape[1]
    width = min(random.widest if random.all_limited else max(random.widest, NUCLEUS_GUESS), size)
    least, cut = _least_kept(scaled, random, width)
    tokens = _draw_plain(scaled.masked_fill(scaled < least, float("-inf")), random)
    if random.all_limited or width == size:
        return tokens
    rows = cut.flatten().nonzero().flatten()  # asked last: the host waits with its work done
    for some in rows.split(max(1, SORTED_AT_ONCE // size)) if len(rows) else ():
        part, chances = scaled[some], random.of_rows(some)
        least, _ = _least_kept(part, chances, size)
        tokens[some] = _draw_plain(part.masked_fill_(part < least, float("-inf")), chances)
    return tokens


def _least_kept(scaled: Tensor, random: Random, width: int) -> tuple[Tensor, Tensor]:
    """The smallest of `scaled` that stays if only the `width` largest are looked at, [R, 1], and whether that was too few."""
    values = scaled.topk(width, dim=-1).values
    best = values[:, :1]
    weights = (values - best).exp_()
    kept = torch.arange(width, device=scaled.device) < random.top_k
    limited = random.top_k < scaled.shape[1]
    if random.all_limited:
        whole = _total(weights.masked_fill(~kept, 0))
    else:
        whole = _total((scaled - best).exp_())
        if random.widest:
            whole = torch.where(limited, _total(weights.masked_fill(~kept, 0)), whole)
    shares = weights / whole
    before = shares.cumsum(dim=-1, dtype=torch.float64) - shares
    kept &= (before < random.top_p) & (values - best >= random.log_min_p)
    return values.masked_fill(~kept, float("inf")).amin(dim=-1, keepdim=True), kept[:, -1:] & ~limited


def _total(weights: Tensor) -> Tensor:
    """[R, n] -> [R, 1]. Added up in blocks, because the order in which a long row is added up depends on the company."""
    cut = weights.shape[1] // BLOCK * BLOCK
    blocks = weights[:, :cut].unflatten(1, (cut // BLOCK, BLOCK)).sum(dim=-1)
    rest = F.pad(weights[:, cut:], (0, -weights.shape[1] % BLOCK)).sum(dim=-1, keepdim=True)
    return (blocks.sum(dim=-1, keepdim=True, dtype=torch.float64) + rest).float()


def _invert(shares: Tensor, target: Tensor) -> Tensor:
    """shares [R, n], target [R, 1] -> index [R, 1] of the share that holds it; never one of nothing."""
    edges = shares.cumsum(dim=-1, dtype=torch.float64)
    last = (edges < edges[:, -1:]).sum(dim=-1, keepdim=True)
    return torch.minimum(torch.searchsorted(edges, target, right=True), last)
