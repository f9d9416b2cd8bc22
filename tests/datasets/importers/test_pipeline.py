"""`vsp import`: annotations become a dataset that `vsp plan` accepts, and every row is counted."""

import csv
import json
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.real import real
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from vsp.datasets.importers.annotations import Importer, Picture, Relation, Thing
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import Imported, import_dataset
from vsp.datasets.importers.quality_flags import DROPPED, FLAGS
from vsp.datasets.metadata import read_samples
from vsp.errors import ConfigError, DatasetError
from vsp.reporting.funnel_page import funnel_page


def _vrd() -> list[str]:
    return [str(real(f"vrd/annotations_{split}.json")) for split in ("train", "test")]


def _import(request: ImportRequest, n_jobs: int = 1) -> Imported:
    return import_dataset(request, ROOT, n_jobs)


def _records(imported: Imported) -> list[dict]:
    return json.loads((imported.folder / "metadata.json").read_text())


def _thing(name: str, x: float, y: float) -> dict:
    return {"names": [name], "bbox": {"x": x, "y": y, "w": 10, "h": 10}}


def _scene(image: str, *said: str, **more: object) -> dict:
    """Annotations of a cup left of a hat, and a cat below both."""
    things = [_thing("cup", 5, 5), _thing("hat", 40, 5), _thing("cat", 20, 50)]
    names = [thing["names"][0] for thing in things]
    relations = []
    for one in said:
        subject, *words, reference = one.split()
        ends = [names.index(subject), names.index(reference)]
        relations.append({"objects": ends, "relationship": " ".join(words), "text": one.split()})
    return {"filename": image, "objects": things, "relationships": relations, **more}


def _write(folder: Path, name: str, records: list[dict]) -> str:
    (folder / name).write_text(json.dumps(records))
    return str(folder / name)


SAID = ("cup left of hat", "hat right of cup", "cat below hat", "cup above cat", "cup on hat")


@pytest.fixture
def scenes_request(tmp_path) -> ImportRequest:
    """A request for 20 images with four labels, in VRD's second layout."""
    scenes = [_scene(f"{i}.jpg", *SAID) for i in range(20)]
    return ImportRequest("vrd", [_write(tmp_path, "scenes.json", scenes)], tmp_path / "out")


@pytest.fixture(scope="module")
def vrd(tmp_path_factory) -> Imported:
    return _import(ImportRequest("vrd", _vrd(), tmp_path_factory.mktemp("vrd") / "vrd"))


def test_vrd_goes_through_the_funnel_as_it_was_measured(vrd):
    parts = vrd.funnel["parts"]
    assert {s: (part["images"], part["rows"]) for s, part in parts.items()} == {
        "train": (4000, 30_355), "test": (1000, 7_638),
    }  # fmt: skip
    for split, n_mapped, self_relations in (("train", 7_700, 17), ("test", 1_902, 3)):
        part = parts[split]
        dropped = {one["why"]: one["rows"] for one in part["dropped"]}
        assert part["rows"] - dropped["other-relation"] == n_mapped
        assert dropped["self-relation"] == self_relations and dropped["incomplete"] == 0
        assert list(dropped) == ["other-relation", "incomplete", *DROPPED[2:]]
    # Both names are unique in 3,704 and 932 rows; other filters drop some of these rows.
    assert [parts[split]["out"]["rows"] for split in ("train", "test")] == [3_524, 884]
    assert vrd.funnel["other_relations"]["on"] == 5_113 + 1_385
    assert sum(vrd.funnel["other_relations"].values()) == 30_355 + 7_638 - 7_700 - 1_902


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Imported:
    """VRD with four labels and without a filter."""
    out = tmp_path_factory.mktemp("four") / "four"
    return _import(ImportRequest("vrd", _vrd(), out, relations="4way", keep=DROPPED))


def test_every_filter_of_vrd_can_be_switched_off(four, tmp_path):
    everything = _import(ImportRequest("vrd", _vrd(), tmp_path / "all", keep=DROPPED))
    counts = [
        Counter(r["label"] for r in _records(everything) if r["split"] == s)
        for s in ("train", "test")
    ]
    assert [c.total() for c in counts] == [7_700, 1_902]
    assert counts[0] == {
        "left_of": 381, "right_of": 364, "above": 2417, "below": 762, "in_front_of": 1539,
        "behind": 2237,
    }  # fmt: skip
    flags = Counter(flag for r in _records(everything) for flag in r["flags"])
    assert flags["duplicate"] == 81 + 35 and flags["ambiguous-name"] == 3_996 + 970
    assert [part["out"]["rows"] for part in four.funnel["parts"].values()] == [3_924, 920]


def test_records_of_vrd_are_samples_with_boxes_splits_and_groups(vrd):
    samples, labels, style = read_samples(vrd.folder, None)
    assert len(samples) == 4_408 and style == "instruction"
    assert labels == ["left_of", "right_of", "above", "below", "in_front_of", "behind"]
    assert Counter(s.split for s in samples) == {"train": 3_524, "test": 884}
    first, record = samples[0], _records(vrd)[0]
    assert "'umbrella' relative to 'table'" in first.prompt
    assert first.id == record["id"] == "train/2113966890_c65030a7e7_o.jpg/0"
    assert first.group == record["group"] == "2113966890_c65030a7e7_o.jpg"
    assert record["subject_box"] == [306, 94, 590, 175] and record["predicate"] == "above"
    regions = read_samples(vrd.folder, None, marker="<region>")[0]
    assert regions[0].regions == ((306, 94, 590, 175), (324, 336, 458, 489))


def test_ids_of_rows_do_not_depend_on_what_is_dropped(vrd, four):
    ours, theirs = ({r["id"]: r for r in _records(one)} for one in (vrd, four))
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 2_000 and ours.keys() - shared and theirs.keys() - shared
    assert all(ours[i] == theirs[i] for i in shared)


def test_an_import_is_the_same_bytes_again_and_left_alone_where_it_is(scenes_request, tmp_path):
    first = _import(scenes_request)
    again = _import(replace(scenes_request, out=tmp_path / "again"))
    assert first.fresh and again.fresh
    for name in ("metadata.json", "funnel.json", "dropped.csv", "dataset.json"):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
    before = (first.folder / "metadata.json").stat().st_mtime_ns
    same = _import(scenes_request)
    assert not same.fresh and same.funnel == first.funnel
    assert (first.folder / "metadata.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes",
    [{"relations": "4way"}, {"keep": ["duplicate"]}, {"test_fraction": 0.5}, {"balance": True}],
)
def test_another_dataset_in_its_place_is_refused(scenes_request, changes):
    _import(scenes_request)
    with pytest.raises(DatasetError, match="out: holds another dataset; remove it or"):
        _import(replace(scenes_request, **changes))


def test_annotations_that_were_changed_make_another_dataset(scenes_request, tmp_path):
    _import(scenes_request)
    _write(tmp_path, "scenes.json", [_scene("0.jpg", *SAID)])
    with pytest.raises(DatasetError, match="holds another dataset"):
        _import(scenes_request)


def test_what_fails_leaves_nothing_behind(tmp_path):
    broken = _write(tmp_path, "a.json", [_scene("0.jpg", *SAID), {"filename": "b"}])
    with pytest.raises(DatasetError, match="record 1 is a mapping of filename"):
        _import(ImportRequest("vrd", [broken], tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# Images


def _draw(folder: Path, name: str, size: tuple[int, int] = (64, 64)) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, tuple(zlib.crc32(name.encode()).to_bytes(4))[:3]).save(folder / name)


def test_a_dataset_with_images_can_be_planned(scenes_request, tmp_path, plan_fake):
    for i in range(20):
        _draw(tmp_path / ("one" if i % 2 else "two"), f"{i}.jpg")
    scenes_request = replace(
        scenes_request, images=[tmp_path / "one", tmp_path / "two"], test_fraction=0.25
    )
    imported = _import(scenes_request)
    assert {path.name: path.readlink() for path in (imported.folder / "images").iterdir()} == {
        "one": tmp_path / "one", "two": tmp_path / "two",
    }  # fmt: skip
    assert [r["image_filename"] for r in _records(imported)[::4]][:3] == [
        "two/0.jpg", "one/1.jpg", "two/2.jpg",
    ]  # fmt: skip
    run = plan_fake(dataset=imported.folder)
    assert run.plan.n_samples == 80 and set(run.plan.labels) == {
        "left_of", "right_of", "above", "below",
    }  # fmt: skip


def test_an_image_is_found_by_its_stem_where_its_suffix_is_another(tmp_path):
    names = ["a.jpg", "b.jpg", "c.JPG", "d.jpg"]
    path = _write(tmp_path, "s.json", [_scene(name, *SAID) for name in names])
    for name in ("a.gif", "b.jpg", "b.png", "c.jpg", "d.txt.jpg"):
        _draw(tmp_path / "photos", name)
    imported = _import(ImportRequest("vrd", [path], tmp_path / "out", images=[tmp_path / "photos"]))
    assert {r["group"]: r["image_filename"] for r in _records(imported)} == {
        "a.jpg": "photos/a.gif", "b.jpg": "photos/b.jpg", "c.JPG": "photos/c.jpg",
    }  # fmt: skip
    assert "1 image in no image folder, first: d.jpg" in imported.notes
    assert (
        "2 images found under another suffix or case, first: a.jpg is photos/a.gif"
        in imported.notes
    )
    dropped = {one["why"]: one["rows"] for one in imported.funnel["parts"][""]["dropped"]}
    assert dropped["missing-image"] == 4
    kept = _import(
        ImportRequest(
            "vrd", [path], tmp_path / "k", images=[tmp_path / "photos"], keep=["missing-image"]
        )
    )
    lost = [r for r in _records(kept) if r["group"] == "d.jpg"]
    assert len(lost) == 4 and all(r["flags"] == ["missing-image"] for r in lost)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_check_opens_every_image_and_holds_boxes_against_it(tmp_path, n_jobs):
    path = _write(
        tmp_path, "s.json", [_scene(f"{n}.png", *SAID, width=64, height=64) for n in range(4)]
    )
    for n, size in enumerate([(64, 64), (64, 40), (64, 64), (64, 64)]):
        _draw(tmp_path / "photos", f"{n}.png", size)
    whole = (tmp_path / "photos/2.png").read_bytes()
    (tmp_path / "photos/2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos/3.png").unlink()
    request = ImportRequest(
        "vrd", [path], tmp_path / "out", images=[tmp_path / "photos"], check=True
    )
    imported = _import(request, n_jobs)
    dropped = {one["why"]: one["rows"] for one in imported.funnel["parts"][""]["dropped"]}
    assert dropped["unreadable-image"] == dropped["missing-image"] == 4
    assert "opened 3 images with labelled rows" in imported.notes
    assert any("1 image that cannot be read, first: image " in note for note in imported.notes)
    flags = {(r["group"], r["predicate"]): r["flags"] for r in _records(imported)}
    assert flags["0.png", "below"] == []
    assert flags["1.png", "left of"] == ["other-size"]
    assert flags["1.png", "below"] == ["bad-box", "other-size"]


def test_scene_graphs_become_samples_too(tmp_path):
    cup, hat = ({"name": n, "x": x, "y": 0, "w": 5, "h": 5} for n, x in (("cup", 1), ("hat", 20)))
    gqa = {"1": {"objects": {
        "7": {**cup, "relations": [{"name": "to the left of", "object": "8"}]},
        "8": {**hat, "relations": [{"name": "to the right of", "object": "7"}]},
    }}}  # fmt: skip
    said = [
        {"predicate": "LEFT OF", "subject": cup, "object": hat},
        {"predicate": "right of", "subject": hat, "object": cup},
    ]
    vg = [{"image_id": 1, "relationships": said}]
    for source, graphs in (("gqa", gqa), ("vg", vg)):
        path = _write(tmp_path, f"{source}.json", graphs)
        imported = _import(ImportRequest(source, [path], tmp_path / source, relations="4way"))
        samples, labels, _ = read_samples(imported.folder, None)
        assert labels == ["left_of", "right_of"] and [s.group for s in samples] == ["1.jpg"] * 2
        assert "'cup' relative to 'hat'" in samples[0].prompt


def test_without_images_the_annotations_are_imported_and_that_is_said(scenes_request):
    imported = _import(scenes_request)
    assert "no --images: `vsp plan` will ask for the images of this dataset" in imported.notes
    assert len(_records(imported)) == 80 and not list((imported.folder / "images").iterdir())


# Splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations_train.json", "train"), ("sg_test_annotations.json", "test"),
        ("dev.json", "val"), ("val2017.json", "val"), ("latest.json", ""),
        ("train_and_test.json", ""), ("scenes.json", ""),
    ],
)  # fmt: skip
def test_the_split_is_read_from_a_files_name_and_that_is_said(tmp_path, name, split):
    path = _write(tmp_path, name, [_scene("0.jpg", *SAID)])
    imported = _import(ImportRequest("vrd", [path], tmp_path / "out"))
    assert list(imported.funnel["parts"]) == [split]
    note = f"{name}: split {split}, from the file name"
    assert (note in imported.notes) == bool(split)


def _two(tmp_path: Path, train: range, test: range) -> list[str]:
    return [
        f"{split}={_write(tmp_path, f'{i}.json', [_scene(f'{n}.jpg', *SAID) for n in images])}"
        for i, (split, images) in enumerate((("train", train), ("dev", test)))
    ]


def test_the_sources_own_splits_are_kept(tmp_path):
    imported = _import(
        ImportRequest("vrd", _two(tmp_path, range(6), range(6, 9)), tmp_path / "out")
    )
    assert Counter(r["split"] for r in _records(imported)) == {"train": 24, "val": 12}
    assert imported.funnel["splits"]["val"] == {
        "left_of": 3, "right_of": 3, "above": 3, "below": 3,
    }  # fmt: skip


def test_one_split_alone_is_left_out_of_the_records(tmp_path):
    path = _write(tmp_path, "train.json", [_scene("0.jpg", *SAID)])
    imported = _import(ImportRequest("vrd", [path], tmp_path / "out"))
    assert all("split" not in record for record in _records(imported))
    assert any(
        "all rows are in split train: the records name no split" in n for n in imported.notes
    )


def test_files_of_which_one_has_no_split_are_refused(tmp_path):
    files = [
        _two(tmp_path, range(3), range(3, 4))[0],
        _write(tmp_path, "x.json", [_scene("9.jpg", *SAID)]),
    ]
    with pytest.raises(DatasetError, match="4 of 16 rows have no split; write --annotations SPLIT"):
        _import(ImportRequest("vrd", files, tmp_path / "out"))


def test_splits_that_share_images_are_refused_with_the_count(tmp_path):
    request = ImportRequest("vrd", _two(tmp_path, range(10), range(7, 12)), tmp_path / "out")
    with pytest.raises(DatasetError, match=r"splits share images, .*--resplit") as caught:
        _import(request)
    assert caught.value.details == ("3 of the 5 images of val are also in train",)
    assert not request.out.exists()


def test_images_of_two_splits_can_be_left_to_the_later_one(tmp_path):
    files = _two(tmp_path, range(10), range(7, 12))
    imported = _import(
        ImportRequest("vrd", files, tmp_path / "out", drop=["shared-image"], balance=True)
    )
    groups = {
        s: {r["group"] for r in _records(imported) if r["split"] == s} for s in ("train", "val")
    }
    assert groups["val"] == {f"{n}.jpg" for n in range(7, 12)}
    assert groups["train"] == {f"{n}.jpg" for n in range(7)}
    dropped = {one["why"]: one["rows"] for one in imported.funnel["parts"]["train"]["dropped"]}
    assert dropped["shared-image"] == 12 and dropped["balance"] == 0


def test_resplit_keeps_shares_and_puts_no_image_on_two_sides(tmp_path):
    files = _two(tmp_path, range(60), range(40, 60))
    request = ImportRequest("vrd", files, tmp_path / "out", resplit=True, keep=["duplicate"])
    imported = _import(request)
    records = _records(imported)
    sides = defaultdict(set)
    for record in records:
        sides[record["group"]].add(record["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert len(records) == 320 and len({record["id"] for record in records}) == 320
    counts = Counter((record["split"], record["label"]) for record in records)
    assert all(abs(counts["val", label] - 20) <= 2 for label in ("left_of", "above"))
    assert sum(part["rows"] for part in imported.funnel["parts"].values()) == 400


def test_splits_made_anew_share_no_image_that_could_be_dropped(tmp_path):
    files = _two(tmp_path, range(12), range(9, 14))
    request = ImportRequest("vrd", files, tmp_path / "out", resplit=True, drop=["shared-image"])
    (part,) = _import(request).funnel["parts"].values()
    assert part["images"] == 14 and part["out"]["rows"] == 4 * 14
    assert {one["rows"] for one in part["dropped"] if one["why"] == "shared-image"} == {0}


def test_rows_that_come_into_one_split_are_judged_together(tmp_path):
    scenes = [_scene(f"{n}.jpg", *SAID) for n in range(4)]
    scenes[2] = _scene("2.jpg", "cup left of hat")
    later = [_scene("2.jpg", "cup right of hat"), *(_scene(f"{n}.jpg", *SAID) for n in range(3, 6))]
    files = [_write(tmp_path, "train.json", scenes), _write(tmp_path, "val.json", later)]
    imported = _import(ImportRequest("vrd", files, tmp_path / "out", resplit=True))
    (part,) = imported.funnel["parts"].values()
    dropped = {one["why"]: one["rows"] for one in part["dropped"]}
    assert part["images"] == 6 and part["rows"] == 32  # scenes 2 and 3 are in both files
    assert (dropped["opposite-labels"], dropped["duplicate"]) == (2, 4)
    assert Counter(r["group"] for r in _records(imported)) == dict.fromkeys(
        ("0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"), 4
    )


def test_a_test_fraction_holds_out_images_with_their_share_of_every_label(tmp_path):
    said = [SAID[:1], SAID[:4], SAID[2:3], SAID[1:3]]
    path = _write(tmp_path, "s.json", [_scene(f"{n}.jpg", *said[n % 4]) for n in range(200)])
    request = ImportRequest("vrd", [path], tmp_path / "out", test_fraction=0.2)
    records = _records(_import(request))
    test = [r for r in records if r["split"] == "test"]
    assert not {r["group"] for r in test} & {r["group"] for r in records if r["split"] == "train"}
    of, held = (Counter(r["label"] for r in rows) for rows in (records, test))
    assert all(abs(held[label] - 0.2 * of[label]) <= 2 for label in of)
    other = _records(_import(replace(request, out=tmp_path / "b", seed=1)))
    assert [r["split"] for r in other] != [r["split"] for r in records]


def test_a_test_fraction_does_not_override_splits_unasked(tmp_path):
    request = ImportRequest(
        "vrd", _two(tmp_path, range(9), range(9, 12)), tmp_path / "out", test_fraction=0.5
    )
    with pytest.raises(DatasetError, match="has its own splits, train, val; remove --test-frac"):
        _import(request)
    imported = _import(replace(request, resplit=True))
    assert Counter(r["split"] for r in _records(imported)) == {"train": 24, "test": 24}


def test_shares_of_new_splits_are_those_of_the_old_ones_or_asked_for(scenes_request):
    with pytest.raises(
        DatasetError, match="--resplit needs at least two splits in the source for their sizes; use"
    ):
        _import(replace(scenes_request, resplit=True))


def test_one_image_cannot_be_split(tmp_path):
    path = _write(tmp_path, "s.json", [_scene("0.jpg", *SAID)])
    with pytest.raises(DatasetError, match="2 splits need rows of at least 2 images"):
        _import(ImportRequest("vrd", [path], tmp_path / "out", test_fraction=0.5))


@pytest.mark.parametrize("name", ["", " ", "a\ud800.jpg"])
def test_an_image_without_a_name_is_refused(tmp_path, name):
    scenes = [_scene("0.jpg", *SAID), _scene(name, *SAID)]
    with pytest.raises(DatasetError, match=r"image name .* cannot be the name of a file"):
        _import(ImportRequest("vrd", [_write(tmp_path, "s.json", scenes)], tmp_path / "out"))


def test_an_image_that_comes_twice_in_a_split_is_refused(tmp_path):
    scenes = [_scene(f"{n}.jpg", *SAID) for n in (0, 1, 0)]
    with pytest.raises(
        DatasetError, match=r"1 image with several records in one split, first '0\.jpg'"
    ):
        _import(ImportRequest("vrd", [_write(tmp_path, "s.json", scenes)], tmp_path / "out"))


# Balance and the funnel


def test_balance_leaves_as_many_of_every_class_in_each_split(tmp_path):
    said = [SAID[:1], SAID[:4], SAID[2:4]]
    scenes = [_scene(f"{n}.jpg", *said[n % 3]) for n in range(30)]
    files = [
        f"{s}={_write(tmp_path, f'{s}.json', scenes[a:b])}"
        for s, a, b in (("train", 0, 21), ("test", 21, 30))
    ]
    request = ImportRequest("vrd", files, tmp_path / "out", balance=True)
    imported = _import(request)
    counts = Counter((r["split"], r["label"]) for r in _records(imported))
    assert set(counts.values()) == {7, 3} and len(counts) == 8
    dropped = {split: part["dropped"][-1] for split, part in imported.funnel["parts"].items()}
    assert dropped["train"]["why"] == "balance"
    assert dropped["train"]["labels"] == {"left_of": 7, "above": 7, "below": 7}
    again = _records(_import(replace(request, out=tmp_path / "again")))
    other = _records(_import(replace(request, out=tmp_path / "other", seed=1)))
    assert again == _records(imported) != other


def test_balance_without_a_row_of_some_class_is_refused(tmp_path):
    files = [
        f"train={_write(tmp_path, 'a.json', [_scene('0.jpg', *SAID)])}",
        f"test={_write(tmp_path, 'b.json', [_scene('1.jpg', SAID[0])])}",
    ]
    with pytest.raises(DatasetError, match="--balance: test has no row of right_of"):
        _import(ImportRequest("vrd", files, tmp_path / "out", balance=True))


NAMES = ["cup", "hat", "cup 2", "cat", ""]
WORDS = ["left of", "RIGHT  of", "above", "below", "on", "", "behind", "in front of"]


@st.composite
def _drawn(draw) -> list[dict]:
    records = []
    for image in range(draw(st.integers(1, 6))):
        n_things = draw(st.integers(1, 4))
        things = [
            _thing(draw(st.sampled_from(NAMES)), draw(st.integers(-1, 3)), draw(st.integers(0, 3)))
            for _ in range(n_things)
        ]
        ends = st.tuples(st.integers(0, n_things - 1), st.integers(0, n_things - 1))
        relations = draw(st.lists(st.tuples(ends, st.sampled_from(WORDS)), max_size=8))
        said = [{"objects": list(of), "relationship": words} for of, words in relations]
        records.append({"filename": f"{image}.jpg", "objects": things, "relationships": said})
    return records


@settings(max_examples=60, deadline=None)
@given(
    records=_drawn(),
    keep=st.sets(st.sampled_from(DROPPED)),
    drop=st.sets(st.sampled_from(sorted(set(FLAGS) - set(DROPPED)))),
    balance=st.booleans(),
)
def test_every_row_of_the_source_is_in_the_records_or_counted_as_dropped(
    tmp_path_factory, records, keep, drop, balance
):
    folder = tmp_path_factory.mktemp("drawn")
    path = _write(folder, "s.json", records)
    request = ImportRequest(
        "vrd", [path], folder / "out", keep=tuple(keep), drop=tuple(drop), balance=balance
    )
    try:
        imported = _import(request)
    except DatasetError as error:
        assert "no row is left" in str(error)
        return
    (part,) = imported.funnel["parts"].values()
    n_rows = sum(len(record["relationships"]) for record in records)
    out = _records(imported)
    assert part["rows"] == n_rows == len(out) + sum(one["rows"] for one in part["dropped"])
    assert part["out"] == {"rows": len(out), "labels": Counter(r["label"] for r in out)}
    for one in part["dropped"]:
        assert one["rows"] == sum(one["labels"].values()) or one["why"] in (
            "other-relation", "incomplete",
        )  # fmt: skip
    others = next(one["rows"] for one in part["dropped"] if one["why"] == "other-relation")
    assert sum(imported.funnel["other_relations"].values()) == others
    flags = Counter(flag for record in out for flag in record["flags"])
    assert {flag: one["rows"] for flag, one in part["flags"].items()} == flags
    assert not (set(DROPPED) - keep | drop) & flags.keys()
    assert len({record["id"] for record in out}) == len(out)


def test_no_row_left_is_refused_with_what_took_them(tmp_path):
    path = _write(tmp_path, "s.json", [_scene("0.jpg", "cup on hat", "cup above cup")])
    with pytest.raises(DatasetError, match="no row is left") as caught:
        _import(ImportRequest("vrd", [path], tmp_path / "out"))
    assert str(caught.value) == (
        "no row is left; use --relations with the relations that you need, use --keep FLAG to keep "
        "rows with a flag"
    )
    assert caught.value.details[:3] == (
        "1 other-relation", "1 self-relation", "other relations: on 1",
    )  # fmt: skip


def test_folders_without_the_images_are_the_first_thing_to_mend(tmp_path):
    path = _write(tmp_path, "s.json", [_scene("0.jpg", *SAID[:4])])
    (tmp_path / "photos").mkdir()
    _draw(tmp_path / "photos" / "train", "0.jpg")
    with pytest.raises(
        DatasetError, match="left; give the folders with these images to --images"
    ) as caught:
        _import(ImportRequest("vrd", [path], tmp_path / "out", images=[tmp_path / "photos"]))
    assert caught.value.details[0] == "4 missing-image" and len(caught.value.details) == 4


def test_rows_are_counted_in_good_english(tmp_path):
    path = _write(tmp_path, "s.json", [_scene("0.jpg", *SAID[:1])])
    assert _printed(_import(ImportRequest("vrd", [path], tmp_path / "out")).funnel)[0] == (
        "all: 1 row in 1 image"
    )


def test_splits_that_share_groups_of_images_are_said_to_share_these(tmp_path):
    rows = ["a.jpg,cup,above,hat,train,kitchen", "b.jpg,cup,below,hat,test,kitchen"]
    table = tmp_path / "own.csv"
    table.write_text("\n".join(["image,subject,relation,object,split,group", *rows]))
    with pytest.raises(DatasetError, match=r"share groups, .* new splits by group") as caught:
        _import(ImportRequest("csv", [str(table)], tmp_path / "out"))
    assert caught.value.details == ("1 of the 1 groups of test are also in train",)


def _printed(funnel: dict) -> list[str]:
    console = Console(width=80, record=True, quiet=False, file=sys.stderr)
    with console.capture() as capture:
        console.print(funnel_page(funnel))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_funnel_is_a_table_of_80_columns(vrd):
    lines = _printed(vrd.funnel)
    assert lines[0] == "train: 30,355 rows in 4,000 images"
    table = {line[:18].strip(): line.split()[-7:] for line in lines[1:16]}
    assert table["rows in"][-1] == "30,355" and table["− other relation"][-1] == "−22,655"
    assert table["usable rows"] == ["381", "364", "2,417", "762", "1,539", "2,237", "7,700"]
    assert table["rows out"][-1] == "3,524"
    assert all(len(line) <= 80 for line in lines)
    assert any(line.startswith("other relations: on 6,498, wear 5,401") for line in lines)


def test_the_page_has_the_labels_there_are_and_splits_in_their_order(tmp_path):
    rows = [f"{i}.jpg,cup,{'above' if i % 2 else 'below'},hat" for i in range(20)]
    (tmp_path / "own.csv").write_text("\n".join(["image,subject,relation,object", *rows]))
    request = ImportRequest("csv", [str(tmp_path / "own.csv")], tmp_path / "out", test_fraction=0.3)
    funnel = _import(request).funnel
    assert funnel["labels"] == ["left_of", "right_of", "above", "below", "in_front_of", "behind"]
    heads = [line.split() for line in _printed(funnel)]
    assert ["above", "below", "all"] in heads and ["rows", "out", "train", "test"] in heads


# Requests


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "coco"}, "source 'coco' is not known; known: .*gqa.*vg.*vrd"),
        (
            {"annotations": ["no.json"]},
            r"no\.json: no such file; give existing files to --annotations",
        ),
        ({"annotations": ["train=no.json"]}, r"^no\.json: no such file"),
        ({"annotations": ["/proc/self/mem"]}, "/proc/self/mem: cannot be read"),
        ({"annotations": ["side=no.json"]}, r"side=no\.json: no such file"),
        ({"images": [Path("no")]}, "no: no such folder; give existing folders to --images"),
        ({"relations": "5way"}, "relations '5way' is not known; did you mean 6way or 4way"),
        ({"drop": ["ugly"]}, "flag 'ugly' is not known; known: missing-image, "),
        ({"keep": ["bad-box"], "drop": ["bad-box"]}, "'bad-box' is both in --drop and in --keep"),
        ({"options": {"nouns": "x"}}, "option 'nouns' is not known to vrd; known: objects, pred"),
        ({"check": True}, "--check opens images; name their folders with --images"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(scenes_request, changes, message):
    with pytest.raises(ConfigError, match=message):
        _import(replace(scenes_request, **changes))


def test_the_flat_table_of_the_research_project_is_written_too(scenes_request, tmp_path):
    imported = _import(replace(scenes_request, table=tmp_path / "flat.csv"))
    with (tmp_path / "flat.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["img_path", "subj", "obj", "relationship"] and len(rows) == 81
    assert rows[1] == [str(imported.folder / "images/0.jpg"), "cup", "hat", "left of"]
    (tmp_path / "flat.csv").unlink()
    assert not _import(replace(scenes_request, table=tmp_path / "flat.csv")).fresh
    with (tmp_path / "flat.csv").open(newline="") as file:
        assert list(csv.reader(file)) == rows


def test_the_flat_table_counts_what_does_not_fit_and_follows_its_dataset(tmp_path):
    own, flat = tmp_path / "own.csv", tmp_path / "flat.csv"
    rows = ["a.jpg,cup,hat,left of,,", "a.jpg,cup,hat,,Is it full?,yes", "b.jpg,,,,Is it red?,no"]
    own.write_text("\n".join(["image,subject,object,relation,prompt,label", *rows]))
    request = ImportRequest("csv", [str(own)], tmp_path / "out", table=flat)
    assert f"wrote {flat}; 2 rows with a prompt left out" in _import(request).notes
    written = flat.read_bytes()
    assert written.count(b"\n") == 2
    flat.write_bytes(b"of another dataset")
    assert not _import(request).fresh and flat.read_bytes() == written
    assert len(_records(_import(ImportRequest("csv", [str(flat)], tmp_path / "back")))) == 1


def test_a_question_of_ones_own_is_what_is_asked_also_where_things_are_named(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("image,subject,object,prompt,label\na.jpg,cup,hat,Is it on the hat?,yes\n")
    imported = _import(ImportRequest("csv", [str(own)], tmp_path / "out"))
    samples, _, style = read_samples(imported.folder, None)
    assert (style, samples[0].prompt) == ("dataset", "Is it on the hat?")
    assert "'cup'" in read_samples(imported.folder, "instruction")[0][0].prompt


def test_instances_lose_their_number_in_the_prompt(tmp_path):
    scene = _scene("0.jpg", "cup left of hat")
    scene["objects"][0]["names"] = ["cup 2"]
    imported = _import(
        ImportRequest("vrd", [_write(tmp_path, "s.json", [scene])], tmp_path / "out")
    )
    (record,) = _records(imported)
    assert record["subject"] == "cup" and record["flags"] == ["instance-suffix"]


def test_the_command_line_imports_and_says_what_it_did(vsp, work):
    (work / "configs").symlink_to(ROOT / "configs")
    _write(work, "scenes_train.json", [_scene(f"{n}.jpg", *SAID) for n in range(8)])
    command = (
        "import", "vrd", "--annotations", "scenes_train.json", "--relations", "4way",
        "--balance", "--out", "data/own", "--table", "data/own.csv",
    )  # fmt: skip
    answer = vsp(*command)
    assert answer.returncode == 0, answer.stderr
    listed = "data/own/dropped.csv lists 8 dropped rows: file, place, id and reason\n"
    assert answer.stdout.endswith("wrote 32 rows in data/own\n" + listed)
    assert (
        "train: 40 rows in 8 images" in answer.stdout and "other relations: on 8" in answer.stdout
    )
    for note in (
        "split train, from the file name",
        "no --images",
        "wrote data/own.csv",
        "40 rows in",
    ):
        assert note in answer.stderr
    again = vsp(*command)
    assert again.stdout.endswith("already there: 32 rows in data/own\n" + listed)
    as_json = vsp(*command, "--json")
    assert json.loads(as_json.stdout)["parts"]["train"]["rows"] == 40
    assert as_json.stderr.endswith(f"note: {listed}")
    (work / "data/own/funnel.json").write_text("{")
    lost = vsp(*command)
    assert (
        lost.returncode == 1 and "funnel.json: missing or damaged; remove data/own" in lost.stderr
    )
    refused = vsp(*command, "--drop", "ugly")
    assert refused.returncode == 1
    assert refused.stderr.startswith("vsp: flag 'ugly' is not known; known: missing-image")


_MEMORY = """
import json, sys
from pathlib import Path
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.utils.peak_memory import PeakMemory
def run(n_images):
    names = [{"name": f"thing {chr(97 + i)}", "x": 9 * i, "y": 0, "w": 5, "h": 5} for i in range(12)]
    said = [
        {"predicate": "left of", "subject": a, "object": b}
        for i, a in enumerate(names) for b in names[i + 1 :]
    ]
    with open(f"{n_images}.json", "w") as file:
        file.write("[")
        for i in range(n_images):
            file.write("," * bool(i) + json.dumps({"image_id": i, "relationships": said}))
        file.write("]")
    request = ImportRequest("vg", [f"{n_images}.json"], Path(f"out-{n_images}"), test_fraction=0.5)
    return import_dataset(request, Path(sys.argv[1])).funnel["parts"][""]["out"]["rows"]
run(150)
memory = PeakMemory()
print(run(750), memory.bytes() / 1e6)
"""


def test_fifty_thousand_rows_take_little_memory(work):
    answer = subprocess.run(
        [sys.executable, "-c", _MEMORY, ROOT], cwd=work, capture_output=True, text=True, check=True
    )
    n_rows, megabytes = answer.stdout.split()
    # The records need hundreds of bytes per row, on disk only.
    assert int(n_rows) == 49_500 and float(megabytes) < 12
    assert (work / "out-750/metadata.json").stat().st_size > 12e6


def _copied_splits(tmp_path: Path) -> tuple[list[str], Path]:
    """Annotations of train and test, whose images are the same files under other names."""
    files = []
    for split in ("train", "test"):
        rows = [
            {"image": f"{split}{i}.png", "subject": "cup", "object": "hat", "relation": relation}
            for i, relation in enumerate(["left of", "right of"] * 6)
        ]
        files.append(f"{split}={_write(tmp_path, f'{split}.json', rows)}")
        for i in range(12):
            _draw(tmp_path / "photos", f"train{i}.png")
            (tmp_path / f"photos/{split}{i}.png").write_bytes(
                (tmp_path / f"photos/train{i}.png").read_bytes()
            )
    return files, tmp_path / "photos"


def test_copies_in_several_splits_are_said_and_count_as_one_image_for_new_splits(tmp_path):
    files, photos = _copied_splits(tmp_path)
    request = ImportRequest("csv", files, tmp_path / "out", images=[photos], check=True)
    imported = _import(request)
    (found,) = [note for note in imported.notes if "copies of other images" in note]
    assert found.startswith("12 images are copies of other images (equal files 12; for example ")
    (straddling,) = [note for note in imported.notes if "several splits" in note]
    assert straddling.startswith("12 pictures are in several splits") and "--resplit" in straddling
    again = _import(replace(request, out=tmp_path / "again", resplit=True))
    splits = {record["image_filename"]: record["split"] for record in _records(again)}
    assert set(splits.values()) == {"train", "test"} and len(splits) == 24
    for i in range(12):
        assert splits[f"photos/train{i}.png"] == splits[f"photos/test{i}.png"]
    later = _import(replace(request, out=tmp_path / "later", drop=["shared-image"]))
    kept = {record["image_filename"] for record in _records(later)}
    assert kept == {f"photos/test{i}.png" for i in range(12)}


def test_options_of_a_source_reach_the_records_and_unusable_rows_are_counted(tmp_path, monkeypatch):
    thing = Thing("cup")
    rows = [
        Relation(None, "on/above", None, "a", "Where?", file="f", where="line 1",
                 options=("on/above", "below")),
        Relation(thing, "", None, "b", "Who?", "below", options=("below", "on/above")),
        Relation(None, "", None, "c", "Which?", "first", unusable="several-images"),
        Relation(None, "x", None, "d", "What?", options=("y", "z"), unusable="no-such-option"),
    ]  # fmt: skip
    pictures = [Picture("a.jpg", (thing,), tuple(rows))]
    importer = Importer(lambda files, options: iter(pictures), relations="")
    monkeypatch.setattr("vsp.datasets.IMPORTERS.load", lambda name: importer)
    (tmp_path / "own.txt").write_text("rows")
    imported = _import(ImportRequest("own", [str(tmp_path / "own.txt")], tmp_path / "out"))
    assert [(r["id"], r["label"], r["options"]) for r in _records(imported)] == [
        ("a", "on/above", ["on/above", "below"]), ("b", "below", ["below", "on/above"]),
    ]  # fmt: skip
    (part,) = imported.funnel["parts"].values()
    counted = {one["why"]: one["rows"] for one in part["dropped"] if one["rows"]}
    assert counted == {"several-images": 1, "no-such-option": 1}
    with (tmp_path / "out" / "dropped.csv").open(newline="") as file:
        assert [(r["id"], r["explanation"]) for r in csv.DictReader(file)] == [
            ("c", "the question is about several images; a row has one"),
            ("d", "the answer is none of the options"),
        ]  # fmt: skip
    page = "\n".join(_printed(imported.funnel))
    assert "− several images" in page and "− no such option" in page
    assert "incomplete" not in page and "unclear options" not in page
    samples, labels, style = read_samples(tmp_path / "out", None)
    assert (labels, style) == (["below", "on/above"], "dataset")
    assert samples[1].options == ("below", "on/above")
    mapped = _import(
        ImportRequest("own", [str(tmp_path / "own.txt")], tmp_path / "map", relations="6way")
    )
    assert [(r["id"], r["label"]) for r in _records(mapped)] == [("b", "below")]
