import time
from types import MappingProxyType

import numpy as np
import pytest
from benchmarks.estimate_simulation import (
    World,
    coverage,
    draw,
    false_positives,
    fit_layers,
    judge,
    recall_of,
    split_names,
)
from helpers.fitted import losses, metric_for
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, r2_score

from vsp.errors import ProbeError
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate

_NAMES = ["above", "below", "left"]


def _rows(n=60, own_split=False, numbers=False, rows_a_group=2):
    rng = np.random.default_rng(0)
    number = np.arange(n) // rows_a_group
    y = rng.standard_normal(n) if numbers else rng.integers(3, size=n)
    split = np.where(number >= 0.7 * number.max(), "test", "train") if own_split else np.full(n, "")
    group = np.char.add("g", number.astype(str))
    return y, group, make_design(y, group, split)


def _fit(y, made, share=0.7, seed=0, **changes):
    """Arrays of a layer whose probe is right on a share of the rows."""
    rng, shape = np.random.default_rng(seed), (made.n_repeats, len(y))
    wrong = rng.random(shape) > share
    if y.dtype.kind == "f":
        predicted = np.where(made.test_split >= 0, y + wrong, np.nan).astype(np.float32)
    else:
        predicted = np.where(made.test_split >= 0, (y + wrong) % 3, -1).astype(np.int16)
    made_up = {
        "strengths": np.array([0.01, 0.1, 1.0]),
        "inner": np.tile([share - 0.1, share, share - 0.2], (len(made.outer), 1)),
        "chosen": np.ones(len(made.outer), np.intp),
        "predicted": predicted,
        "gap": np.array([1e-9, 1e-8], np.float32),
        "final_strength": np.array(0.1),
    }
    return {**made_up, **losses(y, made, predicted), **changes}


def _evaluate(fits, y, group, made, layers=None, prompts=None, resamples=200, **others):
    layers = list(range(len(fits))) if layers is None else layers
    rows = EvaluatedRows(y, group, made, metric_for(y), _NAMES, prompts, **others)
    return evaluate(layers, fits, rows, EvaluationSettings(resamples=resamples))


@pytest.mark.parametrize("own_split", [False, True])
def test_scores_are_scikit_learns_of_the_judged_rows(own_split):
    y, group, made = _rows(own_split=own_split)
    fits = [_fit(y, made, share, seed) for seed, share in enumerate((0.4, 0.8))]
    scores, facts = _evaluate(fits, y, group, made)
    for fit, score in zip(fits, scores, strict=True):
        judged = made.test_split >= 0
        true, said = np.broadcast_to(y, judged.shape)[judged], fit["predicted"][judged]
        assert score.score == pytest.approx(accuracy_score(true, said))
        assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, said))
        assert score.macro_f1 == pytest.approx(f1_score(true, said, average="macro"))
        assert np.sum(score.confusion) == judged.sum() and list(score.recall) == _NAMES
        assert np.trace(score.confusion) / judged.sum() == pytest.approx(score.score)
        assert score.low < score.score < score.high
    assert facts["statistic"] == "accuracy" and facts["n_groups"] == len(set(group[judged[0]]))
    assert (scores[0].n_train, scores[0].n_test) == ((42, 18) if own_split else (48, 12))


def test_r2_is_measured_from_the_mean_of_the_training_rows():
    y, group, made = _rows(own_split=True, numbers=True)
    fit = _fit(y, made)
    (score,), facts = _evaluate([fit], y, group, made)
    test, train = made.outer[0].test, made.train_sets[made.final]
    squared = (y[test] - fit["predicted"][0, test]) ** 2
    known = 1 - squared.sum() / ((y[test] - y[train].mean()) ** 2).sum()
    assert score.score == pytest.approx(known) and score.rmse == pytest.approx(
        squared.mean() ** 0.5
    )
    assert known > r2_score(y[test], fit["predicted"][0, test])
    assert score.chance == 0 and facts["statistic"] == "R²"
    assert score.confusion is score.recall is score.ece is score.macro_f1 is None
    base = fit["base"]
    assert (base[0, train] == 0).all() and base[0, test] == pytest.approx(
        (y[test] - y[train].mean()) ** 2
    )


def test_r2_over_folds_pools_rows_and_repeats():
    y, group, made = _rows(numbers=True)
    fit = _fit(y, made)
    (score,), _ = _evaluate([fit], y, group, made)
    loss = base = 0.0
    for outer in made.outer:
        loss += ((y - fit["predicted"][outer.repeat]) ** 2)[outer.test].sum()
        base += ((y[outer.test] - y[made.train_sets[outer.train_set]].mean()) ** 2).sum()
    assert score.score == pytest.approx(1 - loss / base)


def test_the_peak_is_chosen_by_inner_rows_alone_and_judged_on_the_others():
    y, group, made = _rows()
    fits = [_fit(y, made, share, seed) for seed, share in enumerate((0.3, 0.9, 0.6))]
    best = np.array(
        [0, 2, 1, 2, 2, 0, 2, 2, 1, 2]
    )  # best layer of the inner validation scores, by outer split
    for k, fit in enumerate(fits):
        fit["inner"] = np.full((10, 3), 0.1)
        fit["inner"][best == k, 1] = 0.8
    scores, facts = _evaluate(fits, y, group, made, layers=[0, 5, 9])
    right = [
        (fits[k]["predicted"][outer.repeat] == y)[outer.test]
        for k, outer in zip(best, made.outer, strict=True)
    ]
    peak = facts["peak"]
    assert peak["estimate"] == pytest.approx(np.concatenate(right).mean())
    assert peak["low"] < peak["estimate"] < peak["high"]
    assert peak["layers"] == {"0": 2, "5": 2, "9": 6} and facts["best_layer"] == 9
    assert peak["naive"] == scores[1].score > max(scores[2].score, peak["estimate"])


def test_of_layers_that_inner_rows_prefer_alike_the_lowest_is_the_peak():
    y, group, made = _rows()
    fits = [_fit(y, made, 0.7, seed) for seed in range(3)]
    _, facts = _evaluate(fits, y, group, made)
    assert facts["best_layer"] == 0 and facts["peak"]["layers"] == {"0": 10}


def test_of_layers_that_differ_in_the_last_bit_of_a_mean_the_lowest_is_the_peak():
    y, group, made = _rows()
    fits = [_fit(y, made, 0.7, seed) for seed in range(3)]
    fits[1]["inner"] = np.nextafter(fits[1]["inner"], 1)
    _, facts = _evaluate(fits, y, group, made)
    assert facts["best_layer"] == 0 and facts["peak"]["layers"] == {"0": 10}


def test_a_layer_whose_inner_statistic_is_not_defined_is_never_chosen():
    y, group, made = _rows()
    fits = [_fit(y, made, share, seed) for seed, share in enumerate((0.9, 0.4))]
    fits[0]["inner"] = np.full((10, 3), np.nan)
    scores, facts = _evaluate(fits, y, group, made)
    assert facts["best_layer"] == 1 and facts["peak"]["layers"] == {"1": 10}
    assert all(np.isfinite([score.low, score.high]).all() for score in scores)


def test_differences_to_the_embedding_and_to_the_best_layer_are_paired():
    y, group, made = _rows(600)
    fits = [
        _fit(y, made, share, seed=7) for share in (0.4, 0.8, 0.81)
    ]  # the same rows are hard for all layers
    scores, _ = _evaluate(fits, y, group, made)
    assert scores[0].over_embedding is None and scores[2].below_best is None
    for score in scores[1:]:
        over = score.over_embedding
        assert over["difference"] == pytest.approx(score.score - scores[0].score)
        assert 0 < over["low"] < over["difference"] < over["high"]
    near = scores[1].below_best
    assert near["low"] < near["difference"] < 0 and near["high"] - near["low"] < 0.06
    assert scores[0].below_best["high"] < 0


def test_the_more_layers_are_compared_the_wider_the_intervals_of_their_differences():
    y, group, made = _rows(600)
    fits = [_fit(y, made, 0.5 + k / 100, seed=k) for k in range(20)]
    widths = []
    for some in (fits[:2], fits[:3], fits):
        scores, _ = _evaluate(some, y, group, made, resamples=2000)
        one = scores[0].below_best, scores[1].over_embedding
        widths.append([each["high"] - each["low"] for each in one if each])
    over = [each[-1] for each in widths]
    assert over[0] < over[1] < 0.8 * over[2]
    assert widths[2][0] > 1.1 * over[2]  # 190 pairs of layers, and 19 differences to the embedding


def test_what_inner_folds_did_not_expect_makes_intervals_wider():
    y, group, made = _rows(600)
    fits = [_fit(y, made, 0.7) for _ in range(2)]
    fits[1]["inner"] = np.full((10, 3), 0.2)
    (one, other), _ = _evaluate(fits, y, group, made)
    ratio = (other.high - other.low) / (one.high - one.low)
    assert ratio == pytest.approx((1.75 / 1.25) ** 0.5, rel=0.02)


def test_without_layer_0_or_with_one_layer_there_is_no_such_difference():
    y, group, made = _rows()
    scores, facts = _evaluate([_fit(y, made), _fit(y, made, 0.5)], y, group, made, layers=[3, 4])
    assert scores[1].over_embedding is None and scores[1].below_best is not None
    assert "embedding output" not in facts["baselines"]
    (score,), facts = _evaluate([_fit(y, made)], y, group, made, layers=[0])
    assert score.over_embedding is score.below_best is facts["peak"]["over_embedding"] is None
    assert facts["best_layer"] == 0 and facts["peak"]["layers"] == {"0": 10}
    assert facts["peak"]["estimate"] == score.score


def test_p_is_corrected_by_the_largest_of_all_layers():
    y, group, made = _rows()
    null = [np.array([0.3, 0.5, 0.2, 0.4]), np.array([0.6, 0.1, 0.1, 0.1])]
    fits = [
        _fit(y, made, seed=k, null=null[k], null_observed=np.array(one))
        for k, one in enumerate((0.45, 0.7))
    ]
    scores, facts = _evaluate([*fits, _fit(y, made)], y, group, made)
    assert [score.p for score in scores] == [0.4, 0.2, None]
    assert [score.p_corrected for score in scores] == [0.6, 0.2, None]
    assert facts["n_permutations"] == 4 and facts["n_movable"] == 60


def test_rows_that_no_permutation_can_move_are_counted_apart():
    """Groups with several labels can exchange them only with groups of the same size."""
    size = np.array([2] * 20 + list(range(3, 13)))
    group = np.char.add("g", np.repeat(np.arange(30), size).astype(str))
    y = np.arange(len(group)) // 2 % 3
    y[::2] = (y[::2] + 1) % 3
    made = make_design(y, group, np.full(len(y), ""))
    fit = _fit(y, made, null=np.zeros(9), null_observed=np.array(0.5))
    _, facts = _evaluate([fit], y, group, made)
    assert 0 < facts["n_movable"] <= 40
    assert _evaluate([_fit(y, made)], y, group, made)[1]["n_movable"] is None


def test_strengths_and_scores_at_each():
    y, group, made = _rows()
    chosen = np.array([0, 1, 1, 2, 1, 1, 1, 1, 1, 1])
    fit = _fit(y, made, chosen=chosen, by_strength=np.array([0.5, 0.7, 0.6]))
    (score,), _ = _evaluate([fit], y, group, made)
    assert score.strength == 0.1 and score.strengths == [0.01, 0.1, 0.1, 1, *[0.1] * 6]
    assert score.by_strength == {"0.01": 0.5, "0.1": 0.7, "1": 0.6}


def test_selectivity_compares_normalised_scores_of_the_same_rows_and_repeats():
    y, group, made = _rows(600)
    of_control = np.where(made.test_split >= 0, 0.9, 0.0)  # normalised loss of every row
    fit = _fit(y, made, 0.8, **{"control.names.loss": of_control})
    scores, facts = _evaluate([fit, _fit(y, made, 0.5)], y, group, made)
    one = scores[0].controls["names"]
    normalised = (scores[0].score - facts["chance"]) / (1 - facts["chance"])
    assert one["score"]["difference"] == pytest.approx(normalised)
    assert one["control"]["difference"] == pytest.approx(0.1)
    difference = one["selectivity"]
    assert difference["difference"] == pytest.approx(normalised - 0.1)
    assert difference["low"] < normalised - 0.1 < difference["high"]
    assert facts["peak"]["controls"] == scores[0].controls and scores[1].controls == {}


def test_what_a_probe_does_not_have_is_none():
    y, group, made = _rows()
    nothing = {"strengths": np.array([np.nan]), "final_strength": np.array(np.nan)}
    nothing |= {"inner": np.full((10, 1), 0.5), "chosen": np.zeros(10, np.intp)}
    (score,), facts = _evaluate(
        [_fit(y, made, **nothing, gap=np.full(4, np.nan, np.float32))], y, group, made
    )
    assert score.strength is score.capacity is score.p is score.p_within is score.ece is None
    assert score.code_bits is score.compression is score.max_gap is facts["max_gap"] is None
    assert score.strengths == score.curve == [] and score.by_strength == score.controls == {}
    assert score.at_edge == score.n_uncertified == 0 and score.n_fits == facts["n_fits"] == 4


def test_fits_whose_gap_is_above_the_tolerance_are_counted():
    y, group, made = _rows()
    gaps = np.array([1e-6, 2e-6, 1e-9, np.nan], np.float32), np.array([1e-3, 1e-8], np.float32)
    scores, facts = _evaluate([_fit(y, made, gap=gap) for gap in gaps], y, group, made)
    assert [score.n_uncertified for score in scores] == [1, 1]
    assert (facts["n_fits"], facts["n_uncertified"]) == (6, 2)
    assert facts["max_gap"] == pytest.approx(1e-3) and facts["tolerance"] == 1e-6


def test_probabilities_code_lengths_and_the_curve():
    y, group, made = _rows()
    probability = np.full((2, 60, 3), np.nan, np.float32)
    probability[:] = np.eye(3)[y] * 0.7 + 0.1
    fit = _fit(
        y, made, 1.0, probability=probability, code_bits=np.array([29.0, 31.0]),
        uniform_bits=np.array(90.0), control_code_bits=np.array([90.0, 90.0]),
        control_uniform_bits=np.array(90.0), portion_rows=np.array([12.0, 48.0]),
        curve=np.array([[0.4], [0.6]]),
    )  # fmt: skip
    (score,), facts = _evaluate([fit], y, group, made)
    assert score.ece == pytest.approx(0.2) and score.brier == pytest.approx(0.04 + 2 * 0.01)
    assert score.code_bits == 30 and score.compression == 3 and score.code_error == 1
    assert score.control_compression == 1 and score.control_code_error == 0
    assert score.curve == [[12.0, 0.5, pytest.approx(0.1)], [48.0, 1.0, None]]
    assert facts["peak"]["ece"] == score.ece > facts["peak"]["ece_null"]
    (score,), facts = _evaluate([fit], y, group, made, weighted=True)
    assert score.ece is score.brier is facts["peak"]["ece"] is facts["peak"]["ece_null"] is None


def test_baselines_know_the_training_rows_labels_and_prompts_alone():
    rng = np.random.default_rng(0)
    n = 400
    prompts = rng.integers(5, size=n)
    y = np.where(rng.random(n) < 0.8, prompts % 3, rng.integers(3, size=n))
    group = np.arange(n).astype(str)
    made = make_design(y, group, np.full(n, ""), repeats=1)
    fit = _fit(y, made, 0.95)
    (score,), facts = _evaluate([fit], y, group, made, prompts=prompts.astype(str))
    right = []
    for outer in made.outer:
        for row in outer.test:
            same = y[made.train_sets[outer.train_set] & (prompts == prompts[row])]
            right.append(np.bincount(same).argmax() == y[row])
    prompt_only = facts["baselines"]["words alone"]
    assert prompt_only == facts["baselines"]["look-up"]
    assert prompt_only["score"] == pytest.approx(np.mean(right))
    assert prompt_only["low"] < np.mean(right) < prompt_only["high"]
    assert score.chance == facts["chance"] == facts["baselines"]["majority"]["score"]
    assert score.chance == pytest.approx(np.bincount(y).max() / n)
    over = facts["peak"]["over_words"]
    assert over["difference"] == pytest.approx(score.score - np.mean(right)) and over["low"] > 0


@pytest.mark.parametrize("own_split", [False, True])
def test_of_prompts_that_a_fit_has_not_seen_the_commonest_label_is_said(own_split):
    y, group, made = _rows(600, own_split=own_split)
    y[::2] = 2
    prompts = np.arange(600).astype(str)
    _, facts = _evaluate([_fit(y, made)], y, group, made, prompts=prompts)
    assert facts["chance"] > 0.6
    assert facts["baselines"]["words alone"]["score"] == pytest.approx(facts["chance"])


def test_one_prompt_for_all_rows_is_no_baseline():
    y, group, made = _rows()
    _, facts = _evaluate([_fit(y, made)], y, group, made, prompts=np.full(60, "one"))
    assert "words alone" not in facts["baselines"] and facts["peak"]["over_words"] is None


def test_of_numbers_the_prompts_mean_is_said():
    rng = np.random.default_rng(0)
    prompts = rng.integers(5, size=300)
    y, group = prompts + 0.5 * rng.standard_normal(300), np.arange(300).astype(str)
    made = make_design(y, group, np.full(300, ""))
    _, facts = _evaluate([_fit(y, made)], y, group, made, prompts=prompts.astype(str))
    explained = 1 - 0.25 / (0.25 + 2)
    assert facts["baselines"]["words alone"]["score"] == pytest.approx(explained, abs=0.03)


def test_no_layer_is_refused():
    y, group, made = _rows()
    with pytest.raises(ProbeError, match="no layer was fitted"):
        _evaluate([], y, group, made)


class _Loaded:
    """A sequence that makes each layer when it is accessed and does not keep it."""

    def __init__(self, y, made, n):
        self.make, self.n, self.asked = (lambda k: _fit(y, made, 0.5 + k / 10, k)), n, []

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        if k >= self.n:
            raise IndexError
        self.asked.append(k)
        return MappingProxyType(self.make(k))


def test_each_layer_is_asked_for_twice():
    y, group, made = _rows()
    fits = _Loaded(y, made, 4)
    lazily = _evaluate(fits, y, group, made)
    assert fits.asked == [0, 1, 2, 3, 0, 1, 2, 3]
    assert lazily == _evaluate([fits.make(k) for k in range(4)], y, group, made)


# Simulations with a known truth; tests/benchmarks/estimate_simulation.py has more of them.

_CLUSTERED = {"rows": 4, "unequal": True, "depend": 0.5}


_INTERVAL_WORLDS = (
    World(100, own_split=True, n_test=50, apart=(1.0,), **_CLUSTERED),
    World(100, own_split=True, n_test=50, apart=(1.0,), one_label=False, **_CLUSTERED),
    World(60, own_split=True, n_test=30, rows=1, unequal=False, apart=(2.0,)),
    World(60, apart=(0.0,), **_CLUSTERED),
    World(60, apart=(1.0,), dims=50, **_CLUSTERED),
    World(60, apart=(0.5,), one_label=False, **_CLUSTERED),
    World(60, rows=1, unequal=False, apart=(0.5,)),
)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    shares = [coverage(world, n_worlds=60)[0] for world in _INTERVAL_WORLDS]
    assert min(shares) >= 0.9 and 0.935 <= np.mean(shares) <= 0.985


@pytest.mark.parametrize("own_split", [False, True])
def test_intervals_of_recall_hold_that_of_the_fitted_probes(own_split):
    """The true recall of a probe is known for normal states."""
    world = World(
        90, apart=(0.6,), own_split=own_split, n_test=40, rows=2, unequal=False, depend=0.3
    )
    rng, held = np.random.default_rng(0), []
    for i in range(100):
        y, group, states = draw(world, rng)
        made = make_design(y, group, split_names(world, group), seed=i)
        fits, probes = fit_layers(states, y, made)
        rows = EvaluatedRows(y, group, made, metric_for(y), ["a", "b"])
        _, facts = evaluate([0], fits, rows, EvaluationSettings(resamples=300, seed=i))
        for label, name in enumerate("ab"):
            found = facts["peak"]["recall"][name]
            true = np.mean([recall_of(probe, world, label) for probe in probes])
            held.append(found["low"] <= true <= found["high"])
    assert 0.92 <= np.mean(held) <= 0.985


def test_intervals_of_all_differences_hold_the_truth_at_once():
    world = World(120, own_split=True, n_test=60, apart=(0.2, 0.5, 0.8, 1.0, 1.0), **_CLUSTERED)
    rng, held = np.random.default_rng(0), []
    for i in range(100):
        scores, facts, (true,) = judge(world, rng, seed=i)
        best = facts["best_layer"]
        held.append(
            all(
                one is None or one["low"] <= true[k] - true[of] <= one["high"]
                for k, score in enumerate(scores)
                for one, of in ((score.over_embedding, 0), (score.below_best, best))
            )
        )
    assert np.mean(held) >= 0.92  # two sets of intervals, each with 95 % coverage


_NULL_WORLDS = (
    World(60, rows=1, unequal=False, apart=(0.0,) * 4),
    World(60, apart=(0.0,) * 4, **_CLUSTERED),
    World(60, apart=(0.0,) * 4, one_label=False, **_CLUSTERED),
    World(60, apart=(0.0,) * 4, larger=4, prior=True, **_CLUSTERED),
    World(60, apart=(0.0,) * 4, own_split=True, n_test=20, **_CLUSTERED),
)


def test_where_there_is_nothing_few_permutation_tests_find_something():
    """A share of `alone` is that of the first layer; a share of `together` is that of any layer."""
    alone, together = zip(
        *(false_positives(world, n_worlds=60, n_permutations=19) for world in _NULL_WORLDS),
        strict=True,
    )
    assert max(*alone, *together) <= 0.09
    assert np.mean(alone) <= 0.06 and np.mean(together) <= 0.06


def test_where_there_is_something_the_permutation_test_finds_it():
    world = World(60, apart=(0.0, 0.8, 0.0), rows=3, unequal=False)
    rng, found, wrongly = np.random.default_rng(0), [], []
    for i in range(60):
        scores, facts, _ = judge(world, rng, n_permutations=39, seed=i)
        found.append(scores[1].p_corrected <= 0.05 and facts["best_layer"] == 1)
        wrongly.append(min(scores[k].p_corrected for k in (0, 2)) <= 0.05)
    assert np.mean(found) > 0.9 and np.mean(wrongly) <= 0.1


@pytest.mark.parametrize("own_split", [False, True])
def test_the_peak_is_unbiased_where_there_is_nothing_and_the_largest_score_is_not(own_split):
    world = World(80, apart=(0.0,) * 12, own_split=own_split, **_CLUSTERED)
    rng, found = np.random.default_rng(0), []
    for i in range(100):
        scores, facts, _ = judge(world, rng, seed=i)
        one, mean = facts["peak"], np.mean([score.score for score in scores])
        held = one["low"] <= 0.5 <= one["high"]
        found.append((one["estimate"] - 0.5, one["estimate"] - mean, one["naive"] - 0.5, held))
    (biased, chosen, naive, held), errors = np.mean(found, axis=0), np.std(found, axis=0) / 100**0.5
    assert abs(biased) < 3 * errors[0] < 0.025 and abs(chosen) < 3 * errors[1] < 0.025
    assert naive > 20 * errors[2] and naive > 0.05
    assert 0.9 <= held <= 0.99


def test_33_layers_of_many_rows_are_resampled_in_seconds():
    n = 3000
    y, group = np.arange(n) % 3, np.char.add("g", (np.arange(n) // 2).astype(str))
    made = make_design(y, group, np.full(n, ""))
    fits = [_fit(y, made, 0.4 + k / 66, k) for k in range(33)]
    start = time.process_time()
    _evaluate(fits, y, group, made, resamples=2000)
    assert time.process_time() - start < 5
