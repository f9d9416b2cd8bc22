"""Write a dataset folder as a flat CSV: img_path, subj, obj, relationship."""

from __future__ import annotations

from pathlib import Path

from vsp.datasets.json_stream import read_records
from vsp.datasets.prompts import label_words
from vsp.utils.csv_lines import csv_line
from vsp.utils.files import write_aside

_HEADER = ("img_path", "subj", "obj", "relationship")


def write_table(folder: Path, path: Path) -> int:
    """Write the records of `folder` to `path`. Return the number of records left out.

    A record with its own prompt has no place in the table.
    """
    n_left_out = 0
    with write_aside(path) as file:
        file.write(csv_line(*_HEADER))
        for record in read_records(folder / "metadata.json"):
            if "prompt" in record:
                n_left_out += 1
                continue
            image = folder / "images" / record["image_filename"]
            names = (record["subject"], record["reference"])
            file.write(csv_line(image, *names, label_words(record["label"])))
    return n_left_out
