"""The command `vsp evaluate`: its page, table, JSON and plots say the same; nothing hostile gets through."""

import csv
import io
import json
import re
import shutil
import warnings

import numpy as np
import pytest
from helpers.commands import run_here
from helpers.stored_runs import NAMES, probed, rows, write_file
from PIL import Image

WORDS = {"left_of": "to the left of", "above": "[bold]up", "below": "below", "right_of": "right"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two probed runs, and a file of other rows with other words for the labels."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        probed(folder, "first", rows())
        probed(folder, "second", {**rows(seed=1, n_rows=160), "split": _split(160)})
        other = rows(seed=2)
        other["label"] = np.array([WORDS[one] for one in other["label"]])
        write_file(folder / "other.npz", other)
    return folder


def _split(n):
    return np.where(np.arange(n) < 0.5 * n, "train", "test")


@pytest.fixture
def evaluate(runs):
    return lambda *words: run_here(("evaluate", *words), runs)


def _json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_page_json_and_csv_have_the_same_figures(evaluate, runs):
    page = evaluate("first", "--on", "second", "--csv", "one.csv")
    assert page.returncode == 0, page.stderr
    (found,) = _json(evaluate("first", "--on", "second", "--json"))
    lines = list(csv.DictReader(io.StringIO((runs / "one.csv").read_text())))
    table = [line.split() for line in page.stdout.splitlines() if re.match(r"\s+\d ", line)]
    assert len(table) == len(lines) == len(found["layers"]) == 3
    for cells, line, figures in zip(table, lines, found["layers"], strict=True):
        shown = [figures[name] for name in ("score", "low", "high", "own")]
        assert cells[0] == line["layer"] == str(figures["layer"])
        assert [one.strip("[,]") for one in cells[1:5]] == [f"{one:.3f}" for one in shown]
        assert cells[5] == f"{figures['difference']:+.3f}"
        for name in ("score", "low", "high", "accuracy", "own", "difference", "difference_low"):
            assert float(line[name]) == figures[name]
        for name in NAMES:
            assert float(line[f"recall of {name}"]) == figures["recall"][name]["score"]
        assert int(line["selected"]) == (figures["layer"] == found["selected"])
    assert f"Layer {found['selected']}, selected on the run's training rows" in page.stdout
    assert f"{found['n_rows']} rows in {found['n_groups']} groups" in page.stdout


def test_several_runs_and_targets_give_a_matrix(evaluate):
    words = ("first", "second", "--on", "first", "second", "--on", "other.npz")
    found = _json(evaluate(*words, "--json"))
    pairs = [(one["trained"], one["target"]) for one in found]
    targets = ["first", "second", "other.npz"]
    assert pairs == [(run, target) for run in ("first", "second") for target in targets]
    by_pair = dict(zip(pairs, found, strict=True))
    assert [by_pair[pair]["n_seen"] for pair in pairs] == [0, 0, 0, 0, 80, 0]
    assert by_pair["first", "first"]["paired"] and not by_pair["first", "second"]["paired"]
    for layer in (None, 1):
        page = evaluate(*words, *(() if layer is None else ("--layer", layer)))
        cells = [
            line.split()[1:]
            for line in page.stdout.splitlines()
            if re.match("(first|second) +0", line)
        ]
        for run, of_run in zip(("first", "second"), cells[:2], strict=True):
            shown = [by_pair[run, target] for target in targets]
            chosen = [one["layers"][one["selected"] if layer is None else layer] for one in shown]
            assert of_run == [f"{one['score']:.3f}" for one in chosen]


def test_words_for_labels_are_those_of_the_relations_tables(evaluate, runs):
    (found,) = _json(evaluate("first", "--on", "other.npz", "--json"))
    assert found["renamed"] == {"to the left of": "left_of", "right": "right_of"}
    assert found["without_class"] == {"[bold]up": 30} and found["without_rows"] == ["above"]
    page = evaluate("first", "--on", "other.npz")
    text = " ".join(page.stdout.split())
    assert "'to the left of' is 'left_of', 'right' is 'right_of'" in text
    assert "left out: 30 rows of labels without a class: '[bold]up' (30)" in text
    assert "classes without a row, to predict them is an error: 'above'" in text
    (runs / "own.yaml").write_text("above: ['[bold]up']\n")
    (found,) = _json(evaluate("first", "--on", "other.npz", "--relations", "own.yaml", "--json"))
    assert found["renamed"] == {"[bold]up": "above"}


def test_plots_name_every_target_and_score(evaluate, runs):
    matrix = ("first", "second", "--on", "first", "second")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for words in (("first", "--on", "second", "other.npz", "--plot", "curves.svg"),
                      (*matrix, "--plot", "matrix.svg"), (*matrix, "--plot", "matrix.png")):  # fmt: skip
            found = evaluate(*words, "--json")
            assert found.returncode == 0, found.stderr
    with Image.open(runs / "matrix.png") as picture:
        assert picture.width > 300
    drawn = (runs / "curves.svg").read_text()
    assert all(name in drawn for name in ("on second", "on other.npz", "trained on first"))
    drawn = (runs / "matrix.svg").read_text()
    for one in _json(found):
        assert f"{one['layers'][one['selected']]['score']:.3f}" in drawn


REFUSED = {
    "none": (("none", "--on", "first"), "none: no such run or results"),
    "no target": (("first", "--on", "none"), "no such run"),
    "layer of one": (("first", "--on", "second", "--layer", "1"), "chooses the layer of a matrix"),
    "layer that is not there": (
        ("first", "--on", "first", "second", "--layer", "7"),
        "layer 7: is not in both first and the target first; common are 0-2",
    ),
    "position": (("first", "--on", "second", "--on-position", "image"), "image"),
    "suffix": (("first", "--on", "second", "--plot", "a.gif"), ".png, .svg or .pdf"),
    "relations": (("first", "--on", "other.npz", "--relations", "no"), "relations 'no'"),
    "curves": (("first", "--on", *map(str, range(8)), "--plot", "a.png"), "at most 7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_said_in_one_line(evaluate, case):
    words, expected = REFUSED[case]
    done = evaluate(*words)
    errors = [line for line in done.stderr.splitlines() if line.startswith("vsp: ")]
    assert done.returncode == 1 and len(errors) == 1 and expected in errors[0]
    assert not done.stdout and ("layers/s" in done.stderr) == (case == "layer that is not there")


def test_hostile_names_and_labels_are_shown_as_text(runs, evaluate):
    other = rows(seed=3)
    other["label"] = np.where(other["label"] == "above", "\x1b[31m[red]$x_{", other["label"])
    name = "a[b]$x_{1}\x1b[2J.npz"
    write_file(runs / name, other)
    for words in ((name,), (name, "first", "--plot", "hostile.svg"), (name, "--json")):
        done = evaluate("first", "--on", *words)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr and "[b]$x_{1}" in done.stdout
    assert "a[b]$x_{1}" in (runs / "hostile.svg").read_text()
    evaluate("first", "--on", name, "--csv", "hostile.csv")
    (row, *_) = csv.DictReader(io.StringIO((runs / "hostile.csv").read_text()))
    assert "x_{1}" in row["target"]


def test_results_alone_suffice(runs, tmp_path):
    """Without the run that was probed; only the target's states are read."""
    shutil.copytree(runs / "results/first", tmp_path / "results/first")
    shutil.copytree(runs / "scratch/second", tmp_path / "scratch/second")
    done = run_here(("evaluate", "first", "--on", "second", "--json"), tmp_path)
    here = run_here(("evaluate", "first", "--on", "second", "--json"), runs)
    assert _json(done) == _json(here)
