"""`vsp report --study NAME`: a study as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from vsp.cli.html_page import check_page_options
from vsp.cli.output import print_aside, print_json
from vsp.errors import ConfigError

# Options of `vsp report` that a study takes; the others are about one run.
_TAKES = {"study", "json", "save", "html", "margin"}
_NOT_TYPED = {"handler", "interrupted", "words", "quiet", "verbose"}
_OPTIONS = {"figure_layer": "layer", "further_runs": "run"}  # where the names differ


def report_study(arguments: argparse.Namespace) -> None:
    """Show what a study found. Raises ConfigError for an option that applies to one run."""
    from vsp.reporting.study_facts import study_facts
    from vsp.reporting.study_report import study_json, study_page
    from vsp.storage.study import read_study
    from vsp.utils.terminal import show

    _check(arguments)
    work = Path()
    facts = study_facts(read_study(arguments.study, work), work, arguments.margin)
    if arguments.html is not None:
        from vsp.reporting.page.study_page import study_html
        from vsp.utils.files import write_text

        write_text(arguments.html, study_html(facts))
        print_aside(f"wrote {arguments.html}")
    if arguments.save:
        from vsp.reporting.saved_study import save_study

        for path in save_study(facts, work):
            print_aside(f"wrote {path}")
    if arguments.json:
        print_json(study_json(facts))
    else:
        show(study_page(facts))


def _check(arguments: argparse.Namespace) -> None:
    for name, value in vars(arguments).items():
        if name not in _TAKES | _NOT_TYPED and value not in (None, False):
            option = _OPTIONS.get(name, name.replace("_", "-"))
            raise ConfigError(
                f"--{option}: applies to one run; use it in `vsp report RUN`, without --study"
            )
    check_page_options(arguments)
