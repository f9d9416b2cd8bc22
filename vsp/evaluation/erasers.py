"""Erasers of the label from the states of a run, and random ones of equal rank, for `vsp steer`.

They are fitted on the training rows (`vsp.evaluation.divided_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError
from vsp.evaluation.directions import check_layers
from vsp.evaluation.divided_rows import divide_rows
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.probes.erasure.methods import RANDOM, Erasure, check_erasure
from vsp.storage.changes import Erasers, random_sides
from vsp.storage.random_changes import random_names, random_number
from vsp.storage.run import Run
from vsp.utils.text import format_ranges

Sides = dict[tuple[str, int], NDArray[np.float32]]


def erasers(
    run: Run,
    *,
    layers: Sequence[int],
    position: str,
    kind: str,
    rank: int | None = None,
    n_random: int = 20,
    seed: int = 0,
    settings: ProbeSettings | None = None,
    partial: bool = False,
) -> Erasers:
    """The erasers of each layer, and `n_random` random subspaces of the same rank.

    `kind` is leace, inlp or random. `rank`: dimensions that inlp and random remove; None: their
    default. `settings` decide the training rows (default: as `vsp probe` without options).

    Raises ConfigError for an unknown layer or a rank that is too large, RunError if rows are missing,
    ProbeError if the rows cannot be split.
    """
    check_layers(run, layers, position)
    check_erasure(kind, rank or 0, reads_numbers=False)
    names = (*([kind] if kind != RANDOM else []), *random_names(n_random))
    if not names:
        raise ConfigError("--erase random needs one random subspace or more")
    rows = divide_rows(run, position, settings or ProbeSettings(), partial=partial)
    hidden = run.states(position).layout.hidden_size
    mean = np.empty((len(layers), hidden), np.float32)
    right: Sides = {}
    left: Sides = {}
    for i, layer in enumerate(layers):
        fitted = Erasure(kind, rank or 0, seed, layer).fit(rows.states(layer), rows.y[rows.train])
        mean[i] = fitted.mean
        for name in names:
            number = random_number(name)
            if number is None:
                sides = fitted.right.astype(np.float32), fitted.left.astype(np.float32)
            else:
                sides = random_sides(hidden, fitted.rank, seed, layer, number)
            right[name, layer], left[name, layer] = sides
    nothing = [layer for layer in layers if not len(left[names[0], layer])]
    notes = []
    if nothing:
        notes.append(
            f"nothing is erased in layers {format_ranges(nothing)}: no label can be read there"
        )
    return Erasers(
        kind, rows.fitted_on, tuple(layers), names, mean, right, left, seed, tuple(notes)
    )
