"""Runs are compared on the same rows, matched by id; real differences are detected."""

import io
import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from benchmarks import comparison_simulation
from helpers import made
from rich.console import Console

from vsp.cli.main import main
from vsp.errors import ConfigError, RunError
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.reporting.comparison import comparison_page

QUICK = ComparisonSettings(resamples=200, flips=199)
ROWS = ("id", "group", "label", "predicted", "outer", "base", "probability", "rows")


def _of(arrays, rows):
    """The predictions of these rows, in this order."""
    place = {"predicted": -1, "outer": -1, "base": -1, "probability": -2}
    return {
        name: np.take(array, rows, axis=place.get(name, 0)) if name in ROWS else array
        for name, array in arrays.items()
    }


def _flat(n_layers, accuracy=0.4, **options):
    return made.predictions(np.full(n_layers, accuracy), **options)


@pytest.fixture
def runs(tmp_path):
    """Write predictions as results and return the arguments of `compare`."""

    def written(changes=None, **named):
        made_of = {
            name: made.made(tmp_path / name, arrays, **(changes or {}).get(name, {}))
            for name, arrays in named.items()
        }
        return list(made_of.items())

    return written


def _scores(arrays):
    return 1 - made.loss(arrays).mean(axis=(1, 2))


def _plan(n_layers):
    return {"plan": made.plan(n_layers=n_layers).model_dump(mode="json"), "n_layers": n_layers}


def test_a_difference_is_that_of_the_scores_on_the_same_rows(runs):
    first, other = made.predictions(made.accuracies(13)), _flat(13, seed=1)
    (pair,) = compare(runs(first=first, other=other), QUICK)
    assert (pair.first, pair.other, pair.statistic) == ("first", "other", "accuracy")
    assert (pair.n_rows, pair.n_only_first, pair.n_only_other, pair.n_groups) == (240, 0, 0, 120)
    assert pair.same_splits and not pair.by_depth and pair.n_repeats == 2
    for layer, one in enumerate(pair.layers):
        scores = (_scores(first)[layer], _scores(other)[layer])
        assert (one.first_layer, one.other_layer) == (layer, layer)
        assert np.allclose((one.first_score, one.other_score), scores)
        assert one.difference == pytest.approx(scores[1] - scores[0])
        assert one.low < one.difference < one.high and one.p <= one.p_corrected <= 1
    assert pair.layers[8].p_corrected < 0.05 and pair.layers[8].high < 0


def test_rows_are_matched_by_id_and_not_by_place(runs):
    first, other = made.predictions(made.accuracies(13)), _flat(13, seed=1)
    mixed = _of(other, np.random.default_rng(0).permutation(240))
    found = compare(runs(first=first, same=other, mixed=mixed), QUICK)
    assert replace(found[0], other="") == replace(found[1], other="")


def test_rows_that_are_not_in_both_are_counted_and_left_out(runs):
    first, other = made.predictions(made.accuracies(13)), _flat(13, seed=1)
    halves = _of(first, np.arange(200)), _of(other, np.arange(60, 240))
    (pair,) = compare(runs(first=halves[0], other=halves[1]), QUICK)
    assert (pair.n_rows, pair.n_only_first, pair.n_only_other, pair.n_groups) == (140, 60, 40, 70)
    both = np.arange(60, 200)
    expected = _scores(_of(other, both)) - _scores(_of(first, both))
    assert np.allclose([one.difference for one in pair.layers], expected)


def test_rows_that_a_run_did_not_judge_are_not_its_rows(runs):
    first, other = _flat(2, repeats=1), _flat(2, repeats=1, seed=1)
    first["outer"] = np.where(np.arange(240) < 40, 0, -1)[None]
    (pair,) = compare(runs(first=first, other=other), QUICK)
    assert (pair.n_rows, pair.n_only_first, pair.n_only_other) == (40, 0, 200)
    assert not pair.same_splits


def test_the_same_run_is_no_better_than_itself(runs):
    ((name, results),) = runs(first=made.predictions(made.accuracies(13)))
    (pair,) = compare([(name, results), (name, results)], QUICK)
    for one in (*pair.layers, pair.peak):
        assert one.difference == 0 and one.low < 0 < one.high and one.p == one.p_corrected == 1


def test_what_is_found_does_not_depend_on_which_run_comes_first(runs):
    named = runs(first=made.predictions(made.accuracies(5)), other=_flat(5, seed=1))
    (there,), (back,) = compare(named, QUICK), compare(named[::-1], QUICK)
    for one, again in zip((*there.layers, there.peak), (*back.layers, back.peak), strict=True):
        assert one.difference == pytest.approx(-again.difference)
        assert (one.low, one.high) == pytest.approx((-again.high, -again.low))
        assert (one.p, one.p_corrected) == (again.p, again.p_corrected)


@pytest.mark.parametrize("seed", range(8))
def test_few_groups_are_exchanged_in_every_way(runs, seed):
    """Compared with direct enumeration; with one split, folds add no variance."""
    first = made.predictions(made.accuracies(3), n_groups=8, repeats=1, seed=seed)
    other = made.predictions(made.accuracies(3)[::-1], n_groups=8, repeats=1, seed=seed + 10)
    for arrays in (first, other):
        arrays["outer"] = np.zeros((1, 16), np.int16)
    (pair,) = compare(runs(first=first, other=other), ComparisonSettings(flips=255))
    assert pair.n_flips == 256
    gained = (made.loss(first) - made.loss(other))[:, 0].reshape(3, 8, 2).sum(axis=2)
    error = np.sqrt(np.maximum((gained**2).sum(axis=1), 1e-9))
    signs = np.array(list(itertools.product((1, -1), repeat=8)))
    drawn, observed = np.abs(signs @ gained.T), np.abs(gained.sum(axis=1))
    for layer, one in enumerate(pair.layers):
        assert one.p == np.mean(drawn[:, layer] >= observed[layer])
        as_large = (drawn / error).max(axis=1) >= observed[layer] / error[layer] - 1e-9
        assert one.p_corrected == np.mean(as_large)
    (drawn_at_random,) = compare(runs(first=first, other=other), ComparisonSettings(flips=200))
    assert drawn_at_random.n_flips == 200
    for one, again in zip(pair.layers, drawn_at_random.layers, strict=True):
        assert one.p == pytest.approx(again.p, abs=0.12)


def test_groups_and_not_rows_make_a_difference_sure(runs):
    """Ten rows of a group that are always right or wrong together count as one."""
    label = np.array(made.NAMES)[np.repeat(np.arange(24) % 4, 10)]
    arrays = [_of(_flat(1, repeats=1, n_groups=120, seed=seed), np.arange(240)) for seed in (0, 1)]
    rng = np.random.default_rng(3)
    right = [np.repeat(rng.random(24) < share, 10) for share in (0.5, 0.75)]
    for one, hit in zip(arrays, right, strict=True):
        true = np.searchsorted(made.NAMES, label)
        one["label"], one["outer"] = label, np.zeros((1, 240), np.int16)
        one["predicted"] = np.where(hit, true, (true + 1) % 4)[None, None].astype(np.int16)
    rows = compare(runs(first=arrays[0], other=arrays[1]), QUICK)[0].layers[0]
    for one in arrays:
        one["group"] = np.repeat(np.arange(24), 10).astype(str)
    groups = compare(runs(first=arrays[0], other=arrays[1]), QUICK)[0].layers[0]
    assert groups.difference == rows.difference and groups.p > 3 * rows.p
    assert groups.high - groups.low > 2 * (rows.high - rows.low)


def test_rows_that_share_a_group_in_either_run_stay_together(runs):
    first, other = _flat(1, n_groups=4), _flat(1, n_groups=4, seed=1)
    first["group"] = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    other["group"] = np.array(["a", "x", "x", "y", "z", "z", "v", "w"])
    (pair,) = compare(runs(first=first, other=other), QUICK)
    assert pair.n_groups == 3


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((5, 5), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
        ((3, 5), [(0, 0), (1, 2), (2, 4)]),
        ((5, 3), [(0, 0), (2, 1), (4, 2)]),
        ((4, 7), [(0, 0), (1, 2), (2, 4), (3, 6)]),
        ((1, 3), [(0, 0)]),
    ],
)
def test_layers_are_matched_by_number_or_by_relative_depth(runs, layers, expected):
    n_first, n_other = layers
    named = runs(
        {"first": _plan(n_first), "other": _plan(n_other)},
        first=_flat(n_first), other=_flat(n_other, seed=1),
    )  # fmt: skip
    (pair,) = compare(named, QUICK)
    shallow_first = [pair for pair in expected if n_first <= n_other] or sorted(expected)
    assert [(one.first_layer, one.other_layer) for one in pair.layers] == shallow_first
    assert pair.by_depth == (n_first != n_other)


def test_only_layers_that_were_probed_in_both_are_compared(runs):
    first, other, third = _flat(3), _flat(3, seed=1), _flat(3, seed=2)
    first["layers"], other["layers"] = np.array([2, 6, 8]), np.array([1, 2, 8])
    third["layers"] = np.array([0, 8, 16])
    changes = {
        "first": {**_plan(9), "best_layer": 8}, "other": {**_plan(9), "best_layer": 8},
        "third": {**_plan(17), "best_layer": 8},
    }  # fmt: skip
    pairs = compare(runs(changes, first=first, other=other, third=third), QUICK)
    numbers = [[(one.first_layer, one.other_layer) for one in pair.layers] for pair in pairs]
    assert numbers == [[(2, 2), (8, 8)], [(8, 16)]]


def test_a_peak_is_judged_on_rows_that_did_not_choose_it(runs):
    """Each outer split uses the layer with the best inner validation score."""
    first, other = _flat(2, repeats=1, seed=0), _flat(2, repeats=1, seed=1)
    inner = np.zeros((2, 5, 1))
    inner[0, :3] = inner[1, 3:] = 0.5
    named = [
        (name, made.made(results.folder, arrays, inner_scores=inner))
        for (name, results), arrays in zip(runs(a=first, b=other), (first, other), strict=True)
    ]
    (pair,) = compare(named, QUICK)
    chosen = np.where(first["outer"][0] < 3, 0, 1)
    for score, arrays in ((pair.peak.first_score, first), (pair.peak.other_score, other)):
        lost = made.loss(arrays)[:, 0]
        assert score == pytest.approx(1 - np.where(chosen == 0, lost[0], lost[1]).mean())
    assert pair.peak_unseen and pair.peak.p == pair.peak.p_corrected


@pytest.mark.parametrize("other", [np.nextafter(0.5, 1), np.nan])
def test_of_layers_that_are_preferred_alike_the_peak_is_the_first_as_in_the_results(runs, other):
    arrays, inner = made.predictions(np.array([0.4, 0.6]), repeats=1), np.full((2, 5, 1), 0.5)
    inner[1] = other
    named = [
        (name, made.made(results.folder, arrays, inner_scores=inner))
        for name, results in runs(a=arrays, b=arrays)
    ]
    (pair,) = compare(named, QUICK)
    assert pair.peak.first_score == pytest.approx(pair.layers[0].first_score)
    assert pair.layers[0].first_score != pair.layers[1].first_score


def test_numbers_are_compared_by_r2(runs):
    first, other = made.numbers(5), made.numbers(5, seed=0)
    other["predicted"] = ((first["predicted"] + other["label"]) / 2).astype(np.float32)
    (pair,) = compare(runs(first=first, other=other), QUICK)
    assert pair.statistic == "R²"
    for layer, one in enumerate(pair.layers):
        lost = made.loss(first)[layer].sum() / first["base"].sum()
        assert one.first_score == pytest.approx(1 - lost, abs=1e-5)
        assert one.difference == pytest.approx(0.75 * lost, abs=1e-4) and one.p_corrected < 0.05


def test_runs_that_were_split_in_other_ways_are_less_sure(runs):
    first, other = made.predictions(made.accuracies(13)), _flat(13, seed=1)
    split = {**other, "outer": np.ascontiguousarray(other["outer"][:, ::-1])}
    same, unlike = compare(runs(first=first, same=other, split=split), QUICK)
    assert same.same_splits and not unlike.same_splits
    for one, again in zip(same.layers, unlike.layers, strict=True):
        assert again.high - again.low >= one.high - one.low and again.p >= one.p
    text, _ = _table([unlike])
    assert "The runs use different splits" in text


def test_a_run_of_fewer_repeats_is_compared_on_those(runs):
    named = runs(first=_flat(3), other=_flat(3, repeats=1, seed=1))
    (pair,), (back,) = compare(named, QUICK), compare(named[::-1], QUICK)
    assert pair.n_repeats == back.n_repeats == 1
    expected = 1 - made.loss(_flat(3))[:, 0].mean(axis=1)
    assert np.allclose([one.first_score for one in pair.layers], expected)
    assert np.allclose([one.other_score for one in back.layers], expected)


def test_the_same_seed_gives_the_same_figures(runs):
    named = runs(first=made.predictions(made.accuracies(5)), other=_flat(5, seed=1))
    assert compare(named, QUICK) == compare(named, QUICK)
    assert compare(named, QUICK) != compare(named, replace(QUICK, seed=1))


@pytest.mark.parametrize(("n", "repeats"), [(150, 1), (100, 3)])
def test_runs_that_are_alike_differ_no_more_often_than_is_said(n, repeats):
    """Each run has new random states and is cross-validated: not only groups vary."""
    rates = comparison_simulation.rates(n, repeats)
    assert 0.9 <= rates["covered"] <= 0.99 and 0.9 <= rates["peak covered"] <= 0.995
    assert rates["p"] <= 0.06 and rates["p corrected"] <= 0.08 and rates["p peak"] <= 0.06


def test_a_run_with_more_signal_is_found_to_have_it(tmp_path):
    pairs = [
        comparison_simulation.experiment(seed, tmp_path, (0.6, 1.6), 120) for seed in range(20)
    ]
    found = [one.p_corrected <= 0.05 and one.low > 0 for pair in pairs for one in pair.layers]
    assert np.mean(found) > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array(made.NAMES)[(np.arange(240) + 1) // 2 % 4]},
         r"120 of 240 rows have different labels, for example 'sample_00001': 'above' and 'below'; compare"),
        ({"id": np.array([f"other_{i}" for i in range(240)])},
         "none of 240 and 240 test rows is in both; compare runs of the same dataset"),
        ({"id": np.repeat("twin", 240)},
         "other/logistic: 239 of 240 rows have the id of another row, so rows cannot be matched"),
        ({"outer": np.full((2, 240), -1)}, "none of 240 and 0 test rows is in both"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_one_line(runs, change, message):
    named = runs(first=_flat(2), other={**_flat(2, seed=1), **change})
    with pytest.raises(RunError, match=message) as caught:
        compare(named, QUICK)
    assert "\n" not in str(caught.value)


SIDES = np.array(["above", "below", "left_of", "right_of"])
TURNED = {
    "mirrored": np.array(["above", "below", "right_of", "left_of"]),
    "swapped": np.array(["below", "above", "right_of", "left_of"]),
}


def _sides(names=SIDES, seed=0):
    """The same rows with renamed labels; the same predictions are right."""
    arrays = _flat(2, seed=seed)
    place = np.searchsorted(made.NAMES, arrays["label"])
    wrong, order = arrays["predicted"] != place, np.argsort(names)
    arrays["label"], arrays["classes"] = names[place], names[order]
    true = np.argsort(order)[place]
    arrays["predicted"] = np.where(wrong, (true + 1) % 4, true).astype(np.int16)
    return arrays


def _of_variants(*variants):
    return {"plan": made.plan(n_layers=2, variants=variants).model_dump(mode="json")}


@pytest.mark.parametrize("variant", TURNED)
def test_labels_that_a_variant_turns_are_the_same_rows(runs, variant):
    """The comparison counts correct predictions, whatever the labels are called."""
    first, plain, other = _sides(), _sides(seed=1), _sides(TURNED[variant], seed=1)
    changes = {"other": _of_variants(variant), "twice": _of_variants(variant, variant)}
    named = runs(changes, first=first, plain=plain, other=other, twice=plain)
    same, turned, twice = compare(named, QUICK)
    n_turned = int((first["label"] != other["label"]).sum())
    assert turned.n_relabelled == n_turned >= 120 and same.n_relabelled == twice.n_relabelled == 0
    assert replace(turned, other="", n_relabelled=0) == replace(same, other="", n_relabelled=0)
    assert (
        f"{n_turned} rows have another label in other, because its dataset" in _table([turned])[0]
    )
    assert "another label" not in _table([same])[0]


def test_two_variants_of_one_dataset_are_compared(runs):
    mirrored, swapped = (_sides(TURNED[name], seed) for seed, name in enumerate(TURNED))
    changes = {"a": _of_variants("mirrored"), "b": _of_variants("swapped")}
    (pair,) = compare(runs(changes, a=mirrored, b=swapped), QUICK)
    assert pair.n_relabelled == 120  # above and below


@pytest.mark.parametrize(
    ("variants", "labels"),
    [
        ((), TURNED["mirrored"]),  # labels are mirrored, and the plan names no variant
        (("blank",), TURNED["mirrored"]),
        (("swapped",), TURNED["mirrored"]),
        (("mirrored", "mirrored"), TURNED["mirrored"]),
        (("mirrored",), SIDES),  # the plan names a variant, and labels are not mirrored
    ],
)
def test_labels_that_a_variant_does_not_turn_are_refused(runs, variants, labels):
    named = runs({"other": _of_variants(*variants)}, first=_sides(), other=_sides(labels))
    with pytest.raises(
        RunError, match=r"of 240 rows have different labels, .* compare runs of the"
    ):
        compare(named, QUICK)


def test_results_of_before_variants_are_compared(runs):
    plan = made.plan(n_layers=2).model_dump(mode="json", exclude={"variants"})
    named = runs({"first": {"plan": plan}}, first=_sides(), other=_sides(seed=1))
    assert compare(named, QUICK)[0].n_rows == 240


def test_a_label_and_a_number_are_not_compared(runs):
    with pytest.raises(
        RunError, match="one has the statistic accuracy, the other R²; compare probes of"
    ):
        compare(runs(first=_flat(2), other=made.numbers(2)), QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statistic": "x"}, "'x' is not a statistic of this version"),
        ({"settings": []}, "settings"),
    ],
)
def test_a_strangers_summary_is_one_error(runs, changes, message):
    with pytest.raises(RunError, match=message):
        compare(runs({"other": changes}, first=_flat(2), other=_flat(2)), QUICK)


def test_numbers_that_are_all_alike_have_no_r2(runs):
    arrays = made.numbers(2)
    few = {**arrays, "label": np.full(240, 3.0)}
    with pytest.raises(RunError, match="240 common rows have the same number"):
        compare(runs(first=few, other=few), QUICK)


def test_runs_without_a_layer_in_common_are_refused(runs):
    first, other = _flat(1), _flat(1, seed=1)
    first["layers"], other["layers"] = np.array([2]), np.array([3])
    named = runs(
        {"first": {**_plan(9), "best_layer": 2}, "other": {**_plan(9), "best_layer": 3}},
        first=first, other=other,
    )  # fmt: skip
    with pytest.raises(RunError, match="first and other: no common layer; probe the same layers"):
        compare(named, QUICK)


def test_one_run_is_not_compared(runs):
    with pytest.raises(ConfigError, match="1 run to compare; name two or more"):
        compare(runs(first=_flat(2)), QUICK)


@pytest.mark.parametrize("name", ["summary.json", "predictions.npz", "estimates.npz"])
def test_damaged_results_are_one_line(runs, name):
    named = runs(first=_flat(2, n_groups=8), other=_flat(2, n_groups=8, seed=1))
    path = named[1][1].folder / name
    body = path.read_bytes()
    for n in range(0, len(body), 97):
        path.write_bytes(body[:n])
        with pytest.raises(RunError, match="`vsp probe --run"):
            compare(named, QUICK)


def _table(pairs, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(comparison_page(pairs))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    return " ".join(text.split()), text.splitlines()


@pytest.mark.parametrize("width", [60, 70, 80, 200])
def test_the_table_has_every_layer_and_the_peaks_at_any_width(runs, width):
    first, other, deep = runs(
        {"deep": _plan(33)},
        first=made.predictions(made.accuracies(13)),
        other=_flat(13, seed=1),
        deep=_flat(33, seed=2),
    )
    named = [first, other, ("[b]deep " + "and long " * 9, deep[1])]
    pairs = compare(named, QUICK)
    text, lines = _table(pairs, width)
    assert "other [b]deep" in text and "layers matched by relative depth" in text
    assert "240 test rows in both, in 120 groups; 0 only in first, 0 only in other" in text
    for pair in pairs:
        for one in pair.layers:
            both = f"{one.first_layer}:{one.other_layer}" if pair.by_depth else f"{one.first_layer}"
            interval = f"[{one.low:+.3f}, {one.high:+.3f}]"
            scores = [f"{one.first_score:.3f}", f"{one.other_score:.3f}", f"{one.difference:+.3f}"]
            row = [both, *scores, *interval.split(), f"{one.p_corrected:.4f}"]
            assert row in [line.split()[:7] for line in lines]
        layers = f"{pair.peak.first_layer}:{pair.peak.other_layer}"
        peaks = [line.split() for line in lines if line.rstrip().endswith("peak")]
        assert [layers, f"{pair.peak.difference:+.3f}"] in [[p[0], p[3]] for p in peaks]


def test_a_bar_is_light_where_there_may_be_no_difference(runs):
    (pair,) = compare(
        runs(first=made.predictions(made.accuracies(13)), other=_flat(13, seed=1)), QUICK
    )
    _, lines = _table([pair])
    bars = [line.split()[-1] for line in lines if line.endswith(("·", "█", "▒"))]
    assert len(bars) == 13 and all(len(bar) == 15 and bar[7] == "│" for bar in bars)
    largest = max(pair.layers, key=lambda one: abs(one.difference))
    for one, bar in zip(pair.layers, bars, strict=True):
        sure = not one.low <= 0 <= one.high
        side, rest = (bar[:7], bar[8:]) if one.difference < 0 else (bar[8:], bar[:7])
        assert set(rest) == {"·"} and ("█" in side) <= sure and ("▒" in side) <= (not sure)
        assert ("·" not in side) == (abs(one.difference) > 0.93 * abs(largest.difference))


def test_runs_that_were_read_by_different_probes_are_said_to_be(runs):
    first, other = made.predictions(made.accuracies(13)), _flat(13, seed=1)
    card = made.summary(made.scores(first))["probe"] | {"probe": "lda", "treatment": "none"}
    pairs = compare(runs({"third": {"probe": card}}, first=first, other=other, third=other), QUICK)
    same, different = (_table([pair])[0] for pair in pairs)
    assert "logistic, treatment center" in same
    assert "; lda" not in same and "different probes" not in same
    assert "logistic, treatment center in first; lda, treatment none in other" in different
    assert "The runs used different probes" in different


def _answer(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    answer = capsys.readouterr()
    return code, answer.out, answer.err


def test_the_command_prints_a_table_or_json(work, capsys):
    first = made.made(work / "results/first", made.predictions(made.accuracies(13)))
    other = made.made(work / "elsewhere/other", _flat(13, seed=1))
    code, text, _ = _answer(capsys, "first", "elsewhere/other")
    assert code == 0 and "peak: " in text and max(map(len, text.splitlines())) <= 80
    assert "other   elsewhere/other" in text and "\x1b" not in text
    code, text, _ = _answer(capsys, "first", "elsewhere/other", "--json", "--seed", 1)
    named = [("first", first), ("elsewhere/other", other)]
    (expected,) = compare(named, ComparisonSettings(seed=1))
    (found,) = json.loads(text)
    assert code == 0 and found.pop("differs") == {}
    assert found == json.loads(json.dumps(asdict(expected)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first"], "1 run to compare; name two or more"),
        (
            ["first", "no"],
            "no: no such run or results in results/ and scratch/; there is first, numbers",
        ),
        (["first", "a/no"], "a/no: is neither a run nor a folder of results; name one of them"),
        (["first", "numbers"], "first and numbers: one has the statistic accuracy, the other R²"),
    ],
)
def test_an_error_of_the_command_is_one_line(work, capsys, arguments, message):
    made.made(work / "results/first", _flat(2))
    made.made(work / "results/numbers", made.numbers(2))
    code, text, line = _answer(capsys, *arguments)
    assert code == 1 and text == "" and line.count("\n") == 1 and message in line
