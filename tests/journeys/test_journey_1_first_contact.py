"""First contact: from an empty folder to a curve.

A student has installed vsp and opens a terminal in an empty folder.
"""

from helpers.journey import User


def test_from_an_empty_folder_to_a_curve(work):
    user = User(work)
    seen = user.types(
        1,
        "vsp",
        "a usage line, and where the commands are listed",
        "usage: vsp",
        "`vsp help`",
        code=2,
    )
    user.follows(
        2, "vsp help", "all commands, and the usual order of them", seen,
        "vsp generate --config spatial", "without Slurm", "vsp status --watch",
    )  # fmt: skip
    seen = user.types(
        3,
        "vsp runs",
        "no run is there, and the command that makes one",
        str(work),
        "holds no run",
        "`vsp plan`",
    )
    user.types(
        4, "vsp status", "the same, as an error", str(work), "holds no run", "`vsp plan`", code=1
    )
    seen = user.types(
        5, "vsp plan --model small --dataset data/raw/demo",
        "there are no data, and the command that makes them", "data/raw/demo", "no such folder", code=1,
    )  # fmt: skip
    user.follows(
        6, "vsp generate --config demo", "how many pictures are where", seen,
        "wrote 1000 spatial samples in data/raw/demo",
    )  # fmt: skip
    user.types(
        7, "vsp dataset show data/raw/demo", "labels by split, prompts, a sheet of pictures",
        "left_of 200 50 250 25.0%", "sheet.png", "question", "Where is the red pentagon",
    )  # fmt: skip
    assert (work / "data/raw/demo/sheet.png").stat().st_size
    seen = user.types(
        8, "vsp plan --model small --dataset data/raw/demo --limit 60",
        "name, size and memory of the run, and what comes next",
        "run small-demo, in scratch/small-demo", "60 rows, 4 labels", "next",
    )  # fmt: skip
    seen = user.types(
        9, "vsp report", "no results yet, and the command that makes them",
        "small-demo", "holds no results", "`vsp probe --run small-demo`", code=1,
    )  # fmt: skip
    seen = user.follows(
        10, "vsp probe --run small-demo", "there are no states yet, and the command that makes them",
        seen, "60 rows are missing", "`vsp extract --run small-demo`", code=1,
    )  # fmt: skip
    user.follows(
        11, "vsp extract --run small-demo", "all rows are done", seen,
        "run small-demo: 60 rows done, 0 failed, 0 missing",
    )  # fmt: skip
    seen = user.types(
        12, "vsp status", "which stages are done, and what comes next",
        "run small-demo: 100% done", "extract done", "probe not started", "next: vsp probe",
    )  # fmt: skip
    user.types(13, "vsp verify", "all stored rows are as written", "60 rows checked: all match")
    seen = user.follows(
        14, "vsp probe --run small-demo", "the cost is said first, then where the results are", seen,
        "note: fits: ", "wrote results/small-demo/logistic", "`vsp report --run small-demo`",
    )  # fmt: skip
    user.follows(
        15, "vsp report --run small-demo", "the answer first, then where it comes from", seen,
        "run small-demo", "peak Layer selected on training rows", "layer accuracy",
        "The figure to cite",
    )  # fmt: skip
    user.types(16, "vsp status", "nothing is left but the report", "probe done", "next: vsp report")
