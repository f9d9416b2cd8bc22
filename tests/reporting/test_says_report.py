"""Runs with answers, from the store to the report: the prior, the lens, the rows, the plot."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import made
from rich.console import Console

from vsp import models
from vsp.cli.main import main
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.reporting.answer_rows import answered_rows, rows_page
from vsp.reporting.curve_plot import plot
from vsp.reporting.probe_report import report_page
from vsp.reporting.says_facts import says_sentence
from vsp.storage.stored_settings import choose_setting
from vsp.utils.files import json_sha256

FEW = ProbeSettings(
    permutations=0,
    controls=0,
    resamples=50,
    curve=False,
    random=False,
    words=False,
    strengths=(0.01, 1.0),
)


def _score(value, half=0.05):
    return {"score": value, "low": value - half, "high": value + half}


def _says(own=0.61, probe=0.83, **changes):
    """Invented figures of the answers of results that `helpers.made` writes."""
    figures = {
        "says": _score(own), "knows": _score(probe), "difference": made.interval(probe - own),
    }  # fmt: skip
    values = {
        "score": "total", "statistic": "accuracy", "n_rows": 238, "n_no_label": 2, "n_ties": 1,
        "prior": "no run of the same dataset with blank pictures is at hand",
        "scores": {"total": _score(own), "per-token": _score(0.5), "per-character": _score(0.4),
                   "corrected": None},
        "figures": {"accuracy": figures},
        "recall": {name: {"says": {**_score(own), "n": 60}, "knows": None} for name in made.NAMES},
        "table": {"both": 130.0, "only_knows": 67.5, "only_says": 15.0, "neither": 25.5},
        "test": {"p": 0.0005, "n_flips": 1999, "p_rows": 1e-9},
        "agreement": {"share": _score(0.6), "kappa": 0.45},
    }  # fmt: skip
    return {**values, **changes}


def _made(folder, says=None, lens=False, **arrays):
    rows = made.predictions(made.accuracies(13))
    scores = made.scores(rows)
    if lens:
        scores = [replace(score, lens=_score(0.3 + score.layer / 40)) for score in scores]
    return made.made(folder, {**rows, **arrays}, scores, says=says or _says(), no_answers="")


def _text(results, width=80, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(report_page(results, **options))
    return console.file.getvalue()


def _line(text):
    return " ".join(text.split())


def _answers(n_no_label=0):
    """Arrays of the answers of the rows of `made`: every third row is known and not said."""
    rows = made.predictions(made.accuracies(13))
    label = np.searchsorted(rows["classes"], rows["label"])
    says_right = np.arange(len(label)) % 3 > 0
    answer = np.where(says_right, label, (label + 1) % 4)
    margin = np.where(says_right, 1.0, -1.0 - np.arange(len(label)) / 100).astype(np.float32)
    margin[:n_no_label] = np.nan
    peak = np.broadcast_to(label, rows["outer"].shape).copy()
    peak[1, :30] = (label[:30] + 1) % 4  # right in one of two repeats only
    return {"peak": peak, "answer": answer, "answer_names": rows["classes"],
            "answer_scores": np.zeros((len(label), 4), np.float32), "answer_margin": margin}  # fmt: skip


@pytest.mark.parametrize(
    ("own", "probe", "verdict"),
    [
        (0.61, 0.93, "the model does not say all that a probe reads."),
        (0.93, 0.61, "the model says more than a probe reads."),
        (0.61, 0.63, "no clear difference."),
    ],
)
def test_the_sentence_says_which_of_both_is_higher(own, probe, verdict):
    sentence = says_sentence({"says": _says(own, probe)})
    assert sentence.startswith(f"Says {own:.3f} [") and f"knows {probe:.3f} [" in sentence
    assert sentence.endswith(verdict)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_page_shows_both_with_the_lens_at_any_width(tmp_path, width):
    results = _made(tmp_path / "a", lens=True)
    text = _text(results, width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert all(f" {score.lens['score']:.3f} " in text for score in results.read()[1])
    for words in (
        "Says 0.610 [0.560, 0.660], knows 0.830 [0.780, 0.880]",
        "knows minus says: +0.220 [0.160, 0.280]",
        "p = 0.0005 (sign flips of groups); p = 1e-09 if rows were independent",
        "probe right 130 67.5 probe wrong 15 25.5",
        "2 of 240 test rows: their label is none of their options",
        "not corrected: no run of the same dataset with blank pictures",
        "lens: accuracy of answers that are read from the layer",
    ):
        assert words in _line(text)


def test_a_lens_that_was_not_read_is_said(tmp_path):
    results = _made(tmp_path / "a", _says(no_lens="run b with blank pictures stores no lens"))
    assert "no lens: run b with blank pictures stores no lens." in _line(_text(results))


def test_results_without_answers_show_no_answers(tmp_path):
    old = made.made(tmp_path / "old")
    path = old.folder / "summary.json"
    values = json.loads(path.read_text())
    digests = values.pop("sha256")
    del digests["summary.json"], values["format"]
    for name in ("position", "n_layers", "hidden_size", "says", "no_answers"):
        del values[name]
    sealed = {**digests, "summary.json": json_sha256([values, digests])}
    path.write_text(json.dumps({"format": 4, **values, "sha256": sealed}))
    assert "own answers" not in _text(old) and old.read()[1][0].lens is None
    assert (old.read()[0]["position"], old.read()[0]["n_layers"]) == ("last", 13)
    path.write_text(json.dumps({"format": 3, **values, "sha256": sealed}))
    with pytest.raises(RunError, match="is not of this version of vsp"):
        old.read()
    path.write_text(json.dumps({"format": 4, **values, "sha256": sealed}))
    why = made.made(tmp_path / "why", says=None, no_answers="the run stores none")
    assert "No answers of the model: the run stores none." in _line(_text(why))
    with pytest.raises(ConfigError, match="holds no answers of the model: they are of an older"):
        answered_rows(old, "all")


@pytest.mark.parametrize("changed", [{"score": "loudest"}, {"scores": {}}, {"statistic": "R²"},
                                     {"figures": {}}, {"table": {"both": 1.0}}])  # fmt: skip
def test_a_summary_with_other_figures_is_refused(tmp_path, changed):
    with pytest.raises(RunError, match="does not hold what vsp writes"):
        _made(tmp_path / "a", _says(**changed)).read()


def test_rows_are_listed_by_what_probe_and_model_say(tmp_path):
    results = _made(tmp_path / "a", **_answers(n_no_label=40))
    unsaid = answered_rows(results, "knows-not-says")
    expected = [i for i in range(40, 240) if i % 3 == 0]
    assert {row.id for row in unsaid} == {f"sample_{i:05d}" for i in expected}
    assert [row.margin for row in unsaid] == sorted(row.margin for row in unsaid)
    assert all(row.answer != row.label and row.n_right == row.n_tested == 2 for row in unsaid)
    everything = answered_rows(_made(tmp_path / "b", **_answers()), "all")
    assert len(everything) == 240
    reverse = answered_rows(_made(tmp_path / "b", **_answers()), "says-not-knows")
    assert {row.id for row in reverse} == {f"sample_{i:05d}" for i in range(30) if i % 3}
    console = Console(file=io.StringIO(), width=80)
    console.print(*rows_page(unsaid, "knows-not-says"), sep="\n")
    text = console.file.getvalue()
    assert f"wrong: {len(expected)} rows" in text and f"{len(expected) - 40} more rows" in _line(
        text
    )


@pytest.mark.parametrize("name", ["peak", "answer", "answer_names", "answer_margin"])
def test_an_array_of_another_shape_or_beyond_its_names_is_refused(tmp_path, name):
    arrays = _answers()
    arrays[name] = arrays[name][:2] if name != "peak" else arrays[name] + 4
    with pytest.raises(RunError, match="is not what vsp writes"):
        answered_rows(_made(tmp_path / "a", **arrays), "all")


def test_the_plot_has_a_line_for_the_answers_and_a_curve_for_the_lens(tmp_path):
    plot(_made(tmp_path / "a", lens=True), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "own answers): 0.610" in text and "logit lens" in text
    plot(made.made(tmp_path / "old"), tmp_path / "old.svg")
    assert "own answers" not in (tmp_path / "old.svg").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, spatial):
    """A run with answers and lens, and one of the same questions about blank pictures."""
    work = tmp_path_factory.mktemp("says")
    apply_variant(VariantRequest(spatial, "blank", work / "blank"), 1)
    model = models.resolve("fake", options={"n_layers": 2, "hidden_size": 64})
    found = []
    for name, dataset in (("own", spatial), ("blank", work / "blank")):
        request = PlanRequest(dataset, model, n_shards=1, name=name, answers=True, lens=True)
        found.append(plan_run(request, work).run)
    extract(found[0], found[0].shards)
    return found


def test_the_prior_comes_from_the_run_with_blank_pictures_once_it_has_all_rows(runs):
    own, blank = runs
    with pytest.raises(
        ProbeError, match="corrected: run blank with blank pictures lacks 96 of 96 rows"
    ):
        probe_run(own, replace(FEW, answer_score="corrected"), 1)
    extract(blank, blank.shards)
    results = probe_run(own, replace(FEW, answer_score="corrected"), 1)
    says, arrays = results.summary()["says"], results.arrays("predictions")
    first, second = (np.array(run.stores["answers"].layer(0)) for run in runs)
    assert says["prior"] == "blank" and says["score"] == "corrected"
    assert arrays["answer_scores"] == pytest.approx((first - second)[arrays["rows"]], abs=1e-5)
    labels = np.array(own.plan.labels)
    answers = arrays["answer_names"][arrays["answer"]]
    assert (answers == labels[arrays["answer_scores"].argmax(axis=1)]).all()
    corrected = pytest.approx(says["figures"]["accuracy"]["says"])
    assert says["scores"]["corrected"] == results.read()[1][-1].lens == corrected
    assert probe_run(blank, FEW, 1).summary()["says"]["scores"]["corrected"] is None


def test_the_commands_show_answers_and_rows(runs, monkeypatch, capsys):
    own = runs[0]
    monkeypatch.chdir(own.folder.parent.parent)
    probe_run(own, FEW, 1)
    assert main(["report", "--run", "own", "--rows", "says-not-knows"]) == 0
    text = _line(capsys.readouterr().out)
    assert "Says 0." in text and "The model's answer is right and the probe is wrong:" in text
    assert main(["report", "--run", "own", "--json", "--rows", "all"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["says"]["n_rows"] == len(values["listed_rows"]) > 0
    assert set(values["listed_rows"][0]) == {
        "id",
        "label",
        "answer",
        "margin",
        "n_right",
        "n_tested",
    }
    assert choose_setting(own.results).read()[1][0].lens is not None
