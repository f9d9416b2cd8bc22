import hashlib
import json
import os
import re
import shutil
import tracemalloc
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from helpers.more_tiny_vlms import write_qwen3_vl_moe
from PIL import Image

from vsp import models
from vsp.config import ModelConfig, Profile
from vsp.errors import ConfigError, DatasetError, ModelError, RunError, StoreError
from vsp.extraction.batches import cut_batches
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.plan_notes import gpu_notes
from vsp.models.contract import count_shared
from vsp.storage.plan import Plan
from vsp.storage.run import Run, find_run

RECORDS = [
    {"id": f"r{i}", "image_filename": f"{i // 2}.png", "label": "ab"[i % 2], "prompt": f"? {i}"}
    for i in range(20)
]


def test_shards_and_batches_cover_every_row_once(plan_fake):
    run = plan_fake(n_shards=4, batch_size=7)
    assert len(run.shards) == 4
    assert [row for shard in run.shards for row in range(shard.start, shard.stop)] == list(
        range(96)
    )
    for shard in run.shards:
        samples = dict(enumerate(run.samples(shard), start=shard.start))
        batches = cut_batches([run.plan], samples)
        rows = [row for batch in batches for group in batch for row in group]
        assert sorted(rows) == list(range(shard.start, shard.stop))
        assert all(batch == tuple(sorted(batch)) for batch in batches)


def test_batches_hold_sequences_of_like_length_the_longest_first(plan_fake, write_dataset):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "x" * length}
        for i, length in enumerate([10, 200, 11, 150, 12, 13, 195, 9, 100])
    ]
    run = plan_fake(write_dataset(records), batch_size=2, answers=False)
    samples = dict(enumerate(run.manifest.rows()))
    assert run.plan.batch_tokens == 2 * samples[1].n_tokens == 2 * 202
    # 150 is less than three quarters of 202. A batch takes short rows up to the limit of tokens.
    assert cut_batches([run.plan], samples) == [
        ((1,), (6,)), ((3,),), ((8,),), ((0,), (2,), (4,), (5,)), ((7,),),
    ]  # fmt: skip


def _shared_records(per_image):
    """Records in an order where no neighbours are about the same image."""
    rows = [
        {"id": f"{image}-{i}", "image_filename": f"{image}.png", "label": "ab"[i % 2],
         "prompt": "word " * (1 + (7 * image + 3 * i) % 11)}
        for image, n in enumerate(per_image) for i in range(n)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["id"].rpartition("-")[2])


def test_rows_about_one_image_come_together_in_the_run_and_in_its_batches(work, write_dataset):
    folder = write_dataset(_shared_records([3, 1, 70, 2]))
    planned = plan_run(PlanRequest(folder, models.resolve("fake"), batch_size=2), work)
    moved, scarce = planned.notes
    assert "rows about one image were moved together" in moved
    assert scarce.startswith("label ") and "groups of training rows for each label" in scarce
    samples = dict(enumerate(planned.run.manifest.rows()))
    images = [Path(sample.image).stem for sample in samples.values()]
    assert images == ["0"] * 3 + ["1"] + ["2"] * 70 + ["3"] * 2
    (longest, *others) = cut_batches([planned.run.plan], samples)
    groups = [group for batch in (longest, *others) for group in batch]
    assert sorted(row for group in groups for row in group) == list(range(76))
    for group in groups:
        asked = [samples[row] for row in group]
        assert len({sample.image for sample in asked}) == 1
        shared = asked[0].n_shared
        tokens = shared + sum(sample.n_tokens - shared for sample in asked)
        assert len(group) == 1 or tokens <= 3 * max(sample.n_tokens for sample in asked)
    assert (0, 1, 2) in groups and (3,) in groups and (74, 75) in groups
    assert len(groups) < 40
    apart = plan_run(PlanRequest(folder, models.resolve("fake"), batch_size=2, share=False), work)
    assert apart.notes[0] == scarce and "fake-own-no-sharing" in apart.notes[1]
    ids = [sample.id for sample in apart.run.manifest.rows()]
    assert ids == [record["id"] for record in _shared_records([3, 1, 70, 2])]
    alone = cut_batches([apart.run.plan], dict(enumerate(apart.run.manifest.rows())))
    assert {len(group) for batch in alone for group in batch} == {1}


def test_the_manifest_counts_tokens_and_what_neighbours_share(plan_fake, write_dataset):
    records = [
        {"id": str(i), "image_filename": name, "label": "ab"[i % 2], "prompt": prompt}
        for i, (name, prompt) in enumerate(
            [("a.png", "left of"), ("b.png", "up"), ("a.png", "left or"), ("a.png", "left of it")]
        )
    ]
    rows = list(plan_fake(write_dataset(records)).manifest.rows())
    # The fake model's tokens: the picture, each byte, an end.
    assert [(row.id, row.n_tokens, row.n_shared) for row in rows] == [
        ("0", 9, 7), ("2", 9, 7), ("3", 12, 7), ("1", 4, 0),
    ]  # fmt: skip


def test_the_manifest_holds_the_samples_and_their_images_digests(plan_fake, spatial):
    run = plan_fake()
    rows = [json.loads(line) for line in (run.folder / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == 96 and {"id", "image", "prompt", "label", "group"} <= rows[0].keys()
    assert all(re.fullmatch("[0-9a-f]{64}", row["image_sha256"]) for row in rows)
    assert [s.id for s in run.manifest.rows()] == [row["id"] for row in rows]


def test_the_plan_says_everything_that_decides_the_states(plan_fake):
    run = plan_fake(options={"n_layers": 3, "hidden_size": 8}, batch_size=5)
    plan = json.loads((run.folder / "plan.json").read_text())
    assert (plan["n_layers"], plan["n_samples"], plan["hidden_size"]) == (3, 96, 8)
    assert plan["model"]["options"] == {"n_layers": 3, "hidden_size": 8}
    assert plan["prompt"] == "instruction" and plan["batch_size"] == 5
    assert plan["packages"].keys() >= {"torch", "transformers", "bitsandbytes"}
    assert plan["image_backend"] == "pil"
    assert Run.open(run.folder).plan == run.plan


@pytest.mark.parametrize(
    ("dtype", "store_dtype", "kept"),
    [("float16", None, "float16"), ("bfloat16", None, "float16"), ("float32", None, "float32"),
     ("float32", "float16", "float16"), ("float16", "float32", "float32")],
)  # fmt: skip
def test_states_are_kept_in_float32_only_if_computed_in_it_or_asked(
    work, spatial, dtype, store_dtype, kept
):
    model = models.resolve("fake", dtype=dtype)
    run = plan_run(PlanRequest(spatial, model, store_dtype=store_dtype), work).run
    assert np.load(run.store.path, mmap_mode="r").dtype == kept


def test_runs_of_the_same_kind_get_numbered_names_and_a_taken_name_is_refused(plan_fake):
    assert [plan_fake().name for _ in range(3)] == [
        "fake-spatial", "fake-spatial-2", "fake-spatial-3",
    ]  # fmt: skip
    with pytest.raises(RunError, match="exists already; remove it or choose another --run"):
        plan_fake(name="fake-spatial")


@pytest.mark.parametrize("name", ["x" * 150, "a b\n$\x1b"])
def test_a_run_of_a_dataset_with_any_name_has_a_valid_name(plan_fake, write_dataset, name):
    dataset = write_dataset([{"image_filename": "a.png", "prompt": "p", "label": "l"}], name)
    names = [plan_fake(dataset).name for _ in range(2)]
    assert [plan_fake(dataset, name=f"{one}-x").name for one in names] == [f"{n}-x" for n in names]


@pytest.mark.parametrize("name", ["a b", "../x", "$HOME", "", ".hidden", "x" * 101])
def test_a_run_is_named_so_that_nothing_needs_quoting(plan_fake, name):
    with pytest.raises(ConfigError, match="use letters, digits"):
        plan_fake(name=name)


def test_the_newest_run_is_found_unless_one_is_named(plan_fake, work):
    with pytest.raises(RunError, match="holds no run"):
        find_run(None, work)
    first, second = plan_fake(name="z"), plan_fake(name="a")
    assert find_run(None, work).name == second.name
    assert find_run("z", work).name == first.name
    assert find_run(str(first.folder.absolute()), work).name == "z"
    with pytest.raises(RunError, match="scratch/none: no such run; there is a, z"):
        find_run("none", work)


def test_unreadable_images_are_listed_and_the_plan_is_refused(plan_fake, write_dataset, work):
    folder = write_dataset(RECORDS)
    (folder / "images/3.png").write_bytes(b"not a picture")
    (folder / "images/5.png").unlink()
    with pytest.raises(
        DatasetError, match="2 images or prompts, for 4 of 20 rows, cannot"
    ) as caught:
        plan_fake(folder)
    assert ["3.png" in caught.value.details[0], "5.png" in caught.value.details[1]] == [True] * 2
    assert not list((work / "scratch").glob("*")) if (work / "scratch").exists() else True


def test_of_very_many_unreadable_images_the_first_are_named_and_all_are_counted(
    plan_fake, write_dataset
):
    records = [{**RECORDS[0], "id": str(i), "image_filename": f"{i}.png"} for i in range(30)]
    folder = write_dataset(records)
    for i in range(25):
        (folder / f"images/{i}.png").unlink()
    with pytest.raises(DatasetError, match="25 images or prompts, for 25 of 30 rows") as caught:
        plan_fake(folder)
    assert len(caught.value.details) == 21 and caught.value.details[20] == "… and 5 more"


def test_dropped_rows_are_counted_and_the_others_keep_their_order(work, write_dataset):
    folder = write_dataset(RECORDS)
    (folder / "images/3.png").write_bytes(b"not a picture")
    planned = plan_run(PlanRequest(folder, models.resolve("fake"), drop_unreadable=True), work)
    ids = [sample.id for sample in planned.run.manifest.rows()]
    assert ids == [f"r{i}" for i in range(20) if i not in (6, 7)]
    assert planned.notes[-1] == "dropped 2 of 20 rows in all" and "3.png" in planned.notes[0]


def test_rows_keep_the_order_of_the_records_whatever_their_images_are_called(
    plan_fake, write_dataset
):
    names = ["z.png", "a.png", "a.png", "m.png", "b.png"]
    records = [
        {"id": f"r{i}", "image_filename": name, "label": "ab"[i % 2], "prompt": f"? {i}"}
        for i, name in enumerate(names)
    ]
    rows = list(plan_fake(write_dataset(records)).manifest.rows())
    assert [row.id for row in rows] == ["r0", "r1", "r2", "r3", "r4"]
    assert [row.group for row in rows] == names


def test_a_prompt_that_would_not_reach_the_model_as_text_is_refused(plan_fake, write_dataset):
    folder = write_dataset([*RECORDS, {**RECORDS[0], "id": "bad", "prompt": "see <image>"}])
    with pytest.raises(DatasetError, match="sample 'bad': its prompt holds '<image>', which fake"):
        plan_fake(folder)


def test_a_checkpoint_that_is_not_whole_is_an_error_of_the_plan(work, spatial, checkpoint):
    half = shutil.copytree(checkpoint, work / "half")
    (half / "model.safetensors").unlink()
    model = models.resolve("llava15", checkpoint=str(half), quantization="none")
    with pytest.raises(ModelError, match="1 of 1 weight files are missing"):
        plan_run(PlanRequest(spatial, model), work)
    assert not (work / "scratch").exists()


def test_each_image_is_opened_once_however_many_rows_it_has(plan_fake, write_dataset, capsys):
    shuffled = write_dataset([*RECORDS[1::2], *RECORDS[::2]])
    plan_fake(shuffled, share=False)
    assert "check: 10/10 images" in capsys.readouterr().err


def test_fewer_shards_than_asked_for_are_said(work, spatial):
    model = models.resolve("fake", options={"hidden_size": 3})  # rows of 12 bytes
    planned = plan_run(PlanRequest(spatial, model, n_shards=9), work)
    assert len(planned.run.shards) == 1
    assert "1 shards, not 9: shards begin every 16384 rows" in planned.notes[0]


def test_a_disk_that_is_too_small_is_an_error_of_the_plan_and_leaves_nothing(work, spatial):
    model = models.resolve("fake", options={"n_layers": 10**6, "hidden_size": 10**5})
    with pytest.raises(StoreError, match=r"needs [\d,]+ bytes but [\d,]+ are free"):
        plan_run(PlanRequest(spatial, model), work)
    assert list((work / "scratch").iterdir()) == [] and not (work / "jobs").exists()


def test_an_edited_manifest_is_refused_by_the_shards_it_concerns(plan_fake):
    run = plan_fake(n_shards=3)
    first, second, third = run.shards
    path = run.folder / "manifest.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[second.start] = lines[second.start].replace(b"fake", b"ekaf").replace(b"i", b"j", 1)
    path.write_bytes(b"".join(lines))
    run = Run.open(run.folder)
    assert [len(run.samples(shard)) for shard in (first, third)] == [32, 32]
    changed = "the slice of shard 1 was changed or lost since the plan; plan the run again"
    for read in (lambda: run.samples(second), run.all_samples):
        with pytest.raises(RunError, match=changed):
            read()


def test_a_shards_samples_are_its_rows_of_all(plan_fake):
    run = plan_fake(n_shards=4)
    samples = run.all_samples()
    assert [run.samples(shard) for shard in run.shards] == [
        samples[shard.start : shard.stop] for shard in run.shards
    ]
    assert run.plan.manifest_offsets[-1] == (run.folder / "manifest.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda plan: "{", "is not JSON"),
        (lambda plan: "[]", "has format None, this vsp reads 3 and 4; plan the run again$"),
        (lambda plan: json.dumps({**plan, "format": 2}),
         r"an older vsp \(format 2, this one reads 3 and 4\); plan the run again$"),
        (lambda plan: json.dumps({**plan, "format": 5}),
         r"a newer vsp \(format 5, this one reads 3 and 4\); update vsp$"),
        (lambda plan: json.dumps({**plan, "extra": 1}), "was edited; plan the run again$"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_understood_is_refused(plan_fake, edit, message):
    folder = plan_fake().folder
    path = folder / "plan.json"
    path.write_text(edit(json.loads(path.read_text())))
    with pytest.raises(RunError, match=message):
        Run.open(folder)


def _edited(value):
    """A copy with one small change, of the same type if possible."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("a" if value[-1:] != "a" else "b")
    if isinstance(value, list):
        return [*value[:-1], _edited(value[-1])] if value else ["another"]
    if isinstance(value, dict):
        return {**value, "another": "value"}
    return "no longer null"


@pytest.fixture(scope="module")
def planned(spatial, tmp_path_factory):
    """The folder of a run, for copying."""
    model = models.resolve("fake", options={"n_layers": 3})
    return plan_run(PlanRequest(spatial, model), tmp_path_factory.mktemp("planned")).run.folder


@pytest.fixture
def plan_path(planned, tmp_path):
    """`plan.json` of a run that no other test has."""
    return shutil.copytree(planned, tmp_path / planned.name, symlinks=True) / "plan.json"


def test_a_copied_plan_is_accepted(plan_path):
    assert Run.open(plan_path.parent).plan.model.options == {"n_layers": 3}


@pytest.mark.parametrize("field", [*Plan.model_fields, "sha256"])
def test_a_plan_with_an_edited_field_is_refused(plan_path, field):
    path = plan_path
    plan = json.loads(path.read_text())
    if field != "format":
        for value in (_edited(plan[field]), None):
            edited = {**plan, field: value}
            if edited == plan:  # null already
                continue
            path.write_text(json.dumps(edited))
            with pytest.raises(RunError, match=r"plan\.json: was edited; plan the run again$"):
                Run.open(path.parent)
    del plan[field]
    path.write_text(json.dumps(plan))
    with pytest.raises(RunError, match=r"plan the run again$"):
        Run.open(path.parent)


@pytest.mark.parametrize("field", ModelConfig.model_fields)
def test_a_plan_with_another_model_is_refused(plan_path, field):
    path = plan_path
    plan = json.loads(path.read_text())
    plan["model"][field] = _edited(plan["model"][field])
    path.write_text(json.dumps(plan))
    with pytest.raises(RunError, match="was edited"):
        Run.open(path.parent)


def test_a_plan_may_be_laid_out_otherwise(plan_fake):
    run = plan_fake()
    path = run.folder / "plan.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), ensure_ascii=True))
    assert Run.open(run.folder).plan == run.plan


def test_a_checkpoint_that_changed_since_the_plan_is_refused(plan_fake):
    run = plan_fake()
    run.check_checkpoint({})
    plan = run.plan.model_copy(update={"checkpoint_files": {"a.json": "1:x", "b.json": "2:y"}})
    run = Run(run.folder, plan)
    run.check_checkpoint({"b.json": "2:y", "a.json": "1:x"})
    for found, what in [
        ({"a.json": "1:z", "b.json": "2:y"}, "a.json of checkpoint None was changed since"),
        ({"a.json": "1:x"}, "b.json of checkpoint None is gone since the plan"),
        ({"a.json": "1:x", "b.json": "2:y", "c": "3:z"}, "c of checkpoint None is new since"),
    ]:
        with pytest.raises(RunError, match=f"run fake-spatial: {what}.*plan the run again$"):
            run.check_checkpoint(found)


def test_a_plan_takes_memory_for_what_its_rows_differ_in(work, write_dataset):
    """Peak memory of Python's objects grows by less than 350 bytes per row."""
    relations = ["left_of", "above"]
    peaks = []
    for n in (5_000, 15_000):
        folder = write_dataset(
            [
                {"id": f"row {i}", "image_filename": f"{i % 40}.png", "label": relations[i % 2],
                 "subject": f"cup {i % 20}", "reference": f"plate {i % 7}"}
                for i in range(n)
            ],
            name=f"of-{n}",
        )  # fmt: skip
        tracemalloc.start()
        plan_run(PlanRequest(folder, models.resolve("fake", options={"hidden_size": 64})), work)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 10_000 < 350  # bytes per row; a second list takes 35 more


def test_rows_of_like_prompts_are_counted_as_each_alone(work, write_dataset, checkpoint):
    sizes = [(40, 30), (64, 64), (40, 30), (21, 300)]
    records = [
        {"id": str(i), "image_filename": f"{i % 4}.png", "label": "ab"[i % 2],
         "prompt": f"what is {'very ' * (i % 3)}{'left' if i % 5 else 'right'} here?"}
        for i in range(40)
    ]  # fmt: skip
    folder = write_dataset(records)
    for i, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"images/{i}.png")
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    run = plan_run(PlanRequest(folder, model), work).run
    processor = models.read_processor(model)
    for image, rows in groupby(run.all_samples(), key=lambda row: row.image):
        rows = list(rows)
        picture = processor.picture(Image.open(image))
        alone = [processor.row(picture, row.prompt) for row in rows]
        assert [row.n_tokens for row in rows] == [len(one.tokens) for one in alone]
        assert {row.n_shared for row in rows} == {count_shared(alone)}


def test_the_batch_script_lies_in_jobs_and_in_the_run(plan_fake, work):
    run = plan_fake(n_shards=3)
    script = work / "jobs/extract_array.sh"
    assert script.read_text() == (run.folder / "jobs/extract.sh").read_text()
    assert "#SBATCH --array=0-2\n" in script.read_text()
    assert os.access(script, os.X_OK)


def test_links_in_the_datasets_path_stay_links(work, spatial):
    (work / "link").symlink_to(spatial)
    run = plan_run(PlanRequest(work / "link", models.resolve("fake")), work).run
    assert next(run.manifest.rows()).image.startswith(str(work / "link"))


def test_the_log_folder_of_the_profile_is_made(work, spatial):
    request = PlanRequest(spatial, models.resolve("fake"), profile=Profile(logs="my logs"))
    plan_run(request, work)
    assert (work / "my logs").is_dir()


def test_one_picture_for_all_rows_is_one_group(plan_fake, write_dataset):
    run = plan_fake(write_dataset(RECORDS))
    assert [sample.group for sample in run.manifest.rows()][:4] == [
        "0.png",
        "0.png",
        "1.png",
        "1.png",
    ]


def test_a_trial_takes_the_first_rows_only(work, write_dataset):
    request = PlanRequest(write_dataset(RECORDS), models.resolve("fake"), limit=7)
    rows = list(plan_run(request, work).run.manifest.rows())
    assert [row.id for row in rows] == [f"r{i}" for i in range(7)]


def test_the_plan_says_how_many_images_will_be_cropped(work, write_dataset, checkpoint):
    folder = write_dataset(RECORDS)
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    assert not any("square" in note for note in plan_run(PlanRequest(folder, model), work).notes)
    for name in ("3.png", "5.png"):
        Image.new("RGB", (40, 30)).save(folder / "images" / name)
    notes = plan_run(PlanRequest(folder, model), work).notes
    assert any(note.startswith("2 images are not square; llava15's own") for note in notes)


def test_the_number_of_gpus_is_no_part_of_what_a_run_computes(plan_fake):
    """Runs planned before `devices` can be read, and any number of GPUs gives the same store."""
    run = plan_fake()
    values = json.loads((run.folder / "plan.json").read_text())
    del values["sha256"], values["devices"]
    seal = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (run.folder / "plan.json").write_text(json.dumps({**values, "sha256": seal}))
    old = Run.open(run.folder)
    assert old.plan == run.plan and old.plan.devices == 1
    split = run.plan.model_copy(update={"devices": 4})
    assert split.identity() == run.plan.identity()


@pytest.mark.parametrize("devices", [2, "auto"])
def test_a_family_that_cannot_be_split_is_refused(work, spatial, devices):
    request = PlanRequest(spatial, models.resolve("fake"), devices=devices)
    with pytest.raises(ModelError, match=f"^devices {devices}: model fake cannot be split over"):
        plan_run(request, work)
    assert not list((work / "scratch").glob("*"))


@pytest.mark.parametrize(
    ("gres", "note"),
    [
        (None, "each task needs 4 GPUs, and the profile has no `gres`: write `gres: gpu:4` there"),
        ("gpu:2", "each task needs 4 GPUs, and the profile asks for `gres: gpu:2`: write"),
        ("gpu", "the profile asks for `gres: gpu`: write"),
        ("lustre:4", "the profile asks for `gres: lustre:4`: write"),
        ("gpu:4", None),
        ("gpu:a100:4", None),
        ("lustre:1,gpu:h100:8", None),
        ("gpu:a100:2,gpu:h100:2", None),
    ],
)
def test_a_profile_with_too_few_gpus_is_noted(gres, note):
    noted = gpu_notes(Profile(gres=gres), 4)
    assert [note in one for one in noted] == ([] if note is None else [True])


@pytest.mark.parametrize(
    ("options", "enough"),
    [
        ({"gpus": "4"}, True),
        ({"gpus_per_node": "a100:4"}, True),
        ({"gpus": 2}, False),
        ({"gpus_per_task": "a100:2"}, False),
    ],
)
def test_gpus_that_are_asked_for_in_another_way_count(options, enough):
    assert len(gpu_notes(Profile(**options), 4)) == (not enough)


def test_the_plan_has_the_note_of_too_few_gpus(work, spatial, checkpoint):
    model = models.resolve("llava15", checkpoint=str(checkpoint))
    profile = Profile(gres="gpu:2")
    request = PlanRequest(spatial, model, limit=4, devices=4, profile=profile)
    (note,) = gpu_notes(profile, 4)
    assert note in plan_run(request, work).notes


@pytest.mark.parametrize("quantization", ["none", "4bit", "8bit"])
def test_fused_experts_that_keep_their_precision_are_counted(work, spatial, tmp_path, quantization):
    folder = write_qwen3_vl_moe(tmp_path / "moe")
    model = models.resolve("auto", checkpoint=str(folder), quantization=quantization)
    notes = plan_run(PlanRequest(spatial, model, limit=4), work).notes
    found = [note for note in notes if "fused experts" in note]
    if quantization == "none":
        assert not found
    else:
        (note,) = found
        assert re.match(r"\d+ tensors with \d+% of the language model's weights are fused", note)
        assert f"which {quantization} quantization leaves in float32" in note


def test_no_gpus_are_noted_where_the_number_is_open_or_no_slurm_gives_them():
    local = Profile(scheduler="local")
    for profile, devices in ((Profile(), 1), (Profile(), "auto"), (local, 2)):
        assert not gpu_notes(profile, devices)
