import pytest

from vsp.cluster.contract import SCHEDULERS
from vsp.datasets import WORLDS
from vsp.errors import ConfigError
from vsp.models import FAMILIES
from vsp.probes import PROBES
from vsp.utils.registry import Registry


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"probe 'x' is not known; known: a, b"):
        Registry("probe", {"b": "m:b", "a": "m:a"}).load("x")


@pytest.mark.parametrize("family", [WORLDS, FAMILIES, PROBES, SCHEDULERS], ids=lambda f: f.kind)
def test_every_name_of_a_family_can_be_loaded(family):
    assert all(callable(family.load(name)) for name in family.names())
