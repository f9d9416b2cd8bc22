"""Columns that a narrow terminal leaves out, and the report as files."""

from io import StringIO

import pytest
from helpers import made
from PIL import Image

from vsp.cli.main import main
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.storage.stored_settings import choose_setting
from vsp.utils.terminal import Page

NUMBERS = [0.25, 0.75]


def _table():
    columns = [
        Column("layer", figure_cells(["0", "12"])),
        Column("accuracy", figure_cells([f"{number:.3f}" for number in NUMBERS])),
        Column("first", figure_cells(["1.000", "2.000"]), 2),
        Column("second", figure_cells(["3.000", "4.000"]), 1),
    ]
    return FittingTable(columns, ["", ""])


def _drawn(width):
    stream = StringIO()
    Page(stream, width=width).print(_table())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("width", "missing"),
    [(200, []), (27, []), (26, ["first"]), (21, ["first"]), (20, ["first", "second"]), (14, ["first", "second"])],
)  # fmt: skip
def test_whole_columns_are_left_out_and_named_and_no_number_is_cut(width, missing):
    text = _drawn(width)
    table, _, note = " ".join(text.split()).partition("Not shown at this width: ")
    assert max(map(len, text.splitlines())) <= width
    assert note == (f"{', '.join(missing)}." if missing else "")
    for column, figures in (("first", ("1.000", "2.000")), ("second", ("3.000", "4.000"))):
        for figure in (column, *figures):
            assert (figure in table) == (column not in missing)
    assert all(f"{number:.3f}" in table for number in NUMBERS) and "…" not in text


def test_a_saved_report_lies_beside_its_results(work, capsys):
    made.made(work / "results/a")
    assert main(["report", "--run", "a", "--save"]) == 0
    shown = capsys.readouterr()
    folder = choose_setting(work / "results/a").folder
    assert (folder / "report.txt").read_text() == shown.out
    assert {path.name for path in folder.iterdir() if path.suffix in (".png", ".svg")} == {
        "curve.png", "curve.svg", "classes.png",
    }  # fmt: skip
    for name in ("curve.png", "classes.png"):
        with Image.open(folder / name) as picture:
            assert picture.size[0] > 1000
        assert name in shown.err
    assert choose_setting(work / "results/a").read()  # the results are as they were


def test_a_saved_report_has_a_page_for_the_browser_made_of_results_alone(work, capsys):
    folder = made.made(work / "results/a/logistic").folder
    assert main(["report", "--run", "a", "--save"]) == 0
    page = (folder / "report.html").read_bytes()
    assert f"wrote {folder / 'report.html'}" in capsys.readouterr().err.replace(
        "wrote results", f"wrote {work}/results"
    )
    assert b'<section id="curves"' in page and b'id="gallery"' not in page
    overview = (work / "results/a/report.txt").read_text()
    assert "page: logistic/report.txt\nfor a browser: logistic/report.html\n" in overview
    (folder / "report.html").unlink()
    assert main(["report", "--run", "a", "--save"]) == 0
    assert (folder / "report.html").read_bytes() == page


def test_a_saved_report_of_numbers_has_no_figure_of_classes(work):
    made.made(work / "results/a", made.numbers())
    assert main(["report", "--run", "a", "--save"]) == 0
    assert not list((work / "results/a").rglob("classes.png"))
