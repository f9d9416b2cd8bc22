"""`vsp report --study NAME --html FILE`: the page of a study."""

from __future__ import annotations

from vsp.errors import RunError
from vsp.reporting.page.gallery_section import GALLERY
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.reporting.page.section import Page, Section
from vsp.reporting.page.study_section import study_section
from vsp.reporting.page.verdict_section import verdict_section
from vsp.reporting.study_facts import StudyFacts


def study_html(found: StudyFacts, gallery: int = GALLERY, by: str | None = None) -> Page:
    """The page, with `gallery` rows of the original at most, and with strata by the field `by`.

    Raises RunError if no run of the study has results.
    """
    study = found.study
    runs = [
        read_page_run(one.listed.name, one.results) for one in found.runs if one.results is not None
    ]
    if not runs:
        raise RunError(
            f"study {study.name}: has no results yet; `vsp study {study.name}` goes on with it"
        )
    more: list[Section | None] = [verdict_section(found.verdict), study_section(found, runs[0])]
    return runs_page(
        runs,
        study.question or f"Study {study.name}",
        [one for one in more if one is not None],
        list(found.transfers.transfers.values()),
        gallery,
        first_in_full=True,
        by=by,
    )
