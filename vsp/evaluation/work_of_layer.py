"""What is fitted on a layer: its states, and its tasks with the strengths that suit them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.baseline_features import FEATURES
from vsp.evaluation.erased_layer import ErasedLayerFitter
from vsp.evaluation.fit_cache import Fitted
from vsp.evaluation.layer_fits import LayerFitter, LayerTasks
from vsp.evaluation.probe_work import ProbeWork
from vsp.probes.erasure.methods import Erasure
from vsp.probes.treatment import mean_squared_norm
from vsp.storage.array import Store

_ROWS_AT_ONCE = 4096  # rows that are checked for finite values at once


def layer_fitter(store: Store, layer: Fitted, work: ProbeWork) -> LayerFitter:
    """The states and tasks of a layer, or of a baseline. Raises ProbeError for damaged states."""
    if isinstance(layer, str):
        states = work.features(layer)
    else:
        states = _states(store, layer, work.rows.row)
    tasks, squared_norm = tasks_of(layer, work), 0.0
    if _factor(layer) or work.probe.grid_squared_norm:
        train = tasks.design.train_sets[tasks.design.final]
        squared_norm = mean_squared_norm(work.probe.treatment, states, train)
    tasks = _with_grid(tasks, layer, work, squared_norm)
    settings = work.settings
    if settings.erase and not isinstance(layer, str):
        erasure = Erasure(settings.erase, settings.erase_rank, settings.seed, layer)
        return ErasedLayerFitter(states, work.probe, tasks, erasure)
    return LayerFitter(states, work.probe, tasks)


def counted_fitter(layer: Fitted, work: ProbeWork) -> LayerFitter:
    """A fitter without states, with as many tasks and strengths as the one of the layer."""
    tasks = _with_grid(tasks_of(layer, work), layer, work, 0.0)
    return LayerFitter(np.empty((len(tasks.y), 0)), work.probe, tasks)


def has_grid_by_layer(work: ProbeWork) -> bool:
    """Whether the probe's default grid depends on the norm of a layer's states."""
    return bool(work.probe.grid_squared_norm) and not work.settings.strengths


def _with_grid(
    tasks: LayerTasks, layer: Fitted, work: ProbeWork, squared_norm: float
) -> LayerTasks:
    """The tasks with the probe's grids for states of this mean ‖x‖²."""
    factor, probe = _factor(layer), work.probe
    if factor or probe.grid_squared_norm:
        squared_norm *= factor or 1.0
        tasks = replace(tasks, code_strengths=probe.code_grid_for(squared_norm))
        if factor or has_grid_by_layer(work):
            tasks = replace(tasks, strengths=probe.grid_for(squared_norm))
    return tasks


def _factor(layer: Fitted) -> float:
    return FEATURES[layer].norm_factor if isinstance(layer, str) else 0.0


def tasks_of(layer: Fitted, work: ProbeWork) -> LayerTasks:
    """The tasks of a layer. Baselines have no permutation test, control, capacity, learning curve, erasure or saved
    folds."""
    if not isinstance(layer, str):
        return work.tasks
    none = work.tasks.permuted[:0]
    return replace(
        work.tasks,
        permuted=none,
        within=none,
        controls={},
        shuffled=None,
        portions=None,
        resamples=None,
        n_erasures=0,
        keep_folds=False,
    )


def _states(store: Store, layer: int, rows: NDArray[np.intp]) -> NDArray[np.floating]:
    """Stored states [row, hidden]; a memory map if all rows take part.

    Raises ProbeError if a value is not finite.
    """
    states = store.layer(layer)
    if len(rows) < len(states):
        states = states[rows]
    for start in range(0, len(states), _ROWS_AT_ONCE):
        if not np.isfinite(states[start : start + _ROWS_AT_ONCE]).all():
            raise ProbeError(
                f"layer {layer} has values that are not finite, so the store is damaged; "
                "find the rows with `vsp verify --repair`"
            )
    return states
