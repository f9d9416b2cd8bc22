"""What'sUp: the real photographs, captions of the other files, and invalid records."""

import json
from collections import Counter, defaultdict

import pytest
from helpers.real import real

from vsp import models
from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Relation, Thing
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import ConfigError, DatasetError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run

IMPORTER = IMPORTERS.load("whatsup")


def _real(name):
    return list(IMPORTER.read([("test", real(f"whatsup/{name}"))], {}))


def _read(tmp_path, records, name="coco_qa_two_obj.json", **options):
    path = tmp_path / name
    path.write_text(json.dumps(records))
    return list(IMPORTER.read([("", path)], options))


def _refused(tmp_path, records, **how):
    with pytest.raises(DatasetError) as caught:
        _read(tmp_path, records, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("name", "groups", "relations"),
    [
        ("controlled_images_dataset.json",
         ["controlled_images/dog_table", "controlled_images/mug_table"],
         ["left of", "on", "right of", "under"]),
        ("controlled_clevr_dataset.json", ["controlled_clevr/mug_plate"],
         ["behind", "in front of", "left of", "right of"]),
    ],
)  # fmt: skip
def test_the_real_photographs_are_in_sets_of_four_with_one_of_each_relation(
    name, groups, relations
):
    pictures = _real(name)
    sets = defaultdict(list)
    for picture in pictures:
        (relation,) = picture.relations
        assert real(f"whatsup/{picture.image}").is_file() and picture.split == "test"
        assert f"{relation.subject.name}_{relation.reference.name}" in picture.group
        sets[picture.group].append(relation.predicate)
    assert len(pictures) == 4 * len(groups)
    assert {group: sorted(predicates) for group, predicates in sets.items()} == dict.fromkeys(
        groups, relations
    )


def test_words_of_a_name_are_parted_by_a_dash(tmp_path):
    record = {
        "image_path": "data/controlled_clevr/beer-bottle_in-front_of_coffee-mug.jpeg",
        "caption_options": ["A beer bottle in-front of a coffee mug", "B"],
    }
    (picture,) = _read(tmp_path, [record], name="own.json")
    assert picture.image == "controlled_clevr/beer-bottle_in-front_of_coffee-mug.jpeg"
    assert picture.group == "controlled_clevr/beer-bottle_coffee-mug"
    assert picture.relations == (
        Relation(
            Thing("beer bottle"), "in front of", Thing("coffee mug"), file=f"{tmp_path}/own.json", where="record 0"
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A photo of a dog to the left of a person", ("dog", "left of", "person")),
        ("A photo of an  umbrella to the right of an apple.", ("umbrella", "right of", "apple")),
        ("a photo of a potted plant above a tv", ("potted plant", "above", "tv")),
        ("A photo of trees behind the house", ("trees", "behind", "house")),
        ("The man on a bike in front of some cars", ("man on a bike", "in front of", "cars")),
        ("A cat on top of a bed", ("cat", "on top of", "bed")),
        ("A photo of a fork below an orange", ("fork", "below", "orange")),
    ],
)
def test_a_caption_of_two_objects_is_a_relation(tmp_path, caption, expected):
    (picture,) = _read(tmp_path, [[7, caption, "another"]])
    (r,) = picture.relations
    assert (r.subject.name, r.predicate, r.reference.name) == expected and not r.prompt


@pytest.mark.parametrize("label", ["left", "right", "top", "bottom"])
def test_a_caption_of_one_object_is_a_question_for_where_in_the_image_it_is(tmp_path, label):
    (picture,) = _read(tmp_path, [[7, f"A photo of a hot dog on the {label}", "another"]])
    (r,) = picture.relations
    assert (r.subject, r.reference, r.predicate, r.label) == (Thing("hot dog"), None, "", label)
    assert "'hot dog'" in r.prompt and "[left, right, top, bottom]" in r.prompt


def test_numbers_name_images_of_coco_or_of_visual_genome(tmp_path):
    records = [
        [139, "A photo of a dog above a car", "x"],
        [2407890, "A photo of a cup below a cat", "x"],
        [139, "A photo of a car below a dog", "x"],
    ]
    coco = _read(tmp_path, records)
    assert [p.image for p in coco] == ["000000000139.jpg", "000002407890.jpg"]
    assert [len(p.relations) for p in coco] == [2, 1]
    vg = _read(tmp_path, records, name="vg_qa_two_obj.json")
    assert [p.image for p in vg] == ["139.jpg", "2407890.jpg"]
    for name in ("own.json", "coco_qa_two_obj.json"):
        assert _read(tmp_path, records, name=name, images="vg")[0].image == "139.jpg"
    assert _refused(tmp_path, records[:1], name="own.json") == (
        "own.json: record 0 gives an image number without its source; use --option images=coco or images=vg"
    )
    with pytest.raises(ConfigError, match="images 'flickr' are not known; use coco or vg"):
        _read(tmp_path, records, images="flickr")


PATH = "data/controlled_images/mug_on_table.jpeg"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (5, "is 5; What'sUp records are {image_path, caption_options} or [image number, correct caption"),
        ({"image_path": PATH}, "is {'image_path': "),
        ([7, "A dog above a cat"], "is [7, 'A dog above a cat']; What'sUp records are"),
        ({"image_path": 5, "caption_options": ["x"]}, "has image_path 5 and caption_options ['x']"),
        ({"image_path": PATH, "caption_options": []},
         "has image_path 'data/control...on_table.jpeg' and caption_options []; give a path"),
        ({"image_path": "data/mug.jpeg", "caption_options": ["A mug on a table"]},
         "has image_path 'data/mug.jpeg'; name files OBJECT_RELATION_OBJECT.jpeg"),
        ({"image_path": PATH, "caption_options": ["A mug under a table", "A mug on a table"]},
         f"has image_path '{PATH}' and the first caption 'A mug under a table'; correct one"),
        ({"image_path": PATH, "caption_options": [None]}, "has image_path 'data/"),
        (["7", "A dog above a cat", "x"], "has image number '7'; write an integer ≥ 0"),
        ([-7, "A dog above a cat", "x"], "has image number -7; write an integer ≥ 0"),
        ([7, None, "x"], "has caption None; write text"),
        ([7, "A dog beside a cat", "x"], "has caption 'A dog beside a cat'; use exactly one of to the left"),
        ([7, "A dog above a cat to the left of a car", "x"], "has caption 'A dog above a cat to"),
        ([7, "", "x"], "has caption ''; use exactly one of"),
    ],
)  # fmt: skip
def test_a_record_that_is_none_of_whatsup_is_named(tmp_path, record, message):
    good = [7, "A photo of a dog above a cat", "x"]
    assert _refused(tmp_path, [good, record]).startswith(
        f"coco_qa_two_obj.json: record 1 {message}"
    )


def test_questions_that_name_no_images_are_refused_with_what_to_give_instead(tmp_path):
    path = tmp_path / "Controlled_Images_A_with_answer_four_options.jsonl"
    line = {"id": 0, "question": "<image>\nUSER: Where is the mug?", "answer": ["On"]}
    path.write_text(f"{json.dumps(line)}\n{json.dumps(line)}")
    with pytest.raises(DatasetError, match=r"AdaptVis's, do not name their images: use What'sUp"):
        list(IMPORTER.read([("", path)], {}))


def test_a_damaged_file_is_refused_with_the_place(tmp_path):
    path = tmp_path / "coco_qa_two_obj.json"
    path.write_text('[[7, "A dog above a cat", "x"], [7, "A dog')
    with pytest.raises(DatasetError, match="is not JSON: Unterminated string starting at: line 1"):
        list(IMPORTER.read([("", path)], {}))
    with pytest.raises(DatasetError, match="no such file"):
        list(IMPORTER.read([("", tmp_path / "none.json")], {}))


def test_sets_of_the_sizes_that_are_published_are_balanced_in_each_group(tmp_path):
    """The published part B has 102 sets of images."""
    says = {"left_of": "to the left of", "right_of": "to the right of", "behind": "behind",
            "in-front_of": "in front of"}  # fmt: skip
    records = [
        {"image_path": f"data/controlled_clevr/thing{i}_{name}_plate.jpeg",
         "caption_options": [f"A thing{i} {said} a plate"]}
        for name, said in says.items() for i in range(102)
    ]  # fmt: skip
    pictures = _read(tmp_path, records, name="controlled_clevr_dataset.json")
    assert len(pictures) == 408
    assert set(Counter(p.relations[0].predicate for p in pictures).values()) == {102}
    assert set(Counter(p.group for p in pictures).values()) == {4}


def test_the_twelve_photographs_go_through_to_results(work, checkpoint):
    """Three sets of four photographs: three folds, and two labels that are in every set."""
    (work / "sides.yaml").write_text(
        "sideways: [left of, right of]\nother: ['on', under, in front of, behind]\n"
    )
    files = [str(real(f"whatsup/controlled_{name}_dataset.json")) for name in ("images", "clevr")]
    request = ImportRequest(
        "whatsup", files, work / "sides", [real("whatsup")], "sides.yaml", check=True
    )
    imported = import_dataset(request, work)
    assert imported.funnel["splits"] == {"": {"sideways": 6, "other": 6}}
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    run = plan_run(PlanRequest(work / "sides", model), work).run
    extract(run, run.shards)
    settings = ProbeSettings(folds=3, repeats=1, permutations=5, controls=0, strengths=(0.01,))
    results = probe_run(run, settings, n_jobs=1)
    rows = results.summary()["rows"]
    assert (rows["used"], rows["failed"], rows["missing"]) == (12, 0, 0)
    judged = results.arrays("predictions")
    of_set = set(zip(judged["group"].tolist(), judged["outer"][0].tolist(), strict=True))
    sets = {"clevr/mug_plate", "images/dog_table", "images/mug_table"}
    assert {group for group, _ in of_set} == {f"controlled_{name}" for name in sets}
    assert len(of_set) == len({outer for _, outer in of_set}) == 3  # each set is in one test fold
