"""Files of a run and of results that are not regular files, or whose values are absurd.

Each gives an error of one line within a few seconds. No command hangs or allocates the memory that a
damaged size asks for.
"""

import json
import os
import shutil
import time

import numpy as np
import pytest
from helpers import made
from helpers.limited import Runner

from vsp.errors import RunError, VspError
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.extraction.extract import extract
from vsp.probes import load
from vsp.reporting.curve_plot import plot, plot_runs
from vsp.reporting.probe_report import report_json, report_page
from vsp.storage.journal import Journal
from vsp.storage.npz import write_arrays
from vsp.storage.run import Run
from vsp.storage.stored_settings import choose_setting
from vsp.utils.files import json_sha256
from vsp.utils.terminal import show

SECONDS = 10


def _put(path, kind):
    """Replace a file or folder by something of another kind."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path.name)  # a circle of links


KINDS = ("folder", "pipe", "link to a pipe", "device", "circle")


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """Runs commands in other processes, so that one that waits can be killed."""
    imported = ("vsp.extraction.extract", "vsp.extraction.verify", "vsp.evaluation.probe_run",
                "vsp.cluster.run_jobs", "vsp.reporting.status_page")  # fmt: skip
    runner = Runner(tmp_path_factory.mktemp("runner"), imported)
    yield runner
    runner.close()


COMMANDS = {
    "plan.json": ("status", "extract", "probe"),
    "manifest.jsonl": ("probe",),
    "states.npy": ("verify", "extract", "probe"),
    "journal": ("status", "verify", "probe"),
    "journal/000000-001.journal": ("status", "resume", "verify", "probe"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_run_that_is_no_regular_file_is_one_line(plan_fake, work, capsys, kind):
    from vsp.cli.main import main

    run = plan_fake(name="A")
    extract(run, run.shards)
    shutil.move(run.folder, work / "whole")
    for file, commands in COMMANDS.items():
        shutil.rmtree(run.folder, ignore_errors=True)
        shutil.copytree(work / "whole", run.folder)
        if (file, kind) == ("journal", "folder"):
            continue  # an empty folder of journals is a run without a row
        _put(run.folder / file, kind)
        for command in commands:
            started = time.process_time()
            capsys.readouterr()
            code = main([command, "--run", "A"])
            said = capsys.readouterr().err
            lines = [line for line in said.splitlines() if not line.startswith("note: ")]
            assert code == 1 and len(lines) == 1 and lines[0].startswith("vsp: "), (file, said)
            assert time.process_time() - started < SECONDS


def test_a_pipe_in_the_place_of_a_file_never_makes_a_command_wait(plan_fake, runner):
    run = plan_fake(name="A")
    for file in ("manifest.jsonl", "states.npy", "journal/000000-001.journal", "plan.json"):
        _put(run.folder / file, "pipe")
        ended = runner.run("extract", "--run", run.folder)
        ended.assert_answer_or_one_line()
        assert ended.code == 1 and len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_journal_is_not_written_into_what_is_there(plan_fake, kind):
    run = plan_fake()
    _put(run.journals / "000000-001.journal", kind)
    with Journal(run.journals, run.plan.id, 0) as journal:
        assert journal.path.name == "000000-002.journal"
    if kind != "folder":
        _put(run.journals, kind)
        with pytest.raises((VspError, OSError)):
            Journal(run.journals, run.plan.id, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_no_regular_file_is_named(plan_fake, work, kind):
    from vsp.cluster.contract import States
    from vsp.cluster.logs import shard_log
    from vsp.cluster.status import run_status
    from vsp.storage.journal import TaskIdentity

    run = plan_fake()
    with Journal(run.journals, run.plan.id, 0, planned=1, task=TaskIdentity("7_0", "n1")):
        pass
    _put(run.folder / "logs/extract-7_0.log", kind)
    tail = shard_log(run_status(run, run.ledgers(), States()), run.folder / "logs", 0, 5)
    assert tail.lines[0].startswith("(cannot be read (")


RESULT_FILES = ("summary.json", "scores.jsonl", "predictions.npz", "estimates.npz",
                "probes/001.npz", "probes/card.json")  # fmt: skip


DRAWN = ("summary.json", "scores.jsonl")  # the files that a figure reads


def _few_layers(folder):
    """Results of three layers."""
    return made.made(folder, made.predictions(made.accuracies(3)))


def _pages(results, folder, figures=True):
    """A call of each function that reads results; figures take most of the time."""
    drawn = (
        lambda: plot(results, folder / "a.png"),
        lambda: plot_runs([("a", results), ("b", results)], folder / "a.png"),
    )
    return (
        lambda: show(report_page(results)),
        lambda: json.dumps(report_json(results)),
        *(drawn if figures else ()),
        lambda: compare([("a", results), ("b", results)], ComparisonSettings(flips=9, resamples=9)),
        lambda: load(results.folder, 1),
    )


def _or_one_line(page):
    """Whether the page is refused; asserts that it takes one line and little time."""
    started = time.process_time()
    try:
        page()
        refused = False
    except VspError as error:
        assert str(error).isprintable(), error
        refused = True
    assert time.process_time() - started < SECONDS
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_results_that_is_no_regular_file_is_one_line(tmp_path, kind, capsys):
    for i, file in enumerate(RESULT_FILES):
        results = made.made(tmp_path / f"{i}")
        _put(results.folder / file, kind)
        pages = _pages(results, tmp_path, figures=file in DRAWN)
        refused = [_or_one_line(page) for page in pages]
        assert any(refused)
        made.made(results.folder) if kind != "folder" else None  # written aside and renamed
        whole = _pages(results, tmp_path, figures=kind == "pipe" and file in DRAWN)
        assert kind == "folder" or not any(map(_or_one_line, whole[:-1]))


@pytest.mark.parametrize("file", RESULT_FILES)
@pytest.mark.parametrize("front", [False, True])
def test_a_large_file_with_holes_in_results_is_refused_without_reading_it(tmp_path, file, front):
    results = made.made(tmp_path / "a")
    path = results.folder / file
    path.parent.mkdir(exist_ok=True)
    body = path.read_bytes() if path.exists() else b""
    with path.open("wb") as opened:
        opened.seek(15 << 30 if front else 0)
        opened.write(body)
        opened.truncate(15 << 30 if not front else None)
    started = time.process_time()
    assert sum(_or_one_line(page) for page in _pages(results, tmp_path, figures=file in DRAWN))
    assert time.process_time() - started < SECONDS


def _reseal(folder, change_summary=lambda values: values, change_scores=lambda lines: lines):
    """Write results with other values and the digests that match them."""
    from vsp.utils.files import sha256

    path = folder / "summary.json"
    values = json.loads(path.read_text())
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(line) + "\n" for line in change_scores(lines))
    (folder / "scores.jsonl").write_text(text)
    values = change_summary(values)
    digests = {name: "" for name in values.pop("sha256") if name != "summary.json"}
    values.pop("format")
    for name in digests:
        with (folder / name).open("rb") as file:
            digests[name] = sha256(file)
    seal = json_sha256([values, digests])
    sealed = {"format": 4, **values, "sha256": {**digests, "summary.json": seal}}
    path.write_text(json.dumps(sealed))


NAN = float("nan")
ODD = (None, True, -1, 10**400, 10**18, NAN, 1e308, "x", "1", [], [[1]], {}, {"a": "b"})
ODD_INSIDE = (None, -1, 10**400, NAN, "x", [[1]], {"a": "b"})
SEEN = ("run", "plan", "rows", "failed_reasons", "batching", "split", "probe", "statistic",
        "confidence", "resamples", "n_permutations", "n_movable", "n_groups", "n_within",
        "chance", "best_layer", "n_fits", "n_uncertified", "max_gap", "tolerance", "peak",
        "baselines")  # fmt: skip


@pytest.mark.parametrize("key", SEEN)
def test_a_summary_with_a_value_of_another_type_is_one_line(tmp_path, key, capsys):
    results = _few_layers(tmp_path / "a")
    whole = (results.folder / "summary.json").read_text()
    values = json.loads(whole)[key]
    inside = sorted(values) if isinstance(values, dict) else []
    pages = _pages(results, tmp_path)[:2]
    for odd in ODD:
        _reseal(results.folder, lambda summary, odd=odd: {**summary, key: odd})
        for page in pages:
            _or_one_line(page)
        for name in inside if odd in ODD_INSIDE else ():
            (results.folder / "summary.json").write_text(whole)
            _reseal(results.folder, lambda s, odd=odd, n=name: {**s, key: {**s[key], n: odd}})
            _or_one_line(pages[0])
        (results.folder / "summary.json").write_text(whole)
    _reseal(results.folder, lambda s: {k: v for k, v in s.items() if k != key})
    assert all(map(_or_one_line, pages))


@pytest.mark.parametrize("key", [*made.scores(made.predictions(np.ones(1)))[0].__slots__])
def test_a_score_of_another_type_is_one_line(tmp_path, key, capsys):
    results = _few_layers(tmp_path / "a")
    whole = (results.folder / "scores.jsonl").read_text()
    for odd in (*ODD, {"above": 1.0}, {"difference": 1.0}, [[1, 2, 3]], [{}]):
        (results.folder / "scores.jsonl").write_text(whole)
        _reseal(results.folder, change_scores=lambda s, odd=odd: [{**one, key: odd} for one in s])
        for page in _pages(results, tmp_path)[:2]:
            _or_one_line(page)


@pytest.mark.parametrize("lines", [[], [[]], ["a"], [{"layer": 0}], [None]])
def test_scores_that_are_no_scores_are_one_line(tmp_path, lines):
    results = made.made(tmp_path / "a")
    _reseal(results.folder, change_scores=lambda _: lines)
    assert all(map(_or_one_line, _pages(results, tmp_path)[:4]))


ARRAYS = ("id", "group", "label", "layers", "loss", "base", "outer")


@pytest.mark.parametrize("name", ARRAYS)
def test_predictions_of_another_shape_or_type_are_one_line(tmp_path, name):
    arrays = made.predictions(made.accuracies(13))
    arrays |= {"loss": made.loss(arrays), "base": np.ones(arrays["outer"].shape)}
    given = arrays[name]
    results = made.made(tmp_path / "a")
    for odd in (
        given[..., :-1], given[None], given[:0], np.zeros(given.shape), np.full(given.shape, "x"),
        np.full(given.shape, -7), np.full(given.shape, 10**9), np.array(3.0), None,
    ):  # fmt: skip
        changed = {**arrays, name: odd}
        with (results.folder / "predictions.npz").open("wb") as file:
            write_arrays(file, {k: v for k, v in changed.items() if v is not None})
        _reseal(results.folder)
        _or_one_line(_pages(results, tmp_path)[4])


def test_arrays_of_a_probe_that_are_not_its_own_are_one_line(tmp_path):
    results = made.made(tmp_path / "a")
    assert _or_one_line(lambda: load(results.folder, 1))
    for card in ([], {}, {"layers": 3}, {"layers": [0], "format": 1}, None):
        (results.folder / "probes/card.json").write_text(json.dumps(card))
        _reseal(results.folder)
        assert _or_one_line(lambda: load(results.folder, 1))


ABSURD = {
    "n_layers": 10**18, "n_samples": 10**18, "hidden_size": 10**18, "boundary": 10**18,
    "shard_starts": [5, 0], "manifest_offsets": [0], "manifest_sha256": [], "id": "a\nb",
    "created": "yesterday", "batch_size": 0,
}  # fmt: skip


@pytest.mark.parametrize("key", ABSURD)
def test_an_absurd_plan_is_one_line_before_it_takes_memory(plan_fake, work, capsys, key):
    from vsp.cli.main import main

    run = plan_fake(name="A")
    path = run.folder / "plan.json"
    for value in (ABSURD[key], 10**400):
        values = {**json.loads(path.read_text()), key: value}
        values.pop("sha256")
        path.write_text(json.dumps({**values, "sha256": json_sha256(values)}))
        for command in ("status", "verify", "extract", "probe"):
            started = time.process_time()
            capsys.readouterr()
            assert main([command, "--run", "A"]) == 1
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1 and "plan the run again" in said[0] and key[:8] in said[0]
            assert time.process_time() - started < 2


def test_a_plan_whose_positions_or_options_do_not_fit_is_one_line(plan_fake):
    """Otherwise log-likelihoods would go to the columns of other rows."""
    run = plan_fake(lens=True)
    answers = json.loads((run.folder / "plan.json").read_text())["answers"]
    strange = {
        "positions": ([], ["subject"], ["last", "subject", "subject"]),
        "answers": (
            {**answers, "n_options": 2},
            {**answers, "options": answers["options"][:1]},
            {**answers, "options": [{"text": "a", "tokens": [-1]}] * 4},
            {**answers, "options": [{"text": "a", "tokens": [10**12]}] * 4},
        ),
    }
    for key, values in strange.items():
        for value in values:
            _change_plan(run, **{"positions": ["last"], "answers": answers, key: value})
            with pytest.raises(RunError, match=rf"{key}.*; plan the run again"):
                Run.open(run.folder)


def _change_plan(run, **changes):
    """Write plan.json with other values and the digest that matches them."""
    path = run.folder / "plan.json"
    values = {**json.loads(path.read_text()), **changes}
    values.pop("sha256")
    path.write_text(json.dumps({**values, "sha256": json_sha256(values)}))


def test_a_plan_of_more_rows_than_its_manifest_can_hold_is_one_line(plan_fake, runner):
    run = plan_fake(name="A")
    _change_plan(run, n_samples=10**8)
    for command in ("status", "verify", "extract", "probe", "resume"):
        ended = runner.run(command, "--run", run.folder)
        ended.assert_answer_or_one_line()
        assert ended.code == 1 and len(ended.err.splitlines()) == 1
        assert "n_samples is 100,000,000, more rows than a manifest of" in ended.err


def test_the_largest_plan_that_is_read_takes_little_memory(plan_fake, runner):
    run = plan_fake(name="A")
    offset = 200 * 10**8
    _change_plan(run, n_samples=10**8, boundary=4096, manifest_offsets=[0, offset])
    changed = Run.open(run.folder)
    with run.store.path.open("wb") as file:
        file.write(changed.store._header)
    os.truncate(run.store.path, changed.store.layout.n_bytes)
    for command in ("status", "verify", "extract", "probe", "resume"):
        dry = ["--dry-run"] * (command == "resume")
        ended = runner.run(command, "--run", run.folder, *dry)
        ended.assert_answer_or_one_line()
        assert command != "extract" or "manifest.jsonl: was changed or lost" in ended.err


def test_a_journal_with_a_job_that_is_no_number_breaks_no_command(plan_fake, vsp):
    import zlib

    run = plan_fake(name="A")
    for job in ("a\0b", "a\0b_1", "../../x", "", "x" * 300, "--help_1"):
        entry = {"run": run.plan.id, "shard": 0, "host": "h", "node": None, "pid": 1, "job": job,
                 "restarts": 0, "planned": 1, "packages": {}, "t": 1.0}  # fmt: skip
        text = json.dumps(entry).encode()
        run.journals.joinpath("000000-001.journal").write_bytes(
            b"%08x %s\n" % (zlib.crc32(text), text)
        )
        for command in (("logs", "0"), ("status",), ("logs",)):
            said = vsp(*command, "--run", "A").stderr
            assert "Traceback" not in said and len(said.splitlines()) <= 1


def test_results_that_are_whole_are_not_refused(tmp_path):
    for arrays in (None, made.numbers()):
        results = made.made(tmp_path / "a", arrays)
        assert not any(map(_or_one_line, _pages(results, tmp_path)[:5]))
        assert choose_setting(results.folder).read()
