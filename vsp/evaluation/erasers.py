"""Erasers of the label from the states of a run, and random ones of equal rank, for `vsp steer`.

They are fitted on the training rows (`vsp.evaluation.divided_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence

from vsp.evaluation.probe_settings import ProbeSettings
from vsp.storage.changes import Erasers
from vsp.storage.run import Run


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

    Raises ConfigError for a layer or a rank that cannot be, RunError if rows are missing, ProbeError
    if the rows cannot be split.
    """
    raise NotImplementedError
