"""The report of a study as files in `results/NAME/`."""

from __future__ import annotations

from pathlib import Path

from vsp.reporting.page.study_page import study_html
from vsp.reporting.study_facts import StudyFacts
from vsp.reporting.study_report import study_page
from vsp.storage.results import HTML_REPORT, REPORT
from vsp.storage.study import results_folder
from vsp.utils.files import write_text
from vsp.utils.terminal import plain_text


def save_study(facts: StudyFacts, work: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Write `report.txt`, and `report.html` if a run has results.

    Returns the paths, and what `report.html` leaves out with the reasons.
    """
    left_out: tuple[str, ...] = ()
    folder = results_folder(facts.study.name, work)
    paths = [folder / REPORT]
    write_text(paths[0], plain_text(study_page(facts)) + "\n")
    if any(one.results is not None for one in facts.runs):
        paths.append(folder / HTML_REPORT)
        page = study_html(facts)
        write_text(paths[1], page.text)
        left_out = page.left_out
    return paths, left_out
