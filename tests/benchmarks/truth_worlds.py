"""Figures of `vsp probe` and `vsp compare` in planted worlds whose truth is known, in one table.

    python tests/benchmarks/truth_worlds.py --worlds 200 --save after.json --before before.json

Each world is drawn many times, written into a run and probed by the programme itself. The table has
a line for each figure: its true value, and the value that the programme reports. By default each
world is drawn a few times, which takes some minutes; `--worlds` sets the number of draws.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import truth_copies
import truth_nulls
import truth_planted as planted
import truth_vrd
from truth_figures import Line


@dataclass(frozen=True)
class World:
    """A world: one draw by its seed, and the lines of the table from all draws."""

    draw: Callable[[int], dict[str, Any]]
    lines: Callable[[Sequence[dict[str, Any]]], list[Line]]
    n: int  # draws by default
    most: int = 10**9  # draws at most, since one takes long


def worlds(n_vrd: int) -> dict[str, World]:
    """All worlds by their short names."""
    found = {"layers": World(planted.null_layers, planted.null_layer_lines, 40)}
    if truth_vrd.available():
        for name, sighted, lines in (
            ("blind", False, truth_vrd.blind_lines),
            ("sighted", True, truth_vrd.sighted_lines),
        ):
            draw = partial(truth_vrd.blind, n=n_vrd, sighted=sighted)
            found[name] = World(draw, partial(lines, n_vrd), 2, 4 if n_vrd else 1)
    for resized in (False, True):
        draw = partial(truth_copies.copies, resized=resized)
        lines = partial(truth_copies.lines, resized)
        found["resized" if resized else "copies"] = World(draw, lines, 4, 40)
    for kind in ("clear", "hard"):
        draw = partial(planted.code_length, kind=kind)
        found[f"code-{kind}"] = World(draw, partial(planted.code_lines, kind), 8, 40)
    found["calibration"] = World(planted.calibrated, planted.calibration_lines, 100)
    for kind in ("label and prompt", "label alone", "label and names"):
        draw = partial(planted.controls, kind=kind)
        lines = partial(planted.control_lines, kind)
        found[f"control-{kind.replace(' ', '-')}"] = World(draw, lines, 4, 40)
    for sizes in ((60, 600), (100, 2000)):
        draw = partial(planted.alike, n_train=sizes[0], n_test=sizes[1])
        found[f"alike-{sizes[0]}"] = World(draw, partial(planted.alike_lines, *sizes), 40)
    for part in (0.07, 0.1):
        draw = partial(planted.rare, part=part)
        found[f"rare-{100 * part:.0f}"] = World(draw, partial(planted.rare_lines, part), 40)
    for kind in truth_nulls.NULLS:
        draw, lines = partial(truth_nulls.simulate, kind=kind), partial(truth_nulls.lines, kind)
        found[f"null-{kind.replace(', ', '-').replace(' ', '-')}"] = World(draw, lines, 30)
    return found


def run_world(world: World, n: int, jobs: int) -> list[Line]:
    """The lines of a world that is drawn `n` times."""
    tasks = (joblib.delayed(_quiet)(world.draw, seed) for seed in range(min(n, world.most)))
    return world.lines(joblib.Parallel(n_jobs=jobs)(tasks))


def _quiet(draw: Callable[[int], dict[str, Any]], seed: int) -> dict[str, Any]:
    """Draw without the progress that the programme prints."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        return draw(seed)


def page(lines: Sequence[Line], before: Sequence[Line] = ()) -> str:
    """Two Markdown tables: planted worlds, and shares of false positives in null worlds.

    With `before`, the values of an earlier version stand beside the others.
    """
    earlier = {(line.world, line.figure): line.value for line in before}
    planted_lines = [line for line in lines if not line.world.startswith(truth_nulls.PREFIX)]
    nulls = [line for line in lines if line.world.startswith(truth_nulls.PREFIX)]
    parts = [_planted_table(planted_lines, earlier)] if planted_lines else []
    return "\n\n".join([*parts, *([_null_table(nulls, earlier)] if nulls else [])])


def _planted_table(lines: Sequence[Line], earlier: Mapping[tuple[str, str], str]) -> str:
    head = ["world", "figure", "truth", *(["before"] if earlier else []), "value"]
    rows = []
    for line in lines:
        old = [earlier.get((line.world, line.figure), "–")] if earlier else []
        rows.append([line.world, line.figure, line.truth, *old, line.value])
    return _markdown(head, rows)


def _null_table(lines: Sequence[Line], earlier: Mapping[tuple[str, str], str]) -> str:
    """Percent of false positives: a row for each figure, a column for each null world."""
    columns = list(dict.fromkeys(line.world for line in lines))
    found = {(line.world, line.figure): line.value for line in lines}
    rows = []
    for figure in dict.fromkeys(line.figure for line in lines):
        cells = [found.get((world, figure), "–") for world in columns]
        if earlier:
            old = [earlier.get((world, figure), "–") for world in columns]
            cells = [f"{one} → {two}" for one, two in zip(old, cells, strict=True)]
        rows.append([figure, *cells])
    names = [world.removeprefix(truth_nulls.PREFIX) for world in columns]
    return _markdown(["% of false positives", *names], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, help="draws of each world (default: of each its own)")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the worlds' names")
    parser.add_argument("--vrd-rows", type=int, default=2500, help="rows of VRD; 0: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--save", type=Path, help="write the lines as JSON")
    parser.add_argument("--before", type=Path, help="lines of an earlier version, from --save")
    options = parser.parse_args()
    before = [Line(**one) for one in json.loads(options.before.read_text())] if options.before else []  # fmt: skip
    lines: list[Line] = []
    for name, world in worlds(options.vrd_rows).items():
        if name.startswith(tuple(options.only)):
            start = time.perf_counter()
            lines += run_world(world, options.worlds or world.n, options.jobs)
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
            if options.save:
                options.save.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    print(page(lines, before))


if __name__ == "__main__":
    main()
