"""`vsp import states`: make a read-only run of states that other programs stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from vsp.choices import LAST_LAYERS
from vsp.cli.arguments import layer_list
from vsp.cli.output import print_cautions, print_json, print_line
from vsp.errors import ConfigError
from vsp.utils.signals import stoppable

STATES = "states"  # the SOURCE of these files
_OPTIONS = ("--split", "--split-files", "--layers", "--last-layer")
_COMMON = ("--out", "--json", "--n-jobs")  # options of datasets too


def add_state_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--split",
        choices=("research",),
        help="research: the split of the research project, 80 %% of the rows train and the others val, "
        "drawn by row with RandomState(42) (default: the splits of the file, or folds by image)",
    )
    group.add_argument(
        "--split-files",
        type=Path,
        nargs=2,
        metavar=("TRAIN", "VAL"),
        help="two lists in JSON with the ids or images of the rows of each side",
    )
    group.add_argument(
        "--layers",
        type=layer_list,
        metavar="LIST",
        help="the layers of the model that the file has, as 0-32; 0 is the embedding output (default: as "
        "the file says, otherwise from 0 on)",
    )
    group.add_argument(
        "--last-layer",
        choices=LAST_LAYERS,
        help="whether the last layer of the file is after the model's final norm (default: as the file "
        "says, otherwise normed, as in transformers' hidden_states)",
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Raise ConfigError if an option or FILE belongs to the other kind of source."""
    of_states = arguments.source == STATES
    given = [word.partition("=")[0] for word in arguments.words if word.startswith("--")]
    for option in given:
        if of_states and option not in (*_OPTIONS, *_COMMON):
            raise ConfigError(f"{option} is about datasets; leave it out of `vsp import {STATES}`")
        if not of_states and option in _OPTIONS:
            raise ConfigError(f"{option} is about states; use it with `vsp import {STATES}`")
    if arguments.files and not of_states:
        raise ConfigError(
            f"{arguments.files[0]}: name files of the source {arguments.source!r} with --annotations"
        )
    if arguments.out is None:
        raise ConfigError("--out is missing; name the new folder")


def import_states(arguments: argparse.Namespace) -> None:
    from vsp.storage import imported_run
    from vsp.storage.state_files import open_state_file
    from vsp.utils.text import format_count

    if len(arguments.files) != 1:
        raise ConfigError(
            f"{format_count(len(arguments.files), 'file')} named; name one file or folder of states: "
            f"`vsp import {STATES} FILE --out scratch/NAME`"
        )
    if arguments.split and arguments.split_files:
        raise ConfigError("--split and --split-files exclude each other; keep one of them")
    with stoppable() as stop:
        with stop.free():  # a signal unwinds, so that nothing half made is left
            source = open_state_file(arguments.files[0], arguments.layers, arguments.last_layer)
            made = imported_run.import_states(
                source, arguments.out, arguments.split, arguments.split_files or (), stop.hold
            )
        arguments.interrupted = f"run {made.run.name} is imported"
        print_cautions(made.notes)
        plan = made.run.plan
        if arguments.json:
            print_json({"run": made.run.name, "fresh": made.fresh, "rows": plan.n_samples,
                        "failed": made.n_failed, "notes": list(made.notes)})  # fmt: skip
        else:
            verb = "imported" if made.fresh else "already there:"
            failed = (
                f", {made.n_failed:,} failed because a value is not finite" if made.n_failed else ""
            )
            print_line(
                f"{verb} {format_count(plan.n_samples, 'row')} of {plan.n_layers} layers × "
                f"{plan.hidden_size} ({plan.dtype}) in {made.run.folder}{failed}"
            )
        with stop.free():  # raises for a signal that came since the run has its name
            pass
