"""`vsp evaluate`: the saved probes of a run, judged on the states of another run or of a file.

The probes are not fitted again. A row that a probe was fitted on, or whose picture it was fitted on,
never counts for it (`vsp.evaluation.judges`). The layer that the run's own training rows selected is
the one to cite; no choice is made on the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.relations import Relations
from vsp.errors import ConfigError, ProbeError, RunError
from vsp.evaluation.judged_rows import JudgedRows, LayerFigures
from vsp.evaluation.judges import FINAL, NONE
from vsp.evaluation.matched_labels import MatchedLabels, match_labels
from vsp.evaluation.row_identity import COMMON, UNKNOWN
from vsp.evaluation.target_states import TargetStates
from vsp.evaluation.trained_probes import TrainedProbes
from vsp.storage.convention import LayerConvention
from vsp.utils.text import format_count, format_ranges


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """How figures are made, and what is allowed."""

    other_norm: bool = False  # judge a layer of which only one side is after the final norm
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """The probes of a run on a target, and which rows counted."""

    trained: str
    position: str
    target: str
    target_position: str
    probe: str
    statistic: str
    confidence: float
    selected: int  # the layer that the run's training rows select
    chance: float  # score of the target's most frequent label, or mean
    n_rows: int  # judged
    n_groups: int
    n_by_folds: int  # of them, by probes of outer splits
    n_pictures_fitted: int  # own test rows whose picture is on a training row: a split by row
    n_seen: int  # left out: every probe was fitted or chosen on the row or its picture
    n_missing: int  # left out: no states
    renamed: Mapping[str, str]  # label of the target → class
    without_class: Mapping[str, int]  # left out: label of the target → rows
    without_rows: tuple[str, ...]  # classes that no judged row has
    paired: bool  # whether differences are between the same rows
    layers: tuple[LayerFigures, ...]
    without_layer: tuple[int, ...]  # layers with a probe that the target does not have
    notes: tuple[str, ...]

    def at(self, layer: int) -> LayerFigures:
        """The figures of a layer. Raises ConfigError if it was not judged."""
        for one in self.layers:
            if one.layer == layer:
                return one
        raise ConfigError(
            f"layer {layer}: is not in both {self.trained} and the target {self.target}; common are "
            f"{format_ranges([one.layer for one in self.layers])}"
        )


def transfer(
    trained: TrainedProbes,
    target: TargetStates,
    read_tables: Callable[[], Sequence[Relations]],
    settings: TransferSettings,
) -> Transfer:
    """Judge all layers that the results and the target have.

    `read_tables` gives the relations tables by which labels of other names are matched. Raises
    RunError if the states do not suit the probes, ProbeError if no row is left.
    """
    pairs, without_layer = _common_layers(trained, target, settings.other_norm)
    y, labels = _values(trained, target, read_tables)
    judge = trained.fitted.judges(target.identity)
    has_class = np.ones(len(y), dtype=np.bool_) if labels is None else y >= 0
    n_seen = int(((judge == NONE).all(axis=0) & has_class).sum())
    judge[:, ~has_class] = NONE
    rows = np.flatnonzero((judge != NONE).any(axis=0))
    if not len(rows):
        raise ProbeError(_no_row_left(trained, target, n_seen, labels))
    judged = JudgedRows(trained, target, rows, y[rows], judge[:, rows])
    draws = settings.confidence, settings.resamples, settings.seed
    return Transfer(
        trained=trained.name,
        position=trained.position,
        target=target.name,
        target_position=target.position,
        probe=trained.probe,
        statistic=trained.metric.statistic,
        confidence=settings.confidence,
        selected=trained.selected,
        **judged.figures(pairs, draws),
        n_rows=len(rows),
        n_by_folds=int((judge[:, rows] > FINAL).any(axis=0).sum()),
        n_pictures_fitted=trained.fitted.pictures_fitted(
            target.identity.take(rows), judge[:, rows]
        ),
        n_seen=n_seen,
        n_missing=target.n_missing,
        renamed={} if labels is None else labels.renamed,
        without_class={} if labels is None else labels.without_class,
        without_rows=_without_rows(trained.classes, y[rows]),
        without_layer=without_layer,
        notes=(*target.notes, *_identity_notes(trained, target)),
    )


def _identity_notes(trained: TrainedProbes, target: TargetStates) -> list[str]:
    """A note if rows cannot be recognised by their pictures."""
    sides = {trained.name: trained.fitted.identity, target.name: target.identity}
    unknown = [name for name, one in sides.items() if (one.image <= COMMON).all()]
    if not unknown:
        return []
    named = all((one.image_name != UNKNOWN).any() for one in sides.values())
    how = "the names of their images" if named else "id and names alone"
    return [
        f"no digests of pictures that tell rows apart in {' and '.join(unknown)}: fitted rows are "
        f"recognised by {how}"
    ]


def _values(
    trained: TrainedProbes,
    target: TargetStates,
    read_tables: Callable[[], Sequence[Relations]],
) -> tuple[NDArray[Any], MatchedLabels | None]:
    """The class index, -1 for a label without class, or the number of each row of the target."""
    if trained.classes:
        labels = match_labels(trained.classes, target.label, read_tables)
        return labels.y, labels
    try:
        numbers = target.label.astype(np.float64)
    except ValueError:
        numbers = np.full(1, np.nan)
    if not np.isfinite(numbers).all():
        raise RunError(
            f"{target.name}: has labels that are not numbers, which the probes of {trained.name} read"
        )
    return numbers, None


def _without_rows(classes: Sequence[str], y: NDArray[Any]) -> tuple[str, ...]:
    found = set(y.tolist()) if classes else set()
    return tuple(name for index, name in enumerate(classes) if index not in found)


def _no_row_left(
    trained: TrainedProbes, target: TargetStates, n_seen: int, labels: MatchedLabels | None
) -> str:
    said = f"{trained.name} on {target.name}: no row of {len(target):,} is left"
    parts = []
    if n_seen:
        parts.append(
            f"the probes were fitted or chosen on {format_count(n_seen, 'row')} or their pictures; evaluate "
            "on others, or give other pictures other names"
        )
    if labels is not None and labels.without_class:
        names = ", ".join(repr(label) for label in list(labels.without_class)[:5])
        parts.append(
            f"{trained.name} has no class for {names}; name a table with --relations that lists them "
            "under its classes"
        )
    return f"{said}: {'; '.join(parts)}"


def _common_layers(
    trained: TrainedProbes, target: TargetStates, other_norm: bool
) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Layers of the results with the target's entry of the same layer of the model, and the others.

    Raises RunError if the states have another size, if there is no such layer, or if one side of a
    layer is after the final norm and the other is not.
    """
    if trained.hidden_size != target.hidden_size:
        raise RunError(
            f"{trained.name} on {target.name}: states have {trained.hidden_size:,} and "
            f"{target.hidden_size:,} values; evaluate on states of the same size"
        )
    of_model = {layer: entry for entry, layer in enumerate(target.convention.layers)}
    pairs, without = [], []
    for layer in trained.layers:
        entry = of_model.get(trained.convention.layers[layer])
        if entry is None:
            without.append(layer)
            continue
        norms = {_norm(trained.convention, layer), _norm(target.convention, entry)}
        if norms == {"normed", "raw"} and not other_norm:
            raise RunError(
                f"{trained.name} on {target.name}: of layer {layer}, one has states after the final "
                "norm and the other before it; use --other-norm to judge this layer nevertheless"
            )
        pairs.append((layer, entry))
    if not pairs:
        raise RunError(
            f"{trained.name} on {target.name}: no common layer; they have "
            f"{format_ranges(trained.convention.layers)} and {format_ranges(target.convention.layers)}"
        )
    return pairs, tuple(without)


def _norm(convention: LayerConvention, entry: int) -> str:
    """Whether an entry is after the final norm: normed, raw or unknown."""
    return convention.last if entry == len(convention.layers) - 1 else "raw"
