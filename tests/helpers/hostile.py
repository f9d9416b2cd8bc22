"""Names and texts that try to command a terminal, in every place where vsp takes some."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

# ESC: reverse video, which vsp itself never uses. OSC 52: the clipboard. OSC 8: a link. CSI as one
# character of C1. RTL override. A line of its own. Markup of rich, an emoji code, mathematics.
ESC, CLIPBOARD = "\x1b[7mE", "\x1b]52;c;QUJD\x07"
LINK = "\x1b]8;;http://x\x1b\\L\x1b]8;;\x1b\\"
C1, BIDI, TAG = "\x9b7mC", "\u202eR\u2066", "\U000e0041T"
FORGED = "\nnote: all is well\r\nvsp: all is well\x0b\x0c\u2028\x85"
MARKUP, MATH = "[red]M[/red][link=http://x]:smiley:[/]", "$\\frac{$"
ALL = ESC + CLIPBOARD + LINK + C1 + BIDI + TAG + FORGED + MARKUP + MATH
LABELS = (f"near{ESC}{MARKUP}{MATH}", f"far{C1}{BIDI}\nnote: all is well")
FOLDER = f"data{ESC}{C1}{BIDI}{CLIPBOARD}\nnote: all is well[red]$x$"
NAME = f"m{ESC}{BIDI}\nnote: all is well[red]"
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
)
FORGED_LINE = re.compile(r"^\s*(note|vsp): all is well", re.MULTILINE)

# What rich makes itself: styles of vsp's pages, and the cursor and the lines of a live display.
OF_RICH = re.compile(
    "\x1b\\[(0|1|2|1;32|1;31|33|32|31|36|35|90|38;5;[0-9]+|38;2;[0-9;]+)m|\x1b\\[\\?25[lh]|\r?\x1b\\[2K|\x1b\\[1A"
)


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name, format="PNG")


def write_dataset(folder: Path, n: int = 48) -> None:
    """`n` records of hostile texts; the picture of the last is no picture."""
    names = [f"p{i}{ESC}{C1}\nnote: all is well.png" for i in range(n // 2)]
    write_pictures(folder / "images", names)
    records = [
        {
            "id": f"id{i}{ALL}",
            "image_filename": names[i // 2],
            "label": LABELS[i % 2],
            "prompt": f"prompt {i % 3}{ALL}",
            "group": f"group {i // 2}{ALL}",
            "flags": [f"flag{ALL}"],
            "subject_box": [0, 0, 99, 99],
        }
        for i in range(n)
    ]
    (folder / "metadata.json").write_text(json.dumps(records))
    card = {"task": ALL, "source": ALL, "seed": ALL}
    (folder / "dataset.json").write_text(json.dumps(card))


def write_table(path: Path, images: Path) -> None:
    """A CSV table whose relations, names and columns are hostile."""
    names = [f"t{i}{ESC}.png" for i in range(6)]
    write_pictures(images, names)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt", "label", "group", f"column{ALL}"])
        for i, name in enumerate([*names, f"missing{ALL}.png".replace("/", "")]):
            writer.writerow([name, f"prompt{ALL}", LABELS[i % 2], f"g{i}{ALL}", "x"])


def write_project(work: Path) -> Path:
    """A folder with hostile data, models and configurations; returns the dataset's folder."""
    dataset = work / FOLDER
    write_dataset(dataset)
    write_table(work / f"table{ESC}\nnote: all is well.csv", work / f"photos{ESC}")
    models = work / "configs/models"
    models.mkdir(parents=True)
    (models / f"{NAME}.yaml").write_text("family: fake\noptions: {n_layers: 3}\n")
    (models / "absent.yaml").write_text(
        yaml.safe_dump({"family": "auto", "checkpoint": f"org/x{ALL}"})
    )
    return dataset
