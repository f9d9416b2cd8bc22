"""The saved probes of a run on its own rows, and on other states."""

from math import sqrt

import numpy as np
import pytest
from helpers.transferred import (
    LABELS,
    columns,
    judge,
    made_probes,
    make_probes,
    make_run,
    rare,
    read_probes,
    replaced,
    take,
    write,
)
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vsp import probes
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.judges import FINAL, NONE
from vsp.evaluation.target_states import open_target


def _numbers(rows):
    number = rows["representations"][:, 2, :2].sum(axis=1) + np.arange(len(rows["ids"])) % 3
    return {**rows, "labels": number.astype(str)}


def _split(rows, names=("train", "train", "train", "val")):
    return {**rows, "splits": np.array(names)[np.unique(rows["groups"], return_inverse=True)[1] % len(names)]}  # fmt: skip


OWN = {
    "folds of groups of three rows": (columns(40, 3), {}),
    "the dataset's own split": (_split(columns()), {}),
    "train, val and test": (_split(columns(), ("train", "train", "val", "test")), {}),
    "pairs": (columns(), {"split_by": "pairs"}),
    "names": (columns(160), {"split_by": "names", "folds": 3, "repeats": 1}),
    "numbers": (_numbers(columns()), {"probe": "ridge"}),
    "numbers with a split": (_split(_numbers(columns())), {"probe": "ridge"}),
    "no strength": (columns(), {"probe": "mass-mean"}),
    "balanced accuracy": (rare(columns()), {"metric": "balanced"}),
    "AUC": (columns(60), {"metric": "auc", "folds": 3}),
    "log loss": (columns(), {"metric": "log-loss", "treatment": "standardize"}),
}


@pytest.mark.parametrize("case", OWN)
def test_a_run_on_itself_gives_its_own_predictions_losses_and_scores(work, case):
    rows, settings = OWN[case]
    results = made_probes("a", rows, **settings)
    arrays, (_, scores) = results.arrays("predictions"), results.read()
    trained, outer = read_probes("a"), arrays["outer"]
    judges = trained.fitted.judges(open_target("a", work).identity)
    tested = outer >= 0
    own = outer if len(arrays["outer_fitted"]) > 1 else np.full(outer.shape, FINAL)
    assert (judges == own)[tested].all()
    names_out = case == "names"
    assert names_out or ((judges == NONE) == ~tested).all()
    assert not (arrays["outer_fitted"][outer] & tested[..., None] & np.eye(len(rows["ids"]), dtype=bool)).any()  # fmt: skip
    made = judge("a", "a")
    assert [one.layer for one in made.layers] == [0, 1, 2] and made.renamed == {}
    assert made.selected == results.summary()["best_layer"]
    for layer, one in enumerate(made.layers):
        said = _said(trained, layer, judges, rows["representations"])
        if rows["labels"].dtype.kind == "U" and one.recall is not None:
            assert (said[tested] == arrays["predicted"][layer][tested]).all()
        else:
            assert said[tested] == pytest.approx(arrays["predicted"][layer][tested], rel=1e-5)
        if names_out:  # a row with names of two folds is held out by both, and tested by neither
            continue
        assert one.score == pytest.approx(scores[layer].score, abs=1e-7)
        assert made.paired == (case not in ("numbers", "numbers with a split", "log loss"))
        assert one.own == pytest.approx(one.score, abs=1e-7)
        if made.paired:
            assert one.difference == pytest.approx(0, abs=1e-7)
            assert -0.3 < one.difference_low < 0 < one.difference_high < 0.3
        if one.recall is not None:
            right = arrays["predicted"][layer] == np.searchsorted(
                arrays["classes"], arrays["label"]
            )
            for name, recall in one.recall.items():
                of_class = tested & (arrays["label"] == name)
                assert recall["score"] == pytest.approx(right[of_class].mean())
                assert recall["n"] == of_class.sum() / len(outer)
            assert one.accuracy == pytest.approx(right[tested].mean())
    if not names_out:
        assert made.n_rows == tested[0].sum()
        assert made.n_seen == (~tested[0]).sum()
        assert made.n_by_folds == (made.n_rows if len(arrays["outer_fitted"]) > 1 else 0)


def _said(trained, layer, judges, states):
    """The prediction of each cell's judge [repeat, row]."""
    found = np.full(judges.shape, np.nan)
    by = trained.probes(layer, folds=len(trained.fitted.outer_fitted) > 1)
    for place in np.argwhere(judges != NONE).tolist():
        scores = by[judges[tuple(place)]].scores(states[place[1], layer][None])[0]
        found[tuple(place)] = scores.argmax() if trained.classes else scores[0]
    return found


def test_new_rows_are_judged_by_the_saved_probe_on_all_layers(work):
    made_probes("a", columns())
    new = columns(30, first=500)
    make_run("b", new)
    trained = read_probes("a")
    for target in ("b", "b.npz"):
        made = judge("a", target)
        assert (made.n_rows, made.n_groups, made.n_seen, made.n_by_folds) == (60, 30, 0, 0)
        assert not made.paired and made.target == target
        for layer, one in enumerate(made.layers):
            probe = probes.load("results/a", layer)
            right = probe.predict(new["representations"][:, layer]) == new["labels"]
            assert one.score == one.accuracy == pytest.approx(right.mean(), abs=1e-12)
            for name in LABELS:
                of_class = right[new["labels"] == name]
                assert one.recall[name]["score"] == pytest.approx(of_class.mean())
                assert one.recall[name]["n"] == len(of_class)
            _check_unpaired(one)
        counts = np.unique(new["labels"], return_counts=True)[1]
        assert made.chance == pytest.approx(counts.max() / 60)
    assert trained.layers == [0, 1, 2]


def _check_unpaired(one):
    """Newcombe's method 10, from the own score of a run on itself."""
    (own,) = [own for own in judge("a", "a").layers if own.layer == one.layer]
    difference = one.score - own.score
    assert one.own == pytest.approx(own.score) and one.difference == pytest.approx(difference)
    below = sqrt((one.score - one.low) ** 2 + (own.high - own.score) ** 2)
    above = sqrt((one.high - one.score) ** 2 + (own.score - own.low) ** 2)
    assert one.difference_low == pytest.approx(difference - below)
    assert one.difference_high == pytest.approx(difference + above)


def test_other_metrics_are_those_of_scikit_learn_and_have_their_own_chance(work):
    made_probes("a", columns())
    new = rare(columns(60, first=500))
    make_run("b", new)
    index = np.searchsorted(LABELS, new["labels"])
    states = new["representations"][:, 2]
    probe = probes.load("results/a", 2)
    balanced, auc, plain = (judge("a", "b", metric) for metric in ("balanced", "auc", "accuracy"))
    expected = balanced_accuracy_score(new["labels"], probe.predict(states))
    assert balanced.at(2).score == pytest.approx(expected) and balanced.chance == 0.25
    shares = probe.predict_proba(states)
    expected = np.mean([roc_auc_score(index == k, shares[:, k]) for k in range(4)])
    assert auc.at(2).score == pytest.approx(expected, abs=1e-9) and auc.chance == 0.5
    assert auc.at(2).own is None and auc.at(2).difference is None  # not kept for this metric
    assert plain.at(2).score == pytest.approx(plain.at(2).accuracy)
    assert plain.at(2).accuracy == balanced.at(2).accuracy
    assert plain.chance == pytest.approx(np.bincount(index).max() / len(index))
    assert balanced.at(2).own is not None


# Rows that a probe was fitted on never count.


def test_a_variant_of_the_same_rows_is_judged_by_their_folds_and_paired(work):
    rows = columns(40, 3)
    results = made_probes("a", rows)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(rows["ids"]))[:90]
    moved = rows["representations"] + rng.normal(size=rows["representations"].shape).astype("f4")
    variant = {**rows, "representations": moved, "subjects": rows["references"],
               "references": rows["subjects"], "image_sha256": np.char.upper(rows["image_sha256"][::-1])}  # fmt: skip
    variant["image_sha256"] = np.array([f"{i:064x}" for i in range(1000, 1000 + len(order) + 30)])
    make_run("b", take(variant, order))
    made, arrays = judge("a", "b"), results.arrays("predictions")
    assert made.paired and made.n_rows == made.n_by_folds == 90 and made.n_seen == 0
    truth = np.searchsorted(LABELS, rows["labels"])
    for layer, one in enumerate(made.layers):
        by_split = probes.load_folds("results/a", layer)
        right, own = [], []
        for of_repeat in arrays["outer"]:
            for row in order:
                said = by_split[of_repeat[row]].scores(moved[row, layer][None])[0].argmax()
                right.append(said == truth[row])
        own = (arrays["predicted"][layer] == truth)[:, order]
        assert one.score == pytest.approx(np.mean(right), abs=1e-12)
        assert one.own == pytest.approx(own.mean(), abs=1e-12)
        assert one.difference == pytest.approx(np.mean(right) - own.mean(), abs=1e-12)
        assert one.difference_low < one.difference < one.difference_high
    # Paired rows agree more than independent ones, so the interval of the difference is narrower.
    last, both = made.at(2), sqrt(2) * (made.at(2).high - made.at(2).low)
    assert last.difference_high - last.difference_low < both


def test_one_new_row_among_own_rows_makes_the_difference_unpaired(work):
    rows = columns()
    made_probes("a", rows)
    new = take(columns(2, first=500), slice(0, 1))
    both = {name: np.concatenate([column, new[name]]) for name, column in rows.items()}
    write("b", both)
    made = judge("a", "b.npz")
    assert (made.n_rows, made.n_by_folds, made.paired) == (81, 80, False)


def test_scores_of_own_rows_together_are_not_paired_with_those_of_some(work):
    """The AUC loss of a row depends on all rows."""
    rows = columns(60)
    made_probes("a", rows, metric="auc", folds=3)
    write("b", take(rows, slice(0, 90)))
    assert judge("a", "a").paired and not judge("a", "b.npz").paired
    assert judge("a", "b.npz", "balanced").layers[0].own is not None


def test_rows_that_were_dropped_or_not_extracted_were_not_fitted_but_their_pictures_can_be(work):
    rows = columns(40, 2)
    states = rows["representations"].copy()
    states[3, 1, 0] = np.nan  # the row fails; row 2 is about the same picture
    results = make_probes(
        make_run("a", {**rows, "representations": states}), partial=True, drop_labels=("above",)
    )
    write("b", rows)
    make_run("c", rows)
    trained = read_probes("a")
    used = np.isin(rows["ids"], results.arrays("predictions")["id"])
    judges = trained.fitted.judges(open_target("c", work).identity)
    picture_used = np.isin(rows["groups"], rows["groups"][used])
    assert not used[3] and used.sum() < len(used) - 5
    assert (judges[0] == FINAL).tolist() == (~picture_used).tolist()
    place = np.flatnonzero(used)
    assert (judges[:, place] == results.arrays("predictions")["outer"]).all()
    for row in np.flatnonzero(~used & picture_used).tolist():
        of_picture = np.flatnonzero(used & (rows["groups"] == rows["groups"][row]))
        assert judges[:, row].tolist() == judges[:, of_picture[0]].tolist()
    made = judge("a", "b.npz")
    assert made.without_class == {"above": (rows["labels"] == "above").sum()}
    assert made.without_rows == ()


def test_results_without_their_run_and_of_a_renamed_run_know_the_same_rows(work):
    rows = _split(columns())
    made_probes("a", rows)
    write("b", rows)
    first = judge("a", "b.npz")
    (work / "scratch/a").rename(work / "moved")
    (work / "results/a").rename(work / "results/other")
    second = judge("other", "b.npz")
    assert second.n_seen == first.n_seen == 60 and second.n_rows == 20
    assert second.layers == first.layers


def test_a_target_of_fitted_rows_alone_is_refused_with_the_reason(work):
    rows = _split(columns())
    made_probes("a", rows)
    write("b", take(rows, rows["splits"] == "train"))
    with pytest.raises(ProbeError, match=r"no row of 60 is left: .* fitted or chosen on 60 rows"):
        judge("a", "b.npz")


# Labels.


def test_labels_are_matched_and_what_has_no_counterpart_is_counted(work):
    made_probes("a", columns())
    new = columns(30, first=500)
    labels = np.where(new["labels"] == "left_of", "to the left of", new["labels"])
    labels = np.where(labels == "above", "inside of", labels)
    write("b", {**new, "labels": labels})
    made = judge("a", "b.npz")
    n_left_out = int((labels == "inside of").sum())
    assert made.renamed == {"to the left of": "left_of"}
    assert made.without_class == {"inside of": n_left_out}
    assert made.without_rows == ("above",)
    assert made.n_rows == 60 - n_left_out and made.at(2).recall["above"] is None
    right = probes.load("results/a", 2).predict(new["representations"][:, 2]) == new["labels"]
    assert made.at(2).score == pytest.approx(right[new["labels"] != "above"].mean())
    write("c", {**new, "labels": np.full(60, "inside of")})
    with pytest.raises(ProbeError, match="no row of 60 is left: a has no class for 'inside of'"):
        judge("a", "c.npz")


def test_each_row_is_counted_once_whatever_leaves_it_out(work):
    rows = _split(columns())
    made_probes("a", rows)
    strange = np.arange(80) % 5 == 0
    write("b", {**rows, "labels": replaced(rows["labels"], strange, "inside of")})
    made, is_test = judge("a", "b.npz"), rows["splits"] == "val"
    assert made.n_rows == (is_test & ~strange).sum()
    assert made.n_seen == (~is_test & ~strange).sum()
    assert made.without_class == {"inside of": strange.sum()}


def test_numbers_are_judged_and_texts_refused_in_their_place(work):
    made_probes("a", _numbers(columns()), probe="ridge")
    new = _numbers(columns(40, first=500))
    write("b", new)
    made = judge("a", "b.npz")
    y, mean = new["labels"].astype(float), read_probes("a").y.mean()
    said = probes.load("results/a", 2).predict(new["representations"][:, 2])
    base = ((y - mean) ** 2).sum()
    assert made.at(2).score == pytest.approx(1 - ((said - y) ** 2).sum() / base, rel=1e-6)
    assert made.chance == pytest.approx(1 - ((y.mean() - y) ** 2).sum() / base, rel=1e-6)
    assert made.at(2).recall is None and made.at(2).accuracy is None and made.renamed == {}
    for strange in ("above", "nan", "inf"):
        write("c", {**new, "labels": replaced(new["labels"], 3, strange)})
        with pytest.raises(RunError, match=r"c\.npz: has labels that are not numbers"):
            judge("a", "c.npz")
    with pytest.raises(ConfigError, match="--metric accuracy: a reads numbers"):
        judge("a", "b.npz", "accuracy")
