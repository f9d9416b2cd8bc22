"""The command `vsp probe`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import ALL
from vsp.cli.arguments import (
    add_command,
    add_layers,
    add_n_jobs,
    add_position,
    add_requeue,
    add_run,
    part_of,
    run_option,
)
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_cautions, print_line, print_notes
from vsp.cli.probe_options import add_probe_options, probe_settings
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.evaluation.probe_settings import ProbeSettings
    from vsp.storage.results import Results
    from vsp.storage.run import Run


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "probe",
        _probe,
        "fit a probe on every layer, and score it on rows that were not used to fit it",
        example="vsp probe --n-jobs 64\n"
        "vsp probe --probe mass-mean --layers 0,8-16\n"
        "vsp probe --probe ridge --grid 1 100 10000   # for labels that are numbers\n"
        "sbatch --array=0-3 --wrap 'vsp probe --n-jobs 16 --part $SLURM_ARRAY_TASK_ID/4'",
        guide="docs/statistics.md",
        interrupted="fitted layers are kept; the same command fits the others",
    )
    add_run(parser)
    add_n_jobs(parser, "worker processes; results do not depend on it")
    layers = parser.add_mutually_exclusive_group()
    add_layers(layers)
    layers.add_argument(
        "--part",
        type=part_of,
        metavar="K/N",
        help="split the layers in N parts and only fit part K, counted from 0; `vsp probe` "
        "without --part then fits the remaining layers and writes the results",
    )
    add_position(parser, (ALL,))
    add_probe_options(parser)
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out failed and missing rows and report their number, instead of stopping "
        "with an error",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the number of fits and about how long they take, from a few that are timed, and "
        "fit nothing else",
    )
    add_requeue(parser)


def _probe(arguments: argparse.Namespace) -> None:
    from vsp.cluster.requeue import with_requeues
    from vsp.cluster.stages import PROBE, PROBE_PARTS
    from vsp.evaluation.parallel_fits import usable_jobs

    _require_no_probe(arguments.run)
    run = chosen_run(arguments)
    run.require_states("probe")
    n_jobs = usable_jobs(arguments.n_jobs)
    if n_jobs < arguments.n_jobs:
        print_notes(
            [f"{arguments.n_jobs} workers asked for; using {n_jobs}, the number of usable cores"]
        )
    stage = PROBE if arguments.part is None else PROBE_PARTS
    with_requeues(
        lambda: _probe_positions(run, arguments, n_jobs), run, stage, arguments.requeue, print_line
    )


def _require_no_probe(name: str | None) -> None:
    """Raise ConfigError if the name of a probe stands where the run is named."""
    from vsp.errors import ConfigError
    from vsp.probes import PROBES

    if name in PROBES and not (Path("scratch") / str(name)).exists():
        raise ConfigError(f"{name} is a probe, not a run; name it with --probe {name}")


def _probe_positions(run: Run, arguments: argparse.Namespace, n_jobs: int) -> None:
    every = arguments.position == ALL
    for position in run.plan.stored_positions if every else (arguments.position,):
        if every:
            print_line(f"position {position}:")
        if arguments.dry_run:
            _print_costs(run, position, arguments, n_jobs)
        elif arguments.part is not None:
            _probe_part(run, position, arguments, n_jobs)
        else:
            _probe_all(run, position, arguments, n_jobs)


def _print_costs(run: Run, position: str, arguments: argparse.Namespace, n_jobs: int) -> None:
    from vsp.evaluation.probe_run import probe_costs

    settings, part = probe_settings(arguments, position), arguments.part
    with stoppable() as stop, stop.free():
        print_line(probe_costs(run, settings, n_jobs, part, arguments.partial, arguments.layers))


def _probe_part(run: Run, position: str, arguments: argparse.Namespace, n_jobs: int) -> None:
    from vsp.evaluation.probe_run import probe_part

    settings = probe_settings(arguments, position)
    with stoppable() as stop, stop.free():  # a signal unwinds, so that workers end
        layers, folder = probe_part(run, settings, n_jobs, arguments.part, arguments.partial)
    n_layers = run.states(position).layout.n_layers
    print_line(_part_line(arguments.part, layers, n_layers, folder))


def _probe_all(run: Run, position: str, arguments: argparse.Namespace, n_jobs: int) -> None:
    from vsp.evaluation.probe_run import probe_run
    from vsp.reporting.probe_report import equal_states_lines, portion_lines
    from vsp.storage.stored_settings import choice_options

    settings = probe_settings(arguments, position)
    with stoppable() as stop, stop.free():
        results = probe_run(run, settings, n_jobs, arguments.partial, arguments.layers)
    summary = results.summary()
    for line in _left_out(results, summary, settings):
        print_line(f"left out {line}")
    notes = [*_unused_options(settings, summary), *equal_states_lines(summary)]
    print_cautions([*notes, *portion_lines(summary)])
    option = choice_options(results, position)
    print_line(f"wrote {results.folder}; `vsp report{run_option(arguments)}{option}` shows it")


def _left_out(results: Results, summary: dict[str, Any], settings: ProbeSettings) -> list[str]:
    """Rows and baselines that are not in the results, and why."""
    from vsp.utils.text import format_count

    rows, left_out = summary["rows"], []
    if rows["done"] < rows["planned"]:
        left_out.append(f"{rows['failed']} failed and {rows['missing']} missing rows")
    for label, n in summary["dropped_labels"].items():
        left_out.append(f"{format_count(n, 'row')} with label {label!r} (--drop-label)")
    if summary["untrained"] and settings.random:
        left_out.append(
            f"random features: {results.home.parent / summary['untrained']} is the baseline in their place"
        )
    return left_out


def _unused_options(settings: ProbeSettings, summary: dict[str, Any]) -> list[str]:
    """Options that the splits of the dataset make no use of."""
    defaults, own_split = type(settings)(), "the dataset's own" in summary["split"].split(",")[0]
    unused = []
    if settings.over_training and not summary["settings"]["over_training"]:
        unused.append("--over training is not used: intervals of folds include other training rows")
    if own_split and settings.repeats != defaults.repeats:
        unused.append("--repeats is not used: the dataset has its own split")
    if settings.answer_score != defaults.answer_score and not summary["says"]:
        unused.append(f"--answer-score is not used: no answers, {summary['no_answers']}")
    if "val chooses" in summary["split"] and settings.folds != defaults.folds:
        unused.append("--folds is not used: the val rows choose strength and layer")
    return unused


def _part_line(part: tuple[int, int], layers: range, n_layers: int, folder: Path) -> str:
    which = f"part {part[0]}/{part[1]}"
    if not layers:
        return f"{which} is empty: the run has {n_layers} layers; no results written"
    return (
        f"{which}: layers {layers[0]} to {layers[-1]} of {n_layers} are in {folder}; no results "
        "written; `vsp probe` merges the parts and writes them"
    )
