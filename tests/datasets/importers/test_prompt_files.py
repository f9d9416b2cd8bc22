"""Prompts that are used as they stand, and where their images come from."""

import json

import pytest
from helpers.paths import ROOT
from helpers.real import real

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.metadata import read_samples
from vsp.errors import ConfigError, DatasetError

IMPORTER = IMPORTERS.load("prompts")
TEXT = "USER:  Where is the mug? Answer with left, right, on or\n under..\nASSISTANT:"


def _row(i, answer=("On",), **changes):
    return {"id": i, "question": f"<image>\n{TEXT}", "answer": list(answer), **changes}


def _write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))  # AdaptVis has no final line break
    return path


def _read(path, **options):
    return list(IMPORTER.read([("", path)], options))


def test_prompts_reach_the_dataset_as_they_stand_without_the_image(tmp_path):
    names = [
        f"{a}_{b}_table.jpeg"
        for a in ("mug", "dog")
        for b in ("on", "under", "left_of", "right_of")
    ]
    rows = [_row(i, [name.split("_")[1].capitalize()]) for i, name in enumerate(names)]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n\n")
    request = ImportRequest(
        "prompts",
        [str(_write(tmp_path / "own.jsonl", *rows))],
        tmp_path / "out",
        images=[real("whatsup/controlled_images")],
        options={"images": str(tmp_path / "names.txt")},
    )
    import_dataset(request, ROOT)
    samples, labels, style = read_samples(tmp_path / "out", None)
    assert {sample.prompt for sample in samples} == {TEXT}
    assert [(s.id, s.label, s.image.rpartition("/")[2]) for s in samples][:2] == [
        ("0", "On", "mug_on_table.jpeg"), ("1", "Under", "mug_under_table.jpeg"),
    ]  # fmt: skip
    assert (labels, style) == (["Left", "On", "Right", "Under"], "dataset")


def test_the_names_may_be_made_of_the_ids_or_stand_in_a_json_list(tmp_path):
    path = _write(tmp_path / "own.jsonl", _row(3, answer="left"), _row(4))
    path.write_text(path.read_text().replace('["l", "e", "f", "t"]', '"left"'))
    one, two = _read(path, image="vg/{id}.jpg")
    assert (one.image, two.image, one.relations[0].predicate) == ("vg/3.jpg", "vg/4.jpg", "left")
    assert _read(path, image="{id:012}.jpg")[0].image == "000000000003.jpg"
    names = tmp_path / "names.json"
    names.write_text(json.dumps([{"image_path": "data/a.jpeg", "caption_options": []}, "b.jpeg"]))
    assert [picture.image for picture in _read(path, images=str(names))] == [
        "data/a.jpeg",
        "b.jpeg",
    ]


def test_a_prompt_with_several_images_is_unusable(tmp_path):
    row = _row(1, question="<image>\n<image>\nUSER: Which?\nASSISTANT:")
    ((relation,),) = (
        picture.relations for picture in _read(_write(tmp_path / "a", row), image="{id}")
    )
    assert relation.unusable == "several-images"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            {},
            "the records name no images; use --option image=PATTERN, as in image=mug_{id}.jpg, or",
        ),
        (
            {"image": "{id}", "images": "x"},
            "option images names|options image and images: give one",
        ),
        ({"image": "mug.jpg"}, "option image=mug.jpg has no {id}; write image=mug_{id}.jpg"),
    ],
)
def test_images_must_be_named(tmp_path, options, what):
    with pytest.raises(ConfigError) as caught:
        IMPORTER.read([("", tmp_path / "own.jsonl")], options)
    assert any(str(caught.value).startswith(one) for one in what.split("|"))


@pytest.mark.parametrize(
    ("names", "what"),
    [("a.jpg", "names fewer images than"), ("a.jpg\nb.jpg\nc.jpg", "names more images than"),
     ("[1, 2]", "record 0 is 1; write the name of an image")],
)  # fmt: skip
def test_each_record_has_one_name(tmp_path, names, what):
    (tmp_path / "names").write_text(names)
    with pytest.raises(DatasetError, match=what):
        _read(_write(tmp_path / "own.jsonl", _row(1), _row(2)), images=str(tmp_path / "names"))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (_row(1, ["a", "b"]), "has the answers ['a', 'b']; give it one"),
        (_row(1, []), "has the answers []; give it one"),
        ({"id": 1, "question": "?"}, "has no answer; its keys are id, question"),
        (_row(None), "has no id, so the name of its image cannot be made; use images=FILE"),
        (_row(1, question="<image>\n"), "has no question; write a text"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, row, what):
    path = _write(tmp_path / "own.jsonl", row)
    with pytest.raises(DatasetError) as caught:
        _read(path, image="{id}.jpg")
    assert str(caught.value) == f"{path}: line 1 {what}"


def test_an_import_says_how_prompts_with_roles_are_planned(tmp_path, caplog):
    caplog.set_level("INFO")
    path = _write(tmp_path / "own.jsonl", _row(1))
    assert not list(IMPORTER.read_embedded([("", path)], {}))
    assert 'a model file whose template is "<image>\\n{instruction}"' in caplog.text


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{id}.png", "3.png"), ("{id:012}.jpg", "000000000003.jpg"), ("a: {id}.png", "a: 3.png")],
)
def test_the_command_takes_a_pattern_as_it_is_written(vsp, work, pattern, name):
    """It is no YAML, in which {id} is a mapping."""
    _write(work / "a.jsonl", _row(3))
    answer = vsp("import", "prompts", "--annotations", "a.jsonl", "--option", f"image={pattern}",
                 "--out", "out", "--table", "rows.csv")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    (record,) = json.loads((work / "out/metadata.json").read_text())
    assert record["image_filename"] == name
