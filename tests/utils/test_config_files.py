"""Configuration files: the user's own come first, and vsp says which one it takes."""

from __future__ import annotations

import logging

import pytest
from helpers.paths import ROOT

from vsp.utils.config_files import SHIPPED, config_names, find_config


def test_what_is_shipped_is_what_lies_at_the_top_level():
    for folder in ("configs", "configs/models", "configs/relations"):
        theirs = {path.name: path.read_bytes() for path in (ROOT / folder).glob("*.yaml")}
        ours = {path.name: path.read_bytes() for path in (SHIPPED / folder).glob("*.yaml")}
        assert ours == theirs and theirs
    profile = "jobs/slurm.yaml"
    assert (SHIPPED / profile).read_bytes() == (ROOT / profile).read_bytes()


def test_a_file_of_the_users_own_goes_first_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, "vsp")
    shipped = find_config("6way", "configs/relations", tmp_path)
    assert shipped == SHIPPED / "configs/relations/6way.yaml"
    assert caplog.messages == ["using configs/relations/6way.yaml, shipped with vsp"]
    own = tmp_path / "configs/relations/6way.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("left_of: [left of]\n")
    assert find_config("6way", "configs/relations", tmp_path) == own
    assert caplog.messages[1:] == [f"using {own}"]


@pytest.mark.parametrize("name", ["configs/spatial_dataset.yaml", "spatial"])
def test_a_path_below_configs_is_found_without_a_checkout(tmp_path, name):
    found = find_config(name, "configs", tmp_path, "_dataset.yaml")
    assert found == SHIPPED / "configs/spatial_dataset.yaml"


def test_a_name_that_nobody_has_is_none_and_a_path_stays_what_it_was(tmp_path):
    assert find_config("nobody", "configs/models", tmp_path) is None
    assert find_config("nobody.yaml", "configs/models", tmp_path) == tmp_path / "nobody.yaml"


def test_names_are_those_of_both_places(tmp_path):
    (tmp_path / "configs/models").mkdir(parents=True)
    (tmp_path / "configs/models/mine.yaml").write_text("family: fake\n")
    names = config_names("configs/models", tmp_path)
    assert names == sorted(names) and {"mine", "llava-1.5-7b"} <= set(names)
    assert "spatial" in config_names("configs", tmp_path, "_dataset.yaml")
