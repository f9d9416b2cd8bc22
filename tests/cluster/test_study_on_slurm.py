"""A study on a real Slurm: one chain, whose last job judges and reports; a run that was lost is made again."""

import os
import re
import shutil
import sys

import pytest
from helpers import rig

REASON = rig.why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and os.environ.get("CI") != "true", reason=f"no Slurm: {REASON}"
)


def test_a_study_is_one_chain_that_ends_with_its_report_and_goes_on_after_a_loss(
    tmp_path, tmp_path_factory, spatial
):
    assert not REASON, f"CI needs a Slurm: {REASON}"
    place = rig.project(tmp_path, spatial)
    new = ("--model", "fake", "--option", "n_layers=2", "--dataset", "a", "--with", "mirrored",
           "--limit", "40", "--name", "s", "--submit", "--n-jobs", "1")  # fmt: skip
    with rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as cluster:
        cluster.environment["OMP_NUM_THREADS"] = "1"

        def study(*words):
            said = cluster.run(sys.executable, "-m", "vsp", "study", *words, cwd=place)
            found = re.search(r"^study: job (\d+) waits", said, re.MULTILINE)
            assert found, said
            assert cluster.wait(int(found[1]), 400) == {"COMPLETED"}, _logs(place)
            return said

        said = study(*new)
        assert "waits for the end of all" in said and "vsp report --study s" in said
        report = (place / "results/s/report.txt").read_text()
        assert report.startswith("Does fake hold the labels of a") and "\nmirrored" in report
        assert report in _logs(place) and (place / "results/s/transfers.json").exists()

        shutil.rmtree(place / "scratch/s-mirrored")
        shutil.rmtree(place / "results/s-mirrored")
        again = study("s")
        assert "run s-original: is finished" in again and "planned: s-mirrored" in again
        assert (place / "results/s/report.txt").read_text() == report


def _logs(place):
    folders = [place / "scratch/.study/logs", *place.glob("scratch/s-*/logs")]
    return "\n".join(path.read_text() for one in folders for path in sorted(one.glob("*.log")))
