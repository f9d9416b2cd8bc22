"""Everything that is needed to make the results again: commands, versions, fingerprints, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vsp import __version__
from vsp.reporting.page.elements import disclosure, facts, table
from vsp.reporting.page.markup import Child, Html, joined, tag
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.rerun_commands import commands, place_of
from vsp.reporting.page.section import Section, Table


def rerun_section(runs: Sequence[PageRun]) -> Section:
    """The commands and the identities of each run; those of several runs are folded."""
    said = tag(
        "p",
        "Paths are relative to the project folder. What lies elsewhere has its name alone: put its "
        "folder before it. On a cluster, ",
        tag("code", "vsp submit"),
        " takes the place of extract, verify and probe.",
    )
    if len(runs) == 1:
        return Section("rerun", "Run it again", joined([said, _of_run(runs[0])]))
    parts = [disclosure(run.name, _of_run(run)) for run in runs]
    return Section("rerun", "Run it again", joined([said, *parts]))


def _of_run(run: PageRun) -> Html:
    return joined(
        [
            tag("pre", tag("code", "\n".join(commands(run))), tabindex=0),
            facts(_facts(run)),
            _checkpoint(run),
        ]
    )


def _facts(run: PageRun) -> dict[str, Child]:
    plan, model = run.plan, run.plan.model
    packages = ", ".join(f"{name} {version}" for name, version in plan.packages.items())
    found: dict[str, Child] = {
        "run": run.results.name,
        "setting": run.results.setting or None,
        "vsp": f"{plan.vsp} (states), {__version__} (this page)",
        "packages": packages or None,
        "model": f"{run.model} (family {model.family})",
        "revision": model.revision,
        "template": tag("code", model.template) if model.template != "{instruction}" else None,
        "dataset": place_of(plan.dataset, run),
        "variants": ", ".join(plan.variants) or None,
        "labels": ", ".join(plan.labels),
        "manifest, SHA-256": _digest("\n".join(plan.manifest_sha256)),
        "plan, SHA-256": tag("code", plan.identity()),
        "seed": str((run.summary.get("settings") or {}).get("seed", 0)),
    }
    return {name: value for name, value in found.items() if value is not None}


def _digest(text: str) -> Html:
    """One digest for the digests of all shards."""
    lines = text.split("\n")
    whole = lines[0] if len(lines) == 1 else hashlib.sha256(text.encode()).hexdigest()
    note = "" if len(lines) == 1 else f" (of the digests of {len(lines)} shards, one a line)"
    return joined([tag("code", whole), note])


def _checkpoint(run: PageRun) -> Html | None:
    """The size and the digest of each file of the checkpoint."""
    files = run.plan.checkpoint_files
    if not files:
        return None
    rows = []
    for name, value in files.items():
        size, colon, digest = value.partition(":")
        rows.append((name, size, digest) if colon else (name, "", value))
    shown = Table(("file", "bytes", "SHA-256 or revision"), rows)
    return disclosure(
        f"Files of the checkpoint ({len(rows)})",
        table(shown, f"Files of the checkpoint of {run.name}"),
    )
