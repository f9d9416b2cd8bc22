"""`vsp sweep` plans every combination once, submits one chain, and ends with one table."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest
from helpers import made
from helpers.forked_jobs import forked_jobs

from vsp.cli.failed_plan import RECORD
from vsp.extraction.extract import extract
from vsp.storage.run import Run

FAKE = ("--models", "fake", "--limit", "24")
PROMPTS = ("--prompts", "instruction,question")
TWO = (*FAKE, *PROMPTS)
ENOUGH = ("--models", "fake", "--option", "n_layers=2")  # rows for a probe
ALL = ("fake-a", "fake-a-question", "fake-b", "fake-b-question")


@pytest.fixture(scope="module")
def _forked_jobs():
    with forked_jobs():
        yield


@pytest.fixture
def sweep(vsp, work, spatial):
    """`vsp sweep` in a folder with the datasets a and b, without a batch system."""
    for name in ("a", "b"):
        shutil.copytree(spatial, work / name)
    (work / "local.yaml").write_text("scheduler: local\n")
    return lambda *words: vsp("sweep", "--profile", "local.yaml", *words)


def _runs(work):
    return sorted(path.parent.name for path in (work / "scratch").glob("*/plan.json"))


def test_every_model_dataset_and_prompt_is_planned(sweep, work):
    answer = sweep(*TWO, "--datasets", "a,b", "--shards", "2")
    assert answer.returncode == 0, answer.stderr
    assert _runs(work) == sorted(ALL) and answer.stdout.count("planned: ") == 4
    for name, dataset, prompt in [("fake-a", "a", "instruction"), (ALL[3], "b", "question")]:
        plan = Run.open(work / "scratch" / name).plan
        assert (plan.dataset, plan.prompt) == (str(work / dataset), prompt)
        assert plan.n_samples == 24 and len(plan.shard_starts) <= 2


def test_the_pictures_of_a_dataset_are_checked_once(sweep):
    said = sweep(
        "--models", "fake", "--prompts", "instruction,question,cloze", "--datasets", "a,b"
    ).stderr
    assert len(re.findall(r"check: \d+/\d+ images", said)) == 2
    assert len(re.findall(r"count tokens: ", said)) == 6


def test_prompts_of_one_dataset_are_extracted_together_and_get_the_states_of_runs_alone(
    sweep, vsp, work
):
    words = ("--model", "fake", "--dataset", "a", "--limit", "24")
    assert sweep(*TWO, "--datasets", "a").returncode == 0
    for prompt in ("instruction", "question"):
        assert vsp("plan", *words, "--prompt", prompt, "--run", f"alone-{prompt}").returncode == 0
    runs = {name: Run.open(work / "scratch" / name) for name in _runs(work)}
    members = [[one.name for one in runs[name].plan.together] for name in ALL[:2]]
    assert members == [["fake-a", "fake-a-question"]] * 2
    assert not runs["alone-question"].plan.together
    for name in ("fake-a-question", "alone-instruction", "alone-question"):
        extract(runs[name], runs[name].shards)
    for name, prompt in (("fake-a", "instruction"), ("fake-a-question", "question")):
        together, alone = runs[name].store, runs[f"alone-{prompt}"].store
        assert not runs[name].ledgers()[0].n_missing
        for layer in range(runs[name].plan.n_layers):
            assert np.array_equal(together.layer(layer), alone.layer(layer))


def test_the_same_plans_are_used_again_and_said(sweep, work, vsp):
    assert sweep(*FAKE, "--datasets", "a").returncode == 0
    answer = sweep(*TWO, "--datasets", "a,b")
    assert "planned already: fake-a\n" in answer.stdout and answer.stdout.count("planned: ") == 3
    assert _runs(work) == sorted(ALL)
    said = sweep(*TWO, "--datasets", "a,b")
    assert said.stdout.count("planned already: ") == 4 and "images" not in said.stderr


def test_a_dataset_that_is_named_twice_is_planned_once(sweep, work):
    answer = sweep(*TWO, "--datasets", "a,./a")
    assert answer.returncode == 0 and answer.stdout.count("planned already: ") == 2
    assert _runs(work) == sorted(ALL[:2])


def test_a_prompt_that_is_added_later_is_extracted_alone_and_it_is_said(sweep, work):
    sweep(*FAKE, "--datasets", "a")
    said = sweep(*TWO, "--datasets", "a").stderr
    assert "extracted alone, not together with fake-a: planned before" in " ".join(said.split())
    assert not Run.open(work / "scratch" / "fake-a-question").plan.together


def test_a_plan_of_vsp_plan_is_used_too(sweep, vsp, work):
    vsp("plan", "--model", "fake", "--limit", "24", "--dataset", "a", "--run", "mine")
    assert "planned already: mine" in sweep(*TWO, "--datasets", "a").stdout
    assert _runs(work) == ["fake-a", "mine"]


CHANGES = {
    "another option": lambda work: ("--batch-size", "3"),
    "other records": lambda work: (work / "a/metadata.json").write_text(
        (work / "a/metadata.json").read_text() + "\n"
    ) and (),
    "a damaged plan": lambda work: (work / "scratch/fake-a/plan.json").write_text("{}") and (),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plan_that_differs_is_not_used_again(sweep, work, change):
    sweep(*FAKE, "--datasets", "a")
    answer = sweep(*FAKE, "--datasets", "a", *change(work))
    assert answer.returncode == 0 and "planned already" not in answer.stdout
    assert len(_runs(work)) == 2


def test_a_plan_of_a_checkpoint_that_was_changed_is_not_used_again(checkpoint, spatial, work):
    from vsp import models
    from vsp.extraction.plan import plan_run
    from vsp.extraction.plan_request import PlanRequest, planned_before

    own = work / "model"
    shutil.copytree(checkpoint, own)
    model = models.resolve("llava15", checkpoint=str(own), quantization="none")
    request = PlanRequest(spatial, model, limit=8)
    name = plan_run(request, work).run.name
    assert planned_before(request, work).name == name
    (own / "config.json").write_text((own / "config.json").read_text() + "\n")
    assert planned_before(request, work) is None


def test_if_one_plan_fails_nothing_is_submitted_and_the_others_stay_planned(sweep, work):
    answer = sweep(*FAKE, "--datasets", "a,none,b", "--submit")
    assert answer.returncode == 1 and "fake on none: " in answer.stderr
    assert "1 of 3 runs cannot be planned, so nothing is submitted" in answer.stderr
    assert _runs(work) == ["fake-a", "fake-b"] and not (work / "results").exists()
    assert (work / RECORD).exists()


def test_a_dry_run_lists_the_runs_and_writes_nothing(sweep, work):
    sweep(*FAKE, "--datasets", "a")
    before = sorted(work.rglob("*"))
    answer = sweep(*TWO, "--datasets", "a,none", "--dry-run")
    assert answer.stdout.splitlines()[:2] == [
        "planned already, fake-a: fake on a, prompt instruction", "new, fake-a-…: fake on a, prompt question",
    ]  # fmt: skip
    new = sweep(*TWO, "--datasets", "b", "--dry-run").stdout.splitlines()
    assert new == [
        "new, fake-b: fake on b, prompt instruction",
        "new, fake-b-…: fake on b, prompt question",
    ]
    assert sorted(work.rglob("*")) == before


@pytest.mark.usefixtures("_forked_jobs")
def test_without_a_queue_all_stages_run_here_a_failure_stops_no_other_run_and_one_table_ends_it(
    sweep, work
):
    made.made(work / "results" / "other")
    assert sweep(*ENOUGH, "--datasets", "a,b").returncode == 0
    for path in (work / "a/images").iterdir():
        path.write_bytes(b"no picture")
    answer = sweep(*ENOUGH, "--datasets", "a,b", "--submit")
    assert answer.returncode == 1 and "1 of 2 runs are not finished" in answer.stderr
    header, first, second, last = answer.stdout.rpartition("\n\n")[2].splitlines()
    assert header.split() == ["run", "dataset", "done", "peak", "accuracy", "chance", "layer"]
    assert first.split() == ["fake-a", "a", "0%,", "96", "failed"]
    assert re.fullmatch(
        r"fake-b +b +100% +0\.\d{3} \[0\.\d{3}, \d\.\d{3}\] +0\.\d{3} +[01]", second
    )
    assert last == "not probed yet: fake-a"
    assert "Layer selected" not in answer.stdout  # no report of a single run
    again = sweep(*ENOUGH, "--datasets", "b", "--submit")
    assert again.returncode == 0 and "run fake-b: is finished\n" in again.stdout
    assert again.stdout.count("\nfake-b ") == 1 and "other" not in again.stdout


@pytest.fixture
def slurm(work, monkeypatch):
    """Commands of a Slurm that only counts: the calls of sbatch as lines, and what squeue says."""
    programs = work / "bin"
    programs.mkdir()
    (work / "queue").write_text("")
    bodies = {
        "sbatch": 'echo "$@" >> "$0.calls"; wc -l < "$0.calls"',
        "squeue": f"cat {work}/queue",
        "scontrol": "true",
        "sacct": "true",
    }
    for name, body in bodies.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs / "sbatch.calls"


def test_on_slurm_the_table_waits_for_the_end_of_every_run(sweep, vsp, work, slurm):
    answer = vsp("sweep", *TWO, "--datasets", "a", "--submit")
    assert answer.returncode == 0, answer.stderr
    calls = slurm.read_text().splitlines()
    scripts = [re.search(r"([\w-]+)\.sh", call)[1] for call in calls]
    # Both prompts are extracted together.
    assert scripts == ["extract", *["verify", "probe"] * 2, scripts[-1]]
    assert re.fullmatch("table-[0-9a-f]{8}", scripts[-1])
    assert "--dependency=afterany:1:2:3:4:5 " in calls[-1]
    script = (work / "scratch/.sweep" / f"{scripts[-1]}.sh").read_text()
    assert "vsp runs --peaks --probe logistic fake-a fake-a-question" in script
    assert "table: job 6 waits" in answer.stdout


def test_runs_in_the_queue_are_not_submitted_again(sweep, vsp, work, slurm):
    from vsp.cluster.jobs import job_owner

    assert vsp("sweep", *FAKE, "--datasets", "a,b").returncode == 0
    owner = job_owner(Run.open(work / "scratch" / "fake-a"))
    (work / "queue").write_text(f"41_0|RUNNING|||0|vsp:{owner}:extract:0|None|\n")
    # The same line is no job of the other run, whose id is another one.
    answer = vsp("sweep", *FAKE, "--datasets", "a,b", "--submit")
    assert "run fake-a: not submitted again, jobs 41 run or wait" in answer.stdout
    assert slurm.read_text().splitlines()[-1].count("--dependency=afterany:41:1:2:3 ") == 1


def test_a_run_whose_rows_a_queued_extraction_of_another_run_writes_is_only_verified_and_probed(
    sweep, vsp, work, slurm
):
    from vsp.cluster.jobs import job_owner

    assert vsp("sweep", *TWO, "--datasets", "a", "--shards", "2").returncode == 0
    owner = job_owner(Run.open(work / "scratch" / "fake-a-question"))
    both = "41_[0-1]|PENDING|||0|vsp:{owner}:extract:0|None|\n"
    (work / "queue").write_text(both.replace("_[0-1]", "_0").format(owner=owner))
    answer = vsp("sweep", *TWO, "--datasets", "a", "--shards", "2", "--submit")
    assert answer.returncode == 1  # one shard is in no queue
    said = " ".join(answer.stderr.split())
    assert "`vsp resume --run fake-a` submits the other unfinished shards" in said
    (work / "queue").write_text(both.format(owner=owner))
    slurm.unlink(missing_ok=True)
    answer = vsp("sweep", *TWO, "--datasets", "a", "--shards", "2", "--submit")
    assert "run fake-a: job 41 extracts its rows too" in answer.stdout
    assert "run fake-a-question: not submitted again, jobs 41 run or wait" in answer.stdout
    calls = slurm.read_text().splitlines()
    assert [re.search(r"([a-z]+)(-\w+)?\.sh", call)[1] for call in calls] == [
        "verify", "probe", "table",
    ]  # fmt: skip
    assert "--dependency=afterok:41 " in calls[0] or "--dependency=afterok:41:41" in calls[0]


def test_a_table_that_waits_already_is_not_submitted_again(sweep, vsp, work, slurm):
    from vsp.cluster.jobs import job_owner

    assert vsp("sweep", *FAKE, "--datasets", "a", "--submit").returncode == 0
    calls = slurm.read_text()
    owner = job_owner(Run.open(work / "scratch" / "fake-a"))
    (script,) = (work / "scratch/.sweep").glob("table-*.sh")
    of_table = re.search(r"vsp:[0-9a-f]+:table:0", script.read_text())[0]
    (work / "queue").write_text(
        f"1_0|PENDING|||0|vsp:{owner}:extract:0|None|\n4|PENDING|||0|{of_table}|Dependency|\n"
    )
    answer = vsp("sweep", *FAKE, "--datasets", "a", "--submit")
    assert "table: job 4 is queued already" in answer.stdout and slurm.read_text() == calls


def test_an_extracted_run_is_only_verified_and_probed(sweep, vsp, work, slurm):
    vsp("sweep", *FAKE, "--datasets", "a")
    run = Run.open(work / "scratch" / "fake-a")
    extract(run, run.shards)
    vsp("sweep", *FAKE, "--datasets", "a", "--submit")
    assert "extract" not in slurm.read_text() and "probe.sh" in slurm.read_text()


def test_the_probes_of_a_run_wait_for_the_extraction_of_the_run_that_is_first(
    work, plan_fake, slurm
):
    from vsp.cluster.submit import Options
    from vsp.cluster.sweep import submit_sweep
    from vsp.config import Profile

    runs = [plan_fake(name="blank"), plan_fake(name="original"), plan_fake(name="other")]
    options = Options(probe_tasks=2)
    submit_sweep(runs, Profile(), options, work, lambda _: None, first={"original": "blank"})
    calls = [call for call in slurm.read_text().splitlines() if "probe-parts.sh" in call]
    assert [re.findall("--dependency=([^ ]+)", call)[0] for call in calls] == [
        "afterok:2", "afterok:6,afterany:1", "afterok:10",
    ]  # fmt: skip
    later = [call for call in slurm.read_text().splitlines() if "/probe.sh" in call]
    assert "--dependency=afterok:7 " in later[1]


def test_if_the_batch_system_refuses_the_same_command_goes_on(sweep, vsp, work, slurm):
    (work / "bin/sbatch").write_text(
        '#!/bin/bash\necho "$@" >> "$0.calls"; n=$(wc -l < "$0.calls"); [ $n -gt 3 ] && exit 1; echo $n\n'
    )
    answer = vsp("sweep", *TWO, "--datasets", "a", "--submit")
    assert answer.returncode == 1
    assert "runs submitted before it: fake-a; the same command goes on" in answer.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--models", "fake,"), 2, "has an empty name; write names as a,b"),
        (("--models", "fake", "--prompts", "instruction,nothing"), 2, "prompt 'nothing' is not known"),
        (("--models", "fake,small", "--checkpoint", "x"), 1, "--checkpoint x: fits one model"),
        (("--models", "fake,nothing"), 1, "model 'nothing' is not known"),
        ((*FAKE, "--submit", "--dry-run"), 2, "not allowed with"),
        ((), 2, "--models"),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_refused_before_anything_is_planned(sweep, work, words, code, said):
    answer = sweep(*words)
    assert answer.returncode == code and said in answer.stderr
    assert not (work / "scratch").exists()


def test_a_name_that_is_given_twice_counts_once(sweep, work):
    sweep("--models", "fake,fake", "--prompts", "cloze,cloze", "--datasets", "a,a", "--limit", "24")
    assert _runs(work) == ["fake-a"]


def test_a_caller_chooses_the_job_that_ends_the_chain(work, plan_fake, slurm):
    from vsp.cluster.jobs import LastJob
    from vsp.cluster.submit import Options
    from vsp.cluster.sweep import submit_sweep
    from vsp.config import Profile

    run, said = plan_fake(), []
    last = LastJob("study", ("report", "--study", "mine"), work / "studies")
    jobs = submit_sweep([run], Profile(), Options(), work, said.append, last)
    assert jobs.waits and not jobs.problems
    (script,) = (work / "studies").glob("study-*.sh")
    assert script.read_text().rstrip().endswith("-m vsp report --study mine")
    assert slurm.read_text().splitlines()[-1].endswith(str(script))
    assert f"study: job 4 waits for the end of all; it writes {work}/studies/logs" in said[-1]


def test_a_submission_that_was_refused_halfway_names_the_command_with_its_options(
    work, vsp, plan_fake, slurm
):
    run = plan_fake()
    (work / "my profile.yaml").write_text("{}")
    (work / "bin/sbatch").write_text(
        '#!/bin/bash\necho x >> "$0.calls"; n=$(wc -l < "$0.calls"); [ $n -gt 2 ] && exit 1; echo $n\n'
    )
    words = ("--profile", "my profile.yaml", "--after", "any", "--probe-tasks", "2")
    answer = vsp("submit", run.name, *words)
    assert answer.returncode == 1
    assert (
        f"`vsp submit --run {run.name} --stages probe,report --profile 'my profile.yaml' --after any "
        "--probe-tasks 2` submits the rest" in answer.stderr
    )


def test_if_sbatch_is_not_configured_no_further_run_is_tried(sweep, vsp, work, slurm):
    unconfigured = "echo 'error: Could not establish a configuration source' >&2; exit 1"
    for name in ("sbatch", "squeue", "sacct", "scontrol"):
        (work / "bin" / name).write_text(f"#!/bin/bash\n{unconfigured}\n")
    answer = vsp("sweep", *TWO, "--datasets", "a", "--submit")
    assert answer.returncode == 1 and answer.stderr.count("not configured for a cluster") == 1
    assert "nothing was submitted; the same command goes on" in answer.stderr
    assert answer.stderr.count("nothing was submitted") == 1


MEAN = ("--probe", "mass-mean", "--permutations", "0", "--controls", "0", "--no-curve", "--no-random",
        "--no-words")  # fmt: skip
SETTING = "mass-mean-permutations-0-controls-0-no-curve-no-random-no-words"


@pytest.mark.usefixtures("_forked_jobs")
def test_a_sweep_probes_with_the_options_after_the_dashes_and_its_table_shows_that_setting(
    sweep, vsp, work
):
    words = (*ENOUGH, "--datasets", "a", "--submit")
    answer = sweep(*words, "--", *MEAN)
    assert answer.returncode == 0, answer.stderr
    assert [path.name for path in (work / "results/fake-a").glob("*/")] == [SETTING]
    title, _, row = answer.stdout.rpartition("\n\n")[2].splitlines()
    assert title == f"probe {SETTING}" and row.startswith("fake-a ")
    assert "run fake-a: is finished\n" in sweep(*words, "--", *MEAN).stdout
    shown = vsp("runs", "--peaks", "--probe", "mass-mean", "fake-a").stdout
    assert shown.splitlines()[0] == "probe mass-mean" and "0." in shown
    without = vsp("runs", "--peaks", "--probe", "lda", "fake-a").stdout
    assert "not probed yet with lda: fake-a" in without
    assert "--probe lda needs --peaks" in vsp("runs", "--probe", "lda").stderr


def test_on_slurm_the_table_of_a_sweep_names_its_setting(vsp, sweep, work, slurm):
    assert vsp("sweep", *FAKE, "--datasets", "a", "--submit", "--", *MEAN).returncode == 0
    (script,) = (work / "scratch/.sweep").glob("table-*.sh")
    assert f"runs --peaks --probe {SETTING} fake-a" in script.read_text()
    assert " ".join(MEAN) in (work / "scratch/fake-a/jobs/probe.sh").read_text()


def test_jobs_in_the_queue_that_probe_otherwise_are_a_problem(vsp, sweep, work, slurm):
    from vsp.cluster.jobs import job_owner

    assert vsp("sweep", *FAKE, "--datasets", "a", "--submit").returncode == 0
    owner = job_owner(Run.open(work / "scratch" / "fake-a"))
    (work / "queue").write_text(f"3|PENDING|||0|vsp:{owner}:probe:0|Dependency|\n")
    answer = vsp("sweep", *FAKE, "--datasets", "a", "--submit", "--", *MEAN)
    assert answer.returncode == 1
    assert "run fake-a: its jobs probe logistic; give the same command again" in answer.stderr


def test_options_of_the_probe_are_refused_where_a_sweep_probes_nothing(sweep, work):
    answer = sweep(*FAKE, "--datasets", "a", "--", *MEAN)
    assert answer.returncode == 1 and "after -- needs --submit" in answer.stderr
    wrong = sweep(*FAKE, "--datasets", "a", "--submit", "--", "--prob", "x")
    assert wrong.returncode == 2 and "did you mean --probe" in wrong.stderr
    assert not (work / "scratch").exists()
    dry = sweep(*FAKE, "--datasets", "a", "--dry-run", "--", "--probe", "mass-mean")
    assert "probed with --probe mass-mean" in dry.stdout


def test_runs_that_are_extracted_together_have_one_extraction_and_each_its_later_stages(
    work, spatial, slurm
):
    from vsp import models
    from vsp.cluster.submit import Options
    from vsp.cluster.sweep import submit_sweep
    from vsp.config import Profile
    from vsp.extraction.plan import PlanRequest
    from vsp.extraction.plan_together import plan_together
    from vsp.extraction.planned_rows import CheckedDatasets

    model, others = models.resolve("fake"), {"limit": 24, "n_shards": 1}
    requests = [
        PlanRequest(spatial, model, name="leader", **others),
        PlanRequest(spatial, model, name="other", rows_of="leader", prompt="cloze", **others),
    ]
    planned = plan_together(requests, work, lambda: None, CheckedDatasets())
    runs, said = [one.run for one in planned], []
    submit_sweep(runs, Profile(), Options(), work, said.append)
    calls = slurm.read_text().splitlines()
    scripts = [re.search(r"(\w+)/jobs/([\w-]+)\.sh", call).groups() for call in calls[:-1]]
    assert scripts == [
        ("leader", "extract"), ("leader", "verify"), ("leader", "probe"), ("other", "verify"),
        ("other", "probe"),
    ]  # fmt: skip
    assert "--dependency=afterok:1 " in calls[3] and "--dependency=afterok:4 " in calls[4]
    assert "run other: job 1 extracts its rows too" in said
