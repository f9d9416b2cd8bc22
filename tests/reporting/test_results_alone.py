"""Every page of results works from a copy of results/RUN, without the run and its dataset."""

import os
import shutil
import subprocess
import sys

import pytest

from vsp.storage.stored_settings import choose_setting

QUICK = ("--folds", 2, "--repeats", 1, "--permutations", 2, "--controls", 1, "--resamples", 60)
PREDICT = """
import numpy as np, vsp.probes
probe = vsp.probes.load("results/first", 1)
states = np.random.default_rng(0).normal(size=(5, probe.coef_.shape[1]))
print(*probe.predict(states), *map(float, probe.predict_proba(states).ravel()))
"""
PAGES = {
    "report": ("-m", "vsp", "report", "--run", "first"),
    "report --json": ("-m", "vsp", "report", "--json", "--run", "results/first"),
    "report --plot": ("-m", "vsp", "report", "--run", "first", "--plot", "curve.svg"),
    "compare": ("-m", "vsp", "compare", "first", "results/second"),
    "compare --json": ("-m", "vsp", "compare", "first", "second", "--json"),
    "load": ("-c", PREDICT),
}


def _answer(folder, *arguments):
    """The output of a new Python process that runs in `folder`."""
    command = [sys.executable, *map(str, arguments)]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _pages(folder):
    pages = {name: _answer(folder, *arguments) for name, arguments in PAGES.items()}
    return {**pages, "curve": (folder / "curve.svg").read_text()}


@pytest.fixture
def away(plan_fake, work, tmp_path_factory):
    """A folder that holds only copies of the results of two runs, and the pages before the copy."""
    for i, name in enumerate(("first", "second")):
        plan_fake(name=name, options={"n_layers": 3, "hidden_size": 8, "gain": i + 1.0})
        _answer(work, "-m", "vsp", "extract", "--workers", 0)
        _answer(work, "-m", "vsp", "probe", *QUICK)
    before = _pages(work)
    folder = tmp_path_factory.mktemp("laptop")
    for name in ("first", "second"):
        shutil.copytree(work / "results" / name, folder / "results" / name)
    for name in ("scratch", "results"):
        shutil.rmtree(work / name)
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
    newest = _answer(folder, "-m", "vsp", "report")
    assert newest == _answer(folder, "-m", "vsp", "report", "--run", "second") != before["report"]
    assert not (folder / "scratch").exists()
