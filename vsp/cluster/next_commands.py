"""The next commands for a run, which `vsp status` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from vsp.cluster.probe_choice import probe_words, report_words
from vsp.cluster.run_stages import StageStatus
from vsp.cluster.stages import EFFECTS, EXTRACT, PROBE, REPORT, VERIFY, stages_of
from vsp.cluster.status import ACTIVE, RunStatus
from vsp.utils.text import format_count, format_ranges


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts that decide the next command."""

    status: RunStatus
    stages: Sequence[StageStatus]
    has_queue: bool  # whether jobs can be submitted from this machine
    run: str  # the name or path that the user gave
    imported: bool = False  # states from elsewhere: nothing can be extracted
    answered: bool = True  # whether the batch system did
    probe: tuple[str, ...] = ()  # options of `vsp probe` of the last submission
    effects: bool = False  # a run of effects, which has no states to probe

    def stage(self, name: str) -> StageStatus | None:
        return next((stage for stage in self.stages if stage.stage == name), None)

    def command(self, name: str, *options: str) -> str:
        return " ".join((f"vsp {name} --run {quote(self.run)}", *options))

    @property
    def by_queue(self) -> bool:
        """Whether the next commands use the batch system: the run was submitted, or has not begun."""
        if not self.has_queue:
            return False
        new = all(shard.state == "not started" for shard in self.status.shards)
        return self.was_submitted or (self.answered and new)

    @property
    def was_submitted(self) -> bool:
        return any(stage.jobs for stage in self.stages)

    @property
    def has_ended(self) -> bool:
        """Whether no task of the run is queued or running, here or in the batch system."""
        known = self.answered or not self.was_submitted
        return known and not self.extracting and not any(stage.active for stage in self.stages)

    @property
    def extracting(self) -> bool:
        return bool(self.status.shards_in(*ACTIVE))


def next_commands(situation: Situation) -> list[str]:
    """The commands to type next, the usual one first, each with what it does."""
    if situation.imported:
        return _after_extraction(situation)
    lines = _extraction(situation)
    if situation.extracting or any(stage.active for stage in situation.stages):
        return [*lines, _line(situation.command("status", "--watch"), "shows when it ends")]
    if lines:
        return lines
    return _after_extraction(situation)


def _line(command: str, what: str) -> str:
    return f"{command}    {what}"


def _extraction(situation: Situation) -> list[str]:
    """The commands for shards with missing rows that are neither queued nor running."""
    status = situation.status
    open_shards = status.shards_in("stopped", "not started")
    if not open_shards:
        return []
    noun = "shard" if len(open_shards) == 1 else "shards"
    numbers = f"{noun} {format_ranges(open_shards)}"
    begun = status.count("n_done") + status.count("n_failed") > 0
    if not situation.by_queue:
        what = f"continues {numbers}" if begun else f"extracts {numbers} here"
        return [_line(situation.command("extract"), what)]
    extraction = situation.stage(EXTRACT)
    if (
        len(open_shards) == len(status.shards)
        and not (extraction and extraction.jobs)
        and not begun
    ):
        return [
            _line(situation.command("submit"), "submits all stages"),
            _line(situation.command("extract"), f"extracts {numbers} here"),
        ]
    return [_line(situation.command("resume"), f"continues {numbers}"), *_logs(situation)]


def _logs(situation: Situation) -> list[str]:
    """`vsp logs` if a stage of the batch system failed."""
    states = {stage.state for stage in situation.stages if stage.jobs}
    if not states & {"failed", "stopped"}:
        return []
    return [_line(situation.command("logs"), "shows the ends of the logs")]


def _after_extraction(situation: Situation) -> list[str]:
    """The commands of a run that has no missing row."""
    n_failed, n_done = (situation.status.count(name) for name in ("n_failed", "n_done"))
    probe = situation.stage(EFFECTS if situation.effects else PROBE)
    probed = probe is not None and probe.state == "done"
    lines = []
    if not probed and n_done:
        lines += [*_logs(situation), _rest(situation, n_failed)]
    elif probed:
        settings = () if probe is None else probe.settings
        report = situation.command("report") + report_words(settings)
        report = situation.command(EFFECTS) if situation.effects else report
        lines.append(_line(report, "shows the results"))
    if n_failed and not situation.imported:
        what = f"tries {format_count(n_failed, 'failed row')} again, once the cause is mended"
        again = _line(
            situation.command("resume" if situation.by_queue else "extract", "--retry-failed"), what
        )
        lines.insert(0 if not probed else len(lines), again)
    return lines


def _rest(situation: Situation, n_failed: int) -> str:
    """The command for the stages after the extraction that are not finished."""
    without = f", without {format_count(n_failed, 'failed row')}" if n_failed else ""
    if not situation.by_queue or situation.imported:
        if situation.effects:
            return _line(situation.command(EFFECTS), f"computes the effects{without}")
        partial = ("--partial",) if n_failed else ()
        probe = situation.command("probe", *partial, *map(quote, situation.probe))
        return _line(probe, f"fits the probes{without}")
    verified = situation.stage(VERIFY)
    left = [
        name
        for name in stages_of(situation.effects)[1:]
        if name in (PROBE, EFFECTS, REPORT) or verified is None or verified.state != "done"
    ]
    after = ("--after", "any") if n_failed else ()
    command = situation.command("submit", "--stages", ",".join(left), *after)
    return _line(command + probe_words(situation.probe), f"submits the later stages{without}")
