"""Many runs: list, compare, remove.

A week later: which run was which, and what may go?
"""

import json

from helpers.journey import User

PLAN = "vsp plan --model fake --dataset data/raw/demo --option n_layers=3"


def test_many_runs_are_listed_compared_and_removed(project):
    user = User(project)
    user.types(
        31, "vsp runs", "a line for each run, with its peak",
        "fake-demo-question", "peak accuracy", "instruction", "100%",
    )  # fmt: skip
    user.types(
        32, "vsp plan --model fake --dataset data/raw/demo --option n_layers=3",
        "that the name is taken, and the new name", "the run is named fake-demo-2, because fake-demo exists",
    )  # fmt: skip
    user.types(
        33, "vsp plan --model fake --dataset data/raw/demo --option n_layers=3 --run fake-demo",
        "that the name is taken, and what to do", "fake-demo", "--run", code=1,
    )  # fmt: skip
    user.types(
        34, "vsp probe fake-dmo", "the nearest name", "fake-dmo", "there is fake-demo", code=1
    )
    user.types(
        35, "vsp status", "that the last plan failed, and which run would be the newest",
        "failed", "vsp COMMAND fake-demo-2", code=1,
    )  # fmt: skip
    user.types(
        36, "vsp compare fake-demo fake-demo-question", "what differs, first", "The runs differ in prompt",
        "layer first other diff.", "p corr.",
    )  # fmt: skip
    user.types(
        37, "vsp compare fake-demo fake-demo", "that nothing is compared with itself", "fake-demo",
        code=1,
    )  # fmt: skip
    user.types(
        38, "vsp compare fake-demo fake-demo-2", "which run has no results, and what makes them",
        "fake-demo-2", "holds no results", code=1,
    )  # fmt: skip
    user.types(
        39, "vsp compare fake-demo fake-demo-question --json | python3 -m json.tool | head -3",
        "figures for another program", "{",
    )  # fmt: skip
    user.types(
        40, "vsp rm fake-demo-2", "what would go; nothing goes without an answer",
        "frees", "--yes", code=1,
    )  # fmt: skip
    user.types(
        41, "vsp rm fake-demo-2 --dry-run", "the same as a rehearsal", "removes scratch/fake-demo-2"
    )
    assert (project / "scratch/fake-demo-2").exists()
    user.types(42, "vsp rm fake-demo-2 --yes", "that it is gone", "fake-demo-2")
    assert not (project / "scratch/fake-demo-2").exists()
    user.types(
        43,
        "vsp rm --older-than 30d --keep-results --dry-run",
        "that no run is that old",
        "no run here is that old",
    )
    user.types(
        44, "vsp rm fake-demo --yes", "that the results stay", "results/fake-demo", hides=("error",)
    )
    user.types(
        45,
        "vsp report fake-demo",
        "the report all the same, from the results alone",
        "The figure to cite",
    )
    user.types(
        46,
        "vsp probe fake-demo",
        "that the states are gone, and what makes them",
        "fake-demo",
        code=1,
    )
    user.types(47, "vsp runs", "one run without states", "no states", "100%")
    listed = json.loads(user._run("vsp runs --json", None).out)
    assert {one["run"] for one in listed} == {"fake-demo", "fake-demo-question"}
