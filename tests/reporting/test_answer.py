"""The sentence of a report, and the plot of several runs."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import made
from PIL import Image

from vsp.cli.main import main
from vsp.errors import ConfigError
from vsp.reporting.answer import answer
from vsp.reporting.curve_plot import plot_runs


def _answer(folder, p_values, **summary):
    rows = made.predictions(made.accuracies(len(p_values)))
    scores = [
        replace(score, p_corrected=p) for score, p in zip(made.scores(rows), p_values, strict=True)
    ]
    return answer(*made.made(folder, rows, scores, **summary).read())


PEAK = {"estimate": 0.87, "low": 0.8, "high": 0.92, "layers": {3: 1}, "naive": 0.9}


@pytest.mark.parametrize(
    ("p_values", "beginning"),
    [
        ([1, 0.2, 0.01, 0.01], "Layers 2–3 score above chance (0.250) at corrected p < 0.05; "),
        ([1, 0.01, 0.06, 0.01], "Layers 1, 3 score above chance (0.250) at corrected p < 0.05; "),
        ([1, 0.05, 0.06, 0.01], "Layer 3 scores above chance (0.250) at corrected p < 0.05; "),
        ([0.01] * 4, "All layers score above chance (0.250) at corrected p < 0.05; "),
    ],
)
def test_the_layers_above_chance_are_named_with_the_score_to_quote(tmp_path, p_values, beginning):
    said = _answer(tmp_path / "a", p_values, peak=PEAK)
    assert said == (
        beginning
        + "the layer selected on training rows has accuracy 0.870 [0.800, 0.920] on test rows."
    )


def test_no_layer_above_chance_is_said_as_plainly(tmp_path):
    said = _answer(tmp_path / "a", [1, 0.2, 0.05, 0.06], peak=PEAK)
    assert said == "No layer scores above chance (0.250) at corrected p < 0.05."


def test_without_a_permutation_test_nothing_is_claimed(tmp_path):
    assert _answer(tmp_path / "a", [None] * 4) == ""


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


def test_more_runs_than_styles_and_other_files_are_refused(two):
    from vsp.storage.results import find_results

    one = find_results("first", two)
    with pytest.raises(ConfigError, match="plot of 8 runs: at most 7 can be told apart"):
        plot_runs([(str(i), one) for i in range(8)], two / "a.png")
    with pytest.raises(ConfigError, match=r"unknown suffix '\.jpg'"):
        plot_runs([("first", one)], two / "a.jpg")
