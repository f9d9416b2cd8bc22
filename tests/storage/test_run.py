"""The identity of a plan: what decides the bytes of its store."""

import pytest
from helpers import made


def test_the_identity_of_a_plan_of_the_first_version_is_what_it_was():
    """Runs that were planned with an older vsp stay readable: new keys count where they are used."""
    wanted = "b23c0c430e106e8b185bf0deb5b3477e3bdbd51c4868a1a87ea8cd63fc0cc4ea"
    assert made.plan().identity() == wanted


@pytest.mark.parametrize(
    "change",
    [{"adapter": "/a"}, {"frame": "<image>{instruction}"}, {"stored_quantization": "4bit"}],
)
def test_what_decides_the_states_is_part_of_the_identity(change):
    plan = made.plan()
    model = plan.model.model_copy(update=change)
    assert plan.model_copy(update={"model": model}).identity() != plan.identity()


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"devices": 2}, {"packages": {"torch": "9"}}]
)
def test_what_does_not_decide_them_is_not(change):
    plan = made.plan()
    assert plan.model_copy(update=change).identity() == plan.identity()
