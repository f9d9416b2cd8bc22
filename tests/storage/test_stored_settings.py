"""Several settings of a run: which are stored, which one is chosen, and when one is stale."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from helpers.stored_runs import LIGHT, rows, run_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vsp.cli.main import main
from vsp.errors import RunError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings, setting_name
from vsp.extraction.extract import extract
from vsp.reporting.probe_report import report_json
from vsp.storage.find_results import find_results
from vsp.storage.stored_settings import choose_setting, stored_settings, why_stale
from vsp.utils.files import json_sha256


@pytest.fixture(scope="module")
def two_once(tmp_path_factory):
    """A run that was probed twice, with mass-mean last. Tests have copies."""
    work = tmp_path_factory.mktemp("two")
    run = run_of(work, "a", rows())
    for number, probe in enumerate(("logistic", "mass-mean")):
        made = probe_run(run, ProbeSettings(**LIGHT, probe=probe), n_jobs=1)
        os.utime(made.folder / "summary.json", (number, number))
    return work


@pytest.fixture
def two(two_once, work):
    shutil.copytree(two_once, work, dirs_exist_ok=True)
    return work


def test_a_second_probe_leaves_the_results_of_the_first_byte_for_byte(work):
    run = run_of(work, "a", rows(60))
    first = probe_run(run, ProbeSettings(**LIGHT), n_jobs=1)
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    for changes in ({"probe": "mass-mean"}, {"metric": "balanced"}, {"treatment": "none"}):
        probe_run(run, ProbeSettings(**LIGHT, **changes), n_jobs=1)
    assert before == {path: path.read_bytes() for path in before}
    assert len(stored_settings(run.results)) == 4


def test_the_newest_setting_is_shown_and_probe_chooses_another(two, capsys):
    home = two / "results/a"
    assert choose_setting(home).summary()["probe"]["probe"] == "mass-mean"
    older = choose_setting(home, probe="logistic")
    assert older.summary()["probe"]["probe"] == "logistic"
    assert choose_setting(home, probe=older.setting).folder == older.folder
    assert main(["report", "--run", "a", "--probe", "logistic", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert page["setting"] == older.setting and page["other_settings"][0].startswith("mass-mean")


def test_a_setting_that_is_not_there_is_one_line_with_those_that_are(two, capsys):
    assert main(["report", "--run", "a", "--probe", "lda"]) == 1
    said = capsys.readouterr().err
    assert "results/a: holds no results of lda; it has mass-mean-" in said and "logistic-" in said


def test_two_settings_of_a_run_are_compared(two, capsys):
    names = ["--probe", "logistic", "--probe", "mass-mean"]
    assert main(["compare", "a", *names, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert (pair["first"], pair["other"]) == ("a with logistic", "a with mass-mean")
    assert main(["compare", "a", "a", *names]) == 1
    assert "2 runs and 2 --probe: name several of one kind" in capsys.readouterr().err


def test_compared_runs_have_the_setting_of_the_first(two, capsys):
    run = run_of(two, "c", rows(seed=0))
    for probe in ("mass-mean", "logistic"):  # logistic is the newest
        probe_run(run, ProbeSettings(**LIGHT, probe=probe), n_jobs=1)
    assert main(["compare", "a", "c", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert "probe" not in pair["differs"]
    assert main(["compare", "a", "c", "--probe", "logistic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["first"] == "a"


def test_results_before_format_7_are_shown_beside_new_ones(two):
    home = two / "results/a"
    older = choose_setting(home, probe="logistic")
    for path in older.folder.iterdir():
        path.rename(home / path.name)
    older.folder.rmdir()
    values = json.loads((home / "summary.json").read_text())
    digests = values.pop("sha256")
    digests.pop("summary.json"), values.pop("format")
    digests["summary.json"] = json_sha256([values, digests])
    (home / "summary.json").write_text(json.dumps({"format": 6, **values, "sha256": digests}))
    found = choose_setting(home, probe="logistic")
    assert found.folder == home and found.read() and found.name == "a" and found.setting == ""
    assert choose_setting(home, probe="mass-mean").read()
    assert find_results("a", two, probe="logistic").folder == home


def test_the_path_of_a_setting_names_these_results(two, capsys):
    folder = choose_setting(two / "results/a", probe="logistic").folder
    assert find_results(str(folder), two).folder == folder
    assert find_results(str(folder), two).name == "a"
    with pytest.raises(RunError, match="holds results of logistic at last; name the run"):
        find_results(str(folder), two, probe="mass-mean")


def test_results_are_stale_once_the_run_has_other_rows(work, plan_fake, capsys):
    run = plan_fake(name="a", shard_size=16)
    extract(run, run.shards[:3])
    light = ProbeSettings(**LIGHT)
    results = probe_run(run, light, n_jobs=1, partial=True)
    summary = results.summary()
    assert why_stale(results, summary["rows"]) == ""
    extract(run, run.shards)
    assert "extracted rows now" in why_stale(results, summary["rows"])
    assert main(["report", "--run", "a"]) == 0
    assert "! stale: the run has " in capsys.readouterr().out
    assert report_json(results)["stale"]
    fresh = probe_run(run, light, n_jobs=1)
    assert fresh.folder == results.folder and why_stale(fresh, fresh.summary()["rows"]) == ""
    shutil.rmtree(run.folder)  # from results alone, nothing can be said
    assert why_stale(results, summary["rows"]) == ""


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "probe": st.sampled_from(["logistic", "mass-mean", "/a/own.py:Own", "/b/other.py:Own"]),
        "position": st.sampled_from(["last", "subject"]),
        "treatment": st.sampled_from(["", "none", "center"]),
        "strengths": st.lists(st.floats(1e-3, 1e3), max_size=3).map(tuple),
        "metric": st.sampled_from(["auto", "auc"]),
        "folds": st.integers(2, 12),
        "seed": st.integers(0, 10**12),
        "drop_labels": st.lists(st.sampled_from(["a", "b", "a-b", "A", "/x", "ü"]), max_size=3).map(tuple),
        "curve": st.booleans(),
        "tolerance": st.sampled_from([0.0, 1e-3, 1.0000001e-3]),
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(one=CHANGES, other=CHANGES)
@example(one={"drop_labels": ("a", "b")}, other={"drop_labels": ("a-b",)})
@example(one={"drop_labels": ("a",)}, other={"drop_labels": ("A",)})
def test_two_settings_never_share_a_folder_and_every_name_is_plain(one, other):
    first, second = ProbeSettings(**one), ProbeSettings(**other)
    names = setting_name(first), setting_name(second)
    assert (names[0].lower() == names[1].lower()) == (first == second)
    for name in names:
        assert name[0].isalnum() and set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,-"
        ) and len(name) < 100  # fmt: skip


def test_names_of_settings_say_what_differs():
    assert setting_name(ProbeSettings()) == "logistic"
    changed = replace(ProbeSettings(), probe="ridge", position="subject", strengths=(1.0, 0.5))
    assert setting_name(changed) == "ridge-at-subject-grid-1-0.5"
    assert setting_name(ProbeSettings(curve=False), [2, 0, 1]) == "logistic-no-curve-layers-0-2"
    own = setting_name(ProbeSettings(probe="/home/ann/own.py:Mine"))
    assert own.startswith("own.py_Mine-") and "ann" not in own


def test_what_is_no_folder_of_a_setting_is_passed_over(two):
    home = two / "results/a"
    before = [one.name for one in stored_settings(home)]
    (home / "notes").mkdir()
    (home / "notes/summary.json").mkdir()
    (home / "figures").mkdir()
    (home / "list.txt").write_text("")
    assert [one.name for one in stored_settings(home) if one.probe] == before
    assert all(one.results.home == home for one in stored_settings(home))


def test_results_of_runs_before_format_7_are_no_settings_of_their_parent(two):
    home = two / "results/a"
    (old,) = (one.results for one in stored_settings(home) if one.probe == "logistic")
    for path in old.folder.iterdir():
        path.rename(home / path.name)
    old.folder.rmdir()
    values = json.loads((home / "summary.json").read_text())
    (home / "summary.json").write_text(json.dumps({**values, "format": 6}))
    assert {one.results.folder for one in stored_settings(home)} >= {home}
    assert stored_settings(two / "results") == []


def test_the_command_that_a_probe_prints_shows_its_results(work, vsp):
    run = run_of(work, "a", rows())
    quick = ["--permutations", 0, "--controls", 0, "--no-curve", "--resamples", 50, "--n-jobs", 1]
    for probe in ("mass-mean", "logistic"):
        answer = vsp("probe", "--run", "a", "--probe", probe, *quick)
        setting = choose_setting(run.results).setting
        assert f"`vsp report --run a --probe {setting}` shows it" in answer.stdout
        page = json.loads(vsp("report", "--run", "a", "--probe", setting, "--json").stdout)
        assert page["setting"] == setting and page["probe"]["probe"] == probe
