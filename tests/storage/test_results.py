"""Results are replaced as a whole; changed files are not read."""

import json
import os
import tracemalloc
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from helpers import made
from helpers.disks import fill, read_only, small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from vsp.errors import DiskError, ProbeError, RunError
from vsp.storage.find_results import find_results
from vsp.storage.npz import Blocks
from vsp.storage.results import Results

FILES = (
    *("scores.jsonl", "predictions.npz", "estimates.npz"),
    *("probes/000.npz", "probes/001.npz", "probes/card.json", "summary.json"),
)
SCORES = made.scores(made.predictions(np.array([0.5, 0.75]), n_groups=4))
MADE = made.summary(SCORES)
CARD = {**MADE["probe"], "classes": ("a", "ü")}
PEAK = {**MADE["peak"], "layers": {1: np.int64(9)}, "estimate": np.float32(0.5), "low": np.nan}
SUMMARY = {**MADE, "labels": ("a", "ü"), "chance": 0.5, "peak": PEAK, "probe": CARD}
READ = {
    **SUMMARY,
    "labels": ["a", "ü"],
    "peak": {**PEAK, "layers": {"1": 9}, "estimate": 0.5, "low": None},
    "probe": {**CARD, "classes": ["a", "ü"]},
}
PROBES = [{"coef": np.arange(4.0).reshape(2, 2)}, {"coef": -np.arange(4.0).reshape(2, 2)}]
PREDICTIONS = {"rows": np.array([3, 5]), "label": np.array(["a", "ü"])}
ESTIMATES = {"null": np.arange(6.0).reshape(2, 3)}
WRITTEN = (SUMMARY, SCORES, PREDICTIONS, ESTIMATES, PROBES)


def _at(folder):
    """Results in this folder, which is that of a setting."""
    return Results(folder, folder.parent)


def _write(folder, **changes):
    results = _at(folder)
    results.write({**SUMMARY, **changes}, *WRITTEN[1:])
    return results


def _files(folder):
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


def _lists(arrays):
    return {name: array.tolist() for name, array in arrays.items()}


def _read(results):
    """All contents of the results, as one text."""
    summary, scores = results.read()
    arrays = {name: _lists(results.arrays(name)) for name in ("predictions", "estimates")}
    probes = [results.probe(score.layer) for score in scores]
    cards, coefs = [card for card, _ in probes], [_lists(found) for _, found in probes]
    return json.dumps([summary, [asdict(s) for s in scores], arrays, cards, coefs], sort_keys=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Small results; a test that damages them must restore them."""
    return _write(tmp_path_factory.mktemp("small"))


@cache
def _whole(folder):
    """The contents of the whole results in this folder."""
    return _read(_at(folder))


def _refused_or_right(results, name, body):
    """With `body` as the file: "refused" in one line, or "right", the values of the whole file."""
    path, expected = results.folder / name, _whole(results.folder)
    whole = path.read_bytes()
    try:
        path.write_bytes(body)
        try:
            found = _read(results)
        except RunError as error:
            assert "\n" not in str(error) and "`vsp probe --run" in str(error), error
            return "refused"
        assert found == expected
        return "right"
    finally:
        path.write_bytes(whole)


def test_what_was_written_is_read(tmp_path):
    results = _write(tmp_path / "new/folder")
    summary, scores = results.read()
    assert summary == READ == results.summary()
    assert scores == SCORES
    for name, expected in (("predictions", PREDICTIONS), ("estimates", ESTIMATES)):
        found = results.arrays(name)
        assert found.keys() == expected.keys()
        assert all((found[key] == expected[key]).all() for key in expected)
    for layer, expected in enumerate(PROBES):
        card, found = results.probe(layer)
        assert card == {"layers": [0, 1], **READ["probe"]} and found.keys() == {"coef"}
        assert (found["coef"] == expected["coef"]).all()


def test_only_the_arrays_that_are_asked_for_are_read(small):
    assert small.arrays("predictions", ("label", "no")).keys() == {"label"}
    assert small.arrays("predictions").keys() == {"rows", "label"}


def test_a_layer_without_a_probe_is_refused_with_those_there_are(small):
    with pytest.raises(ProbeError, match="holds no probe of layer 7; it has layers 0, 1"):
        small.probe(7)


def test_what_is_written_twice_has_the_same_bytes(tmp_path):
    first = _files(_write(tmp_path / "a").folder)
    assert first == _files(_write(tmp_path / "b").folder) and set(first) == set(FILES)


def test_a_figure_that_is_not_finite_is_null(tmp_path):
    results = _at(tmp_path)
    scores = [replace(SCORES[0], max_gap=float("inf"), capacity=float("nan")), SCORES[1]]
    results.write(SUMMARY, scores, *WRITTEN[2:])
    assert results.read()[1] == [replace(SCORES[0], max_gap=None, capacity=None), SCORES[1]]
    for name in ("summary.json", "scores.jsonl", "probes/card.json"):
        text = (tmp_path / name).read_text()
        assert "NaN" not in text and "Infinity" not in text


def test_pieces_give_the_bytes_of_the_whole_array(tmp_path):
    arrays = {
        "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "b": np.arange(5),
        "c": np.zeros((3, 0), np.int16),
        "d": np.array([["x", "yü"]]),
    }
    _at(tmp_path / "a").write(SUMMARY, SCORES, arrays, ESTIMATES, PROBES)
    pieces = {k: Blocks(v.shape, v.dtype, iter(v)) for k, v in arrays.items()}
    _at(tmp_path / "b").write(SUMMARY, SCORES, pieces, ESTIMATES, PROBES)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    np.savez(tmp_path / "c.npz", **arrays)
    assert (tmp_path / "c.npz").read_bytes() == (tmp_path / "a/predictions.npz").read_bytes()


@pytest.mark.parametrize(
    ("shape", "pieces", "message"),
    [
        ((3, 2), [np.zeros(2)] * 2, r"x: 2 pieces of \(3, 2\)"),
        ((1, 2), [np.zeros(2)] * 2, r"x: 2 pieces of \(1, 2\)"),
        ((2, 2), [np.zeros(2), np.zeros(3)], r"x: piece 1 is \(3,\) of \(2, 2\)"),
    ],
)
def test_pieces_that_do_not_make_the_array_are_refused(tmp_path, shape, pieces, message):
    results = _write(tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ValueError, match=message):
        array = Blocks(shape, np.float64, pieces)
        results.write(SUMMARY, SCORES, {"x": array}, ESTIMATES, PROBES)
    assert _files(tmp_path) == before


def test_predictions_in_pieces_are_never_in_memory_whole(tmp_path):
    n_layers, n_rows = 33, 20_000
    piece = np.full((2, n_rows, 4), 0.25, np.float32)
    probability = Blocks((n_layers, *piece.shape), np.float32, (piece for _ in range(n_layers)))
    tracemalloc.start()
    _at(tmp_path).write(SUMMARY, SCORES, {"probability": probability}, ESTIMATES, PROBES)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * piece.nbytes < n_layers * piece.nbytes
    assert _at(tmp_path).arrays("predictions")["probability"].shape == probability.shape


def test_probes_are_taken_one_at_a_time(tmp_path):
    at_once = []

    def probes():
        for layer in (0, 1):
            written = [p for p in (tmp_path / "probes").iterdir() if p.stat().st_size > 100]
            at_once.append((layer, len(written)))
            yield PROBES[layer]

    _at(tmp_path).write(*WRITTEN[:4], probes())
    assert [layer for layer, _ in at_once] == [0, 1]
    assert (_at(tmp_path).probe(1)[1]["coef"] == PROBES[1]["coef"]).all()


@pytest.mark.parametrize("n_probes", [1, 3])
def test_a_probe_for_each_score_and_no_more(tmp_path, n_probes):
    results = _write(tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ValueError, match="zip"):
        results.write(*WRITTEN[:4], (PROBES * 2)[:n_probes])
    assert _files(tmp_path) == before


def test_a_layer_that_is_no_longer_part_leaves_no_probe_behind(tmp_path):
    results = _write(tmp_path)
    (tmp_path / "probes.npz").write_bytes(b"of an older vsp")
    results.write(SUMMARY, SCORES[1:], PREDICTIONS, ESTIMATES, PROBES[1:])
    assert set(_files(tmp_path)) == set(FILES) - {"probes/000.npz"}
    with pytest.raises(ProbeError, match="holds no probe of layer 0; it has layers 1"):
        results.probe(0)


def test_a_probe_that_the_summary_does_not_vouch_for_is_not_read(tmp_path):
    """The state after a crash, just before old files are removed."""
    results = _write(tmp_path)
    old = (tmp_path / "probes/000.npz").read_bytes()
    results.write(SUMMARY, SCORES[1:], PREDICTIONS, ESTIMATES, PROBES[1:])
    (tmp_path / "probes/000.npz").write_bytes(old)
    with pytest.raises(ProbeError, match="holds no probe of layer 0"):
        results.probe(0)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_place_is_refused(small, name):
    body = (small.folder / name).read_bytes()
    near_the_end = range(max(0, len(body) - 20), len(body))
    places = sorted({*range(0, len(body), 1 + len(body) // 40), *near_the_end})
    answers = [_refused_or_right(small, name, body[:n]) for n in places]
    # Without its last newline the summary is still complete.
    last = 1 if name == "summary.json" else 0
    assert answers == ["refused"] * (len(places) - last) + ["right"] * last


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_flipped_bit_is_refused_or_says_the_same(small, name, data):
    body = bytearray((small.folder / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, 8 * len(body) - 1), min_size=1, max_size=3)):
        body[place // 8] ^= 1 << place % 8
    answer = _refused_or_right(small, name, bytes(body))
    if name != "summary.json" and bytes(body) != (small.folder / name).read_bytes():
        assert answer == "refused"


@pytest.mark.parametrize("name", FILES)
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.floats() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=30, deadline=None)
def test_any_other_content_is_refused(small, name, body):
    assert _refused_or_right(small, name, body) == "refused"


@pytest.mark.parametrize(
    "edit",
    [
        {"chance": 0.25},
        {"best_layer": 0},
        {"rows": {"done": 11}},
        {"probe": {}},
        {"new": 1},
        {"sha256": None},
        {"sha256": {}},
        {"format": 2},
    ],
)
def test_an_edited_summary_is_refused(small, edit):
    values = {**json.loads((small.folder / "summary.json").read_bytes()), **edit}
    body = json.dumps(values, indent=1, ensure_ascii=False).encode()
    assert _refused_or_right(small, "summary.json", body) == "refused"


def test_a_summary_nested_without_end_is_refused(small):
    assert _refused_or_right(small, "summary.json", b"[" * 100_000) == "refused"


def test_results_of_an_older_vsp_are_one_line(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"format": 2, "sha256": {}}))
    with pytest.raises(
        RunError, match=r"is not of this version of vsp; move .* and run `vsp probe --run .*` again"
    ):
        _at(tmp_path).read()


@pytest.mark.parametrize("n_renamed", range(1, len(FILES)))
def test_a_crash_between_two_renames_leaves_nothing_that_passes_for_whole(tmp_path, n_renamed):
    results = _write(tmp_path / "a")
    other = _at(tmp_path / "b")
    other.write(
        {**SUMMARY, "probe": {**CARD, "treatment": "center"}},
        [replace(score, score=0.125) for score in SCORES],
        {**PREDICTIONS, "rows": np.array([4, 6])},
        {"null": -ESTIMATES["null"]},
        [{"coef": 1 + one["coef"]} for one in PROBES],
    )
    for name in FILES[:n_renamed]:
        (other.folder / name).rename(results.folder / name)
    with pytest.raises(
        RunError, match=r"scores\.jsonl: .* mixture of two writes.* `vsp probe --run .*` again"
    ):
        results.read()
    reads = [lambda: results.arrays("predictions"), lambda: results.arrays("estimates")]
    reads += [lambda: results.probe(0), lambda: results.probe(1)]
    for read in reads[: n_renamed - 1]:
        with pytest.raises(RunError, match=r"(npz|json): .* mixture of two writes"):
            read()


@pytest.mark.parametrize("name", FILES)
def test_a_lost_or_unreadable_file_is_one_line(tmp_path, name):
    results = _write(tmp_path / "a")
    path = results.folder / name
    path.unlink()
    with pytest.raises(RunError, match="run `vsp probe --run"):
        _read(results)
    path.mkdir()
    with pytest.raises(RunError, match=r"cannot be read \(is a directory\)"):
        _read(results)


def test_results_that_are_not_there_say_what_to_do(tmp_path):
    for folder in (tmp_path, tmp_path / "no", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        for read in (_at(folder).summary, lambda it=folder: _at(it).probe(0)):
            with pytest.raises(RunError, match=r"holds no results; run `vsp probe --run .*` first"):
                read()
        with pytest.raises(RunError, match=r"holds no results; run `vsp probe --run .*` first"):
            _at(folder).arrays("predictions")


@pytest.mark.parametrize("bad", range(5))
def test_a_write_that_fails_anywhere_leaves_the_old_results_whole(tmp_path, bad):
    results = _write(tmp_path)
    before, read = _files(tmp_path), _read(results)
    new = [
        {**SUMMARY, "chance": 0.75},
        [replace(score, score=0.0) for score in SCORES],
        {"rows": np.array([4, 6])},
        {"null": np.zeros(1)},
        [{"coef": np.zeros(1)}] * 2,
    ]
    new[bad] = [
        {**SUMMARY, "run": object()},
        [SCORES[0], None],
        {"rows": np.array([object()])},
        {"null": Blocks((1,), object, [np.array(object())])},
        [PROBES[0], {"coef": np.array([object()])}],
    ][bad]
    with pytest.raises((TypeError, ValueError, AttributeError)):
        results.write(*new)
    assert _files(tmp_path) == before and _read(results) == read


def test_a_disk_that_fills_anywhere_in_a_write_leaves_the_old_results_whole(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        results = _write(disk / "results")
        before, read = _files(results.folder), _read(results)
        large = [{"coef": np.ones(5000)}, PROBES[1]]
        for n_pages in range(40):
            fill(disk, n_pages)
            try:
                results.write({**SUMMARY, "chance": 0.75}, *WRITTEN[1:4], large)
                break
            except DiskError as error:
                line = f"{results.folder}: no space left on device; free space and run the same"
                assert str(error).startswith(line)
            assert _files(results.folder) == before and _read(results) == read
        assert n_pages > 10 and results.summary()["chance"] == 0.75
        assert set(_files(results.folder)) == set(FILES)


def test_a_disk_that_is_full_before_the_first_write_is_one_line(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        for n_pages in range(30):
            fill(disk, n_pages)
            try:
                _write(disk / "new/results")
                break
            except DiskError as error:
                assert ": no space left on device; free space and run the same" in str(error)
                assert "\n" not in str(error) and "/." not in str(error)
        assert n_pages > 3 and _read(_at(disk / "new/results"))


def test_a_disk_that_may_not_be_written_to_is_one_line_and_keeps_the_results(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        results = _write(disk / "results")
        read = _read(results)
        read_only(disk)
        with pytest.raises(DiskError, match="read-only file system; make it writable or use"):
            _write(disk / "results", chance=0.75)
        assert _read(results) == read


def test_results_are_named_by_run_or_path(plan_fake, work):
    run = plan_fake()
    plan = run.plan.model_dump(mode="json")
    expected = made.made(work / "results" / run.name, plan=plan).folder
    for name in (run.name, f"results/{run.name}", f"scratch/{run.name}", str(expected)):
        assert find_results(name, work).folder.resolve() == expected.resolve()
        assert find_results(name, work).read()


def test_by_default_the_newest_run_has_the_results(plan_fake, work):
    for name in ("first", "second", "third"):
        plan_fake(name=name)
    for name in ("third", "elsewhere"):
        made.made(work / "results" / name)
    assert find_results(None, work).home == work / "results/third"
    plan_fake(name="not_probed")
    with pytest.raises(
        RunError, match="results/not_probed: holds no results; run `vsp probe --run not_probed`"
    ):
        find_results(None, work).read()


def test_without_a_run_the_newest_results_are_the_default(work):
    for name, seconds in (("old", 1), ("new", 3), ("middle", 2)):
        os.utime(made.made(work / "results" / name).folder / "summary.json", (seconds, seconds))
    (work / "results/empty").mkdir()
    assert find_results(None, work).home == work / "results/new"


def test_neither_a_run_nor_results_is_one_line(work):
    with pytest.raises(
        RunError,
        match="results: holds no results; run vsp in the project folder, or name a folder of results",
    ):
        find_results(None, work)
    with pytest.raises(
        RunError, match=r"none: .*results: holds no results; run vsp in the project folder"
    ):
        find_results("none", work)
    for name in ("a/none", "results/none", "./" + 300 * "b"):
        with pytest.raises(RunError, match=f"{name}: is neither a run nor a folder of results"):
            find_results(name, work)


def test_results_are_not_found_by_way_of_a_plan_that_was_edited(plan_fake, work):
    run = plan_fake()
    made.made(run.results, plan=run.plan.model_dump(mode="json"))
    path = run.folder / "plan.json"
    path.write_text(path.read_text().replace('"instruction"', '"question"'))
    with pytest.raises(RunError, match="was edited"):
        find_results(str(run.folder), work)
    assert find_results(run.name, work).read()
