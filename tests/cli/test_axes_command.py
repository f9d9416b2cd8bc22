"""`vsp axes` shows, writes and keeps the directions of relations."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from helpers.twin_runs import direction, planted, twin_runs

from vsp.evaluation.axes import relation_axes
from vsp.reporting.axes_page import axes_page
from vsp.utils.terminal import Page

AXES = {
    "left_of": direction(),
    "above": direction(np.pi / 2),
    "in_front_of": direction(np.pi * 0.6),
}


@pytest.fixture
def twins(work):
    """Layer 0 has no axis, layer 1 has all three."""
    return twin_runs(work, planted(AXES, (0.0, 2.0), n_rows=300))


def test_the_page_begins_with_the_answer(vsp, twins):
    done = vsp("axes", "one", "twin")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0 and said.startswith(
        "The states have a direction for left/right in layer 1 (coherence up to 0.8"
    )
    assert ") and in front/behind in layer 1 (up to 0.8" in said
    assert (
        "In layer 1, where both are most coherent, the cosine of above/below and in front/behind is"
        in said
    )
    assert "they are entangled, above goes with in front." in said
    assert "pairs 300 rows in 150 groups" in said
    assert "wrote results/one/axes/twin/last.json" in done.stderr
    again = vsp("axes", "one", "twin")
    assert again.stdout == done.stdout
    assert (
        "note: read from results/one/axes/twin/last.json, which is of the same states"
        in again.stderr
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_figure_is_cut_at_any_width(twins, width):
    axes, _ = relation_axes(*twins)
    plain = StringIO()
    Page(plain, width=width).print(axes_page(axes))
    page = plain.getvalue()
    lines = page.splitlines()
    assert "…" not in page and max(map(len, lines)) <= width
    of_layer = next(line for line in lines if line.split()[:1] == ["1"])
    expected = [f"{value:.3f}*" for value in axes.coherence[1]]
    assert [word for word in of_layer.split() if word.endswith("*")] == expected
    assert ("Not shown at this width" in page) == (width < 120)


def test_json_has_the_answer_and_all_figures(vsp, twins):
    found = json.loads(vsp("axes", "one", "twin", "--json").stdout)
    assert found["answer"].startswith("The states have a direction") and found["entanglement"]
    assert np.shape(found["coherence"]) == (2, 3) and np.shape(found["cosine"]) == (2, 3, 3)
    assert [axis["first"] for axis in found["axes"]] == ["left_of", "above", "in_front_of"]
    assert found["n_rows"] == 300 and found["left_out"] == {} and found["notes"] == []


def test_the_csv_has_each_layer_and_axis_and_each_pair(vsp, twins, work):
    assert vsp("axes", "one", "twin", "--csv", "axes.csv").returncode == 0
    with (work / "axes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (3 + 3)
    found = json.loads(vsp("axes", "one", "twin", "--json").stdout)
    one = next(row for row in rows if (row["layer"], row["axis"]) == ("1", "above/below"))
    assert float(one["value"]) == found["coherence"][1][1] and one["figure"] == "coherence"
    pair = next(row for row in rows if row["layer"] == "1" and row["other_axis"] == "in_front_of/behind"
                and row["axis"] == "above/below")  # fmt: skip
    assert float(pair["value"]) == found["cosine"][1][1][2] and pair["figure"] == "cosine"


def test_both_figures_are_drawn_and_the_tables_written(vsp, twins, work):
    done = vsp("axes", "one", "twin", "--plot", "a.svg", "--latex", "a.tex", "--markdown", "a.md")
    assert done.returncode == 0, done.stderr
    drawn = (work / "a.svg").read_text()
    assert "left/right" in drawn and "coherence" in drawn
    assert "left/right" in (work / "a.tex").read_text()
    assert (
        (work / "a.md")
        .read_text()
        .startswith("| layer | left/right | above/below | in front/behind |")
    )
    done = vsp("axes", "one", "twin", "--plot", "b.svg", "--figure", "cosines", "--layer", "1")
    assert done.returncode == 0, done.stderr
    assert "layer 1: cosine of mean directions" in (work / "b.svg").read_text()


def test_options_that_do_not_go_together_are_refused_before_anything_is_computed(vsp, twins, work):
    for options, said in (
        (("--layer", "1", "--json"), "--layer 1: applies to the page and to --figure cosines"),
        (("--figure", "cosines"), "--figure: needs a figure; add --plot FILE"),
        (("--plot", "a.txt"), "unknown suffix '.txt'"),
    ):
        done = vsp("axes", "one", "twin", *options)
        assert done.returncode == 1 and said in done.stderr
    assert not (work / "results").exists()
    done = vsp("axes", "one", "twin", "--layer", "9")
    assert done.returncode == 1 and "layer 9: is not recorded; choose from 0-1" in done.stderr


def test_runs_that_are_not_twins_are_refused_in_one_line(vsp, twins):
    done = vsp("axes", "one", "one")
    assert (
        done.returncode == 1
        and done.stderr == "vsp: run one: is named twice; name it and its swapped twin\n"
    )
    assert vsp("axes", "one", "missing").returncode == 1


def test_without_any_axis_the_answer_says_so(vsp, work):
    twin_runs(work, planted({"left_of": direction()}, (0.0, 0.0), n_rows=60))
    done = vsp("axes", "one", "twin", "--plot", "a.svg", "--figure", "cosines")
    assert (
        done.returncode == 1 and "needs two axes, and the runs have left/right only" in done.stderr
    )
    said = " ".join(vsp("axes", "one", "twin").stdout.split())
    assert said.startswith(
        "The states have no common direction for left/right at corrected p < 0.05"
    )


def test_a_direction_of_the_exchange_itself_is_noted(vsp, work):
    one, twin = planted({"left_of": direction()}, (0.0,), n_rows=200)
    one["label"] = np.where(np.arange(200) % 10, "left_of", "right_of")
    twin["label"] = np.where(np.arange(200) % 10, "right_of", "left_of")
    one["states"] = one["states"] + 3 * direction()
    twin_runs(work, (one, twin))
    said = " ".join(vsp("axes", "one", "twin").stdout.split())
    assert "Note: left/right (180 left, 20 right): in layer 0, coherence is" in said
    assert "part of the direction is that of the exchange itself, not of the relation." in said
