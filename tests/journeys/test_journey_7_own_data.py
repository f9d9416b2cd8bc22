"""Own data with mistakes in it.

A user has photographs and a table that a colleague typed.
"""

import numpy as np
import pytest
from helpers.journey import User
from PIL import Image

RIGHT = "img_path,subj,obj,relationship\n"
WORDS = ("left of", "right of", "above", "below")


@pytest.fixture
def photographs(work):
    """24 pictures, and tables about them."""
    (work / "photos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(work / f"photos/p{i:02}.png")
        rows.append(f"p{i:02}.png,cup,book,{WORDS[i % 4]}\n")
    (work / "own.csv").write_text(RIGHT + "".join(rows))
    (work / "heads.csv").write_text("picture,first,second,word\n" + "".join(rows))
    (work / "quoted.csv").write_text(RIGHT + 'p00.png,"cup,book,left of\n' + "".join(rows))
    (work / "odd.csv").write_text(
        RIGHT + "".join(rows[:20]) + "gone.png,cup,book,above\np21.png,cup,cup,above\n"
        "p22.png,cup,book,besides\np23.png,book,cup,below\n"
    )
    return work


def test_own_data_with_mistakes_are_imported(photographs):
    user = User(photographs)
    seen = user.types(
        86, "vsp import own.csv", "which source reads it, and the command", "csv", "vsp import csv"
    )
    assert "vsp import csv --annotations own.csv" in seen.words
    user.types(
        87, "vsp import csv --annotations onw.csv --out data/own", "that there is no such file",
        "onw.csv", code=1,
    )  # fmt: skip
    user.types(
        88, "vsp import csv --annotations own.csv", "that the folder is missing", "--out", code=1
    )
    user.types(
        89, "vsp import csv --annotations quoted.csv --images photos --out data/quoted",
        "the line that has the mistake", "quoted.csv", "line 2", code=1,
    )  # fmt: skip
    user.types(
        90, "vsp import csv --annotations heads.csv --images photos --out data/heads",
        "which columns are read", "heads.csv", "subject, object and relation", code=1,
    )  # fmt: skip
    user.types(
        91, "vsp import csv --annotations odd.csv --images photos --out data/odd --check",
        "a table of the rows that were dropped, and why", "rows in 24", "rows out", "other relation",
        "missing",
    )  # fmt: skip
    assert "gone.png" in (photographs / "data/odd/dropped.csv").read_text()
    user.types(
        92, "vsp import csv --annotations own.csv --images photos --out data/own", "all rows are kept",
        "rows in 24", "rows out",
    )  # fmt: skip
    user.types(
        93, "vsp import csv --annotations own.csv --images photos --out data/odd",
        "that the folder holds another dataset", "data/odd", code=1,
    )  # fmt: skip
    user.types(94, "vsp dataset show data/own", "labels and prompts", "left_of", "24 ")
    (photographs / "photos/p03.png").write_bytes(b"no picture")
    user.types(
        95, "vsp plan --model fake --dataset data/own", "the picture that cannot be read, and the way out",
        "p03.png", "--drop-unreadable", code=1,
    )  # fmt: skip
    user.types(
        96, "vsp plan --model fake --dataset data/own --drop-unreadable --option n_layers=2",
        "a run of the other rows", "23 rows", "fake-own",
    )  # fmt: skip
    user.types(97, "vsp extract", "all rows", "23 rows done")
    user.types(
        98, "vsp probe --permutations 0 --controls 0 --no-curve --no-random --n-jobs 1",
        "results, or why there are too few rows",
    )  # fmt: skip
    user.types(
        99, "vsp plan --model fake --dataset data/raw/own", "the dataset that was meant", "data/raw/own",
        code=1,
    )  # fmt: skip
