"""Every page of results works from a copy of results/RUN, without the run and its dataset."""

import os
import shutil

import numpy as np
import pytest
from helpers.commands import run_here

from vsp import models
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.probes import load
from vsp.storage.stored_settings import choose_setting

QUICK = ProbeSettings(folds=2, repeats=1, permutations=2, controls=1, resamples=60)
PAGES = {
    "report": ("report", "--run", "first"),
    "report --json": ("report", "--json", "--run", "results/first"),
    "report --plot": ("report", "--run", "first", "--plot", "curve.svg"),
    "compare": ("compare", "first", "results/second"),
    "compare --json": ("compare", "first", "second", "--json"),
}


def _answer(folder, *arguments):
    answer = run_here(arguments, folder)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _predicted(folder):
    """The predictions of a saved probe."""
    probe = load(folder / "results/first", 1)
    states = np.random.default_rng(0).normal(size=(5, probe.coef_.shape[1]))
    return [*map(str, probe.predict(states)), *probe.predict_proba(states).ravel().tolist()]


def _pages(folder):
    pages = {name: _answer(folder, *arguments) for name, arguments in PAGES.items()}
    return {**pages, "curve": (folder / "curve.svg").read_text(), "load": _predicted(folder)}


@pytest.fixture(scope="module")
def away(tmp_path_factory, spatial):
    """A folder that holds only copies of the results of two runs, and the pages before the copy."""
    work = tmp_path_factory.mktemp("cluster")
    for i, name in enumerate(("first", "second")):
        options = {"n_layers": 3, "hidden_size": 8, "gain": i + 1.0}
        model = models.resolve("fake", options=options)
        run = plan_run(PlanRequest(spatial, model, name=name), work).run
        extract(run, run.shards)
        probe_run(run, QUICK, 1)
    before = _pages(work)
    folder = tmp_path_factory.mktemp("laptop")
    for name in ("first", "second"):
        shutil.copytree(work / "results" / name, folder / "results" / name)
    shutil.rmtree(work)
    return folder, before


def test_report_comparison_plot_and_probes_need_the_results_alone(away):
    folder, before = away
    assert _pages(folder) == before
    assert "first" in before["report"] and "second" in before["compare"]


def test_the_newest_results_are_reported_where_there_is_no_run(away):
    folder, before = away
    for seconds, name in enumerate(("first", "second")):  # both may be planned in one second
        written = choose_setting(folder / "results" / name).folder / "summary.json"
        os.utime(written, (seconds, seconds))
    newest = _answer(folder, "report")
    assert newest == _answer(folder, "report", "--run", "second") != before["report"]
    assert not (folder / "scratch").exists()
