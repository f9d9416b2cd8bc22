"""Rows are grouped into pictures, wherever the rows of an image are in the file."""

import os
import subprocess
import sys
import tempfile

import pytest
from helpers.disks import read_only, small_disk
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st

from vsp.datasets.importers.annotations import Relation, Thing
from vsp.datasets.importers.group_rows import AnnotatedRow, group_by_key, group_into_pictures
from vsp.errors import DatasetError, DiskError

keys = st.text(max_size=2) | st.tuples(st.text(max_size=1), st.text(max_size=1)).map(list)


@given(st.lists(st.tuples(keys, st.text() | st.integers() | st.none()), max_size=40))
def test_keys_and_their_values_are_in_their_first_order_and_none_is_lost(rows):
    expected = []
    for key, value in rows:
        for known, values in expected:
            if known == key:
                values.append(value)
                break
        else:
            expected.append((key, [value]))
    assert list(group_by_key(rows)) == expected


def test_a_key_that_was_forgotten_in_between_is_known_again():
    n = 1 << 15  # more keys than the cache holds
    rows = [(f"k{i % n}", i) for i in range(n + 100)]
    values = dict(group_by_key(rows))
    assert len(values) == n and values["k7"] == [7, n + 7] and values["k200"] == [200]


def _row(image, name, split="", group="", where="line 1"):
    thing = Thing(name, (1.0, 2.5, 3.0, 4.0))
    return AnnotatedRow(
        image, Relation(thing, "on", Thing("mat"), "7", file="own.csv", where=where), split, group
    )


def test_a_picture_holds_the_rows_of_its_image_and_each_thing_once():
    first, second, other = _row("a", "cat"), _row("a", "dog"), _row("b", "cup")
    a, b = group_into_pictures([first, other, second, first])
    assert (a.image, b.image) == ("a", "b")
    assert a.relations == (first.relation, second.relation, first.relation)
    assert a.things == (first.relation.subject, Thing("mat"), second.relation.subject)


def test_an_image_in_two_splits_is_a_picture_in_each():
    both = list(group_into_pictures([_row("a", "cat", "train"), _row("a", "cat", "test")]))
    assert [(p.image, p.split) for p in both] == [("a", "train"), ("a", "test")]


def test_a_group_that_one_row_names_is_the_pictures_and_two_are_refused():
    (picture,) = group_into_pictures([_row("a", "cat"), _row("a", "dog", group="g")])
    assert picture.group == "g"
    rows = [
        _row("a", "cat", group="g", where="line 2"),
        _row("a", "dog", group="h", where="line 5"),
    ]
    with pytest.raises(
        DatasetError,
        match=r"'a' is in group 'g' \(own.csv line 2\) and in group 'h' \(own.csv line 5\)",
    ):
        list(group_into_pictures(rows))


@pytest.mark.parametrize("scattered", [False, True])
def test_a_disk_without_room_for_the_rows_is_an_error_of_one_line(tmp_path, scattered):
    with small_disk(tmp_path / "small") as disk:
        code = (
            "from vsp.datasets.importers.group_rows import group_by_key\n"
            "from vsp.errors import DiskError\n"
            f"rows = ((i % 7 if {scattered} else i, 'x' * 1000) for i in range(5000))\n"
            "try: list(group_by_key(rows))\n"
            "except DiskError as error: print(error)\n"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(disk)}, cwd=ROOT,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert answer.stdout.startswith(str(disk)) and answer.stdout.count("\n") == 1
        assert "disk is full; free space, or set TMPDIR" in answer.stdout
        assert not list(disk.iterdir())


def test_nothing_is_left_where_rows_waited(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    groups = group_by_key([("a", 1), ("b", 2)])
    next(groups)
    assert list(tmp_path.iterdir())
    groups.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to_is_an_error_of_one_line(tmp_path, monkeypatch):
    with small_disk(tmp_path / "small") as disk:
        read_only(disk)
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(DiskError, match="read-only file system; make it writable or use"):
            list(group_by_key([("a", 1)]))


def test_an_error_of_the_rows_stays_what_it_is():
    def rows():
        yield "a", 1
        raise PermissionError(13, "Permission denied", "somewhere")

    with pytest.raises(PermissionError):
        list(group_by_key(rows()))
