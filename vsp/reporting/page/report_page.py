"""The page of one or several runs: its sections, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.reporting.page.curves_section import curves_section
from vsp.reporting.page.document import page
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Section


def runs_page(runs: Sequence[PageRun], title: str, more: Sequence[Section] = ()) -> str:
    """The page of these runs as text; `more` are sections of a study, which stand first."""
    return page(title, [*more, *run_sections(runs)])


def run_sections(runs: Sequence[PageRun]) -> list[Section]:
    """The sections of runs, without those for which the runs have no data."""
    found: list[Section | None] = [curves_section(runs)]
    return [section for section in found if section is not None]
