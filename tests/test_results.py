"""Results are replaced as a whole, and what is not as it was written is not read."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from disks import fill, read_only, small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from vsp.errors import DiskError, RunError
from vsp.results import LayerScore, Results

FILES = ("summary.json", "scores.jsonl", "probes.npz", "predictions.npz")
SCORES = [
    LayerScore(i, 0.5 + i / 8, 0.25, 0.5, 0.75, {"a": 0.5, "ü": 1.0}, 8, 2, 6, 0) for i in (0, 1)
]
SUMMARY = {
    "run": "small",
    "best_layer": 1,
    "labels": ("a", "ü"),
    "chance": 0.5,
    "rows": {"done": 10},
}
PROBES = {"classes": np.array(["a", "ü"]), "coef": np.arange(8.0).reshape(2, 2, 2)}
PREDICTIONS = {"rows": np.array([3, 5]), "predicted": np.array([["a", "ü"], ["ü", "a"]])}


def _write(folder, **changes):
    results = Results(folder)
    results.write({**SUMMARY, **changes}, SCORES, PROBES, PREDICTIONS)
    return results


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _read(results):
    """Everything that can be read, as one text."""
    summary, scores = results.read()
    arrays = {name: results.arrays(name) for name in ("probes", "predictions")}
    lists = {name: {k: v.tolist() for k, v in one.items()} for name, one in arrays.items()}
    return json.dumps([summary, [asdict(score) for score in scores], lists], sort_keys=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Small results that tests may damage, if they mend them again."""
    return _write(tmp_path_factory.mktemp("small"))


def _refused_or_right(results, name, body):
    """One line for `body` in place of the file, or what the whole file gives; never another."""
    path = results.folder / name
    whole, expected = path.read_bytes(), _read(results)
    try:
        path.write_bytes(body)
        try:
            found = _read(results)
        except RunError as error:
            assert "\n" not in str(error) and "`vsp probe`" in str(error)
            return "refused"
        assert found == expected
        return "right"
    finally:
        path.write_bytes(whole)


def test_what_was_written_is_read(tmp_path):
    results = _write(tmp_path / "new/folder")
    summary, scores = results.read()
    assert summary == {**SUMMARY, "labels": ["a", "ü"]} == results.summary()
    assert scores == SCORES == results.scores()
    for name, expected in (("probes", PROBES), ("predictions", PREDICTIONS)):
        found = results.arrays(name)
        assert found.keys() == expected.keys()
        assert all((found[key] == expected[key]).all() for key in expected)


def test_what_is_written_twice_has_the_same_bytes(tmp_path):
    first = _files(_write(tmp_path / "a").folder)
    assert first == _files(_write(tmp_path / "b").folder) and set(first) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_place_is_refused(small, name):
    body = (small.folder / name).read_bytes()
    answers = [_refused_or_right(small, name, body[:n]) for n in range(len(body))]
    # Without its last newline the summary still says all it said.
    last = 1 if name == "summary.json" else 0
    assert answers == ["refused"] * (len(body) - last) + ["right"] * last


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
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
@settings(max_examples=100, deadline=None)
def test_any_other_content_is_refused(small, name, body):
    assert _refused_or_right(small, name, body) == "refused"


@pytest.mark.parametrize(
    "edit",
    [
        {"chance": 0.25},
        {"best_layer": 0},
        {"rows": {"done": 11}},
        {"new": 1},
        {"sha256": None},
        {"sha256": {}},
        {"format": 1},
    ],
)
def test_an_edited_summary_is_refused(small, edit):
    values = {**json.loads((small.folder / "summary.json").read_bytes()), **edit}
    body = json.dumps(values, indent=1, ensure_ascii=False).encode()
    assert _refused_or_right(small, "summary.json", body) == "refused"


def test_a_summary_nested_without_end_is_refused(small):
    assert _refused_or_right(small, "summary.json", b"[" * 100_000) == "refused"


@pytest.mark.parametrize("n_renamed", [1, 2, 3])
def test_a_crash_between_two_renames_leaves_nothing_that_passes_for_whole(tmp_path, n_renamed):
    results = _write(tmp_path / "a")
    other = Results(tmp_path / "b")
    scores = [replace(score, accuracy=0.125) for score in SCORES]
    negative = {**PROBES, "coef": -PROBES["coef"]}
    other.write(SUMMARY, scores, negative, {**PREDICTIONS, "rows": np.array([4, 6])})
    for name in ("scores.jsonl", "probes.npz", "predictions.npz")[:n_renamed]:
        (other.folder / name).rename(results.folder / name)
    with pytest.raises(
        RunError, match=r"scores\.jsonl: .* mixture of two writes.* `vsp probe` again"
    ):
        results.read()
    if n_renamed > 1:
        with pytest.raises(RunError, match=r"probes\.npz: .* mixture of two writes"):
            results.arrays("probes")


@pytest.mark.parametrize("name", FILES)
def test_a_lost_or_unreadable_file_is_one_line(tmp_path, name):
    results = _write(tmp_path / "a")
    path = results.folder / name
    path.unlink()
    with pytest.raises(RunError, match="run `vsp probe`"):
        _read(results)
    path.mkdir()
    with pytest.raises(RunError, match=r"cannot be read \(Is a directory\)"):
        _read(results)


def test_results_that_are_not_there_say_what_to_do(tmp_path):
    for folder in (tmp_path, tmp_path / "no", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="holds no results; run `vsp probe` first"):
            Results(folder).summary()
        with pytest.raises(RunError, match="holds no results; run `vsp probe` first"):
            Results(folder).arrays("probes")


@pytest.mark.parametrize("bad", ["scores", "probes", "predictions", "summary"])
def test_a_write_that_fails_anywhere_leaves_the_old_results_whole(tmp_path, bad):
    results = _write(tmp_path)
    before, read = _files(tmp_path), _read(results)
    new = {
        "summary": {**SUMMARY, "chance": 0.75},
        "scores": [replace(score, accuracy=0.0) for score in SCORES],
        "probes": {**PROBES, "coef": -PROBES["coef"]},
        "predictions": {**PREDICTIONS, "rows": np.array([4, 6])},
    }
    new[bad] = {
        "summary": {"run": object()},
        "scores": [SCORES[0], None],
        "probes": {"coef": np.array([object()])},
        "predictions": {"rows": np.array([object()])},
    }[bad]
    with pytest.raises((TypeError, ValueError)):
        results.write(*(new[name] for name in ("summary", "scores", "probes", "predictions")))
    assert _files(tmp_path) == before and _read(results) == read


def test_a_disk_that_fills_anywhere_in_a_write_leaves_the_old_results_whole(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        results = _write(disk / "results")
        before, read = _files(results.folder), _read(results)
        large = {**PROBES, "coef": np.ones(5000)}
        for n_pages in range(40):
            fill(disk, n_pages)
            try:
                results.write({**SUMMARY, "chance": 0.75}, SCORES, large, PREDICTIONS)
                break
            except DiskError as error:
                line = f"{results.folder}: no space left on device; free space and run the same"
                assert str(error).startswith(line)
            assert _files(results.folder) == before and _read(results) == read
        assert n_pages > 10 and results.summary()["chance"] == 0.75
        assert set(_files(results.folder)) == set(FILES)


def test_a_disk_that_may_not_be_written_to_is_one_line_and_keeps_the_results(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        results = _write(disk / "results")
        read = _read(results)
        read_only(disk)
        with pytest.raises(DiskError, match="read-only file system; make it writable or use"):
            _write(disk / "results", chance=0.75)
        assert _read(results) == read
