"""Classes of the user as probes: `--probe file.py:Class`, `--probe package.module:Class`."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.probe_run import probe_part, probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.trained_probes import read_trained
from vsp.extraction.extract import extract
from vsp.probes import load
from vsp.probes.own_code import absolute_name, code_version, read_options
from vsp.storage.find_results import find_results

LIGHT = ["--permutations", "0", "--controls", "0", "--resamples", "50", "--no-random", "--no-words"]
QUICK = ProbeSettings(
    permutations=0, controls=0, resamples=50, curve=False, random=False, words=False, folds=3,
)  # fmt: skip

NEAREST = '''
import numpy as np

class Nearest:
    """A class with fit and predict and nothing else."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, x, y):
        self.means = np.array([x[y == one].mean(axis=0) for one in np.unique(y)])

    def predict(self, x):
        apart = np.abs(x[:, None] - self.means) ** self.power
        return apart.sum(axis=2).argmin(axis=1)
'''
LINEAR = """
from sklearn.linear_model import LogisticRegression, Ridge

class Mine(LogisticRegression):
    pass

def penalised(alpha=1.0):
    return Ridge(alpha=alpha)
"""


def _settings(probe, work, *options, **changes):
    name = absolute_name(probe, work)
    return replace(
        QUICK, probe=name, probe_options=read_options(options), probe_code=code_version(name),
        **changes,
    )  # fmt: skip


@pytest.fixture
def run(plan_fake):
    """A run with four labels and a dataset split."""
    planned = plan_fake(options={"n_layers": 3}, name="r")
    extract(planned, planned.shards)
    return planned


@pytest.fixture
def own_run(plan_fake, write_dataset):
    """Make a run of given labels and states [layer, row, hidden]; two rows a group."""

    def make(label, states, name="r"):
        records = [
            {"id": str(i), "image_filename": "all.png", "label": str(one), "group": f"g{i // 2}",
             "prompt": "?"}
            for i, one in enumerate(label)
        ]  # fmt: skip
        options = {"n_layers": len(states), "hidden_size": states.shape[-1]}
        planned = plan_fake(write_dataset(records, name), options=options, name=name)
        extract(planned, planned.shards)
        np.load(planned.store.path, mmap_mode="r+")[:, : len(label)] = states
        return planned

    return make


def _tested(results):
    arrays = results.arrays("predictions")
    test = arrays["outer"][0] >= 0
    return arrays, ~test, test


def test_a_class_of_scikit_learn_is_a_probe_with_no_line_of_code(run, vsp):
    answer = vsp("probe", "--probe", "sklearn.neighbors:KNeighborsClassifier", "--probe-option",
                 "n_neighbors=3", *LIGHT, "--no-curve", "--n-jobs", "1")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    results = find_results("r", run.folder.parents[1], "last")
    arrays, train, test = _tested(results)
    labels = np.array([one.label for one in run.all_samples()])
    for layer in range(3):
        states = run.store.layer(layer).astype(float)
        plain = KNeighborsClassifier(n_neighbors=3).fit(states[train], labels[train])
        said = arrays["classes"][arrays["predicted"][layer, 0, test]]
        assert (said == plain.predict(states[test])).all()
        share = arrays["probability"][layer, 0, test]
        assert np.allclose(share, plain.predict_proba(states[test]), atol=1e-6)
    page = vsp("report", "--run", "r").stdout
    assert "KNeighborsClassifier(n_neighbors=3)" in page and "not saved" in page


def test_a_class_with_fit_and_predict_alone_is_a_probe_in_worker_processes(run, vsp, work):
    (work / "own.py").write_text(NEAREST)
    answer = vsp("probe", "--probe", "own.py:Nearest", "--probe-option", "power=2", *LIGHT,
                 "--no-curve", "--n-jobs", "2")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    arrays, train, test = _tested(find_results("r", work, "last"))
    namespace = {}
    exec(NEAREST, namespace)
    states, plain = run.store.layer(2).astype(float), namespace["Nearest"](power=2)
    plain.fit(states[train], np.unique(arrays["label"][train], return_inverse=True)[1])
    assert (arrays["predicted"][2, 0, test] == plain.predict(states[test])).all()
    assert "probability" not in arrays  # the class has none
    assert str(work) not in vsp("report", "--run", "r").stdout


def test_a_linear_class_is_saved_as_arrays_and_evaluated_without_its_code(run, work, vsp):
    (work / "own.py").write_text(LINEAR)
    settings = _settings("own.py:Mine", work, "C=0.1", "max_iter=500", treatment="standardize")
    results = probe_run(run, settings, 1)
    (work / "own.py").unlink()
    arrays, train, test = _tested(results)
    saved = load(results.folder, 1)
    states = run.store.layer(1)
    assert (saved.predict(states[test]) == arrays["classes"][arrays["predicted"][1, 0, test]]).all()
    assert np.allclose(
        saved.predict_proba(states[test]), arrays["probability"][1, 0, test], atol=1e-5
    )
    treated = saved.treatment_.apply(states)
    plain = LogisticRegression(C=0.1, max_iter=500).fit(treated[train], arrays["label"][train])
    assert np.allclose(saved.predict_proba(states), plain.predict_proba(treated), atol=1e-5)
    answer = vsp("evaluate", "r", "--on", "r")
    assert answer.returncode == 0 and "own.py:Mine" in answer.stdout, answer.stderr


def test_a_class_that_is_not_linear_says_not_saved_wherever_a_saved_probe_is_needed(run, work, vsp):
    settings = _settings("sklearn.neighbors:KNeighborsClassifier", work)
    results = probe_run(run, settings, 1)
    assert results.summary()["probe"]["not_saved"] == [0, 1, 2]
    with pytest.raises(
        ProbeError, match=r"probe of layer 1 is not saved: .*KNeighbors.* has no coef_"
    ):
        load(results.folder, 1)
    with pytest.raises(RunError, match=r"not saved.*run `vsp probe` with a class that has them"):
        read_trained("r", results)
    answer = vsp("evaluate", "r", "--on", "r")
    assert answer.returncode == 1 and len(answer.stderr.splitlines()) == 1


def test_weights_that_do_not_give_the_predictions_are_not_saved(run, work):
    (work / "own.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "class Odd(LogisticRegression):\n"
        "    def fit(self, x, y):\n"
        "        return super().fit(abs(x), y)\n"
        "    def predict_proba(self, x): return super().predict_proba(abs(x))\n"
        "    def predict(self, x): return super().predict(abs(x))\n"
    )
    results = probe_run(run, _settings("own.py:Odd", work), 1)
    assert results.summary()["probe"]["not_saved"] == [0, 1, 2]


def test_numbers_are_read_by_a_regressor_that_a_function_makes(own_run, work):
    rng = np.random.default_rng(0)
    states = rng.standard_normal((2, 80, 5)).astype(np.float32)
    y = states[1] @ rng.standard_normal(5) + 0.1 * rng.standard_normal(80)
    run = own_run(y.round(4), states)
    (work / "own.py").write_text(LINEAR)
    results = probe_run(run, _settings("own.py:penalised", work, "alpha=0.1", repeats=1), 1)
    summary, scores = results.read()
    assert summary["statistic"] == "R²" and scores[1].score > 0.9 > scores[0].score
    saved = load(results.folder, 1)
    assert saved.predict(states[1]) == pytest.approx(y, abs=0.5)


def test_a_tuned_threshold_is_kept_by_accuracy_and_left_out_by_auc(own_run, work):
    rng = np.random.default_rng(1)
    y = np.arange(120) // 2 % 2
    states = rng.standard_normal((2, 120, 4)).astype(np.float32)
    states[0, :, 0] += y
    run = own_run(y, states)
    (work / "own.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "class Never(LogisticRegression):\n"
        "    def predict(self, x): return 0 * super().predict(x)\n"
    )
    found = {}
    for metric in ("accuracy", "auc"):
        results = probe_run(run, _settings("own.py:Never", work, metric=metric, repeats=1), 1)
        found[metric] = results.arrays("predictions"), results.read()[1][0]
    arrays, score = found["accuracy"]
    assert score.score == 0.5 and (arrays["predicted"] == 0).all()
    assert found["auc"][1].score > 0.65  # ranks rows as the class does


def test_the_seed_is_that_of_the_command_and_an_option_of_ones_own_goes_first(run, work):
    (work / "own.py").write_text(
        "from sklearn.dummy import DummyClassifier\n"
        "class Random(DummyClassifier):\n"
        "    def __init__(self, random_state=None):\n"
        "        super().__init__(strategy='uniform', random_state=random_state)\n"
    )

    def said(seed, *options):
        settings = _settings("own.py:Random", work, *options, seed=seed)
        shutil.rmtree(run.folder / "probe", ignore_errors=True)  # fit again
        return probe_run(run, settings, 1).arrays("predictions")["predicted"]

    assert (said(1) == said(1)).all() and (said(1) != said(2)).any()
    assert (said(1, "random_state=5") == said(2, "random_state=5")).all()


@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_an_error_of_the_class_names_layer_fold_class_and_error_after_its_traceback(
    run, work, vsp, n_jobs
):
    (work / "own.py").write_text(
        NEAREST.replace("self.means =", "assert len(x) != 77, 'too\\n many'\n        self.means =")
    )
    answer = vsp("probe", "--probe", "own.py:Nearest", *LIGHT, "--n-jobs", n_jobs)
    *trace, line = answer.stderr.splitlines()
    assert answer.returncode == 1
    assert re.fullmatch(
        r"vsp: layer \d, training rows, own.py:Nearest: fit raised AssertionError: too many", line
    )
    assert any("own.py" in one and "in fit" in one for one in trace)
    assert (
        "  Traceback (most recent call last):" in trace and "_RemoteTraceback" not in answer.stderr
    )


def test_small_portions_that_a_class_refuses_leave_a_gap_in_the_curve_and_are_said(run, work, vsp):
    answer = vsp("probe", "--probe", "sklearn.neighbors:KNeighborsClassifier", "--probe-option",
                 "n_neighbors=9", *LIGHT, "--n-jobs", "1")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "small portions of the training rows raised an error" in answer.stderr
    results = find_results("r", work, "last")
    curve = results.arrays("estimates")["curve"]
    assert np.isnan(curve[:, :, 0]).all() and np.isfinite(curve[:, :, -1]).all()
    _, scores = results.read()
    assert all(one.code_bits > 0 for one in scores)
    assert "Expected n_neighbors <= n_samples_fit" in " ".join(vsp("report").stdout.split())


def test_fits_that_warn_about_convergence_are_counted(run, work):
    settings = _settings("sklearn.linear_model:LogisticRegression", work, "max_iter=1")
    summary = probe_run(run, settings, 1).summary()
    assert summary["n_uncertified"] == summary["n_fits"] > 0
    settings = _settings(
        "sklearn.linear_model:LogisticRegression", work, "max_iter=2000", "tol=1e-3"
    )
    assert probe_run(run, settings, 1).summary()["n_uncertified"] == 0


def test_changed_code_is_fitted_again_and_other_spellings_of_a_file_are_the_same(run, work, caplog):
    caplog.set_level("INFO", "vsp")
    (work / "own.py").write_text(NEAREST)
    first = _settings("own.py:Nearest", work)
    probe_part(run, first, 1, (0, 1))
    for name in ("./own.py:Nearest", f"{work}/own.py:Nearest", f"../{work.name}/own.py:Nearest"):
        assert _settings(name, work) == first
    caplog.clear()
    probe_part(run, first, 1, (0, 1))
    assert "3 of 3 layers were fitted before" in caplog.text
    (work / "copy").mkdir()
    (work / "copy" / "own.py").write_text(NEAREST)
    probe_part(run, _settings("copy/own.py:Nearest", work), 1, (0, 1))  # the same code elsewhere
    assert caplog.text.count("were fitted before") == 2
    (work / "own.py").write_text(NEAREST + "\n# changed\n")
    caplog.clear()
    from vsp.probes import own_code

    own_code._load.cache_clear()  # as in a new process
    changed = _settings("own.py:Nearest", work)
    assert changed != first and changed.probe == first.probe
    probe_part(run, changed, 1, (0, 1))
    assert "fitted before" not in caplog.text and "fits: " in caplog.text


_REFUSED = [
    (["none.py:Kind"], "no file .*none.py"),
    (["own.py"], "own.py: name a class, as own.py:Class"),
    (["own.py:Neerest"], "no Neerest; did you mean Nearest"),
    (["own.py:NUMBER"], "NUMBER is not a class"),
    (["own.py:Bare"], "Bare: has no fit and no predict"),
    (["own.py:Nearest", "pwer=2"], "no such option; did you mean power"),
    (["own.py:Needs"], "needs --probe-option width=VALUE"),
    (["broken.py:Kind"], r"broken.py:Kind: cannot be loaded \(ZeroDivisionError: "),
    (["sklearn.neighbours:KNeighborsClassifier"], "did you mean neighbors"),
    (["sklearn.neighbors:KNeighbors"], "did you mean .*KNeighborsClassifier"),
    (["no_such_package.x:Kind"], "no module no_such_package; install its package"),
    (["sklearn.cluster:KMeans"], "KMeans: is clusterer, not a classifier or regressor"),
    (["sklearn.svm:SVC", "C"], "use NAME=VALUE"),
    (["sklearn.svm:SVC", "C=1", "C=2"], "C: is given twice"),
    (["sklearn.svm:SVC", "C=2020-01-01"], "'2020-01-01' is not a number"),
    (["logistic", "width=3"], "probe logistic of vsp has none"),
]


def test_what_cannot_be_used_is_one_line(run, work, vsp):
    (work / "own.py").write_text(
        NEAREST + "NUMBER = 3\nclass Bare: pass\nclass Needs(Nearest):\n"
        "    def __init__(self, width): pass\n"
    )
    (work / "broken.py").write_text("1 / 0\n")
    for words, message in _REFUSED:
        options = [word for option in words[1:] for word in ("--probe-option", option)]
        answer = vsp("probe", "--probe", words[0], *options, *LIGHT)
        assert answer.returncode == 1 and "_load" not in answer.stderr
        assert re.search(message, answer.stderr.splitlines()[-1]), answer.stderr
        assert answer.stderr.count("vsp: ") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": (1.0,)}, "no strength to choose; leave out --grid"),
        ({"tolerance": 0.1}, "no --tolerance; use --probe-option tol=0.1"),
        ({"max_iter": 9}, "no --max-iter; use --probe-option max_iter=9"),
        ({"class_weight": "balanced"}, "no class weights"),
        ({"metric": "log-loss"}, "no probabilities"),
    ],
)  # fmt: skip
def test_settings_that_a_class_does_not_have_are_refused(run, work, options, message):
    (work / "own.py").write_text(NEAREST)
    with pytest.raises(ProbeError, match=message):
        probe_run(run, _settings("own.py:Nearest", work, **options), 1)


def test_numbers_in_options_are_numbers_as_people_write_them():
    options = read_options(["a=1e-3", "b=[64, 1E2]", "c=true", "d=null", "e=text", "f=0.5"])
    assert dict(options) == {
        "a": 1e-3,
        "b": [64, 100.0],
        "c": True,
        "d": None,
        "e": "text",
        "f": 0.5,
    }
    assert json.dumps(options)


def test_class_weights_reach_a_class_that_has_them(own_run, work):
    rng = np.random.default_rng(0)
    y = (np.arange(160) // 2 % 10 == 0).astype(int)
    states = rng.standard_normal((2, 160, 4)).astype(np.float32)
    states[0, :, 0] += y
    run = own_run(y, states)
    for options, wanted in (((), "balanced"), (("class_weight=balanced",), "balanced")):
        settings = _settings("sklearn.linear_model:LogisticRegression", work, *options, repeats=1)
        summary, scores = probe_run(run, settings, 1).read()
        assert summary["probe"]["parameters"]["weighting"] == wanted
        assert scores[0].recall["1"] > 0.5
    with pytest.raises(ProbeError, match="say the same; leave out one"):
        changed = _settings("sklearn.svm:SVC", work, "class_weight=balanced", class_weight="none")
        probe_run(run, changed, 1)


def test_only_the_class_that_is_named_is_loaded(work):
    (work / "own.py").write_text(NEAREST)
    (work / "other.py").write_text("raise SystemExit('loaded')\n")
    assert code_version(absolute_name("own.py:Nearest", work)).startswith("sha256:")
    with pytest.raises(ConfigError, match="SystemExit: loaded"):
        code_version(absolute_name("other.py:Nearest", work))
