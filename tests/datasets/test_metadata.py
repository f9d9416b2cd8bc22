import json
from pathlib import Path

import pytest

from vsp.datasets.metadata import metadata_path, read_samples
from vsp.datasets.picture_paths import why_without_images
from vsp.errors import DatasetError

OWN = {"image_filename": "a.png", "label": "near", "prompt": "How far?"}


def test_a_generated_dataset_becomes_samples_in_the_order_of_its_records(spatial):
    samples, labels, style = read_samples(spatial, None)
    records = json.loads((spatial / "metadata.json").read_text())
    assert [s.id for s in samples] == [r["image_id"] for r in records]
    assert [s.label for s in samples] == [r["relation"] for r in records]
    assert labels == ["left_of", "right_of", "above", "below"] and style == "instruction"
    first, record = samples[0], records[0]
    subject = f"'{record['subject_color']} {record['subject_shape']}'"
    assert first.prompt.startswith(f"Determine the spatial relationship of {subject} relative to ")
    assert "[left of, right of, above, below]" in first.prompt
    assert first.image == str(spatial / "images" / record["image_filename"])
    assert first.split == record["split"]


def test_each_style_asks_in_its_own_words(spatial):
    prompts = {
        style: read_samples(spatial, style)[0][0].prompt
        for style in ("statement", "cloze", "question")
    }
    assert read_samples(spatial, "dataset")[0][0].prompt == prompts["statement"]
    assert len(set(prompts.values())) == 3


def test_ones_own_records_bring_prompt_group_and_split(write_dataset):
    folder = write_dataset(
        [
            {**OWN, "id": "r1", "group": "scene 1", "split": "train"},
            {**OWN, "id": "r2", "label": "far"},
            {
                **OWN,
                "id": "r3",
                "image_filename": "b.png",
                "subject": "a cup",
                "reference": "a hat",
            },
        ]
    )
    samples, labels, style = read_samples(folder, None)
    assert style == "dataset" and labels == ["far", "near"]
    assert [s.group for s in samples] == ["scene 1", "a.png", "b.png"]
    assert [s.split for s in samples] == ["train", "", ""]
    with pytest.raises(DatasetError, match="2 rows cannot be used") as caught:
        read_samples(folder, "instruction")
    assert "record 0 names no subject and reference" in caught.value.details[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_filename": None}, "record 1 has image_filename None"),
        ({"label": ""}, "record 1 has label ''"),
        ({"label": 3}, "record 1 has label 3"),
        ({"prompt": " "}, "record 1 has prompt ' '"),
        ({"split": "dev"}, "record 1 has split 'dev'; use train, val or test"),
        ({"id": "0"}, "record 1 has the id '0' of record 0"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(write_dataset, changes, message):
    folder = write_dataset([{**OWN, "id": "0"}])
    bad = {**OWN, "id": "1", **changes}
    (folder / "metadata.json").write_text(json.dumps([{**OWN, "id": "0"}, bad]))
    with pytest.raises(DatasetError, match=message):
        read_samples(folder, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "no list of records"), ("{}", "no list of records"),
     ("[1]", "record 0 is a int")],
)  # fmt: skip
def test_metadata_that_is_no_list_of_records_is_refused(tmp_path, text, message):
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_samples(tmp_path, None)


def test_a_folder_without_metadata_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match="vsp generate --config"):
        read_samples(tmp_path / "none", None)


BOXES = {
    "id": "1", "image_filename": "a.png", "label": "above", "subject": "cup", "reference": "mat",
    "subject_box": [1, 2, 5, 6], "reference_box": [0, 5.5, 12, 12],
}  # fmt: skip


def test_regions_take_the_place_of_names_as_often_as_the_prompt_names_them(write_dataset):
    folder = write_dataset([BOXES, {**BOXES, "id": "2", "label": "below"}])
    subject, reference = (1, 2, 5, 6), (0, 5.5, 12, 12)
    (sample, _), _, style = read_samples(folder, None, "<mask>")
    assert style == "instruction" and sample.regions == (subject, reference)
    assert sample.prompt.startswith("Determine the spatial relationship of '<mask>' relative to '")
    assert "cup" not in sample.prompt and sample.depth == ""
    (sample, _), *_ = read_samples(folder, "question", "<mask>")
    assert sample.prompt == "Where is the <mask> relative to the <mask>? The <mask> is"
    assert sample.regions == (subject, reference, subject)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_question_about_three_things_has_three_regions(write_dataset, language):
    shapes = {
        f"{part}_{what}": value
        for part in ("subject", "reference", "second")
        for what, value in (("shape", "star"), ("color", "red"), ("box", [1, 2, 5, 6]))
    }
    record = {**BOXES, **shapes, "question": "between", "language": language, "label": "yes"}
    folder = write_dataset([record, {**record, "id": "2", "second_box": [0, 1, 2, 3]}])
    (_, sample), *_ = read_samples(folder, "question", "<mask>")
    assert sample.regions == ((1, 2, 5, 6), (1, 2, 5, 6), (0, 1, 2, 3))
    assert sample.prompt.count("<mask>") == 3 and "red" not in sample.prompt
    del record["second_box"]
    (folder / "metadata.json").write_text(json.dumps([record]))
    with pytest.raises(DatasetError, match="has second_box None"):
        read_samples(folder, "question", "<mask>")


def test_masks_and_depth_pictures_are_files_of_the_dataset(write_dataset):
    record = {**BOXES, "subject_mask": "m.png", "depth_filename": "d.png"}
    del record["subject_box"]
    folder = write_dataset([record, {**record, "id": "2", "label": "below"}])
    (sample, _), *_ = read_samples(folder, "statement", "<mask> <depth>")
    assert sample.prompt == "The spatial relationship of <mask> <depth> to <mask> <depth> is"
    assert sample.regions == (str(folder / "masks/m.png"), (0, 5.5, 12, 12))
    assert sample.depth == str(folder / "depth/d.png")


@pytest.mark.parametrize(
    ("changes", "style", "message"),
    [
        ({"subject_box": None}, "statement", r"has subject_box None; give it \[left, top"),
        ({"reference_box": [1, 2, 3]}, "statement", r"has reference_box \[1, 2, 3\]; give"),
        ({"reference_box": [1, 2, "3", 4]}, "statement", "has reference_box"),
        ({"subject_mask": 7}, "statement", "has subject_mask 7; give it a text"),
        (
            {"prompt": "?"},
            "dataset",
            "has no prompt with regions in style 'dataset'; use another --prompt",
        ),
    ],
)
def test_a_record_that_lacks_a_region_is_named(write_dataset, changes, style, message):
    folder = write_dataset([BOXES, {**BOXES, "id": "2", **changes}])
    if style == "dataset":
        message = "record 0 has prompt None|" + message
    with pytest.raises(DatasetError, match=message):
        read_samples(folder, style, "<mask>")


def test_a_record_without_depth_is_named_where_depth_is_asked_for(write_dataset):
    with pytest.raises(DatasetError, match="record 0 has depth_filename None"):
        read_samples(write_dataset([BOXES]), "statement", "<mask> <depth>")


def test_datasets_of_a_close_name_are_offered(work, write_dataset):
    write_dataset([OWN], "data/raw/spatial")
    write_dataset([OWN], "data/raw/colours")
    for name in ("spatail", "data/raw/spatail"):
        with pytest.raises(DatasetError) as caught:
            metadata_path(Path(name))
        assert str(caught.value) == f"{name}: no such folder; did you mean data/raw/spatial?"
    with pytest.raises(
        DatasetError, match="nope: no such folder; the datasets here are data/raw/col"
    ):
        metadata_path(Path("nope"))
    Path("file").write_text("")
    with pytest.raises(DatasetError, match="file: not a folder; the datasets here are"):
        metadata_path(Path("file"))


def test_a_shipped_dataset_that_is_not_there_is_made_by_generate(work):
    for folder in (Path("data/raw/color"), Path("data/raw/color").absolute()):
        with pytest.raises(
            DatasetError, match="folder; make it with `vsp generate --config color`"
        ):
            metadata_path(folder)


def test_why_a_dataset_is_without_images_is_one_sentence(tmp_path):
    paths = [str(tmp_path / "images" / f"{i}.png") for i in range(3)]
    assert why_without_images(tmp_path, paths).startswith(
        f"{tmp_path}/images: no such folder; the dataset needs 3 images: put them there, or"
    )
    (tmp_path / "images").mkdir()
    assert why_without_images(tmp_path, paths).startswith(f"{tmp_path}/images: is empty; the")
    (tmp_path / "images" / "photos").symlink_to("/gone/photos")
    assert "images/photos: leads to /gone/photos, which is not there" in why_without_images(
        tmp_path, paths
    )
    (tmp_path / "images" / "photos").unlink()
    (tmp_path / "images" / "other.png").touch()
    assert "0.png: no such file, and none of the others is there" in why_without_images(
        tmp_path, paths
    )
    (tmp_path / "images" / "2.png").touch()
    assert why_without_images(tmp_path, paths) == ""


def test_plan_and_dataset_show_say_in_one_line_that_there_are_no_images(vsp, work, write_dataset):
    folder = write_dataset([{**OWN, "id": str(i), "image_filename": f"{i}.png"} for i in range(30)])
    for path in (folder / "images").iterdir():
        path.unlink()
    for option in ([], ["--drop-unreadable"]):
        planned = vsp("plan", "--model", "fake", "--dataset", folder, *option)
        assert planned.returncode == 1
        said = [line for line in planned.stderr.splitlines() if not line.startswith("note: using")]
        assert len(said) == 1 and "images: is empty; the dataset needs 30 images" in said[0]
    shown = vsp("dataset", "show", folder)
    assert shown.returncode == 0 and not (folder / "sheet.png").exists()
    notes = [line for line in shown.stderr.splitlines() if "images" in line and "no sheet" in line]
    assert len(notes) == 1 and "images: is empty; the dataset needs 30 images" in notes[0]
