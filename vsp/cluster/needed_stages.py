"""The stages that a submission needs, and the message for a run that needs none."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.cluster.contract import States
from vsp.cluster.probe_choice import ProbeChoice, named_settings, probe_words, report_words
from vsp.cluster.run_stages import run_stages
from vsp.cluster.stages import EFFECTS, EXTRACT, PROBE, REPORT, VERIFY, stages_of
from vsp.cluster.status import run_status
from vsp.errors import RunError
from vsp.storage.ledger import Ledger, failure_of_all
from vsp.storage.run import Run
from vsp.utils.text import format_count


def run_stages_of(run: Run) -> tuple[str, ...]:
    """The stages of a run: of states, or of effects."""
    return stages_of(run.plan.effects is not None)


def _check_stages(run: Run, wanted: Sequence[str]) -> None:
    """Raise RunError if a stage belongs to the other kind of run."""
    usual = run_stages_of(run)
    for stage in wanted:
        if stage not in usual:
            what = "states" if run.plan.effects is None else "effects"
            raise RunError(
                f"run {run.name}: holds {what} and has no stage {stage}; its stages are "
                f"{', '.join(usual)}"
            )


def later_stages(run: Run, probe: ProbeChoice, *options: str) -> str:
    """The command that submits all stages after the extraction."""
    later = ",".join(run_stages_of(run)[1:])
    words = ("vsp", "submit", "--run", run.name, "--stages", later, *options)
    return " ".join(words) + probe_words(probe.words)


def finished_words(run: Run, ledgers: Sequence[Ledger], probe: ProbeChoice) -> str:
    """A message that the run is finished, with the next commands; empty if it is not.

    It is finished if no row is missing and the probes of this choice were fitted after the last row.
    """
    if any(ledger.n_missing for ledger in ledgers):
        return ""
    settings = probe.settings(run)
    if probed_since(run, ledgers, probe) is None:
        return ""
    n_done, n_failed = (
        sum(getattr(one, name) for one in ledgers) for name in ("n_done", "n_failed")
    )
    rows = f"{format_count(n_done, 'row')} done" + (f", {n_failed:,} failed" if n_failed else "")
    if run.plan.effects is not None:
        return f"is finished: {rows}, effects computed; `vsp effects --run {run.name}` shows the results"
    named = named_settings(settings)
    return (
        f"is finished: {rows}, probes {f'{named} ' if named else ''}fitted; `vsp report --run {run.name}"
        f"{report_words(settings)}` shows the results, `vsp submit --run {run.name} --stages "
        f"probe,report{probe_words(probe.words)}` fits the probes again"
    )


def probed_since(run: Run, ledgers: Sequence[Ledger], probe: ProbeChoice) -> float | None:
    """When the probes of this choice were fitted after the last row; None if they were not."""
    status = run_status(run, ledgers, States())
    stages = run_stages(run, status, States(), (), probe.settings(run))
    done = [one for one in stages if one.stage in (PROBE, EFFECTS) and one.state == "done"]
    return max((one.since or 0.0 for one in done), default=None)


def last_written(run: Run) -> float:
    """When the journals of a run were last written, in seconds since 1970; 0 without any."""
    shards = run_status(run, run.ledgers(), States()).shards
    return max((shard.last_write or 0.0 for shard in shards), default=0.0)


def failed_rows_words(run: Run, n_failed: int, probe: ProbeChoice) -> str:
    """The commands for a run with failed and without missing rows."""
    return (
        f"no row is missing, {format_count(n_failed, 'row')} failed; mend the cause (see `vsp status "
        f"--run {run.name}`), then `vsp resume --run {run.name} --retry-failed` extracts them again, or "
        f"`{later_stages(run, probe, '--after', 'any')}` submits the later stages without them"
    )


def needed_stages(
    run: Run,
    ledgers: Sequence[Ledger],
    wanted: Sequence[str] | None,
    *,
    probe: ProbeChoice,
    without_failed: bool,
    retry_failed: bool,
) -> tuple[tuple[str, ...], str]:
    """The stages to submit of those `wanted` (None: all that the run still needs), and a remark.

    `without_failed`: the probe leaves failed rows out. Raises RunError if nothing is left, because
    every row failed, or because the probe would refuse the run.
    """
    failure = failure_of_all(ledgers)
    if failure and not retry_failed:
        raise RunError(f"run {run.name}: {failure}")
    n_failed = sum(ledger.n_failed for ledger in ledgers)
    is_extracted = not any(ledger.n_missing for ledger in ledgers) and not (
        n_failed and retry_failed
    )
    usual, remarks = run_stages_of(run), []
    stages = tuple(wanted or usual)
    _check_stages(run, stages)
    if wanted is None and is_extracted:
        stages = usual[1:]
        remarks.append("no row is missing, so the extraction is left out")
    if PROBE in stages and n_failed and not without_failed and not retry_failed:
        # Known now, not only when the probe starts hours later.
        if is_extracted:
            raise RunError(f"run {run.name}: {failed_rows_words(run, n_failed, probe)}")
        stages = tuple(stage for stage in stages if stage in (EXTRACT, VERIFY))
        if EXTRACT not in stages:
            raise RunError(
                f"run {run.name}: {format_count(n_failed, 'row')} failed, and the probe refuses such a "
                "run; --after any leaves them out"
            )
        remarks.append(
            f"{PROBE} and {REPORT} are left out: {format_count(n_failed, 'row')} failed, and the probe "
            "refuses such a run; --retry-failed extracts them again, --after any leaves them out"
        )
    return stages, "; ".join(remarks)
