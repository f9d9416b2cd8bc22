"""Wrong names and options everywhere.

A user types from memory.
"""

from helpers.journey import User


def test_every_wrong_name_is_answered_with_the_right_one(project):
    user = User(project)
    user.types(111, "vsp repot", "the command that was meant", "'repot'", "report", code=2)
    user.types(112, "vsp help extrat", "the same below help", "'extrat'", "extract", code=2)
    user.types(
        113,
        "vsp report --plt curve.png",
        "the option that was meant",
        "did you mean --plot",
        code=2,
    )
    user.types(114, "vsp status --limit 5", "which command has the option", "`vsp plan`", code=2)
    user.types(
        115, "vsp report fake-demo fake-demo-question", "that a terminal shows one run, and what shows several",
        "2 runs are named", "vsp compare", code=1,
    )  # fmt: skip
    user.types(
        116, "vsp report fake-demo --run fake-demo-question", "that two runs are named",
        "two runs are named", code=2,
    )  # fmt: skip
    user.types(
        117, "vsp plan --model fake --dataset data/raw/dmeo", "the dataset that was meant", "data/raw/demo",
        code=1,
    )  # fmt: skip
    user.types(
        118, "vsp plan --model fake --dataset data/raw/demo --option n_layer=3", "the option that was meant",
        "n_layers", code=1,
    )  # fmt: skip
    user.types(
        119, "vsp plan --model fake --dataset data/raw/demo --prompt qestion", "the prompt that was meant",
        "question", code=2,
    )  # fmt: skip
    user.types(
        120, "vsp generate --config spatail", "the configuration that was meant", "spatial", code=1
    )
    user.types(
        121, "vsp generate --of data/raw/demo --variant miror --out x", "the variant that was meant",
        "mirrored", code=1,
    )  # fmt: skip
    user.types(
        122, "vsp generate --of data/raw/demo --variant blank", "that a folder is needed", "--out",
        code=1,
    )  # fmt: skip
    user.types(
        123,
        "vsp import vdr --annotations x.json --out y",
        "the source that was meant",
        "vrd",
        code=1,
    )
    user.types(
        124, "vsp import data/raw/demo", "that this is a dataset of vsp already, and what reads it",
        "`vsp plan --dataset data/raw/demo --model NAME`",
    )  # fmt: skip
    user.types(
        125,
        "vsp evaluate fake-demo --on fake-quesiton",
        "the run that was meant",
        "fake-demo",
        code=1,
    )
    user.types(
        126, "vsp export fake-demo --to nzp --out x", "the format that was meant", "npz", code=2
    )
    user.types(
        127, "vsp submit fake-demo --profile jobs/slrum.yaml", "that there is no such file",
        "jobs/slrum.yaml", code=1,
    )  # fmt: skip
    user.types(128, "vsp logs fake-demo 7", "which shards there are", "7", code=1)
    (project / "jobs/slurm.yaml").write_text("scheduler: local\nparttion: gpu\n")
    user.types(
        129, "vsp submit fake-demo", "the key that was meant", "parttion", "partition", code=1
    )
    user.types(130, "vsp rm fake-dem0 --yes", "the run that was meant", "fake-demo", code=1)
