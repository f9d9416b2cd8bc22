"""The rows of a study's original with the predictions about its variants, in one order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vsp.datasets import VARIANTS
from vsp.errors import RunError
from vsp.evaluation.judged_variants import JudgedVariant
from vsp.evaluation.metrics import METRICS, metric_of
from vsp.evaluation.study_rows import StudyRows, Texts, place_of, read_study_rows
from vsp.evaluation.verdict_effects import OWN_PROBE, TURNED, Aligned, SubjectRows
from vsp.evaluation.verdict_evidence import VARIANT_ROLES
from vsp.storage.results import Results
from vsp.utils.text import format_count

_NO_RUN = "no results of such a run"
_UNTRAINED = "untrained"


@dataclass(frozen=True, eq=False)
class AlignedStudy:
    """The rows of probe and answer; `answer` is None if there are no answers."""

    probe: SubjectRows
    answer: SubjectRows | None
    no_answers: str
    missing: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Parts:
    """What is known of the variants, by role."""

    own: dict[str, Aligned] = field(default_factory=dict)
    turned: dict[str, Aligned] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def align(
    original: StudyRows,
    results: Mapping[str, Results],
    judged: Mapping[str, JudgedVariant],
    not_judged: Mapping[str, str],
) -> AlignedStudy:
    """Match the rows of all roles; `not_judged` says by role why states were not judged. Raises RunError if labels are not those of the variant."""
    probe, answer = _Parts(), _Parts()
    tested = np.flatnonzero(original.tested)
    ids, notes = original.id[tested], []
    for role in VARIANT_ROLES:
        if role not in results:
            probe.missing[role] = answer.missing[role] = _NO_RUN
            continue
        variant = read_study_rows(results[role].name, results[role])
        _check_variant(original, variant, role)
        place = variant.place_of(ids)
        notes += _n_missing(variant.name, place)
        _add_probe(probe, role, variant, place)
        _add_answer(answer, role, variant, place)
    for role in ("blank", *TURNED):
        _add_judged(probe, role, original, tested, judged, not_judged)
    rows = _subject_rows(original, tested, original.predicted[:, tested], probe)
    return AlignedStudy(
        rows,
        _answer_rows(original, tested, answer),
        original.no_answers or "no tested row has its label among its options",
        {role: why for role, why in probe.missing.items() if why},
        tuple(notes),
    )


def _n_missing(name: str, place: NDArray[np.intp]) -> list[str]:
    n = int((place < 0).sum())
    return [f"{name}: lacks {n:,} of {format_count(len(place), 'tested row')}"] if n else []


def _check_variant(original: StudyRows, variant: StudyRows, role: str) -> None:
    """Raise RunError unless the dataset of a role's run is that variant of the original's."""
    expected = original.variants + (() if role == _UNTRAINED else (role,))
    if variant.variants != expected:
        said = " of ".join(reversed(variant.variants)) or "no variant"
        raise RunError(
            f"{variant.name}: is of {said}, so it is not the variant {role} of {original.name}; make "
            f"that dataset with `vsp generate --of DATASET --variant {role}`"
        )
    place = variant.place_of(original.id)
    both = np.flatnonzero(place >= 0)
    if not len(both):
        raise RunError(
            f"{variant.name}: has no row of {original.name}; name runs of the same dataset"
        )
    wanted = _changed_labels(original.label[both], role)
    different = np.flatnonzero(variant.label[place[both]] != wanted)
    if len(different):
        row = different[0]
        raise RunError(
            f"{variant.name}: {len(different):,} of {len(both):,} rows have another label than the "
            f"variant {role} of {original.name}, for example "
            f"{str(original.id[both[row]])[:100]!r}: {str(variant.label[place[both[row]]])[:100]!r}; "
            "name runs of the same dataset"
        )


def _changed_labels(label: Texts, role: str) -> Texts:
    if role == _UNTRAINED:
        return label
    change = VARIANTS.load(role).change_label
    names, place = np.unique(label, return_inverse=True)
    return np.array([change(str(name)) or str(name) for name in names])[place]


def _add_probe(parts: _Parts, role: str, variant: StudyRows, place: NDArray[np.intp]) -> None:
    if role in OWN_PROBE:
        found = np.maximum(place, 0)
        rows = (place >= 0) & variant.tested[found]
        parts.own[role] = Aligned(variant.predicted[:, found], variant.label[found], rows)


def _add_answer(parts: _Parts, role: str, variant: StudyRows, place: NDArray[np.intp]) -> None:
    if role == _UNTRAINED:  # its answers are those of a model that never learned words
        return
    if variant.answer is None:
        parts.missing[role] = f"{variant.name} has no answers: {variant.no_answers}"
        return
    found = np.maximum(place, 0)
    rows = (place >= 0) & variant.answerable[found]
    aligned = Aligned(variant.answer[found][None], variant.label[found], rows)
    if role in OWN_PROBE:
        parts.own[role] = aligned
    if role in ("blank", *TURNED):
        parts.turned[role] = aligned


def _add_judged(
    parts: _Parts,
    role: str,
    original: StudyRows,
    tested: NDArray[np.intp],
    judged: Mapping[str, JudgedVariant],
    not_judged: Mapping[str, str],
) -> None:
    """Predictions of the original's probes on the states of a variant."""
    if role not in judged:
        if role not in parts.missing:
            why = not_judged.get(role, "")
            parts.missing[role] = (
                f"the probes of {original.name} were not judged on its states"
                + f" ({why})" * bool(why)
            )
        return
    one = judged[role]
    place = place_of(one.id, original.id[tested])
    found = np.maximum(place, 0)
    parts.turned[role] = Aligned(one.names[:, found], one.label[found], place >= 0)


def _subject_rows(
    original: StudyRows, rows: NDArray[np.intp], predicted: Texts, parts: _Parts
) -> SubjectRows:
    reads_labels = metric_of(original.statistic).reads_labels
    return SubjectRows(
        group=original.group[rows],
        label=original.label[rows],
        predicted=predicted,
        usual=original.usual,
        statistic=original.statistic if reads_labels else METRICS["accuracy"].statistic,
        own=parts.own,
        turned=parts.turned,
        missing=parts.missing,
    )


def _answer_rows(
    original: StudyRows, tested: NDArray[np.intp], parts: _Parts
) -> SubjectRows | None:
    """The tested rows whose label is one of their options; None without answers."""
    if original.answer is None:
        return None
    kept = original.answerable[tested]
    if not kept.any():
        return None
    chosen = _Parts(
        {role: _take(one, kept) for role, one in parts.own.items()},
        {role: _take(one, kept) for role, one in parts.turned.items()},
        parts.missing,
    )
    rows = tested[kept]
    return _subject_rows(original, rows, original.answer[rows][None], chosen)


def _take(one: Aligned, kept: NDArray[np.bool_]) -> Aligned:
    return Aligned(one.predicted[:, kept], one.label[kept], one.rows[kept])
