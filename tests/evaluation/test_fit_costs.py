"""The count of fits that `vsp probe` prints before it starts, and the time that it estimates."""

import re
import time
from dataclasses import replace

import pytest

from vsp.evaluation.fit_costs import FitCosts, format_costs
from vsp.evaluation.parallel_fits import read_cached
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probe_work import prepare
from vsp.extraction.extract import extract
from vsp.probes.own_code import absolute_name, code_version

FEW = ProbeSettings(permutations=3, controls=2, resamples=50, folds=3, repeats=1)
SLOW = '''
import time
import numpy as np

class Slow:
    """Takes 20 ms for a fit of 96 rows, and predicts the first label."""

    def fit(self, x, y):
        time.sleep(0.02 * len(x) / 96)

    def predict(self, x):
        return np.zeros(len(x), int)
'''


@pytest.fixture
def made_run(plan_fake, write_dataset):
    """Make a run of 2 layers, 48 groups of 2 rows, with a number of labels, or numbers."""

    def make(n_classes, split=False):
        n = 96
        y = [f"{i // 2 % n_classes}" if n_classes else f"{i // 2 * 0.7:.2f}" for i in range(n)]
        records = [
            {"id": str(i), "image_filename": "all.png", "label": y[i], "group": f"g{i // 2}",
             "prompt": f"{'ab'[i // 4 % 2]} cup?", "subject": "abcd"[i // 3 % 4], "reference": "cup",
             **({"split": "test" if i // 2 % 4 == 0 else "train"} if split else {})}
            for i in range(n)
        ]  # fmt: skip
        run = plan_fake(write_dataset(records, "own"), name="own", options={"n_layers": 2})
        extract(run, run.shards)
        return run

    return make


def _announced(caplog):
    (line,) = [one for one in caplog.messages if one.startswith("fits: ")]
    return int(re.match(r"fits: ([\d,]+); .+ on \d+ workers?$", line)[1].replace(",", ""))


def _done(run, settings):
    """Fits of all layers and baselines, as their files count them."""
    work = prepare(run, settings, False)
    return sum(
        len(read_cached(work.cache, one)["gap"])
        for one in (*range(run.store.layout.n_layers), *work.baselines)
    )


@pytest.mark.parametrize(
    ("n_classes", "changes"),
    [
        (4, {}),
        (2, {"repeats": 2, "curve": False}),
        (3, {"strengths": (0.1, 1.0), "metric": "balanced"}),
        (3, {"probe": "multinomial", "strengths": (0.1, 1.0)}),
        (3, {"probe": "sklearn", "max_iter": 5, "permutations": 1, "controls": 0, "strengths": (1.0,)}),
        (3, {"probe": "centroid", "over_training": True, "split": True}),
        (3, {"probe": "logistic", "over_training": True, "split": True, "permutations": 0,
             "strengths": (0.1, 1.0)}),
        (0, {"probe": "ridge"}),
        (3, {"probe": "sklearn.naive_bayes:GaussianNB", "random": False}),
    ],
)  # fmt: skip
def test_the_count_that_is_printed_is_that_of_the_fits_done(
    made_run, caplog, tmp_path, n_classes, changes
):
    caplog.set_level("INFO", "vsp")
    run = made_run(n_classes, changes.pop("split", False))
    if ":" in changes.get("probe", ""):
        changes["probe_code"] = code_version(absolute_name(changes["probe"], tmp_path))
    settings = replace(FEW, **changes)
    summary = probe_run(run, settings, 1).summary()
    assert _announced(caplog) == _done(run, settings) >= summary["n_fits"] > 0


def test_layers_that_are_fitted_already_are_not_counted(made_run, caplog):
    caplog.set_level("INFO", "vsp")
    run, settings = made_run(2), replace(FEW, curve=False, words=False, random=False)
    probe_run(run, settings, 1, layers=[0])
    n_one = _announced(caplog)
    caplog.clear()
    probe_run(run, settings, 1)
    assert _announced(caplog) == n_one
    caplog.clear()
    probe_run(run, settings, 1)
    assert "fits: " not in caplog.text


def test_the_estimate_of_a_slow_class_is_near_the_time_it_takes(
    made_run, caplog, work, monkeypatch
):
    caplog.set_level("INFO", "vsp")
    (work / "own.py").write_text(SLOW)
    name = absolute_name("own.py:Slow", work)
    settings = replace(
        FEW, probe=name, probe_code=code_version(name), permutations=8, curve=False, words=False,
        random=False,
    )  # fmt: skip
    run = made_run(2)
    from vsp.evaluation.parallel_fits import measured_costs

    work_of_run = prepare(run, settings, False)
    costs, seconds = measured_costs(work_of_run, [0, 1])
    start = time.perf_counter()
    probe_run(run, settings, 1)
    took = time.perf_counter() - start
    assert costs.n_fits == _announced(caplog) == _done(run, settings)
    assert 0.5 < seconds / took < 1.5


def test_a_dry_run_prints_the_count_and_fits_nothing(made_run, vsp):
    run = made_run(2)
    few = ["--permutations", "3", "--controls", "2", "--resamples", "50", "--n-jobs", "1"]
    answer = vsp("probe", *few, "--dry-run")
    assert answer.returncode == 0 and not (run.folder / "probe").exists()
    assert not run.results.exists()
    line = answer.stdout.strip()
    assert re.fullmatch(r"fits: [\d,]+; less than 10 s on 1 worker", line)
    assert line in vsp("probe", *few).stderr
    assert vsp("probe", *few, "--dry-run").stdout == "fits: 0; all layers were fitted before\n"


@pytest.mark.parametrize(
    ("seconds", "n_jobs", "words"),
    [
        (1080, 2, "fits: 1,540; about 9 min on 2 workers"),
        (4, 1, "fits: 1,540; less than 10 s on 1 worker"),
        (123, 4, "fits: 1,540; about 31 s on 4 workers"),
        (7 * 3600, 1, "fits: 1,540; about 7 h on 1 worker"),
        (30 * 86400, 3, "fits: 1,540; about 10 days on 3 workers"),
    ],
)  # fmt: skip
def test_a_time_has_one_unit(seconds, n_jobs, words):
    assert format_costs(FitCosts(1540), seconds, n_jobs) == words
