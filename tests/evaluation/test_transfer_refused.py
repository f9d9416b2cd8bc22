"""What `vsp evaluate` refuses, and how layers of two sides are matched."""

import numpy as np
import pytest
from helpers.foreign_states import write_pt
from helpers.transferred import (
    columns,
    judge,
    made_probes,
    make_probes,
    make_run,
    rare,
    take,
    write,
)

from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.row_identity import RowIdentity
from vsp.evaluation.target_states import open_target
from vsp.storage.stored_settings import choose_setting

# Layers and norms.


def test_layers_are_matched_by_their_number_in_the_model(work):
    made_probes("a", columns())
    new = columns(30, first=500)
    write_pt(
        work / "pt",
        new["representations"][:, 1:],
        [{"rel": label, "id": f"pt{i}"} for i, label in enumerate(new["labels"].tolist())],
        first=1,
    )
    made, whole = judge("a", "./pt"), judge("a", str(write("b", new)))
    assert made.without_layer == (0,) and [one.layer for one in made.layers] == [1, 2]
    assert made.at(1).score == whole.at(1).score and made.n_rows == 60
    with pytest.raises(
        ConfigError, match=r"layer 0: is not in both a and the target \./pt; common are 1-2"
    ):
        made.at(0)
    make_run("late", new, layers=(7, 8, 9))
    with pytest.raises(RunError, match="no common layer; they have 0-2 and 7-9"):
        judge("a", "late")


def test_a_raw_last_layer_is_judged_only_if_asked(work):
    rows, new = columns(), columns(30, first=500)
    made_probes("a", rows)
    make_run("raw", new, last="raw")
    make_run("unknown", {**new, "ids": np.char.add("x", new["ids"])}, last="unknown")
    with pytest.raises(RunError, match=r"a on raw: of layer 2, .*final norm.* use --other-norm"):
        judge("a", "raw")
    assert len(judge("a", "raw", other_norm=True).layers) == 3
    assert len(judge("a", "unknown").layers) == 3
    # Layer 2 of a model with more layers is no last layer, so it is before the norm.
    make_run("longer", _with_states(new, np.repeat(new["representations"], 2, axis=1)))
    with pytest.raises(RunError, match="a on longer: of layer 2"):
        judge("a", "longer")
    make_probes(make_run("a_raw", rows, last="raw"))
    assert len(judge("a_raw", "longer").layers) == 3


def _with_states(rows, states):
    return {**rows, "representations": states}


# Refusals.


def test_states_that_do_not_suit_are_refused_in_one_line(work):
    made_probes("a", columns())
    new = columns(30, first=500)
    states = new["representations"].copy()
    states[5, 2, 1] = np.nan
    wrong = {
        "wide": ({**new, "representations": np.repeat(states, 2, axis=2)}, "have 6 and 12 values"),
        "nan": ({**new, "representations": states}, "not finite, first id 'row1005'"),
    }
    for name, (rows, why) in wrong.items():
        write(name, rows)
        with pytest.raises(RunError, match=why) as caught:
            judge("a", f"{name}.npz")
        assert "\n" not in str(caught.value)
    run = make_run("part", {**new, "representations": states})
    assert run.ledgers()[0].failed
    with pytest.raises(RunError, match=r"1 of 60 rows have no states; .* --partial"):
        judge("a", "part")
    made = judge("a", "part", partial=True)
    assert (made.n_rows, made.n_missing) == (59, 1)
    with pytest.raises(ConfigError, match=r"position subject: .* is no run"):
        open_target("nan.npz", work, "subject")


def test_a_folder_with_the_name_of_a_run_does_not_hide_it(work):
    make_run("a", columns())
    (work / "a").mkdir()
    assert len(open_target("a", work)) == 80


def test_scores_that_are_not_defined_are_refused(work):
    made_probes("a", columns())
    made_probes("b", rare(columns(first=300)), metric="balanced")
    new = columns(30, first=500)
    write("one", take(new, new["labels"] == "above"))
    with pytest.raises(ProbeError, match=r"a on one\.npz: AUC needs two different labels"):
        judge("a", "one.npz", "auc")
    assert judge("a", "one.npz", "balanced").without_rows == ("below", "left_of", "right_of")
    with pytest.raises(ConfigError, match="--metric log-loss: the probe of b has class weights"):
        judge("b", "one.npz", "log-loss")
    made_probes("c", columns(first=800), probe="centroid")
    with pytest.raises(ConfigError, match="the probe of c has no probabilities"):
        judge("c", "one.npz", "log-loss")


def _rewritten(results, fold_probes=None, **changes):
    """Write the results again, with other arrays of predictions.npz and probes of folds."""
    summary, scores = results.read()
    arrays = {name: one for name, one in {**results.arrays("predictions"), **changes}.items() if one is not None}  # fmt: skip
    kept = [results.probe(score.layer)[1] for score in scores]
    results.write(summary, scores, arrays, results.arrays("estimates"), kept, fold_probes)


def _hostile(arrays):
    n_outer, n_rows = arrays["outer_fitted"].shape
    flag, key = arrays["fitted"], arrays["key"]
    yield "key", key[:-1], "the array key"
    yield "key", key.astype("i8"), "the array key"
    yield "key", key.astype("U20"), "the array key"
    yield "image", arrays["image"][:, None], "the array image"
    yield "fitted", flag.astype("u1"), "the array fitted"
    yield "fitted", ~flag, "fitted on no row"
    yield "outer_fitted", arrays["outer_fitted"][:-1], "the array outer_fitted"
    yield "outer_fitted", np.zeros((n_outer, n_rows), bool), "fitted on no row"
    yield "outer_fitted", arrays["outer_fitted"].T, "the array outer_fitted"
    yield "predicted", arrays["predicted"] + 4, "the array predicted"
    yield "predicted", np.minimum(arrays["predicted"], -1), "the array predicted"
    yield "predicted", arrays["predicted"].astype("f4"), "the array predicted"
    yield "outer", arrays["outer"] + 1000, "the array outer"
    yield "label", np.full(n_rows, "x"), "labels are not those of the probe"
    for name in ("key", "image", "fitted", "outer_fitted"):
        yield name, None, "older vsp, .* `vsp probe --run a` again"


def test_damaged_and_hostile_arrays_are_refused_in_one_line(work):
    results = made_probes("a", columns())
    folds = [_joined(results.fold_probes(layer)) for layer in range(3)]
    for name, array, why in list(_hostile(results.arrays("predictions"))):
        _rewritten(results, folds, **{name: array, **_kept(results, name)})
        with pytest.raises(RunError, match=why) as caught:
            judge("a", "a.npz")
        assert "\n" not in str(caught.value)
        _rewritten(results, folds, **_ORIGINAL[0])


_ORIGINAL = [{}]


def _kept(results, name):
    """Remember the array that is replaced."""
    _ORIGINAL[0] = {name: results.arrays("predictions")[name]}
    return {}


def _joined(of_split):
    return {f"{i}.{name}": a for i, one in enumerate(of_split) for name, a in one.items()}


def test_damaged_probes_of_folds_are_refused_in_one_line(work):
    results = made_probes("a", columns())
    folds = [_joined(results.fold_probes(layer)) for layer in range(3)]
    last = {name: a for name, a in folds[0].items() if not name.startswith("9.")}
    gap = {name: a for name, a in folds[0].items() if not name.startswith("3.")}
    strange = {f"x{name}": a for name, a in folds[0].items()}
    arabic = {f"٣{name}": a for name, a in folds[0].items()}
    short = {name: a[..., :3] if name.endswith("coef") else a for name, a in folds[0].items()}
    for wrong, why in (
        (last, "9 of 10 probes of folds are saved in layer 0"),
        (gap, "does not hold what vsp writes"),
        (strange, "does not hold what vsp writes"),
        (arabic, "does not hold what vsp writes"),
        (short, "the probe of layer 0 is not what vsp writes"),
    ):
        _rewritten(results, [wrong, *folds[1:]])
        with pytest.raises((RunError, ProbeError), match=why) as caught:
            judge("a", "a.npz")
        assert "\n" not in str(caught.value)
    _rewritten(results)
    with pytest.raises(RunError, match="0 of 10 probes of folds are saved in layer 0"):
        judge("a", "a.npz")
    write("b", columns(30, first=500))
    assert judge("a", "b.npz").n_rows == 60  # all other rows count


def test_pictures_that_are_not_known_are_said(work):
    rows = columns()
    made_probes("a", rows)
    new = columns(30, first=500)
    write("b", {name: new[name] for name in ("representations", "labels", "ids")})
    (note,) = [one for one in judge("a", "b.npz").notes if "recognised by id" in one]
    assert "in b.npz: fitted rows" in note
    write("c", new)
    assert not any("recognised by id" in one for one in judge("a", "c.npz").notes)


def test_rows_of_the_run_are_those_of_its_results(work):
    """`key` and `image` are those of the rows in predictions.npz, not of the whole run."""
    rows = columns()
    results = made_probes("a", rows, drop_labels=("above",))
    arrays, of_row = results.arrays("predictions"), open_target("a", work).identity
    assert (arrays["key"] == of_row.key[arrays["rows"]]).all()
    assert (arrays["image"] == of_row.image[arrays["rows"]]).all()
    assert (
        isinstance(of_row, RowIdentity)
        and choose_setting(work / "results/a").summary()["position"] == "last"
    )
