"""`vsp report --study NAME`: a study as one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.cli.html_page import check_page_options, say_written
from vsp.cli.output import print_json, print_line
from vsp.cli.paper_options import other_option
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.reporting.study_facts import StudyFacts
    from vsp.reporting.study_strata import StudyStrata

# Options of `vsp report` that a study takes; the others are about one run.
_TAKES = {"study", "json", "save", "html", "gallery", "by", "margin"}


def report_study(arguments: argparse.Namespace) -> None:
    """Show what a study found. Raises ConfigError for an option that applies to one run."""
    from vsp.reporting.study_facts import study_facts
    from vsp.reporting.study_report import study_json, study_page
    from vsp.storage.study import read_study
    from vsp.utils.terminal import show

    _check(arguments)
    work = Path()
    facts = study_facts(read_study(arguments.study, work), work, arguments.margin)
    strata = _strata(arguments, facts)
    if arguments.html is not None:
        from vsp.reporting.page.gallery_section import GALLERY
        from vsp.reporting.page.study_page import study_html
        from vsp.utils.files import write_text

        gallery = GALLERY if arguments.gallery is None else arguments.gallery
        page = study_html(facts, gallery, arguments.by)
        write_text(arguments.html, page.text)
        say_written([arguments.html], page.left_out)
    if arguments.save:
        from vsp.reporting.saved_study import save_study

        say_written(*save_study(facts, work))
    if arguments.json:
        from vsp.reporting.study_strata import study_strata_json

        by = {} if strata is None else {"by": study_strata_json(strata)}
        print_json({**study_json(facts), **by})
        return
    show(study_page(facts))
    if strata is not None:
        from vsp.reporting.study_strata import study_strata_page

        print_line()
        show(study_strata_page(strata))


def _strata(arguments: argparse.Namespace, facts: StudyFacts) -> StudyStrata | None:
    """The scores by the field of --by; None without it."""
    if arguments.by is None:
        return None
    from vsp.reporting.study_strata import study_strata

    return study_strata(facts, arguments.by)


def _check(arguments: argparse.Namespace) -> None:
    option = other_option(arguments, _TAKES)
    if option is not None:
        raise ConfigError(
            f"{option}: applies to one run; use it in `vsp report RUN`, without --study"
        )
    check_page_options(arguments)
