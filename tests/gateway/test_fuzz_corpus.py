"""The starting points of `make fuzz`, and what fuzzing once found, once each; and the alarm works."""

import contextlib
from collections.abc import Iterator

import pytest

from fuzz.seeds import seeds
from fuzz.target import Found, Target
from localmodel.gateway import strict_json


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.close()


def test_nothing_is_found(target: Target) -> None:
    for name, data in seeds():
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error


def test_a_fault_is_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a reader that fails as careless ones do."""
    monkeypatch.setattr(strict_json, "parse", lambda body: len(body) // 0)
    data = next(data for name, data in seeds() if name == "/v1/chat/completions 0")
    with pytest.raises(Found, match="internal_error"):
        target.run(data)
    with contextlib.suppress(Found):
        target.run(data)
