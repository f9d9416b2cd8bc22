"""Options of figures and tables: the files they write, the tables they print, and their errors."""

import argparse
import csv
import io

import pytest
from helpers import made
from helpers.stored_runs import probed, rows

from vsp.cli.main import main
from vsp.cli.paper_options import figure_width
from vsp.reporting.names import display_names


@pytest.fixture
def two(work):
    for name, seed in (("first", 0), ("second", 1)):
        made.made(work / "results" / name, made.predictions(made.accuracies(5), seed=seed))
    return work


def _page(capsys, *words):
    """Exit code, stdout and stderr of a command."""
    code = main(list(map(str, words)))
    return code, *capsys.readouterr()


REPORT, COMPARE = ("report", "--run", "first"), ("compare", "first", "second")


@pytest.mark.parametrize("command", [REPORT, COMPARE], ids=["report", "compare"])
def test_files_are_written_beside_the_page_and_dashes_print_instead_of_it(two, capsys, command):
    files = {"csv": "new/a.csv", "markdown": "new/a.md", "latex": "new/a.tex"}
    code, page, said = _page(
        capsys, *command, *(word for kind, name in files.items() for word in (f"--{kind}", name))
    )
    assert code == 0 and "layer" in page and "% needs" not in page
    assert [line for line in said.splitlines() if line.startswith("wrote")] == [
        f"wrote {name}" for name in files.values()
    ]
    for kind, name in files.items():
        code, printed, said = _page(capsys, *command, f"--{kind}", "-")
        assert code == 0 and not said
        assert printed.splitlines() == (two / name).read_text().splitlines()


def test_a_comparison_as_csv_has_a_line_for_each_layer_of_each_pair(two, capsys):
    made.made(two / "results" / "third", made.predictions(made.accuracies(5), seed=2))
    _, text, _ = _page(capsys, "compare", "first", "results/second", "third", "--csv", "-")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 2 * (5 + 1)
    assert {line["other"] for line in lines} == {"second", "third"}
    for line in lines:
        assert float(line["difference"]) == pytest.approx(
            float(line["other_score"]) - float(line["first_score"])
        )
        assert (line["p_corrected"] == "") == (line["peak"] == "1")


def test_an_evaluation_has_the_same_tables(work, capsys):
    probed(work, "one", rows())
    probed(work, "two", rows(seed=1, n_rows=160))
    _, single, _ = _page(capsys, "evaluate", "one", "--on", "two", "--markdown", "-")
    assert single.count("| 0 |") == 1 and "| chance | 0.250 |" in single and "own" in single
    words = ("evaluate", "one", "results/two", "--on", "one", "./scratch/two", "--seed", 1)
    code, matrix, _ = _page(capsys, *words, "--latex", "-", "--plot", "a.pdf", "--width", "6cm")
    assert code == 0 and (work / "a.pdf").read_bytes().startswith(b"%PDF")
    heads = r"trained on & \multicolumn{2}{c}{one} & \multicolumn{2}{c}{two} \\"
    assert heads in matrix and "scratch" not in matrix and "results" not in matrix
    assert matrix.count(r"\bfseries") >= 2 and "chance & 0.250 &  & 0.250" in matrix


REFUSED = {
    "plot": (
        (*REPORT, "--plot", "a.jpg"),
        "'a.jpg': unknown suffix '.jpg'; use .png, .svg or .pdf",
    ),
    "latex": (
        (*REPORT, "--latex", "a.txt"),
        "--latex a.txt: unknown suffix '.txt'; use .tex, or -",
    ),
    "markdown": ((*COMPARE, "--markdown", "a"), "unknown suffix ''; use .md or .markdown, or -"),
    "csv": ((*REPORT, "--csv", "a.tsv"), "--csv a.tsv: unknown suffix '.tsv'; use .csv, or -"),
    "two printed": ((*REPORT, "--csv", "-", "--latex", "-"), "--csv - and --latex -: only one"),
    "json too": ((*COMPARE, "--csv", "-", "--json"), "--csv - and --json: only one of them"),
    "width": ((*REPORT, "--width", "single"), "--width: needs a figure; add --plot FILE"),
    "figure": ((*COMPARE, "--figure", "difference"), "--figure: needs a figure; add --plot FILE"),
    "axis": (
        (*COMPARE, "--layer-axis", "relative"),
        "--layer-axis: needs a figure; add --plot FILE",
    ),
    "title": ((*REPORT, "--title", "x"), "--title: needs a figure or a table; add --plot"),
    "layer": ((*REPORT, "--layer", "3"), "--layer: needs a figure; add --plot FILE"),
    "layer of a curve": (
        (*REPORT, "--plot", "a.png", "--layer", "3"),
        "--layer 3: applies to --plot FILE --figure confusion",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_in_one_line(two, capsys, case):
    words, expected = REFUSED[case]
    code, page, said = _page(capsys, *words)
    assert code == 1 and page == "" and len(said.splitlines()) == 1 and expected in said
    assert not list(two.glob("a.*"))


def test_a_width_is_a_column_or_a_size():
    found = [figure_width(text) for text in ("single", "double", "8", "8.5cm", "3.25in", "85mm")]
    assert found == pytest.approx([8.4, 17.4, 8, 8.5, 3.25 * 2.54, 8.5])
    for text in ("", "wide", "3cm", "70cm", "nan", "-8cm", "inf", "8 pt"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be single, double or a size"):
            figure_width(text)


def test_an_impossible_size_is_refused_by_the_parser(two, capsys):
    for words in (("--width", "1cm"), ("--font-size", "0")):
        with pytest.raises(SystemExit):
            main([*REPORT, "--plot", "a.png", *words])
        assert "must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "results/b", "/x/y/c.npz"], ["a", "b", "c.npz"]),
        (["/x/one/a", "/x/two/a"], ["a (one)", "a (two)"]),
        (["/one/run/a", "/two/run/a"], ["a (one)", "a (two)"]),
        (["a", "results/a"], ["a", "a (results)"]),
        (["a at last", "a at image"], ["a at last", "a at image"]),
    ],
)
def test_runs_are_shown_by_names_that_differ(typed, names):
    assert list(display_names(typed).values()) == names
