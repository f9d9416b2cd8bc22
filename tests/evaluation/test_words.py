from dataclasses import replace

import numpy as np
import pytest
from helpers.named_rows import fitted, named_rows, random_rows

from vsp.evaluation.baseline_features import FEATURES
from vsp.evaluation.baselines import look_up
from vsp.evaluation.box_features import box_features
from vsp.evaluation.column_table import TestedRows
from vsp.evaluation.design import make_design
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.seen_pairs import is_seen, seen_and_unseen
from vsp.evaluation.word_features import MAX_COLUMNS, name_features, prompt_features


def test_name_features_tell_subject_reference_and_pair_that_occur_twice():
    rows = named_rows(list("aabbc"), list("xxyyx"), ["l"] * 5, list("12345"))
    features = name_features(rows)
    columns = {tuple(column) for column in features.T.astype(int)}
    of_a, of_b, x, y = (1, 1, 0, 0, 0), (0, 0, 1, 1, 0), (1, 1, 0, 0, 1), (0, 0, 1, 1, 0)
    assert columns == {of_a, of_b, x, y} and features.shape == (5, 6)  # the pairs are a–x and b–y


def test_prompt_features_are_the_words_and_their_order_without_copies():
    rows = named_rows(list("aabb") * 2, list("bbaa") * 2, ["l"] * 8, list("12345678"))
    columns = [tuple(column) for column in prompt_features(rows, 0).T.astype(int)]
    assert sorted(columns) == [(0, 0, 1, 1) * 2, (1, 1, 0, 0) * 2]  # names swap places


def test_columns_are_bounded_and_the_most_frequent_are_kept():
    n = 3 * MAX_COLUMNS
    number = np.arange(n) // 2
    subject = np.where(np.arange(n) < 100, "often", np.char.add("s", number.astype(str)))
    rows = named_rows(subject, np.char.add("r", number.astype(str)), ["l"] * n, subject)
    features = name_features(rows)
    assert features.shape == (n, MAX_COLUMNS)
    assert (features[:, 0] == (subject == "often")).all()
    prompts = prompt_features(rows, 0)
    assert prompts.shape[1] <= MAX_COLUMNS and prompts.any(axis=0).all()


def test_rows_with_the_same_words_have_no_baseline_on_words():
    same = named_rows(["a"] * 4, ["b"] * 4, list("lmlm"), list("1234"))
    assert not any(FEATURES[name].exist(same, 8) for name in ("names", "words", "boxes"))
    other = named_rows(list("aaac"), ["b"] * 4, list("lmlm"), list("1234"))
    assert FEATURES["names"].exist(other, 8) and FEATURES["words"].exist(other, 8)
    nothing = named_rows(list("abcd"), list("efgh"), list("lmlm"), list("1234"))
    assert name_features(nothing).shape == (4, 1) and not name_features(nothing).any()


def test_a_linear_reading_of_the_names_predicts_pairs_that_the_look_up_does_not_know():
    rng = np.random.default_rng(0)
    subject, reference = rng.integers(25, size=(2, 400)).astype(str)
    taste = dict(zip(map(str, range(25)), rng.standard_normal(25), strict=True))
    label = [
        "above" if taste[s] > taste[r] else "below" for s, r in zip(subject, reference, strict=True)
    ]
    rows = named_rows(subject, reference, label, np.arange(400).astype(str))
    states = [rng.standard_normal((400, 4))]
    _, _, _, summary = fitted(rows, states, repeats=1)
    score = {name: one["score"] for name, one in summary["baselines"].items()}
    assert score["names"] > score["look-up"] + 0.05 and score["words"] > score["look-up"] + 0.05
    assert score["words alone"] >= max(score["names"], score["words"]) - 0.03
    pairs = summary["peak"]["pairs"]
    assert pairs["kind"] == "name pair" and pairs["unseen"]["n"] > 20
    assert pairs["unseen"]["words"]["score"] > pairs["unseen"]["peak"]["score"] + 0.2


def test_a_look_up_of_splits_with_different_numbers_of_inner_splits():
    y, prompt = np.arange(60) % 2, (np.arange(60) // 2 % 5).astype(str)
    design = make_design(y, np.arange(60).astype(str), np.full(60, ""), 5, 1, 0)
    first = replace(design.outer[0], inner=design.outer[0].inner[1:])
    uneven = replace(design, outer=(first, *design.outer[1:]))
    inner = [look_up(METRICS["accuracy"], y, one, prompt)["inner"] for one in (design, uneven)]
    assert inner[1].shape == (5, 1) and (inner[0][1:] == inner[1][1:]).all()


def test_boxes_give_the_relation_that_is_in_them():
    rng = np.random.default_rng(0)
    low = rng.random((300, 4)) * 0.6
    boxes = np.concatenate([low[:, :2], low[:, :2] + 0.3, low[:, 2:], low[:, 2:] + 0.3], axis=1)
    apart = low[:, :2] - low[:, 2:]
    wide = np.abs(apart[:, 0]) > np.abs(apart[:, 1])
    label = np.where(
        wide,
        np.where(apart[:, 0] < 0, "left", "right"),
        np.where(apart[:, 1] < 0, "above", "below"),
    )
    rows = named_rows(["a", "b", "c"] * 100, ["d"] * 300, label, np.arange(300).astype(str), boxes)
    _, baselines, _, _ = fitted(rows, repeats=1)
    right = 1 - baselines["boxes"]["loss"].mean()
    assert right > 0.9 and 1 - baselines["names"]["loss"].mean() < 0.5


def test_rows_without_boxes_get_the_mean_and_few_of_them_are_allowed():
    boxes = np.random.default_rng(0).random((40, 8))
    boxes[0] = np.nan
    rows = named_rows(["a"] * 40, ["b"] * 40, ["l"] * 40, ["g"] * 40, boxes)
    features = box_features(rows)
    assert FEATURES["boxes"].exist(rows, 8) and not features[0].any()
    assert features[1:].mean(axis=0) == pytest.approx(0, abs=1e-6)
    boxes[:3] = np.nan
    assert not FEATURES["boxes"].exist(rows, 8)


def test_a_model_that_reads_only_the_words_is_reported_as_such_and_one_that_sees_is_not():
    rows = random_rows(0, n_names=5, chance=0.5)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((2, 5, 16))
    subject, reference = (
        np.unique(one, return_inverse=True)[1] for one in (rows.subject, rows.reference)
    )
    blind = np.maximum(
        (vectors[0][subject] + vectors[1][reference]) @ rng.standard_normal((16, 64)), 0
    )
    seeing = np.concatenate([blind, rng.standard_normal((400, 4))], axis=1)
    seeing[:, -1] += 2.0 * (rows.label == "label0")
    for states, is_blind in ((blind, True), (seeing, False)):
        _, _, (score,), summary = fitted(rows, [states], repeats=1, permutations=49)
        over = summary["peak"]["over_words"]
        assert score.p_corrected == 0.02  # the words tell the label, so this test says nothing
        assert (score.p_within_corrected > 0.1) == is_blind
        assert (over["low"] > 0) == (not is_blind)
        assert abs(over["difference"]) < 0.05 or not is_blind
        assert summary["n_within"] > 200


def test_pairs_are_seen_if_a_training_row_of_the_same_split_has_them():
    rows = random_rows(3, n_names=20)
    y = np.unique(rows.label, return_inverse=True)[1]
    design = make_design(y, rows.group, rows.split, 5, 2, 0)
    seen = is_seen(design, rows.names)
    for outer in design.outer:
        known = set(rows.names[design.train_sets[outer.train_set]])
        assert [rows.names[row] in known for row in outer.test] == seen[
            outer.repeat, outer.test
        ].tolist()
    test = TestedRows(y, rows.group, design)
    predicted = np.where(seen, y, 1 - y)  # right on seen pairs only
    sides = seen_and_unseen(test, rows.names, {"peak": predicted}, 0.95, 200, 0)
    assert sides["seen"]["peak"]["score"] == 1 and sides["unseen"]["peak"]["score"] == 0
    assert sides["seen"]["n"] + sides["unseen"]["n"] == 400
    assert sides["seen"]["n"] == pytest.approx(seen.sum() / 2, abs=1)
    assert sides["seen"]["peak"]["low"] > 0.9 and sides["unseen"]["peak"]["high"] < 0.1


def test_there_are_no_sides_if_one_has_few_rows():
    rows = random_rows(3, n_names=3)
    y = np.unique(rows.label, return_inverse=True)[1]
    design = make_design(y, rows.group, rows.split, 5, 2, 0)
    test = TestedRows(y, rows.group, design)
    assert seen_and_unseen(test, rows.names, {"peak": np.stack([y, y])}, 0.95, 50, 0) is None


@pytest.mark.parametrize("split_by", ["pairs", "names"])
def test_no_pair_is_seen_if_pairs_are_held_out(split_by):
    rows = random_rows(4, n_names=12, chance=0.3)
    tasks, _, (score,), summary = fitted(
        rows, [np.random.default_rng(0).standard_normal((400, 4))], split_by=split_by, folds=3
    )
    assert not is_seen(tasks.design, rows.names).any()
    assert summary["peak"]["pairs"] is None
    tested = (tasks.design.test_split >= 0).any(axis=0)
    assert summary["n_groups"] == len(np.unique(rows.names[tested]))
    assert score.low < score.score < score.high
