"""How the probes of a study are fitted: the options of `vsp probe` that its file has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.choices import LAST
from vsp.cli.submitted_probe import checked_choice

if TYPE_CHECKING:
    from vsp.cluster.probe_choice import ProbeChoice
    from vsp.storage.run import Run
    from vsp.storage.study import Study


def study_choice(
    study: Study, is_new: bool, work: Path, runs: Sequence[Run] = (), probe_tasks: int = 0
) -> ProbeChoice:
    """The settings of the probe of a study.

    `is_new`: its options were typed, and are not read from its file. An option that `vsp probe` refuses,
    also for one of the runs, raises a VspError, or ends the program if it was typed.
    """
    from vsp.storage.study import study_path

    source = "" if is_new else str(study_path(study.name, work))
    return checked_choice(study.probe, runs, probe_tasks, source)


def study_setting(choice: ProbeChoice) -> str:
    """The folder in results/RUN/ that the report of a study is about."""
    return choice.names[choice.position or LAST]


def keep_setting(study: Study, choice: ProbeChoice, work: Path) -> None:
    """Keep the setting beside the results of the study, for its report."""
    from vsp.storage.study_record import read_record, write_record

    record = read_record(study, work)
    kept = record.model_copy(update={"probe": study.probe, "setting": study_setting(choice)})
    if kept != record:
        write_record(study, kept, work)
