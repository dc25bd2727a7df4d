"""What the collector is told when a model is loaded."""

import gc

import pytest

from localmodel.engine.housekeeping import YOUNG_OBJECTS, settle


@pytest.fixture
def settled():
    thresholds = gc.get_threshold()
    lasting = [[] for _ in range(1000)]
    settle()
    yield lasting
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_a_settled_process_collects_seldom_and_does_not_look_at_what_lasts(settled):
    began = []
    gc.callbacks.append(count := lambda phase, info: began.append(phase == "start"))
    try:
        few = [[] for _ in range(YOUNG_OBJECTS - 2000)]
        assert not any(began)
        more = [[] for _ in range(4000)]
        assert any(began)
    finally:
        gc.callbacks.remove(count)
    looked_at = {id(one) for one in gc.get_objects()}
    assert not any(id(one) in looked_at for one in settled)
    assert all(id(one) in looked_at for one in (few[0], more[-1]))
