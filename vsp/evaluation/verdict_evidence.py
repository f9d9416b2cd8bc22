"""What a verdict is made of: settings, pieces of evidence, and verdicts by subject and class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

VerdictName = Literal["grounded", "words alone", "prior", "undecided"]
Finding = Literal["yes", "no", "open", "does not apply", "missing"]
Question = Literal[
    "chance", "blank", "names", "shuffled", "mirrored", "swapped", "changed", "untrained"
]
Subject = Literal["probe", "answer"]

UseName = Literal["used", "not shown to be used"]

VARIANT_ROLES = ("blank", "mirrored", "swapped", "names", "shuffled", "untrained")


@dataclass(frozen=True, slots=True)
class VerdictSettings:
    """Margin of equivalence, level of the tests, and the number of random draws."""

    margin: float = 0.05  # differences below it count as none
    level: float = 0.05  # of corrected p values
    confidence: float = 0.95
    resamples: int = 2000
    flips: int = 1999  # more if many tests are corrected together
    seed: int = 0
    least_rows: int = 10  # fewer rows, of each side of a difference, give no evidence


@dataclass(frozen=True, slots=True)
class Evidence:
    """One difference between predictions of the same rows, or a share of rows, and what it shows.

    The questions are

    - chance: score minus that of the most frequent label
    - blank, names, shuffled, untrained: score minus that of the variant, each with its own probe
    - mirrored, swapped: of the rows whose label the variant changes, recall by the changed labels
      minus recall by the old ones, of the original's probe on the variant's states, or of the
      model's answers about the variant
    - changed: share of rows whose prediction changes if the picture is taken away
    """

    question: Question
    finding: Finding  # yes: above the margin; no: below it; open: neither is shown
    why: str = ""  # without figures, why
    value: float | None = None  # the difference or share
    low: float | None = None
    high: float | None = None
    first: float | None = None  # the score from which `other` is subtracted
    other: float | None = None
    p: float | None = None  # that the difference is 0
    p_corrected: float | None = None
    p_margin: float | None = None  # that the difference is the margin or more
    p_margin_corrected: float | None = None
    n_rows: int = 0
    n_groups: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict about all rows or one class, and the evidence that led to it."""

    name: VerdictName
    why: str  # one clause: what decided, or what is missing
    of_class: str  # empty: all rows
    score: float | None  # of the original; of a class, balanced accuracy against the other classes
    low: float | None
    high: float | None
    n_rows: int  # of the class
    n_groups: int
    evidence: tuple[Evidence, ...]

    def of(self, question: str) -> Evidence | None:
        """The evidence of a question; None if the question was not asked."""
        return next((one for one in self.evidence if one.question == question), None)


@dataclass(frozen=True, slots=True)
class SubjectVerdict:
    """The verdicts about the probe, or about the model's own answer."""

    subject: Subject
    overall: Verdict
    classes: tuple[Verdict, ...]
    why_not: str = ""  # why there are no figures, such as no stored answers


@dataclass(frozen=True, slots=True)
class Use:
    """Whether the model uses what was changed, by a run of interventions on the original."""

    name: UseName
    run: str  # of `vsp steer` or of an erasure
    kind: str  # steer or erase
    layers: tuple[int, ...]  # with an effect beyond that of random directions


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """The verdicts of a study."""

    run: str  # the original
    statistic: str  # of the scores of all rows
    probe: str  # probe and treatment
    layers: tuple[int, ...]  # that the outer splits of the original selected on training rows
    settings: VerdictSettings
    subjects: tuple[SubjectVerdict, ...]  # probe, then answer
    missing: Mapping[str, str] = field(default_factory=dict)  # role → why it gave no evidence
    notes: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()  # empty without interventions

    @property
    def use(self) -> UseName | None:
        """The verdict of all interventions: one effect is enough. None without any."""
        if not self.uses:
            return None
        return "used" if any(one.name == "used" for one in self.uses) else "not shown to be used"
