"""Cells of CSV files that vsp writes."""

import csv

import pytest

from vsp.utils.csv_lines import csv_line


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_runs_no_cell(start):
    text = f"{start}HYPERLINK(1)"
    (cells,) = csv.reader([csv_line("a", text, f" {text}").decode()])
    assert cells == ["a", f"'{text}", f" {text}"]


def test_numbers_and_other_texts_stay_as_they_are():
    (cells,) = csv.reader([csv_line(-1, 0.5, "a-b", "", 'say "x", y', "Tür").decode()])
    assert cells == ["-1", "0.5", "a-b", "", 'say "x", y', "Tür"]


def test_half_a_surrogate_pair_is_written_in_ascii():
    assert csv_line("\ud800") == b"\\ud800\r\n"
