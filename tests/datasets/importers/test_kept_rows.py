"""Kept rows have distinct ids."""

from tempfile import TemporaryFile

import pytest

from vsp.datasets.importers.kept_rows import KeptRows
from vsp.errors import DatasetError


def test_ids_that_come_twice_are_refused():
    with TemporaryFile() as file:
        rows = KeptRows(file)
        for name in ("a", "b", "a"):
            rows.add_row({"id": name, "label": "x", "group": "g"}, "", "", ())
        with pytest.raises(DatasetError, match="1 row with the id of another row, first 'a'"):
            rows.check_ids()
