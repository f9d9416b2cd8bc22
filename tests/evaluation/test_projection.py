"""Projections show held-out rows, and nothing of the rows that the directions are fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.stored_runs import probed, rows, run_of

from vsp.errors import RunError
from vsp.evaluation.projection import LDA, PCA, project
from vsp.storage.results import Results


def _apart(points, label):
    """Variance between labels as a share of all variance."""
    mean = np.stack([points[label == one].mean(axis=0) for one in np.unique(label)])
    n = np.array([(label == one).sum() for one in np.unique(label)])
    between = (n[:, None] * (mean - points.mean(axis=0)) ** 2).sum()
    return float(between / ((points - points.mean(axis=0)) ** 2).sum())


def test_only_rows_that_the_first_split_tests_are_shown(work):
    results = probed(work, "planted", rows(240))
    arrays = results.arrays("predictions", ("id", "label", "outer", "outer_fitted"))
    found = project(results, [0, 2], 1000)
    tested = arrays["outer"][0] == 0
    assert found.id.tolist() == arrays["id"][tested].tolist()
    assert found.label.tolist() == arrays["label"][tested].tolist()
    assert found.n_held_out == tested.sum() and found.n_training == arrays["outer_fitted"][0].sum()
    few = project(results, [2], 20)
    assert len(few.id) == 20 and few.n_held_out == tested.sum()
    assert np.array_equal(few.id, project(results, [2], 20).id)


def test_planted_directions_are_found_and_noise_stays_noise(work):
    """In many dimensions LDA separates its training rows anyway; held-out rows show the truth."""
    results = probed(work, "planted", rows(360, hidden_size=60, signal=1.5))
    found = project(results, [0, 2], 1000)
    noise, planted = found.layers
    assert _apart(planted.points[LDA], found.label) > 0.8
    assert _apart(noise.points[LDA], found.label) < 0.2
    assert (
        planted.points[PCA].shape == (len(found.id), 2)
        and 0 < planted.shares[1] < planted.shares[0]
    )


def test_shuffled_training_labels_do_not_separate_held_out_rows(work):
    drawn = rows(240, n_layers=1, hidden_size=60, signal=0.0)
    found = project(probed(work, "noise", drawn), [0], 1000)
    assert _apart(found.layers[0].points[LDA], found.label) < 0.2


def test_a_layer_whose_states_are_all_the_same_has_no_points(work):
    drawn = rows(120)
    drawn["states"][0] = 1.5
    found = project(probed(work, "flat", drawn), [0, 2], 100)
    assert found.layers[0].points == {} and set(found.layers[1].points) == {PCA, LDA}


def test_of_two_labels_the_second_direction_is_a_component(work):
    drawn = rows(120, names=("left_of", "right_of"))
    found = project(probed(work, "two", drawn), [2], 100)
    assert found.second_is_component
    one = found.layers[0].points
    assert np.array_equal(one[LDA][:, 1], one[PCA][:, 0])


def test_a_run_that_is_gone_is_one_line(work, tmp_path):
    results = probed(work, "planted", rows(60))
    (work / "scratch" / "planted").rename(work / "elsewhere")
    with pytest.raises(RunError, match="run planted is not in scratch/ any more"):
        project(results, [2], 100)


def test_results_of_other_rows_are_refused(work):
    results = probed(work, "planted", rows(60))
    (work / "scratch" / "planted").rename(work / "elsewhere")
    run_of(work, "planted", rows(48, seed=1))
    with pytest.raises(RunError):
        project(Results(results.folder, results.home), [2], 100)
