"""Measure a checkpoint of the small model: its own answers, probes by layer, and controls.

    python tests/benchmarks/small_model.py data/models/small-llava

Prints the tables of the model's card. All rows are held out: they come from other seeds than the
training's pictures, and the probes are scored on the datasets' own test rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.answers import COLOR, RELATIONS, SPATIAL, Answerer, read_records

VARIANTS = ("swapped", "mirrored", "blank")
PRECISIONS = {
    "NF4": ("--quantization", "4bit"),
    "8-bit": ("--quantization", "8bit"),
    "float16": ("--dtype", "float16"),
    "bfloat16": ("--dtype", "bfloat16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--answers", type=int, default=300, help="rows asked in each style")
    parser.add_argument("--rows", type=int, default=3000, help="rows of each probed run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.checkpoint.absolute(), Path(folder), given.rows)
        figures = {"answers": bench.answers(given.answers), "probes": bench.probes()}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


class Bench:
    """The measurements, in a folder of their own."""

    def __init__(self, checkpoint: Path, work: Path, n_rows: int) -> None:
        self.checkpoint, self.work, self.n_rows = checkpoint, work, n_rows
        self._vsp("generate", "--config", "spatial")
        self._vsp("generate", "--config", "color")
        for name in VARIANTS:
            of = ("--of", "data/raw/spatial", "--variant", name)
            self._vsp("generate", *of, "--out", f"data/raw/{name}")

    def answers(self, n: int) -> dict[str, dict[str, float]]:
        """Share of right answers by dataset and style; for grey pictures the counts of answers."""
        asker, found = Answerer(self.checkpoint), {}
        print(f"\nOwn answers, share right of {n} rows:\n")
        print(f"| | {' | '.join(SPATIAL)} |\n|---{'|---' * len(SPATIAL)}|")
        for name in ("spatial", "color", "swapped", "mirrored", "blank"):
            dataset = self.work / "data/raw" / name
            records = read_records(dataset, n)
            styles = COLOR if name == "color" else SPATIAL
            found[name] = {style: asker.share_right(dataset, records, style) for style in styles}
            shares = " | ".join(f"{share:.3f}" for share in found[name].values())
            print(f"| {name} | {shares} |", flush=True)
        said = Counter(asker.answers(dataset, records, "instruction"))
        found["blank answers"] = dict(said)
        print(f"\nAnswers to grey pictures (instruction): {dict(said)}")
        print(f"share that is a label: {sum(said[one] for one in RELATIONS) / said.total():.3f}")
        return found

    def probes(self) -> dict[str, dict]:
        """Scores by layer of each dataset and precision, and of the control tasks."""
        runs = {name: (name, ()) for name in ("spatial", "color", *VARIANTS)}
        runs |= {name: ("spatial", options) for name, options in PRECISIONS.items()}
        found = {}
        for name, (dataset, options) in runs.items():
            found[name] = self._probe(name, dataset, options)
            scores = [f"{layer['score']:.3f}" for layer in found[name]["layers"]]
            if name == "spatial":
                print(f"\nProbes by layer, {found[name]['rows']['test']} test rows:\n")
                print(f"| | {' | '.join(map(str, range(len(scores))))} |")
                print(f"|---{'|---' * len(scores)}|")
            print(f"| {name} | {' | '.join(scores)} |", flush=True)
            if name == "spatial":
                controls = [f"{layer['control']:.3f}" for layer in found[name]["layers"]]
                print(f"| spatial, control tasks | {' | '.join(controls)} |")
                layer = found[name]["layers"][0]
                print(f"layer 0: interval [{layer['low']:.3f}, {layer['high']:.3f}]")
        return found

    def _probe(self, name: str, dataset: str, options: tuple[str, ...]) -> dict:
        limit = () if dataset == "color" else ("--limit", self.n_rows)
        self._vsp(
            "plan", "--model", "small", "--checkpoint", self.checkpoint, "--dataset",
            f"data/raw/{dataset}", "--run", name, *limit, *options,
        )  # fmt: skip
        self._vsp("extract", "--run", name)
        controls = ("--controls", 5 if name == "spatial" else 0)
        quick = ("--permutations", 0, "--no-curve", "--no-random")
        self._vsp("probe", "--run", name, *controls, *quick)
        return json.loads(self._vsp("report", "--run", name, "--json"))

    def _vsp(self, *arguments: object) -> str:
        command = [sys.executable, "-m", "vsp", *map(str, arguments)]
        answer = subprocess.run(command, cwd=self.work, capture_output=True, text=True)
        if answer.returncode:
            raise SystemExit(f"{' '.join(command)}\n{answer.stderr}")
        return answer.stdout


if __name__ == "__main__":
    main()
