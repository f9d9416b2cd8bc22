"""The sentence of a report, and the plot of several runs."""

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import hostile, made
from PIL import Image

from vsp.cli.main import main
from vsp.errors import ConfigError
from vsp.escaping import one_line
from vsp.reporting import curve_plot
from vsp.reporting.answer import answer
from vsp.reporting.cautions import cautions
from vsp.reporting.curve_plot import plot, plot_runs
from vsp.reporting.layer_table import layer_notes
from vsp.reporting.peak_facts import peak_fact
from vsp.storage.find_results import find_results


def _answer(folder, p_values, within=None, **summary):
    rows = made.predictions(made.accuracies(len(p_values)))
    scores = [
        replace(score, p_corrected=p, p_within_corrected=q)
        for score, p, q in zip(made.scores(rows), p_values, within or p_values, strict=True)
    ]
    best = max(scores, key=lambda score: score.score)
    summary["peak"] = {**made.peak(best, True), **summary.get("peak", {})}
    return answer(*made.made(folder, rows, scores, **summary).read())


PEAK = {"estimate": 0.87, "low": 0.8, "high": 0.92, "layers": {3: 1}, "naive": 0.9}


CITED = (
    " Cite accuracy 0.870 [0.800, 0.920]: the score on test rows of layer 3, which the training rows "
    "select, for this dataset, prompt and probe; the interval is about other test rows (120 groups)."
)
AT = " at corrected p < 0.05."


@pytest.mark.parametrize(
    ("p_values", "beginning"),
    [
        ([1, 0.2, 0.01, 0.01], "Layers 2–3 beat chance (0.250) and the words alone"),
        ([1, 0.01, 0.06, 0.01], "Layers 1, 3 beat chance (0.250) and the words alone"),
        ([1, 0.05, 0.06, 0.01], "Layer 3 beats chance (0.250) and the words alone"),
        ([0.01] * 4, "Layers 1–3 beat chance (0.250) and the words alone"),
    ],
)
def test_the_layers_above_chance_are_named_with_the_score_to_quote(tmp_path, p_values, beginning):
    said = _answer(tmp_path / "a", p_values, within=[0.01] * 4, peak=PEAK)
    assert said == beginning + AT + CITED


@pytest.mark.parametrize(
    ("within", "words"),
    [
        ([1, 1, 0.01, 0.01], ", layers 2–3 also the words alone,"),
        ([1, 1, 0.05, 0.01], ", layer 3 also the words alone,"),
        ([1, 1, 0.2, 0.05], ", none of them the words alone,"),
    ],
)
def test_layers_that_beat_chance_but_not_the_words_are_said(tmp_path, within, words):
    said = _answer(tmp_path / "a", [1, 0.01, 0.01, 0.01], within=within, peak=PEAK)
    assert said == f"Layers 1–3 beat chance (0.250){words}{AT}{CITED}"


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"difference": 0.25, "low": 0.125, "high": 0.375}, " The selected layer scores +0.250 [0.125, 0.375] over the words alone."),
        (None, " Whether they beat the words alone was not tested."),
    ],
)  # fmt: skip
def test_without_a_test_within_prompts_the_difference_to_the_words_is_said(tmp_path, over, words):
    peak = {**PEAK, "over_words": over}
    said = _answer(tmp_path / "a", [1, 0.01, 0.01, 0.01], within=[None] * 4, peak=peak)
    assert said == f"Layers 1–3 beat chance (0.250){AT}{words}{CITED}"


def test_no_layer_above_chance_is_said_as_plainly(tmp_path):
    said = _answer(tmp_path / "a", [1, 0.2, 0.05, 0.06], peak=PEAK)
    assert said == "No layer beats chance (0.250) at corrected p < 0.05."


@pytest.mark.parametrize("n_permutations", [0, 1, 19])
def test_with_too_few_permutations_nothing_is_claimed(tmp_path, n_permutations):
    smallest = 1 / (n_permutations + 1) if n_permutations else None
    said = _answer(tmp_path / "a", [smallest] * 4, n_permutations=n_permutations, peak=PEAK)
    assert said == (
        "Not tested against chance: p < 0.05 needs 20 permutations, and there are "
        f"{n_permutations}.{CITED}"
    )


def test_a_layer_below_the_most_frequent_label_is_not_above_chance(tmp_path):
    """Its p is small because it differs from permuted labels, which is another question."""
    said = _answer(tmp_path / "a", [0.01] * 4, chance=0.8)
    assert said.startswith("Layer 2 beats chance (0.800) ")
    said = _answer(tmp_path / "c", [0.01] * 4, chance=0.1)
    assert said.startswith("All 4 probed layers beat chance (0.100) ")
    said = _answer(tmp_path / "b", [0.01] * 4, chance=0.99, peak=PEAK)
    assert said == "No layer beats chance (0.990) at corrected p < 0.05."


def test_splits_that_selected_different_layers_are_said(tmp_path):
    peak = {**PEAK, "layers": {2: 3, 3: 7}}
    said = _answer(tmp_path / "a", [1, 1, 0.01, 0.01], peak=peak)
    assert "of the layer that the training rows of each split select" in said
    assert said.endswith("the interval is about other training and test rows (120 groups).")


def test_the_two_numbers_of_the_selected_layer_have_two_names(tmp_path):
    rows = made.predictions(made.accuracies(4))
    scores = made.scores(rows)
    best = max(scores, key=lambda score: score.score)
    for layers, differs in (({2: 3, 3: 7}, True), ({best.layer: 10}, False)):
        peak = {**made.peak(best, True), "estimate": 0.625, "layers": layers}
        results = made.made(tmp_path / str(differs), rows, scores, peak=peak, best_layer=best.layer)
        (note,) = (one for one in layer_notes(*results.read()) if one.startswith("←"))
        assert note.startswith(f"← Layer selected on training data: {best.layer}.")
        assert ("0.625, the figure to cite, takes in each split" in note) == differs


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"8": 9, "7": 1}, "8 in 9 of 10 splits (7 in 1), test"),
        ({"3": 2, "8": 2, "4": 2}, "3–4, 8 in 2 of 6 splits each, test"),
        ({"1": 4, "2": 3, "3": 2, "5": 2, "7": 1}, "1 in 4 of 12 splits (2 in 3, 3, 5 in 2, others less often), test"),
        ({"6": 1}, "Layer selected on training rows: 6, test"),
    ],
)  # fmt: skip
def test_layers_selected_as_often_are_said_together(times, words):
    peak = {"layers": times, "estimate": 0.5, "low": 0.4, "high": 0.6, "naive": 0.6}
    assert words in peak_fact({"peak": peak, "statistic": "accuracy"})


OFF = {"difference": 0.01, "low": -0.02, "high": 0.04}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"over_words": OFF}, "the words alone score about as well as the selected layer"),
        ({"over_embedding": OFF}, "layer 0 scores about as well as the selected layer"),
        ({"over_random": OFF}, "random features score about as well as the selected layer"),
        ({"low": 0.33}, "random features: accuracy 0.330 [0.300, 0.360] reaches the interval"),
    ],
)
def test_a_baseline_as_good_as_the_curve_is_a_caution_at_the_top(tmp_path, changes, words):
    usual = made.made(tmp_path / "usual")
    assert cautions(usual.summary(), None) == []
    peak = {**usual.summary()["peak"], **changes}
    assert "over_random" not in usual.summary()["peak"]  # as in results of an older version
    summary = made.made(tmp_path / "a", peak=peak).summary()
    (said,) = cautions(summary, None)
    assert words in said


def test_a_control_task_that_is_learned_as_well_is_a_caution(tmp_path):
    peak = made.made(tmp_path / "usual").summary()["peak"]
    peak["controls"]["names"]["selectivity"] = OFF
    (said,) = cautions(made.made(tmp_path / "a", peak=peak).summary(), None)
    assert "random labels of control names about as well" in said and "+0.010" in said


@pytest.fixture
def two(work):
    for name, seed in (("first", 0), ("second", 1)):
        made.made(work / "results" / name, made.predictions(made.accuracies(13), seed=seed))
    return work


def test_several_runs_are_drawn_in_one_plot(two, capsys):
    for suffix in ("svg", "png"):
        assert main(["compare", "first", "second", "--plot", f"new/both.{suffix}"]) == 0
        assert f"wrote new/both.{suffix}" in capsys.readouterr().err
        before = (two / f"new/both.{suffix}").read_bytes()
        assert main(["compare", "first", "second", "--plot", f"new/both.{suffix}"]) == 0
        assert (two / f"new/both.{suffix}").read_bytes() == before
    text = (two / "new/both.svg").read_text()
    for words in ("first", "second", "accuracy", "chance: 0.250", "layer (0 = embedding output)"):
        assert f">{words}<" in text.replace("<tspan>", ">")
    assert text.count("chance: ") == 1
    pixels = np.asarray(Image.open(two / "new/both.png").convert("RGB")).reshape(-1, 3)
    shown = set(map(tuple, pixels.tolist()))
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= shown  # a curve of each run


def test_runs_of_different_depth_are_drawn_by_relative_depth(two, tmp_path):
    made.made(two / "results/deep", made.predictions(made.accuracies(25)))
    runs = [(name, find_results(name, two)) for name in ("first", "deep")]
    plot_runs(runs, tmp_path / "a.svg")
    assert (
        "relative depth (0 = embedding output, 1 = last layer)" in (tmp_path / "a.svg").read_text()
    )


def test_names_with_signs_of_mathematics_and_underscores_are_drawn_as_they_are(two, tmp_path):
    one = find_results("first", two)
    plot_runs([("x$_{/a$b", one), ("_hidden", one)], tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "x$_{/a$b" in text and "_hidden" in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot_shows_hostile_names_as_they_are(two, tmp_path, suffix):
    changed = made.plan(
        "first",
        dataset=f"/data/{hostile.NAME}",
        model={"family": "llava15", "checkpoint": f"org/{hostile.NAME}"},
    ).model_dump(mode="json")
    results = made.made(two / "results/hostile", plan=changed)
    plot(results, tmp_path / f"a.{suffix}")
    plot_runs([(hostile.NAME, results), ("_b", results)], tmp_path / f"b.{suffix}")
    if suffix == "svg":
        for name in "ab":
            text = html.unescape((tmp_path / f"{name}.svg").read_text())
            shown = "".join(re.sub(r"<[/!a-z][^>]*>", "", text).split())  # long names are wrapped
            assert "".join(one_line(hostile.NAME).split()) in shown
            assert not hostile.HARMFUL.search(text)


@pytest.mark.parametrize("order", [1, -1])
def test_a_curve_below_zero_is_inside_the_plot_whatever_the_order(two, tmp_path, order):
    rows = made.predictions(made.accuracies(13))
    low = [replace(score, score=-0.6, low=-0.7, high=-0.5) for score in made.scores(rows)]
    made.made(two / "results/low", rows, low)
    runs = [(name, find_results(name, two)) for name in ("first", "low")][::order]
    seen = []

    def remember(axes, *_):
        label(axes, *_)
        seen.append(axes.get_ylim())

    label = curve_plot._label_axes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve_plot, "_label_axes", remember)
        plot_runs(runs, tmp_path / "a.png")
    assert seen[0][0] <= -0.7


def test_more_runs_than_styles_and_other_files_are_refused(two):
    one = find_results("first", two)
    with pytest.raises(ConfigError, match="plot of 8 runs: at most 7 can be told apart"):
        plot_runs([(str(i), one) for i in range(8)], two / "a.png")
    with pytest.raises(ConfigError, match=r"unknown suffix '\.jpg'"):
        plot_runs([("first", one)], two / "a.jpg")
