"""Kept rows have distinct ids."""

from tempfile import TemporaryFile

import pytest

from vsp.datasets.importers.kept_rows import KeptRows
from vsp.errors import DatasetError


def test_ids_that_come_twice_are_refused():
    with TemporaryFile() as file:
        rows = KeptRows(file)
        for name in ("a", "b", "a"):
            place = ("own.csv", f"line {len(rows) + 2}")
            rows.add_row({"id": name, "label": "x", "group": "g"}, "", "", (), place)
        with pytest.raises(
            DatasetError, match="1 row with the id of another row, first 'a'"
        ) as caught:
            rows.check_ids()
        assert caught.value.details == ("own.csv: line 4 has the id 'a' of own.csv: line 2",)
        for _ in range(30):
            rows.add_row({"id": "b", "label": "x", "group": "g"}, "", "", (), place)
        with pytest.raises(DatasetError, match="31 rows with the id") as caught:
            rows.check_ids()
        assert len(caught.value.details) == 21 and caught.value.details[-1] == "… and 11 more"
