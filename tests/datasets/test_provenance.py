"""A dataset folder is written once, also by two commands at the same time."""

import pytest

from vsp.datasets.provenance import write_once
from vsp.errors import DatasetError


def _write(folder):
    (folder / "metadata.json").write_text("[]")


@pytest.mark.parametrize("card", [{"seed": 1}, {"seed": 2}])
def test_of_two_commands_the_first_to_finish_wins_and_nothing_is_left_behind(tmp_path, card):
    out = tmp_path / "out"

    def write_while_another_does(folder):
        _write(folder)
        assert write_once(out, card, _write, "remove it")

    if card == {"seed": 1}:
        assert not write_once(out, {"seed": 1}, write_while_another_does, "remove it")
    else:
        with pytest.raises(DatasetError, match="out: holds another dataset; remove it"):
            write_once(out, {"seed": 1}, write_while_another_does, "remove it")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "metadata.json"]


def test_a_file_that_comes_in_its_place_meanwhile_is_refused_and_kept(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DatasetError, match="out: holds another dataset"):
        write_once(out, {}, lambda folder: out.write_text("mine"), "remove it")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and out.read_text() == "mine"
