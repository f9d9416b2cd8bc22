"""docs/results.md lists every array that `vsp probe` writes, with its axes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.paths import ROOT

import vsp
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract

ALL = ProbeSettings(
    permutations=2, controls=1, resamples=60, over_training=True, words=False, strengths=(0.01, 1.0)
)


def _listed(name):
    """Array → axes, in the table of one file."""
    page = (ROOT / "docs/results.md").read_text()
    section = page.split(f"\n## Arrays of {name}.npz\n")[1].split("\n## ")[0]
    rows = re.findall(
        r"^\| `(\w+)` \| `\[([\w, ]+)\]` \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE
    )
    assert len(rows) == section.count("\n| `")
    return {array: tuple(axes.split(", ")) for array, axes in rows}


N_ROWS, N_TRAIN = 320, 200


def _records(numbers):
    """Two rows a group; each of 25 prompts has rows of both labels."""
    groups = [i // 2 for i in range(N_ROWS)]
    return [
        {
            "id": f"s{i}",
            "image_filename": "all.png",
            "label": str(float(group % 7)) if numbers else "ab"[group // 25 % 2],
            "group": f"g{group}",
            "prompt": f"{group % 25}?",
            **({} if numbers else {"split": "train" if i < N_TRAIN else "test"}),
        }
        for i, group in enumerate(groups)
    ]


@pytest.fixture
def written(plan_fake, write_dataset):
    """Probe a run of labels with a split, or of numbers."""

    def probe(name, settings, numbers=False):
        dataset = write_dataset(_records(numbers), name)
        options = {"n_layers": 2, "hidden_size": 6}
        run = plan_fake(dataset, name=name, options=options, answers=not numbers)
        extract(run, run.shards)
        return probe_run(run, settings, 1)

    return probe


def test_every_array_is_listed_with_its_axes_and_nothing_else(written):
    results = [
        written("labels", ALL),
        written("erased", replace(ALL, erase="leace")),
        written("numbers", replace(ALL, probe="ridge"), numbers=True),
    ]
    for name in ("predictions", "estimates"):
        listed, found = _listed(name), set()
        for one in results:
            arrays, size = one.arrays(name), {}
            found |= set(arrays)
            for array in arrays.keys() & listed.keys():
                axes = listed[array]
                assert arrays[array].ndim == len(axes), array
                for axis, n in zip(axes, arrays[array].shape, strict=True):
                    assert size.setdefault(axis, n) == n, f"{array}: {axis}"
        assert found == set(listed)


@pytest.mark.parametrize(
    ("numbers", "rule", "n_rows"),
    [(False, "rows with split train", N_TRAIN), (True, "all rows of the probe run", N_ROWS)],
)
def test_the_card_says_which_rows_the_saved_probes_were_fitted_on(written, numbers, rule, n_rows):
    changes = {"probe": "ridge" if numbers else "logistic", "permutations": 0, "controls": 0}
    settings = replace(ALL, **changes, curve=False, random=False, over_training=False)
    results = written("one", settings, numbers=numbers)
    card = json.loads((results.folder / "probes/card.json").read_text())["fitted"]
    ids = "".join(f"{one}\n" for one in sorted(f"s{i}" for i in range(n_rows)))
    assert card == {
        "rule": rule, "n_rows": n_rows, "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
    }  # fmt: skip
    predictions = results.arrays("predictions")
    assert sorted(predictions["id"][predictions["fitted"]]) == ids.split()
    # A probe that is fitted on these rows, and on no others, is the saved one.
    saved = vsp.open_results("one").probe(1)
    states = vsp.open_run("one").states(1)[:n_rows].astype(np.float64)
    strength = float(results.arrays("estimates")["final_strength"][1])
    again = type(saved)(**{saved.strength_name: strength}).fit(
        states, predictions["label"][:n_rows]
    )
    np.testing.assert_allclose(np.ravel(again.coef_), np.ravel(saved.coef_), rtol=1e-3, atol=1e-5)
