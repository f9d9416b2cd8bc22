"""`vsp effects`: what interventions changed in the answers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_json, add_run, add_seed
from vsp.cli.output import print_aside, print_json, print_notes
from vsp.cli.paper_options import (
    Tables,
    add_figure,
    add_tables,
    check_paper_options,
    figure_style,
    other_option,
    write_or_show,
)
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.storage.found_effects import FoundEffects

FIGURES = ("dose", "layers", "map")
_DEFAULT = "dose for directions, map for patches, layers for erasures"


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "effects",
        _effects,
        "show what `vsp steer`, `vsp patch` or an erasure changed in the answers",
        example="vsp effects llava15-spatial-steer --plot dose.png\n"
        "vsp effects llava15-spatial-patch --plot map.pdf --csv patch.csv",
        guide="docs/effects.md",
        interrupted="results are unchanged; the same command starts over",
    )
    add_run(parser)
    parser.add_argument(
        "--scale",
        type=float,
        metavar="S",
        help="scale of directions on the page, in the table and in --figure layers (default: the one with "
        "effects in the most layers)",
    )
    add_seed(parser, "the bootstrap and the sign flips")
    add_json(parser)
    add_figure(parser, FIGURES, default=_DEFAULT)
    add_tables(parser)


def _effects(arguments: argparse.Namespace) -> None:
    from vsp.reporting.effects_page import (
        effects_csv,
        effects_page,
        effects_page_json,
        effects_table,
        shown_settings,
    )

    _check(arguments)
    found = _found(arguments)
    shown_settings(found, arguments.scale)  # raises if the scale was not computed
    _plot(arguments, found)
    tables = Tables(
        csv=lambda: effects_csv(found),
        paper=lambda: effects_table(found, arguments.scale, arguments.title),
    )
    write_or_show(
        arguments,
        tables,
        lambda: effects_page_json(found),
        lambda: effects_page(found, arguments.scale),
    )


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together, before anything is computed."""
    check_paper_options(arguments)
    if arguments.scale is None:
        return
    is_page = not (arguments.json or arguments.csv == Path("-"))
    uses = is_page or arguments.markdown or arguments.latex or arguments.figure == "layers"
    if not uses:
        raise ConfigError(
            f"--scale {arguments.scale:g}: applies to the page, to --markdown, --latex and --figure layers; "
            "CSV and JSON have all scales"
        )


def _found(arguments: argparse.Namespace) -> FoundEffects:
    """The effects of the run; of results whose run is gone, those that are stored."""
    from vsp.cli.chosen_run import chosen_run
    from vsp.evaluation.effects import EffectSettings
    from vsp.evaluation.effects_run import run_effects
    from vsp.storage.found_effects import effects_file

    kept = _kept_alone(arguments)
    if kept is not None:
        return kept
    run = chosen_run(arguments)
    found, was_stored = run_effects(run, EffectSettings(seed=arguments.seed))
    path = effects_file(run.results)
    if was_stored:
        print_notes([f"read from {path}, which is of the same rows"])
    else:
        print_aside(f"wrote {path}")
    return found


def _kept_alone(arguments: argparse.Namespace) -> FoundEffects | None:
    """Stored effects of a run that is no longer in scratch/; None if the run is there, or has none."""
    from vsp.storage.found_effects import effects_file, read_effects

    name, work = arguments.run, Path()
    if name is None or "/" in name or name in (".", "..") or (work / "scratch" / name).exists():
        return None
    home = work / "results" / name
    found = read_effects(home)
    if found is None:
        return None
    if arguments.seed != found.seed:
        raise ConfigError(
            f"--seed {arguments.seed}: {effects_file(home)} was computed with --seed {found.seed}, and run "
            f"{name} is no longer in scratch/"
        )
    print_notes([f"read from {effects_file(home)}; run {name} is no longer in scratch/"])
    return found


def _plot(arguments: argparse.Namespace, found: FoundEffects) -> None:
    if not arguments.plot:
        return
    from vsp.reporting.effects_plot import plot_effects

    plot_effects(found, arguments.plot, figure_style(arguments), arguments.figure, arguments.scale)
    print_aside(f"wrote {arguments.plot}")


def report_effects(arguments: argparse.Namespace) -> bool:
    """`vsp report` on a run of interventions: show its stored effects, or compute them.

    False if the run is another one. Raises ConfigError for options that apply to probes alone.
    """
    if not _is_of_effects(arguments.run):
        return False
    from vsp.reporting.effects_page import effects_page, effects_page_json
    from vsp.utils.terminal import show

    option = other_option(arguments, {"run", "json"})
    if option is not None:
        raise ConfigError(
            f"{option}: does not apply to run {arguments.run}, which has effects of interventions; "
            f"`vsp effects {arguments.run}` has figures and tables of them"
        )
    found = _found(argparse.Namespace(run=arguments.run, seed=0))
    if arguments.json:
        print_json(effects_page_json(found))
    else:
        show(effects_page(found))
    return True


def _is_of_effects(name: str | None) -> bool:
    """Whether a run of this name or path, or its kept results, are of interventions."""
    from vsp.errors import RunError
    from vsp.storage.found_effects import effects_file
    from vsp.storage.run import Run

    if name is None:
        return False
    folder = Path(name) if "/" in name or name in (".", "..") else Path("scratch") / name
    try:
        return Run.open(folder).plan.effects is not None
    except RunError:
        return (
            "/" not in name
            and not folder.exists()
            and effects_file(Path("results") / name).exists()
        )
