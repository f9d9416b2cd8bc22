"""The fits of a layer equal those of scikit-learn in plain loops, however pieces are divided."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers.fitted import metric_for
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.controls import control_labels, permuted_labels
from vsp.evaluation.design import make_design
from vsp.evaluation.layer_fits import LayerFitter, LayerTasks, Piece, StrengthChoice
from vsp.evaluation.merged_fits import choose_strengths, merge_pieces
from vsp.evaluation.metrics import score_of_sums
from vsp.evaluation.online_code import Portions
from vsp.evaluation.within_words import permuted_within
from vsp.probes import PROBES

C = (0.003, 0.03, 0.3, 3.0)
_EXACT = {"tol": 1e-10, "max_iter": 10_000}
# The scikit-learn model of each probe.
PLAIN = {
    "logistic": lambda c: OneVsRestClassifier(LogisticRegression(C=c, **_EXACT)),
    "multinomial": lambda c: LogisticRegression(C=c, **_EXACT),  # for three classes or more
    "centroid": lambda _: NearestCentroid(),
    "ridge": lambda alpha: make_pipeline(StandardScaler(), Ridge(alpha)),
    "linear": lambda _: make_pipeline(StandardScaler(), LinearRegression()),
}


def _world(
    numbers=False, own=False, n_groups=24, n_classes=3, n_permutations=5, n_controls=3, folds=3,
    repeats=2, strengths=C, curve=True, seed=0, n_within=0,
):  # fmt: skip
    """Informative states [row, hidden] and the tasks of a layer; two rows a group."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(n_groups), 2)
    group = np.char.add("g", number.astype(str))
    y = np.arange(n_groups)[number] % n_classes
    states = rng.normal(size=(len(y), 6)) + 0.8 * rng.normal(size=(n_classes, 6))[y] + 3
    if numbers:
        y = states @ rng.normal(size=6) + 2 * rng.normal(size=len(y))
    split = np.where(own & (number % 4 == 0), "test", "train" if own else "")
    made = make_design(y, group, split, folds, repeats)
    permuted, _ = permuted_labels(y, group, made.blocks, n_permutations, 0)
    # With only four types, every training set has rows of all types.
    control = control_labels(np.array(list("abcd"))[np.arange(len(y)) % 4], y, n_controls, 0)
    grown = Portions.draw(group, made.train_sets[made.outer[0].train_set], 0) if curve else None
    words = np.array(list("vw"))[np.arange(len(y)) % 2]
    within, _ = permuted_within(y, words, made.blocks, n_within, 0)
    controls = {"types": control} if n_controls else {}
    return states, LayerTasks(
        y, made, metric_for(y), strengths, permuted, within, integer_codes(group), controls,
        grown,
    )  # fmt: skip


def _probe(name, **changes):
    probe = PROBES.load(name)()
    known = probe.get_params()
    wanted = {"tol": 1e-9, **changes}
    return probe.set_params(**{key: value for key, value in wanted.items() if key in known})


def _whole(states, probe, tasks):
    """Run all pieces in one worker."""
    at = LayerFitter(states, probe, tasks)
    searched = [at.search(sets) for sets in tasks.search_pieces]
    choice = choose_strengths(tasks, searched)
    return merge_pieces(
        tasks, probe, searched, choice, [at.run(p, choice) for p in tasks.later_pieces]
    )


def _same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()


class Plainly:
    """The same fits in plain loops with scikit-learn."""

    def __init__(self, name, states, tasks):
        self.name, self.states, self.tasks = name, states, tasks
        self.strengths = tasks.strengths or (None,)
        self.fitted = {}

    def fit(self, y, mask, strength):
        key = y.tobytes(), mask.tobytes(), strength
        if key not in self.fitted:
            self.fitted[key] = PLAIN[self.name](strength).fit(self.states[mask], y[mask])
        return self.fitted[key]

    def sums(self, model, y, mask, judge):
        said = model.predict(self.states[judge])
        if not self.tasks.are_numbers:
            return np.array([(said != y[judge]).sum(), len(judge)])
        return np.array([((said - y[judge]) ** 2).sum(), ((y[judge] - y[mask].mean()) ** 2).sum()])

    def statistic(self, y, which, repeats=1):
        """Statistic over the outer splits of the first repeats; `which` are their strengths."""
        made, total = self.tasks.design, 0
        for i, outer in enumerate(made.outer):
            if outer.repeat < repeats:
                mask = made.train_sets[outer.train_set]
                model = self.fit(y, mask, self.strengths[which[i]])
                total = total + self.sums(model, y, mask, outer.test)
        return 1 - total[0] / total[1]

    def inner(self):
        made, y = self.tasks.design, self.tasks.y
        found = np.zeros((len(made.outer), len(self.strengths)))
        for i, outer in enumerate(made.outer):
            for s, strength in enumerate(self.strengths):
                each = []
                for one in outer.inner:
                    mask = made.train_sets[one.train_set]
                    lost, base = self.sums(self.fit(y, mask, strength), y, mask, one.validation)
                    each.append(1 - lost / base)
                found[i, s] = np.mean(each)
        return found

    def outers(self, chosen):
        """Each outer split and its model at the chosen strength."""
        made = self.tasks.design
        for i, outer in enumerate(made.outer):
            strength = self.strengths[chosen[i]]
            yield outer, self.fit(self.tasks.y, made.train_sets[outer.train_set], strength)

    def predicted(self, chosen):
        made = self.tasks.design
        empty = np.nan if self.tasks.are_numbers else -1
        found = np.full((made.n_repeats, len(self.states)), empty)
        for outer, model in self.outers(chosen):
            found[outer.repeat, outer.test] = model.predict(self.states[outer.test])
        return found

    def probability(self, chosen):
        made, n_classes = self.tasks.design, int(self.tasks.y.max()) + 1
        found = np.full((made.n_repeats, len(self.states), n_classes), np.nan)
        for outer, model in self.outers(chosen):
            found[outer.repeat, outer.test] = model.predict_proba(self.states[outer.test])
        return found

    def curve(self, chosen):
        """Scores [order, portion] without the largest portion; nan if it has one label."""
        y, outer, portions = self.tasks.y, self.tasks.design.outer[0], self.tasks.portions
        train = self.tasks.design.train_sets[outer.train_set]
        scores = np.full((portions.n_orders, portions.n_portions - 1), np.nan)
        for order, k in np.ndindex(scores.shape):
            mask = portions.mask(order, k)
            n_known = len(np.unique(y[mask]))
            if n_known > 1:
                # scikit-learn fits two classes with one vector of weights.
                twice = self.name == "multinomial" and n_known == 2
                strength = self.strengths[chosen[0]]
                model = self.fit(y, mask, 2 * strength if twice else strength)
                lost, base = self.sums(model, y, train, outer.test)
                scores[order, k] = 1 - lost / base
        return scores


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("logistic", {}),
        ("logistic", {"own": True, "n_classes": 2}),
        ("multinomial", {"own": True, "n_groups": 32, "n_controls": 2}),
        ("centroid", {"strengths": ()}),
        ("ridge", {"numbers": True, "n_groups": 72, "strengths": (1.0, 10.0, 100.0)}),
        ("ridge", {"numbers": True, "own": True, "n_groups": 72, "strengths": (1.0, 10.0, 100.0)}),
        ("linear", {"numbers": True, "n_groups": 72, "strengths": ()}),
    ],
)
def test_it_is_what_scikit_learn_finds_in_plain_loops(name, world):
    states, tasks = _world(**world)
    fit = _whole(states, _probe(name), tasks)
    plainly, made = Plainly(name, states, tasks), tasks.design
    inner = plainly.inner()
    assert fit["inner"] == pytest.approx(inner, abs=1e-6)
    chosen, final = inner.round(9).argmax(axis=1), int(inner.mean(axis=0).round(9).argmax())
    assert fit["chosen"].tolist() == chosen.tolist()
    if tasks.strengths:
        assert fit["strengths"].tolist() == list(tasks.strengths)
        assert fit["final_strength"] == tasks.strengths[final]
    else:
        assert np.isnan(fit["strengths"]).all() and np.isnan(fit["final_strength"])

    predicted = plainly.predicted(chosen)
    assert fit["predicted"] == pytest.approx(predicted, rel=1e-4, nan_ok=True)
    assert (np.isfinite(predicted) & (predicted != -1)).tolist() == (made.test_split >= 0).tolist()
    n_strengths = len(plainly.strengths)
    each = [plainly.statistic(tasks.y, [s] * len(made.outer)) for s in range(n_strengths)]
    assert fit["by_strength"] == pytest.approx(each, abs=1e-6)
    assert fit["null_observed"] == pytest.approx(plainly.statistic(tasks.y, chosen), abs=1e-6)
    null = [plainly.statistic(y, chosen) for y in tasks.permuted]
    assert fit["null"] == pytest.approx(null, abs=1e-6)
    control = [plainly.statistic(y, chosen, made.n_repeats) for y in tasks.controls["types"]]
    assert fit["control.types.score"] == pytest.approx(np.mean(control), abs=1e-6)
    tested = fit["base"] > 0
    assert 1 - fit["loss"].sum() / fit["base"].sum() == pytest.approx(
        plainly.statistic(tasks.y, chosen, made.n_repeats), abs=1e-6
    )
    assert tested.tolist() == (made.test_split >= 0).tolist()

    assert fit["curve"] == pytest.approx(plainly.curve(chosen), rel=1e-4, abs=1e-6, nan_ok=True)
    assert fit["portion_rows"].tolist() == tasks.portions.n_rows.mean(axis=0).tolist()
    assert fit["curve"].shape[1] > 1
    if name in ("logistic", "multinomial"):
        assert fit["probability"] == pytest.approx(
            plainly.probability(fit["likeliest"]), abs=1e-4, nan_ok=True
        )
        assert fit["code_bits"].shape == fit["control_code_bits"].shape == (3,)
        n_classes = len(np.unique(tasks.y))
        assert fit["uniform_bits"] == pytest.approx(np.log2(n_classes) * fit["portion_rows"][-1])
    else:
        assert not {"probability", "code_bits", "uniform_bits"} & fit.keys()

    saved = PROBES.load(name).from_arrays(_of_probe(fit))
    model = plainly.fit(tasks.y, made.train_sets[made.final], plainly.strengths[final])
    assert saved.predict(states) == pytest.approx(model.predict(states), rel=1e-4)
    own_split = len(made.outer) == 1
    for i, (_, model) in enumerate(() if own_split else plainly.outers(chosen)):
        of_fold = PROBES.load(name).from_arrays(_of_probe(fit, f"fold.{i}."))
        assert of_fold.predict(states) == pytest.approx(model.predict(states), rel=1e-4)
    n_saved = len({key.split(".")[1] for key in fit if key.startswith("fold.")})
    assert n_saved == (0 if own_split else len(made.outer))


def _of_probe(fit, prefix="probe."):
    return {
        name.removeprefix(prefix): array for name, array in fit.items() if name.startswith(prefix)
    }


def test_every_fit_is_counted():
    _, tasks = _world()
    fit = _whole(*_world()[:1], _probe("logistic"), tasks)
    control = [len(np.unique(y)) for y in tasks.controls["types"]]
    n_problems = 3 * (
        12 * 4  # search: 3 + 3 training sets in each repeat, at each strength
        + 3 * 5  # outer splits of the first repeat × permutations
        + 6  # the probes of the outer splits that are saved
        + 1  # the probe of all rows
    )
    n_problems += 6 * sum(3 if n == 3 else 1 for n in control)  # outer splits of all repeats
    for labels, n_fits in ((tasks.y, 5), (tasks.controls["types"][0], 4)):  # a code; the curve
        for order, k in np.ndindex(3, tasks.portions.n_portions - 1):
            known = len(np.unique(labels[tasks.portions.mask(order, k)]))
            n_problems += n_fits * {1: 0, 2: 1, 3: 3}[known]
    assert fit["gap"].shape == fit["iterations"].shape == (n_problems,)
    assert fit["gap"].max() <= 1e-9 * 1.001 and (fit["iterations"] > 0).all()


@pytest.mark.parametrize("own", [False, True])
def test_pieces_cover_all_there_is_to_fit(own):
    _, tasks = _world(own=own, folds=6, n_groups=64, n_permutations=45, n_within=21)
    sets = [one for piece in tasks.search_pieces for one in piece]
    used = {one.train_set for outer in tasks.design.outer for one in (outer, *outer.inner)}
    assert sets == sorted(used) and (own or len(tasks.search_pieces) == 3)
    assert tasks.later_pieces == [
        Piece("control", name="types"),
        *(Piece("null", start) for start in (0, 20, 40)),
        *(Piece("within", start) for start in (0, 20)),
        Piece("curve"),
        *([] if own else [Piece("folds")]),
        Piece("final"),
    ]


@pytest.mark.parametrize("name", ["logistic", "multinomial", "ridge", "lda", "mass-mean"])
def test_results_are_the_same_to_the_last_bit_however_the_pieces_are_divided(name):
    """There are more training sets and permutations than fit into one piece."""
    numbers = PROBES.load(name).target == "number"
    strengths = C[1:3] if PROBES.load(name).strength_name else ()
    states, tasks = _world(
        numbers, folds=5, n_groups=40, n_permutations=21, strengths=strengths, n_within=21
    )
    assert len(tasks.search_pieces) == 2 and len(tasks.later_pieces) == 1 + 2 * 2 + 3
    probe = _probe(name, tol=1e-5)
    whole = _whole(states, probe, tasks)
    # A new worker for each piece, in reverse order.
    searched = [LayerFitter(states, probe, tasks).search(s) for s in tasks.search_pieces[::-1]][
        ::-1
    ]
    choice = choose_strengths(tasks, searched)
    rest = [LayerFitter(states, probe, tasks).run(p, choice) for p in tasks.later_pieces[::-1]][
        ::-1
    ]
    _same(merge_pieces(tasks, probe, searched, choice, rest), whole)


def test_what_is_switched_off_or_undefined_has_no_key():
    states, tasks = _world(curve=False)
    none = tasks.y[:0].reshape(0, len(tasks.y))
    bare = replace(tasks, permuted=none, controls={})
    fit = _whole(states, _probe("logistic"), bare)
    assert bare.later_pieces == [Piece("folds"), Piece("final")]
    assert replace(bare, keep_folds=False).later_pieces == [Piece("final")]
    assert {name for name in fit if "." not in name} == {
        *(
            "strengths",
            "inner",
            "chosen",
            "likeliest",
            "predicted",
            "probability",
            "by_strength",
            "loss",
        ),
        *("base", "outer_score", "null_observed", "gap", "iterations", "final_strength"),
    }
    full = _whole(states, _probe("logistic"), tasks)
    _same(fit, {name: full[name] for name in fit} | {k: fit[k] for k in ("gap", "iterations")})
    controls = {"control.types.score", "control.types.loss"}
    assert {"null", *controls} == full.keys() - fit.keys()


# Test rows have no influence on the choice of a strength.


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["logistic", "lda", "ridge"])
def test_labels_of_judged_rows_change_neither_the_choice_nor_what_is_said_of_them(name, own):
    numbers = PROBES.load(name).target == "number"
    strengths = (1.0, 100.0) if numbers else C if PROBES.load(name).strength_name else ()
    states, tasks = _world(numbers, own, strengths=strengths, curve=False, n_controls=0)
    whole, rng = _whole(states, _probe(name), tasks), np.random.default_rng(1)
    for i, outer in enumerate(tasks.design.outer):
        y = tasks.y.copy()
        y[outer.test] = rng.permutation(y[outer.test]) * 3 - 9 if numbers else 2 - y[outer.test]
        other = _whole(states, _probe(name), replace(tasks, y=y, permuted=y[:0, None]))
        assert other["inner"][i].tobytes() == whole["inner"][i].tobytes()
        assert other["chosen"][i] == whole["chosen"][i]
        at = outer.repeat, outer.test
        assert other["predicted"][at].tobytes() == whole["predicted"][at].tobytes()
        if not own and strengths:  # the labels do matter in the other splits
            assert (other["inner"] != whole["inner"]).any()


@pytest.mark.parametrize("treatment", ["none", "center", "standardize", "unit-norm"])
@pytest.mark.parametrize("name", ["logistic", "ridge"])
def test_states_of_judged_rows_do_not_change_the_choice(name, treatment):
    numbers = name == "ridge"
    strengths = (1.0, 100.0) if numbers else C[:2]
    states, tasks = _world(
        numbers, strengths=strengths, n_permutations=0, n_controls=0, curve=False, repeats=1
    )
    probe = _probe(name, treatment=treatment)
    whole = _whole(states, probe, tasks)
    for i, outer in enumerate(tasks.design.outer):
        moved = states.copy()
        moved[outer.test] = 5 - 4 * moved[outer.test]
        other = _whole(moved, probe, tasks)
        assert other["inner"][i] == pytest.approx(whole["inner"][i], rel=1e-6)
        assert other["chosen"][i] == whole["chosen"][i]


# The choice of a strength.


def _searched(tasks, inner):
    """Arrays of the search pieces; `inner` is [outer, inner split, strength]."""
    pieces = [{} for _ in tasks.search_pieces]
    for i, of_outer in enumerate(inner):
        for j, scores in enumerate(of_outer):
            pieces[(i + j) % len(pieces)][f"inner.{i}.{j}"] = np.array(scores)
    return pieces


def test_the_strength_with_the_best_mean_is_chosen_and_of_equals_the_smallest():
    _, tasks = _world(repeats=1)
    inner = [
        [[0.5, 0.9, 0.6, 0.2], [0.5, 0.1, 0.6, 0.2]],  # 0.5, 0.5, 0.6, 0.2
        [[0.1, 0.9, 0.5, 0.9], [0.9, 0.5, 0.9, 0.5]],  # 0.5, 0.7, 0.7, 0.7
        [[0.3, 0.3, 0.3, 0.9], [0.3, 0.3, 0.3, 0.9]],
    ]
    choice = choose_strengths(tasks, _searched(tasks, inner))
    assert choice.inner == pytest.approx(np.mean(inner, axis=1))
    assert choice.chosen.tolist() == [2, 1, 3]
    assert choice.final == 3  # the means are 0.433, 0.5, 0.533, 0.6


def test_equals_are_equal_though_sums_of_their_parts_differ_in_the_last_bit():
    """In floating point 0.1 + 0.7 is less than 0.4 + 0.4, here shares of 10 rows."""
    _, tasks = _world(own=True, strengths=C[:2])
    outer = tasks.design.outer[0]
    made = replace(tasks.design, outer=(replace(outer, inner=outer.inner[:2]),))
    tasks = replace(tasks, design=made)
    for a, b, c in product(range(11), repeat=3):
        if 0 <= a + b - c <= 10:
            right = np.array([[[a, c], [b, a + b - c]]])
            choice = choose_strengths(tasks, _searched(tasks, 1 - (10 - right) / 10))
            assert choice.chosen.tolist() == [0] and choice.final == 0, right


def test_a_score_that_is_not_defined_is_never_the_best():
    _, tasks = _world(own=True, repeats=1)
    inner = np.array([[[np.nan, 0.2, 0.3, np.nan]] * 3])
    choice = choose_strengths(tasks, _searched(tasks, inner))
    assert choice.chosen.tolist() == [2] and choice.final == 2


def test_a_piece_takes_the_strength_of_its_own_split():
    states, tasks = _world(n_permutations=3)
    n_outer = len(tasks.design.outer)
    at = LayerFitter(states, _probe("logistic"), tasks)
    plainly, found = Plainly("logistic", states, tasks), []
    for k in (0, 3):
        chosen = np.array([k] + [3] * (n_outer - 1))
        choice = StrengthChoice(np.zeros((n_outer, 4)), chosen, chosen, k)
        found.append(score_of_sums(at.run(Piece("null"), choice)["null.0"]))
        assert found[-1] == pytest.approx([plainly.statistic(y, chosen) for y in tasks.permuted])
    assert (found[0] != found[1]).any()
