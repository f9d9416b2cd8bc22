"""The planted worlds: runs hold the given rows and states, and the tables hold the figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import truth_figures as figures
import truth_nulls
import truth_worlds
from truth_figures import Figure, Line
from truth_planted import PLAIN, named_rows
from truth_runs import made_run, probed

_QUICK = replace(PLAIN, repeats=1, strengths=(1.0,), resamples=50)


def test_a_made_run_holds_the_given_rows_and_states(tmp_path):
    rng = np.random.default_rng(0)
    rows = named_rows(rng.integers(2, size=30), rng)
    states = rng.standard_normal((2, 30, 4)).astype(np.float32)
    run = made_run(tmp_path, states, rows)
    samples = run.all_samples()
    assert [sample.label for sample in samples] == rows.label
    assert [sample.reference for sample in samples] == rows.others["reference"]
    assert np.array_equal(np.stack([run.store.layer(k) for k in range(2)]), states)
    assert [ledger.n_done for ledger in run.ledgers()] == [30]


def test_the_figures_are_those_of_the_states():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    states = 0.1 * rng.standard_normal((2, 60, 4))
    states[1, :, 0] += 2 * y - 1  # the last layer knows the label, the first nothing
    found = probed(states, named_rows(y, rng), _QUICK)
    assert figures.fixed_score(*found).value == 1
    assert figures.best_score(*found).above(0.8)
    assert figures.over_embedding(*found).above(0.1)
    assert figures.over_words(*found).above(0.1)


def test_a_null_world_counts_intervals_without_the_truth_and_small_p_values(monkeypatch):
    right, wrong = Figure(0.5, 0.4, 0.6), Figure(0.7, 0.6, 0.8)
    monkeypatch.setattr(truth_nulls, "_truths", lambda found: {"score": 0.5})
    draws = [{"score": one, "p": p, "chance": 0.5} for one, p in ((right, 0.05), (wrong, 0.2))]
    lines = truth_nulls.lines("rows alone", draws)
    assert {line.figure: line.value for line in lines} == {
        "score": "50.0 (50.0 above)",
        "p": "50.0",
    }


def test_a_world_runs_and_the_page_has_its_figures_beside_the_earlier_ones():
    world = truth_worlds.worlds(100)["calibration"]
    line, *_ = truth_worlds.run_world(world, 2, jobs=1)
    null = Line(f"{truth_nulls.PREFIX}own split", "a p value", "5 %", "4.0")
    page = truth_worlds.page([line, null], [replace(line, value="0.9"), replace(null, value="9.0")])
    assert f"| {line.truth} | 0.9 | {line.value} |" in page
    assert "| a p value | 9.0 → 4.0 |" in page
