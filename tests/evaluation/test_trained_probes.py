"""Results with right digests but other arrays are evaluated, or refused in one line."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from helpers.fuzzing import Place
from helpers.stored_runs import probed, rows

from vsp.errors import RunError, VspError
from vsp.evaluation.target_states import open_target
from vsp.evaluation.trained_probes import read_trained
from vsp.evaluation.transfer import TransferSettings, transfer
from vsp.storage.stored_settings import choose_setting
from vsp.utils.files import json_sha256

ARRAYS = ("key", "image", "outer", "fitted", "outer_fitted", "label", "predicted", "loss", "base",
          "group", "layers")  # fmt: skip
ODD = (
    np.zeros(0), np.float64(1), np.array(["a", "b"]), np.array([1 + 2j]), np.array([-1, 99]),
    np.zeros((2, 2, 2, 2, 2)), np.array([2**63], np.uint64), np.zeros(120, "datetime64[s]"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results `a` with folds and the file of its rows, without the run."""
    base = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        probed(base, "a", rows(n_layers=1), repeats=1)
    shutil.rmtree(base / "scratch")
    return base


def _at(folder):
    """The folder of the results, which hold one setting."""
    (path,) = (folder / "results/a").glob("*/summary.json")
    return path.parent


def _evaluated(folder, metric=""):
    """The score; None if the results are refused in one line."""
    try:
        trained = read_trained("a", choose_setting(_at(folder)), metric)
        target = open_target(str(folder / "a.npz"), folder)
        found = transfer(trained, target, lambda: (), TransferSettings(resamples=20))
    except VspError as error:
        assert "\n" not in str(error) and "results" in str(error)
        return None
    assert np.isfinite([found.layers[0].score, found.layers[0].low]).all()
    return found.layers[0].score


def _resealed(summary, name, body, of_format=None, without=None):
    """The text of summary.json with the digest of another body of a file."""
    values = json.loads(summary)
    digests = {**values.pop("sha256"), name: hashlib.sha256(body).hexdigest()}
    digests = {file: one for file, one in digests.items() if file not in ("summary.json", without)}
    of_format = of_format or values["format"]
    del values["format"]
    sealed = {**digests, "summary.json": json_sha256([values, digests])}
    return json.dumps({"format": of_format, **values, "sha256": sealed}).encode()


def _with(folder, name, body, of_format=None, without=None, call=_evaluated):
    """What `call` gives, by default the score, with another body of a file and right digests."""
    at = _at(folder)
    place, summary = Place(at / name), Place(at / "summary.json")
    other = _resealed(summary.whole, name, body, of_format, without)
    return place.with_body(body, lambda: summary.with_body(other, lambda: call(folder)))


def _npz(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _arrays(folder, name):
    with np.load(_at(folder) / name, allow_pickle=False) as file:
        return dict(file)


def _others(whole):
    yield whole[: len(whole) // 2]
    yield whole.T[..., None]
    yield whole.astype(str)
    yield from (whole.astype(kind) for kind in ("f4", "i8", "?") if whole.dtype.kind != "U")
    if whole.dtype.kind in "if":
        yield np.full_like(whole, -1)
        yield whole + 100
    if whole.dtype.kind == "f":
        yield np.full_like(whole, np.nan)
    if whole.dtype.kind == "b":
        yield np.zeros_like(whole)
    yield from ODD


@pytest.mark.parametrize("array", ARRAYS)
def test_another_array_of_predictions_is_evaluated_or_refused(folder, array):
    whole = _arrays(folder, "predictions.npz")
    assert _with(folder, "predictions.npz", _npz(whole)) == _evaluated(folder)
    kept = {name: one for name, one in whole.items() if name != array}
    assert _with(folder, "predictions.npz", _npz(kept)) is None
    for other in _others(whole[array]):
        _with(folder, "predictions.npz", _npz({**kept, array: other}))


def test_other_probes_of_folds_are_evaluated_or_refused(folder):
    name = "probes/000-folds.npz"
    whole = _arrays(folder, name)
    assert _with(folder, name, _npz(whole)) == _evaluated(folder)
    gone = {key: one for key, one in whole.items() if not key.startswith("2.")}
    renamed = {key.replace("2.", "x.", 1): one for key, one in whole.items()}
    assert _with(folder, name, _npz(gone)) is None and _with(folder, name, _npz(renamed)) is None
    for key in ("1.coef", "1.mean", "1.classes"):
        kept = {other: one for other, one in whole.items() if other != key}
        assert _with(folder, name, _npz(kept)) is None
        for other in _others(np.atleast_1d(whole[key])):
            _with(folder, name, _npz({**kept, key: other}))


def test_folds_without_saved_probes_are_refused(folder):
    name = "probes/000-folds.npz"
    body = (_at(folder) / name).read_bytes()
    assert _with(folder, name, body, without=name) is None


@pytest.mark.parametrize("of_format", [4, 5])
def test_results_of_an_older_vsp_say_what_to_do(folder, of_format):
    whole = _arrays(folder, "predictions.npz")
    older = {
        one: a for one, a in whole.items() if one not in ("key", "image", "fitted", "outer_fitted")
    }
    said = _with(folder, "predictions.npz", _npz(older), of_format, call=_refusal)
    assert "was written by an older vsp" in said and "run `vsp probe --run " in said


def _refusal(folder):
    with pytest.raises(RunError) as refused:
        read_trained("a", choose_setting(_at(folder)))
    return str(refused.value)
