"""`vsp report … --html FILE`."""

from __future__ import annotations

import json

import pytest
from helpers import made
from helpers.page_results import rich_results


@pytest.fixture
def two_runs(work):
    return [rich_results(work / "results" / name) for name in ("first", "second")]


@pytest.mark.usefixtures("two_runs")
def test_the_page_of_one_run_is_written_beside_the_report(vsp, work):
    answer = vsp("report", "first", "--html", "page.html")
    assert answer.stderr == "wrote page.html\n" and "Layers 3–12 beat chance" in answer.stdout
    assert (work / "page.html").read_text().startswith("<!doctype html>\n")


@pytest.mark.usefixtures("two_runs")
def test_the_page_of_several_runs_has_all_of_them(vsp, work):
    answer = vsp("report", "first", "results/second", "first", "--html", "page.html")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "wrote page.html\n")
    page = (work / "page.html").read_text()
    assert "<title>2 runs: first, second</title>" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["first", "second"],
            "2 runs are named: `vsp report` shows one in the terminal; add --html FILE",
        ),
        (
            ["first", "second", "--html", "x.html", "--json"],
            "--json: needs a single run, and 2 are named",
        ),
        (["first", "--html", "x.png"], "--html x.png: unknown suffix '.png'; use .html"),
        (
            ["first", "--evaluation", "e.json"],
            "--evaluation e.json needs --html",
        ),
        (
            ["first", "--html", "x.html", "--evaluation", "no.json"],
            "--evaluation no.json: cannot be read (no such file or directory)",
        ),
        (["first", "third", "--html", "x.html"], "third: no such run or results"),
    ],
)
@pytest.mark.usefixtures("two_runs")
def test_options_that_do_not_go_together_are_refused(vsp, work, words, message):
    answer = vsp("report", *words)
    assert answer.returncode == 1 and message in answer.stderr
    assert answer.stderr.count("\n") == 1 and not (work / "x.html").exists()


@pytest.mark.usefixtures("two_runs")
def test_two_runs_in_two_ways_are_refused(vsp):
    answer = vsp("report", "first", "--run", "second")
    assert answer.returncode == 2 and "two runs are named: " in answer.stderr


@pytest.mark.usefixtures("two_runs")
def test_evaluations_are_a_matrix_with_names_instead_of_paths(vsp, work):
    figures = {
        "layer": 8, "score": 0.75, "low": 0.7, "high": 0.8, "accuracy": 0.75, "recall": None,
        "own": 0.8, "difference": -0.05, "difference_low": -0.1, "difference_high": 0.0,
    }  # fmt: skip
    transfer = {
        "trained": "/shared/somebody/first", "position": "last", "target": "second",
        "target_position": "last", "probe": "logistic", "statistic": "accuracy", "confidence": 0.95,
        "selected": 8, "chance": 0.25, "n_rows": 240, "n_groups": 120, "n_by_folds": 0,
        "n_pictures_fitted": 0, "n_seen": 0, "n_missing": 0, "renamed": {}, "without_class": {},
        "without_rows": [], "paired": False, "layers": [figures], "without_layer": [], "notes": [],
    }  # fmt: skip
    (work / "e.json").write_text(json.dumps([transfer]))
    answer = vsp("report", "first", "--html", "page.html", "--evaluation", "e.json")
    assert answer.returncode == 0, answer.stderr
    page = (work / "page.html").read_text()
    assert '<section id="transfer"' in page and "0.750 [0.700, 0.800]" in page
    assert "somebody" not in page
    (work / "e.json").write_text("[{}]")
    answer = vsp("report", "first", "--html", "page.html", "--evaluation", "e.json")
    assert (
        "--evaluation e.json: is not the output of `vsp evaluate --json`; make it with"
        in answer.stderr
    )


def test_a_damaged_file_of_axes_is_named_on_the_page_and_by_the_commands_that_write_it(
    vsp, work, two_runs
):
    path = work / "results/second/axes/twin/last.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    said = "results/second/axes/twin/last.json: is not JSON"
    answer = vsp("report", "first", "second", "--html", "page.html")
    first, second = answer.stderr.splitlines()
    assert first == "wrote page.html" and second.startswith(f"note: the page leaves out {said}")
    assert f"Left out: {said}" in (work / "page.html").read_text()
    answer = vsp("report", "second", "--save")
    assert f"note: the page leaves out {said}" in answer.stderr
    assert f"Left out: {said}" in (two_runs[1].folder / "report.html").read_text()


def test_a_report_without_html_reads_no_bundle(work, monkeypatch, vsp):
    made.made(work / "results" / "small")
    opened = []

    def hook(event, arguments):
        if event == "open" and "/vsp/web/" in str(arguments[0]):
            opened.append(arguments[0])

    import sys

    sys.addaudithook(hook)
    assert vsp("report", "small").returncode == 0
    assert opened == []
