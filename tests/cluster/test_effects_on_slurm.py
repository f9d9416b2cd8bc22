"""A run of `vsp steer` on a real Slurm: its array, its checks and its stage `effects` are one chain."""

import json
import os
import re
import sys

import pytest
from helpers import rig
from helpers.commands import run_here

REASON = rig.why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and os.environ.get("CI") != "true", reason=f"no Slurm: {REASON}"
)
_STEER = ("steer", "r", "--layers", "1", "--scale", "1", "--random", "2", "--rows", "12")


def test_a_chain_of_effects_ends_with_them_and_resume_does_what_is_missing(
    tmp_path, tmp_path_factory, spatial
):
    assert not REASON, f"CI needs a Slurm: {REASON}"
    place = rig.project(tmp_path, spatial)
    plan = ("plan", "--model", "fake", "--option", "n_layers=2", "--dataset", "a", "--run", "r")
    for words in (
        plan,
        ("extract", "r"),
        (*_STEER, "--shards", "3"),
        (*_STEER, "--run-name", "here"),
    ):
        done = run_here(words, place)
        assert done.returncode == 0, done.stderr
    assert run_here(("extract", "here"), place).returncode == 0
    assert run_here(("effects", "here"), place).returncode == 0
    with rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as cluster:
        cluster.environment["OMP_NUM_THREADS"] = "1"

        def chain(command):
            said = cluster.run(sys.executable, "-m", "vsp", command, "r-steer", cwd=place)
            found = re.search(r"^ *effects +(\d+) ", said, re.MULTILINE)
            assert found, said
            assert cluster.wait(int(found[1]), 200) == {"COMPLETED"}, said

        chain("submit")
        there, here = (place / f"results/{name}/effects.json" for name in ("r-steer", "here"))
        first = json.loads(there.read_text())
        assert first["figures"] == json.loads(here.read_text())["figures"]

        next((place / "scratch/r-steer/journal").iterdir()).unlink()
        there.unlink()
        chain("resume")
        assert json.loads(there.read_text()) == first
