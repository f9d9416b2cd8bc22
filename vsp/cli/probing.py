"""Commands about probes: `vsp probe`, `vsp report` and `vsp compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import ANSWER_SCORES, LAST, ROW_KINDS, STORED_POSITIONS
from vsp.cli.arguments import (
    add_command,
    add_drop_label,
    add_json,
    add_n_jobs,
    add_position,
    add_run,
    add_seed,
    at_least,
    compared_positions,
    layer_list,
    part_of,
    positive_number,
    run_option,
)
from vsp.cli.output import print_aside, print_json, print_line, print_notes
from vsp.errors import ConfigError
from vsp.probes import PROBES
from vsp.probes.names import DEFAULT_PROBE, METRIC_NAMES, SPLIT_BY, TREATMENTS
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.evaluation.probe_settings import ProbeSettings


def add_commands(subparsers: Any) -> None:
    _add_probe(subparsers)
    _add_report(subparsers)
    _add_compare(subparsers)


def _add_probe(subparsers: Any) -> None:
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
    _add_probe_options(parser)
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument(
        "--layers",
        type=layer_list,
        metavar="LIST",
        help="only these layers, as 0,8-16 (default: all)",
    )
    layers.add_argument(
        "--part",
        type=part_of,
        metavar="K/N",
        help="split the layers in N parts and only fit part K, counted from 0; `vsp probe` "
        "without --part then fits the remaining layers and writes the results",
    )
    add_position(parser)
    _add_statistics_options(parser)
    add_drop_label(parser)
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out failed and missing rows and report their number, instead of stopping "
        "with an error",
    )


def _add_probe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        default=DEFAULT_PROBE,
        metavar="NAME",
        help=f"{', '.join(PROBES.own_names())} (default: {DEFAULT_PROBE}); sklearn is scikit-learn's "
        "logistic regression",
    )
    parser.add_argument(
        "--treatment",
        choices=TREATMENTS,
        help="preprocessing of the states, learned from the training rows (default: the probe's "
        "own)",
    )
    parser.add_argument(
        "--grid",
        type=positive_number,
        nargs="+",
        default=(),
        metavar="X",
        help="values of the probe's C or alpha; one is chosen by cross-validation on the training "
        "rows (default: the probe's own, which may depend on the size of a layer's states)",
    )
    parser.add_argument(
        "--metric",
        choices=("auto", *METRIC_NAMES),
        default="auto",
        help="what chooses C and layer and is reported: accuracy, balanced (mean recall of the "
        "labels), auc (mean over labels of the area under the ROC curve) or log-loss (default: auto, "
        "balanced if a label has less than half of its share, otherwise accuracy; R² for numbers)",
    )
    parser.add_argument(
        "--class-weight",
        choices=("auto", "none", "balanced"),
        default="auto",
        help="balanced gives each label the same weight in the fit (default: auto, balanced with "
        "--metric balanced)",
    )
    parser.add_argument(
        "--tolerance",
        type=positive_number,
        default=0.0,
        metavar="X",
        help="relative duality gap at which a fit stops (default: the probe's own)",
    )
    parser.add_argument(
        "--max-iter",
        type=at_least(1),
        default=0,
        metavar="N",
        help="most iterations of a fit; fits that need more are counted as not converged "
        "(default: the probe's own)",
    )


def _add_statistics_options(parser: argparse.ArgumentParser) -> None:
    for name, default, what in (
        ("--permutations", 100, "refits with permuted labels, for p values; 0: none"),
        ("--controls", 5, "tasks of each control, for selectivity and capacity; 0: none"),
    ):
        parser.add_argument(
            name,
            type=at_least(0),
            default=default,
            metavar="N",
            help=f"{what} (default: {default})",
        )
    add_seed(parser, "folds, permutations and resamples")
    parser.add_argument(
        "--split-by",
        choices=SPLIT_BY,
        default=SPLIT_BY[0],
        help="what the folds hold out: images (groups), ordered pairs of names, or names; pairs and "
        "names replace the dataset's own split (default: %(default)s)",
    )
    parser.add_argument(
        "--folds",
        type=at_least(2),
        default=5,
        metavar="N",
        help="number of folds (default: %(default)s); a dataset with train, val and test rows has none",
    )
    parser.add_argument(
        "--repeats",
        type=at_least(1),
        default=2,
        metavar="N",
        help="repetitions of cross-validation, if the dataset has no split of its own (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--resamples",
        type=at_least(1),
        default=2000,
        metavar="N",
        help="bootstrap resamples of groups, for confidence intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--answer-score",
        choices=ANSWER_SCORES,
        default="total",
        help="what chooses the model's own answer among the options of a row, if the run stores "
        "answers: their log-likelihood, that per token or character, or corrected: minus that with a "
        "blank picture, from a run of the variant blank (default: %(default)s)",
    )
    _add_over(parser, "by 100 refits on resamples of them")
    parser.add_argument(
        "--no-curve", action="store_true", help="skip the learning curve and online code length"
    )
    parser.add_argument(
        "--no-random",
        action="store_true",
        help="skip the baseline on random features, which results of the untrained model "
        "(`vsp plan --weights random`) replace",
    )
    parser.add_argument(
        "--no-words", action="store_true", help="skip the baselines on names, words and boxes"
    )


def _add_over(parser: argparse.ArgumentParser, how: str) -> None:
    parser.add_argument(
        "--over",
        choices=("test", "training"),
        default="test",
        help="what intervals are about: other test rows (default), or also other training rows: "
        f"{how}; with folds, intervals always include both",
    )


def _probe(arguments: argparse.Namespace) -> None:
    from vsp.evaluation.parallel_fits import usable_jobs
    from vsp.evaluation.probe_run import probe_part, probe_run
    from vsp.evaluation.probe_settings import ProbeSettings
    from vsp.reporting.probe_report import equal_states_lines
    from vsp.storage.results import Results
    from vsp.storage.run import find_run
    from vsp.utils.text import format_count

    run = find_run(arguments.run, Path())
    n_jobs = usable_jobs(arguments.n_jobs)
    if n_jobs < arguments.n_jobs:
        print_notes(
            [f"{arguments.n_jobs} workers asked for; using {n_jobs}, the number of usable cores"]
        )
    settings = ProbeSettings(
        probe=arguments.probe,
        treatment=arguments.treatment or "",
        position=arguments.position,
        strengths=tuple(arguments.grid),
        metric=arguments.metric,
        class_weight=arguments.class_weight,
        tolerance=arguments.tolerance,
        max_iter=arguments.max_iter,
        split_by=arguments.split_by,
        folds=arguments.folds,
        repeats=arguments.repeats,
        permutations=arguments.permutations,
        controls=arguments.controls,
        curve=not arguments.no_curve,
        random=not arguments.no_random,
        words=not arguments.no_words,
        seed=arguments.seed,
        over_training=arguments.over == "training",
        resamples=arguments.resamples,
        drop_labels=tuple(arguments.drop_label),
        answer_score=arguments.answer_score,
    )
    if arguments.part is not None:
        with stoppable() as stop, stop.free():  # a signal unwinds, so that workers end
            layers, folder = probe_part(run, settings, n_jobs, arguments.part, arguments.partial)
        n_layers = run.states(arguments.position).layout.n_layers
        print_line(_part_line(arguments.part, layers, n_layers, folder))
        return
    with stoppable() as stop, stop.free():
        results = probe_run(run, settings, n_jobs, arguments.partial, arguments.layers)
    summary = results.summary()
    rows = summary["rows"]
    if rows["done"] < rows["planned"]:
        print_line(f"left out {rows['failed']} failed and {rows['missing']} missing rows")
    for label, n in summary["dropped_labels"].items():
        print_line(f"left out {format_count(n, 'row')} with label {label!r} (--drop-label)")
    if summary["untrained"] and settings.random:
        untrained = Results(results.home.parent / summary["untrained"]).at(results.position).folder
        print_line(f"left out random features: {untrained} is the baseline in their place")
    print_notes([*_unused_options(settings, summary), *equal_states_lines(summary)])
    option = "" if arguments.position == LAST else f" --position {arguments.position}"
    print_line(f"wrote {results.folder}; `vsp report{run_option(arguments)}{option}` shows it")


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


def _add_report(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "report",
        _report,
        "show the accuracy of each layer",
        example="vsp report --plot accuracy.png",
        guide="docs/statistics.md",
        interrupted="results are unchanged",
    )
    parser.add_argument(
        "--run",
        metavar="NAME",
        help="run in results/, or the path of a run or of its results (default: the newest)",
    )
    add_position(parser)
    add_json(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot the curve as .png or .svg")
    parser.add_argument(
        "--rows",
        choices=ROW_KINDS,
        help="also list rows with the model's own answer: those whose label the probe of the selected "
        "layer reads in most repeats and the model does not say, the reverse, or all",
    )


def _report(arguments: argparse.Namespace) -> None:
    from vsp.reporting.probe_report import report_json, report_page
    from vsp.storage.find_results import find_results
    from vsp.utils.terminal import show

    results = find_results(arguments.run, Path(), arguments.position)
    if arguments.plot:
        from vsp.reporting.curve_plot import plot

        plot(results, arguments.plot)
        print_aside(f"wrote {arguments.plot}")
    if arguments.json:
        print_json(report_json(results, arguments.rows))
    else:
        show(report_page(results, arguments.rows))


def _add_compare(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "compare",
        _compare,
        "test whether runs differ on the same rows, layer by layer",
        example="vsp compare llava15-spatial llava15-blank-images --plot blank.png\n"
        "vsp compare llava15-spatial qwen2-spatial /shared/results/vila-spatial --json",
        guide="docs/statistics.md",
        interrupted="results are unchanged; the same command starts over",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run in results/, or the path of a run or of its results; the first is compared "
        "with each of the others",
    )
    parser.add_argument(
        "--positions",
        type=compared_positions,
        default=[LAST],
        metavar="LIST",
        help="where in the prompt the states were recorded: one position for all runs, or several of "
        f"one run, from {','.join(STORED_POSITIONS)} (default: last)",
    )
    add_seed(parser, "the sign-flip test and the bootstrap")
    _add_over(parser, "runs need `vsp probe --over training`")
    add_json(parser)
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="plot the curves of all runs as .png or .svg"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.evaluation.compare import ComparisonSettings, compare
    from vsp.reporting.comparison import comparison_page
    from vsp.storage.find_results import find_results
    from vsp.utils.terminal import show

    names, positions = arguments.runs, arguments.positions
    if len(positions) > 1 and len(names) > 1:
        raise ConfigError(
            f"--positions {','.join(positions)}: several positions of {len(names)} runs; name one run, "
            "or one position"
        )
    runs = [
        (name if len(positions) == 1 else f"{name} at {position}",
         find_results(name, Path(), position))
        for name in names
        for position in positions
    ]  # fmt: skip
    over_training = arguments.over == "training"
    settings = ComparisonSettings(seed=arguments.seed, over_training=over_training)
    pairs = compare(runs, settings)
    if arguments.plot:
        from vsp.reporting.curve_plot import plot_runs

        plot_runs(runs, arguments.plot)
        print_aside(f"wrote {arguments.plot}")
    if arguments.json:
        print_json([asdict(pair) for pair in pairs])
    else:
        show(comparison_page(pairs))
