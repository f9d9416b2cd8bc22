"""Runs that are extracted together: what their plans say of each other, and the runs themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from vsp.config import parse
from vsp.errors import RunError
from vsp.storage.plan import Member, Plan
from vsp.storage.run import Run

# The values of a plan that runs which are extracted together have in common: rows have the keys of
# `vsp.extraction.batches`, and one model computes them.
COMMON = (
    "model",
    "checkpoint_files",
    "dtype",
    "boundary",
    "shard_starts",
    "n_samples",
    "modules",
    "share",
)


def plans_together(plans: Sequence[Plan], members: Sequence[Member] = ()) -> list[Plan]:
    """The plans of runs that are extracted together, each with all of them; one plan stays alone.

    With `members`, the plans get their old places among these. Raises RunError for a plan that is not
    what it was.
    """
    if len(plans) == 1 and not members:
        return list(plans)
    members = tuple(members) or tuple(
        Member(name=plan.name, id=plan.id, identity=plan.own_identity()) for plan in plans
    )
    known = {member.name: member for member in members}
    for plan in plans:
        if known[plan.name].identity != plan.own_identity():
            others = ", ".join(name for name in known if name != plan.name)
            raise RunError(
                f"run {plan.name}: is lost, and its plan would not be what it was, so that {others} "
                f"cannot be extracted together with it; remove {others} too"
            )
    return [
        parse(Plan, {**dict(plan), "id": known[plan.name].id, "together": members}, "plan")
        for plan in plans
    ]


def runs_together(run: Run) -> list[Run]:
    """The runs that are extracted together with `run`, in the order of their plans; it is among them.

    Raises RunError if one of them is gone or was planned again: without its rows, the batches would be
    others.
    """
    return [
        run if one.id == run.plan.id else _companion(run, one) for one in run.plan.together
    ] or [run]


def _companion(run: Run, member: Member) -> Run:
    folder = run.folder.parent / member.name
    why = f"is not in {folder.parent}"
    if (folder / "plan.json").exists():
        other = Run.open(folder)
        same = other.plan.id == member.id and other.plan.own_identity() == member.identity
        if same and other.plan.together == run.plan.together:
            if key := _unlike(run.plan, other.plan):
                raise RunError(
                    f"run {run.name}: cannot be extracted together with run {member.name}, which has "
                    f"another {key}; remove both and plan them again"
                )
            return other
        why = "was planned again since"
    raise RunError(
        f"run {run.name}: is extracted together with run {member.name}, which {why}; put it back, or "
        f"remove run {run.name} and plan it again"
    )


def _unlike(plan: Plan, other: Plan) -> str:
    """The first value that runs which are extracted together have in common, and these do not."""
    if (plan.answers is None) != (other.answers is None):
        return "kind of answers"
    return next((key for key in COMMON if getattr(plan, key) != getattr(other, key)), "")


def companions_there(run: Run) -> list[Run]:
    """The other runs that are extracted together with `run`, without those that are gone."""
    found = []
    for member in run.plan.together:
        with suppress(RunError):
            if member.id != run.plan.id:
                found.append(_companion(run, member))
    return found


def why_needed(run: Run, removed: Collection[str]) -> str:
    """Why a run must not be removed with the runs named `removed`; empty if it can be.

    The batches of runs that are extracted together have the rows of all of them.
    """
    for other in companions_there(run):
        n_missing = sum(ledger.n_missing for ledger in other.ledgers())
        if n_missing and other.name not in removed:
            return (
                f"run {other.name} is extracted together with it, and {n_missing:,} of its rows are "
                f"missing; `vsp extract --run {other.name}` extracts them, `vsp rm {run.name} "
                f"{other.name}` removes both"
            )
    return ""
