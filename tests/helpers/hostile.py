"""Names and texts with terminal commands, for every input of vsp that may hold a name or a text."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from vsp.escaping import one_line

# ESC: reverse video, which vsp itself never uses. OSC 52 writes the clipboard, OSC 8 makes a link. C1
# has CSI as one character.
ESC, CLIPBOARD = "\x1b[7mE", "\x1b]52;c;QUJD\x07"
LINK = "\x1b]8;;http:x\x1b\\L\x1b]8;;\x1b\\"
C1, BIDI, TAG = "\x9b7mC", "\u202eR\u2066", "\U000e0041T"
LINE = "\nnote: all is well"
FORGED = f"{LINE}\r\nvsp: all is well\x0b\x0c\u2028\x85"
MARKUP, MATH = "[red]M[bold][link=http:x]:smiley:", "$\\frac{$"
NAME = ESC + CLIPBOARD + LINK + C1 + BIDI + TAG + FORGED + MARKUP + MATH  # of a file
TEXT = f"{NAME}[/]\x00\x7f"
LABELS = (f"near{ESC}{MARKUP}[/]{MATH}", f"far{C1}{BIDI}{LINE}\x7f")
FOLDER = f"data{ESC}{C1}{BIDI}{CLIPBOARD}{LINE}[red]$x$"
PICTURE = f"{ESC}{C1}{LINE}.png"
MODEL = f"m{ESC}{BIDI}{LINE}[red]"

HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
)
FORGED_LINE = re.compile(r"^\s*(note|vsp): all is well", re.MULTILINE)
# Escape sequences that rich writes: styles of pages and bars, and cursor moves of a live display.
OF_RICH = re.compile(
    r"\x1b\[(0|1|2|31|32|33|35|36|90|91|1;3[12]|38;5;\d+|38;2;[\d;]+)m|\x1b\[\?25[lh]|\r?\x1b\[2K|\x1b\[1A"
)


def is_shown(name: str, page: str) -> bool:
    """Whether a page shows the whole escaped name; other columns may stand between its folded lines."""
    ends = set(range(len(page)))
    for one in one_line(name):
        ends |= {_next_line(page, end) for end in ends}
        matched = {end + 1 for end in ends if page[end : end + 1] == one}
        # A space at which a line was wrapped is not shown.
        ends = matched | ends if one == " " else matched
    return bool(ends)


def _next_line(page: str, start: int) -> int:
    """The position of the first character of the next line that is not a space."""
    at = page.find("\n", start) + 1 or len(page)
    while page[at : at + 1] == " ":
        at += 1
    return at


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name, format="PNG")


def write_dataset(folder: Path, n: int = 24) -> None:
    """`n` records of hostile texts, two for each picture."""
    names = [f"p{i:02}{PICTURE}" for i in range(n // 2)]
    write_pictures(folder / "images", names)
    records = [
        {
            "id": f"id{i}{TEXT}",
            "image_filename": names[i // 2],
            "label": LABELS[i % 2],
            "prompt": f"prompt {i % 3}{TEXT}",
            "group": f"group {i // 2}{TEXT}",
            "flags": [f"flag{TEXT}"],
            "subject_box": [0, 0, 99, 99],
        }
        for i in range(n)
    ]
    (folder / "metadata.json").write_text(json.dumps(records))
    (folder / "dataset.json").write_text(json.dumps({"task": TEXT, "source": TEXT, "seed": TEXT}))


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_project(work: Path) -> Path:
    """A folder with hostile data, tables, models and configurations; returns the dataset's folder."""
    write_dataset(work / FOLDER)
    pictures = [f"t{i}{ESC}.png" for i in range(6)]
    write_pictures(work / "photos", pictures)
    pictures.append(f"missing{NAME}.png")
    head = ["image", "prompt", "label", "group", f"column{NAME}"]
    rows = [[name, f"p{NAME}", LABELS[i % 2], f"g{NAME}", "x"] for i, name in enumerate(pictures)]
    _write_csv(work / f"labels{ESC}{LINE}.csv", [head, *rows])
    relations = [[pictures[i], f"cup{NAME}", f"on{NAME}{i}", f"mat{NAME}"] for i in range(3)]
    relations.append([pictures[3], f"cup{NAME}", "left of", f"mat{NAME}"])
    _write_csv(work / "relations.csv", [["image", "subject", "relation", "object"], *relations])
    models = work / "configs/models"
    models.mkdir(parents=True)
    values = {
        MODEL: {"family": "fake", "options": {"n_layers": 3}},
        "absent": {"family": "auto", "checkpoint": f"org/x{NAME}"},
        "adapted": {"family": "llava15", "checkpoint": f"c{NAME}", "adapter": f"a{NAME}"},
    }
    for name, value in values.items():
        (models / f"{name}.yaml").write_text(yaml.safe_dump(value))
    configs = {
        "color": {
            "task": "color",
            "seed": 1,
            "n_samples": 4,
            "output": f"colors{ESC}{LINE}",
            "splits": "splits",
        },
        "unknown": {"task": TEXT, "n_samples": 4, "output": "x", "splits": "splits"},
        "profile": {"partition": TEXT},
        "local": {"scheduler": "local"},
    }
    for name, value in configs.items():
        (work / f"{name}.yaml").write_text(yaml.safe_dump(value))
    return work / FOLDER


def write_programs(folder: Path) -> None:
    """Batch programs that fail with a hostile message."""
    folder.mkdir()
    (folder / "message").write_text(TEXT.replace("\0", ""))
    for name in ("squeue", "sacct", "sbatch", "scontrol"):
        script = f"#!/bin/sh\ncat '{folder}/message' >&2\nexit 1\n"
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
