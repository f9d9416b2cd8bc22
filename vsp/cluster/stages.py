"""Names of a run's stages, of their jobs and of their log files.

This module imports nothing, because the command line lists the stages in its help.
"""

from __future__ import annotations

EXTRACT, VERIFY, PROBE, REPORT = STAGES = ("extract", "verify", "probe", "report")
# Instead of PROBE and REPORT, for a run of effects: it computes what changes of states do to the
# answers, and its log has the page about them.
EFFECTS = "effects"
STAGES_OF_EFFECTS = (EXTRACT, VERIFY, EFFECTS)
# An optional stage before PROBE: it fits the layers in an array of tasks.
PROBE_PARTS = "probe-parts"
TABLE = "table"  # a job after the runs of a sweep; of no run
STUDY = "study"  # likewise, after the runs of a study
ORDER = (EXTRACT, VERIFY, PROBE_PARTS, PROBE, EFFECTS, REPORT)

# Lists of jobs show the first eight letters of a name, so the stage comes first.
_PREFIXES = {
    EXTRACT: "vsp",
    VERIFY: "verify",
    PROBE_PARTS: "parts",
    PROBE: "probe",
    EFFECTS: "effects",
    REPORT: "report",
}


def stages_of(effects: bool) -> tuple[str, ...]:
    """The stages of a run with states, or of a run of effects."""
    return STAGES_OF_EFFECTS if effects else STAGES


def job_name(stage: str, run: str) -> str:
    """The name of a stage's job in the batch system."""
    return f"{_PREFIXES[stage]}-{run}"


def log_name(stage: str, job: str) -> str:
    """The log file of a task; `job` is "123", or "123_4" for a task of an array.

    A batch script passes its scheduler's placeholders instead of numbers.
    """
    return f"{stage}-{job}.log"
