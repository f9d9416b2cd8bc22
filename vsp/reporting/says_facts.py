"""The part of `vsp report` about the model's own answers, beside the peak on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from vsp.reporting.formatting import format_difference, format_figure, format_interval
from vsp.storage.layer_score import LayerScore
from vsp.utils.terminal import fact_table, folded_text, text_line
from vsp.utils.text import format_count

_CLASSES = 20  # maximum number of rows in the table of classes
_SCORES = {
    "total": "log-likelihood",
    "per-token": "log-likelihood per token",
    "per-character": "log-likelihood per character",
    "corrected": "log-likelihood minus that with a blank picture",
}


def says_sentence(summary: Mapping[str, Any]) -> str:
    """What the model says and what the probe knows, in one sentence; empty without answers."""
    says = summary["says"]
    if says is None:
        return ""
    figures = says["figures"][says["statistic"]]
    own, probe, difference = (figures[name] for name in ("says", "knows", "difference"))
    low, high = difference["low"], difference["high"]
    if low is not None and low > 0:
        verdict = "the model does not say all that a probe reads"
    elif high is not None and high < 0:
        verdict = "the model says more than a probe reads"
    else:
        verdict = "no clear difference"
    return (
        f"Says {_score(own)}, knows {_score(probe)} ({says['statistic']} of the model's own answers "
        f"and of the probe, on the same rows): {verdict}."
    )


def says_page(summary: Mapping[str, Any]) -> list[RenderableType]:
    """Facts, the table of right and wrong, and the classes; one line if there are no answers."""
    says = summary["says"]
    if says is None:
        why = summary["no_answers"]
        return [folded_text(f"No answers of the model: {why}.")] if why else []
    parts: list[RenderableType] = [
        text_line("The model's own answers (says) and the probe (knows)", style="bold"),
        _facts(summary, says),
        text_line(),
        _right_or_wrong(says["table"]),
        text_line(),
        _class_table(says["recall"]),
    ]
    n = len(says["recall"])
    if n > _CLASSES:
        parts.append(
            folded_text(f"Shown: the {_CLASSES} of {n} classes with the largest difference.")
        )
    return parts


def lens_note(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """What the column of the logit lens is, or why a stored lens was not read; else empty."""
    if summary["says"] and summary["says"].get("no_lens"):
        return [f"no lens: {summary['says']['no_lens']}."]
    if not summary["says"] or not any(score.lens for score in scores):
        return []
    return [
        f"lens: {summary['says']['statistic']} of answers that are read from the layer through the "
        "model's final norm and head (logit lens)."
    ]


def _score(one: Mapping[str, Any]) -> str:
    return f"{format_figure(one['score'])} {format_interval(one)}"


def _facts(summary: Mapping[str, Any], says: Mapping[str, Any]) -> Table:
    figures = says["figures"]
    facts: dict[str, str | list[str]] = {
        name: [f"{statistic} {_score(one[name])}" for statistic, one in figures.items()]
        for name in ("says", "knows")
    }
    facts["difference"] = [
        f"{statistic}, knows minus says: {format_difference(one['difference'])}"
        for statistic, one in figures.items()
    ]
    test, agreement = says["test"], says["agreement"]
    units = "name pairs" if summary["split_by"] != "image" else "groups"
    facts["equal accuracy"] = (
        f"p = {test['p']:.3g} (sign flips of {units}); p = {test['p_rows']:.3g} if rows were "
        "independent (McNemar's exact test, first repeat)"
    )
    facts["agreement"] = (
        f"same label in {_score(agreement['share'])} of the rows, Cohen's kappa "
        f"{format_figure(agreement['kappa'])}"
    )
    return fact_table({**facts, **_how_chosen(says)})


def _how_chosen(says: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The score that chooses an answer, the others, and rows that are left out or tied."""
    others = [
        f"by {words}: {'–' if one is None else _score(one)}"
        for name, words in _SCORES.items()
        if name != says["score"]
        for one in [says["scores"][name]]
    ]
    has_prior = says["scores"]["corrected"] is not None
    others += [f"blank pictures: run {says['prior']}" if has_prior else f"not corrected: {says['prior']}"]  # fmt: skip
    facts: dict[str, str | list[str]] = {
        "chosen by": f"{_SCORES[says['score']]} of the option (--answer-score {says['score']})",
        "other scores": others,
    }
    n_rows, n_without = says["n_rows"], says["n_no_label"]
    if n_without:
        facts["left out"] = (
            f"{n_without} of {n_rows + n_without} test rows: their label is none of their options"
        )
    if says["n_ties"]:
        facts["ties"] = (
            f"{format_count(says['n_ties'], 'row')} with several best options, of which the first "
            "counts"
        )
    return facts


def _right_or_wrong(counts: Mapping[str, float]) -> Table:
    """The 2 × 2 table of rows, averaged over repeats."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("rows, mean of repeats")
    for name in ("answer right", "answer wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, cells in (
        ("probe right", ("both", "only_knows")),
        ("probe wrong", ("only_says", "neither")),
    ):
        table.add_row(name, *(f"{counts[cell]:,.1f}".removesuffix(".0") for cell in cells))
    return table


def _class_table(recall: Mapping[str, Mapping[str, Any]]) -> Table:
    """Recall of each label by the answers and by the probe."""

    def gap(name: str) -> float:
        says, knows = recall[name]["says"], recall[name]["knows"]
        if says is None or knows is None:
            return -1.0
        return abs(float(knows["score"] or 0) - float(says["score"] or 0))

    shown = sorted(recall, key=gap, reverse=True)[:_CLASSES]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold", max_width=24)
    for column in ("says", "", "knows", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for name in recall:
        if name in shown:
            cells = []
            for one in (recall[name]["says"], recall[name]["knows"]):
                cells += ["–", "–"] if one is None else [
                    format_figure(one["score"]), format_interval(one)
                ]  # fmt: skip
            table.add_row(text_line(name), *map(text_line, cells))
    return table
