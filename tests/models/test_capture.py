"""Memory of capturing states: it does not grow with layers × tokens."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsp import models
from vsp.errors import InputError, ModelError
from vsp.models.capture import Readout, capture_tokens, memory_errors
from vsp.models.contract import prompt_group

PROMPTS = ["Where is the red circle relative to the blue square?" * n for n in range(1, 9)]


class Peak(TorchDispatchMode):
    """Peak number of bytes of the tensors that are created inside."""

    def __init__(self):
        super().__init__()
        self.bytes = 0
        self._alive = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _tensor(t)}
        for tensor in filter(_tensor, tree_leaves(made)):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        self.bytes = max(self.bytes, sum(n for _, n in self._alive.values()))
        return made


def _tensor(leaf):
    return isinstance(leaf, torch.Tensor)


def _loaded(checkpoint, tmp_path, n_layers):
    folder = tmp_path / str(n_layers)
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = n_layers
    (folder / "config.json").write_text(json.dumps(config))
    options = {"quantization": "none", "weights": "random"}
    return models.load(models.resolve("llava15", checkpoint=str(folder), **options))


def _images(n):
    return [Image.new("RGB", (112, 112), (10 * i, 0, 0)) for i in range(n)]


def _peak(call):
    with torch.inference_mode(), Peak() as peak:
        call()
    return peak.bytes


def test_memory_grows_with_layers_by_the_kept_rows_alone(checkpoint, tmp_path):
    few, many = (_loaded(checkpoint, tmp_path, n) for n in (2, 14))
    states, plain = [], []
    for loaded in (few, many):
        pictures = [loaded.processor.picture(image) for image in _images(8)]
        rows = map(loaded.processor.row, pictures, PROMPTS)
        groups = [prompt_group(p, [row]) for p, row in zip(pictures, rows, strict=True)]
        states.append(_peak(lambda m=loaded, g=groups: m.model.forward(g)().states["last"]))
        reference = loaded.model.reference_states
        plain.append(_peak(lambda r=reference, p=loaded.processor: r(p, _images(8), PROMPTS)))
    kept = 12 * 8 * 128 * 4  # layers × rows × hidden × bytes
    assert states[1] - states[0] <= 2 * kept + 1000  # once in a list, once stacked
    n_tokens = 8 * max(len(group.rows[0].tokens) for group in groups)
    assert plain[1] - plain[0] > 0.9 * 12 * n_tokens * 128 * 4  # all hidden states are kept here


def test_a_forward_that_captures_takes_what_a_bare_one_takes_and_the_kept_rows(
    checkpoint, tmp_path
):
    loaded = _loaded(checkpoint, tmp_path, 6)
    (image, *_) = _images(1)
    picture = loaded.processor.picture(image)
    group = prompt_group(picture, [loaded.processor.row(picture, p) for p in PROMPTS[:4]])
    bare = loaded.model.forward_only([group] * 4)
    inputs = 4 * sum(array.nbytes for array in picture.arrays.values())
    kept = 7 * 16 * 128 * 4
    assert _peak(lambda: loaded.model.forward([group] * 4)()) <= _peak(bare) + 2 * kept + inputs


def test_no_logits_are_computed(checkpoint):
    config = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    loaded = models.load(config)
    called = []
    loaded.model._model.lm_head.register_forward_hook(lambda *_: called.append(1))
    assert np.isfinite(loaded.last_token_states(_images(1), ["?"])).all()
    assert not called


def test_memory_that_runs_out_is_one_kind_of_error():
    with pytest.raises(MemoryError, match="tried to allocate"), memory_errors():
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        torch.zeros(2).view(3)
    with pytest.raises(MemoryError, match="CUDA out of memory"), memory_errors():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_hooks_are_gone_after_a_forward_that_failed(checkpoint, monkeypatch):
    """The model still works after a failure: the batch is run again in halves."""
    config = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    loaded = models.load(config)
    expected = loaded.last_token_states(_images(1), ["?"])
    language = loaded.model._decoder
    handle = language.layers[3].register_forward_pre_hook(lambda *_: torch.empty(10**15))
    with pytest.raises(MemoryError):
        loaded.last_token_states(_images(1), ["?"])
    handle.remove()
    assert (loaded.last_token_states(_images(1), ["?"]) == expected).all()
    assert not language._forward_pre_hooks and not language.norm._forward_hooks


def test_a_prompt_beyond_the_context_is_refused(checkpoint):
    config = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    with pytest.raises(InputError, match="over the context of 2048"):
        models.load(config).last_token_states(_images(1), ["far " * 3000])


def test_layers_that_pass_on_several_streams_are_refused_and_not_indexed_by_another_axis():
    decoder = torch.nn.Module()
    decoder.layers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    decoder.norm = torch.nn.LayerNorm(8)
    with capture_tokens(decoder, {"last": Readout.of([[(0, 1)]])}) as kept:
        decoder.layers[0](torch.zeros(1, 2, 8))
        assert kept["last"][0].shape == (1, 8)
        with pytest.raises(ModelError, match="4 axes instead of 3"):
            decoder.layers[0](torch.zeros(4, 1, 2, 8))


def test_a_mean_over_few_tokens_is_not_spoilt_by_those_of_other_rows():
    states = torch.full((2, 3, 4), torch.inf)
    states[1] = torch.arange(12.0).reshape(3, 4)
    rows = Readout.of([[(0, 0), (0, 1), (0, 2)], [(1, 1), (1, 2)]]).on(states.device)(states)
    assert rows[0].isinf().all() and torch.equal(rows[1], states[1, 1:].mean(0))
