"""Reads the states of tasks from the lines of squeue, and job numbers as Slurm writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from vsp.cluster.contract import Phase, Query, TaskState, array_and_task

# States of Slurm; all others are phases of waiting.
_PHASES: Mapping[str, Phase] = {
    "RUNNING": "running",
    "COMPLETING": "ending",
    "COMPLETED": "succeeded",
    "BOOT_FAIL": "failed",
    "CANCELLED": "failed",
    "DEADLINE": "failed",
    "FAILED": "failed",
    "NODE_FAIL": "failed",
    "OUT_OF_MEMORY": "failed",
    "PREEMPTED": "failed",
    "REVOKED": "failed",
    "TIMEOUT": "failed",
}
# How a job failed, in words. FAILED is left to its exit code.
_ENDS = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "cancelled",
    "DEADLINE": "its deadline passed",
    "NODE_FAIL": "node failed",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted",
    "REVOKED": "taken back by another cluster",
    "TIMEOUT": "time limit reached",
}
# Why a job waits or was cancelled, in words.
_REASONS = {
    "BeginTime": "waits for its start time",
    "Dependency": "waits for an earlier stage",
    "DependencyNeverSatisfied": "an earlier stage did not succeed",
    "JobArrayTaskLimit": "waits until fewer tasks of this array run (throttle)",
    "JobHeldAdmin": "held by an administrator",
    "JobHeldUser": "held by a user; `scontrol release` lets it start",
    "Licenses": "waits for a licence",
    "NodeDown": "waits for a node that is down",
    "PartitionDown": "waits: its partition is down",
    "PartitionInactive": "waits: its partition is closed",
    "PartitionNodeLimit": "waits: it asks for more nodes than its partition allows",
    "PartitionTimeLimit": "waits: its `time` is longer than its partition allows",
    "Priority": "waits for jobs of higher priority",
    "ReqNodeNotAvail": "waits: its nodes are reserved, down or busy",
    "Reservation": "waits for its reservation",
    "Resources": "waits for free nodes",
    "launch failed requeued held": "held: it could not start",
}
# Any user of the cluster can write such a comment, so the length of its number is bounded.
COMMENT = re.compile(r"vsp:(?P<run>[\w.-]+):(?P<stage>[\w-]+):(?P<first>\d{1,9})", re.ASCII)
_CANCELLED_BY = re.compile(r"CANCELLED by ([\w.-]{1,40})")
_JOB_ID = re.compile(
    r"(?P<job>\d{1,10})(?:_(?:(?P<task>\d{1,7})|\[(?P<tasks>[\d,:-]+)(?:%\d+)?\]))?", re.ASCII
)


def squeue_tasks(line: str, query: Query) -> Iterator[TaskState]:
    """The tasks in a line of squeue; none if the job is of another run."""
    # The reason comes last: it is free text that may contain the separator.
    fields = [*line.split("|", 9), *[""] * 10][:10]
    job, state, node, status, restarts, comment, *times, reason = fields
    known, stages = COMMENT.fullmatch(comment), query.stages.values()
    if known is None or known["run"] != query.run_id or known["stage"] not in stages:
        return
    for number, task in job_tasks(job):
        yield task_state(
            number,
            known["stage"],
            None if task is None else int(known["first"]) + task,
            state,
            reason=reason.rstrip("|"),
            node=node,
            exit_code=_exit_code(status),
            restarts=int(restarts) if re.fullmatch(r"\d{1,9}", restarts, re.ASCII) else None,
            times=times,
        )


def task_state(
    job: str,
    stage: str,
    shard: int | None,
    state: str,
    reason: str = "",
    node: str = "",
    exit_code: str | None = None,
    restarts: int | None = None,
    times: Sequence[str] = (),
) -> TaskState:
    """`times` are those of submission, start and end, in seconds since 1970."""
    by = _CANCELLED_BY.match(state)  # in accounting only
    state = state.split()[0] if state.strip() else "UNKNOWN"
    phase = _PHASES.get(state, "queued")
    ended = phase in ("succeeded", "failed")
    reason = "" if reason in ("None", "(null)") else reason
    return TaskState(
        job=job,
        stage=stage,
        shard=shard,
        phase=phase,
        state=state,
        reason=reason,
        node="" if node in ("None assigned", "(null)") else node,
        exit_code=exit_code if ended and exit_code != "0:0" else None,
        restarts=restarts,
        words=_words(state, phase, reason),
        cancelled=state == "CANCELLED",
        by=by[1] if by else "",
        since=_since(phase, times),
    )


def _words(state: str, phase: Phase, reason: str) -> str:
    """Why a job waits or how it failed; empty if the exit code says more, or nothing is known."""
    said = _REASONS.get(reason, "")
    if phase == "failed":
        cancelled = state == "CANCELLED" and reason == "DependencyNeverSatisfied"
        return said if cancelled else _ENDS.get(state, "")
    if phase == "queued":
        return said or (f"waits ({reason})" if reason else "")
    return ""


def _since(phase: Phase, times: Sequence[str]) -> float | None:
    """When this phase began."""
    submitted, started, ended = [*times, *[""] * 3][:3]
    began = {"queued": submitted, "running": started}.get(phase, ended)
    return float(began) if re.fullmatch(r"\d{1,11}", began, re.ASCII) else None


def job_tasks(job: str) -> Iterator[tuple[str, int | None]]:
    """(job number, array index) of a job as Slurm writes it: 123, 123_4, 123_[5-9%2]."""
    parts = _JOB_ID.fullmatch(job.strip())
    if parts is None:
        return
    if parts["tasks"]:
        for index in _indices(parts["tasks"]):
            yield f"{parts['job']}_{index}", index
    elif parts["task"]:
        yield job.strip(), int(parts["task"])
    else:
        yield job.strip(), None


def _indices(text: str) -> Iterator[int]:
    """The numbers in 1,3-5 or 0-8:2."""
    for part in text.split(","):
        span = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", part, re.ASCII)
        if span:
            first, last, step = int(span[1]), int(span[2] or span[1]), int(span[3] or 1)
            yield from range(first, last + 1, max(step, 1))


def submission_order(job: str) -> tuple[int, int]:
    array, task = array_and_task(job)
    return int(array), task or 0


def _exit_code(status: str) -> str | None:
    """`code:signal`, as sacct prints it, from the status of the system call `wait`."""
    if not re.fullmatch(r"\d{1,9}", status, re.ASCII):
        return None
    return f"{int(status) >> 8}:{int(status) & 127}"
