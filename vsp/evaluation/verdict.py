"""The verdict of a study: does a score rest on the picture, on the words, or on a prior?

The original run is compared with its variants on the same rows, for the probe and for the model's
own answer, overall and for each class. Nothing is fitted: all predictions are those of results, or of
the original's saved probes on the states of a variant (`vsp.evaluation.judged_variants`).
docs/statistics.md has the table by which evidence becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsp.errors import ConfigError
from vsp.evaluation.aligned_rows import align
from vsp.evaluation.judged_variants import JudgedVariant, judged_variants
from vsp.evaluation.paired_effects import EffectDraws, Estimate, estimate_effects, holm
from vsp.evaluation.statistics import Folds
from vsp.evaluation.study_rows import read_study_rows
from vsp.evaluation.verdict_effects import Asked, SubjectRows, ask, score
from vsp.evaluation.verdict_evidence import (
    Evidence,
    Finding,
    StudyVerdict,
    Subject,
    SubjectVerdict,
    Verdict,
    VerdictName,
    VerdictSettings,
)
from vsp.evaluation.verdict_rule import decide
from vsp.storage.results import Results

__all__ = [
    "Evidence",
    "Finding",
    "StudyVerdict",
    "Subject",
    "SubjectVerdict",
    "Verdict",
    "VerdictName",
    "VerdictSettings",
    "judged_verdict",
    "study_verdict",
    "subject_verdict",
]

_FLIPS_PER_TEST = 40  # of the sign-flip tests, so that a corrected p value can be under the level


def study_verdict(
    results: Mapping[str, Results],
    judged: Mapping[str, JudgedVariant] | None = None,
    settings: VerdictSettings | None = None,
    not_judged: Mapping[str, str] | None = None,
) -> StudyVerdict:
    """The verdict from the results of the original and of its variants, by role.

    `judged` has the predictions of the original's saved probes on the states of the variants blank,
    mirrored and swapped; without them the verdict of the probe is undecided, and `not_judged`
    says why by role. Roles other than original and VARIANT_ROLES are ignored. Raises RunError if results are damaged or are not of the
    same rows, ConfigError if the probe predicts numbers, or without an original.
    """
    settings = settings or VerdictSettings()
    if "original" not in results:
        raise _no_original()
    original = read_study_rows(results["original"].name, results["original"])
    if not original.tested.any():
        raise ConfigError(f"{original.name}: no row is tested in every repeat; use fewer --repeats")
    aligned = align(original, results, judged or {}, not_judged or {})
    classes = np.unique(original.label[original.tested]).tolist()
    probe = subject_verdict("probe", aligned.probe, classes, original.folds, settings)
    answer = (
        _without_figures("answer", classes, aligned.no_answers)
        if aligned.answer is None
        else subject_verdict("answer", aligned.answer, classes, Folds(), settings)
    )
    return StudyVerdict(
        run=original.name,
        statistic=aligned.probe.statistic,
        probe=original.probe,
        layers=original.layers,
        settings=settings,
        subjects=(probe, answer),
        missing=aligned.missing,
        notes=aligned.notes,
    )


def judged_verdict(
    results: Mapping[str, Results],
    folder: Path,
    work: Path,
    settings: VerdictSettings | None = None,
) -> StudyVerdict:
    """As `study_verdict`, after the variants are judged on their states in `work`/scratch/.

    What is judged is kept in `folder`, and read there if the states are gone.
    """
    if "original" not in results:
        raise _no_original()
    judged, missing = judged_variants(results, folder, work)
    return study_verdict(results, judged, settings, missing)


def _no_original() -> ConfigError:
    return ConfigError("verdict: has no results of the role original; run `vsp probe` on that run")


def _without_figures(subject: Subject, classes: Sequence[str], why: str) -> SubjectVerdict:
    def verdict(of_class: str) -> Verdict:
        return Verdict("undecided", why, of_class, None, None, None, 0, 0, ())

    return SubjectVerdict(subject, verdict(""), tuple(map(verdict, classes)), why)


def subject_verdict(
    subject: Subject,
    rows: SubjectRows,
    classes: Sequence[str],
    folds: Folds,
    settings: VerdictSettings,
) -> SubjectVerdict:
    """The verdicts of probe or answer; `folds` are those of the original's probe."""
    asked = ask(rows, classes, settings.least_rows)
    scored = [one for one in ("", *classes) if not one or _has_both(rows, one)]
    effects = [one.effect for one in asked if one.effect is not None]
    n_flips = max(settings.flips, _FLIPS_PER_TEST * len(effects))
    draws = EffectDraws(
        settings.margin, settings.confidence, settings.resamples, n_flips, settings.seed
    )
    estimates = estimate_effects(
        [*effects, *(score(rows, one) for one in scored)], rows.group, folds, draws
    )
    scores = dict(zip(scored, estimates[len(effects) :], strict=True))
    left = iter(estimates)
    found = [_evidence(one, None if one.effect is None else next(left)) for one in asked]
    corrected = _corrected(asked, found, settings)
    verdicts = [
        _verdict(rows, one, [e for a, e in corrected if a.of_class == one], scores.get(one))
        for one in ("", *classes)
    ]
    return SubjectVerdict(subject, verdicts[0], tuple(verdicts[1:]))


def _has_both(rows: SubjectRows, of_class: str) -> bool:
    of = rows.label == of_class
    return bool(of.any() and not of.all())


def _evidence(asked: Asked, estimate: Estimate | None) -> Evidence:
    if estimate is None:
        return Evidence(asked.question, asked.finding, asked.why)
    return Evidence(
        asked.question,
        "open",
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        first=asked.first,
        other=asked.other,
        p=estimate.p,
        p_margin=estimate.p_margin,
        n_rows=estimate.n_rows,
        n_groups=estimate.n_groups,
    )


def _corrected(
    asked: Sequence[Asked], found: Sequence[Evidence], settings: VerdictSettings
) -> list[tuple[Asked, Evidence]]:
    """The evidence with corrected p values and findings.

    Over the questions about all rows, and for each question over the classes.
    """
    families: dict[str, list[int]] = {}
    for k, one in enumerate(asked):
        families.setdefault(one.question if one.of_class else "", []).append(k)
    result = list(found)
    for family in families.values():
        of_zero = [k for k in family if found[k].p is not None]
        of_margin = [k for k in family if found[k].p_margin is not None]
        for k, p in zip(of_zero, holm([found[k].p or 0.0 for k in of_zero]), strict=True):
            result[k] = replace(result[k], p_corrected=p)
        for k, p in zip(
            of_margin, holm([found[k].p_margin or 0.0 for k in of_margin]), strict=True
        ):
            result[k] = replace(result[k], p_margin_corrected=p)
    result = [replace(one, finding=_finding(one, settings)) for one in result]
    return list(zip(asked, result, strict=True))


def _finding(one: Evidence, settings: VerdictSettings) -> Finding:
    """Whether the effect is above the margin, below it, or neither is shown."""
    if one.low is None or one.high is None or one.p_margin_corrected is None:
        return one.finding
    is_real = one.p_corrected is None or one.p_corrected <= settings.level
    if one.low > settings.margin and is_real:
        return "yes"
    if one.high < settings.margin and one.p_margin_corrected <= settings.level:
        return "no"
    return "open"


def _verdict(
    rows: SubjectRows, of_class: str, evidence: Sequence[Evidence], scored: Estimate | None
) -> Verdict:
    name, why = decide({one.question: one for one in evidence})
    used = rows.label == of_class if of_class else np.ones(len(rows.label), np.bool_)
    return Verdict(
        name=name,
        why=why,
        of_class=of_class,
        score=None if scored is None else scored.value,
        low=None if scored is None else scored.low,
        high=None if scored is None else scored.high,
        n_rows=int(used.sum()),
        n_groups=len(np.unique(rows.group[used])),
        evidence=tuple(evidence),
    )
