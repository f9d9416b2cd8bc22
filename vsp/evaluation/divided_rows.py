"""The rows of a run that directions and erasers are fitted on, and those that test them.

They are the training rows and the test rows of the first outer split of `vsp probe` with the same
settings. If the dataset has no split of its own, this is the first fold of the first repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probe_work import ProbeWork, prepare
from vsp.evaluation.trained_probes import TrainedProbes
from vsp.storage.changes import FittedOn
from vsp.storage.run import Run

# Settings of a probe that decide which rows it is fitted on.
_OF_ROWS = ("split_by", "folds", "repeats", "seed", "drop_labels")


@dataclass(frozen=True, slots=True, eq=False)
class DividedRows:
    """Labels and sides of the rows that take part; `row` is their number in the run."""

    run: Run
    position: str
    work: ProbeWork

    @property
    def row(self) -> NDArray[np.intp]:
        return self.work.rows.row

    @property
    def labels(self) -> tuple[str, ...]:
        return self.work.names

    @property
    def y(self) -> NDArray[np.intp]:
        """Index of the label [row]."""
        return np.asarray(self.work.tasks.y, np.intp)

    @property
    def train(self) -> NDArray[np.bool_]:
        """Mask [row] of the training rows."""
        design = self.work.tasks.design
        mask: NDArray[np.bool_] = design.train_sets[design.outer[0].train_set]
        return mask

    def states(self, layer: int) -> NDArray[np.floating]:
        """The states [fitted row, hidden] of the training rows."""
        return self.run.states(self.position).layer(layer)[self.row[self.train]]

    @property
    def fitted_on(self) -> FittedOn:
        plan, design = self.run.plan, self.work.tasks.design
        fitted, tested = np.zeros((2, plan.n_samples), dtype=np.bool_)
        fitted[self.row[self.train]] = True
        tested[self.row[design.outer[0].test]] = True
        split = design.description + (", the first held out" if design.n_folds > 1 else "")
        return FittedOn(self.run.name, plan.identity(), self.position, split, fitted, tested)


def divide_rows(
    run: Run, position: str, settings: ProbeSettings, controls: int = 0, partial: bool = False
) -> DividedRows:
    """Divide the rows as `vsp probe` does with these settings; the kind of probe has no part in it.

    With `controls`, also draw that many control tasks. Raises RunError if rows are missing or
    failed and `partial` is false, ProbeError if the rows cannot be split.
    """
    of_rows = {name: getattr(settings, name) for name in _OF_ROWS}
    plain = ProbeSettings(position=position, permutations=0, controls=controls, curve=False)
    return DividedRows(run, position, prepare(run, replace(plain, **of_rows), partial))


def settings_of(trained: TrainedProbes) -> ProbeSettings:
    """The settings of saved probes that decide their rows. Raises RunError for damaged ones."""
    stored = trained.results.summary()["settings"]
    known = {one.name: type(getattr(ProbeSettings(), one.name)) for one in fields(ProbeSettings)}
    values: dict[str, Any] = {}
    for name in _OF_ROWS:
        value = stored.get(name, getattr(ProbeSettings(), name))
        value = tuple(value) if isinstance(value, list) else value
        if not isinstance(value, known[name]):
            raise RunError(
                f"{trained.results.folder}: its setting {name} is {value!r}; run `vsp probe` again"
            )
        values[name] = value
    return ProbeSettings(position=trained.position, **values)


def require_same_rows(rows: DividedRows, trained: TrainedProbes) -> None:
    """Raise RunError unless saved probes were fitted on the training rows of `rows`."""
    in_run = trained.results.arrays("predictions", ("rows",))["rows"]
    stored = in_run[trained.fitted.outer_fitted[0]]
    if not np.array_equal(np.sort(stored), np.sort(rows.row[rows.train])):
        raise RunError(
            f"{trained.results.folder}: its probes were fitted on other rows than the run has now; "
            f"run `vsp probe --run {rows.run.name}` again"
        )
