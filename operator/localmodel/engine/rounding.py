"""Which of a few values stands for each weight of a matrix: the nearest, or those whose errors cancel on sample inputs.

Why it exists: rounding is numerics and nothing else; it must not know how numbers are packed, where they lie or whose they
are. Groups are G neighbours of a row [N, K], C = K / G of them; number * scale + minimum is a weight.

`compensate` is GPTQ (Frantar et al., 2022): input by input, the error of each rounded column is spread over those that come
after it, by the inverse of the inputs' second moments. Inputs that carry most go first: groups by their largest, and within
a group.
"""

from typing import NamedTuple

import torch
from torch import Tensor

CUTS = (0.0, 0.025, 0.05, 0.075, 0.1, 0.125)
"""Parts of a group's range that are tried to be cut off at its ends: values there are nearer to the end, all others get finer
steps."""
BOTH_ALIKE = tuple((cut, cut) for cut in CUTS)
EACH_END = tuple((low, high) for low in CUTS for high in CUTS)
DAMPING = 0.01
"""Of the mean second moment, added to each: inputs that the samples hardly showed stay near their weights."""
BLOCK = 32
"""Columns whose errors are spread one by one; the rest gets them a block at a time."""


class Groups(NamedTuple):
    numbers: Tensor
    """uint8 [N, C, G], 0 ... 15"""
    scales: Tensor
    """[N, C]"""
    minima: Tensor
    """[N, C]"""

    def dense(self) -> Tensor:
        """[N, K] float32"""
        return (self.numbers * self.scales.unsqueeze(-1).float() + self.minima.unsqueeze(-1).float()).flatten(1)


def round_rows(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """weight [N, K] float32 -> (int8 [N, K], scales [N] of `dtype`): a scale for each row."""
    scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).to(dtype)
    return (weight / scales.float().unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8), scales


def dense_rows(numbers: Tensor, scales: Tensor) -> Tensor:
    """What `round_rows` stands for, [N, K]."""
    return numbers.to(scales.dtype) * scales.unsqueeze(1)


def round_nearest(weight: Tensor, group: int, dtype: torch.dtype) -> Groups:
    """weight [N, K] float32; scales and minima are of `dtype`."""
    groups = weight.unflatten(1, (-1, group))
    scales, minima = _choose_steps(groups, dtype)
    numbers = ((groups - minima) / scales).round_().clamp_(0, 15).to(torch.uint8)
    return Groups(numbers, scales.squeeze(-1).to(dtype), minima.squeeze(-1).to(dtype))


def compensate(weight: Tensor, moments: Tensor, group: int, dtype: torch.dtype) -> Groups:
    """weight [N, K] float32, moments x.T @ x [K, K] float32 of its inputs. Raises RuntimeError where they have no root."""
    rows, columns = weight.shape
    importance = moments.diagonal().unflatten(0, (-1, group))
    order = _order(importance)
    root = _inverse_root(moments[order][:, order])
    left = weight.t()[order]
    importance = importance.flatten()[order]
    numbers = torch.empty(columns, rows, dtype=torch.uint8, device=weight.device)
    steps = torch.empty(2, columns // group, rows, dtype=torch.float32, device=weight.device)
    for at in range(0, columns, BLOCK):
        end = at + BLOCK
        if at % group == 0:
            chosen = _choose_steps(left[at : at + group].t(), dtype, importance[at : at + group])
            scale, minimum = (each.squeeze(-1) for each in chosen)
            number = int(order[at]) // group
            steps[0, number], steps[1, number] = scale, minimum
        errors = _round_block(left[at:end], root[at:end, at:end], scale, minimum, numbers[at:end])
        left[end:].addmm_(root[at:end, end:].t(), errors, alpha=-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(columns, device=order.device)
    scales, minima = (each.t().to(dtype).contiguous() for each in steps)
    return Groups(numbers[back].t().unflatten(1, (-1, group)), scales, minima)


def _round_block(own: Tensor, factors: Tensor, scale: Tensor, minimum: Tensor, numbers: Tensor) -> Tensor:
    """own [B, N] is rounded column by column into `numbers` [B, N], each one's error spread over those behind it by `factors`
    [B, B]; errors [B, N]."""
    if own.is_cuda:
        from localmodel.engine.rounding_kernel import compensate_block

        return compensate_block(own, factors, scale, minimum, numbers)
    errors = torch.empty_like(own)
    for i in range(len(own)):
        column = own[i]
        rounded = ((column - minimum) / scale).round_().clamp_(0, 15)
        numbers[i] = rounded
        torch.div(column - rounded.mul_(scale).add_(minimum), factors[i, i], out=errors[i])
        own[i + 1 :].addr_(factors[i, i + 1 :], errors[i], alpha=-1)
    return errors


def _order(importance: Tensor) -> Tensor:
    """importance [C, G] -> [K]: groups by their most important input, and inputs within them."""
    groups = importance.amax(dim=1).argsort(descending=True, stable=True)
    within = importance.argsort(dim=1, descending=True, stable=True)
    return (groups.unsqueeze(1) * importance.shape[1] + within[groups]).flatten()


def _inverse_root(moments: Tensor) -> Tensor:
    """Upper U with U.T @ U the inverse of the damped moments: the inverse of their Cholesky factor from the other end."""
    mean = moments.diagonal().mean()
    moments.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    factor = torch.linalg.cholesky(moments.flip(0, 1))
    identity = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False).flip(0, 1)


def _choose_steps(groups: Tensor, dtype: torch.dtype, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """groups [..., G] float32 -> (scales, minima) [..., 1] float32 with values of `dtype`, so that the squared error of the
    nearest numbers, times `importance` [G], is least."""
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    best_error = torch.full_like(low, torch.inf)
    best_scale, best_minimum = torch.ones_like(low), torch.zeros_like(low)
    for cut_low, cut_high in BOTH_ALIKE if importance is None else EACH_END:
        scale = ((high - low) * ((1 - cut_low - cut_high) / 15)).clamp(min=1e-12).to(dtype).float()
        minimum = (low + (high - low) * cut_low).to(dtype).float()
        errors = ((groups - minimum) / scale).round_().clamp_(0, 15).mul_(scale).add_(minimum).sub_(groups).square_()
        error = errors.sum(dim=-1, keepdim=True) if importance is None else (errors @ importance).unsqueeze(-1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_minimum = torch.where(better, minimum, best_minimum)
    return best_scale, best_minimum
