"""SpatialRGPT against states that its original code gave on a small checkpoint of random weights.

`spatialrgpt/golden.npz` holds last-token states [layer, hidden], `golden.json` their prompts, token
ids (-200 for the image) and images.
"""

import dataclasses
import json
import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer, LlamaForCausalLM

from vsp import models
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import ConfigError, DatasetError, InputError, ModelError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models.contract import Recorded, prompt_group
from vsp.models.spatialrgpt import SpatialRGPT
from vsp.models.spatialrgpt_processor import CONVERSATIONS
from vsp.models.vila_modules import Downsample, Projector

HERE = Path(__file__).parent / "spatialrgpt"
LLM = HERE / "ckpt/llm"
GOLDEN = json.loads((HERE / "golden.json").read_text())
STATES = np.load(HERE / "golden.npz")
SHORT = "Is the bus left of the truck?"


def _config(checkpoint=HERE / "ckpt", **changes):
    full = {"quantization": "none", "dtype": "float32"}
    return models.resolve("spatialrgpt", checkpoint=str(checkpoint), **{**full, **changes})


@cache
def _loaded(conversation):
    """The model of the golden states, with a conversation."""
    return models.load(_config(options={"conversation": conversation}))


def _asked(name):
    """The conversation of a golden case and its question."""
    text = GOLDEN[name]["prompt"]
    for conversation, whole in CONVERSATIONS.items():
        before, after = whole.split("{instruction}")
        if text.startswith(before) and text.endswith(after):
            return conversation, text[len(before) : len(text) - len(after)]
    raise AssertionError(name)


def _row(name):
    """Model and one-row group of a golden case."""
    conversation, question = _asked(name)
    loaded, case = _loaded(conversation), GOLDEN[name]
    picture = loaded.processor.picture(_image(case["image"]), **_depth(case))
    row = loaded.processor.row(picture, question, **_masks(case))
    return loaded.model, prompt_group(picture, [row])


def _image(name):
    return Image.open(HERE / "images" / name).convert("RGB")


def _masks(case):
    names = [f"images/mask{i}_wide.png" for i in range(case.get("masks", 0))]
    masks = [np.asarray(Image.open(HERE / name)) > 0 for name in names]
    return {"regions": np.stack(masks)} if masks else {}


def _depth(case):
    return {"depth": _image("depth_wide.png")} if case.get("depth") else {}


@pytest.mark.parametrize("name", GOLDEN)
def test_token_ids_are_the_originals(name):
    _, group = _row(name)
    tokens = list(group.rows[0].tokens)
    first = tokens.index(-200)
    n_image = tokens.count(-200)
    assert set(tokens[first : first + n_image]) == {-200} and n_image == 196
    assert tokens[:first] + tokens[first + n_image - 1 :] == GOLDEN[name]["ids"]


@pytest.mark.parametrize("name", GOLDEN)
def test_states_are_the_originals(name):
    model, group = _row(name)
    assert np.abs(model.forward([group])().states["last"][:, 0] - STATES[name]).max() < 1e-4


def test_a_batch_of_different_lengths_gives_each_its_own_states():
    groups = [_row(name)[1] for name in GOLDEN]  # the weights do not depend on the conversation
    assert len({group.n_tokens for group in groups}) > 3
    states = _loaded("llama_3").model.forward(groups)().states["last"]
    for column, name in enumerate(GOLDEN):
        assert np.abs(states[:, column] - STATES[name]).max() < 1e-4


OPTIONS = ((5,), (7, 8), (7, 9), (7, 9, 6), (5, 5, 5, 5, 5, 5), (11, 12, 13))


def test_answers_with_and_without_regions_are_those_of_one_option_at_a_time():
    """The states of the original code, or of longer prompts, go through the head as they are."""
    model = _loaded("llama_3").model
    groups = [_row(name)[1] for name in GOLDEN]
    asked = [
        prompt_group(group.picture, [replace(row, options=OPTIONS) for row in group.rows])
        for group in groups
    ]
    out = model.forward(asked, Recorded(("last",), len(OPTIONS)))()

    def log_probabilities(group, more):
        (row,) = group.rows
        longer = replace(row, tokens=row.tokens + more)
        last = model.forward([prompt_group(group.picture, [longer])])().states["last"][-1, 0]
        return model._whole_llm.lm_head(torch.from_numpy(last)).log_softmax(0).detach().numpy()

    for row, (name, group) in enumerate(zip(GOLDEN, groups, strict=True)):
        assert np.abs(out.states["last"][:, row] - STATES[name]).max() < 1e-4
        golden = torch.from_numpy(STATES[name][-1].astype(np.float32))
        first = model._whole_llm.lm_head(golden).log_softmax(0).detach().numpy()
        assert abs(out.answers[row, 0] - first[5]) < 1e-4
        if row % 4 == 0:
            for number, option in enumerate(OPTIONS):
                total = sum(
                    log_probabilities(group, option[:n])[token] for n, token in enumerate(option)
                )
                assert abs(out.answers[row, number] - total) < 1e-4


@pytest.mark.parametrize(
    ("options", "name", "end"),
    [
        (None, "llama3/wide__spatial", "<|eot_id|>"),
        ({"conversation": "user_assistant"}, "userassistant/wide__short", "\nASSISTANT:"),
        ({"conversation": "vicuna_v1"}, "vicuna_v1/wide__color", " ASSISTANT:"),
    ],
)
def test_a_question_is_put_in_the_conversation_that_is_asked_for(options, name, end):
    config = _config(options=options)
    question = GOLDEN[name]["prompt"].partition("<image>\n")[2].partition(end)[0]
    states = models.load(config).last_token_states([_image("wide.png")], [question])
    assert np.abs(states[:, 0] - STATES[name]).max() < 1e-4
    default = {"conversation": "llama_3", "regions": "none"}
    assert config.options == {**default, **(options or {})}


def test_an_unknown_conversation_is_refused():
    with pytest.raises(ConfigError, match="options: conversation 'qwen'"):
        models.shape(_config(options={"conversation": "qwen"}))


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_options_and_names_have_the_tokens_of_the_text_behind_the_image(conversation):
    processor, tokenizer = _loaded(conversation).processor, AutoTokenizer.from_pretrained(LLM)
    after = CONVERSATIONS[conversation].partition("<image>")[2].replace("{instruction}", SHORT)
    picture = processor.picture(_image("wide.png"))
    row = processor.row(picture, SHORT)
    options = [" yes", "No, it is right of the truck", "N"]
    for option, tokens in zip(
        options, processor.option_tokens(picture, row, SHORT, options), strict=True
    ):
        expected = tokenizer(after + option, add_special_tokens=False).input_ids
        assert [*row.tokens[len(picture.tokens) :], *tokens] == expected
    for name in ("bus", "truck"):
        start = SHORT.index(name)
        places = processor.name_tokens(picture, row, SHORT, start, start + len(name))
        assert tokenizer.decode([row.tokens[place] for place in places]).strip() == name
    assert [row.tokens[place] for place in processor.image_places(picture)] == [-200] * 196
    with pytest.raises(InputError, match="option '<mask>' holds '<mask>', which the model reads"):
        processor.option_tokens(picture, row, SHORT, ["<mask>"])


def test_words_matter():
    """A bug of older code: all words became one token, so all questions were equal."""
    one, other = "Is the bus left of the truck?", "Is the truck left of the bus?"
    states = _loaded("llama_3").last_token_states([_image("wide.png")] * 2, [one, other])
    assert np.abs(states[-1, 0] - states[-1, 1]).max() > 0.01  # equal in the old code


def _copy(tmp_path):
    return Path(shutil.copytree(HERE / "ckpt", tmp_path / "ckpt"))


def _edit(path, **changes):
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_a_language_model_in_several_files_is_read_whole(tmp_path):
    folder = _copy(tmp_path)
    llm = LlamaForCausalLM.from_pretrained(folder / "llm", dtype=torch.bfloat16)
    (folder / "llm/model.safetensors").unlink()
    llm.save_pretrained(folder / "llm", max_shard_size="200KB")
    assert len(list((folder / "llm").glob("model-0*.safetensors"))) > 1
    config = _config(folder, options={"conversation": "user_assistant"})
    states = models.load(config).last_token_states([_image("wide.png")], [SHORT])
    assert np.abs(states[:, 0] - STATES["userassistant/wide__short"]).max() < 1e-4


def test_plain_vila_goes_without_the_refinement(tmp_path):
    folder = _copy(tmp_path)
    _edit(folder / "config.json", enable_region=None, enable_depth=None, region_extractor_cfg=None)
    shutil.rmtree(folder / "region_extractor")
    config = _config(folder, options={"conversation": "user_assistant"})
    plain = models.load(config)
    states = plain.last_token_states([_image("wide.png")], [SHORT])
    assert np.abs(states[:, 0] - STATES["userassistant/wide__short"]).max() > 1
    picture = plain.processor.picture(_image("wide.png"))
    with pytest.raises(InputError, match="has no region extractor"):
        plain.processor.row(picture, "<mask>?", regions=np.ones((1, 427, 640), bool))
    with pytest.raises(ModelError, match="has no region extractor; use --option regions=none"):
        models.shape(_config(folder, options={"regions": "mask"}))


def test_a_tokenizer_of_sentencepiece_alone_is_read_as_in_training(tmp_path):
    """Tokenizer of VILA-1.5 3B and 13B; the texts before and after the image are tokenised separately."""
    folder = _copy(tmp_path)
    for path in (folder / "llm").glob("*token*"):
        path.unlink()
    SentencePieceTrainer.train(
        sentence_iterator=iter([CONVERSATIONS["vicuna_v1"]] * 9),
        model_prefix=str(folder / "llm/tokenizer"), model_type="bpe", vocab_size=360,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    (folder / "llm/tokenizer_config.json").write_text(json.dumps(settings))
    _edit(folder / "config.json", enable_region=None, enable_depth=None, region_extractor_cfg=None)
    config = _config(folder, options={"conversation": "vicuna_v1"})
    processor = models.read_processor(config)
    row = processor.row(processor.picture(_image("wide.png")), SHORT)
    alone = SentencePieceProcessor(model_file=str(folder / "llm/tokenizer.model"))
    before, after = CONVERSATIONS["vicuna_v1"].replace("{instruction}", SHORT).split("<image>")
    expected = [1, *alone.encode(before), *[-200] * 196, *alone.encode(after)]
    assert list(row.tokens) == expected


@pytest.mark.parametrize("side", [3, 4])
def test_downsampling_goes_column_by_column(side):
    features = torch.arange(side * side * 2.0).view(1, side * side, 2)
    grid = torch.zeros(4, 4, 2)
    grid[:side, :side] = features.view(side, side, 2)
    expected = [
        torch.cat([grid[2 * r, 2 * c], grid[2 * r, 2 * c + 1],
                   grid[2 * r + 1, 2 * c], grid[2 * r + 1, 2 * c + 1]])
        for c in range(2) for r in range(2)
    ]  # fmt: skip
    assert torch.equal(Downsample()(features)[0], torch.stack(expected))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("linear", ["layers.bias", "layers.weight"]),
        ("mlp2x_gelu", ["layers.0.bias", "layers.0.weight", "layers.2.bias", "layers.2.weight"]),
        ("identity", []),
    ],
)
def test_other_projectors_have_the_published_names(kind, names):
    projector = Projector(kind, 6, 10)
    assert sorted(projector.state_dict()) == names
    assert projector(torch.zeros(1, 9, 6)).shape == (1, 9, 6 if kind == "identity" else 10)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"s2": True}, "several scales"),
        ("config.json", {"dynamic_s2": True}, "dynamic_s2"),
        ("config.json", {"ps3": True}, "ps3"),
        ("config.json", {"image_aspect_ratio": "dynamic"}, "image_aspect_ratio 'dynamic'"),
        ("config.json", {"mm_vision_select_feature": None}, "'patch' drops a token"),
        ("config.json", {"model_type": "llava"}, "model_type is 'llava'"),
        ("vision_tower/config.json", {"model_type": "intern_vit_6b"}, "is a intern_vit_6b, not a SigLIP"),
        ("llm/config.json", {"model_type": "qwen2"}, "is a qwen2, not a Llama"),
        ("llm/config.json", {"quantization_config": {}}, "is already quantised"),
        ("region_extractor/config.json", {"region_extractor_type": "x"}, "'x', not 'regiongpt'"),
    ],
)  # fmt: skip
def test_what_it_was_not_trained_like_is_refused_with_the_reason(tmp_path, file, changes, message):
    folder = _copy(tmp_path)
    _edit(folder / file, **changes)
    with pytest.raises(ModelError, match=message):
        models.shape(_config(folder))


def test_a_projector_of_a_newer_vila_is_refused(tmp_path):
    folder = _copy(tmp_path)
    _edit(folder / "mm_projector/config.json", mm_projector_type="mlp_downsample_3x3_fix")
    for refuse in (models.check, models.load):
        with pytest.raises(ModelError, match="projector type 'mlp_downsample_3x3_fix'"):
            refuse(_config(folder))


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path):
    folder = _copy(tmp_path)
    shutil.rmtree(folder / "mm_projector")
    with pytest.raises(ModelError, match=r"mm_projector/config\.json: no such file"):
        models.check(_config(folder))
    shutil.rmtree(folder / "region_extractor")
    with pytest.raises(ModelError, match="there is no folder region_extractor/"):
        models.shape(_config(folder))
    (folder / "vision_tower/config.json").unlink()
    with pytest.raises(ModelError, match="is incomplete, download it again"):
        models.shape(_config(folder))


def test_weights_that_do_not_fit_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _copy(tmp_path)
    path = folder / "mm_projector/model.safetensors"
    tensors = load_file(path)
    del tensors["layers.1.bias"]
    save_file(tensors, path)
    with pytest.raises(
        ModelError, match=r"mm_projector: its weights do not fit: .*layers\.1\.bias"
    ):
        models.load(_config(folder))


def test_parts_of_two_checkpoints_are_told_apart(tmp_path):
    folder = _copy(tmp_path)
    _edit(folder / "vision_tower/config.json", llm_mask_token_id=7)
    with pytest.raises(
        ModelError, match=r"<mask> has id 505, but vision_tower/config\.json says 7"
    ):
        models.load(_config(folder))


def test_only_the_language_model_is_quantized():
    model = SpatialRGPT(_config(quantization="4bit"))
    kinds = {
        type(m).__name__ for m in model._llm.layers.modules() if isinstance(m, torch.nn.Linear)
    }
    assert kinds == {"Linear4bit"}
    for part in (model._tower, model._projector, model._regions):
        assert not any(type(m).__name__ == "Linear4bit" for m in part.modules())


def test_a_prompt_beyond_the_context_is_refused():
    with pytest.raises(InputError, match="over the context of 4096"):
        _loaded("llama_3").last_token_states([_image("wide.png")], ["far " * 5000])


def test_regions_must_match_the_prompt_and_cover_something():
    processor, prompt = _loaded("llama_3").processor, "Is <mask> left of <mask>?"
    picture = processor.picture(_image("wide.png"))
    with pytest.raises(InputError, match="has 2 <mask> for 1 regions"):
        processor.row(picture, prompt, regions=np.ones((1, 427, 640), bool))
    with pytest.raises(InputError, match="covers no pixel"):
        processor.row(picture, prompt, regions=np.zeros((2, 427, 640), bool))
    with pytest.raises(InputError, match="<depth> but there is no depth picture"):
        processor.row(picture, prompt + " <depth> <depth>", regions=np.ones((2, 427, 640), bool))
    deep = processor.picture(_image("wide.png"), depth=_image("depth_wide.png"))
    with pytest.raises(InputError, match="has 0 <depth> for 2 regions"):
        processor.row(deep, prompt, regions=np.ones((2, 427, 640), bool))


def test_rows_about_one_image_may_mean_different_regions():
    """Their tokens are equal, but only those before the first region can be shared."""
    model, group = _row("region/mask_depth")
    first = group.rows[0]
    other = dataclasses.replace(first, regions=first.regions[::-1].copy())
    rows = [first, other, first]
    both = prompt_group(group.picture, rows)
    assert both.n_shared < len(first.tokens) - 3
    alone = model.forward([prompt_group(group.picture, [row]) for row in rows])().states["last"]
    assert np.abs(alone[-1, 0] - alone[-1, 1]).max() > 1e-3
    together = model.forward([both])().states["last"]
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(together[:, 2] - STATES["region/mask_depth"]).max() < 1e-4


def test_it_runs_through_the_pipeline(work, spatial):
    run = plan_run(PlanRequest(spatial, _config(), n_shards=1, batch_size=7), work).run
    assert (run.plan.n_layers, run.plan.hidden_size, run.plan.dtype) == (5, 64, "float32")
    extract(run, run.shards)
    sample = next(run.manifest.rows(50, 51))
    expected = models.load(_config()).last_token_states(
        [Image.open(sample.image).convert("RGB")], [sample.prompt]
    )
    states = np.stack([run.store.layer(layer)[50] for layer in range(5)])
    assert np.abs(states - expected[:, 0]).max() < 1e-4


def _region_dataset(write_dataset):
    """Two rows about each of two images, with a box, a mask and a depth picture."""
    records = []
    for i in range(4):
        image = f"{i // 2}.png"
        records.append(
            {"id": str(i), "image_filename": image, "label": ["left_of", "right_of"][i % 2],
             "subject": "a", "reference": "b", "subject_box": [i, 1, 6 + i, 9],
             "reference_mask": f"m{i}.png", "depth_filename": image}
        )  # fmt: skip
    folder = write_dataset(records)
    rng = np.random.default_rng(1)
    (folder / "masks").mkdir()
    (folder / "depth").mkdir()
    for i in range(4):
        mask = np.zeros((12, 12), np.uint8)
        mask[i : i + 5, 3:] = 255
        Image.fromarray(mask).save(folder / f"masks/m{i}.png")
    for i in range(2):
        depth = rng.integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(depth).save(folder / f"depth/{i}.png")
    return folder


@pytest.mark.parametrize("regions", ["mask", "depth"])
def test_a_dataset_brings_its_regions_to_the_model(work, write_dataset, regions):
    folder = _region_dataset(write_dataset)
    config = _config(options={"regions": regions})
    run = plan_run(PlanRequest(folder, config, prompt="question"), work).run
    extract(run, run.shards)
    assert [len(ledger.done) for ledger in run.ledgers()] == [4]
    marker = {"mask": "<mask>", "depth": "<mask> <depth>"}[regions]
    prompt = f"Where is the {marker} relative to the {marker}? The {marker} is"
    loaded = models.load(config)
    seen = []
    for i in range(4):
        image = Image.open(folder / f"images/{i // 2}.png")
        depth = Image.open(folder / f"depth/{i // 2}.png").convert("RGB")
        box = np.zeros((12, 12), bool)
        box[1:9, i : 6 + i] = True
        mask = np.asarray(Image.open(folder / f"masks/m{i}.png")) > 0
        picture = loaded.processor.picture(
            image, **({"depth": depth} if regions == "depth" else {})
        )
        row = loaded.processor.row(picture, prompt, regions=np.stack([box, mask, box]))
        expected = loaded.model.forward([prompt_group(picture, [row])])().states["last"][:, 0]
        states = np.stack([run.store.layer(layer)[i] for layer in range(5)])
        assert np.abs(states - expected).max() < 1e-4
        seen.append(states[-1])
    assert min(np.abs(a - b).max() for a, b in pairwise(seen)) > 5e-4


def test_a_region_outside_its_image_is_named_by_the_plan(work, write_dataset):
    folder = _region_dataset(write_dataset)
    path = folder / "metadata.json"
    records = json.loads(path.read_text())
    records[2]["subject_box"] = [0, 0, 13, 5]
    path.write_text(json.dumps(records))
    with pytest.raises(DatasetError, match="1 images or prompts, for 1 of 4 rows") as caught:
        plan_run(PlanRequest(folder, _config(options={"regions": "mask"})), work)
    assert caught.value.details[0].startswith("row '2': box [0, 0, 13, 5] does not lie in")


def test_a_name_cannot_pass_for_a_region(work, write_dataset):
    folder = _region_dataset(write_dataset)
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace('"left_of"', '"left <mask>"'))
    with pytest.raises(DatasetError, match="cannot be used") as caught:
        plan_run(PlanRequest(folder, _config(options={"regions": "mask"})), work)
    assert "has 3 <mask> for 2 regions" in caught.value.details[0]


REGIONS = [name for name, case in GOLDEN.items() if case.get("masks")]


def _bench_row(case):
    """The golden case as a row of SpatialRGPT-Bench; masks as run lengths."""
    rle = []
    for index in range(case["masks"]):
        mask = np.asarray(Image.open(HERE / f"images/mask{index}_wide.png")) > 0
        flat = np.concatenate([[False], mask.T.ravel()])
        starts = np.flatnonzero(flat[1:] != flat[:-1])
        runs = np.diff([0, *starts, mask.size]).tolist()
        rle.append({"size": list(mask.shape), "counts": runs})
    height, width = rle[0]["size"]
    return {
        "id": "0",
        "image_info": {"file_path": case["image"], "height": height, "width": width},
        "qa_info": {"type": "qualitative", "category": "left_predicate"},
        "rle": rle,
    }


@pytest.mark.parametrize("name", REGIONS)
def test_an_imported_benchmark_row_gives_the_golden_states(work, name):
    case, question = GOLDEN[name], _asked(name)[1].removeprefix("<image>\n")
    said = question.replace("<mask> <depth>", "<mask>")  # as the benchmark writes it
    turns = [{"value": f"<image>\n{said}"}, {"value": "Yes."}]
    (work / "bench.json").write_text(json.dumps([{**_bench_row(case), "conversations": turns}]))
    request = ImportRequest("spatialrgpt-bench", ["bench.json"], work / "bench", [HERE / "images"])
    import_dataset(request, work)
    regions = "depth" if case.get("depth") else "mask"
    if regions == "depth":
        (work / "bench/depth").mkdir()
        shutil.copy(HERE / "images/depth_wide.png", work / "bench/depth")
        path = work / "bench/metadata.json"
        path.write_text(
            path.read_text().replace('"id"', '"depth_filename": "depth_wide.png", "id"')
        )
    run = plan_run(PlanRequest(work / "bench", _config(options={"regions": regions})), work).run
    extract(run, run.shards)
    states = np.stack([run.store.layer(layer)[0] for layer in range(5)])
    assert np.abs(states - STATES[name]).max() < 1e-4
    with pytest.raises(DatasetError, match="has a prompt about regions, which the model"):
        plan_run(PlanRequest(work / "bench", _config(), name="none"), work)


def _without_cache(model, group, n_tokens):
    """Greedy decoding with a whole forward pass for each token."""
    (row,), text = group.rows, []
    for _ in range(n_tokens):
        longer = dataclasses.replace(row, tokens=(*row.tokens, *text))
        states = model.forward([prompt_group(group.picture, [longer])])().states["last"]
        text.append(_next_token(model, states[-1, 0]))
    return tuple(text)


def _next_token(model, state):
    return int((model._whole_llm.lm_head.weight.float() @ torch.from_numpy(state)).argmax())


@torch.inference_mode()
def test_texts_are_what_the_states_predict_with_and_without_regions():
    assert any(GOLDEN[name].get("depth") for name in REGIONS)
    texts = set()
    for name in (*REGIONS, "llama3/wide__spatial"):
        model, group = _row(name)
        (found,) = model.generate([group], 4)
        assert found == _without_cache(model, group, 4)
        assert found[0] == _next_token(model, STATES[name][-1])
        texts.add(found)
    assert len(texts) > 2


@torch.inference_mode()
def test_the_end_of_a_turn_ends_a_text():
    group, model = _row("llama3/wide__spatial")[1], models.load(_config()).model
    # Some checkpoints name only the end of the text.
    model._tokenizer.eos_token = None
    model._whole_llm.generation_config.eos_token_id = 0
    ((first, *_),) = model.generate([group], 2)
    weight = model._whole_llm.lm_head.weight
    weight[model._tokenizer.convert_tokens_to_ids("<|eot_id|>")] = 2 * weight[first]
    assert model.generate([group], 4) == [()]
