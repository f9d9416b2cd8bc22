"""A run is named by its folder, and results belong to the plan that they were computed from."""

import json
import os
import re
import shutil

import pytest
from helpers import made

from vsp import models
from vsp.cli.main import main
from vsp.cluster.contract import Query, States, TaskState
from vsp.cluster.jobs import chain, extract_job, job_owner, task_states
from vsp.cluster.stages import EXTRACT
from vsp.config import Profile
from vsp.errors import ProbeError, RunError
from vsp.evaluation.probe_run import probe_part, probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.probes import load
from vsp.storage.find_results import find_results
from vsp.storage.journal import Journal
from vsp.storage.run import Run, find_run
from vsp.storage.stored_settings import choose_setting, stored_settings
from vsp.utils.files import json_sha256

QUICK = ProbeSettings(
    permutations=0, controls=0, resamples=60, curve=False, random=False, strengths=(0.01, 1.0)
)


def _probed(run, **changes):
    extract(run, run.shards)
    return probe_run(run, QUICK, n_jobs=1, **changes)


def _files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "probe/" not in str(p)}


def _line(capsys, *arguments):
    """The line of a command that is refused."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 1
    said = capsys.readouterr().err
    lines = [one for one in said.splitlines() if one.startswith("vsp: ")]
    assert len(lines) == 1 and "Traceback" not in said
    return lines[0]


def _planned(folder, spatial, gain):
    model = models.resolve("fake", options={"gain": gain})
    return plan_run(PlanRequest(spatial, model, name="A"), folder).run


@pytest.fixture(scope="module")
def probed_once(tmp_path_factory, spatial):
    """A folder with the run A and its results. Tests have copies."""
    folder = tmp_path_factory.mktemp("probed")
    _probed(_planned(folder, spatial, 2.0))
    return folder


@pytest.fixture
def probed(probed_once, work):
    """The run A, which was probed, and its results."""
    shutil.copytree(probed_once, work, dirs_exist_ok=True)
    run = find_run("A", work)
    return run, choose_setting(run.results)


@pytest.fixture(scope="module")
def moved_once(tmp_path_factory, probed_once, spatial):
    """Run A was probed and renamed B; another plan is named A now and extracted too."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(probed_once, folder, dirs_exist_ok=True)
    (folder / "scratch/A").rename(folder / "scratch/B")
    second = _planned(folder, spatial, 1.0)
    extract(second, second.shards)
    return folder


@pytest.fixture
def moved(moved_once, work):
    shutil.copytree(moved_once, work, dirs_exist_ok=True)
    return find_run("B", work), find_run("A", work)


def test_a_renamed_run_is_named_by_its_folder_and_writes_its_own_results(moved, work):
    run, _ = moved
    before = _files(work / "results/A")
    assert run.name == "B" and run.results == work / "results/B"
    results = probe_run(run, QUICK, n_jobs=1)
    assert results.home == run.results and results.summary()["run"] == "B"
    assert _files(work / "results/A") == before


def test_results_say_which_plan_they_are_of(probed):
    run, results = probed
    summary = results.summary()
    assert summary["identity"] == run.plan.identity() and summary["plan"]["id"] == run.plan.id


def test_probe_never_replaces_results_of_another_plan(moved, work, capsys):
    _, second = moved
    before = _files(work / "results/A")
    for refused in (
        lambda: probe_run(second, QUICK, n_jobs=1),
        lambda: probe_part(second, QUICK, 1, (0, 2)),
    ):
        with pytest.raises(RunError, match=r"results/A: holds results of another plan \(run A, pl"):
            refused()
    assert "move that folder to another place, or rename the run" in _line(capsys, "probe")
    assert _files(work / "results/A") == before and not (second.folder / "probe").exists()


def test_a_plan_under_an_old_name_notes_the_results_of_the_other_plan(work, spatial, capsys):
    plan = ("plan", "--model", "fake", "--dataset", str(spatial), "--run", "A")
    assert main([*plan]) == 0
    assert "another plan" not in capsys.readouterr().err
    _probed(find_run("A", work))
    for options in ((), ("--limit", "48"), ("--shards", "2")):
        shutil.rmtree(work / "scratch/A")
        assert main([*plan, *options]) == 0
        said = capsys.readouterr().err
        noted = "results/A: holds results of another plan (run A, planned " in said
        assert noted == bool(options), said
    assert "move that folder to another place, or rename the run, then probe" in said
    assert "other --shards or another --batch-size make another plan too" in said


def test_a_chain_is_not_submitted_if_its_probe_would_be_refused(moved, work, capsys):
    _, second = moved
    with Journal(second.journals, second.plan.id, 0) as journal:
        journal.mark_lost([0])
    profile = work / "local.yaml"
    profile.write_text("scheduler: local\n")
    for command in ("submit", "resume"):
        for options in ((), ("--dry-run",), ("--stages", "probe"), ("--probe-tasks", "2")):
            if options != (("--stages", "probe") if command == "resume" else ("--dry-run",)):
                said = _line(capsys, command, "--run", "A", "--profile", profile, *options)
                assert "results/A: holds results of another plan" in said
    assert main(["submit", "--run", "A", "--profile", str(profile), "--stages", "verify"]) == 0


def test_of_copies_of_a_run_the_original_is_the_newest(plan_fake, work):
    run = plan_fake(name="b")
    results = _probed(run)
    for name in ("a", "b-backup"):
        for one in (run.folder, results.home):
            shutil.copytree(one, one.parent / name)  # new files are newer than the original's
    (work / "scratch/a/plan.json").touch()
    (choose_setting(work / "results/a").folder / "summary.json").touch()
    assert find_run(None, work).name == find_results(None, work).name == "b"
    shutil.rmtree(work / "scratch")
    assert find_results(None, work).name == "b"


def test_the_newest_plan_is_the_newest_run_whenever_its_files_were_copied(plan_fake, work):
    runs = {name: plan_fake(name=name) for name in ("old", "new", "broken")}
    for name, run in runs.items():
        path = run.folder / "plan.json"
        values = json.loads(path.read_text())
        values.pop("sha256")
        values["created"] = f"{2001 + list(runs).index(name)}-01-01T00:00:00+00:00"
        path.write_text(json.dumps({**values, "sha256": json_sha256(values)}))
    (runs["old"].folder / "plan.json").touch()
    (runs["broken"].folder / "plan.json").write_text("{")
    os.utime(runs["broken"].folder / "plan.json", (0, 0))
    assert find_run(None, work).name == "new"
    (runs["broken"].folder / "plan.json").touch()
    with pytest.raises(RunError, match="broken"):
        find_run(None, work)


def test_no_page_shows_results_of_another_plan(moved, work, capsys):
    made.made(work / "results/other")
    for command in (
        ("report", "--run", "A"),
        ("report", "--run", "scratch/A"),
        ("report", "--run", "results/A"),
        ("report", "--run", "A", "--json"),
        ("report", "--run", "A", "--plot", "a.png"),
        ("report",),
        ("compare", "other", "A"),
        ("compare", "A", "other", "--plot", "a.png"),
    ):
        assert "results/A: holds results of another plan" in _line(capsys, *command)
    with pytest.raises(RunError, match="another plan"):
        load("results/A", 1)
    assert not (work / "a.png").exists()


def test_a_renamed_run_is_told_where_results_of_its_plan_are(moved, capsys):
    said = _line(capsys, "report", "--run", "B")
    assert "results/B: holds no results; results/A holds results of the same plan: copy" in said


def test_results_that_were_moved_with_their_run_are_shown_under_the_new_name(probed, work, capsys):
    for room in ("scratch", "results"):
        (work / room / "A").rename(work / room / "B")
    capsys.readouterr()
    assert main(["report", "--run", "B"]) == 0
    assert re.search(r"^run +B$", capsys.readouterr().out, re.MULTILINE)
    assert probe_run(find_run("B", work), QUICK, n_jobs=1).read()


def test_results_without_their_run_are_read(probed, plan_fake):
    run, results = probed
    shutil.rmtree(run.folder)
    assert results.read()
    other = plan_fake(name="A", options={"gain": 1.0})
    (other.folder / "plan.json").write_text("{")  # a plan that cannot be read tells nothing
    assert results.read()


@pytest.mark.parametrize("place", ["scratch/copy", "elsewhere/scratch/A"])
def test_a_copied_run_writes_results_of_its_own(probed, work, place):
    run, _ = probed
    before = _files(work / "results")
    shutil.copytree(run.folder, work / place)
    copy = Run.open(work / place)
    results = probe_run(copy, QUICK, n_jobs=1)
    assert results.home == (work / place).parent.parent / "results" / copy.name
    assert find_results(str(work / place), work).read()[1] == choose_setting(run.results).read()[1]
    kept = {path: body for path, body in _files(work / "results").items() if path in before}
    assert kept == before


def test_results_lie_beside_scratch_however_the_run_is_named(plan_fake, work, monkeypatch):
    run = plan_fake(name="A")
    expected = (work / "results/A").resolve()
    (work / "link").symlink_to(work / "scratch")
    for place, name in (
        ("scratch", "./A"),
        ("scratch/A", "./"),
        ("scratch/A", "../A"),
        (".", "scratch/A/"),
        (".", f"{work}/scratch/../scratch/A"),
    ):
        monkeypatch.chdir(work / place)
        assert find_run(name, work).results.resolve() == expected
        assert find_run(name, work).name == run.name


def test_a_run_outside_scratch_has_no_place_for_results(plan_fake, work, capsys):
    run = plan_fake(name="A")
    extract(run, run.shards)
    run.folder.rename(work / "A")
    said = "A: lies in no folder named scratch, so its results have no place; move it to scratch/A"
    for command in (("probe",), ("report",), ("submit", "--dry-run")):
        assert said in _line(capsys, *command, "--run", "./A")
    for command in ("status", "verify", "extract"):
        assert main([command, "--run", "./A"]) == 0


@pytest.mark.parametrize("name", ["a b", "ä", "-a", "x;y", "a\nb", "n" * 101])
def test_a_folder_that_is_not_a_name_of_a_run_is_refused(plan_fake, work, capsys, name):
    plan_fake(name="A").folder.rename(work / "scratch" / name)
    for command in ("status", "extract", "probe"):
        said = _line(capsys, command, f"--run={name}")
        assert "is not a name of a run; rename the folder" in said


def _older(home, **changes):
    """Rewrite the results as an older vsp wrote them: in `home` itself, without the identity."""
    (folder,) = (one.results.folder for one in stored_settings(home))
    for one in folder.iterdir():
        one.rename(home / one.name)
    folder.rmdir()
    path = home / "summary.json"
    values = {**json.loads(path.read_text()), **changes}
    del values["identity"]
    digests = values.pop("sha256")
    digests.pop("summary.json"), values.pop("format")
    digests["summary.json"] = json_sha256([values, digests])
    path.write_text(json.dumps({"format": 4, **values, "sha256": digests}))


def test_older_results_without_an_identity_are_known_by_their_plan(moved, work):
    run, second = moved
    shutil.copytree(work / "results/A", work / "results/B")
    for name in "AB":
        _older(work / "results" / name)
    assert choose_setting(work / "results/B").read() and probe_run(run, QUICK, n_jobs=1)
    for refused in (
        choose_setting(second.results).read,
        lambda: probe_run(second, QUICK, n_jobs=1),
    ):
        with pytest.raises(RunError, match="another plan"):
            refused()


@pytest.mark.parametrize("body", ['{"format": 2}', "{", "[]", '{"format": 3, "plan": {"id": 1}}'])
def test_results_that_do_not_say_whose_they_are_are_not_replaced(probed, body):
    run, results = probed
    (results.folder / "summary.json").write_text(body)
    before = _files(results.folder)
    with pytest.raises(
        RunError, match=r"does not say which plan its results are of; move .* to another"
    ):
        probe_run(run, QUICK, n_jobs=1)
    assert _files(results.folder) == before


def test_damaged_results_of_the_same_plan_are_replaced(probed):
    run, results = probed
    (results.folder / "scores.jsonl").write_text("")
    summary = json.loads((results.folder / "summary.json").read_text())
    (results.folder / "summary.json").write_text(json.dumps({**summary, "chance": 1}))
    assert probe_run(run, QUICK, n_jobs=1).read()


class _Queue:
    """A batch system that lists these tasks, each under its owner."""

    runs_here = False

    def __init__(self, *owners):
        self.owners = owners

    def states(self, query: Query):
        tasks = (
            TaskState(str(i), EXTRACT, 0, "queued", "PENDING")
            for i, (owner, name) in enumerate(self.owners)
            if owner == query.run_id and name in query.stages
        )
        return States(tuple(tasks))


@pytest.mark.parametrize("place", ["scratch/copy", "elsewhere/scratch/A"])
def test_a_copy_does_not_take_the_jobs_of_the_original_for_its_own(plan_fake, work, place):
    run = plan_fake(name="A")
    shutil.copytree(run.folder, work / place)
    copy = Run.open(work / place)
    jobs = [extract_job(one, Profile()) for one in (run, copy)]
    queue = _Queue(*((job.run_id, job.name) for job in jobs))
    assert [task.job for task in task_states(run, queue).tasks] == ["0"]
    assert [task.job for task in task_states(copy, queue).tasks] == ["1"]
    assert {job.run_id for job in chain(copy, Profile())} == {job_owner(copy)}


def test_a_renamed_run_does_not_count_on_jobs_that_look_for_the_old_folder(plan_fake, work):
    run = plan_fake(name="A")
    job = extract_job(run, Profile())
    run.folder.rename(work / "scratch/B")
    assert task_states(find_run("B", work), _Queue((job.run_id, job.name))).tasks == ()


def test_jobs_are_known_by_whatever_path_a_run_is_named(plan_fake, work, monkeypatch):
    run = plan_fake(name="A")
    (work / "link").symlink_to(work / "scratch")
    owners = {job_owner(find_run(name, work)) for name in ("A", "link/A", str(run.folder))}
    assert len(owners) == 1


def test_a_run_that_is_not_there_is_answered_with_close_names(plan_fake, work, capsys):
    plan_fake(name="demo-spatial")
    made.made(work / "results/demo-mirrored")
    said = _line(capsys, "report", "--run", "demo-spatail")
    assert said.startswith("vsp: demo-spatail: no such run or results in results/ and scratch/")
    assert "there is demo-spatial" in said
    assert "demo-mirrored" in _line(capsys, "compare", "demo-mirrored", "demo-miror")
    assert "scratch/demo: no such run; there is demo-spatial" in _line(
        capsys, "status", "--run", "demo"
    )


def test_a_run_without_results_is_told_to_probe(plan_fake, work, capsys):
    plan_fake(name="A")
    assert "results/A: holds no results; run `vsp probe --run A` first" in _line(
        capsys, "report", "--run", "A"
    )


def test_a_probe_that_is_not_what_vsp_writes_is_one_line(tmp_path):
    results = made.made(tmp_path / "results/A")
    with pytest.raises(ProbeError, match="format None"):
        load(results.folder, 0)


def test_a_run_in_a_linked_scratch_is_found_by_its_own_path(vsp, work, spatial):
    (work / "big").mkdir()
    (work / "scratch").symlink_to("big")
    assert vsp("plan", "--model", "fake", "--dataset", spatial, "--run", "L").returncode == 0
    assert find_run("./big/L", work).results == find_run("L", work).results


def test_sealed_results_that_do_not_say_whose_they_are_are_not_shown_beside_a_run(probed):
    _, results = probed
    path = results.folder / "summary.json"
    summary = json.loads(path.read_text())
    digests = {k: v for k, v in summary.pop("sha256").items() if k != "summary.json"}
    file_format = summary.pop("format")
    del summary["identity"]
    summary["plan"]["another"] = 1
    seal = {**digests, "summary.json": json_sha256([summary, digests])}
    path.write_text(json.dumps({"format": file_format, **summary, "sha256": seal}))
    for read in (results.summary, lambda: load(results.folder, 0)):
        with pytest.raises(RunError, match="does not say which plan its results are of; move"):
            read()
