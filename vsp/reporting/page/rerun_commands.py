"""The commands that make a run again, from its plan and the settings of its probe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vsp.evaluation.probe_settings import ProbeSettings
from vsp.probes.own_code import probe_title
from vsp.reporting.page.page_run import PageRun
from vsp.storage.plan import Plan
from vsp.utils.text import format_ranges


def commands(run: PageRun) -> list[str]:
    """The commands, quoted for a shell. Paths are relative to the project's folder, or names."""
    name = run.results.name
    probe = ["vsp", "probe", "--run", name, *_probe_options(run)]
    report = ["vsp", "report", name, *_choice(run)]
    if run.plan.imported is not None:
        return [shlex.join(probe), shlex.join(report)]
    plan = ["vsp", "plan", *_plan_options(run), "--run", name]
    extract = [["vsp", stage, "--run", name] for stage in ("extract", "verify")]
    return [shlex.join(one) for one in (plan, *extract, probe, report)]


def place_of(path: str, run: PageRun) -> str:
    """A path relative to the folder that holds results/, or its last part; never an absolute path."""
    project = run.results.home.absolute().parent.parent
    whole = Path(path)
    if whole.is_absolute():
        return str(whole.relative_to(project)) if whole.is_relative_to(project) else whole.name
    return path


def _plan_options(run: PageRun) -> list[str]:
    plan, model = run.plan, run.plan.model
    given: dict[str, Any] = {
        "--model": model.family,
        "--checkpoint": model.checkpoint and place_of(model.checkpoint, run),
        "--revision": model.revision,
        "--adapter": model.adapter and place_of(model.adapter, run),
        "--quantization": model.quantization if model.family != "fake" else None,
        "--dtype": None if model.dtype == "auto" else model.dtype,
        "--weights": None if model.weights == "checkpoint" else model.weights,
        "--dataset": place_of(plan.dataset, run),
        "--prompt": plan.prompt,
        "--store-dtype": plan.dtype,
        "--batch-size": None if plan.batch_size == 16 else plan.batch_size,
    }
    words = [
        word for name, value in given.items() if value is not None for word in (name, str(value))
    ]
    words += [
        word for item in model.options.items() for word in ("--option", "=".join(map(str, item)))
    ]
    return [*words, *_recorded(plan)]


def _recorded(plan: Plan) -> list[str]:
    words = ["--positions", ",".join(plan.positions)] if len(plan.positions) > 1 else []
    words += ["--modules", ",".join(plan.modules)] if plan.modules else []
    words += [] if plan.share else ["--no-sharing"]
    if plan.answers is None:
        return [*words, "--no-answers"]
    return [*words, "--lens"] if plan.answers.lens else words


def _probe_options(run: PageRun) -> list[str]:
    """The settings that are not the defaults of `vsp probe`."""
    settings = run.summary.get("settings") or {}
    return [word for name, value in settings.items() for word in _option(name, value)] + _layers(
        run
    )


# As JSON has them. Two have no option: the code of a probe is that of the file that `--probe` names.
_DEFAULTS = {
    name: [*value] if isinstance(value, tuple) else value
    for name, value in asdict(ProbeSettings()).items()
    if name not in ("probe_code", "confidence")
}


def _option(name: str, value: Any) -> Iterator[str]:
    if name not in _DEFAULTS or value == _DEFAULTS[name]:
        return
    if name in ("curve", "random", "words"):
        yield f"--no-{name}"
    elif name == "over_training":
        yield from ("--over", "training")
    elif name == "drop_labels":
        yield from (word for label in value for word in _one_label(str(label)))
    elif name == "probe_options":
        yield from (word for key, one in value for word in ("--probe-option", f"{key}={one}"))
    elif name == "strengths":
        yield from ("--grid", *(f"{one:g}" for one in value))
    elif name == "probe":
        yield from ("--probe", probe_title(str(value)))
    else:
        yield from (f"--{name.replace('_', '-')}", str(value))


def _one_label(label: str) -> list[str]:
    """A label to drop; one that begins with a dash would be taken for an option."""
    return [f"--drop-label={label}"] if label.startswith("-") else ["--drop-label", label]


def _layers(run: PageRun) -> list[str]:
    layers = [score.layer for score in run.scores]
    if len(layers) == run.summary["n_layers"]:
        return []
    return ["--layers", format_ranges(layers)]


def _choice(run: PageRun) -> list[str]:
    return ["--probe", run.results.setting] if run.results.setting else []
