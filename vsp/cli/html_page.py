"""`vsp report … --html FILE`: the page of one or several runs for a browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_run_option, at_least
from vsp.cli.output import print_aside, print_cautions
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.evaluation.transfer import Transfer
    from vsp.storage.results import Results

_SUFFIXES = (".html", ".htm")
# Options of `vsp report` that show one run.
_OF_ONE = ("plot", "csv", "markdown", "latex", "json", "save", "rows")


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add the runs, --html and --evaluation."""
    what = "run in results/, or the path of a run or of its results (default: the newest)"
    # SUPPRESS: an argument that is not there leaves the value of the option.
    parser.add_argument(
        "run", nargs="*", metavar="RUN", action=_Runs, default=argparse.SUPPRESS,
        help=f"{what}; several with --html",
    )  # fmt: skip
    add_run_option(parser, "the same for one run")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page for the browser: one file, without any request",
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FILE",
        help="output of `vsp evaluate --json`, whose transfer matrix --html shows",
    )
    parser.add_argument(
        "--gallery",
        type=at_least(0),
        metavar="N",
        help="most rows that --html shows with their pictures; 0: none (default: 200)",
    )
    parser.set_defaults(further_runs=None)


class _Runs(argparse.Action):
    """Stores the first run as `run` and the others as `further_runs`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        first, *further = dict.fromkeys(values)
        named = getattr(namespace, "run", None)
        if named not in (None, first):
            raise argparse.ArgumentError(None, f"two runs are named: {named} and {first}")
        namespace.run, namespace.further_runs = first, further or None


def check_page_options(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together, before anything is read."""
    path, further = arguments.html, arguments.further_runs or []
    if path is None and arguments.evaluation is not None:
        raise ConfigError(f"--evaluation {arguments.evaluation} needs --html FILE")
    if path is None and arguments.gallery is not None:
        raise ConfigError(f"--gallery {arguments.gallery} needs --html FILE")
    if path is None and further:
        raise ConfigError(
            f"{len(further) + 1} runs are named: `vsp report` shows one in the terminal; add --html FILE "
            "for a page of all, or use `vsp compare`"
        )
    if path is not None and path.suffix not in _SUFFIXES:
        raise ConfigError(f"--html {path}: unknown suffix {path.suffix!r}; use .html")
    given = [f"--{name}" for name in _OF_ONE if getattr(arguments, name) not in (None, False)]
    if further and given:
        raise ConfigError(
            f"{', '.join(given)}: needs a single run, and {len(further) + 1} are named"
        )


def write_runs_page(arguments: argparse.Namespace, first: Results) -> None:
    """Write the page of the named runs; `first` are the results of the first one."""
    from vsp.reporting.names import display_names
    from vsp.reporting.page.gallery_section import GALLERY
    from vsp.reporting.page.page_run import read_page_run
    from vsp.reporting.page.report_page import runs_page
    from vsp.storage.find_results import find_results
    from vsp.utils.files import write_aside

    further = arguments.further_runs or []
    named = {arguments.run or first.name: first}
    for name in further:
        named[name] = find_results(name, Path(), arguments.position, arguments.probe)
    shown = display_names([*named])
    runs = [read_page_run(shown[name], results) for name, results in named.items()]
    gallery = GALLERY if arguments.gallery is None else arguments.gallery
    page = runs_page(
        runs, transfers=_transfers(arguments.evaluation), gallery=gallery, by=arguments.by
    )
    with write_aside(arguments.html) as file:
        file.write(page.text.encode())
    say_written([arguments.html], page.left_out)


def say_written(paths: Sequence[Path], left_out: Sequence[str]) -> None:
    """Print the paths of files, and what the page among them leaves out."""
    for path in paths:
        print_aside(f"wrote {path}")
    print_cautions([f"the page leaves out {one}" for one in left_out])


def _transfers(path: Path | None) -> list[Transfer]:
    """The evaluations in a file, with names instead of paths. Raises ConfigError for another file."""
    if path is None:
        return []
    from pydantic import TypeAdapter, ValidationError

    from vsp.evaluation.transfer import Transfer
    from vsp.reporting.transfer_page import with_names
    from vsp.utils.reading import MAX_JSON, read_bounded, unreadable

    try:
        body = read_bounded(path, MAX_JSON)
        return with_names(TypeAdapter(list[Transfer]).validate_json(body))
    except OSError as error:
        raise ConfigError(f"--evaluation {path}: {unreadable(error)}") from None
    except ValidationError:
        raise ConfigError(
            f"--evaluation {path}: is not the output of `vsp evaluate --json`; make it with `vsp "
            f"evaluate RUN… --on TARGET… --json > FILE`"
        ) from None
