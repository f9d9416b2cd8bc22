"""Directions are fitted on training rows alone, and their controls have their norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.stored_runs import LIGHT, rows, run_of

from vsp import probes
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.directions import raw_weights, steering_directions
from vsp.evaluation.divided_rows import divide_rows
from vsp.evaluation.erasers import erasers
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.probes.erasure.methods import Erasure
from vsp.probes.logistic import Logistic
from vsp.storage.changes import read_directions, read_erasers, write_changes

QUICK = ProbeSettings(**{**LIGHT, "strengths": (0.01, 1.0), "repeats": 1})
LAYERS = (1, 2)


def _rows(**changes):
    """Many recurring prompts, so that control tasks are drawn."""
    found = rows(n_rows=240, hidden_size=24, signal=2.0, **changes)
    names = np.array([f"thing{k % 12}" for k in range(240)])
    return {**found, "subject": names, "reference": np.roll(names, 1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("directions"), "one", _rows())


@pytest.fixture(scope="module")
def results(run):
    return probe_run(run, QUICK, n_jobs=1)


def _directions(run, kind="mean-difference", **changes):
    wanted = {"layers": LAYERS, "position": "last", "n_random": 3, "settings": QUICK, **changes}
    return steering_directions(run, kind=kind, **wanted)


def test_a_planted_direction_is_recovered(run):
    """The states of a label are shifted by 2 × layer × its vector in `stored_runs.rows`."""
    of_class = np.random.default_rng(0).normal(size=(4, 24))
    found = _directions(run)
    assert found.pairs[0] == ("above", "below") and len(found.pairs) == 4
    for layer in LAYERS:
        for k in range(4):
            planted = of_class[(k + 1) % 4] - of_class[k]
            own = found.vectors[LAYERS.index(layer), 0, k]
            cosine = own @ planted / np.linalg.norm(own) / np.linalg.norm(planted)
            assert cosine > 0.98
            assert np.linalg.norm(own - 2 * layer * planted) < 0.25 * 2 * layer * np.linalg.norm(
                planted
            )


def test_rows_are_divided_as_the_probe_divides_them(run, results):
    found = _directions(run).fitted_on
    arrays = results.arrays("predictions")
    assert np.array_equal(np.flatnonzero(found.fitted), arrays["rows"][arrays["outer_fitted"][0]])
    assert np.array_equal(np.flatnonzero(found.tested), arrays["rows"][arrays["outer"][0] == 0])
    assert found.split == "3 folds by group, the first held out"


@pytest.mark.parametrize("kind", ["mean-difference", "probe"])
def test_directions_do_not_change_if_held_out_rows_change(run, results, kind, tmp_path):
    before = _directions(run, kind)
    changed = _rows()
    changed["states"][:, before.fitted_on.tested] *= -50
    other = run_of(tmp_path, "one", changed)
    if kind == "probe":
        probe_run(other, QUICK, n_jobs=1)
    after = _directions(other, kind)
    np.testing.assert_allclose(after.vectors, before.vectors, atol=0.05)
    changed["states"][:, before.fitted_on.fitted] *= -50
    moved = _directions(run_of(tmp_path, "two", changed))
    assert np.abs(moved.vectors - _directions(run).vectors).max() > 1


def test_a_probe_direction_is_that_in_which_the_decision_rises(run, results):
    """Along it, the difference of the two scores rises by the product with its weights."""
    found = _directions(run, "probe")
    means = _directions(run)
    for i, layer in enumerate(LAYERS):
        probe = probes.load_folds(results.folder, layer)[0]
        at = np.zeros(24)
        for k, (own, target) in enumerate(found.pairs):
            vector = found.vectors[i, 0, k].astype(float)
            names = list(probe.classes_)
            both = [names.index(target), names.index(own)]
            scores = probe.scores(np.stack([at, at + vector]))[:, both]
            rise = np.diff(scores[1] - scores[0])[0] * -1
            weights = probe.coef_[both[0]] - probe.coef_[both[1]]
            assert rise == pytest.approx(np.linalg.norm(weights) * np.linalg.norm(vector), rel=1e-4)
    np.testing.assert_allclose(
        np.linalg.norm(found.vectors[:, 0], axis=-1),
        np.linalg.norm(means.vectors[:, 0], axis=-1),
        rtol=1e-5,
    )


def test_weights_are_those_of_raw_states():
    rng = np.random.default_rng(0)
    states, y = rng.normal(size=(90, 5)) * [1, 10, 100, 1, 1], np.array(["a", "b", "c"] * 30)
    probe = Logistic(treatment="standardize", C=0.1).fit(states, y)
    weights = raw_weights(probe, ["a", "b", "c"])
    step = rng.normal(size=5)
    change = probe.scores((states[0] + step)[None]) - probe.scores(states[:1])
    np.testing.assert_allclose(change[0], weights @ step)
    with pytest.raises(ProbeError, match="unit norm"):
        raw_weights(Logistic(treatment="unit-norm").fit(states, y), ["a", "b", "c"])


def test_controls_have_the_norm_of_the_direction_and_random_ones_its_angles(run):
    found = _directions(run)
    assert found.names == ("direction", "unrelated", "random-1", "random-2", "random-3")
    norms = np.linalg.norm(found.vectors.astype(float), axis=-1)  # [layer, name, pair]
    np.testing.assert_allclose(norms, np.repeat(norms[:, :1], 5, axis=1), rtol=1e-5)
    grams = np.einsum("lnph,lnqh->lnpq", found.vectors, found.vectors)
    np.testing.assert_allclose(
        grams[:, 2:], np.repeat(grams[:, :1], 3, axis=1), rtol=1e-3, atol=1e-2
    )


def test_random_directions_depend_on_the_seed_and_differ_between_layers_and_numbers(run):
    first, again, other = (_directions(run, seed=seed).vectors[:, 2:] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    unit = first / np.linalg.norm(first, axis=-1, keepdims=True)
    for one, two in (
        (unit[0, 0], unit[1, 0]),
        (unit[0, 0], unit[0, 1]),
        (unit[0, 0], other[0, 0] / np.linalg.norm(other[0, 0], axis=-1, keepdims=True)),
    ):
        assert np.abs((one * two).sum(axis=-1)).max() < 0.85


def test_random_directions_are_uniform_on_the_sphere(run):
    vectors = _directions(run, target="above", n_random=300).vectors[0, 2:, 0]
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    assert np.abs(unit.mean(axis=0)).max() < 4 / np.sqrt(24 * 300)
    assert np.abs((unit**2).mean(axis=0) - 1 / 24).max() < 0.02


def test_with_a_target_all_other_labels_lead_to_it(run):
    found = _directions(run, target="below")
    assert found.pairs == (("above", "below"), ("left_of", "below"), ("right_of", "below"))
    assert found.target_of("above") == "below" and found.target_of("below") is None
    assert np.array_equal(found.vector(2, "direction", "above", "below"), found.vectors[1, 0, 0])


def test_the_unrelated_label_can_be_a_field(run):
    assert _directions(run).unrelated.startswith("control task")
    assert _directions(run, unrelated="subject").unrelated == "field subject"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "abov"}, "--target .*above"),
        ({"layers": (1, 9)}, "layer 9: run one has layers 0 to 2"),
        ({"unrelated": "colour"}, "--unrelated .*colour"),
        ({"unrelated": "id"}, "--unrelated id: 0 of its values are on 5 training rows or more"),
    ],
)
def test_what_a_run_does_not_have_is_refused(run, changes, said):
    with pytest.raises(ConfigError, match=said):
        _directions(run, **changes)


def test_a_layer_in_which_labels_do_not_differ_has_a_direction_of_zeros_and_says_so(tmp_path):
    states = _rows()
    states["states"][1] = 0.1
    found = _directions(run_of(tmp_path, "flat", states))
    assert not found.vectors[0].any() and found.vectors[1].any()
    assert "the direction is 0 for some labels in layers 1" in found.notes[0]


def test_a_file_of_directions_is_used_as_it_is(run, tmp_path):
    given = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
    np.save(tmp_path / "own.npy", given)
    found = _directions(run, str(tmp_path / "own.npy"), target="below")
    assert found.kind == "own.npy"
    np.testing.assert_array_equal(found.vectors[:, 0], np.repeat(given[1:, None], 3, axis=1))
    pairs = np.array(
        [("below", "left_of"), ("above", "below"), ("left_of", "right_of"), ("right_of", "above")]
    )
    vectors = np.random.default_rng(1).normal(size=(2, 4, 24))
    np.savez(tmp_path / "own.npz", vectors=vectors, layers=np.array([2, 1]), pairs=pairs)
    found = _directions(run, str(tmp_path / "own.npz"))
    np.testing.assert_allclose(
        found.vector(1, "direction", "above", "below"), vectors[1, 1], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arrays", "target", "said"),
    [
        ({"vectors": np.zeros((3, 23))}, "below", r"must be numbers \[3, 24\], \[layer, hidden\]"),
        ({"vectors": np.full((3, 24), np.nan)}, "below", "not finite"),
        ({"vectors": np.full((3, 24), 1e39)}, "below", "float32"),
        ({"vectors": np.zeros((3, 24))}, None, "--target"),
        ({"vectors": np.zeros((1, 24)), "layers": np.array([1])}, "below", "no direction of layer 2"),
        ({"vectors": np.zeros((3, 1, 24)), "pairs": np.array([["a", "b"]])}, "below", "no direction of pair"),
        ({"other": np.zeros(3)}, "below", "no array `vectors`"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(run, tmp_path, arrays, target, said):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ConfigError, match=said):
        _directions(run, str(tmp_path / "own.npz"), target=target)


@pytest.mark.parametrize("name", ["own.npy", "own.npz"])
def test_a_file_with_objects_is_not_unpickled(run, tmp_path, name):
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match=name):
        _directions(run, str(tmp_path / name), target="below")


def test_probes_of_other_rows_are_refused(run, tmp_path):
    other = run_of(tmp_path, "one", _rows())
    found = probe_run(other, replace(QUICK, probe="mass-mean", strengths=()), n_jobs=1)
    assert _directions(other, "probe", probe=found.setting).kind == "probe"
    with pytest.raises(RunError, match="holds no results of logistic"):
        _directions(other, "probe", probe="logistic")


@pytest.mark.parametrize("kind", ["leace", "inlp", "random"])
def test_erasers_are_fitted_on_training_rows_and_random_ones_have_their_rank(run, kind):
    found = erasers(run, layers=LAYERS, position="last", kind=kind, n_random=2, settings=QUICK)
    own = () if kind == "random" else (kind,)
    assert found.names == (*own, "random-1", "random-2")
    divided = divide_rows(run, "last", QUICK)
    assert np.array_equal(found.fitted_on.fitted, _directions(run).fitted_on.fitted)
    for layer in LAYERS:
        expected = Erasure(kind, 0, 0, layer).fit(divided.states(layer), divided.y[divided.train])
        assert {len(found.left[name, layer]) for name in found.names} == {expected.rank}
        if own:
            states = divided.states(layer)
            one = found.eraser(layer, kind).apply(states)
            np.testing.assert_allclose(one, expected.apply(states), atol=1e-4)


def test_directions_and_erasers_are_the_same_after_they_are_read(run, tmp_path):
    directions = _directions(run, n_random=20)
    digest = write_changes(tmp_path / "changes.npz", directions.arrays())
    found = read_directions(tmp_path / "changes.npz", digest)
    assert np.array_equal(found.vectors, directions.vectors)
    for name in ("kind", "layers", "names", "pairs", "seed", "unrelated", "notes"):
        assert getattr(found, name) == getattr(directions, name)
    assert np.array_equal(found.fitted_on.tested, directions.fitted_on.tested)
    assert (tmp_path / "changes.npz").stat().st_size < directions.vectors.nbytes
    one = erasers(run, layers=LAYERS, position="last", kind="leace", n_random=3, settings=QUICK)
    digest = write_changes(tmp_path / "erase.npz", one.arrays())
    other = read_erasers(tmp_path / "erase.npz", digest)
    for name in one.names:
        for layer in LAYERS:
            assert np.array_equal(other.right[name, layer], one.right[name, layer])
            assert np.array_equal(other.left[name, layer], one.left[name, layer])


def test_a_changed_or_foreign_file_is_refused(run, tmp_path):
    path, directions = tmp_path / "changes.npz", _directions(run)
    digest = write_changes(path, directions.arrays())
    with pytest.raises(RunError, match="is not the file that the plan goes with"):
        read_directions(path, "0" * 64)
    with pytest.raises(RunError, match="does not hold erasers"):
        read_erasers(path, digest)
    for name, array in (
        ("vectors", np.full_like(directions.arrays()["vectors"], np.inf)),
        ("vectors", directions.arrays()["vectors"][:1]),
        ("fitted", directions.fitted_on.tested),
    ):
        digest = write_changes(path, {**directions.arrays(), name: array})
        with pytest.raises(RunError, match="does not hold directions"):
            read_directions(path, digest)
