"""The count of fits that `vsp probe` prints before it starts, and the time that it estimates."""

import re
import time
from dataclasses import replace

import pytest

from vsp.evaluation.fit_costs import FitCosts, count_fits, format_costs, measure_speed
from vsp.evaluation.parallel_fits import fit_layer, read_cached
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probe_work import prepare
from vsp.evaluation.work_of_layer import counted_fitter, layer_fitter
from vsp.extraction.extract import extract
from vsp.probes.own_code import absolute_name, code_version

FEW = ProbeSettings(permutations=3, controls=2, resamples=50, folds=3, repeats=1)
MANY = FitCosts(1, 10**12, 10**12)  # so many fits that whole pieces are timed
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
        (3, {"probe": "sklearn", "max_iter": 5, "permutations": 1, "controls": 0, "strengths": (1.0,),
             "curve": False, "random": False}),
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
    costs, _ = measured_costs(work_of_run, [0, 1], 1)
    speed = measure_speed(layer_fitter(work_of_run.store, 0, work_of_run), MANY, 2, 1)
    seconds = speed.seconds(costs, 2)
    start = time.perf_counter()
    probe_run(run, settings, 1)
    took = time.perf_counter() - start
    assert costs.n_fits == _announced(caplog) == _done(run, settings)
    assert 0.5 < seconds / took < 1.5


COUNTED = """
import numpy as np

class Counted:
    def fit(self, x, y):
        with open("fits", "a") as file:
            file.write("fit\\n")

    def predict(self, x):
        return np.zeros(len(x), int)
"""


def test_of_a_short_programme_one_fit_is_timed(made_run, work, vsp):
    (work / "own.py").write_text(COUNTED)
    made_run(2)
    words = ("--probe", "own.py:Counted", "--no-curve", "--permutations", "5", "--n-jobs", "1")
    assert "less than 10 s" in vsp("probe", *words, "--dry-run").stdout
    assert len((work / "fits").read_text().splitlines()) == 1


@pytest.mark.parametrize("probe", ["lda", "logistic", "mass-mean"])
def test_the_estimate_of_a_long_programme_counts_the_work_that_fits_share(made_run, probe):
    run = made_run(4)
    of_run = prepare(run, replace(FEW, probe=probe, permutations=40, curve=False), False)
    costs = count_fits(counted_fitter(0, of_run))
    ratios = []
    for _ in range(3):  # other programs may slow down either part
        speed = measure_speed(layer_fitter(of_run.store, 0, of_run), MANY, 1, 1)
        start = time.perf_counter()
        fit_layer(of_run.store, 0, of_run)
        ratios.append(speed.seconds(costs, 1) / (time.perf_counter() - start))
        if 0.5 < ratios[-1] < 2:
            break
    assert not speed.at_most and 0.5 < ratios[-1] < 2, ratios


def test_what_is_timed_takes_a_small_share_of_the_programme(made_run):
    run = made_run(4)
    of_run = prepare(run, replace(FEW, probe="logistic", permutations=40), False)
    fitter = layer_fitter(of_run.store, 0, of_run)
    measure_speed(fitter, count_fits(counted_fitter(0, of_run)), 1, 1)  # libraries are loaded
    few = FitCosts(1, 10_000, 10_000)
    seconds, bounds = [], []
    for costs in (few, MANY):
        start = time.perf_counter()
        bounds.append(measure_speed(fitter, costs, 1, 1).at_most)
        seconds.append(time.perf_counter() - start)
    assert bounds == [True, False] and seconds[0] < seconds[1]


def test_a_dry_run_prints_the_count_and_fits_nothing(made_run, vsp):
    run = made_run(2)
    few = ["--permutations", "3", "--controls", "2", "--resamples", "50", "--n-jobs", "1"]
    answer = vsp("probe", *few, "--dry-run")
    assert answer.returncode == 0 and not (run.folder / "probe").exists()
    assert not run.results.exists()
    line = answer.stdout.strip()
    found = re.fullmatch(r"(fits: [\d,]+); (less than 10|at most about \d+) s on 1 worker", line)
    assert f"{found[1]}; " in vsp("probe", *few).stderr
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


def test_an_upper_bound_is_said_to_be_one():
    costs = FitCosts(1540)
    assert (
        format_costs(costs, 1080, 2, at_most=True)
        == "fits: 1,540; at most about 9 min on 2 workers"
    )
    assert format_costs(costs, 4, 1, at_most=True) == "fits: 1,540; less than 10 s on 1 worker"
