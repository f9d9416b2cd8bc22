"""Selectivity: the score above that of control tasks, both normalised by chance.

A normalised score is (score − chance) / (1 − chance). The chance of a control task is that of its
own labels. Source: Hewitt & Liang, "Designing and Interpreting Probes with Control Tasks", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.column_table import ColumnTable, TestedRows, differences
from vsp.evaluation.metrics import Metric
from vsp.evaluation.peak import is_control_loss
from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import GroupBootstrap
from vsp.evaluation.tested_rows import normalised_on_tested

_ZERO = "zero"  # column of a score of 0, which turns a difference into the score itself
Column = str | int


class Selectivity:
    """Normalised losses of layers and of the peak, and those of their control tasks."""

    def __init__(self, test: TestedRows, chance: tuple[Floats, Floats], metric: Metric) -> None:
        """`chance`: loss and base [repeat, row] of a prediction that uses no states."""
        self.test, self.chance = test, chance
        base = test.tested.astype(np.float64)
        self.table = ColumnTable(test, base, metric, is_normalised=True)
        self.table.add(_ZERO, base)
        self.controls: dict[Column, list[str]] = {}

    def add(self, column: Column, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add the losses of a layer or of the peak, and of its control tasks, if there are any."""
        names = [
            name.split(".")[1]
            for name in arrays
            if is_control_loss(name) and np.isfinite(arrays[name][self.test.tested]).all()
        ]
        self.controls[column] = names
        if not names:
            return
        loss = arrays["loss"], self.chance[1]
        normalised = normalised_on_tested(self.test.design, loss, self.chance)
        self.table.add(f"{column}", normalised)
        for name in names:
            self.table.add(f"{column} {name}", arrays[f"control.{name}.loss"])

    def figures(
        self, confidence: float, resamples: int, seed: int
    ) -> dict[Column, dict[str, dict[str, Any]]]:
        """For each column and control: normalised score, that of the control, and selectivity.

        Each is {difference, low, high}; a normalised score is its difference to 0.
        """
        if not any(self.controls.values()):
            return {column: {} for column in self.controls}
        bootstrap = self.table.bootstrap(confidence, resamples, seed)
        return {
            column: {name: self._figures(bootstrap, column, name) for name in names}
            for column, names in self.controls.items()
        }

    def _figures(self, bootstrap: GroupBootstrap, column: Column, name: str) -> dict[str, Any]:
        numbers = self.table.column
        own, control = numbers[f"{column}"], numbers[f"{column} {name}"]
        score, of_control = differences(bootstrap, [own, control], numbers[_ZERO])
        (selectivity,) = differences(bootstrap, [own], control)
        return {"score": score, "control": of_control, "selectivity": selectivity}
