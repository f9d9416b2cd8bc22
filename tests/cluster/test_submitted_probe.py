"""Options of `vsp probe` after `--` of a submission: checked, carried out, remembered and shown."""

from __future__ import annotations

import json

import pytest

from vsp.cli.main import main
from vsp.cli.submitted_probe import probe_choice
from vsp.extraction.extract import extract

QUICK = ("--permutations", "0", "--controls", "0", "--no-curve", "--no-random", "--no-words")
MEAN = ("--probe", "mass-mean", *QUICK)
SETTING = "mass-mean-permutations-0-controls-0-no-curve-no-random-no-words"
LOCAL = ("--profile", "local.yaml")


@pytest.fixture
def run(plan_fake, work):
    (work / "local.yaml").write_text("scheduler: local\ncpu: {cpus_per_task: 1}\n")
    return plan_fake(answers=False, options={"n_layers": 2})


@pytest.fixture
def said(capfd):
    """Run a command in this process: its exit code, and what it printed."""

    def said(*words):
        code = main(words)
        return code, "".join(capfd.readouterr())

    return said


def test_the_jobs_probe_with_these_options_and_report_that_setting(run, said):
    code, text = said("submit", "--dry-run", "--probe-tasks", "2", *LOCAL, "--", *MEAN)
    assert code == 0
    commands = [line for line in text.splitlines() if "-m vsp" in line]
    probes = [line for line in commands if " probe --run " in line]
    assert len(probes) == 2 and all(" ".join(MEAN) in line for line in probes)
    assert f"--probe {SETTING} --save" in commands[-1]
    assert not (run.folder / "submitted.json").exists()


def test_at_several_positions_each_setting_is_reported_and_a_named_position_is_the_only_one(
    plan_fake, said
):
    plan_fake(positions=("last", "image"))
    every = said("submit", "--dry-run", "--", *MEAN)[1]
    named = SETTING.replace("mass-mean", "mass-mean-at-image")
    assert f"--probe {SETTING} --probe {named} --save" in every and "--position all" in every
    one = said("submit", "--dry-run", "--", *MEAN, "--position", "image")[1]
    assert f" --probe {named} --save" in one
    assert f"--probe {SETTING} " not in one and "--position all" not in one


WRONG = [
    (("--prob", "mass-mean"), "option --prob is not known; did you mean --probe or --probe-option?"),
    (("--probe", "mass-meen"), "did you mean mass-mean?"),
    (("--repeats", "0"), "'0' must be an integer ≥ 1"),
    (("mass-mean",), "argument 'mass-mean' is one too many"),
    (("--n-jobs", "3"), "--n-jobs after --: write cpus_per_task under `cpu` in the profile"),
    (("--partial",), "--partial after --: use --after any before --"),
    (("--position", "subject"), "position 'subject' was not recorded; it has last"),
    (("--probe", "ridge"), "is not a number, which this probe needs"),
    (("--probe", "mass-mean", "--grid", "1"), "has no strength to choose; leave out --grid"),
    (("--drop-label", "nowhere"), "nowhere"),
    (("--probe", "none.py:Probe"), "--probe none.py:Probe: no file none.py"),
    (("--probe-option", "k=1"), "--probe-option k: probe logistic of vsp has none"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["submit", "resume"])
@pytest.mark.parametrize(("words", "why"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_what_the_probe_would_refuse_is_refused_before_anything_is_submitted(
    run, said, command, words, why
):
    try:
        code, text = said(command, *LOCAL, "--", *words)
    except SystemExit as end:
        code, text = end.code, ""
    assert code in (1, 2) and (code == 2 or why in text)
    assert not (run.folder / "submitted.json").exists() and not run.ledgers()[0].n_done


def test_a_refusal_by_the_parser_names_the_probe(run, said, capfd):
    for words, why in WRONG[2:4]:
        with pytest.raises(SystemExit):
            main(["submit", "--", *words])
        text = capfd.readouterr().err
        assert why in text and text.splitlines()[-1].startswith("vsp probe: ")


def test_layers_are_named_by_the_probe_or_split_among_tasks(run, said):
    code, text = said("submit", "--probe-tasks", "2", "--dry-run", "--", "--layers", "0")
    assert code == 1 and "--probe-tasks 2: splits all layers" in text
    assert (
        "--probe logistic-layers-0 --save" in said("submit", "--dry-run", "--", "--layers", "0")[1]
    )


def test_a_second_submission_probes_another_setting_and_a_finished_one_says_so(run, said, work):
    extract(run, run.shards)
    for words in (("verify",), ("probe", "--n-jobs", "1", *MEAN), ("report", "--save")):
        assert said(*words)[0] == 0
    assert [path.name for path in run.results.iterdir() if path.is_dir()] == [SETTING]
    code, text = said("submit", *LOCAL, "--", *MEAN)
    assert (
        code == 0
        and f"probes {SETTING} fitted; `vsp report --run {run.name} --probe {SETTING}`" in text
    )
    assert f"--stages probe,report -- {' '.join(MEAN)}`" in text
    other = ("--probe", "lda", *QUICK)
    assert said("submit", *LOCAL, "--", *other)[0] == 0
    lda = SETTING.replace("mass-mean", "lda")
    assert {path.name for path in run.results.iterdir() if path.is_dir()} == {SETTING, lda}
    assert "is finished" in said("submit", *LOCAL, "--", *other)[1]
    overview = (run.results / "report.txt").read_text()
    assert f"run {run.name}: 2 settings of the probe, the newest first" in overview
    assert overview.index(f"\n{lda}\n") < overview.index(f"\n{SETTING}\n")
    for name in (lda, SETTING):
        page = (run.results / name / "report.txt").read_text()
        assert page.split(".")[0][:70] in overview
        assert f"page: {name}/report.txt" in overview.replace("\n", " ").replace("  ", " ")


def test_results_of_another_setting_do_not_count_for_the_one_that_was_submitted(run, said):
    extract(run, run.shards)
    words = (*LOCAL, "--stages", "probe", "--")
    assert said("submit", *words, "--probe", "lda", *QUICK)[0] == 0
    lda = SETTING.replace("mass-mean", "lda")
    stages = _stages(said)
    assert (stages["probe"]["state"], stages["probe"]["settings"]) == ("done", [lda])
    assert stages["report"]["state"] == "not started"
    record = json.loads((run.folder / "submitted.json").read_text())
    record[-1] |= {"probe": list(MEAN), "settings": [SETTING]}
    (run.folder / "submitted.json").write_text(json.dumps(record))
    stages = _stages(said)
    assert stages["probe"]["state"] == "not started"
    text = said("status")[1]
    assert f"vsp probe --run {run.name} {' '.join(MEAN)}" in " ".join(text.split())
    assert SETTING[:20] in text.partition("next:")[0]


def _stages(said):
    return {
        one["stage"]: one for one in json.loads(said("status", "--json", "--quiet")[1])["stages"]
    }


def test_resume_repeats_the_options_of_the_submission_and_says_so(run, said, work):
    for path in work.glob("*"):
        assert path.name in ("local.yaml", "scratch", "jobs")
    assert said("submit", *LOCAL, "--stages", "extract", "--", *MEAN)[0] == 0
    (run.folder / "journal").rename(run.folder / "gone")
    (run.folder / "journal").mkdir()
    code, text = said("resume", "--dry-run", "--stages", "extract,probe")
    assert (
        code == 0 and f"with --profile local.yaml -- {' '.join(MEAN)}, as in the submission" in text
    )
    assert f"probe --run {run.folder.absolute()} {' '.join(MEAN)}" in text
    text = said("resume", "--dry-run", "--stages", "extract,probe", "--", "--probe", "lda")[1]
    assert "mass-mean" not in text and " --probe lda " in text


def test_a_file_of_the_user_is_named_by_its_full_path(work):
    (work / "mine.py").write_text("class Mine:\n    pass\n")
    full = f"{work.resolve()}/mine.py:Mine"
    assert probe_choice(("--probe", "mine.py:Mine")).words == ("--probe", full)
    assert probe_choice(("--probe=mine.py:Mine",)).words == (f"--probe={full}",)


def test_a_record_with_a_setting_that_is_a_path_is_not_used(run, said):
    values = {"time": "2026-01-01T10:00:00+00:00", "profile": None, "stages": ["probe"], "after": "ok",
              "probe_tasks": 0, "jobs": {}, "settings": ["../../other"]}  # fmt: skip
    (run.folder / "submitted.json").write_text(json.dumps([values]))
    assert "is not a list of submissions" in said("status")[1]
