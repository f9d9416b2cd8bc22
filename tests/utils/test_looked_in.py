"""The message where a folder of the project holds nothing."""

import pytest

from vsp.cli.main import main

HOME = "run vsp in the project folder, or "


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ("extract", "scratch"),
        ("status --run x", "scratch"),
        ("report", "results"),
        ("report --run x", "results"),
        ("compare a b", "results"),
        ("dataset show data/raw/x", "data/raw"),
        ("plan --model fake", None),  # the message says how to make the default dataset
    ],
)
def test_an_empty_folder_is_named_by_its_full_path(work, capsys, arguments, folder):
    assert main(arguments.split()) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    if folder is None:
        assert "`vsp generate --config spatial`" in line
    else:
        assert f"{work / folder}: holds no " in line and HOME in line
