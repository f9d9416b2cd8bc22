import io
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from helpers import made
from PIL import Image
from rich.console import Console

from vsp.errors import ConfigError, RunError
from vsp.reporting.curve_plot import plot
from vsp.reporting.probe_report import report_json, report_page
from vsp.storage.stored_settings import choose_setting


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made.made(tmp_path_factory.mktemp("report") / "small")


def _printed(renderable, width=80, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    console.print(renderable)
    return console.file.getvalue()


def _report(results):
    """The report as text of 80 columns, and as one line without breaks."""
    text = _printed(report_page(results))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    return text, " ".join(text.split())


def _changed(folder, change, **summary):
    """The report of results with every score changed by a function."""
    rows = made.predictions(made.accuracies(13))
    scores = [change(score) for score in made.scores(rows)]
    return _report(made.made(folder / "changed", rows, scores, **summary))


def _of_peak(folder, **changes):
    """Results whose peak has other figures."""
    rows = made.predictions(made.accuracies(13))
    scores = made.scores(rows)
    return made.made(folder, rows, scores, peak={**made.peak(scores[8], True), **changes})


def _layer_lines(text):
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer ") and "%" in line)
    return lines[start + 1 : start + 14]


def test_a_row_for_each_layer_with_its_figures_in_80_columns(results):
    text, _ = _report(results)
    for score, line in zip(results.read()[1], _layer_lines(text), strict=True):
        interval = [f"[{score.low:.3f},", f"{score.high:.3f}]"]
        selectivity = score.controls["names"]["selectivity"]["difference"]
        figures = [selectivity, score.p_corrected, score.p_within_corrected]
        shown = [
            str(score.layer),
            f"{score.score:.3f}",
            *interval,
            *(f"{one:.3f}" for one in figures),
        ]
        assert line.split()[:7] == shown
        assert line.endswith(" ←") == (score.layer == 8)
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 70, 79, 80, 120, 200])
def test_no_number_is_cut_at_any_width(results, tmp_path, width):
    numbers = made.made(tmp_path / "numbers", made.numbers())
    for one in (results, numbers):
        text = _printed(report_page(one), width)
        assert max(map(len, text.splitlines())) <= width and "…" not in text
        for score, line in zip(one.read()[1], _layer_lines(text), strict=True):
            figures = [str(score.layer), f"{score.score:.3f}", f"{score.p_corrected:.3f}"]
            assert set(figures) < set(line.split()) and f"{score.high:.3f}]" in line
            assert line.rstrip().endswith("←") == (score.layer == one.summary()["best_layer"])


def test_a_bar_shows_score_interval_and_chance(tmp_path):
    def change(score):
        return replace(score, score=0.5, low=0.25 + score.layer / 52, high=0.75, chance=0.1)

    text, _ = _changed(tmp_path, change, chance=0.1)
    bars = [line.split("]")[1].split()[3] for line in _layer_lines(text)]
    assert all(len(bar) == 22 and bar[2] == "│" and bar.count("│") == 1 for bar in bars)
    assert bars[0] == "██│███" + "▒" * 10 + "·" * 6 and bars[12] == "██│████████▒▒▒▒▒······"


def test_the_head_says_what_was_done(results):
    _, line = _report(results)
    for words in (
        "model llava15 (llava-hf/llava-1.5-7b-hf), quantization none",
        "240 planned: 240 done, 0 failed, 0 missing",
        "5 folds by group, 2 times; 192 training rows, 48 test rows",
        "logistic, treatment center, one-vs-rest, C selected on training rows from "
        "0.001 0.01 0.1 1",
        "fits 8,060, relative duality gap at most 7e-09",
    ):
        assert words in line


def test_the_peak_is_said_with_the_estimate_of_rows_that_did_not_choose_it(results):
    peak, (_, line) = results.summary()["peak"], _report(results)
    figures = f"{peak['estimate']:.3f} [{peak['low']:.3f}, {peak['high']:.3f}]"
    assert (
        f"peak Layer selected on training rows: 8 in 9 of 10 splits (7 in 1), test accuracy "
        f"{figures}. Highest of any layer: {peak['naive']:.3f} (optimistic)."
    ) in line


def test_one_split_that_chose_is_one_split(tmp_path):
    changed = {"estimate": 0.5, "low": None, "high": None, "layers": {8: 1}, "naive": 0.6}
    _, line = _report(_of_peak(tmp_path / "a", **changed))
    assert (
        "peak Layer selected on training rows: 8, test accuracy 0.500 –. Highest of any layer: 0.600"
    ) in line


def test_fits_that_are_not_exact_are_counted(tmp_path):
    _, line = _report(made.made(tmp_path / "a", n_uncertified=3, max_gap=0.02))
    assert "3 of 8,060 did not reach a relative duality gap of 1e-06; the largest is 0.02" in line
    _, line = _report(made.made(tmp_path / "b", n_uncertified=3, max_gap=None))
    assert "3 of 8,060 stopped before convergence peak" in line


def test_baselines_that_are_there_are_shown(tmp_path):
    baselines = {"majority": {"score": 0.25, "low": None, "high": None}, "words alone": None}
    text, _ = _report(made.made(tmp_path / "a", baselines=baselines))
    lines = text.splitlines()
    start = lines.index(next(line for line in lines if line.startswith("baseline")))
    assert lines[start + 1].split() == ["majority", "0.250", "–"] and not lines[start + 2].strip()
    text, _ = _report(made.made(tmp_path / "b"))
    assert "words alone          0.310  [0.270, 0.350]" in text


def test_classes_have_recall_precision_and_confusion(results):
    text, _ = _report(results)
    peak = results.summary()["peak"]
    for i, name in enumerate(made.NAMES):
        recall = peak["recall"][name]
        shares = [f"{recall['score']:.3f}", f"[{recall['low']:.3f},", f"{recall['high']:.3f}]"]
        counts = [str(n) if n else "·" for n in peak["confusion"][i]]
        row = [str(i + 1), name, *shares, f"{peak['precision'][name]:.3f}", *counts]
        assert row in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("n_classes", "n_rows", "shown"),
    [(7, 123, True), (8, 123, True), (9, 123, False), (5, 45678, True), (6, 45678, False),
     (300, 1, False)],
)  # fmt: skip
def test_many_classes_with_long_names_stay_in_80_columns(tmp_path, n_classes, n_rows, shown):
    names = [f"[b]class {i} " + "long " * 9 for i in range(n_classes)]

    shares = np.linspace(0, 1, n_classes).tolist()
    recall = [{"score": share, "low": share, "high": share, "n": 9} for share in shares]
    results = _of_peak(
        tmp_path / "a",
        recall=dict(zip(names, recall, strict=True)),
        precision=dict.fromkeys(names, 0.5),
        confusion=np.full((n_classes, n_classes), n_rows).tolist(),
    )
    text, line = _report(results)
    assert "[b]class 4" in text and ("→5" in text) == shown
    assert (f" {n_rows} {n_rows} " in text) == shown
    assert (
        f"The confusion matrix of {n_classes} classes is in `vsp report --json`." in line
    ) != shown
    assert ("Shown: the 20 of 300 classes with the lowest recall." in line) == (n_classes == 300)
    assert "[b]class 20" not in text


def test_a_wide_terminal_has_room_for_a_wide_confusion_matrix(tmp_path):
    names = [f"class {i}" for i in range(20)]

    recall = {name: {"score": 0.5, "low": 0.4, "high": 0.6, "n": 9} for name in names}
    shares = dict.fromkeys(names, 0.5)
    results = _of_peak(tmp_path / "a", recall=recall, precision=shares, confusion=[[123] * 20] * 20)
    for width, shown in ((80, False), (127, False), (128, True), (200, True)):
        text = _printed(report_page(results), width)
        assert ("→20" in text) == shown and max(map(len, text.splitlines())) <= width


def test_a_code_longer_than_the_uniform_one_is_said_to_be(tmp_path):
    _, line = _changed(tmp_path, lambda score: replace(score, code_bits=400.0, compression=0.8))
    assert "400 ± 3 bits (online code" in line
    assert "1.25 times longer than the uniform code; control task: 1.04 times longer" in line
    assert "choice among 13 layers adds 3.7 bits" in line


def test_calibration_code_length_curve_and_strengths_of_the_best_layer(results):
    _, line = _report(results)
    best = results.read()[1][8]
    for words in (
        f"balanced accuracy {best.balanced_accuracy:.3f}, macro F1 {best.macro_f1:.3f}",
        "ECE 0.040; calibrated probabilities would give 0.030 (95 %: up to 0.050). Brier 0.200",
        f"{best.code_bits:.0f} ± 3 bits (online code",
        f"{best.compression:.2f} times shorter than the uniform code",
        f"learning curve 0.456 with 20 training rows, 0.558 with 40, {best.score:.3f} with 96",
        "C 0.01 in the saved probe; selected in splits: 0.01 in 10",
        f"over layer 0 {best.score - 0.26:+.3f} [",
        "over words +0.557 [0.497, 0.617]",
        "Not clearly different from layer 7: -0.027 [",
        "2000 bootstrap resamples of 120 groups",
    ):
        assert words in line


def test_layers_that_could_be_as_good_as_the_best_are_named(tmp_path):
    def change(score):
        high = 0.0 if score.layer in (3, 4, 9) else -0.01
        return replace(score, below_best={"difference": -0.02, "low": -0.04, "high": high})

    _, line = _changed(tmp_path / "a", change)
    assert "Not clearly different from layers 3–4, 9." in line
    none = {"difference": -0.02, "low": -0.04, "high": -0.01}
    _, line = _changed(tmp_path / "b", lambda score: replace(score, below_best=none))
    assert "All other layers score clearly lower on the same rows." in line
    _, line = _changed(tmp_path / "c", lambda score: replace(score, below_best=None))
    assert "other layers" not in line and "other layer" not in line


def test_what_was_switched_off_is_left_out(tmp_path):
    off = dict.fromkeys(
        ("p", "p_corrected", "p_within", "p_within_corrected", "code_bits", "code_error", "compression",
         "control_compression", "low", "high", "over_embedding", "below_best", "ece", "brier",
         "strength", "max_gap", "capacity")
    )  # fmt: skip
    peak = made.peak(made.scores(made.predictions(made.accuracies(13)))[8], True)
    none = dict.fromkeys(("over_chance", "over_words", "over_embedding"))
    text, _ = _changed(
        tmp_path,
        lambda score: replace(score, **off, curve=[], strengths=[], by_strength={}, controls={}),
        n_permutations=0,
        n_movable=None,
        peak={**peak, **none, "controls": {}},
        max_gap=None,
        baselines={},
    )
    for word in ("select ", "p corr", "p word", "code", "over ", "curve", "gap"):
        assert word not in text
    assert _layer_lines(text)[0].split()[:3] == ["0", "0.250", "–"]
    plot(choose_setting(tmp_path / "changed" / "logistic"), tmp_path / "a.png")


def test_a_number_has_its_r2_and_its_error(tmp_path):
    results = made.made(tmp_path / "a", made.numbers())
    text, line = _report(results)
    for score, shown in zip(results.read()[1], _layer_lines(text), strict=True):
        assert shown.split()[:2] == [str(score.layer), f"{score.score:.3f}"]
        assert f"{score.rmse:#.3g}" in shown
    assert "layer     R²" in text and "RMSE" in text and "recall" not in text
    assert "always predicting the mean of the training rows" in line
    assert "ridge, treatment center, alpha selected on training rows" in line
    plot(results, tmp_path / "a.svg")
    assert ">R²<" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_movable": 12}, "labels of 12 of 240 rows can be permuted"),
        ({"n_movable": 119}, "labels of 119 of 240 rows"),
        ({"n_movable": 120}, None),
        ({"n_movable": 12, "n_permutations": 0}, None),
    ],
)
def test_a_permutation_test_that_moves_few_rows_is_said(tmp_path, changes, words):
    text, line = _report(made.made(tmp_path / "a", **changes))
    assert (words or "") in line and ("! labels of" in text) == (words is not None)


def test_the_default_metric_and_class_weights_are_said(tmp_path):
    card = made.made(tmp_path / "a").summary()["probe"] | {
        "parameters": {"class_weight": "balanced"}
    }
    rare = {"statistic": "balanced accuracy", "settings": {"metric": "auto"}, "probe": card}
    _, line = _report(made.made(tmp_path / "b", **rare))
    assert "one-vs-rest, class weights balanced, C selected" in line
    assert "balanced accuracy, because a label has less than half" in line
    _, line = _report(made.made(tmp_path / "c", **{**rare, "settings": {"metric": "balanced"}}))
    assert "because a label has less than half" not in line


def test_chance_of_the_log_loss_is_that_of_the_label_frequencies(tmp_path):
    _, line = _report(made.made(tmp_path / "a", statistic="D² of log loss", chance=0.0))
    assert "always predicting the label frequencies of the training rows" in line


def test_choices_at_an_end_of_the_grid_are_counted(tmp_path):
    _, line = _changed(tmp_path, lambda score: replace(score, at_edge=score.layer % 2))
    assert (
        "! C is at an end of the grid in 6 of 120 choices, where its last step still improved the "
        "inner score; a wider grid may score higher: `vsp probe --run"
    ) in line
    assert " --grid 0.0001 0.001 0.01 0.1 1 10`" in line
    text, _ = _changed(tmp_path / "a", lambda score: replace(score, at_edge=int(not score.layer)))
    assert "!" not in text  # of layer 0


def test_the_advised_grid_is_one_of_this_run_and_setting(tmp_path):
    settings = {"probe": "ridge", "position": "subject", "metric": "auc"}
    _, line = _changed(tmp_path, lambda score: replace(score, at_edge=1), settings=settings)
    named = "--run changed --probe ridge --position subject --metric auc"
    assert f"`vsp probe {named} --grid 0.0001 0.001 0.01 0.1 1 10`" in line


@pytest.mark.parametrize(
    ("whys", "line"),
    [
        ({"gone": 3}, "failed rows: 3 × gone"),
        ({"[/b]": 3, "rare": 1}, "failed rows: 3 × [/b]; 1 × rare"),
        (
            {"gone": 3, "rare": 1, "strange": 1},
            "failed rows: 3 × gone; 1 × rare; 1 for other reasons (`vsp report --json` lists all)",
        ),
    ],
)
def test_the_report_tells_why_rows_failed(tmp_path, whys, line):
    n_failed = sum(whys.values())
    rows = {"planned": 240, "done": 230, "failed": n_failed, "missing": 10 - n_failed}
    rows |= {"used": 230, "train": 230, "test": 230}
    results = made.made(tmp_path / "a", rows=rows, failed_reasons=whys)
    _, text = _report(results)
    assert f"! {line}" in text and "! 10 failed or missing rows were left out" in text
    assert report_json(results)["failed_reasons"] == whys


def test_without_anything_to_warn_of_there_is_no_warning(results):
    text, _ = _report(results)
    assert "!" not in text and "failed rows" not in text


def test_colors_are_for_terminals(results):
    assert "\x1b[1;32m" in _printed(
        report_page(results), force_terminal=True, color_system="standard"
    )


def test_json_holds_every_figure(results):
    values = json.loads(json.dumps(report_json(results), allow_nan=False))
    assert values["layers"] == [asdict(score) for score in results.read()[1]]
    summary = results.summary()
    assert {key: values[key] for key in summary} == summary and summary["peak"]["layers"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_plot_is_drawn_and_drawn_the_same_again(results, tmp_path, suffix):
    path = tmp_path / f"new folder/accuracy{suffix}"
    plot(results, path)
    first = path.read_bytes()
    plot(results, path)
    assert path.read_bytes() == first
    if suffix == ".png":
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 500 and (pixels != 255).any(axis=2).mean() > 0.01
        return
    text = first.decode()
    for words in (
        *("accuracy", "95% interval", "control tasks", "chance: 0.250", "words alone: 0.310"),
        *("corrected p &lt; 0.05", "corrected p ≥ 0.05", "layer (0 = embedding output)"),
        "layer selected on training rows: 0.859",
    ):
        assert words in text


def test_a_plot_of_layers_that_all_pass_has_no_mark_for_those_that_do_not(tmp_path):
    rows = made.predictions(made.accuracies(13))
    scores = [replace(score, p_corrected=0.01) for score in made.scores(rows)]
    plot(made.made(tmp_path / "a", rows, scores), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "corrected p &lt; 0.05" in text and "corrected p ≥ 0.05" not in text


def test_another_kind_of_plot_is_refused(results, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown suffix '\.gif'; use \.png, \.svg or \.pdf"):
        plot(results, tmp_path / "a.gif")


def test_results_that_were_changed_are_refused_by_table_json_and_plot(results, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(results.folder, folder)
    path = folder / "scores.jsonl"
    path.write_text(path.read_text().replace('"score": 0', '"score": 1', 1))
    for show in (report_page, report_json, lambda changed: plot(changed, tmp_path / "a.png")):
        with pytest.raises(RunError, match=r"scores\.jsonl: .*run `vsp probe --run .*` again"):
            show(choose_setting(folder))
    assert not (tmp_path / "a.png").exists()
