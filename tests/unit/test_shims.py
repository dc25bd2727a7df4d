"""The files that Triton loads: they give the engine back the cards that are hidden from Triton, and nothing else."""

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from localmodel.core.triton import without_cards

SHIMS = Path(__file__).resolve().parents[2] / "model_repo"


@pytest.fixture(params=["llm", "predict"])
def load(request, monkeypatch):
    """load(environment) -> what CUDA_VISIBLE_DEVICES is when the engine is imported."""

    def run(environment: dict[str, str]) -> str | None:
        seen = []

        class Engine(SimpleNamespace):
            def __getattr__(self, name: str) -> object:
                seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
                return object

        monkeypatch.setitem(sys.modules, "localmodel.engine.triton", Engine(__spec__=None))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        runpy.run_path(str(SHIMS / request.param / "1" / "model.py"))
        assert "LOCALMODEL_CARDS_HIDDEN" not in os.environ
        return seen[-1]

    return run


def test_the_engine_sees_what_triton_does_not(load):
    assert load(without_cards()) is None


@pytest.mark.parametrize("chosen", ["1", ""])
def test_a_choice_of_the_users_stays(load, chosen):
    assert load({"CUDA_VISIBLE_DEVICES": chosen}) == chosen


def test_nothing_said_is_nothing_changed(load):
    assert load({}) is None
