"""Commands that show results: `vsp report` and `vsp compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vsp.choices import ROW_KINDS, STORED_POSITIONS
from vsp.cli.arguments import (
    add_command,
    add_json,
    add_over,
    add_results_choice,
    add_seed,
    at_least,
    compared_positions,
    fraction,
)
from vsp.cli.chosen_run import chosen_results
from vsp.cli.compared_runs import compared_runs
from vsp.cli.effects import report_effects
from vsp.cli.html_page import add_page, check_page_options, say_written, write_runs_page
from vsp.cli.output import print_aside, print_json, print_line
from vsp.cli.paper_options import (
    Tables,
    add_figure,
    add_tables,
    check_paper_options,
    figure_style,
    write_tables,
)
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.evaluation.compare import Pair
    from vsp.evaluation.strata import Strata
    from vsp.storage.results import Results


def add_commands(subparsers: Any) -> None:
    _add_report(subparsers)
    _add_compare(subparsers)


def _add_report(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "report",
        _report,
        "show the accuracy of each layer",
        example="vsp report --plot accuracy.png\n"
        "vsp report --plot classes.pdf --figure classes --width single --latex table.tex",
        guide="docs/statistics.md",
        interrupted="results are unchanged",
    )
    add_page(parser)
    parser.add_argument(
        "--study", metavar="NAME", help="report a study in studies/ as one, in place of a run"
    )
    add_results_choice(parser, "; with --save it may be repeated, and each is shown and written")
    add_json(parser)
    add_figure(parser, ("curve", "classes", "confusion", "heatmap"))
    parser.add_argument(
        "--layer",
        type=at_least(0),
        metavar="N",
        dest="figure_layer",
        help="layer of --figure confusion (default: the selected one)",
    )
    add_tables(parser)
    _add_further_parts(parser)


def _add_further_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--save",
        action="store_true",
        help="write report.txt and figures into the folder of the results, besides showing the page, "
        "and the first sentences of all settings to results/RUN/report.txt",
    )
    parser.add_argument(
        "--rows",
        choices=ROW_KINDS,
        help="also list rows with the model's own answer: those whose label the probe of the selected "
        "layer reads in most repeats and the model does not say, the reverse, or all",
    )
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="also show the accuracy for each value of a field of the dataset's records, and the gaps; "
        "usual-label: whether the label is the usual one of the two names; box-cue: whether it is the "
        "one that boxes suggest",
    )
    parser.add_argument(
        "--margin",
        type=fraction,
        metavar="SHARE",
        help="of --study: differences below it count as none in the verdict (default: 0.05, five points)",
    )


def _report(arguments: argparse.Namespace) -> None:
    if arguments.study is not None:
        from vsp.cli.reported_study import report_study

        report_study(arguments)
        return
    check_paper_options(arguments)
    check_page_options(arguments)
    if report_effects(arguments):
        return
    _check_by(arguments)
    if arguments.margin is not None:
        raise ConfigError(f"--margin {arguments.margin:g} needs --study NAME")
    settings = arguments.probe or [None]
    if len(settings) > 1:
        _check_several(arguments)
    for i, arguments.probe in enumerate(settings):
        if i:
            print_line()
        _report_setting(arguments)


def _check_several(arguments: argparse.Namespace) -> None:
    """Raise ConfigError unless the options fit several settings."""
    files = {"--plot": arguments.plot, "--csv": arguments.csv, "--markdown": arguments.markdown,
             "--latex": arguments.latex, "--json": arguments.json, "--html": arguments.html}  # fmt: skip
    given = [option for option, value in files.items() if value]
    if given or not arguments.save:
        what = f"{given[0]} takes one" if given else "without --save, name one"
        raise ConfigError(
            f"--probe is given {len(arguments.probe)} times: {what}; `vsp compare RUN --probe A --probe "
            "B` compares two"
        )


def _report_setting(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.reporting.layer_paper_table import layer_csv, layer_paper_table
    from vsp.reporting.probe_report import report_json, report_page
    from vsp.reporting.strata_page import strata_page
    from vsp.utils.terminal import show

    results = chosen_results(arguments)
    if arguments.html:
        write_runs_page(arguments, results)
        if arguments.further_runs:
            return
    strata = _strata(arguments, results)
    _plot_report(arguments, results)
    if arguments.save:
        from vsp.reporting.saved_report import save_report

        say_written(*save_report(results))
    tables = Tables(
        csv=lambda: layer_csv(results), paper=lambda: layer_paper_table(results, arguments.title)
    )
    if write_tables(arguments, tables):
        return
    if arguments.json:
        values = report_json(results, arguments.rows)
        print_json(values if strata is None else {**values, "by": asdict(strata)})
    else:
        show(report_page(results, arguments.rows))
        if strata is not None:
            print_line()
            show(strata_page(strata))


def _check_by(arguments: argparse.Namespace) -> None:
    """Raise ConfigError if a table takes the place of the page with the strata."""
    if arguments.by is None:
        return
    for name in ("csv", "markdown", "latex"):
        if getattr(arguments, name):
            raise ConfigError(
                f"--by {arguments.by}: is not part of --{name}, which has a row for each layer; use --json"
            )


def _strata(arguments: argparse.Namespace, results: Results) -> Strata | None:
    """The scores by the field of --by; None without it."""
    if arguments.by is None:
        return None
    from vsp.evaluation.strata import strata_of

    return strata_of(results, arguments.by)


def _plot_report(arguments: argparse.Namespace, results: Results) -> None:
    """Draw the figure that the options ask for."""
    kind = arguments.figure or "curve"
    if arguments.figure_layer is not None and kind != "confusion":
        raise ConfigError(
            f"--layer {arguments.figure_layer}: applies to --plot FILE --figure confusion; the other figures "
            "have all layers"
        )
    if not arguments.plot:
        return
    style, path = figure_style(arguments), arguments.plot
    if kind == "curve":
        from vsp.reporting.curve_plot import plot

        plot(results, path, style)
    else:
        from vsp.reporting.class_plots import plot_classes, plot_confusion, plot_heatmap

        if kind == "confusion":
            plot_confusion(results, path, style, arguments.figure_layer)
        else:
            {"classes": plot_classes, "heatmap": plot_heatmap}[kind](results, path, style)
    print_aside(f"wrote {path}")


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
        metavar="LIST",
        help="where in the prompt the states were recorded: one position for all runs, or several of "
        f"one run, from {','.join(STORED_POSITIONS)} (default: last)",
    )
    parser.add_argument(
        "--probe",
        action="append",
        metavar="SETTING",
        help="setting of `vsp probe`, a folder in results/RUN/ such as mass-mean, or the name of a "
        "probe; given several times, the settings of one run are compared (default: the newest of "
        "the first run, and the same of the others if they have it)",
    )
    add_seed(parser, "the sign-flip test and the bootstrap")
    add_over(parser, "runs need `vsp probe --over training`")
    add_json(parser)
    add_figure(parser, ("curve", "difference"), axis=True)
    add_tables(parser)


def _compare(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vsp.evaluation.compare import ComparisonSettings, compare
    from vsp.evaluation.run_differences import differences_sentence, run_differences
    from vsp.reporting.comparison import comparison_page
    from vsp.reporting.comparison_table import comparison_csv, comparison_table
    from vsp.reporting.names import display_names
    from vsp.utils.terminal import show

    check_paper_options(arguments)
    runs = compared_runs(arguments)
    over_training = arguments.over == "training"
    settings = ComparisonSettings(seed=arguments.seed, over_training=over_training)
    pairs = compare(runs, settings)
    shown = display_names([name for name, _ in runs])
    named = [(shown[name], results) for name, results in runs]
    _plot_comparison(arguments, pairs, named)
    tables = Tables(
        csv=lambda: comparison_csv(pairs, [name for name, _ in named]),
        paper=lambda: comparison_table(pairs, named, arguments.title),
    )
    if write_tables(arguments, tables):
        return
    all_results = [results for _, results in runs]
    if arguments.json:
        differs = [run_differences([all_results[0], other]) for other in all_results[1:]]
        print_json([
            {**asdict(pair), "differs": {one.what: one.values for one in of_pair}}
            for pair, of_pair in zip(pairs, differs, strict=True)
        ])  # fmt: skip
    else:
        differences = run_differences(all_results)
        show(comparison_page(pairs, differences_sentence([n for n, _ in named], differences)))


def _plot_comparison(
    arguments: argparse.Namespace, pairs: Sequence[Pair], named: Sequence[tuple[str, Results]]
) -> None:
    """Draw the figure that the options ask for; `named` are names and results of the runs."""
    if not arguments.plot:
        return
    style, path, axis = figure_style(arguments), arguments.plot, arguments.layer_axis
    if arguments.figure == "difference":
        from vsp.reporting.difference_plot import plot_differences

        plot_differences(pairs, named, path, style, axis)
    else:
        from vsp.reporting.curve_plot import plot_runs

        plot_runs(named, path, style, axis)
    print_aside(f"wrote {path}")
