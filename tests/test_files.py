import json
import os
import stat

import pytest

from vsp.files import write_json, write_text, written_aside


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), written_aside(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_mode_that_open_would_give(tmp_path):
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "plain", "")
        write_text(tmp_path / "script", "", executable=True)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "script").stat().st_mode) == 0o750


def test_json_keeps_every_letter(tmp_path):
    write_json(tmp_path / "a.json", {"é": "左"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"é": "左"}
