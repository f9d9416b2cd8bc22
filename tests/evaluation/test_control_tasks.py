"""Control tasks have types that recur, and selectivity tells a label from the type of a row."""

from dataclasses import replace

import numpy as np
import pytest

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.control_tasks import control_tasks
from vsp.evaluation.controls import control_labels, shuffled_labels
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate
from vsp.evaluation.layer_fits import LayerFitter, LayerTasks
from vsp.evaluation.merged_fits import choose_strengths, merge_pieces
from vsp.evaluation.metrics import METRICS, normalised_losses
from vsp.evaluation.probed_rows import ProbedRows
from vsp.evaluation.tested_rows import normalised_on_tested
from vsp.probes import PROBES

N = 800
_RNG = np.random.default_rng(5)
Y = np.arange(N) % 2
PAIR, CELL = _RNG.integers(40, size=N), _RNG.integers(64, size=N)


def _rows(pair=PAIR, cell=CELL, prompt=None):
    """Rows with an own split, 200 of them for testing; `cell` -1: no box."""
    text = np.arange(N).astype(str)
    subject = np.char.add("s", (pair // 8).astype(str))
    reference = np.char.add("r", (pair % 8).astype(str))
    corner = np.stack([cell % 8, cell // 8], axis=1) / 8 + 0.02
    box = np.concatenate([corner, corner + 0.05], axis=1)
    box[cell < 0] = np.nan
    if prompt is not None:
        subject = reference = np.full(N, "")
    return ProbedRows(
        row=np.arange(N), id=text, label=Y.astype(str), group=text,
        prompt=text if prompt is None else prompt, split=np.where(np.arange(N) % 8 < 6, "train", "test"),
        subject=subject, reference=reference, subject_box=box, reference_box=box,
    )  # fmt: skip


def _design(rows, y=Y):
    return make_design(y, rows.group, rows.split, folds=3)


def _drawn(rows, y=Y, n=5):
    return control_tasks(rows, y, _design(rows, y), n, seed=0)


def _one_hot(values):
    return np.eye(int(values.max()) + 1)[values] * 6


def _selectivity(rows, *parts):
    """Figures of each control, for states that hold these parts beside noise."""
    rng = np.random.default_rng(1)
    states = np.concatenate([_one_hot(part) for part in parts], axis=1)
    states = (states + 0.5 * rng.normal(size=states.shape)).astype(np.float32)
    none = Y[:0].reshape(0, N)
    tasks = LayerTasks(
        Y, _design(rows), METRICS["accuracy"], (0.1, 1.0, 10.0), none, none,
        integer_codes(rows.group), {k: one.labels for k, one in _drawn(rows).items()},
    )  # fmt: skip
    at = LayerFitter(states, PROBES.load("logistic")(), tasks)
    searched = [at.search(sets) for sets in tasks.search_pieces]
    choice = choose_strengths(tasks, searched)
    later = [at.run(piece, choice) for piece in tasks.later_pieces]
    fit = merge_pieces(tasks, at.probe, searched, choice, later)
    evaluated = EvaluatedRows(Y, rows.group, tasks.design, tasks.metric, ("a", "b"))
    scores, summary = evaluate([0], [fit], evaluated, EvaluationSettings(resamples=300))
    assert summary["peak"]["controls"] == scores[0].controls
    return {name: one["selectivity"] for name, one in scores[0].controls.items()}


def test_a_state_with_the_pair_of_names_has_no_selectivity_over_names():
    figures = _selectivity(_rows(), Y, PAIR)
    assert figures["names"]["difference"] < 0.25
    assert figures["cell"]["low"] > 0.7


def test_a_state_with_the_cell_of_the_picture_has_no_selectivity_over_cells():
    figures = _selectivity(_rows(), Y, CELL)
    assert figures["cell"]["difference"] < 0.25
    assert figures["names"]["low"] > 0.7


def test_a_state_with_the_label_alone_is_selective_over_both():
    figures = _selectivity(_rows(), Y)
    assert min(one["low"] for one in figures.values()) > 0.7
    # A score of 200 rows has a standard error of 0.035, twice that if it is normalised.
    assert max(one["high"] - one["low"] for one in figures.values()) < 0.3


def test_five_prompts_are_too_few_for_a_control():
    """A random label of each of five prompts says only that the state has the prompt."""
    prompt = np.array(list("abcde"))[PAIR % 5]
    drawn = _drawn(_rows(prompt=prompt))
    assert list(drawn) == ["prompt", "cell"]
    assert drawn["prompt"].facts == {
        "tasks": 0, "types": 5, "note": "5 types of rows; it needs 10",
    }  # fmt: skip
    assert len(drawn["cell"].labels) == 5 and drawn["cell"].note == ""


def test_ten_types_are_enough_and_nine_are_not():
    assert len(_drawn(_rows(pair=PAIR % 10))["names"].labels) == 5
    assert "9 types" in _drawn(_rows(pair=PAIR % 9))["names"].note


def test_controls_need_half_of_the_test_rows_to_have_a_type_of_a_training_row():
    number = np.arange(N)
    once = number % 16 < 9  # 100 of the 200 test rows
    half = np.where(once, number + 100, PAIR % 12)
    assert _drawn(_rows(pair=half))["names"].note == ""
    fewer = np.where(once | (number == 14), number + 100, PAIR % 12)
    names = _drawn(_rows(pair=fewer))["names"]
    assert not len(names.labels) and names.note.startswith("99 of 200 test rows")


@pytest.mark.parametrize(
    ("cell", "note"),
    [
        (np.where(np.arange(N) < 300, CELL, -1), "300 of 800 rows have a box"),
        (np.full(N, -1), "no row has a box"),
    ],
)
def test_boxes_that_are_not_known_for_all_rows_are_counted(cell, note):
    drawn = _drawn(_rows(cell=cell))["cell"]
    assert not len(drawn.labels) and note in drawn.note


def test_a_type_with_most_of_the_rows_makes_an_uneven_control():
    pair = np.where(np.arange(N) % 10 < 8, 0, PAIR)
    note = _drawn(_rows(pair=pair))["names"].note
    assert "most frequent label has" in note and "that of the task has 50%" in note


def test_control_labels_have_the_shares_of_the_task():
    y = (np.arange(N) % 20 == 0).astype(np.intp)
    for labels in control_labels(PAIR, y, 20, seed=0):
        assert labels.mean() == pytest.approx(0.05, abs=0.03)
        assert all(len(set(labels[one == PAIR])) == 1 for one in range(40))


def test_control_labels_do_not_depend_on_the_order_of_rows():
    order = np.random.default_rng(2).permutation(N)
    rows = _rows()
    moved = control_tasks(
        rows.take(order), Y[order], _design(rows).reordered(np.argsort(order)), 5, 0
    )
    for name, one in _drawn(rows).items():
        assert (moved[name].labels == one.labels[:, order]).all()


def test_tasks_with_one_label_on_a_side_of_a_split_are_left_out_and_counted():
    rows = _rows()
    test_only = (rows.split == "test") & (np.arange(N) % 5 == 0)
    pair = np.where(test_only, 20, PAIR % 12)
    y = np.zeros(N, np.intp)
    y[:3] = 1  # one type gets the rare label, by chance the one that no training row has
    rows = replace(rows, label=y.astype(str), subject=pair.astype(str), reference=pair.astype(str))
    names = _drawn(rows, y, n=40)["names"]
    n_lost = 40 - len(names.labels)
    assert 0 < n_lost < 40
    assert names.note == f"{n_lost} of 40 tasks left out, with one label on a side of a split"
    assert names.facts["tasks"] == len(names.labels)


def test_no_control_is_asked_for():
    assert _drawn(_rows(), n=0) == {} and shuffled_labels(Y, 0, 0) is None


def test_rows_that_are_not_tested_do_not_widen_the_interval_of_a_control():
    made = _design(_rows())
    tested = made.test_split >= 0
    wrong, majority = (np.arange(N) % k == 0 for k in (3, 2))
    loss, chance = ((tested * one, tested * 1.0) for one in (wrong, majority))
    found = normalised_on_tested(made, loss, chance)
    base = np.ones(int(tested.sum()))
    alone = normalised_losses((wrong[tested[0]] * 1.0, base), (majority[tested[0]] * 1.0, base))
    assert (found[0, tested[0]] == alone).all() and not found[~tested].any()


def test_capacity_is_the_training_accuracy_on_labels_shuffled_row_by_row():
    """Rows of a group exchange labels too; a permutation by group would keep theirs equal."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(60), 4).astype(str)
    y = np.repeat(np.arange(60) % 2, 4)
    states = rng.normal(size=(240, 10)).astype(np.float32)
    states = np.repeat(states[::4], 4, axis=0)  # equal within a group
    none = y[:0].reshape(0, 240)
    shuffled = shuffled_labels(y, 8, seed=0)
    tasks = LayerTasks(
        y, make_design(y, group, np.full(240, ""), 3, 1), METRICS["accuracy"], (1e4,), none, none,
        integer_codes(group), shuffled=shuffled,
    )  # fmt: skip
    at = LayerFitter(states, PROBES.load("logistic")(), tasks)
    searched = [at.search(sets) for sets in tasks.search_pieces]
    choice = choose_strengths(tasks, searched)
    fit = merge_pieces(
        tasks, at.probe, searched, choice, [at.run(p, choice) for p in tasks.later_pieces]
    )
    assert fit["capacity"].shape == (8,)
    # The best constant label of each group: E max(k, 4 - k) / 4 = 0.6875. Ten features do less.
    assert 0.5 < fit["capacity"].mean() < 0.67
    assert shuffled_labels(y.astype(float), 8, seed=0) is None
