"""`vsp report --study NAME`: a study as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from vsp.cli.output import print_aside, print_json
from vsp.errors import ConfigError

# Options of `vsp report` that a study takes; the others are about one run.
_TAKES = {"study", "json", "save", "html"}
_NOT_TYPED = {"handler", "interrupted", "words", "quiet", "verbose"}


def report_study(arguments: argparse.Namespace) -> None:
    """Show what a study found. Raises ConfigError for an option that is about one run."""
    from vsp.reporting.study_facts import study_facts
    from vsp.reporting.study_report import save_study, study_json, study_page
    from vsp.storage.study import read_study
    from vsp.utils.terminal import show

    for name, value in vars(arguments).items():
        if name not in _TAKES | _NOT_TYPED and value not in (None, False):
            raise ConfigError(
                f"--{_OPTIONS.get(name, name.replace('_', '-'))}: is about one run; `vsp report RUN` takes it, "
                "`vsp report --study` does not"
            )
    work = Path()
    facts = study_facts(read_study(arguments.study, work), work)
    if arguments.save:
        for path in save_study(facts, work):
            print_aside(f"wrote {path}")
    if arguments.json:
        print_json(study_json(facts))
    else:
        show(study_page(facts))


_OPTIONS = {"figure_layer": "layer", "run": "run"}
