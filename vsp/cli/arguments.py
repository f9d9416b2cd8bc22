"""Argument types and options that several commands share, and the values made from them."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vsp.choices import LAST, MODULES, POSITIONS, STORED_POSITIONS, Module, Position
from vsp.cli.parser import EVERY_COMMAND
from vsp.utils.spelling import unknown_name

if TYPE_CHECKING:
    from vsp.config import ModelConfig, Profile

PROFILE = Path("jobs/slurm.yaml")


def add_command(
    subparsers: Any,
    name: str,
    handler: Callable[[argparse.Namespace], None],
    summary: str,
    *,
    example: str,
    guide: str,
    interrupted: str,
) -> argparse.ArgumentParser:
    """Add a command to the parser.

    `example` holds one command line per line. `guide` is the page in docs/ about the command.
    `interrupted` says what Ctrl-C leaves behind and how to go on.
    """
    examples = "\n".join(f"  {line}" for line in example.splitlines())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"example:\n{examples}\n\nguide: {guide}",
    )
    parser.set_defaults(handler=handler, interrupted=interrupted)
    add_saying(parser)
    return parser


def add_saying(parser: argparse.ArgumentParser) -> None:
    """Add --quiet and --verbose, which stand before or after the name of a command."""
    group = parser.add_argument_group(EVERY_COMMAND)
    for option, what in (
        ("--quiet", "leave out progress and notes, not results, errors and what concerns results"),
        ("--verbose", "also print the notes of libraries and the causes of errors"),
    ):
        # Without a default, a command keeps what stands before its name.
        group.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=what)


def add_run(
    parser: argparse.ArgumentParser,
    what: str = "run in scratch/, or its path (default: the newest run)",
) -> None:
    """Add the run as an argument RUN, and as an option --run of the same meaning."""
    # SUPPRESS: an argument that is not there leaves the value of the option.
    parser.add_argument(
        "run", nargs="?", metavar="RUN", action=_OneRun, default=argparse.SUPPRESS, help=what
    )
    add_run_option(parser, "the same")


def add_run_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--run", metavar="RUN", action=_OneRun, help=what)


class _OneRun(argparse.Action):
    """Stores the name of a run, and refuses a second one."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        named = getattr(namespace, self.dest, None)
        if named not in (None, values):
            raise argparse.ArgumentError(None, f"two runs are named: {named} and {values}")
        setattr(namespace, self.dest, values)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_seed(parser: argparse._ActionsContainer, what: str) -> None:
    parser.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        metavar="N",
        help=f"random seed for {what} (default: 0)",
    )


def add_drop_label(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--drop-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="leave out the rows with this label; may be repeated",
    )


def add_n_jobs(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--n-jobs`. The variable VSP_N_JOBS names another default than all cores."""
    parser.add_argument(
        "--n-jobs",
        type=at_least(1),
        default=os.environ.get("VSP_N_JOBS", os.cpu_count()),  # a text is checked as one typed
        metavar="N",
        help=f"{what} (default: $VSP_N_JOBS, or all cores)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=at_least(0),
        metavar="N",
        help="processes that decode images ahead of the model; results do not depend on it "
        "(default: with a GPU and 3 cores or more, the number of cores less one, at most 8; otherwise 0)",
    )


def add_retry_failed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retry-failed", action="store_true", help="also compute failed rows again"
    )


def add_requeue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requeue",
        type=at_least(0),
        default=0,
        metavar="N",
        help="near its time limit (SIGUSR1), a task of the batch system goes back into the queue, at "
        "most N times; without a queue, the command starts again (default: 0)",
    )


def add_profile(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help=f"scheduler profile (default: {PROFILE})",
    )


def add_model(group: argparse._ActionsContainer, required: bool) -> None:
    group.add_argument(
        "--model",
        required=required,
        metavar="NAME",
        help="a model family such as llava15, a file in configs/models/ (`vsp models` lists "
        "them), or the path of a .yaml file",
    )
    add_model_options(group)


def add_model_options(group: argparse._ActionsContainer) -> None:
    """Options that change what the file of a model says."""
    group.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="folder in save_pretrained layout, or name on the Hugging Face hub (default: as the "
        "model's file says)",
    )
    group.add_argument("--revision", help="revision of a checkpoint on the hub")
    group.add_argument(
        "--adapter", metavar="DIR", help="LoRA adapter of the checkpoint, as PEFT saves it"
    )
    group.add_argument(
        "--quantization",
        choices=("none", "4bit", "8bit"),
        help="quantization of the language model's weights (default: as the model's file says, usually 4bit)",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16", "float32"),
        help="data type of the computation; auto: as the checkpoint was saved (default: as the "
        "model's file says)",
    )
    group.add_argument(
        "--weights",
        choices=("checkpoint", "random"),
        help="random: an untrained model of the checkpoint's shape (default: checkpoint)",
    )
    group.add_argument(
        "--option",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the model family; may be repeated",
    )


def model_config(arguments: argparse.Namespace, name: str | None = None) -> ModelConfig:
    """The model that the options of `add_model` describe, by default that of --model."""
    from vsp.models import catalog

    return catalog.find(
        name or arguments.model,
        Path(),
        checkpoint=arguments.checkpoint,
        revision=arguments.revision,
        adapter=arguments.adapter,
        quantization=arguments.quantization,
        dtype=arguments.dtype,
        weights=arguments.weights,
        options=dict(arguments.option) or None,
    )


def read_profile(path: Path | None, *, log: bool = True, work: Path | None = None) -> Profile:
    """The scheduler profile in that file, or else in `jobs/slurm.yaml` of the folder `work`.

    With `log`, the log says which `jobs/slurm.yaml` is used: the user's or the shipped one.
    """
    from vsp.config import Profile, parse, read_yaml
    from vsp.utils.config_files import find_config

    if path is None:
        path = find_config(str(PROFILE), "", work or Path(), log=log)
    return parse(Profile, read_yaml(path), str(path)) if path else Profile()


def run_option(arguments: argparse.Namespace) -> str:
    """` --run NAME` as the user gave it, for commands in messages; empty for the newest run."""
    return f" --run {shlex.quote(arguments.run)}" if arguments.run else ""


def at_least(minimum: int) -> Callable[[str], int]:
    """The argument type of integers from `minimum`."""

    def integer(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be an integer ≥ {minimum}")
        return int(text)

    return integer


def device_count(text: str) -> int | Literal["auto"]:
    """The argument type of --devices."""
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"{text!r} must be auto or an integer ≥ 1")
    return "auto" if text == "auto" else int(text)


def positions(text: str) -> tuple[Position, ...]:
    """The argument type of --positions: the last token, then those named, in the usual order."""
    named = _names(text, POSITIONS)
    return tuple(name for name in POSITIONS if name == LAST or name in named)


def modules(text: str) -> tuple[Module, ...]:
    """The argument type of --modules: in the usual order."""
    named = _names(text, MODULES)
    return tuple(name for name in MODULES if name in named)


def compared_positions(text: str) -> list[str]:
    """The argument type of --positions of a comparison: in the order given."""
    return _names(text, STORED_POSITIONS)


def _names(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between them, each of which is known."""
    named = text.split(",")
    unknown = [name for name in named if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(unknown_name("name", unknown[0], known))
    return named


def add_position(
    parser: argparse.ArgumentParser, further: Sequence[str] = (), default: str | None = LAST
) -> None:
    """Add --position; `further` are values that are not names of a position."""
    parser.add_argument(
        "--position",
        choices=(*STORED_POSITIONS, *further),
        metavar="NAME",
        default=default,
        help="where the probed states were recorded, a position of `vsp plan --positions`, or with a "
        "module of --modules ahead of it: vision-image"
        f"{''.join(f'; {one}: each that the run has' for one in further)} (default: the last token)",
    )


def add_layers(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--layers",
        type=layer_list,
        metavar="LIST",
        help="only these layers, as 0,8-16 (default: all)",
    )


def add_results_choice(parser: argparse.ArgumentParser, several: str = "") -> None:
    """Add the options that choose among the settings of which a run has results.

    `several` says when --probe may be given more than once; its value is then a list.
    """
    add_position(parser, default=None)
    parser.add_argument(
        "--probe",
        metavar="SETTING",
        action="append" if several else "store",
        help="setting of `vsp probe`, a folder in results/RUN/ such as mass-mean, or the name of a "
        f"probe{several} (default: the newest results at the position)",
    )


def add_over(parser: argparse.ArgumentParser, how: str) -> None:
    parser.add_argument(
        "--over",
        choices=("test", "training"),
        default="test",
        help="what intervals are about: other test rows (default), or also other training rows: "
        f"{how}; with folds, intervals always include both",
    )


def positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number > 0")
    return value


def fraction(text: str) -> float:
    value = positive_number(text)
    if not value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return value


def layer_list(text: str) -> list[int]:
    """Layer numbers in the short form: 0,8-16."""
    layers: list[int] = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r}: write layers as 0,8-16")
        if dash and int(last) < int(first):
            raise argparse.ArgumentTypeError(
                f"{item!r} ends before it begins: write {last}-{first}"
            )
        layers += range(int(first), int(last if dash else first) + 1)
    return layers


def part_of(text: str) -> tuple[int, int]:
    """A part K of N, counted from 0: 0/4."""
    k, separator, n = text.partition("/")
    if not separator or not k.isdecimal() or not n.isdecimal() or not int(k) < int(n):
        raise argparse.ArgumentTypeError(f"{text!r} must be K/N, a part from 0/N to N-1/N")
    return int(k), int(n)


def key_text(text: str) -> tuple[str, str]:
    """A key and its value as it is written: image={id}.png."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE")
    return key, value


def key_value(text: str) -> tuple[str, Any]:
    """A key and its value in YAML."""
    from vsp.utils.yaml_text import parse_yaml

    key, value = key_text(text)
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE in YAML: {error}") from None
