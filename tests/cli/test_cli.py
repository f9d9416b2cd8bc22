"""The command line: what a user types, reads and gets as exit code."""

import json
import shutil

import pytest
from helpers.paths import ROOT

from vsp.cli.main import main

COMMANDS = [
    *("generate", "models", "plan", "bench", "submit", "resume", "extract"),
    *("status", "logs", "verify", "probe", "report", "compare"),
]
# Few fits and resamples, so that tests are fast.
FEW_FITS = ("--permutations", "2", "--controls", "0", "--resamples", "100", "--no-curve",
            "--no-random", "--no-words", "--grid", "0.01", "1")  # fmt: skip


def _line(answer):
    """The one-line message of an error that a user can fix."""
    assert answer.returncode == 1 and answer.stdout == ""
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("vsp: ") and "Traceback" not in answer.stderr
    return line


def test_the_main_job_with_real_weights(vsp, work, checkpoint):
    """The commands of the README with the small checkpoint and the default paths."""
    shutil.copytree(ROOT / "configs", work / "configs")
    config = work / "configs/spatial_dataset.yaml"
    config.write_text(config.read_text().replace("n_samples: 3000", "n_samples: 60"))
    answers = [
        vsp("generate", "--config", "configs/spatial_dataset.yaml"),
        vsp("plan", "--model", "llava15", "--checkpoint", checkpoint, "--shards", "2"),
        vsp("extract"),
        vsp("status"),
        vsp("probe", "--n-jobs", "64", *FEW_FITS),
        vsp("report", "--plot", "accuracy.png"),
    ]
    assert [a.returncode for a in answers] == [0] * 6, [a.stderr for a in answers]
    _, plan, extract, status, probe, report = (answer.stdout for answer in answers)
    assert "sbatch jobs/extract_array.sh" in plan and "quantization 4bit" in plan
    assert extract == "run llava15-spatial: 60 rows done, 0 failed, 0 missing\n"
    assert ["all", "60", "60", "0", "0"] in map(str.split, status.splitlines())
    assert "batch effect: 8 rows run alone differ by at most" in status
    assert max(map(len, status.splitlines())) <= 80
    assert "results/llava15-spatial" in probe and "The figure to cite: layers selected" in report
    assert "\x1b" not in report and max(map(len, report.splitlines())) <= 80
    assert (work / "accuracy.png").exists() and (work / "data/splits/spatial/val.json").exists()
    assert (work / "scratch/llava15-spatial/manifest.jsonl").exists()
    values = json.loads(vsp("report", "--json").stdout)
    assert len(values["layers"]) == 7 and values["layers"][0]["score"] == values["chance"]


def test_every_command_has_help_with_an_example(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        text = capsys.readouterr().out
        assert caught.value.code == 0 and f"example:\n  vsp {command}" in text
        assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--config", "no.yaml"], "no.yaml: no such file"),
        (["plan", "--model", "gpt"], "model 'gpt' is not known; known: auto, fake, llava15, qwen2, spatialrgpt"),
        (["plan", "--model", "fake"], "data/raw/spatial: no such folder; make it with `vsp generate --config spatial`"),
        (["plan", "--model", "fake", "--dataset", "nope"], "data/raw: holds no dataset; run vsp in the project folder, or make one with `vsp gen"),
        (["dataset", "show", "nope"], "nope: no such folder; /"),
        (["generate", "--of", "nope", "--variant", "blank", "--out", "x"], "nope: no such folder; /"),
        (["bench", "--model", "fake", "--dataset", "nope"], "nope: no such folder; /"),
        (["dataset", "show", "."], "metadata.json: no such file, so . is not a dataset; make one with"),
        (["plan", "--model", "fake", "--profile", "no.yaml"], "no.yaml: no such file"),
        (["plan", "--model", "llava15", "--checkpoint", "no", "--dataset", "SPATIAL"], "checkpoint 'no'"),
        (["plan", "--model", "fake", "--dataset", "SPATIAL", "--option", "a=1"], "key 'a' is not known; known: n_layers"),
        (["plan", "--model", "fake", "--dataset", "SPATIAL", "--run", "a b"], "run 'a b': use letters"),
        (["extract"], "/scratch: holds no run; run vsp in the project folder, or make one with `vsp plan`"),
        (["status", "--run", "x"], "scratch/x: no such run; /"),
        (["probe"], "holds no run"),
        (["report"], "results: holds no results; run vsp in the project folder, or name a folder of results with --run"),
        (["report", "--run", "x"], "x: /"),
    ],
)  # fmt: skip
def test_an_error_a_user_can_cause_is_one_line(vsp, spatial, arguments, message):
    assert message in _line(vsp(*[a if a != "SPATIAL" else spatial for a in arguments]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--model", "fake", "--shards", "0"],
        ["plan", "--model", "fake", "--shards", "2", "--shard-size", "5"],
        ["plan", "--model", "fake", "--quantization", "2bit"],
        ["plan", "--model", "fake", "--option", "a"],
        ["probe", "--grid", "0.1", "-1"],
        ["probe", "--grid"],
        ["probe", "--treatment", "scale"],
        ["probe", "--tolerance", "0"],
        ["probe", "--repeats", "0"],
        ["probe", "--permutations", "-1"],
        ["probe", "--layers", "3-"],
        ["probe", "--layers", "0,x"],
        ["probe", "--layers", "3-1"],
        ["probe", "--folds", "1"],
        ["probe", "--part", "2/2"],
        ["probe", "--part", "1"],
        ["probe", "--part", "-1/2"],
        ["probe", "--part", "0/0"],
        ["plan", "--model", "fake", "--devices", "0"],
        ["plan", "--model", "fake", "--devices", "all"],
        ["extract", "--shard", "x"],
        [],
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: vsp" in capsys.readouterr().err


def test_commands_act_on_the_newest_run_unless_one_is_named(vsp, spatial):
    for name in ("first", "second"):
        assert vsp("plan", "--model", "fake", "--dataset", spatial, "--run", name).returncode == 0
    assert vsp("extract").stdout.startswith("run second: 96 rows done")
    assert "96 rows are missing" in _line(vsp("probe", "--run", "first"))
    assert "holds no results; run `vsp probe --run second` first" in _line(vsp("report"))
    assert json.loads(vsp("status", "--json", "--run", "first").stdout)["run"] == "first"


def test_a_shard_that_is_not_there_is_named(vsp, spatial):
    vsp("plan", "--model", "fake", "--dataset", spatial)
    assert "has no shard 1; it has 1" in _line(vsp("extract", "--shard", "1"))


def test_one_shard_is_extracted_and_counted_alone(vsp, spatial, work):
    vsp("plan", "--model", "fake", "--dataset", spatial, "--shards", 2, "--option",
        "hidden_size=1024")  # fmt: skip
    starts = json.loads((work / "scratch/fake-spatial/plan.json").read_text())["shard_starts"]
    answer = vsp("extract", "--shard", 1, "--shard", 1)
    assert 0 < starts[1] < 96
    assert answer.stdout == f"run fake-spatial: {96 - starts[1]} rows done, 0 failed, 0 missing\n"


def test_unreadable_images_are_listed_each_on_its_line(vsp, write_dataset):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(30)
    ]
    folder = write_dataset(records)
    for i in range(20):
        (folder / f"images/{i}.png").write_bytes(b"")
    answer = vsp("plan", "--model", "fake", "--dataset", folder)
    assert "20 images or prompts, for 20 of 30 rows, cannot be used" in _line(answer)
    assert all(f"images/{i}.png'" in answer.stderr for i in range(20))
    dropped = vsp("plan", "--model", "fake", "--dataset", folder, "--drop-unreadable")
    assert dropped.returncode == 0 and "dropped 20 of 30 rows in all" in dropped.stderr


def test_an_old_encoding_is_no_error(vsp, plan_fake, work, monkeypatch):
    plan_fake()
    vsp("extract"), vsp("probe", *FEW_FITS)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    answer = _shell(work, "vsp report")
    assert answer.returncode == 0 and "???" in answer.stdout
    assert "The figure to cite: layers selected" in answer.stdout


def test_a_closed_pipe_is_no_error(vsp, spatial, work):
    import subprocess
    import sys

    vsp("plan", "--model", "fake", "--dataset", spatial)
    command = f"{sys.executable} -m vsp status | head -c 1"
    answer = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True)
    assert "Traceback" not in answer.stderr and "BrokenPipe" not in answer.stderr


def _shell(work, redirected):
    """Run `vsp` with its streams redirected by a shell."""
    import subprocess
    import sys

    words = redirected.replace("vsp ", f"{sys.executable} -m vsp ", 1)
    command = ["bash", "-o", "pipefail", "-c", words]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_without_a_stream_does_its_work(plan_fake, work, closed):
    run = plan_fake()
    answer = _shell(work, f"vsp extract {closed}")
    assert answer.returncode == 0 and "Traceback" not in answer.stderr, answer
    assert run.ledgers()[0].n_done == 96
    answer = _shell(work, f"vsp report --run none {closed}")
    assert answer.returncode == 1 and answer.stdout == "", answer
    assert answer.stderr == "" or answer.stderr.startswith("vsp: "), answer


def test_every_stage_without_streams_does_its_work(plan_fake, work):
    run, closed = plan_fake(options={"n_layers": 2}), "<&- >&- 2>&-"
    probe = " ".join(("probe --n-jobs 2", *FEW_FITS))
    for command in ("extract", "verify", "status", probe, "report"):
        answer = _shell(work, f"vsp {command} {closed}")
        assert answer.returncode == 0 and "Traceback" not in answer.stderr, (command, answer)
    assert run.ledgers()[0].n_done == 96 and (work / "results").exists()
    answer = _shell(work, f"vsp report --run none {closed}")
    assert answer.returncode == 1 and answer.stdout == "", answer
    assert answer.stderr == "" or answer.stderr.startswith("vsp: "), answer


def test_files_are_not_written_to_the_number_of_a_closed_stream(work):
    code = (
        "import os, sys; from vsp.utils.streams import escape_output; escape_output()\n"
        "file = open('file', 'w'); os.write(1, b'a'); os.system('echo b'); print('c', flush=True)"
    )
    import subprocess
    import sys

    command = ["bash", "-c", f'{sys.executable} -c "$1" <&- >&-', "-", code]
    assert subprocess.run(command, cwd=work, capture_output=True).stderr == b""
    assert (work / "file").read_text() == ""


FULL = "vsp: stdout: no space left on device; the rest of the output is lost, write it elsewhere\n"


@pytest.mark.parametrize("command", ["status", "status --json", "extract", "--help"])
def test_a_full_disk_under_stdout_is_one_line(plan_fake, work, command):
    run = plan_fake()
    answer = _shell(work, f"vsp {command} >/dev/full")
    assert answer.returncode == 1 and answer.stderr.endswith(FULL), answer
    assert answer.stderr.count("vsp: ") == 1 and "Traceback" not in answer.stderr
    assert command != "extract" or run.ledgers()[0].n_done == 96


def test_a_full_disk_under_stderr_loses_messages_only(plan_fake, work):
    plan_fake()
    assert _shell(work, "vsp extract 2>/dev/full").stdout.startswith("run fake-spatial: 96 rows")
    assert _shell(work, "vsp extract --run none 2>/dev/full").returncode == 1


@pytest.mark.parametrize("command", ["status", "report", "--help", "extract --run none"])
def test_a_closed_pipe_of_both_streams_is_quiet(plan_fake, work, command):
    plan_fake()
    answer = _shell(work, f"vsp {command} 2>&1 | true")
    assert answer.stdout == answer.stderr == "" and answer.returncode in (141, 1, 0), answer
