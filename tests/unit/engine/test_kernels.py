"""How a kernel is launched on a card that has less than the one it was written on."""

import pytest
import torch

from localmodel.engine import kernels
from localmodel.engine.kernels import launch, overlap_of

X = torch.empty(0)


class OutOfResources(Exception):
    """Triton's has this name; it can't be imported where there is no Triton."""


class Kernel:
    """Needs shared memory by the stage."""

    def __init__(self, most_stages, error=OutOfResources):
        self.tried, self._most_stages, self._error = [], most_stages, error

    def __getitem__(self, grid):
        def run(*arguments, num_stages, ROWS):
            self.tried.append((grid, arguments, num_stages, ROWS))
            if num_stages > self._most_stages:
                raise self._error("shared memory, Required: 147460, Hardware limit: 101376")

        return run


def stages(kernel):
    return [stages for _, _, stages, _ in kernel.tried]


def test_as_many_stages_as_fit_and_no_second_search():
    kernel = Kernel(most_stages=1)
    launch(kernel, (2,), X, num_stages=3, ROWS=64)
    launch(kernel, (5,), X, num_stages=3, ROWS=64)
    assert stages(kernel) == [3, 2, 1, 1] and kernel.tried[-1] == ((5,), (X,), 1, 64)
    launch(kernel, (2,), X, num_stages=2, ROWS=128)
    assert stages(kernel)[4:] == [2, 1], "another shape has its own"


def test_where_all_fit_nothing_changes():
    kernel = Kernel(most_stages=3)
    launch(kernel, (1,), X, num_stages=3, ROWS=64)
    assert stages(kernel) == [3]


@pytest.mark.parametrize("most, error", [(0, OutOfResources), (1, RuntimeError)])
def test_what_fewer_stages_can_t_help_is_told(most, error):
    kernel = Kernel(most, error)
    with pytest.raises(error):
        launch(kernel, (1,), X, num_stages=2, ROWS=64)


class Noting:
    def __init__(self):
        self.options = []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.options.append(options)


def test_a_kernel_waits_by_itself_only_where_a_card_can_begin_it_early(monkeypatch):
    kernel = Noting()
    launch(kernel, (1,), X, overlap="late", ROWS=1)
    monkeypatch.setattr(kernels, "overlaps", lambda device: True)
    for overlap in ("early", "late", ""):
        launch(kernel, (1,), X, overlap=overlap, ROWS=1)
    begun = {"ROWS": 1, "launch_pdl": True}
    assert kernel.options == [{"ROWS": 1}, {**begun, "OVERLAP": "early"}, {**begun, "OVERLAP": "late"}, {"ROWS": 1}]


def test_small_kernels_let_the_next_one_begin_where_its_programs_are_many_or_their_weights_on_the_way():
    assert [overlap_of(rows) for rows in (1, 2, 32, 33, 160, 161)] == ["early", "late", "late", "early", "early", ""]
