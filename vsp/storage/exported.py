"""What `vsp export` writes, whatever the format: chosen rows and layers of a run, and their card.

States lie layer after layer in a run. They are read in spans of rows, so that memory stays bounded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST, RowChoice
from vsp.errors import RunError, StoreError
from vsp.storage.array import Store
from vsp.storage.ledger import DONE, Ledger
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.storage.stored_settings import choose_setting
from vsp.storage.stored_states import States
from vsp.utils.text import format_count, format_ranges

FORMAT = 1  # of the card
_SPAN = 16 << 20  # bytes of states that are read at once, about
_MISSING = "not extracted"
_N_REASONS = 20  # reasons of rows that are left out, most common first; the others are one


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The options of `vsp export` that all formats share."""

    position: str = LAST
    layers: Sequence[int] | None = None  # of the run; None: all
    rows: RowChoice = "done"  # all done rows, or those of a split
    partial: bool = False  # leave out rows that are missing or failed
    answers: bool = True  # with the log-likelihoods of options, if the run has them
    predictions: bool = False  # with the labels that the probes predict
    probe: str | None = None  # setting or probe of the predictions; None: the newest


@dataclass(frozen=True)
class Export:
    """The chosen rows and layers of a run."""

    store: Store
    row: NDArray[np.intp]  # in the store, ascending
    layers: tuple[int, ...]  # in the store
    model_layers: tuple[int, ...]  # the same ones, as layers of the model
    columns: Mapping[str, list[str]]  # texts of the rows, by the names of StateRows
    options: list[tuple[str, ...]]  # of each row; empty without answers
    answers: NDArray[np.float32] | None  # [row, option]; nan: the row has fewer options
    predictions: NDArray[np.str_] | None  # [row, layer]; "": the row is not tested
    card: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def hidden_size(self) -> int:
        return self.store.layout.hidden_size

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.store.layout.dtype)

    def __len__(self) -> int:
        return len(self.row)

    def sample_blocks(self) -> Iterator[States]:
        """The states of all rows, in blocks `[row, layer, hidden]`."""
        layout = self.store.layout
        with _opened(self.store) as handle:
            for rows in self._spans(len(self.layers)):
                block = np.empty((len(rows), len(self.layers), self.hidden_size), layout.dtype)
                for place, layer in enumerate(self.layers):
                    block[:, place] = _read(handle, self.store, layer, rows)
                yield block

    def layer_blocks(self, layer: int) -> Iterator[States]:
        """The states of a layer of the store, in blocks `[row, hidden]`."""
        with _opened(self.store) as handle:
            for rows in self._spans(1):
                yield _read(handle, self.store, layer, rows)

    def _spans(self, n_layers: int) -> Iterator[NDArray[np.intp]]:
        """The chosen rows in each span of neighbouring rows."""
        step = max(1, _SPAN // (self.store.layout.row_bytes * n_layers))
        for start in range(0, int(self.row[-1]) + 1, step):
            first, last = np.searchsorted(self.row, (start, start + step))
            if first < last:
                yield self.row[first:last]


@contextmanager
def _opened(store: Store) -> Iterator[int]:
    handle = os.open(store.path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(handle: int, store: Store, layer: int, rows: NDArray[np.intp]) -> States:
    """Rows of a layer; reads all from the first to the last, since a map would stay in memory."""
    layout, first = store.layout, int(rows[0])
    n_rows = int(rows[-1]) + 1 - first
    data = bytearray(n_rows * layout.row_bytes)
    view, n_read = memoryview(data), 0
    while n_read < len(data):
        more = os.preadv(handle, [view[n_read:]], layout.offset(layer, first) + n_read)
        if not more:
            raise StoreError(f"{store.path}: ends early; run `vsp verify`")
        n_read += more
    states: States = np.frombuffer(data, layout.dtype).reshape(n_rows, layout.hidden_size)
    return states if len(rows) == n_rows else states[rows - first]


def prepare_export(run: Run, request: ExportRequest) -> Export:
    """Choose rows and layers.

    Raises RunError if a chosen row is missing or failed and `partial` is false, if no row is left, and
    for a layer, a position or predictions that the run does not have.
    """
    store, plan = run.states(request.position), run.plan
    store.check()
    layers = _chosen_layers(run, store, request.layers)
    samples, ledgers = run.all_samples(), run.ledgers()
    row, left_out = _chosen_rows(run, request, samples, ledgers)
    chosen = [samples[i] for i in row.tolist()]
    convention = plan.convention(request.position)
    answers: NDArray[np.float32] | None = None
    options: list[tuple[str, ...]] = []
    if request.answers and plan.answers is not None:
        answers, options = _answers(run, row, chosen)
    predictions = _predictions(run, request, row, layers) if request.predictions else None
    model_layers = tuple(convention.layers[layer] for layer in layers)
    last = convention.last if layers[-1] == store.layout.n_layers - 1 else "raw"
    card = _origin(run, request.position) | {
        "layers": list(model_layers),
        "last_layer": last,
        "assumed": convention.assumed,
        "dtype": store.layout.dtype,
        "n_rows": len(row),
    }
    card["left_out"] = dict(Counter(card.get("left_out") or {}) + left_out)
    notes = [f"{n:,} rows left out: {why}" for why, n in left_out.items()]
    columns = _columns(plan, chosen)
    return Export(store, row, layers, model_layers, columns, options, answers, predictions, card,
                  tuple(notes))  # fmt: skip


def _chosen_layers(run: Run, store: Store, layers: Sequence[int] | None) -> tuple[int, ...]:
    n_layers = store.layout.n_layers
    chosen = tuple(range(n_layers)) if layers is None else tuple(sorted(set(layers)))
    wrong = [layer for layer in chosen if layer >= n_layers]
    if wrong:
        raise RunError(f"layer {wrong[0]}: run {run.name} has layers 0 to {n_layers - 1}")
    return chosen


def _chosen_rows(
    run: Run, request: ExportRequest, samples: Sequence[Sample], ledgers: Sequence[Ledger]
) -> tuple[NDArray[np.intp], Counter[str]]:
    """The rows, and the number of those left out by reason."""
    state = np.concatenate([ledger.state for ledger in ledgers])
    of_split = np.array([request.rows in ("done", sample.split) for sample in samples])
    failed = {row: why for ledger in ledgers for row, why in ledger.failed.items()}
    reasons = Counter(
        failed.get(row, _MISSING) for row in np.flatnonzero(of_split & (state != DONE)).tolist()
    )
    n_undone = sum(reasons.values())
    if n_undone and not request.partial:
        raise RunError(
            f"run {run.name}: {format_count(n_undone, 'row')} missing or failed of "
            f"{int(of_split.sum()):,}; leave them out with --partial"
        )
    row = np.flatnonzero(of_split & (state == DONE))
    if not len(row):
        raise RunError(f"run {run.name}: no row to export with --rows {request.rows}")
    left_out = Counter[str]()
    if n_others := int((~of_split).sum()):
        left_out[f"split is not {request.rows}"] = n_others
    left_out.update(dict(reasons.most_common(_N_REASONS)))
    if others := n_undone - sum(n for _, n in reasons.most_common(_N_REASONS)):
        left_out["other reasons"] = others
    return row, left_out


def _origin(run: Run, position: str) -> dict[str, Any]:
    """The origin in the card; for an imported run, that in the card of its file."""
    plan = run.plan
    if plan.imported is not None and plan.imported.card is not None:
        return dict(plan.imported.card)
    values = plan.model_dump(mode="json")
    kept = ("dataset", "variants", "model", "checkpoint_files", "compute_dtype", "labels", "prompt")
    origin = {
        "format": FORMAT,
        "vsp": plan.vsp,
        "run": run.name,
        "planned": plan.created,
        "identity": plan.identity(),
        **{key: values[key] for key in kept},
        "position": position,
    }
    if plan.imported is not None:
        origin["imported"] = {
            key: values["imported"][key] for key in ("kind", "sources_sha256", "split")
        }
    return origin


def _columns(plan: Plan, samples: Sequence[Sample]) -> dict[str, list[str]]:
    """The texts of the rows; images are named relative to the dataset."""
    names = ("label", "id", "group", "split", "prompt", "image_sha256", "subject", "reference")
    columns = {name: [str(getattr(sample, name)) for sample in samples] for name in names}
    prefix = plan.dataset.rstrip("/") + "/"
    columns["image"] = [sample.image.removeprefix(prefix) for sample in samples]
    return columns


def _answers(
    run: Run, row: NDArray[np.intp], samples: Sequence[Sample]
) -> tuple[NDArray[np.float32], list[tuple[str, ...]]]:
    answers = run.plan.answers
    assert answers is not None
    store = run.stores["answers"]
    store.check()
    values: NDArray[np.float32] = np.array(store.layer(0)[row, : answers.n_options])
    texts = [tuple(text.strip() for text in answers.texts_of(sample)) for sample in samples]
    return values, texts


def _predictions(
    run: Run, request: ExportRequest, row: NDArray[np.intp], layers: Sequence[int]
) -> NDArray[np.str_]:
    """The labels that the probes predict in the first repeat of the folds `[row, layer]`."""
    results = choose_setting(run.results, request.position, request.probe)
    arrays = results.arrays("predictions", ("rows", "layers", "predicted", "classes"))
    if "classes" not in arrays:
        raise RunError(f"{results.folder}: predicts numbers, not labels; leave out --predictions")
    probed = arrays["layers"].tolist()
    missing = sorted(set(layers) - set(probed))
    if missing:
        raise RunError(
            f"{results.folder}: holds no predictions of layers {format_ranges(missing)}; probe them, or "
            f"export --layers {format_ranges(probed)}"
        )
    names = np.array([*arrays["classes"].tolist(), ""])  # -1 stands for a row that is not tested
    place_of = {one: place for place, one in enumerate(arrays["rows"].tolist())}
    known = np.array([one in place_of for one in row.tolist()])
    place = np.array([place_of[one] for one in row[known].tolist()], np.intp)
    predicted = np.full((len(row), len(layers)), "", names.dtype)
    for i, layer in enumerate(layers):
        predicted[known, i] = names[arrays["predicted"][probed.index(layer), 0, place]]
    return predicted


def check_out(path: Path, ending: str) -> None:
    """Raise RunError if the file cannot be the new one."""
    if path.suffix != ending:
        raise RunError(f"--out {path}: does not end in {ending}; name it {path.stem}{ending}")
    if os.path.lexists(path):
        raise RunError(f"--out {path}: exists already; remove it or choose another name")
