"""The verdict of a study on the page: sentences, a table of verdicts, and the evidence with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vsp.reporting.page.elements import disclosure, facts, paragraphs, table
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.section import Cell, Chart, Control, Option, Section, Sentence, Table
from vsp.reporting.verdict_page import (
    ALL_ROWS,
    QUESTIONS,
    shown_finding,
    subject_title,
    verdict_notes,
    verdict_sentence,
)

if TYPE_CHECKING:
    from vsp.evaluation.verdict import Evidence, StudyVerdict, Verdict

_KEY = "verdict"
_METHOD = Sentence(
    "The verdict rests on differences between predictions of the same rows, with intervals from resampled groups "
    "and p values from sign flips of groups, corrected by Holm's method.",
    ("bootstrap", "holm"),
)
_SUBJECTS = {"probe": "probe", "answer": "model's own answer"}
_COLORS = {"probe": 1, "answer": 4}  # --c1 and --c4, as in the curves
_MOST_CLASSES = 60  # in the list of the chart; the table has all


def verdict_section(verdict: StudyVerdict | None) -> Section | None:
    """None without a verdict."""
    if verdict is None:
        return None
    return Section(
        _KEY,
        "Verdict: picture, words, or prior",
        body_html=joined([
            tag("p", verdict_sentence(verdict), class_="answer"),
            *(_verdict_table(verdict, index) for index in range(len(verdict.subjects))),
        ]),
        charts=[_chart(verdict)] if any(_rows(verdict)) else [],
        methods=[_METHOD] if any(_rows(verdict)) else [],
        after_html=disclosure("What the evidence means", paragraphs(verdict_notes(verdict))),
    )  # fmt: skip


def _verdict_table(verdict: StudyVerdict, index: int) -> Html:
    """The verdicts of one subject, or why there are none."""
    subject = verdict.subjects[index]
    title = subject_title(verdict, subject)
    if subject.why_not:
        return tag("p", f"{title}: no figures, {subject.why_not}.")
    columns = ("of", "verdict", "score", "low", "high", "rows", "groups")
    shown = (subject.overall, *subject.classes)
    why = {one.of_class or ALL_ROWS: f"{one.name}: {one.why}" for one in shown}
    return joined([
        table(Table(columns, [_verdict_row(one) for one in shown], title)),
        disclosure(f"Why, for each class ({_SUBJECTS[subject.subject]})", facts(why)),
    ])  # fmt: skip


def _verdict_row(one: Verdict) -> list[Cell]:
    return [
        one.of_class or ALL_ROWS, one.name, one.score, one.low, one.high, one.n_rows, one.n_groups
    ]  # fmt: skip


def _rows(verdict: StudyVerdict) -> Iterator[tuple[str, Verdict, Evidence]]:
    """Subject, verdict and evidence of all evidence that was asked for."""
    for subject in verdict.subjects:
        for one in (subject.overall, *subject.classes):
            for evidence in one.evidence:
                yield _SUBJECTS[subject.subject], one, evidence


def _chart(verdict: StudyVerdict) -> Chart:
    settings = verdict.settings
    return Chart(
        "verdict-evidence",
        _spec(verdict),
        "Evidence: paired differences on the same rows",
        f"Points are differences with their {settings.confidence:.0%} interval. The vertical lines are 0 "
        f"and the margin of {settings.margin:.3f}, below which a difference counts as none.",
        _evidence_table(verdict),
        _controls(verdict),
        height="low",
    )


def _class_names(verdict: StudyVerdict) -> list[str]:
    names = [one.of_class for one in verdict.subjects[0].classes]
    return ["", *names[:_MOST_CLASSES]]


def _controls(verdict: StudyVerdict) -> list[Control]:
    classes = _class_names(verdict)
    subjects = [
        Option(_SUBJECTS[one.subject], _SUBJECTS[one.subject], color=_COLORS[one.subject])
        for one in verdict.subjects
        if not one.why_not
    ]
    # The place of a class in the list is its value: a class can have any name.
    options = [Option(str(k), one or ALL_ROWS, k == 0) for k, one in enumerate(classes)]
    return [
        Control("of", "Rows of", options, one=True),
        Control("subject", "Shown", subjects),
    ]


def _evidence_table(verdict: StudyVerdict) -> Table:
    columns = (
        "evidence", "subject", "of", "score", "other", "difference", "low", "high", "p", "corrected p",
        "corrected p of the margin", "rows", "groups", "shows", "why not",
    )  # fmt: skip
    rows: list[list[Cell]] = [
        [
            QUESTIONS[one.question][0], subject, of.of_class or ALL_ROWS, one.first, one.other, one.value,
            one.low, one.high, one.p, one.p_corrected, one.p_margin_corrected, one.n_rows, one.n_groups,
            shown_finding(one), one.why,
        ]
        for subject, of, one in _rows(verdict)
    ]  # fmt: skip
    return Table(columns, rows, digits=4)


def _spec(verdict: StudyVerdict) -> dict[str, Any]:
    place = {
        "field": "question", "type": "nominal", "sort": None,
        "axis": {"title": None, "domain": False, "ticks": False, "labelLimit": 160, "minExtent": 104},
    }  # fmt: skip
    apart = {"field": "subject", "sort": None}
    value = {
        "field": "value", "type": "quantitative", "scale": {"domain": [-1, 1]},
        "axis": {"title": "difference, or share of changed predictions", "format": ".1f", "tickCount": 9, "grid": False},
    }  # fmt: skip
    color = {"field": "color", "type": "nominal", "scale": None}
    tips = [
        {"field": name, "title": title, **({"format": ".3f"} if name in ("value", "low", "high") else {})}
        for name, title in (
            ("question", "evidence"), ("subject", "of"), ("value", "difference"), ("low", "low"),
            ("high", "high"), ("p", "corrected p"), ("shows", "shows"),
        )
    ]  # fmt: skip
    common = {"y": place, "yOffset": apart, "stroke": color, "tooltip": tips}
    return {
        "width": "container",
        "height": 34 * len({one.question for _, _, one in _rows(verdict)}),
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": _values(verdict)},
        "params": [
            {"name": "of", "value": "0"},
            {"name": "subject", "value": sorted({one for one, _, _ in _rows(verdict)})},
        ],
        "transform": [
            {"filter": "datum.of === of && indexof(subject, datum.subject) >= 0"},
        ],
        "layer": [
            *(_line(at, dash) for at, dash in ((0, []), (verdict.settings.margin, [3, 3]))),
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**common, "x": {**value, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {**common, "x": value, "fill": color},
            },
        ],
    }  # fmt: skip


def _line(at: float, dash: list[int]) -> dict[str, Any]:
    mark = {"type": "rule", "color": "var(--muted)", "strokeDash": dash, "tooltip": None}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {"x": {"datum": at}}}


def _values(verdict: StudyVerdict) -> list[dict[str, Any]]:
    place = {name: str(k) for k, name in enumerate(_class_names(verdict))}
    colors = {_SUBJECTS[one]: f"var(--c{color})" for one, color in _COLORS.items()}
    return [
        {
            "of": place[of.of_class], "subject": subject, "color": colors[subject],
            "question": QUESTIONS[one.question][0], "value": one.value, "low": one.low,
            "high": one.high, "p": "–" if one.p_corrected is None else f"{one.p_corrected:.4f}",
            "shows": shown_finding(one),
        }
        for subject, of, one in _rows(verdict)
        if one.value is not None and of.of_class in place
    ]  # fmt: skip
