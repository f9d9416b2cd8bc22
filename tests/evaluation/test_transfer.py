"""`vsp evaluate`: saved probes judged on other states, never on rows that they were fitted on."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import transfer_simulation
from helpers import stored_runs
from helpers.stored_runs import NAMES, rows, run_of, write_file

from vsp.datasets.relations import parse_relations
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.judged_rows import JudgedRows
from vsp.evaluation.judges import FINAL, NONE
from vsp.evaluation.matched_labels import match_labels
from vsp.evaluation.target_states import open_target
from vsp.evaluation.trained_probes import read_trained
from vsp.evaluation.transfer import TransferSettings, transfer
from vsp.extraction.extract import extract
from vsp.probes import load
from vsp.probes.links import probabilities

QUICK = TransferSettings(resamples=100)


def _evaluate(work, results, target, metric="", settings=QUICK, tables=(), **options):
    trained = read_trained(results.name, results, metric)
    return transfer(trained, open_target(target, work, **options), lambda: tables, settings)


def probed(work, name, of_rows, **settings):
    """Import and probe the rows; the logistic probe has two strengths, so that tests are fast."""
    grid = {} if "probe" in settings else {"strengths": (0.01, 1.0)}
    return stored_runs.probed(work, name, of_rows, **{**grid, **settings})


def _with_split(of_rows, test=0.3):
    """The rows with a split of the dataset, by group: the last ones are test rows."""
    is_test = np.arange(len(of_rows["id"])) >= (1 - test) * len(of_rows["id"])
    return {**of_rows, "split": np.where(is_test, "test", "train")}


def _digests(images):
    return np.array([hashlib.sha256(str(image).encode()).hexdigest() for image in images])


# A run on its own rows.

OWN = {
    "folds": ({}, {}),
    "more repeats": ({"repeats": 3}, {}),
    "split": ({}, {"split": True}),
    "three splits": ({}, {"split": True, "val": True}),
    "balanced": ({"metric": "balanced", "repeats": 1}, {}),
    "auc": ({"metric": "auc", "repeats": 1}, {}),
    "log loss": (
        {"metric": "log-loss", "probe": "multinomial", "strengths": (0.01, 1.0)},
        {"split": True},
    ),
    "names held out": ({"split_by": "names", "repeats": 1}, {"named": True, "n_rows": 240}),
    "mass-mean": ({"probe": "mass-mean"}, {}),
    "mlp": ({"probe": "mlp", "repeats": 1, "strengths": (0.1,)}, {"n_layers": 1}),
    "number": ({"probe": "ridge"}, {"numbers": True}),
    "number, split": ({"probe": "ridge"}, {"numbers": True, "split": True}),
    "standardized": ({"treatment": "standardize"}, {"split": True}),
}


@pytest.mark.parametrize("case", OWN)
def test_a_run_on_itself_gives_its_predictions_and_scores(work, case):
    settings, changes = OWN[case]
    of_rows = rows(changes.get("n_rows", 120), n_layers=changes.get("n_layers", 3))
    if changes.get("numbers"):
        noise = np.random.default_rng(0).normal(size=120)
        of_rows["label"] = (of_rows["states"][2, :, 0] + noise).round(3).astype(str)
    if "named" in changes:
        codes = np.random.default_rng(0).integers(30, size=(2, 240)).astype(str)
        of_rows["subject"], of_rows["reference"] = np.char.add([["s"], ["r"]], codes)
    of_rows = _with_split(of_rows) if "split" in changes else of_rows
    if "val" in changes:
        of_rows["split"][:24] = "val"
    results = probed(work, "a", of_rows, **settings)
    found = _evaluate(work, results, "a")
    _, scores = results.read()
    # Iterative fits end within a tolerance, which only losses of probabilities and numbers show.
    near = 1e-12 if found.statistic in ("accuracy", "balanced accuracy") else 1e-4
    for figures, score in zip(found.layers, scores, strict=True):
        assert figures.score == pytest.approx(score.score, abs=near)
        assert figures.own == pytest.approx(score.score, abs=1e-6)
        assert figures.difference == pytest.approx(0, abs=near)
        assert found.paired == (found.statistic in ("accuracy", "balanced accuracy", "AUC"))
        if score.recall is not None:
            assert figures.accuracy == pytest.approx(score.accuracy, abs=1e-12)
    assert found.selected == results.summary()["best_layer"]
    _check_predictions(work, results)


def _check_predictions(work, results):
    """Every prediction is that of predictions.npz, and every probability of the same strength."""
    trained, target = read_trained("a", results), open_target("a", work)
    arrays = results.arrays("predictions")
    estimates = results.arrays("estimates", ("chosen", "likeliest"))
    judge = trained.fitted.judges(target.identity)
    tested = np.flatnonzero((judge != NONE).any(axis=0))
    assert np.array_equal(judge != NONE, arrays["outer"] >= 0)
    if judge.max() > FINAL:
        assert np.array_equal(np.maximum(judge, FINAL), arrays["outer"])
    judged = JudgedRows(trained, target, tested, trained.y[tested], judge[:, tested])
    for k, layer in enumerate(arrays["layers"].tolist()):
        scores = judged.scores(layer, layer)
        said = arrays["predicted"][k][:, tested]
        if trained.classes:
            known = judge[:, tested] != NONE
            assert np.array_equal(judged.predicted(scores)[known], said[known])
        else:
            assert judged.predicted(scores) == pytest.approx(said, rel=1e-5, abs=1e-5)
        if "probability" in arrays:
            same = estimates["chosen"][k] == estimates["likeliest"][k]
            for i in np.flatnonzero(same):  # the saved probes have the strength `chosen`
                one, of_split = judged.design.outer[i], scores[i]
                share = probabilities(of_split, trained.link, axis=0).T
                kept = arrays["probability"][k][one.repeat, tested[one.test]]
                assert share == pytest.approx(kept, abs=1e-3)


def test_positions_are_those_that_were_asked_for(plan_fake, work):
    from vsp.evaluation.probe_run import probe_run
    from vsp.evaluation.probe_settings import ProbeSettings

    run = plan_fake(positions=("last", "image"))
    extract(run, run.shards)
    quick = ProbeSettings(
        permutations=0,
        controls=0,
        curve=False,
        random=False,
        words=False,
        resamples=100,
        folds=3,
        strengths=(0.01, 1.0),
    )
    results = {name: probe_run(run, replace(quick, position=name), 1) for name in ("last", "image")}
    for name, of_position in results.items():
        own = _evaluate(work, of_position, run.name, position=name)
        assert [one.score for one in own.layers] == pytest.approx(
            [one.score for one in of_position.read()[1]]
        )
    other = _evaluate(work, results["last"], run.name, position="image")
    assert (other.position, other.target_position) == ("last", "image")
    assert [one.score for one in other.layers] != [
        one.score for one in _evaluate(work, results["last"], run.name).layers
    ]


# Rows that a probe was fitted on never count.


def _memorised(**changes):
    """Rows whose states tell nothing of the label, but have room to learn each row by heart."""
    return rows(n_rows=60, n_layers=1, hidden_size=150, signal=0.0, **changes)


@pytest.mark.parametrize("split", [False, True])
def test_a_variant_of_the_rows_is_at_chance_where_the_rows_are(work, split):
    of_rows = _memorised()
    of_rows = _with_split(of_rows, test=0.5) if split else of_rows
    results = probed(work, "a", of_rows)
    variant = {**of_rows, "states": of_rows["states"] * 1.01}
    run_of(work, "other", variant)
    found = _evaluate(work, results, "other")
    assert found.n_rows == (30 if split else 60) and found.n_seen == (30 if split else 0)
    assert found.n_by_folds == (0 if split else 60)
    assert found.layers[0].score < 0.5 and found.paired


def test_a_row_with_another_id_about_a_fitted_picture_does_not_count(work):
    of_rows = _with_split(_memorised(), test=0.5)
    of_rows["image_sha256"] = _digests(of_rows["group"])
    results = probed(work, "a", of_rows)
    asked_again = {
        **of_rows,
        "id": np.char.add("again", of_rows["id"]),
        "group": np.char.add("again", of_rows["group"]),
    }
    run_of(work, "again", {k: v for k, v in asked_again.items() if k != "image"})
    found = _evaluate(work, results, "again")
    assert (found.n_rows, found.n_seen) == (30, 30) and found.layers[0].score < 0.5
    assert not found.paired


def test_rows_of_another_dataset_count_in_full(work):
    results = probed(work, "a", rows())
    run_of(work, "b", rows(seed=1))
    found = _evaluate(work, results, "b")
    assert (found.n_rows, found.n_seen, found.n_by_folds, found.n_groups) == (120, 0, 0, 60)
    assert not found.paired and found.layers[2].score > 0.6


def test_a_file_of_the_fitted_rows_has_only_the_rows_that_were_held_out(work):
    results = probed(work, "a", _with_split(_memorised(), test=0.5))
    found = _evaluate(work, results, "a.npz")
    assert (found.n_rows, found.n_seen) == (30, 30) and found.layers[0].score < 0.5


def test_a_file_with_the_fitted_images_in_another_order_does_not_count_them(work):
    """Files of the research project have neither ids nor digests: a row's number is its id."""
    of_rows = {**_with_split(_memorised(), test=0.5), "id": np.arange(60).astype(str)}
    results = probed(work, "a", of_rows)
    file = {
        "states": of_rows["states"][:, ::-1],
        **{k: of_rows[k][::-1] for k in ("label", "image")},
    }
    write_file(work / "turned.npz", file)
    found = _evaluate(work, results, "turned.npz")
    assert (found.n_rows, found.n_seen) == (30, 30) and found.layers[0].score < 0.5


def test_where_every_row_was_fitted_it_is_said(work):
    of_rows = _with_split(rows())
    results = probed(work, "a", of_rows)
    train = {name: a[..., of_rows["split"] == "train"] if a.ndim == 1 else
             a[:, of_rows["split"] == "train"] for name, a in of_rows.items()}  # fmt: skip
    run_of(work, "train", train)
    with pytest.raises(
        ProbeError, match="no row of 84 is left: the probes were fitted or chosen on 84"
    ):
        _evaluate(work, results, "train")


# Labels.

TABLE = parse_relations(
    "t", {"left_of": ["left", "to the left of"], "above": ["above", "over"]}, "t"
)


def test_labels_are_matched_by_name_then_by_the_words_of_tables(work):
    results = probed(work, "a", rows())
    other = rows(seed=1)
    words = {"left_of": "To the  left of", "above": "over", "below": "near"}
    other["label"] = np.array([words.get(one, one) for one in other["label"]])
    run_of(work, "b", other)
    found = _evaluate(work, results, "b", tables=(TABLE,))
    assert found.renamed == {"To the  left of": "left_of", "over": "above"}
    assert found.without_class == {"near": 30} and found.without_rows == ("below",)
    assert found.n_rows == 90 and found.layers[2].recall["below"] is None
    same = _evaluate(work, results, run_of(work, "c", rows(seed=1)).name).layers[2]
    for name in ("left_of", "above", "right_of"):
        assert found.layers[2].recall[name]["score"] == same.recall[name]["score"]


def test_words_of_two_classes_match_neither():
    labels = np.array(["over", "left", "above", "on top"])
    matched = match_labels(["above", "Over", "left_of"], labels, lambda: [TABLE])
    assert matched.y.tolist() == [-1, 2, 0, -1] and matched.renamed == {"left": "left_of"}
    assert matched.without_class == {"over": 1, "on top": 1}


def test_a_class_that_the_target_lacks_is_a_possible_error(work):
    results = probed(work, "a", rows())
    other = rows(seed=1)
    keep = other["label"] != "below"
    kept = {name: a[:, keep] if a.ndim > 1 else a[keep] for name, a in other.items()}
    run_of(work, "b", kept)
    found = _evaluate(work, results, "b")
    assert found.without_rows == ("below",) and found.chance == pytest.approx(1 / 3)
    shares = [one["score"] for one in found.layers[2].recall.values() if one is not None]
    assert found.layers[2].score == pytest.approx(np.mean(shares))


def test_labels_without_any_class_are_refused_with_their_names(work):
    results = probed(work, "a", rows())
    run_of(work, "b", rows(seed=1, names=("cat", "dog")))
    with pytest.raises(ProbeError, match="a has no class for 'cat', 'dog'"):
        _evaluate(work, results, "b", tables=(TABLE,))


def test_labels_that_are_no_numbers_are_refused(work):
    numbers = rows()
    numbers["label"] = np.arange(120).astype(str)
    results = probed(work, "a", numbers, probe="ridge")
    run_of(work, "b", rows(seed=1))
    with pytest.raises(RunError, match="b: has labels that are not numbers"):
        _evaluate(work, results, "b")


# Scores, chance and differences.


def test_scores_are_those_of_the_final_probe(work):
    results = probed(work, "a", rows())
    other = rows(seed=1)
    run_of(work, "b", other)
    found = _evaluate(work, results, "b")
    for figures in found.layers:
        probe = load(results.folder, figures.layer)
        said = probe.predict(other["states"][figures.layer].astype(np.float32))
        right = said == other["label"]
        assert [figures.score, figures.accuracy] == pytest.approx([right.mean()] * 2)
        for name in NAMES:
            recall = figures.recall[name]["score"]
            assert recall == pytest.approx(right[other["label"] == name].mean())
        assert figures.low < figures.score < figures.high


def test_another_metric_scores_target_and_own_rows(work):
    of_rows = rows()
    few = of_rows["label"] == "below"
    few[np.flatnonzero(few)[:8]] = False
    kept = {name: a[:, ~few] if a.ndim > 1 else a[~few] for name, a in of_rows.items()}
    results = probed(work, "a", kept, metric="balanced")
    run_of(work, "b", rows(seed=1))
    found = _evaluate(work, results, "b", metric="accuracy")
    _, scores = results.read()
    assert found.statistic == "accuracy"
    for figures, score in zip(found.layers, scores, strict=True):
        assert figures.own == pytest.approx(score.accuracy)
        assert figures.score == pytest.approx(figures.accuracy)
    assert [one.own for one in _evaluate(work, results, "b").layers] == pytest.approx(
        [one.score for one in scores]
    )
    with pytest.raises(ConfigError, match="has no probabilities"):
        read_trained("m", probed(work, "m", rows(), probe="mass-mean"), "log-loss")


def test_a_paired_difference_is_narrower_than_that_of_other_rows(work):
    of_rows = rows()
    results = probed(work, "a", of_rows)
    shifted = np.random.default_rng(3).normal(0, 0.1, of_rows["states"].shape)
    run_of(work, "same", {**of_rows, "states": of_rows["states"] + shifted})
    run_of(work, "other", {**rows(seed=0), "id": np.char.add("x", of_rows["id"])})
    same, other = (_evaluate(work, results, name) for name in ("same", "other"))
    assert same.paired and not other.paired
    width = [one.layers[1].difference_high - one.layers[1].difference_low for one in (same, other)]
    assert width[0] < width[1] / 1.3
    for one in (*same.layers, *other.layers):
        assert one.difference == pytest.approx(one.score - one.own)
        assert one.difference_low <= one.difference <= one.difference_high
    own_layers = _evaluate(work, results, "a").layers
    for one, own in zip(other.layers, own_layers, strict=True):  # Newcombe's method 10
        below = np.hypot(one.score - one.low, own.high - own.score)
        above = np.hypot(one.high - one.score, own.score - own.low)
        ends = one.difference_low, one.difference_high
        assert ends == pytest.approx((one.difference - below, one.difference + above))


def test_one_row_that_a_fold_judges_does_not_widen_intervals(work):
    """They are for the fitted probes, so how many of them judge does not matter."""
    of_rows, other = rows(), rows(seed=1)
    results = probed(work, "a", of_rows)
    both = {name: np.concatenate([array, of_rows[name][..., :1, :] if array.ndim == 3 else of_rows[name][:1]],
                                 axis=1 if array.ndim == 3 else 0)
            for name, array in other.items()}  # fmt: skip
    run_of(work, "b", other)
    run_of(work, "c", both)
    without, found = (_evaluate(work, results, name) for name in "bc")
    assert (without.n_by_folds, found.n_by_folds, found.n_rows) == (0, 1, 121)
    for one, more in zip(without.layers, found.layers, strict=True):
        assert more.high - more.low == pytest.approx(one.high - one.low, rel=0.1)


def test_chance_of_numbers_is_the_mean_of_the_target(work):
    numbers, other = rows(), rows(seed=1)
    for one in (numbers, other):
        one["label"] = (10 + one["states"][2, :, 0]).round(4).astype(str)
    results = probed(work, "a", numbers, probe="ridge")
    run_of(work, "b", other)
    found = _evaluate(work, results, "b")
    y, prior = other["label"].astype(float), numbers["label"].astype(float).mean()
    assert found.chance == pytest.approx(1 - ((y - y.mean()) ** 2).sum() / ((y - prior) ** 2).sum())
    assert found.layers[2].score > 0.9 and found.layers[2].accuracy is None


def test_intervals_cover_the_true_scores_and_differences():
    coverage = transfer_simulation.simulate(15, resamples=200)
    assert list(coverage) == [
        "difference, paired",
        "difference, unpaired",
        "score, other",
        "score, variant",
    ]
    assert min(coverage.values()) >= 0.85


# Targets that do not fit the probes are refused.


def test_states_of_another_size_are_refused_with_both(work):
    results = probed(work, "a", rows())
    run_of(work, "wide", rows(seed=1, hidden_size=8))
    with pytest.raises(RunError, match="a on wide: states have 6 and 8 values"):
        _evaluate(work, results, "wide")


def test_layers_are_matched_by_their_number_in_the_model(work):
    results = probed(work, "a", rows(n_layers=4))
    run_of(work, "short", rows(seed=1, n_layers=3))
    with pytest.raises(RunError, match="layer 2, one has states after the final norm"):
        _evaluate(work, results, "short")
    found = _evaluate(work, results, "short", settings=replace(QUICK, other_norm=True))
    assert [one.layer for one in found.layers] == [0, 1, 2] and found.without_layer == (3,)
    with pytest.raises(
        ConfigError, match="layer 3: is not in both a and the target short; common are 0-2"
    ):
        found.at(3)


def test_values_that_are_not_finite_are_refused_in_a_file_and_counted_in_a_run(work):
    results = probed(work, "a", rows())
    other = rows(seed=1)
    other["states"][1, 7, 3] = np.nan
    path = write_file(work / "b.npz", other)
    with pytest.raises(RunError, match="1 of 120 rows have values that are not finite, first id"):
        _evaluate(work, results, str(path))
    run_of(work, "b", other)
    with pytest.raises(RunError, match="run b: 1 of 120 rows have no states"):
        _evaluate(work, results, "b")
    found = _evaluate(work, results, "b", partial=True)
    assert (found.n_rows, found.n_missing) == (119, 1)
    said = load(results.folder, 2).predict(other["states"][2].astype(np.float32))
    right = np.delete(said == other["label"], 7)
    assert found.layers[2].accuracy == pytest.approx(right.mean())


def test_a_file_has_no_positions(work):
    run_of(work, "a", rows())
    with pytest.raises(ConfigError, match=r"position image: a.npz is no run"):
        open_target("a.npz", work, "image")


@pytest.mark.parametrize("name", ["none", "no/such/path", "x" * 300, "a\0b", "./" + "y" * 5000])
def test_a_target_that_is_not_there_is_refused(work, name):
    with pytest.raises(RunError):
        open_target(name, work)


def test_an_output_never_replaces_the_file_of_a_target(vsp, work):
    (work / "a.npz").write_bytes(b"states")
    (work / "a.csv").symlink_to("a.npz")
    answer = vsp("evaluate", "a", "--on", "a.npz", "--csv", "./a.csv")
    assert answer.returncode == 1 and "a.csv: is a target of --on" in answer.stderr
    assert (work / "a.npz").read_bytes() == b"states"
