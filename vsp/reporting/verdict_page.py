"""The verdict of a study in the terminal: a sentence, and a table of evidence for probe and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from vsp.escaping import one_line
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.formatting import format_figure, format_layers
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_count, shorten

if TYPE_CHECKING:
    from vsp.evaluation.verdict import Evidence, StudyVerdict, SubjectVerdict, Verdict

_LISTED = 6  # undecided classes with their reason
_NAME = 24  # characters of a class name in a table
ALL_ROWS = "all rows"
# Question → its short name, and what its difference is.
QUESTIONS: Mapping[str, tuple[str, str]] = {
    "chance": ("chance", "score minus that of the most frequent label"),
    "blank": ("blank pictures", "score minus that of probe or answers on grey pictures"),
    "names": ("names alone", "score minus that with a grey picture and the names as prompt"),
    "shuffled": ("other pictures", "score minus that with pictures of other rows"),
    "untrained": ("untrained model", "score minus that of the model with random weights"),
    "mirrored": (
        "mirrored",
        "recall by the mirrored labels minus recall by the old labels, of the run's own probes on "
        "mirrored pictures, or of the answers about them",
    ),
    "swapped": ("swapped", "the same with subject and reference swapped, and the inverse labels"),
    "changed": ("changed", "share of rows whose prediction changes if the picture is grey"),
}
_SENTENCES = {
    ("probe", "grounded"): "What the probe reads is grounded in the picture",
    ("probe", "words alone"): "The probe reads the words alone",
    ("probe", "prior"): "The probe follows a prior",
    ("probe", "undecided"): "Undecided for the probe",
    ("answer", "grounded"): "The model's own answers are grounded in the picture",
    ("answer", "words alone"): "The model's own answers rest on the words alone",
    ("answer", "prior"): "The model's own answers follow a prior",
    ("answer", "undecided"): "Undecided for the model's own answers",
}
_CHANGES = {"steer": "adding the direction", "erase": "erasing the subspace"}
_STYLES = {"grounded": "bold green", "words alone": "yellow", "prior": "yellow", "undecided": ""}


def verdict_sentence(verdict: StudyVerdict) -> str:
    """The verdict about all rows, for probe and answer, and whether interventions show a use."""
    return " ".join([*map(_sentence, verdict.subjects), *use_sentences(verdict)])


def use_sentences(verdict: StudyVerdict) -> list[str]:
    """Whether the model uses what the probe found; empty without interventions."""
    if verdict.use is None:
        return []
    if verdict.use != "used":
        runs = ", ".join(one.run for one in verdict.uses)
        return [f"It is not shown to be used: no layer of {runs} beats the random controls."]
    parts = [
        f"{_CHANGES[one.kind]} at layer{'s' * (len(one.layers) > 1)} {format_layers(one.layers)}"
        for one in verdict.uses
        if one.layers
    ]
    return [f"It is used: {' and '.join(parts)} moves the answers more than random controls."]


def _sentence(subject: SubjectVerdict) -> str:
    one = subject.overall
    return f"{_SENTENCES[subject.subject, one.name]}: {one.why}."


def verdict_json(verdict: StudyVerdict) -> dict[str, Any]:
    """All figures of the verdict."""
    return {**asdict(verdict), "use": verdict.use}


def verdict_page(verdict: StudyVerdict) -> RenderableType:
    """The sentence, and for probe and answer the verdicts by class and the evidence about all rows."""
    sentence = folded_text(verdict_sentence(verdict), style="bold")
    return Group(sentence, text_line(), *verdict_parts(verdict))


def verdict_parts(verdict: StudyVerdict) -> list[RenderableType]:
    """The page without its sentence."""
    parts: list[RenderableType] = []
    for subject in verdict.subjects:
        parts += [text_line()] * bool(parts)
        parts.append(text_line(subject_title(verdict, subject), style="bold"))
        if subject.why_not:
            parts.append(folded_text(f"No figures: {subject.why_not}."))
            continue
        parts += [_verdict_table(verdict, subject), text_line()]
        parts += [_evidence_table(verdict, subject.overall)]
    parts.append(text_line())
    return [*parts, *(folded_text(note) for note in verdict_notes(verdict))]


def subject_title(verdict: StudyVerdict, subject: SubjectVerdict) -> str:
    """What the figures of a subject are of."""
    if subject.subject == "answer":
        return "The model's own answer"
    layers = f"layer{'s' * (len(verdict.layers) > 1)} {format_layers(verdict.layers)}"
    return f"The probe ({verdict.probe}), {layers} selected on training rows"


def _verdict_table(verdict: StudyVerdict, subject: SubjectVerdict) -> RenderableType:
    """A line for all rows and one for each class; wide terminals have the differences too."""
    rows = (subject.overall, *subject.classes)
    columns = [
        Column("of", [text_line(class_name(one)) for one in rows]),
        Column("verdict", figure_cells([one.name for one in rows])),
        Column("score", figure_cells([format_figure(one.score) for one in rows])),
        Column(
            f"{verdict.settings.confidence:.0%}", figure_cells([_bounds(one) for one in rows]), 1
        ),
        Column("rows", figure_cells([f"{one.n_rows:,}" for one in rows]), 2),
    ]
    for rank, question in enumerate(("blank", "mirrored", "swapped", "changed"), 3):
        cells = [_difference(one.of(question), with_interval=True) for one in rows]
        columns.append(Column(QUESTIONS[question][0], figure_cells(cells), rank))
    return FittingTable(columns, [_STYLES[one.name] for one in rows])


def class_name(one: Verdict) -> str:
    """The class of a verdict, short enough for a table."""
    return shorten(one_line(one.of_class), _NAME) if one.of_class else ALL_ROWS


def _evidence_table(verdict: StudyVerdict, one: Verdict) -> RenderableType:
    found = one.evidence
    columns = [
        Column("evidence", figure_cells([QUESTIONS[e.question][0] for e in found])),
        Column("score", figure_cells([format_figure(e.first) for e in found]), 3),
        Column("other", figure_cells([format_figure(e.other) for e in found]), 2),
        Column("diff.", figure_cells([_difference(e) for e in found])),
        Column(f"{verdict.settings.confidence:.0%}", figure_cells(list(map(_interval, found)))),
        Column("p corr.", figure_cells([_p(e.p_corrected) for e in found])),
        Column("p margin", figure_cells([_p(e.p_margin_corrected) for e in found]), 5),
        Column("rows", figure_cells([f"{e.n_rows:,}" for e in found]), 4),
        Column("shows", figure_cells([shown_finding(e) for e in found])),
    ]
    return FittingTable(columns, [""] * len(found))


def shown_finding(one: Evidence) -> str:
    """The finding in a word."""
    return "n/a" if one.finding == "does not apply" else one.finding


def _difference(one: Evidence | None, with_interval: bool = False) -> str:
    if one is None or one.value is None:
        return "–"
    sign = "" if one.question == "changed" else "+"
    said = f"{one.value:{sign}.3f}"
    return f"{said} {_interval(one)}" if with_interval else said


def _interval(one: Evidence) -> str:
    if one.low is None or one.high is None:
        return "–"
    sign = "" if one.question == "changed" else "+"
    return f"[{one.low:{sign}.3f}, {one.high:{sign}.3f}]"


def _bounds(one: Verdict) -> str:
    return "–" if one.low is None or one.high is None else f"[{one.low:.3f}, {one.high:.3f}]"


def _p(value: float | None) -> str:
    return format_figure(value, 4)


def verdict_notes(verdict: StudyVerdict) -> list[str]:
    """What the columns mean, which evidence is missing, and how the verdict may be read."""
    settings = verdict.settings
    asked = _questions(verdict.subjects)
    notes = [
        f"score: {verdict.statistic} of all rows; of a class, balanced accuracy of being the class or "
        "not, of which chance gives 0.5.",
        *(f"{QUESTIONS[one][0]}: {QUESTIONS[one][1]}." for one in asked),
        f"yes: the interval is above the margin of {settings.margin:.3f} and the corrected p is at most "
        f"{settings.level:g}; no: the interval is below the margin; open: neither.",
        "p corr.: sign flips of groups; p margin: that the difference is the margin or more. Both are "
        "corrected by Holm's method, over the evidence of all rows, and over classes.",
    ]
    notes += [f"{role}: {why}." for role, why in verdict.missing.items() if role in _NEEDED]
    notes += [f"{note}." for note in verdict.notes]
    untrained = next(
        (e for s in verdict.subjects for e in s.overall.evidence if e.question == "untrained"), None
    )
    if untrained is not None and untrained.finding in ("no", "open"):
        notes.append(
            "! The untrained model reads as much, or nearly: the score may come from the architecture."
        )
    notes += _undecided(verdict)
    few = _too_few(verdict)
    if few:
        notes.append(f"Too few rows for a verdict: {few}.")
    return notes


def _undecided(verdict: StudyVerdict) -> list[str]:
    """Why the verdicts of classes are undecided."""
    lines = []
    for subject in verdict.subjects:
        open_classes = [one for one in subject.classes if one.name == "undecided" and one.evidence]
        lines += [
            f"{subject.subject}, {class_name(one)}: {one.why}." for one in open_classes[:_LISTED]
        ]
        if len(open_classes) > _LISTED:
            lines.append(
                f"{subject.subject}: and {len(open_classes) - _LISTED} more undecided classes."
            )
    return lines


_NEEDED = ("blank", "mirrored", "swapped")


def _questions(subjects: Sequence[SubjectVerdict]) -> list[str]:
    """The questions that were asked, in the order of QUESTIONS."""
    asked = {e.question for one in subjects for e in one.overall.evidence}
    return [one for one in QUESTIONS if one in asked]


def _too_few(verdict: StudyVerdict) -> str:
    least = verdict.settings.least_rows
    of_probe = verdict.subjects[0].classes
    small = [one for one in of_probe if one.n_rows < least]
    return ", ".join(f"{class_name(one)} ({format_count(one.n_rows, 'row')})" for one in small)
