"""The verdict of a study: does a score rest on the picture, on the words, or on a prior?

The original run is compared with its variants on the same rows, for the probe and for the model's
own answer, overall and for each class. Nothing is fitted: all predictions are those of results, or of
the original's saved probes on the states of a variant (`vsp.evaluation.judged_variants`).
docs/statistics.md has the table by which evidence becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vsp.evaluation.judged_variants import JudgedVariant
from vsp.storage.results import Results

VerdictName = Literal["grounded", "words alone", "prior", "undecided"]
Finding = Literal["yes", "no", "open", "missing"]
Role = Literal["original", "blank", "mirrored", "swapped", "names", "shuffled", "untrained"]


@dataclass(frozen=True, slots=True)
class VerdictSettings:
    """Margin of equivalence, level of the tests, and the number of random draws."""

    margin: float = 0.05  # differences below it count as none
    level: float = 0.05  # of corrected p values
    confidence: float = 0.95
    resamples: int = 2000
    flips: int = 1999  # at least; more if many tests are corrected together
    seed: int = 0
    least_rows: int = 10  # fewer rows give no evidence


@dataclass(frozen=True, slots=True)
class Evidence:
    """One paired difference, or share, and what it says.

    `question` is one of: chance (score minus chance), blank, names, shuffled (score minus that of the
    variant), mirrored, swapped (recall by the changed labels minus recall by the old ones, of the
    original's probe on the variant), unchanged (share of rows whose prediction changes if the picture
    is taken away).
    """

    question: str
    finding: Finding  # yes: above the margin; no: below it; open: neither is shown
    why: str = ""  # of a missing one
    value: float | None = None  # the difference or share
    low: float | None = None
    high: float | None = None
    first: float | None = None  # the score that `other` is subtracted from
    other: float | None = None
    p: float | None = None  # that the difference is 0
    p_corrected: float | None = None
    p_margin: float | None = None  # that the difference is at least the margin; corrected
    n_rows: int = 0
    n_groups: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of all rows or of one class, and the evidence that led to it."""

    name: VerdictName
    why: str  # one plain clause: what decided, or what is missing
    of_class: str  # empty: all rows
    score: float | None  # of the original; of a class, balanced accuracy against the other classes
    low: float | None
    high: float | None
    n_rows: int
    n_groups: int
    evidence: tuple[Evidence, ...]

    def of(self, question: str) -> Evidence | None:
        """The evidence of a question; None if it was not asked."""
        return next((one for one in self.evidence if one.question == question), None)


@dataclass(frozen=True, slots=True)
class SubjectVerdict:
    """The verdicts of the probe, or of the model's own answer."""

    subject: Literal["probe", "answer"]
    overall: Verdict
    classes: tuple[Verdict, ...]
    why_not: str = ""  # why there are no figures, such as no stored answers


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """The verdicts of a study."""

    run: str  # the original
    statistic: str  # of the scores over all rows
    probe: str  # probe and treatment
    layers: tuple[int, ...]  # that the outer splits of the original selected on training rows
    settings: VerdictSettings
    subjects: tuple[SubjectVerdict, ...]  # probe, then answer
    missing: Mapping[str, str] = field(default_factory=dict)  # role → why it gave no evidence
    notes: tuple[str, ...] = ()


def study_verdict(
    results: Mapping[str, Results],
    judged: Mapping[str, JudgedVariant] | None = None,
    settings: VerdictSettings | None = None,
) -> StudyVerdict:
    """The verdict from the results of the original and of its variants, by role.

    `judged` has the predictions of the original's saved probes on the states of the variants blank,
    mirrored and swapped; without them the verdict of the probe is undecided. Roles that are no
    variant of the original are ignored. Raises RunError if results are damaged or are not of the
    same rows, ConfigError if the probe predicts numbers.
    """
    raise NotImplementedError
