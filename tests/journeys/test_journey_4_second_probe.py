"""A second probe setting beside the first.

A reviewer asks whether the curve depends on the probe.
"""

from helpers.journey import User

FEW = "--permutations 0 --controls 0 --no-curve --no-random --n-jobs 1"


def test_a_second_probe_lies_beside_the_first(project):
    user = User(project)
    user.types(
        48, "vsp probe fake-demo --probe mas-mean", "the nearest name, and all names",
        "did you mean mass-mean", "logistic", code=1,
    )  # fmt: skip
    user.types(
        49, "vsp probe mass-mean", "that a run was expected here, and how a probe is named",
        "--probe mass-mean", code=1,
    )  # fmt: skip
    user.types(
        50, "vsp probe fake-demo --probe mass-mean --dry-run", "the cost, before anything is fitted",
        "fits", hides=("wrote",),
    )  # fmt: skip
    seen = user.types(
        51, "vsp probe fake-demo --probe mass-mean --permutations 0 --controls 0 --no-curve --n-jobs 1",
        "where the results are, and how they are shown", "wrote results/fake-demo/mass-mean",
    )  # fmt: skip
    user.follows(
        52, "vsp report --run fake-demo --probe mass-mean-permutations-0-controls-0-no-curve", "the new results, and that there are others",
        seen, "setting mass-mean", "logistic",
    )  # fmt: skip
    user.types(
        53,
        "vsp report fake-demo --probe logistic",
        "the first results, unchanged",
        "setting logistic",
    )
    user.types(
        54, "vsp report fake-demo --probe ridge", "which settings there are",
        "ridge", "logistic", "mass-mean", code=1,
    )  # fmt: skip
    user.types(
        55, "vsp compare fake-demo --probe logistic --probe mass-mean", "that only the probe differs",
        "The runs differ in probe", "layer first other diff.",
    )  # fmt: skip
    user.types(
        56, "vsp probe fake-demo --position subject", "that the run has no such states, and how to record them",
        "subject", "--positions", code=1,
    )  # fmt: skip
    user.types(
        57,
        "vsp probe fake-demo --layers 7-9",
        "which layers there are",
        "7",
        "layers 0 to 2",
        code=1,
    )
    user.types(58, "vsp runs", "that the run has two settings", "fake-demo", "2", "peak accuracy")
