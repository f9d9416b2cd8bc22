import json

import pytest

from vsp.cluster import SCHEDULERS
from vsp.datasets import WORLDS
from vsp.errors import ConfigError
from vsp.models import FAMILIES
from vsp.probes import PROBES
from vsp.utils import registry as registry_module
from vsp.utils.registry import Registry


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"probe 'x' is not known; known: a, b"):
        Registry("probe", "vsp.probes", {"b": "m:b", "a": "m:a"}).load("x")


@pytest.mark.parametrize("family", [WORLDS, FAMILIES, PROBES, SCHEDULERS], ids=lambda f: f.kind)
def test_every_name_of_a_family_can_be_loaded(family):
    assert all(callable(family.load(name)) for name in family.names())


def _install(folder, package: str, points: dict[str, str]) -> None:
    """Lay an installed package's metadata into `folder`, with entry points of vsp.probes."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {place}\n" for name, place in points.items()]
    (info / "entry_points.txt").write_text("[vsp.probes]\n" + "".join(lines))


def test_a_member_of_an_installed_package_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    _install(tmp_path, "theirs", {"mine": "json:dumps", "a": "json:loads"})
    registry = Registry("probe", "vsp.probes", {"a": "json:dump"})
    assert registry.names() == ["a", "mine"] and registry.own_names() == ["a"]
    assert registry.load("mine") is json.dumps
    assert registry.load("a") is json.dump  # a name of the table is not replaced


def test_two_packages_with_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("one", "two"):
        _install(tmp_path, package, {"mine": "json:dumps"})
    with pytest.raises(ConfigError, match="probe 'mine' is in the packages one and two; uninstall"):
        Registry("probe", "vsp.probes", {}).load("mine")


def test_installed_packages_are_searched_once_and_only_for_names_outside_the_table(monkeypatch):
    """A search opens a file of every installed package, and a thousand tasks start at once."""
    searches = []
    monkeypatch.setattr(registry_module, "entry_points", lambda group: searches.append(group) or ())
    registry = Registry("probe", "vsp.probes", {"a": "json:dump"})
    assert "a" in registry and registry.load("a") is json.dump and registry.own_names() == ["a"]
    assert searches == []
    assert "b" not in registry and registry.names() == ["a"] and "c" not in registry
    assert searches == ["vsp.probes"]


def test_a_package_that_cannot_be_imported_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_probe.py").write_text("import no_such_module\n")
    (tmp_path / "worse_probe.py").write_text("raise RuntimeError('two\\nlines')\n")
    points = {"bad": "broken_probe:Probe", "worse": "worse_probe:Probe", "good": "json:dumps"}
    _install(tmp_path, "theirs", points)
    registry = Registry("probe", "vsp.probes", {"a": "json:dump"})
    assert registry.names() == ["a", "bad", "good", "worse"]
    assert registry.load("good") is json.dumps and registry.load("a") is json.dump
    with pytest.raises(
        ConfigError, match=r"^probe 'bad' of the package theirs cannot be imported "
    ):
        registry.load("bad")
    with pytest.raises(ConfigError, match=r"\(RuntimeError: two lines\); correct or uninstall"):
        registry.load("worse")
