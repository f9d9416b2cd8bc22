"""The identity of a plan: what decides the bytes of its store."""

import pytest
from helpers import made


def test_the_identity_of_a_plan_of_the_first_version_is_what_it_was():
    """Runs that were planned with an older vsp stay readable: new keys count where they are used."""
    wanted = "c56dd61b8bc33e0598c5351b62d198ce42f0b7425b84ee7926424c8815af2149"
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
