"""Read runs and results in Python: `vsp.open_run` and `vsp.open_results`.

They need no torch, no transformers and no GPU, and write nothing. An object shows the state of the run
when it was opened; arrays are read on request.

A run that is not complete has bytes of zero where rows are missing. So `open_run` refuses it, like
`vsp probe`, or opens its done rows only (`partial=True`): rows, states and answers are then cut the
same way, and row i of one is row i of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsp import probes
from vsp.choices import LAST
from vsp.errors import RunError
from vsp.evaluation.run_options import stored_options
from vsp.storage.convention import LayerConvention
from vsp.storage.find_results import find_results
from vsp.storage.layer_score import LayerScore
from vsp.storage.ledger import DONE
from vsp.storage.manifest import Sample
from vsp.storage.results import Results
from vsp.storage.run import Run, find_run
from vsp.utils.text import format_count

if TYPE_CHECKING:
    from vsp.evaluation.answers import RowOptions

_TEXTS = ("id", "image", "prompt", "label", "group", "split", "subject", "reference")


@dataclass(frozen=True, eq=False, repr=False)
class OpenedRun:
    """The rows of a run, their states and the model's own answers; made by `open_run`."""

    run: Run
    done: NDArray[np.bool_]  # [planned row], whether its states are stored
    failed: Mapping[int, str]  # planned row → why it has no states
    row: NDArray[np.intp]  # [sample], its place among the planned rows

    def __repr__(self) -> str:
        rows = f"{self.n_samples:,} of {format_count(len(self.done), 'row')}"
        return (
            f"<run {self.name}: {rows}, {self.n_layers} layers × {self.hidden_size}, "
            f"at {', '.join(self.positions)}>"
        )

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def positions(self) -> tuple[str, ...]:
        """Where in the prompt, or ahead of the decoder, states are stored."""
        return self.run.plan.stored_positions

    @property
    def n_samples(self) -> int:
        return len(self.row)

    @property
    def n_layers(self) -> int:
        """Layers at the last token, counting the embedding output, which is layer 0."""
        return self.run.plan.n_layers

    @property
    def hidden_size(self) -> int:
        return self.run.plan.hidden_size

    def convention(self, position: str = LAST) -> LayerConvention:
        """The layers of the model that are stored; an imported run may hold only some of them."""
        return self.run.plan.convention(position)

    @cached_property
    def samples(self) -> list[Sample]:
        """All that is known of each row, such as boxes, regions and options."""
        samples = self.run.all_samples()
        return samples if self._is_complete else [samples[row] for row in self.row.tolist()]

    @cached_property
    def rows(self) -> dict[str, NDArray[Any]]:
        """The rows as a table: column → array [sample]; `pandas.DataFrame(run.rows)` takes it.

        Columns: row (its place in the run), id, image (path), prompt, label, group, split, subject,
        reference and n_tokens. A value that the dataset does not have is "".
        """
        columns: dict[str, NDArray[Any]] = {"row": self.row}
        for name in _TEXTS:
            # Objects, since one long prompt would make all others as long.
            columns[name] = np.array([getattr(one, name) for one in self.samples], object)
        columns["n_tokens"] = np.array([one.n_tokens for one in self.samples], np.int64)
        return columns

    def states(self, layer: int, position: str = LAST) -> NDArray[np.floating]:
        """States [sample, hidden] of a layer, counted from 0 as `vsp probe` does.

        They are a read-only memory map, or with `partial=True` a copy of the done rows of a run that
        is not complete. States of the vision tower or the projector have layers and a size of their
        own. Raises RunError if the run does not have the position or the layer, StoreError if the
        file is not that of the run.
        """
        store = self.run.states(position)
        n_layers = store.layout.n_layers
        if not 0 <= layer < n_layers:
            raise RunError(
                f"layer {layer}: run {self.name} has layers 0 to {n_layers - 1} at position {position}"
            )
        store.check()
        states = store.layer(layer)
        if not self._is_complete:
            states = states[self.row]
        states.flags.writeable = False
        return states

    @cached_property
    def answers(self) -> Answers | None:
        """The options of each row and their log-likelihoods; None if the run stores none."""
        options = self._options
        if options is None:
            return None
        return Answers(
            options=options.texts,
            log_likelihood=options.total,
            n_tokens=options.n_tokens,
            n_characters=options.n_characters,
        )

    @property
    def lens(self) -> NDArray[np.floating] | None:
        """Log-likelihoods [layer, sample, option] read from each layer; None if not stored."""
        return None if self._options is None else self._options.lens

    @cached_property
    def _options(self) -> RowOptions | None:
        options = stored_options(self.run, self.run.all_samples())
        return options if options is None or self._is_complete else options.take(self.row)

    @property
    def _is_complete(self) -> bool:
        return len(self.row) == len(self.done)


@dataclass(frozen=True, eq=False)
class Answers:
    """The answer options of rows, and how likely the model finds each."""

    options: Sequence[Sequence[str]]  # [sample][option], as the text joins the prompt
    log_likelihood: NDArray[np.floating]  # [sample, option], natural; nan: no such option
    n_tokens: NDArray[np.integer[Any]]  # [sample, option]; 0: no such option
    n_characters: NDArray[np.integer[Any]]  # [sample, option], without spaces around


@dataclass(frozen=True, eq=False, repr=False)
class OpenedResults:
    """What `vsp probe` found at one position of a run; made by `open_results`."""

    results: Results
    summary: Mapping[str, Any]  # all of summary.json
    scores: Sequence[LayerScore]  # one per layer, in their order

    def __repr__(self) -> str:
        return (
            f"<results {self.folder}: {self.metric} of {format_count(len(self.scores), 'layer')}>"
        )

    @property
    def folder(self) -> Path:
        return self.results.folder

    @property
    def position(self) -> str:
        """The position of the states that the probes read."""
        return str(self.summary["position"])

    @property
    def layers(self) -> list[int]:
        """The layers that have scores."""
        return [score.layer for score in self.scores]

    @property
    def selected_layer(self) -> int:
        """The layer that the training rows choose; its scores on test rows are not optimistic."""
        return int(self.summary["best_layer"])

    @property
    def metric(self) -> str:
        """The name of the score: accuracy, balanced accuracy, R², …"""
        return str(self.summary["statistic"])

    @property
    def chance(self) -> float:
        """The score of always predicting the most frequent training label, or the mean."""
        return float(self.summary["chance"])

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """The arrays of predictions.npz, which docs/results.md lists."""
        return self._arrays("predictions")

    @cached_property
    def estimates(self) -> dict[str, NDArray[Any]]:
        """The arrays of estimates.npz, which docs/results.md lists."""
        return self._arrays("estimates")

    def probe(self, layer: int | None = None) -> Any:
        """The saved probe of a layer, by default of the selected one.

        `results.probe().predict(states [sample, hidden])` gives labels or numbers [sample];
        probes with probabilities also have `predict_proba`. Raises ProbeError if there is none of
        this layer.
        """
        probe = probes.load(self.folder, self.selected_layer if layer is None else layer)
        self._check_unchanged()
        return probe

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        arrays = self.results.arrays(name)
        self._check_unchanged()
        return arrays

    def _check_unchanged(self) -> None:
        """Raise RunError if another `vsp probe` wrote results since these were opened."""
        if self.results.summary() != self.summary:
            raise RunError(f"{self.folder}: was written again since it was opened; open it again")


def open_run(path: str | Path, partial: bool = False) -> OpenedRun:
    """Open a run in `scratch/` by its name, or by its path (which has a slash).

    With `partial`, rows that are missing or failed are left out, and `done` and `failed` tell which;
    otherwise RunError is raised with their numbers. Raises RunError if there is no such run or it
    was changed since the plan.
    """
    run = find_run(_name_or_path(path), Path())
    run.require_states()
    ledgers = run.ledgers()
    done = np.concatenate([ledger.state for ledger in ledgers]) == DONE
    done.flags.writeable = False
    failed = {row: why for ledger in ledgers for row, why in ledger.failed.items()}
    n_missing = len(done) - int(done.sum()) - len(failed)
    if not (partial or done.all()):
        raise RunError(
            f"run {run.name}: {n_missing} rows are missing and {len(failed)} failed of {len(done)}; "
            "extract them, or open the done rows with partial=True"
        )
    return OpenedRun(run, done, failed, np.flatnonzero(done))


def open_results(
    path: str | Path, position: str | None = None, probe: str | None = None
) -> OpenedResults:
    """Open the results of a run by its name, or by the path of the run or of its results.

    Of several settings, the newest at `position` (default: the last token) is opened; `probe` names a
    setting, which is a folder in `results/RUN/`, or a probe. Raises RunError if there are none, or
    they were changed.
    """
    results = find_results(_name_or_path(path), Path(), position, probe)
    summary, scores = results.read()
    return OpenedResults(results, summary, scores)


def _name_or_path(path: str | Path) -> str:
    """A Path is never a name: `Path("run")` is the folder in the working folder."""
    return f"./{path}" if isinstance(path, Path) and "/" not in str(path) else str(path)
