"""`vsp probe --erase`: erasers of each training set, and results beside those of the plain probe."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.stored_runs import LIGHT, rows, run_of
from rich.console import Console

from vsp import probes
from vsp.evaluation.erased_layer import ErasedLayerFitter
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings, setting_name
from vsp.evaluation.probe_work import prepare
from vsp.evaluation.work_of_layer import layer_fitter
from vsp.probes.base import Task
from vsp.reporting.probe_report import report_json, report_page

QUICK = ProbeSettings(**{**LIGHT, "strengths": (0.01, 1.0), "repeats": 1})
LEACE = replace(QUICK, erase="leace")


def rendered(page):
    console = Console(file=io.StringIO(), width=100, highlight=False)
    console.print(page)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("erased"), "one", rows(n_rows=120, signal=1.5))


@pytest.fixture(scope="module")
def results(run):
    return {
        one.erase: probe_run(run, one, n_jobs=1)
        for one in (QUICK, LEACE, replace(QUICK, erase="random"))
    }


def test_an_erased_probe_stands_beside_the_plain_one(results):
    names = {one.setting.replace("logistic", "") for one in results.values()}
    assert len(names) == 3 and any("erase-leace" in one for one in names)
    assert all((one.folder / "summary.json").is_file() for one in results.values())
    assert results["leace"].summary()["settings"]["erase"] == "leace"


def test_leace_leaves_chance_on_training_rows_and_random_subspaces_leave_the_label(results):
    _, plain = results[""].read()
    _, scores = results["leace"].read()
    for before, one in zip(plain[1:], scores[1:], strict=True):
        erasure = one.erasure
        assert erasure["rank"] == 3 and erasure["train"] <= erasure["train_chance"] + 1e-9
        assert before.score > 0.5 > one.score
        assert erasure["random"] > 0.4 + one.score - before.chance
        assert erasure["random_low"] <= erasure["random"] <= erasure["random_high"]
    assert plain[0].erasure is None


def test_a_random_erasure_leaves_about_what_other_random_ones_leave(results):
    _, scores = results["random"].read()
    one = scores[-1]
    assert one.erasure["rank"] == 3 and one.erasure["train"] > one.erasure["train_chance"] + 0.2
    assert one.erasure["random_low"] - 0.15 < one.score < one.erasure["random_high"] + 0.15


def test_an_eraser_is_fitted_on_the_training_rows_of_its_fit_alone(run):
    """Other labels and states of the other rows change no prediction of the unchanged ones."""
    fitter = layer_fitter(run.store, 2, prepare(run, LEACE, False))
    assert isinstance(fitter, ErasedLayerFitter)
    design, y = fitter.tasks.design, fitter.tasks.y
    outer = design.outer[0]
    train, kept, changed = design.train_sets[outer.train_set], outer.test[:10], outer.test[10:]
    task = Task(y, train, (0.01,))
    (before,) = fitter._fit([task])
    states, labels = np.array(fitter.states, np.float64), y.copy()
    states[changed] *= -7
    labels[changed] = (labels[changed] + 1) % 4
    other = ErasedLayerFitter(states, fitter.probe, replace(fitter.tasks, y=labels), fitter.erasure)
    (after,) = other._fit([Task(labels, train, (0.01,))])
    for rows_ in (kept, np.flatnonzero(train)):
        np.testing.assert_allclose(after.scores[..., rows_], before.scores[..., rows_], atol=1e-6)


def test_a_saved_probe_of_erased_states_predicts_what_the_results_hold(run, results):
    arrays = results["leace"].arrays("predictions")
    states = run.store.layer(2)
    for fold, probe in enumerate(probes.load_folds(results["leace"].folder, 2)):
        test = arrays["outer"][0] == fold
        said = np.argmax(probe.scores(states[arrays["rows"][test]]), axis=1)
        np.testing.assert_array_equal(said, arrays["predicted"][2, 0, test])


def test_the_report_says_what_was_erased(results):
    assert report_json(results["leace"])["layers"][2]["erasure"]["rank"] == 3
    page = " ".join(rendered(report_page(results["leace"])).split())
    assert "LEACE, 3 dimensions in layer" in page and "chance there is" in page
    assert "rand.: mean accuracy after the erasure of random subspaces" in page
    plain = rendered(report_page(results[""]))
    assert "LEACE" not in plain and "rand." not in plain


def test_settings_without_erasure_keep_their_name():
    assert setting_name(ProbeSettings(drop_labels=("above",))) == "logistic-without-above-4709caf6"
    erased = setting_name(replace(ProbeSettings(), erase="inlp", erase_rank=4))
    assert erased == "logistic-erase-inlp-rank-4"
