"""A hostile checkpoint gives an error of one line within ten seconds and two gigabytes.

Nothing is downloaded, and no code of the checkpoint runs. One process runs `vsp plan` for all cases,
because starting one takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file

from vsp import models
from vsp.errors import ModelError

SECONDS, MEMORY = 10, 2 << 30
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"


def _edit(file, change):
    """A case that changes the values of a JSON file."""

    def apply(folder):
        path = folder / file
        values = json.loads(path.read_text()) if path.exists() else {}
        change(values)
        path.write_text(json.dumps(values))

    return apply


def _config(**changes):
    """A case that sets values of config.json; `part__key` is a key of a part."""

    def change(values):
        for key, value in changes.items():
            part, inside, name = key.partition("__")
            (values[part] if inside else values)[name or part] = value

    return _edit("config.json", change)


def _tokenizer(**changes):
    return _edit("tokenizer.json", lambda values: values.update(changes))


def _added(n_tokens):
    """A case with `n_tokens` added tokens."""
    rest = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)

    def change(values):
        first = len(values["model"]["vocab"]) + len(values["added_tokens"])
        values["added_tokens"] += [
            {"id": first + i, "content": f"<t{i}>", "special": True, **rest}
            for i in range(n_tokens)
        ]

    return _edit("tokenizer.json", change)


def _split(pattern):
    return _tokenizer(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                       "invert": False}
    )  # fmt: skip


def _processor(**changes):
    def apply(folder):
        for file in ("preprocessor_config.json", "processor_config.json"):
            _edit(file, lambda values: values.get("image_processor", values).update(changes))(
                folder
            )

    return apply


def _template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def _pipe(file):
    def apply(folder):
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)

    return apply


def _link(file, target):
    def apply(folder):
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(target)

    return apply


def _sparse(file):
    return lambda folder: os.truncate(folder / file, 10**10)


def _bytes(file, body):
    return lambda folder: (folder / file).write_bytes(body)


def _index(change):
    """A case with the weights in two files and a changed index of them."""

    def apply(folder):
        weights = load_file(folder / MODEL)
        (folder / MODEL).unlink()
        names = sorted(weights)
        entries = {}
        for file, part in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
            save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
            entries |= dict.fromkeys(part, file)
        change(entries, names)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": entries}))

    return apply


def _entry(value):
    return _index(lambda entries, names: entries.update({names[0]: value}))


def _header(change, cut=0, tail=b""):
    """A case that changes the header of the weights."""

    def apply(folder):
        path = folder / MODEL
        whole = path.read_bytes()
        end = 8 + int.from_bytes(whole[:8], "little")
        values = json.loads(whole[8:end])
        text = change(values, sorted(n for n in values if n[:2] != "__"))
        body = (text or json.dumps(values)).encode()
        data = whole[end : len(whole) - cut] + tail
        path.write_bytes(len(body).to_bytes(8, "little") + body + data)

    return apply


def _tensor(**changes):
    return _header(lambda values, names: values[names[0]].update(changes))


def _renamed(name):
    return lambda values, names: values.update({name: values.pop(names[0])})


def _twice(values, names):
    text = json.dumps(values)
    return f"{text[:-1]}, {json.dumps(names[0])}: {json.dumps(values[names[0]])}}}"


def _swapped(values, names):
    first, last = (values[n]["data_offsets"] for n in (names[0], names[1]))
    n_bytes = first[1] - first[0]
    values[names[0]]["data_offsets"] = [last[0], last[0] + n_bytes]


TEMPLATES = {
    "a long range": ("{% for i in range(10**9) %}{% endfor %}", "chat template fails (OverflowError: "),
    "a text times a number": ("{{ 'a' * 10**10 }}", "chat template takes over 1 GiB of memory; "),
    "a filled field": ("{{ 'a' | center(10**10) }}", "chat template takes over 1 GiB of memory; "),
    "a width": ("{{ '%10000000000d' % 1 }}", "its chat template "),
    "a power": ("{{ 9 ** (9 ** 9) }}",  # within C, where Python cannot be interrupted
                "its chat template takes over 5 s of CPU time; write the whole prompt"),
    "a doubled list": (
        "{% set n = namespace(a=[1]) %}{% for i in range(99) %}{% set n.a = n.a + n.a %}{% endfor %}",
        "its chat template takes over 1 GiB of memory; ",
    ),
    "a macro of itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails (RecursionError: "),
    "nested brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "its chat template "),
    "an include": ("{% include '/etc/passwd' %}", "its chat template fails (TypeError: no loader"),
    "a way out": ("{{ ''.__class__.__mro__ }}", "its chat template fails (SecurityError: "),
    "a text of 20 MB": ("{{ 'a' * 2 * 10**7 }}", "chat template gives a text of over 16 MiB; "),
}  # fmt: skip
CONFIGS = {
    "200,000 layers": (_config(text_config__num_hidden_layers=200_000),
                       "text_config.num_hidden_layers is 200000, more than 512; correct it"),
    "a deep tower": (_config(vision_config__num_hidden_layers=10**9), "is 1000000000, more than 512"),
    "a vocabulary of 2^62": (_config(text_config__vocab_size=2**62), "text_config.vocab_size is 46"),
    "a width of 10^12": (_config(text_config__hidden_size=10**12), "hidden_size is 1000000000000, m"),
    "an image of 10^9": (_config(vision_config__image_size=10**9), "image_size is 1000000000, more"),
    "a patch of nothing": (_config(vision_config__patch_size=0), "patch_size is 0, less than 1"),
    "a patch below nothing": (_config(vision_config__patch_size=-14), "patch_size is -14, less"),
    "no heads": (_config(text_config__num_attention_heads=0), "num_attention_heads is 0, less than 1"),
    "a negative image token": (_config(image_token_index=-200), "gives no image token of number -200; "),
    "268 million patches": (_config(vision_config__image_size=16384, vision_config__patch_size=1),
                            "is 16384 and patch_size 1, which makes 268,435,456 patches, more than 65"),
    "a huge token": (_config(text_config__eos_token_id=2**62), "eos_token_id is 46116860184273879"),
    "a number of 300 digits": (_config(text_config__hidden_size=10**300),
                               "hidden_size has 301 digits; it may be from 1 to 16777216; correct"),
    "not a number": (_config(text_config__rms_norm_eps=float("nan")), "is nan, not a finite number"),
    "infinite": (_config(text_config__rms_norm_eps=float("inf")), "is inf, not a finite number"),
    "nested": (_bytes("config.json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "is not JSON"),
    "nested a little": (_bytes("config.json", b'{"a":' * 100 + b"1" + b"}" * 100), "32 deep"),
    "not UTF-8": (_bytes("config.json", b'{"model_type": "\xff"}'), "config.json: is not JSON"),
    "a list": (_bytes("config.json", b"[1]"), "config.json: holds a list, not a configuration"),
    "layers in words": (_config(text_config__num_hidden_layers="many"), "cannot be read ("),
    "no such layer": (_config(vision_feature_layer=10**6), "vision_feature_layer is 1000000, more"),
    "a layer beyond": (_config(vision_feature_layer=40), "vision_feature_layer 40 is beyond the 3"),
    "a function as dtype": (_config(dtype="load"), "its configuration cannot be read ("),
    "no such dtype": (_config(dtype="evil"), "its configuration cannot be read ("),
    "heads that do not divide": (_config(text_config__num_attention_heads=7), "cannot "),
    "a quantization of nobody": (_config(quantization_config={"quant_method": "evil"}),
                                 "is stored in evil; leave out --quantization none, or name"),
    "a quantization in words": (_config(quantization_config="evil"), "is stored in an unknown form"),
    "a tower of timm": (_config(vision_config={"model_type": "timm_wrapper", "architecture": "x"}),
                        "its vision tower is one of timm, with which vsp was not tested"),
}  # fmt: skip
PROCESSORS = {
    "a crop of 10^9": (_processor(crop_size={"height": 10**9, "width": 10**9}), "image processor takes over 1 G"),
    "a side of 100,000": (_processor(size={"shortest_edge": 100_000}), "image processor takes over 1 G"),
    "two means": (_processor(image_mean=[0.5, 0.5]), "image cannot be used: mean must have 3 elements"),
    "no deviation": (_processor(image_std=[0.0, 0.0, 0.0]), "gives pixel values that are not finite"),
    "an odd filter": (_processor(resample=99), "image cannot be used: Unknown resampling filter"),
    "a crop in words": (_processor(crop_size="big"), "its tokenizer or image processor"),
    "an odd class": (_processor(image_processor_type="Evil"), "tokenizer or image processor cannot be"),
}  # fmt: skip
TOKENIZERS = {
    "slow splits": (_split("(a+)+$"), "tokenizer or image processor fails (PanicException: Onig: Regex"),
    "70,000 tokens": (_added(70_000), "added_tokens has 70,005 tokens, more than 65,536; put them into"),
    "a token of a billion": (
        _edit("added_tokens.json", lambda values: values.update({"<x>": 10**9})),
        "added_tokens.json has a token of number 1000000000, more than 1048576; correct it",
    ),
    "a bad pattern": (_split("(["), "its tokenizer or image processor cannot be read (Exception: Onig"),
    "no such token": (
        _tokenizer(post_processor={
            "type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"SpecialToken": {"id": "q", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
        }),
        "its tokenizer or image processor ",
    ),
    "a charmap": (
        _tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "its tokenizer or image processor cannot be read (PanicException: Precompiled",
    ),
    "merges of one": (_edit("tokenizer.json", lambda v: v["model"].update(merges=["a"])), "Merges text"),
    "not UTF-8": (_bytes("tokenizer.json", b"\xff\xfe"), "its tokenizer or image processor cannot be"),
    "nested": (_bytes("tokenizer_config.json", b"[" * 10_000), "tokenizer or image processor cannot"),
}  # fmt: skip
FILES = {
    "a pipe as config": (_pipe("config.json"), "config.json: is a pipe, a socket or a device, not a"),
    "a pipe as tokenizer": (_pipe("tokenizer.json"), "tokenizer.json: is a pipe, a socket or a dev"),
    "a pipe as weights": (_pipe(MODEL), f"{MODEL}: is a pipe, a socket or a device, not a file; down"),
    "a pipe as template": (_pipe("chat_template.jinja"), "chat_template.jinja: is a pipe, a socket"),
    "a device": (_link("tokenizer.json", "/dev/zero"), "tokenizer.json: is a pipe, a socket or a dev"),
    "10 GB of tokenizer": (_sparse("tokenizer.json"), "has 10,000,000,000 bytes, more than the 67,"),
    "10 GB of config": (_sparse("config.json"), "has 10,000,000,000 bytes, more than the 67,108,864"),
    "10 GB of weights": (_sparse(MODEL), "bytes of tensors, but 99"),
}  # fmt: skip
WEIGHTS = {
    "a path": (_entry("/etc/passwd"), "weight_map names '/etc/passwd' for "),
    "a way up": (_entry("../a.safetensors"), "weight_map names '../a.safetensors' for "),
    "another system's": (_entry("..\\a.safetensors"), "weight_map names '..\\\\a.safetensors' for "),
    "a NUL": (_entry("a\0.safetensors"), "weight_map names 'a\\x00.safetensors' for "),
    "a number": (_entry(5), "weight_map names 5 for "),
    "a file that is not there": (_entry("c.safetensors"), "1 of 3 weight files are missing or cut"),
    "the other file": (_entry("b.safetensors"), "says that b.safetensors holds '"),
    "a dtype of nobody": (_tensor(dtype="F99"), "the dtype 'F99', which the format does not have"),
    "another dtype": (_tensor(dtype="F64"), "of F64, but "),
    "another shape": (_tensor(shape=[3]), "the shape [3] of F32, but "),
    "a shape beyond numbers": (_tensor(shape=[2**62, 2**62]), "the shape [4611686018427387904, 4611"),
    "200,000 dimensions": (_tensor(shape=[2**63 - 1] * 200_000), "200,000 dimensions, more than 16; d"),
    "a long name": (_header(_renamed("x" * 10**6)), "a name of 1,000,000 characters, more than 400"),
    "a long dtype": (_tensor(dtype="F" * 10**6), "FFF …, which the format does not have; download"),
    "a long name in the index": (_index(lambda entries, names: entries.update({"x" * 10**6: 5})),
                                 "xxx …; write the name of a .safetensors file in"),
    "a shape below nothing": (_tensor(shape=[-1]), "its header gives "),
    "bytes from the end": (_tensor(data_offsets=[10, 2]), "of F32, but -8 bytes"),
    "an overlap": (_header(_swapped), "which "),
    "one name twice": (_header(_twice), "' twice); download it again"),
    "bytes behind": (_header(lambda v, n: None, tail=b"12345678"), "bytes of tensors, but "),
    "a header of 2^60": (_bytes(MODEL, (2**60).to_bytes(8, "little") + b"{}"), "missing or cut short"),
    "a nested header": (_bytes(MODEL, (10_000).to_bytes(8, "little") + b"[" * 10_000), "cut short"),
}  # fmt: skip
GROUPS = {
    **{f"template: {k}": (_template(text), said) for k, (text, said) in TEMPLATES.items()},
    **{f"config: {k}": case for k, case in CONFIGS.items()},
    **{f"processor: {k}": case for k, case in PROCESSORS.items()},
    **{f"tokenizer: {k}": case for k, case in TOKENIZERS.items()},
    **{f"file: {k}": case for k, case in FILES.items()},
    **{f"weights: {k}": case for k, case in WEIGHTS.items()},
}
# Entries of a checkpoint that `vsp plan` ignores; the plan is made as without them.
HARMLESS = {
    "a kernel of the hub": _config(
        attn_implementation="kernels-community/evil", _attn_implementation="evil/kernel",
        text_config__attn_implementation="kernels-community/evil", experts_implementation="evil",
        vision_config___attn_implementation="kernels-community/evil",
    ),
    "numbers that size nothing": _config(
        max_length=10**30, seed=2**64 - 1, time_step_max=float("inf"), skip_layers=[600],
        video_token_id=-200, boi_token_index=-1,
    ),
    "a large file beside": lambda folder: (
        _bytes("predictions.json", b"[]")(folder), os.truncate(folder / "predictions.json", 73 << 20)),
    "a pipe beside": _pipe("log.txt"),
    "a tokenizer without a longest text": _edit(
        "tokenizer_config.json", lambda values: values.update(model_max_length=int(1e30))),
    "code of its own": _config(
        auto_map={"AutoConfig": "evil--code.Config", "AutoModelForImageTextToText": "evil.Model"},
        custom_pipelines={"x": {"impl": "evil.Pipe"}}, _name_or_path="evil/model",
        _commit_hash="0" * 40, transformers_version="99.0", architectures=["os.system"],
        trust_remote_code=True,
    ),
    "a tokenizer's code": _edit("tokenizer_config.json", lambda values: values.update(
        auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Fast"]}, name_or_path="evil/model")),
    "padding to 10^10": _tokenizer(padding={
        "strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }),
    "a processor of nobody": _edit("processor_config.json", lambda values: values.update(
        processor_class="os.system", auto_map={"AutoProcessor": "evil.Processor"})),
}  # fmt: skip


def _options(name, folder):
    family = "auto" if name.startswith("template") else "llava15"
    return ["--model", family, "--checkpoint", str(folder), "--quantization", "none"]


def run_plans(base, spatial, options):
    """Run all plans in one process; return the outcome of each by name."""
    given = [f"{name}={json.dumps(one)}" for name, one in options.items()]
    program = ROOT / "tests/helpers/plans.py"
    answer = subprocess.run(
        [sys.executable, str(program), str(base), str(spatial), *given],
        capture_output=True, text=True, timeout=280, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    told = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(told) == len(options), answer.stderr[-2000:]
    return {one["name"]: one for one in told}, answer.stderr


@pytest.fixture(scope="module")
def planned(checkpoint, spatial, tmp_path_factory):
    base, names = tmp_path_factory.mktemp("hostile"), {}
    # The first plan of the process imports the libraries, which counts for no other one.
    options = {"sound": _options("sound", checkpoint)}
    cases = {**{name: apply for name, (apply, _) in GROUPS.items()}, **HARMLESS}
    for number, (name, apply) in enumerate(cases.items()):
        folder = base / f"c{number}"
        shutil.copytree(checkpoint, folder)
        apply(folder)
        names[name] = f"r{number}"
        options[f"r{number}"] = _options(name, folder)
    told, printed = run_plans(base, spatial, options)
    assert told["sound"]["code"] == 0, told["sound"]["stderr"]
    seconds, children = {}, 0.0
    for run, one in told.items():
        seconds[run] = one["seconds"] + one["children"] - children
        children = one["children"]
    yield {name: {**told[run], "seconds": seconds[run]} for name, run in names.items()}, printed
    shutil.rmtree(base)


@pytest.mark.parametrize("name", GROUPS)
def test_a_hostile_checkpoint_is_one_line_in_time_and_memory(planned, name):
    one = planned[0][name]
    lines = [line for line in one["stderr"].splitlines() if not line.startswith("note: ")]
    assert one["code"] == 1 and len(lines) == 1, one["stderr"]
    assert lines[0].startswith("vsp: ") and GROUPS[name][1] in lines[0]
    assert len(lines[0]) < 1000
    assert one["seconds"] < SECONDS and one["peak"] < MEMORY


@pytest.mark.parametrize("name", HARMLESS)
def test_what_harms_nothing_is_neither_followed_nor_refused(planned, name):
    assert planned[0][name]["code"] == 0, planned[0][name]["stderr"]


def test_no_library_prints_a_panic(planned):
    assert planned[1] == ""


def test_a_task_computes_with_its_own_attention(checkpoint, tmp_path):
    """transformers reads the configuration again when it loads weights."""
    shutil.copytree(checkpoint, tmp_path / "c")
    HARMLESS["a kernel of the hub"](tmp_path / "c")
    picture = Image.new("RGB", (112, 112), (200, 30, 90))
    plain, named = (
        models.load(models.resolve("llava15", checkpoint=str(folder), quantization="none"))
        .last_token_states([picture], ["Where is it?"])
        for folder in (checkpoint, tmp_path / "c")
    )  # fmt: skip
    assert np.array_equal(plain, named)


PARTS = {
    "200,000 layers": (
        "llm/config.json",
        {"num_hidden_layers": 200_000},
        "num_hidden_layers is 200000, more than 512",
    ),
    "no such layer": (
        "config.json",
        {"mm_vision_select_layer": 99},
        "mm_vision_select_layer 99 is not one of the",
    ),
    "no side": (
        "vision_tower/config.json",
        {"image_size": None},
        "vision_tower/config.json: image_size is None, not a whole number",
    ),
    "a kernel": ("llm/config.json", {"attn_implementation": "kernels-community/evil"}, ""),
    "code": ("llm/config.json", {"auto_map": {"AutoConfig": "evil.Config"}}, ""),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_of_a_checkpoint_are_checked_like_the_whole(tmp_path, case):
    file, changes, said = PARTS[case]
    shutil.copytree(Path(__file__).parent / "spatialrgpt/ckpt", tmp_path / "c")
    _edit(file, lambda values: values.update(changes))(tmp_path / "c")
    config = models.resolve("spatialrgpt", checkpoint=str(tmp_path / "c"), quantization="none")
    if not said:
        models.check(config)
        models.read_model(config)
        return
    with pytest.raises(ModelError) as caught:
        models.check(config)
    assert said in str(caught.value)
