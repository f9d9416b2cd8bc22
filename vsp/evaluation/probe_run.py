"""`vsp probe`: the programme of every layer, in parallel, and what it amounts to.

A layer is kept as soon as it is fitted (`parts`); results are always merged from what is kept, so
they are the same whether one command fitted all layers, several did, or one that was killed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy
import sklearn
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vsp import __version__
from vsp.errors import ProbeError, RunError
from vsp.evaluation.design import control_labels, design, permutations, portions
from vsp.evaluation.fit_cache import Parts
from vsp.evaluation.layer_fits import Choice, Layer, Programme, choose, gathered
from vsp.evaluation.scores import base_of, evaluate
from vsp.probes import PROBES, describe_probe
from vsp.probes.base import ProbeBase
from vsp.probes.names import DEFAULT_PROBE
from vsp.probes.treatment import mean_squared_norm
from vsp.storage.array import Store
from vsp.storage.journal import Ledger, Worst, worst
from vsp.storage.manifest import Sample
from vsp.storage.results import Blocks, Results
from vsp.storage.run import Run
from vsp.utils.progress import progress

_PARTS = 3  # raise it when a layer gives something else for the same rows and settings
_REASONS = 10  # of failed rows, in the summary
_IDLE = 1.25  # how much longer workers may take than if none ever waited
_SPLIT = 8  # jobs of one layer at most
_RANDOM = -1  # the place of random features among layers
_RANDOM_BYTES = 1 << 30  # of states; of larger ones there is no such baseline
_CHECKED = 4096  # rows that are looked through at once
_ESTIMATES = ("strengths", "inner", "chosen", "by_strength", "null", "null_observed", "control",
              "portion_rows", "curve", "code_bits", "uniform_bits", "final_strength", "gap",
              "iterations")  # fmt: skip

Arrays = dict[str, NDArray[Any]]
_Pieces = dict[int, Arrays]  # of a layer, by their place in its programme


@dataclass(frozen=True, slots=True)
class Settings:
    """How probes are fitted and judged."""

    probe: str = DEFAULT_PROBE
    treatment: str = ""  # none: the probe's own
    strengths: tuple[float, ...] = ()  # of the probe's grid; none: the probe's own
    tolerance: float = 0.0  # relative duality gap, where the probe has one; 0: the probe's own
    max_iter: int = 0  # 0: the probe's own
    folds: int = 5
    repeats: int = 2  # where the dataset has no split of its own
    permutations: int = 100
    controls: int = 5
    curve: bool = True  # learning curve and online code
    random: bool = True  # a baseline: random features in the place of states
    seed: int = 0
    confidence: float = 0.95
    resamples: int = 2000


_JUDGING = ("random", "confidence", "resamples")  # settings that decide no fit of a layer


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that take part, each array [row]."""

    row: NDArray[np.intp]  # in the store
    id: NDArray[np.str_]
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    prompt: NDArray[np.str_]
    split: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to fit, and where the fits are kept."""

    run: Run
    settings: Settings
    probe: ProbeBase
    counts: dict[str, int]  # rows planned, done, failed and missing
    failed_reasons: dict[str, int]  # the commonest first
    batching: Worst | None
    rows: Rows
    names: tuple[str, ...]  # of the classes; none where the probe reads a number
    programme: Programme
    parts: Parts


def probe_run(
    run: Run,
    settings: Settings,
    n_jobs: int,
    partial: bool = False,
    layers: Sequence[int] | None = None,
) -> Results:
    """Fit every layer (of `layers`) that is not kept yet, judge them, and write `results/RUN/`.

    Raises RunError if rows are missing or failed, unless `partial` leaves them out; ProbeError if
    the rows that remain cannot be split or fitted; DiskError if something cannot be written.
    """
    work = _prepare(run, settings, partial)
    chosen = _layers(run, layers)
    random = [_RANDOM] if _has_random(work) else []
    _fit_missing(work, [*chosen, *random], n_jobs)
    fits = _Kept(work.parts, chosen)
    rows, programme = work.rows, work.programme
    scores, facts = evaluate(
        chosen,
        fits,
        programme.y,
        rows.group,
        programme.design,
        work.names,
        work.probe.target,
        prompts=rows.prompt,
        confidence=settings.confidence,
        resamples=settings.resamples,
        seed=settings.seed,
        tolerance=work.probe.tolerance,
        random=_kept(work.parts, _RANDOM) if random else None,
    )
    results = Results(run.results)
    results.write(
        {**_summary(work), **facts},
        scores,
        _predictions(work, chosen, fits),
        _estimates(chosen, fits),
        (_of_probe(fit) for fit in fits),
    )
    return results


def probe_part(
    run: Run, settings: Settings, n_jobs: int, part: tuple[int, int], partial: bool = False
) -> tuple[range, Path]:
    """Fit the layers of the k-th of n parts that are not kept yet; `probe_run` then finds them.

    Returns the layers and the folder that keeps them. Raises as `probe_run` does.
    """
    layers = part_layers(run.plan.n_layers, *part)
    work = _prepare(run, settings, partial)
    _fit_missing(work, layers, n_jobs)
    return layers, work.parts.folder


def part_layers(n_layers: int, k: int, n: int) -> range:
    """The k-th (from 0) of n contiguous, nearly equal parts of the layers; perhaps none."""
    return range(k * n_layers // n, (k + 1) * n_layers // n)


def usable_jobs(asked: int) -> int:
    """As many workers as were asked for and this host has cores."""
    return max(1, min(asked, int(joblib.cpu_count())))


def fit_layer(store: Store, layer: int, work: Work) -> Arrays:
    """A layer's whole programme. Inner threads are held to one: workers share the cores."""
    with threadpool_limits(1):
        at = _at(store, layer, work)
        programme = at.programme
        searched = [at.search(sets) for sets in programme.searches]
        choice = choose(programme, searched)
        rest = [at.go_on(piece, choice) for piece in programme.rest]
        return gathered(programme, work.probe, searched, choice, rest)


def fits_key(run: Run, settings: Settings, rows: Rows, crc32: NDArray[np.uint32]) -> str:
    """Stands for everything that decides a fit: states, labels, groups, settings, versions."""
    decides = {
        "format": _PARTS,
        "versions": [__version__, sklearn.__version__, np.__version__, scipy.__version__],
        "plan": run.plan.id,
        "settings": {k: v for k, v in asdict(settings).items() if k not in _JUDGING},
    }
    digest = hashlib.sha256(json.dumps(decides).encode())
    arrays: list[NDArray[Any]] = [rows.row, crc32, rows.label, rows.group, rows.prompt, rows.split]
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _prepare(run: Run, settings: Settings, partial: bool) -> Work:
    ledgers = run.ledgers()
    counts = _counts(run, ledgers, partial)
    probe = _probe(settings)
    rows = _rows(run.all_samples(), np.concatenate([ledger.rows_done for ledger in ledgers]))
    programme, names = _programme(rows, settings, probe)
    run.store.check()
    crc32 = np.concatenate([ledger.crc32_done for ledger in ledgers])
    parts = Parts(_home(run) / "probe" / fits_key(run, settings, rows, crc32))
    return Work(run, settings, probe, counts, _reasons(ledgers), worst(ledgers), rows, names,
                programme, parts)  # fmt: skip


def _probe(settings: Settings) -> ProbeBase:
    """The estimator, as the settings want it."""
    probe: ProbeBase = PROBES.load(settings.probe)()
    if settings.strengths and not probe.strength_name:
        raise ProbeError(f"probe {settings.probe} has no strength to choose; leave out --grid")
    return probe.configure(settings.treatment, settings.tolerance, settings.max_iter, settings.seed)


def _rows(samples: Sequence[Sample], done: NDArray[np.intp]) -> Rows:
    if not len(done):
        raise ProbeError(f"none of {len(samples)} rows is done; a probe needs some: extract them")
    chosen = [samples[row] for row in done.tolist()]
    fields = ("id", "label", "group", "prompt", "split")
    return Rows(
        np.asarray(done, np.intp), *(np.array([getattr(s, f) for s in chosen]) for f in fields)
    )


def _programme(
    rows: Rows, settings: Settings, probe: ProbeBase
) -> tuple[Programme, tuple[str, ...]]:
    y: NDArray[Any]
    names: tuple[str, ...]
    if probe.target == "number":
        y, names = _numbers(rows), ()
    else:
        found, y = np.unique(rows.label, return_inverse=True)
        names = tuple(map(str, found))
    made = design(y, rows.group, rows.split, settings.folds, settings.repeats, settings.seed, names)
    permuted, _ = permutations(y, rows.group, made.blocks, settings.permutations, settings.seed)
    control = control_labels(rows.prompt, y, settings.controls, settings.seed)
    grown: Sequence[NDArray[np.bool_]] = ()
    if settings.curve:
        grown = portions(y, rows.group, made.train[made.outer[0].fit], settings.seed)
    strengths = (
        tuple(sorted({*(settings.strengths or probe.default_grid)})) if probe.strength_name else ()
    )
    none = np.empty((0, len(y)), y.dtype)
    programme = Programme(y, made, strengths, permuted, none if control is None else control,
                          tuple(grown))  # fmt: skip
    return programme, names


def _numbers(rows: Rows) -> NDArray[np.float64]:
    for label in np.unique(rows.label).tolist():
        try:
            float(label)
        except ValueError:
            raise ProbeError(
                f"label {label!r} is not a number, as this probe reads; use --probe logistic"
            ) from None
    return rows.label.astype(np.float64)


def _layers(run: Run, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(run.plan.n_layers))
    wrong = [layer for layer in layers if not 0 <= layer < run.plan.n_layers]
    if wrong or not layers:
        raise ProbeError(
            f"layer {wrong[0] if wrong else 'none'}: run {run.name} has layers 0 to "
            f"{run.plan.n_layers - 1}"
        )
    return sorted(set(layers))


def _at(store: Store, layer: int, work: Work) -> Layer:
    states = _states(store, layer, work.rows.row) if layer != _RANDOM else _random(work)
    programme = _programme_of(layer, work)
    if _grid_by_layer(work):
        train = programme.design.train[programme.design.final]
        squared_norm = mean_squared_norm(work.probe.treatment, states, train)
        programme = replace(programme, strengths=work.probe.grid_for(squared_norm))
    return Layer(states, work.probe, programme)


def _grid_by_layer(work: Work) -> bool:
    return bool(work.probe.grid_squared_norm) and not work.settings.strengths


def _programme_of(layer: int, work: Work) -> Programme:
    """Random features only have an estimate."""
    if layer != _RANDOM:
        return work.programme
    none = np.empty((0, len(work.programme.y)), work.programme.y.dtype)
    return replace(work.programme, permuted=none, control=none, portions=())


def _has_random(work: Work) -> bool:
    n_bytes = 4 * len(work.rows.row) * work.run.plan.hidden_size
    return work.settings.random and n_bytes <= _RANDOM_BYTES


def _random(work: Work) -> NDArray[np.floating]:
    """Features [row, hidden] that say nothing of anything."""
    rng = np.random.default_rng(work.settings.seed)
    shape = (len(work.rows.row), work.run.plan.hidden_size)
    return rng.standard_normal(shape, dtype=np.float32)


def _states(store: Store, layer: int, row: NDArray[np.intp]) -> NDArray[np.floating]:
    """States [row, hidden] as the store has them; a map of the file where all rows take part."""
    states = store.layer(layer)
    if len(row) < len(states):
        states = states[row]
    for start in range(0, len(states), _CHECKED):
        if not np.isfinite(states[start : start + _CHECKED]).all():
            raise ProbeError(
                f"layer {layer} holds values that are not finite, "
                "so the store is damaged; `vsp verify --repair` says where"
            )
    return states


def _home(run: Run) -> Path:
    """Where fits are kept: with the run, or with the results where the run is read-only."""
    if os.access(run.folder, os.W_OK):
        return run.folder
    _note(f"{run.folder} is read-only; fitted layers are kept in {run.results}")
    return run.results


def _fit_missing(work: Work, layers: Sequence[int], n_jobs: int) -> None:
    pending = [layer for layer in layers if not _is_kept(work.parts, layer)]
    if len(pending) < len(layers):
        n_kept = len(layers) - len(pending)
        what = "layers and random features" if _RANDOM in layers else "layers"
        _note(f"{n_kept} of {len(layers)} {what} were fitted before; kept in {work.parts.folder}")
    if not pending:
        return
    try:
        n_split = _n_split(len(pending), n_jobs)
        if n_split > 1:
            _fit_divided(work, pending, n_jobs, n_split)
        else:
            jobs = (delayed(_fit_and_keep)(work.run.store, layer, work) for layer in pending)
            for _ in _run(work, "jobs", n_jobs, len(pending), jobs):
                pass
    except TerminatedWorkerError:
        raise RunError(
            f"run {work.run.name}: a worker process was killed, as a rule for want of memory; "
            f"run the same command with fewer than --n-jobs {n_jobs}, fitted layers are kept"
        ) from None


def _n_split(n_layers: int, n_jobs: int) -> int:
    """Into how many jobs a layer is divided, so that few workers wait for the last ones."""
    for n in range(1, _SPLIT + 1):
        rounds = math.ceil(n_layers * n / n_jobs)
        if rounds * n_jobs <= _IDLE * n_layers * n:
            return n
    return _SPLIT


def _run(work: Work, unit: str, n_jobs: int, n: int, jobs: Iterator[Any]) -> Iterator[Any]:
    """What the jobs return, as they end."""
    with progress(f"probe {work.run.name}", unit, n) as advance:
        for one in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs):
            yield one
            advance(1)


def _fit_and_keep(store: Store, layer: int, work: Work) -> None:
    work.parts.write(layer, fit_layer(store, layer, work))


def _fit_divided(work: Work, layers: Sequence[int], n_jobs: int, n_split: int) -> None:
    """The pieces of all layers that search, then those that depend on what was found.

    A layer is kept when all its pieces are there.
    """
    store = work.run.store
    programmes = {layer: _programme_of(layer, work) for layer in layers}
    shares = [
        (layer, share)
        for layer in layers
        for share in _shares(len(programmes[layer].searches), n_split)
    ]
    jobs = (delayed(_search)(store, layer, work, share) for layer, share in shares)
    searched: dict[int, _Pieces] = {layer: {} for layer in layers}
    for layer, pieces in _run(work, "searches", n_jobs, len(shares), jobs):
        searched[layer] |= pieces
    choices = {layer: choose(programmes[layer], _ordered(searched[layer])) for layer in layers}
    shares = [
        (layer, share)
        for layer in layers
        for share in _shares(len(programmes[layer].rest), n_split)
    ]
    jobs = (delayed(_go_on)(store, layer, work, share, choices[layer]) for layer, share in shares)
    done: dict[int, _Pieces] = {layer: {} for layer in layers}
    for layer, pieces in _run(work, "shares", n_jobs, len(shares), jobs):
        done[layer] |= pieces
        if len(done[layer]) == len(programmes[layer].rest):
            both = _ordered(searched.pop(layer)), choices[layer], _ordered(done.pop(layer))
            work.parts.write(layer, gathered(programmes[layer], work.probe, *both))


def _shares(n_pieces: int, n_split: int) -> list[range]:
    """Pieces dealt out, so that long and short ones are in every share."""
    return [range(k, n_pieces, n_split) for k in range(min(n_split, n_pieces))]


def _search(store: Store, layer: int, work: Work, share: range) -> tuple[int, _Pieces]:
    with threadpool_limits(1):
        at = _at(store, layer, work)
        return layer, {i: at.search(at.programme.searches[i]) for i in share}


def _go_on(
    store: Store, layer: int, work: Work, share: range, choice: Choice
) -> tuple[int, _Pieces]:
    with threadpool_limits(1):
        at = _at(store, layer, work)
        return layer, {i: at.go_on(at.programme.rest[i], choice) for i in share}


def _ordered(pieces: _Pieces) -> list[Arrays]:
    """Whichever was there first."""
    return [pieces[i] for i in sorted(pieces)]


class _Kept(Sequence[Arrays]):
    """The kept layers, each read when it is asked for."""

    def __init__(self, parts: Parts, layers: Sequence[int]) -> None:
        self.parts, self.layers = parts, layers

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: Any) -> Any:
        return _kept(self.parts, self.layers[i])


def _is_kept(parts: Parts, layer: int) -> bool:
    try:
        return parts.read(layer) is not None
    except RunError:
        _note(f"{parts.path(layer)} is damaged; it is removed and the layer fitted again")
        parts.remove(layer)
        return False


def _kept(parts: Parts, layer: int) -> Arrays:
    fit = parts.read(layer)
    if fit is None:
        raise RunError(f"{parts.path(layer)}: was removed meanwhile; run the same command again")
    return fit


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _counts(run: Run, ledgers: Sequence[Ledger], partial: bool) -> dict[str, int]:
    counts = {
        "planned": run.plan.n_samples,
        "done": sum(ledger.n_done for ledger in ledgers),
        "failed": sum(ledger.n_failed for ledger in ledgers),
        "missing": sum(ledger.n_missing for ledger in ledgers),
    }
    assert counts["planned"] == counts["done"] + counts["failed"] + counts["missing"], counts
    if counts["done"] < counts["planned"] and not partial:
        raise RunError(
            f"run {run.name}: {counts['missing']} rows are missing and {counts['failed']} failed "
            f"of {counts['planned']}; extract them, or leave them out with --partial"
        )
    return counts


def _reasons(ledgers: Sequence[Ledger]) -> dict[str, int]:
    """Why rows failed, and how many of them; the commonest reasons first, and not the rare ones."""
    counted = Counter(why for ledger in ledgers for why in ledger.failed.values())
    return dict(sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:_REASONS])


def _of_probe(fit: Arrays) -> Arrays:
    return {name[len("probe.") :]: a for name, a in fit.items() if name.startswith("probe.")}


def _predictions(work: Work, layers: Sequence[int], fits: _Kept) -> dict[str, Any]:
    """What every layer said of every row, so that anything else can be computed from it."""
    rows, programme = work.rows, work.programme
    made: dict[str, Any] = {
        "rows": rows.row,
        "id": rows.id,
        "group": rows.group,
        "label": programme.y if programme.numbers else rows.label,
        "layers": np.array(layers),
        "outer": programme.design.judged_by,
    }
    if programme.numbers:
        made["base"] = base_of(programme.y, programme.design, by_label=False)
    else:
        made["classes"] = np.array(work.names)
    first = fits[0]
    for name in ("predicted", "probability"):
        if name in first:
            made[name] = _stacked(name, first[name], fits)
    return made


def _estimates(layers: Sequence[int], fits: _Kept) -> dict[str, Any]:
    first = fits[0]
    there = [name for name in _ESTIMATES if name in first]
    return {
        "layers": np.array(layers),
        **{name: _stacked(name, first[name], fits) for name in there},
    }


def _stacked(name: str, first: NDArray[Any], fits: _Kept) -> Blocks:
    return Blocks((len(fits), *first.shape), first.dtype, (fit[name] for fit in fits))


def _summary(work: Work) -> dict[str, Any]:
    """What was done with which rows; `evaluate` adds what came of it."""
    made, programme = work.programme.design, work.programme
    judged = (made.judged_by >= 0).any(axis=0)
    used = {
        "used": len(work.rows.row),
        "train": int(made.train.any(axis=0).sum()),
        "test": int(judged.sum()),
    }
    names = work.names or None
    return {
        "run": work.run.name,
        "plan": work.run.plan.model_dump(mode="json"),
        "rows": {**work.counts, **used},
        "failed_reasons": work.failed_reasons,
        "batching": None if work.batching is None else asdict(work.batching),
        "split": made.words,
        "settings": asdict(work.settings),
        "probe": describe_probe(work.settings.probe, work.probe, work.run.plan.hidden_size, names,
                      None if _grid_by_layer(work) else programme.strengths),
    }  # fmt: skip
