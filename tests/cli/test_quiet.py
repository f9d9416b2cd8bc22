"""--quiet leaves out progress and notes, and nothing that a result needs; --verbose adds causes."""

import json

import pytest

from vsp.cli.main import main
from vsp.utils.quiet import is_quiet, is_verbose

FEW_FITS = ("--grid", "0.01", "1", "--permutations", "0", "--controls", "0", "--resamples", "20", "--no-curve", "--no-random",
            "--no-words", "--n-jobs", "1")  # fmt: skip


def test_a_quiet_working_day_prints_results_only(vsp, spatial):
    said = [
        vsp("--quiet", "plan", "--model", "fake", "--dataset", spatial),
        vsp("extract", "--quiet"),
        vsp("--quiet", "verify"),
        vsp("probe", "--quiet", *FEW_FITS),
        vsp("report", "--json", "--quiet"),
    ]
    assert [answer.returncode for answer in said] == [0] * 5
    assert "".join(answer.stderr for answer in said) == ""
    assert said[1].stdout == "run fake-spatial: 96 rows done, 0 failed, 0 missing\n"
    assert json.loads(said[4].stdout)["layers"]
    assert "verify fake-spatial: " in vsp("verify").stderr


def test_a_quiet_command_still_prints_errors_and_what_concerns_rows(vsp, write_dataset):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(30)
    ]
    folder = write_dataset(records)
    (folder / "images/7.png").write_bytes(b"")
    plan = ("plan", "--model", "fake", "--dataset", folder, "--quiet")
    refused = vsp(*plan)
    assert refused.returncode == 1 and "images/7.png" in refused.stderr
    assert "note: dropped 1 of 30 rows" in vsp(*plan, "--drop-unreadable").stderr
    vsp("extract")
    said = vsp("probe", "--quiet", *FEW_FITS, "--over", "training").stderr
    assert (
        said
        == "note: --over training is not used: intervals of folds include other training rows\n"
    )


def test_a_damaged_journal_is_said_also_when_quiet(vsp, plan_fake):
    run = plan_fake()
    vsp("extract")
    journal = next(run.journals.iterdir())
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], lines[1].replace(b"0", b"1", 1), *lines[2:]]))
    assert "warning: " in vsp("--quiet", "extract").stderr


@pytest.mark.parametrize("words", [["--verbose", "extract"], ["extract", "--verbose"]])
def test_verbose_shows_where_an_error_comes_from(work, capsys, words):
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.splitlines()[-1].startswith("vsp: ")
    assert main(["extract"]) == 1 and "Traceback" not in capsys.readouterr().err
    assert not is_quiet() and not is_verbose()


@pytest.mark.parametrize("words", ["--quiet extract --verbose", "extract --verbose --quiet"])
def test_quiet_and_verbose_exclude_each_other(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2 and "exclude each other" in capsys.readouterr().err


def test_the_words_of_the_untrained_baseline_do_not_repeat_the_option(
    vsp, work, checkpoint, spatial
):
    plan = ("plan", "--model", "llava15", "--checkpoint", checkpoint, "--dataset", spatial)
    out = vsp("--quiet", *plan, "--limit", "12").stdout
    assert "--weights random" in out and "--quiet" not in out
