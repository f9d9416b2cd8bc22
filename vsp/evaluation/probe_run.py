"""`vsp probe`: fit all layers in parallel, evaluate them, and write the results.

Every fitted layer is cached, and results are always merged from the cache. They are therefore the
same whether the layers were fitted by one command, by several, or by one that was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.box_features import has_boxes
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate
from vsp.evaluation.fit_cache import FitCache
from vsp.evaluation.layer_fits import Arrays
from vsp.evaluation.parallel_fits import fit_missing, pending_costs, read_cached
from vsp.evaluation.peak import Selection, inner_scores
from vsp.evaluation.probe_settings import ProbeSettings, setting_name
from vsp.evaluation.probe_work import ProbeWork, prepare
from vsp.evaluation.says import Says, says_beside_peak
from vsp.evaluation.work_of_layer import has_grid_by_layer
from vsp.probes import describe_probe
from vsp.probes.own_code import probe_words
from vsp.storage.npz import Blocks
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.stored_settings import check_owner

_SMALL = 1 << 14  # bytes of an array that is kept in memory for all layers
_MAX_KEPT = 1 << 26  # bytes of layers that are kept in memory completely
_ESTIMATES = ("strengths", "inner", "chosen", "likeliest", "outer_score", "by_strength", "null",
              "null_observed", "capacity", "within", "within_observed", "refit", "portion_rows",
              "curve", "code_bits", "uniform_bits", "control_code_bits",
              "control_uniform_bits", "erased_train", "erased_chance", "erased_rank", "random_erased",
              "final_strength", "gap",
              "iterations")  # fmt: skip


def probe_run(
    run: Run,
    settings: ProbeSettings,
    n_jobs: int,
    partial: bool = False,
    layers: Sequence[int] | None = None,
) -> Results:
    """Fit the layers that are not cached, evaluate all (or `layers`), and write the results.

    They lie in `results/RUN/SETTING/`; those of other settings stay.

    Raises RunError if rows are missing or failed and `partial` is false, or if `results/RUN/` holds
    results of another plan, ProbeError if the remaining rows cannot be split or fitted, DiskError if
    a file cannot be written.
    """
    home = run.results
    check_owner(home, run.plan)
    work = prepare(run, settings, partial)
    chosen = _checked_layers(work, layers)
    fit_missing(work, [*chosen, *work.baselines], n_jobs)
    fits = _CachedFits(work.cache, chosen)
    rows, how = _evaluated(work), _how(work)
    baselines = {name: read_cached(work.cache, name) for name in work.baselines}
    scores, figures = evaluate(chosen, fits, rows, how, baselines)
    says = _says(work, chosen, fits, rows, how)
    check_owner(home, run.plan)  # again, since fits take hours
    results = Results(home / setting_name(settings, layers), home)
    results.write(
        {
            **_summary(work, fits),
            **figures,
            "says": says.summary,
            "no_answers": says.why_not,
        },
        [replace(score, lens=says.lens.get(score.layer)) for score in scores],
        {**_predictions(work, chosen, fits), **says.arrays},
        _estimates(chosen, fits),
        (_probe_arrays(fit) for fit in fits),
        (_fold_arrays(fit) for fit in fits) if len(work.tasks.design.outer) > 1 else None,
    )
    return results


def _evaluated(work: ProbeWork) -> EvaluatedRows:
    tasks = work.tasks
    return EvaluatedRows(
        tasks.y,
        work.unit,
        tasks.design,
        tasks.metric,
        work.names,
        work.rows.prompt,
        work.rows.names,
        weighted=work.probe.without_class_weights() is not work.probe,
        has_embedding=work.run.plan.convention(work.settings.position).embeddings_first,
    )


def _how(work: ProbeWork) -> EvaluationSettings:
    settings = work.settings
    return EvaluationSettings(
        settings.confidence, settings.resamples, settings.seed, work.probe.tolerance
    )


def _says(
    work: ProbeWork,
    layers: Sequence[int],
    fits: _CachedFits,
    rows: EvaluatedRows,
    how: EvaluationSettings,
) -> Says:
    """The model's own answers beside the peak; of the layers, only those of the peak are read."""
    if work.options is None:
        return Says(None, "the run stores none")
    names = ("inner", "chosen")
    small = [{name: fits.array(i, name) for name in names} for i in range(len(fits))]
    peak = Selection(rows.design, np.stack([inner_scores(fit) for fit in small]))
    for k in np.unique(peak.chosen).tolist():
        peak.take(k, fits[k])
    # The lens reads layers of the language model; states of another module have other layers.
    read = layers if work.store.layout.n_layers == work.run.plan.n_layers else ()
    return says_beside_peak(work.options, work.settings.answer_score, rows, peak, read, how)


def probe_part(
    run: Run, settings: ProbeSettings, n_jobs: int, part: tuple[int, int], partial: bool = False
) -> tuple[range, Path]:
    """Fit and cache the layers of part k of n; a later `probe_run` reads them from the cache.

    Returns the layers and the folder of the cache. Raises the same errors as `probe_run`.
    """
    check_owner(run.results, run.plan)
    layers = part_layers(run.states(settings.position).layout.n_layers, *part)
    work = prepare(run, settings, partial)
    fit_missing(work, layers, n_jobs)
    return layers, work.cache.folder


def probe_costs(
    run: Run,
    settings: ProbeSettings,
    n_jobs: int,
    part: tuple[int, int] | None = None,
    partial: bool = False,
    layers: Sequence[int] | None = None,
) -> str:
    """The number of fits that are not cached and about how long they take, in words.

    Raises the same errors as `probe_run`.
    """
    work = prepare(run, settings, partial)
    if part is not None:
        return pending_costs(work, part_layers(work.store.layout.n_layers, *part), n_jobs)
    return pending_costs(work, [*_checked_layers(work, layers), *work.baselines], n_jobs)


def part_layers(n_layers: int, k: int, n: int) -> range:
    """Layers of part k (from 0) of n contiguous parts of about equal size; can be empty."""
    return range(k * n_layers // n, (k + 1) * n_layers // n)


def _checked_layers(work: ProbeWork, layers: Sequence[int] | None) -> list[int]:
    n_layers = work.store.layout.n_layers
    if layers is None:
        return list(range(n_layers))
    wrong = [layer for layer in layers if not 0 <= layer < n_layers]
    if wrong or not layers:
        raise ProbeError(
            f"layer {wrong[0] if wrong else 'none'}: run {work.run.name} has layers 0 to "
            f"{n_layers - 1}"
        )
    return sorted(set(layers))


class _CachedFits(Sequence[Arrays]):
    """The cached layers; each is read when it is accessed, and its small arrays are kept.

    The first layers are kept completely, as far as memory is set aside for them. The others are
    read again.
    """

    def __init__(self, cache: FitCache, layers: Sequence[int]) -> None:
        self.cache, self.layers = cache, layers
        self._whole: dict[int, Arrays] = {}
        self._n_bytes = 0  # of whole layers
        self._small: dict[int, Arrays] = {}
        self._saved: dict[int, bool] = {}  # whether a layer that was read holds a probe

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: Any) -> Any:
        if i in self._whole:
            return self._whole[i]
        fit = read_cached(self.cache, self.layers[i])
        self._keep(i, fit)
        return fit

    def _keep(self, i: int, fit: Arrays) -> None:
        """Keep what is small, and the whole layer if the memory set aside has space for it."""
        n_bytes = sum(one.nbytes for one in fit.values())
        if self._n_bytes + n_bytes <= _MAX_KEPT:
            self._whole[i] = fit
            self._n_bytes += n_bytes
        self._saved[i] = any(name.startswith("probe.") for name in fit)
        self._small[i] = {name: one for name, one in fit.items() if one.nbytes <= _SMALL}

    def read_all(self) -> None:
        """Read the layers that were not read before."""
        for i in range(len(self)):
            if i not in self._saved:
                self[i]

    @property
    def not_saved(self) -> list[int]:
        """Layers whose probe cannot be kept as arrays."""
        self.read_all()
        return [layer for i, layer in enumerate(self.layers) if not self._saved[i]]

    @property
    def portion_errors(self) -> dict[str, Any] | None:
        """Number of fits of the learning curve in which the estimator raised an error, and the first."""
        self.read_all()
        found = [
            one["portion_errors"].tolist()
            for one in self._small.values()
            if "portion_errors" in one
        ]
        if not found:
            return None
        return {"n": sum(int(n) for n, _ in found), "first": found[0][1]}

    def array(self, i: int, name: str) -> NDArray[Any]:
        """An array of a layer, from memory if it is small and the layer was read before."""
        known = self._small.get(i, {})
        return known[name] if name in known else self[i][name]


def _probe_arrays(fit: Arrays) -> Arrays:
    """The arrays of the saved probe, by name."""
    return _without_prefix(fit, "probe.")


def _fold_arrays(fit: Arrays) -> Arrays:
    """The arrays of the probe of each outer split, as SPLIT.NAME."""
    return _without_prefix(fit, "fold.")


def _without_prefix(fit: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in fit.items() if name.startswith(prefix)}


def _predictions(work: ProbeWork, layers: Sequence[int], fits: _CachedFits) -> dict[str, Any]:
    """Rows, and the predictions of every layer, from which all scores can be recomputed."""
    rows, tasks, design = work.rows, work.tasks, work.tasks.design
    arrays: dict[str, Any] = {
        "rows": rows.row,
        "id": rows.id,
        "group": work.unit,
        "label": tasks.y if tasks.are_numbers else rows.label,
        "layers": np.array(layers),
        "outer": tasks.design.test_split,
        "fitted": design.train_sets[design.final],
        "outer_fitted": design.train_sets[[outer.train_set for outer in design.outer]],
        "key": work.identity.key,
        "image": work.identity.image,
        "image_name": work.identity.image_name,
    }
    if not tasks.are_numbers:
        arrays["classes"] = np.array(work.names)
    arrays["base"] = fits[0]["base"]
    return arrays | _stacked(("predicted", "probability", "loss"), fits)


def _estimates(layers: Sequence[int], fits: _CachedFits) -> dict[str, Any]:
    return {"layers": np.array(layers), **_stacked(_ESTIMATES, fits)}


def _stacked(names: Sequence[str], fits: _CachedFits) -> dict[str, Blocks]:
    """Arrays [layer, …] of these names, as far as the fits have them."""
    first = fits[0]
    return {name: _blocks(name, first[name], fits) for name in names if name in first}


def _blocks(name: str, first: NDArray[Any], fits: _CachedFits) -> Blocks:
    arrays = (fits.array(i, name) for i in range(len(fits)))
    return Blocks((len(fits), *first.shape), first.dtype, arrays)


def _summary(work: ProbeWork, fits: _CachedFits) -> dict[str, Any]:
    """Rows, splits, settings and probe; `evaluate` adds the scores."""
    design, strengths = work.tasks.design, work.tasks.strengths
    used = {
        "used": len(work.rows.row),
        "train": int(design.train_sets.any(axis=0).sum()),
        "test": int((design.test_split >= 0).any(axis=0).sum()),
    }
    return {
        "run": work.run.name,
        "identity": work.run.plan.identity(),
        "plan": work.run.plan.model_dump(mode="json"),
        "position": work.settings.position,
        "n_layers": work.store.layout.n_layers,
        "hidden_size": work.store.layout.hidden_size,
        "rows": {**work.counts, **used},
        "dropped_labels": work.dropped_labels,
        "failed_reasons": work.failed_reasons,
        "equal_states": work.n_equal_states,
        "batching": None if work.batching is None else asdict(work.batching),
        "split": design.description,
        "split_by": work.settings.split_by,
        "n_without_boxes": int((~has_boxes(work.rows)).sum()),
        **work.facts,
        "untrained": work.untrained,
        "settings": asdict(work.settings),
        "probe": {
            **describe_probe(
                probe_words(work.settings.probe, work.settings.probe_options),
                work.probe,
                work.store.layout.hidden_size,
                work.names or None,
                None if has_grid_by_layer(work) else strengths,
            ),
            "not_saved": fits.not_saved,
            "fitted": _fitted_rows(work),
        },
        "portion_errors": fits.portion_errors,
    }


def _fitted_rows(work: ProbeWork) -> dict[str, Any]:
    """Which rows the saved probes are fitted on, for their card."""
    design = work.tasks.design
    fitted = design.train_sets[design.final]
    ids = "".join(f"{one}\n" for one in sorted(work.rows.id[fitted].tolist()))
    return {
        "n_rows": int(fitted.sum()),
        "rule": "all rows of the probe run" if fitted.all() else "rows with split train",
        "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),  # one line per id, sorted
    }
