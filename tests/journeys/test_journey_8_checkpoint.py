"""A checkpoint that is not what it seems.

A user copied a checkpoint from a shared disk.
"""

import shutil

from helpers.journey import User


def test_a_checkpoint_that_is_not_what_it_seems_is_refused(project, checkpoint):
    user = User(project)
    for name in ("whole", "no-weights", "no-config", "torn"):
        shutil.copytree(checkpoint, project / name)
    next(project.glob("no-weights/*.safetensors")).unlink()
    (project / "no-config/config.json").unlink()
    weights = next(project.glob("torn/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    (project / "a-file").write_text("weights")
    user.types(
        100, "vsp plan --model llava15 --checkpoint wohle --dataset data/raw/demo",
        "that there is no such folder here, nor on the disk's cache", "wohle", code=1,
    )  # fmt: skip
    user.types(
        101, "vsp plan --model llava15 --checkpoint no-config --dataset data/raw/demo",
        "which file is missing", "config.json", code=1,
    )  # fmt: skip
    user.types(
        102, "vsp plan --model llava15 --checkpoint no-weights --dataset data/raw/demo",
        "that the weights are missing", "no-weights", "safetensors", code=1,
    )  # fmt: skip
    user.types(
        103, "vsp plan --model llava15 --checkpoint torn --dataset data/raw/demo",
        "that a file was not copied completely", "torn", code=1,
    )  # fmt: skip
    user.types(
        104, "vsp plan --model qwen2 --checkpoint whole --dataset data/raw/demo",
        "which model it is, and what reads it", "llava", code=1,
    )  # fmt: skip
    user.types(
        105, "vsp plan --model llava15 --checkpoint a-file --dataset data/raw/demo",
        "that a folder is needed", "a-file", code=1,
    )  # fmt: skip
    user.types(
        106, "vsp plan --model lava15 --checkpoint whole --dataset data/raw/demo",
        "the model that was meant", "did you mean llava15", code=1,
    )  # fmt: skip
