"""A variant has the rows of its dataset with another picture or question, and reports what rows lost."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from vsp.cli.main import main
from vsp.datasets import VARIANTS
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.metadata import read_samples
from vsp.datasets.provenance import variants_of
from vsp.datasets.synthetic.generate import generate, read_config
from vsp.errors import ConfigError, DatasetError
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.storage.run import Run
from vsp.utils.images import open_rgb, upright_size

CUP = {"image_filename": "a.png", "subject": "cup", "reference": "hat", "label": "left_of"}
BOXES = {"subject_box": [1, 2, 5, 6], "reference_box": [7, 0, 11.5, 12]}
MASKS = {"subject_mask": "m.png", "reference_mask": "m.png", "depth_filename": "d.png"}


def _records(folder: Path) -> list[dict]:
    return json.loads((folder / "metadata.json").read_text())


@pytest.fixture
def turn(tmp_path):
    """A function that writes a variant; it gives the folder and the notes."""

    def turned(source, variant, name=None, seed=0, n_jobs=1):
        output = tmp_path / (name or f"{source.name}-{variant}")
        fresh, notes = apply_variant(VariantRequest(source, variant, output, seed), n_jobs)
        assert fresh
        return output, notes

    return turned


@pytest.fixture
def odd(tmp_path):
    """Pictures of several formats and sizes; one is rotated by EXIF, one is in a subfolder."""
    images = tmp_path / "odd/images"
    (images / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (14, 20, 3), np.uint8) for _ in range(5)]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(pixels[0]).save(images / "turned.jpg", exif=exif)
    Image.fromarray(pixels[1]).save(images / "a.b.PNG")
    Image.fromarray(pixels[2]).convert("P").save(images / "sub/p.gif", transparency=3)
    Image.fromarray(pixels[3][:, :15, 0]).save(images / "grey.png")
    Image.fromarray(pixels[4].astype(np.uint16)[..., 0] * 256).save(images / "deep.png")
    names = ["turned.jpg", "a.b.PNG", "sub/p.gif", "grey.png", "deep.png", "turned.jpg"]
    records = [
        {**CUP, **BOXES, "id": f"r{i}", "image_filename": name, "group": f"scene {i % 3}",
         "split": ["train", "test"][i % 2 if name != "turned.jpg" else 0],
         "label": ["left_of", "above", "right_of", "behind"][i % 4]}
        for i, name in enumerate(names)
    ]  # fmt: skip
    (tmp_path / "odd/metadata.json").write_text(json.dumps(records))
    return tmp_path / "odd"


@pytest.mark.parametrize("variant", VARIANTS.names())
def test_rows_keep_their_order_ids_groups_and_splits(turn, spatial, odd, variant):
    for source in (spatial, odd):
        if (source, variant) == (odd, "shuffled"):
            continue  # has an image in each split
        before, labels, _ = read_samples(source, None)
        output, _ = turn(source, variant)
        after, _, style = read_samples(output, None)
        kept = [[(s.id, s.group, s.split) for s in samples] for samples in (before, after)]
        assert kept[0] == kept[1] and len(before) > 5
        assert style == ("dataset" if variant == "names" else "instruction")
        same = [one.label == other.label for one, other in zip(before, after, strict=True)]
        assert all(same) == (variant not in ("mirrored", "swapped"))
        assert {s.label for s in after} <= {*labels, "in_front_of", "below"}
        assert all(Path(s.image).is_file() for s in after)


def test_the_bytes_are_the_same_for_any_number_of_workers(turn, odd):
    folders = [turn(odd, "mirrored", f"jobs{n}", n_jobs=n)[0] for n in (1, 2)]
    digests = [
        {
            path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 7


def test_a_mirror_turns_every_pixel_of_the_upright_picture(turn, odd):
    output, notes = turn(odd, "mirrored")
    assert notes == []
    for before, after in zip(_records(odd), _records(output), strict=True):
        seen = np.asarray(open_rgb(odd / "images" / before["image_filename"])[0])
        turned, path = after["image_filename"], output / "images" / after["image_filename"]
        assert np.array_equal(np.asarray(open_rgb(path)[0]), seen[:, ::-1])
        assert not np.array_equal(seen, seen[:, ::-1])
        assert turned.lower().endswith(".png") and path.read_bytes()[1:4] == b"PNG"


def test_boxes_are_about_the_same_pixels_in_a_mirror(turn, odd):
    output, _ = turn(odd, "mirrored")
    for before, after in zip(_records(odd), _records(output), strict=True):
        seen = open_rgb(odd / "images" / before["image_filename"])[0]
        mirrored = open_rgb(output / "images" / after["image_filename"])[0]
        there = np.asarray(seen.crop(before["subject_box"]))
        assert np.array_equal(np.asarray(mirrored.crop(after["subject_box"])), there[:, ::-1])
        left, top, right, bottom = after["reference_box"]
        assert [seen.width - right, top, seen.width - left, bottom] == BOXES["reference_box"]


@pytest.mark.parametrize("task", ["between", "counting"])
def test_every_box_of_a_world_is_about_the_same_pixels_in_a_mirror(turn, tmp_path, task):
    source = _world(tmp_path, task)
    output, notes = turn(source, "mirrored")
    assert notes == []
    for before, after in zip(_records(source), _records(output), strict=True):
        assert before["label"] == after["label"]
        seen, mirrored = (
            open_rgb(folder / "images" / record["image_filename"])[0]
            for folder, record in ((source, before), (output, after))
        )
        pairs = list(zip(_boxes(before), _boxes(after), strict=True))
        assert len(pairs) == (3 if task == "between" else int(before["label"]))
        for old, new in pairs:
            there = np.asarray(seen.crop(old))
            assert np.array_equal(np.asarray(mirrored.crop(new)), there[:, ::-1])


def test_names_and_regions_of_a_world_go_in_its_language(turn, tmp_path):
    source = _world(tmp_path, "between", languages=("de",))
    for before, after in zip(_records(source), _records(turn(source, "names")[0]), strict=True):
        assert all(f"{part}_color" in before for part in ("subject", "reference", "second"))
        names = after["prompt"].removesuffix(".").split(". ")
        assert len(names) == 3 and len(set(names)) == 3 and not _boxes(after)
    for record in _records(turn(source, "shuffled")[0]):
        assert not _boxes(record)


def _world(folder, task, **changes):
    config = read_config(ROOT / f"configs/{task}_dataset.yaml")
    places = {"output": str(folder / task), "splits": str(folder / "splits")}
    generate(config.model_copy(update={"n_samples": 12, **places, **changes}), n_jobs=1)
    return folder / task


def _boxes(record):
    one = [value for key, value in record.items() if key.endswith("_box")]
    return [*one, *record.get("subject_boxes", ())]


def test_masks_and_depth_are_mirrored_too(turn, write_dataset):
    folder = write_dataset([{**CUP, **MASKS}])
    rng = np.random.default_rng(1)
    for name in ("masks/m.png", "depth/d.png"):
        (folder / name).parent.mkdir()
        Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(folder / name)
    output, _ = turn(folder, "mirrored")
    for name in ("masks/m.png", "depth/d.png"):
        before, after = (np.asarray(open_rgb(one / name)[0]) for one in (folder, output))
        assert np.array_equal(after, before[:, ::-1])
    (record,) = _records(output)
    assert record == {**CUP, **MASKS, "label": "right_of", "group": "a.png"}


def test_mirrored_twice_is_as_it_was(turn, odd):
    once, _ = turn(odd, "mirrored")
    twice, _ = turn(once, "mirrored")
    assert variants_of(twice) == ("mirrored", "mirrored")
    for before, after in zip(_records(odd), _records(twice), strict=True):
        pictures = [
            np.asarray(open_rgb(folder / "images" / record["image_filename"])[0])
            for folder, record in ((odd, before), (twice, after))
        ]
        assert np.array_equal(*pictures)
        assert {**after, "image_filename": before["image_filename"]} == before


def test_swapped_twice_is_as_it_was(turn, odd, spatial):
    for source in (odd, spatial):
        before = [{"group": r["image_filename"], **r} for r in _records(source)]
        once, notes = turn(source, "swapped")
        twice, _ = turn(once, "swapped", f"{source.name}-twice")
        assert notes == [] and _records(twice) == before != _records(once)


def test_a_swap_exchanges_names_boxes_flags_and_the_prompts_names(turn, write_dataset):
    record = {**CUP, **BOXES, "subject_mask": "x.png", "flags": ["subject_ambiguous", "far"],
              "reference": "cup holder", "prompt": "Where is the cup, seen from the cup holder?"}  # fmt: skip
    output, notes = turn(write_dataset([record]), "swapped")
    assert notes == [] and _records(output) == [{
        "image_filename": "a.png", "subject": "cup holder", "reference": "cup", "group": "a.png",
        "subject_box": BOXES["reference_box"], "reference_box": BOXES["subject_box"],
        "reference_mask": "x.png", "flags": ["reference_ambiguous", "far"], "label": "right_of",
        "prompt": "Where is the cup holder, seen from the cup?",
    }]  # fmt: skip


@pytest.mark.parametrize("prompt", ["Where is the cup?", "Is the cupboard a hat?", "Cup or hat?"])
def test_a_prompt_that_does_not_name_both_is_not_kept_in_a_swap(turn, write_dataset, prompt):
    output, notes = turn(write_dataset([{**CUP, "prompt": prompt}, CUP]), "swapped")
    assert all("prompt" not in record for record in _records(output))
    assert notes == ["1 of 2 rows lost their own prompt, which does not name both"]


LABELS = {
    "mirrored": {"left_of": "right_of", "right_of": "left_of", "above": "above", "below": "below",
                 "behind": "behind", "yes": "yes", "copyright": "copyright"},
    "swapped": {"left_of": "right_of", "right_of": "left_of", "above": "below", "below": "above",
                "in_front_of": "behind", "behind": "in_front_of", "on": "under", "under": "on"},
}  # fmt: skip


@pytest.mark.parametrize("variant", LABELS)
def test_labels_are_turned_by_an_explicit_table(turn, write_dataset, variant):
    folder = write_dataset([{**CUP, "label": label} for label in LABELS[variant]])
    output, _ = turn(folder, variant)
    assert [record["label"] for record in _records(output)] == list(LABELS[variant].values())


def test_a_rows_own_options_are_turned_with_its_label(turn, write_dataset):
    """The label stays one of them; a list that has both sides keeps its order."""
    records = [
        {**CUP, "options": ["near", "left of", "above"]},
        {**CUP, "options": ["left_of", "near"]},
        {**CUP, "options": ["left of", "right of"]},
    ]
    source = write_dataset(records)
    expected = {
        "mirrored": [["near", "right of", "above"], ["right_of", "near"], records[2]["options"]],
        "swapped": [["near", "right of", "below"], ["right_of", "near"], records[2]["options"]],
        "blank": [record["options"] for record in records],
    }
    for variant, options in expected.items():
        folder, _ = turn(source, variant)
        assert [record["options"] for record in _records(folder)] == options
        again, _ = turn(folder, variant, f"{variant}-again")
        assert [record["options"] for record in _records(again)] == [r["options"] for r in records]


LISTED = "Where is the cup relative to the hat?\nOptions:\n{}\nAnswer with one of the options."


@pytest.mark.parametrize("variant", ["mirrored", "swapped"])
def test_a_label_in_words_is_turned_and_a_prompt_that_lists_both_sides_stays(
    turn, write_dataset, variant
):
    options = ["above", "below", "left of", "right of"]
    own = {"prompt": LISTED.format("\n".join(options)), "question": "own"}
    record = {**CUP, **own, "label": "left of", "options": options}
    output, _ = turn(write_dataset([record]), variant)
    (turned,) = _records(output)
    assert (turned["label"], turned["options"]) == ("right of", options)
    assert turned["prompt"].split("\n", 1)[1] == record["prompt"].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("variant", "options", "why"),
    [
        ("mirrored", ["left of", "above"], "which says left or right"),
        ("swapped", ["left of", "above"], "which lists choices without their inverses"),
        (
            "swapped",
            ["left of", "elsewhere"],
            "has a prompt that names the option 'left of', which the",
        ),
    ],
)
def test_a_prompt_that_lists_choices_of_one_side_is_refused(
    turn, write_dataset, variant, options, why
):
    own = {"prompt": LISTED.format("\n".join(options)), "question": "own", "options": options}
    record = {**CUP, **own}
    with pytest.raises(DatasetError, match=why):
        turn(write_dataset([record]), variant)


@pytest.mark.parametrize("variant", ["mirrored", "swapped"])
def test_the_sources_own_words_for_another_label_are_not_kept(turn, write_dataset, variant):
    said = {"relation": "on the left of", "predicate": "on the left of"}
    folder = write_dataset([{**CUP, **said}, CUP])
    output, notes = turn(folder, variant)
    assert not any({"relation", "predicate"} & record.keys() for record in _records(output))
    assert notes == [
        f"1 of 2 rows lost `{key}`, the source's words for the old label" for key in said
    ]


def test_for_a_question_of_ones_own_no_other_is_asked(turn, write_dataset):
    own = {**CUP, "prompt": "Is it left of the hat?", "label": "yes", "question": "own"}
    with pytest.raises(DatasetError, match="says left or right, and no prompt form can replace"):
        turn(write_dataset([own]), "mirrored")


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("Where is the cup?", True),
        ("Where is it? Choose from [left of, right of, above, below].", True),
        ("Is it to the left or to the right of the hat?", True),
        ("Answer left_of, right_of, above or below", True),
        ("What is bright, left over?", False),
        ("What stands left of the hat?", False),
        ("Is it above or to the right of the hat?", False),
        ("Is the left cup right of the hat?", False),
        ("Is the RIGHTMOST cup red?", False),
        ("Who holds the copyright?", True),
    ],
)
def test_a_prompt_that_says_a_side_is_not_kept_in_a_mirror(turn, write_dataset, prompt, kept):
    folder = write_dataset([{**CUP, "prompt": prompt}])
    output, notes = turn(folder, "mirrored")
    assert _records(output)[0].get("prompt") == (prompt if kept else None)
    lost = "1 of 1 rows lost their own prompt, which says left or right"
    assert notes == ([] if kept else [lost])


def test_a_name_that_says_a_side_is_counted(turn, write_dataset):
    _, notes = turn(write_dataset([{**CUP, "subject": "left shoe"}, CUP]), "mirrored")
    assert notes == ["1 of 2 rows have left or right in a name, which is not changed"]


def test_shuffled_images_are_others_of_their_split_each_used_as_often(turn, spatial):
    output, notes = turn(spatial, "shuffled")
    before, after = _records(spatial), _records(output)
    split = {record["image_filename"]: record["split"] for record in before}
    for one, other in zip(before, after, strict=True):
        assert one["image_filename"] != other["image_filename"]
        assert split[other["image_filename"]] == one["split"] == other["split"]
        changed = {"image_filename": 0, "group": 0}
        seen = {key: value for key, value in one.items() if not key.endswith("_box")}
        assert "subject_box" in one and {**other, **changed} == {**seen, **changed}
    assert sorted(split) == sorted(record["image_filename"] for record in after)
    assert len({*split.values()}) == 2
    assert notes == ["96 of 96 rows lost boxes, masks and depth, which belong to their own image"]


def test_a_shuffled_image_takes_all_rows_of_another(turn, write_dataset):
    rows = [{**CUP, "image_filename": f"{'abc'[i % 3]}.png", **BOXES} for i in range(7)]
    output, notes = turn(write_dataset(rows), "shuffled")
    pairs = {(one["image_filename"], other["image_filename"])
             for one, other in zip(rows, _records(output), strict=True)}  # fmt: skip
    assert len(pairs) == 3 and len({other for _, other in pairs}) == 3
    assert all("subject_box" not in record for record in _records(output))
    assert notes == ["7 of 7 rows lost boxes, masks and depth, which belong to their own image"]


def test_the_order_of_shuffled_images_is_that_of_the_seed(turn, spatial):
    first, again, other = (
        _records(turn(spatial, "shuffled", name, seed)[0])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_an_image_in_two_splits_changes_places_with_its_like_alone(turn, write_dataset):
    rows = [{**CUP, "image_filename": f"{name}.png", "split": split}
            for name, splits in (("a", "train"), ("b", "train"), ("c", "train test"),
                                 ("d", "test train"), ("e", "test"), ("f", "test"))
            for split in splits.split()]  # fmt: skip
    after = _records(turn(write_dataset(rows), "shuffled")[0])
    assert "".join(record["image_filename"][0] for record in after) == "baddccfe"


def test_blank_pictures_are_grey_and_of_the_upright_size_one_file_a_size(turn, odd):
    output, _ = turn(odd, "blank")
    for before, after in zip(_records(odd), _records(output), strict=True):
        grey = np.asarray(open_rgb(output / "images" / after["image_filename"])[0])
        seen = open_rgb(odd / "images" / before["image_filename"])[0]
        assert grey.shape == (seen.height, seen.width, 3) and (grey == 128).all()
        assert upright_size(odd / "images" / before["image_filename"]) == seen.size
        assert after == {**before, "image_filename": after["image_filename"]}
    assert len(list((output / "images").iterdir())) == 3


def test_a_blank_pictures_depth_is_blank(turn, write_dataset):
    folder = write_dataset([{**CUP, **MASKS}])
    (folder / "depth").mkdir()
    Image.new("L", (4, 6)).save(folder / "depth/d.png")
    output, _ = turn(folder, "blank")
    (record,) = _records(output)
    depth = open_rgb(output / "depth" / record["depth_filename"])[0]
    assert depth.size == (4, 6) and depth.getcolors() == [(24, (128, 128, 128))]


def test_the_names_are_all_that_is_asked(turn, spatial, write_dataset):
    output, _ = turn(spatial, "names")
    for before, after in zip(_records(spatial), _records(output), strict=True):
        subject = f"{before['subject_color']} {before['subject_shape']}"
        assert after["prompt"] == (
            f"{subject}. {before['reference_color']} {before['reference_shape']}."
        )
        assert after["label"] == before["relation"]
        assert set(after) == {"image_id", "image_filename", "group", "split", "prompt", "label"}
    shapes = write_dataset(
        [{"image_filename": "a.png", "shape_type": "star", "color_label": "red", "prompt": "?"}]
    )
    (record,) = _records(turn(shapes, "names")[0])
    assert (record["prompt"], record["label"]) == ("star.", "red")
    assert not record.keys() & {"shape_type", "color_label"}


@pytest.mark.parametrize("variant", ["shuffled", "swapped"])
def test_pictures_that_stay_are_links_that_move_with_their_source(turn, spatial, tmp_path, variant):
    (tmp_path / "old").mkdir()
    shutil.copytree(spatial, tmp_path / "old/source")
    output, _ = turn(tmp_path / "old/source", variant, "old/variant")
    assert (output / "images").is_symlink()
    (tmp_path / "old").rename(tmp_path / "new")
    samples, _, _ = read_samples(tmp_path / "new/variant", None)
    assert all(Path(sample.image).is_file() for sample in samples)


def test_the_card_says_of_what_it_is_a_variant(turn, spatial):
    output, _ = turn(spatial, "blank", seed=4)
    assert json.loads((output / "dataset.json").read_text()) == {
        "variant": "blank", "seed": 4, "of": str(spatial),
        "of_metadata_sha256": hashlib.sha256((spatial / "metadata.json").read_bytes()).hexdigest(),
        "of_card": json.loads((spatial / "dataset.json").read_text()),
    }  # fmt: skip
    again, _ = turn(output, "mirrored")
    assert variants_of(again) == ("blank", "mirrored") and variants_of(spatial) == ()


def test_the_same_variant_is_left_alone_and_another_is_refused(turn, odd):
    output, _ = turn(odd, "swapped", "out")
    inode = (output / "metadata.json").stat().st_ino
    assert apply_variant(VariantRequest(odd, "swapped", output), 1) == (False, [])
    assert (output / "metadata.json").stat().st_ino == inode
    for asked in (VariantRequest(odd, "mirrored", output), VariantRequest(odd, "swapped", odd)):
        with pytest.raises(DatasetError, match="holds another dataset; remove it or name another"):
            apply_variant(asked, 1)
    (odd / "metadata.json").write_text(json.dumps(_records(odd)[:-1]))
    with pytest.raises(DatasetError, match="out: holds another dataset"):
        apply_variant(VariantRequest(odd, "swapped", output), 1)


@pytest.mark.parametrize("variant", ["blank", "mirrored", "names", "shuffled"])
def test_a_missing_image_stays_missing_and_is_counted(turn, write_dataset, variant):
    rows = [{**CUP, "image_filename": f"{name}.png", **BOXES} for name in "abcd"]
    folder = write_dataset(rows)
    (folder / "images/b.png").unlink()
    output, notes = turn(folder, variant)
    after = _records(output)
    assert len(after) == 4 and after[1]["image_filename"] == "b.png"
    assert [(output / "images" / r["image_filename"]).is_file() for r in after] == [1, 0, 1, 1]
    assert notes[0].startswith(f"1 of 4 pictures in {folder}/images cannot be read")
    assert ("subject_box" in after[1]) == (variant == "blank")


RIGHT = {"id": "1", **CUP, "prompt": "Where is the cup? And the hat?", **BOXES}
BAD = [
    ("swapped", {"label": "on_top"}, "labels 'on_top', of 2 of 3 rows, have no inverse; leave"),
    ("mirrored", {"label": "to the left"}, "labels 'to the left', of 2 of 3 rows, say left or right in"),
    ("mirrored", {"subject_box": [1, 2, 3]}, "record 1 has subject_box [1, 2, 3]; give it [left,"),
    ("mirrored", {"reference_box": "x"}, "record 1 has reference_box 'x'; give it [left, top,"),
    ("mirrored", {"subject": None, "prompt": "Left?"}, "record 1 has prompt 'Left?', which says"),
    ("swapped", {"subject": None}, "record 1 names no subject and reference that could be swapped"),
    ("names", {"reference": None}, "record 1 names neither subject and reference nor a shape"),
    ("blank", {"image_filename": "../a.png"}, "record 1 has image_filename '../a.png', which is not"),
    ("blank", {"image_filename": "/a.png"}, "record 1 has image_filename '/a.png', which is not in"),
    ("swapped", {"image_filename": 3}, "record 1 has image_filename 3; give it a text"),
    ("shuffled", {"split": "all"}, "record 1 has split 'all'; use train, val or test"),
    ("shuffled", {"label": None}, "record 1 has label None; give it a text"),
    ("shuffled", {"split": "test"}, "'a.png' is the only image of its split, so there is no"),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "change", "message"), BAD)
def test_what_cannot_be_turned_is_one_line_and_leaves_nothing_behind(
    write_dataset, tmp_path, variant, change, message
):
    folder = write_dataset([RIGHT])
    kept = {key: value for key, value in {**RIGHT, **change}.items() if value is not None}
    kept |= {"label": None} if change == {"label": None} else {}
    records = [RIGHT, kept, {**kept, "id": "3"}]
    (folder / "metadata.json").write_text(json.dumps(records))
    with pytest.raises(DatasetError) as caught:
        apply_variant(VariantRequest(folder, variant, tmp_path / "out"), 1)
    said = [*caught.value.details, str(caught.value)]
    assert message in said[0] and not any("\n" in line for line in said)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_dataset_without_pictures_has_no_blank_ones(write_dataset, tmp_path):
    folder = write_dataset([CUP, {**CUP, "image_filename": "b.png"}])
    shutil.rmtree(folder / "images")
    for variant in ("blank", "shuffled"):
        with pytest.raises(DatasetError, match="none of 2 pictures can be read; first: "):
            apply_variant(VariantRequest(folder, variant, tmp_path / "out"), 1)


def test_two_pictures_do_not_become_one(write_dataset, tmp_path):
    folder = write_dataset([{**CUP, "image_filename": name} for name in ("a.jpg", "a.jpg.png")])
    with pytest.raises(
        ConfigError, match=r"two mirrored pictures would have the name 'a\.jpg\.png'"
    ):
        apply_variant(VariantRequest(folder, "mirrored", tmp_path / "out"), 1)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote_and_what_was_lost(write_dataset, work, capsys):
    write_dataset([{**CUP, "prompt": "Left of what?"}])
    command = ["generate", "--of", "own", "--variant", "mirrored", "--out", "new", "--n-jobs", "1"]
    for said in ("wrote new, mirrored of own\n", "already there: new, mirrored of own\n"):
        assert main(command) == 0
        out, log = capsys.readouterr()
        assert out == said
        note = "note: 1 of 1 rows lost their own prompt, which says left or right\n"
        assert (note in log) == said.startswith("wrote")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--of", "own"], "--of needs --variant NAME"),
        (["--of", "own", "--variant", "blank"], "--of needs --out DIR"),
        (["--of", "own", "--variant", "red", "--out", "x"], "'red' is not known; known: blank, mir"),
        (["--of", "no", "--variant", "blank", "--out", "x"], "no: no such folder"),
        (["--config", "x.yaml", "--variant", "blank"], "--variant needs --of DIR, the dataset"),
        (["--config", "x.yaml", "--seed", "0"], "--seed needs --of DIR, the dataset to make"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(write_dataset, work, capsys, options, message):
    write_dataset([CUP])
    assert main(["generate", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_plan_of_before_variants_is_read_and_its_store_is_still_its_own(plan_fake):
    run = plan_fake()
    values = json.loads((run.folder / "plan.json").read_text())
    del values["sha256"], values["variants"]
    seal = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (run.folder / "plan.json").write_text(json.dumps({**values, "sha256": seal}))
    old = Run.open(run.folder)
    assert old.plan == run.plan and old.plan.variants == ()
    varied = run.plan.model_copy(update={"variants": ("blank",)})
    assert varied.identity() == run.plan.identity()


def test_variants_go_from_the_picture_to_the_comparison(turn, spatial, plan_fake, work):
    runs = {}
    for name in ("plain", "mirrored", "blank"):
        folder = spatial if name == "plain" else turn(spatial, name)[0]
        run: Run = plan_fake(folder, name=name)
        extract(run, run.shards)
        settings = ProbeSettings(
            permutations=0, controls=0, curve=False, random=False, resamples=100,
            strengths=(0.1, 1.0),
        )  # fmt: skip
        runs[name] = probe_run(run, settings, 1)
        assert run.plan.variants == (() if name == "plain" else (name,))
        n_seen = len({sample.image_sha256 for sample in run.all_samples()})
        assert n_seen == (1 if name == "blank" else 96)
    pairs = compare(list(runs.items()), ComparisonSettings(resamples=100, flips=99))
    mirrored, blank = pairs
    judged = Counter(r["relation"] for r in _records(spatial) if r["split"] == "val")
    assert mirrored.n_rows == blank.n_rows == judged.total()
    assert mirrored.n_relabelled == judged["left_of"] + judged["right_of"] > 0
    assert blank.n_relabelled == 0 and blank.layers[0].difference == 0


@pytest.mark.parametrize(
    ("variant", "why"),
    [("swapped", "'blue', 'to the left' have no inverse"), ("mirrored", "say left or right")],
)
def test_a_variant_that_fits_no_row_is_said_not_to_apply_to_the_dataset(
    write_dataset, tmp_path, variant, why
):
    labels = ["to the left", "blue" if variant == "swapped" else "to the left"]
    folder = write_dataset([{**RIGHT, "id": str(i), "label": one} for i, one in enumerate(labels)])
    with pytest.raises(DatasetError) as caught:
        apply_variant(VariantRequest(folder, variant, tmp_path / "out"), 1)
    assert str(caught.value).startswith(
        f"{folder}: the variant {variant} does not apply to this dataset: its labels "
    )
    assert why in str(caught.value) and str(caught.value).endswith("; use another variant")
    assert "leave" not in str(caught.value) and not (tmp_path / "out").exists()
