"""The sentences that answer the question of each run, with the reasons to read them with care."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.reporting.answer import finding
from vsp.reporting.cautions import cautions
from vsp.reporting.page.elements import disclosure, paragraphs
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Section
from vsp.reporting.probe_report import report_warnings
from vsp.reporting.says_facts import says_sentence
from vsp.storage.stored_settings import why_stale
from vsp.utils.text import format_count


def answer_of(run: PageRun) -> Html:
    """The sentences of a run, and a line for each reason to doubt the curve."""
    return joined([_sentences(run), paragraphs(_doubts(run), class_="caution")])


def answers_section(runs: Sequence[PageRun]) -> Section | None:
    """The answers of several runs; None for one run, whose answer stands under the title."""
    if len(runs) == 1:
        return None
    parts = [tag("div", tag("h3", run.name), _with_doubts(run), class_="of-run") for run in runs]
    return Section("answers", "What was found", joined(parts))


def _with_doubts(run: PageRun) -> Html:
    """The sentences, and under a line that opens, the reasons to doubt the curve."""
    doubts = _doubts(run)
    if not doubts:
        return _sentences(run)
    head = f"{format_count(len(doubts), 'reason')} to doubt this curve"
    return joined([_sentences(run), disclosure(head, paragraphs(doubts, class_="caution"))])


def _sentences(run: PageRun) -> Html:
    found, to_cite = finding(run.summary, run.scores)
    further = [one for one in (to_cite, says_sentence(run.summary)) if one]
    return joined([tag("p", found, class_="answer"), paragraphs(further)])


def notes(run: PageRun) -> Html:
    """Reasons to read single figures with care."""
    return paragraphs(report_warnings(run.summary, run.scores), class_="caution")


def _doubts(run: PageRun) -> list[str]:
    stale = why_stale(run.results, run.summary["rows"])
    lines = [f"These results are of an older state of the run: {stale}."] if stale else []
    return lines + [
        f"{line[:1].upper()}{line[1:]}." for line in cautions(run.summary, run.untrained)
    ]
