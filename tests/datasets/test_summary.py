"""What a person sees of a dataset before it is used: counts that are right, and a sheet of rows."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vsp.cli.main import main
from vsp.datasets.contact_sheet import draw
from vsp.datasets.metadata import read
from vsp.datasets.summary import as_json, page, show
from vsp.errors import ConfigError, DatasetError

SIDE, LEFT, TOP = 280, 14, 33  # of the first picture on a sheet
RED, BLUE = (0xD1, 0x49, 0x5B), (0x00, 0x62, 0x8B)
CUP = {"image_filename": "a.png", "subject": "cup", "reference": "hat", "label": "left_of"}


def _lines(shown):
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(page(shown))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


def _words(shown):
    return " ".join(" ".join(_lines(shown)).split())


def _sheet(folder, **options):
    """Its pixels, and what was said."""
    shown = show(folder, options.pop("n", 24), options.pop("seed", 0))
    problems = draw(folder, shown.rows, folder / "sheet.png")
    return np.asarray(Image.open(io.BytesIO((folder / "sheet.png").read_bytes()))), problems


def _first_cell(sheet):
    return sheet[TOP : TOP + SIDE, LEFT : LEFT + SIDE]


def _rows(write_dataset, **fields):
    return write_dataset([{**CUP, **fields}])


def test_counts_are_those_of_the_records(spatial):
    found = as_json(show(spatial, 0, 0))
    records = json.loads((spatial / "metadata.json").read_text())
    counts = Counter((r["relation"], r["split"]) for r in records)
    assert found["labels"] == {
        label: {split: counts[label, split] for split in ("train", "val")}
        for label in ("left_of", "right_of", "above", "below")
    }
    assert (found["rows"], found["images"], found["groups"]) == (96, 96, 96)
    assert found["rows_per_image"] == {"mean": 1.0, "median": 1, "max": 1}
    assert found["missing_images"] == [] and found["rows_sharing_an_image"] == 0
    for style, prompt in found["prompts"].items():
        assert read(spatial, style)[0][0].prompt == prompt
    assert len(found["prompts"]) == 5


def test_rows_that_share_images_and_groups_and_have_flags_are_counted(write_dataset):
    names = "aaabbc"
    folder = write_dataset(
        [{**CUP, "image_filename": f"{name}.png", "group": "g" if name > "a" else "a",
          "flags": ["odd", "far"][: i % 3]} for i, name in enumerate(names)]
    )  # fmt: skip
    (folder / "images/b.png").unlink()
    shown = show(folder, 0, 0)
    found = as_json(shown)
    assert found["rows_per_image"] == {"mean": 2.0, "median": 2, "max": 3}
    assert found["rows_sharing_an_image"] == 5 and found["groups"] == 2
    assert found["flags"] == {"odd": 4, "far": 2} and found["missing_images"] == ["b.png"]
    text = _words(shown)
    assert "6 in 2 groups" in text and "83.3% of rows share theirs" in text
    assert "1 of 3 images, with 2 of 6 rows: b.png" in text
    assert "odd 4 66.7%" in text and "far 2 33.3%" in text
    assert "left_of 6 6 100.0%" in text and "funnel" not in text


def test_the_page_fits_80_columns_whatever_labels_and_names_are_like(write_dataset):
    rows = [
        {**CUP, "id": str(i), "label": f"label [b] {'long ' * (i % 40 % 7)}{i % 40}",
         "split": ["train", "val", "test"][i % 3], "image_filename": f"{'n' * 60}{i}.png",
         "flags": ["a flag as long as a sentence " * 3]}
        for i in range(120)
    ]  # fmt: skip
    folder = write_dataset(rows)
    (folder / "funnel.json").write_text("{}")
    for path in (folder / "images").iterdir():
        path.unlink()
    shown = show(folder, 0, 0)
    lines, text = _lines(shown), _words(shown)
    assert "20 others" in text and "[b]" in text and "funnel.json says" in text
    (all_rows,) = [line.split() for line in lines if line.startswith("all ")]
    assert all_rows == ["all", "40", "40", "40", "120", "100.0%"]
    assert len(as_json(shown)["labels"]) == 40


def test_a_style_that_not_every_row_works_in_says_so(write_dataset):
    text = _words(show(write_dataset([{**CUP, "prompt": "Where?"}, CUP, CUP]), 0, 0))
    assert "dataset (1 of 3 rows) Where?" in text and "(3 of 3 rows)" not in text
    only = show(
        write_dataset([{"image_filename": "a.png", "label": "x", "prompt": "Q"}], "b"), 0, 0
    )
    assert only.prompts == {"dataset": "Q"}


def test_a_variant_says_of_what_it_is_one(write_dataset, work, capsys):
    write_dataset([CUP])
    assert (
        main(["generate", "--of", "own", "--variant", "mirrored", "--out", "b", "--n-jobs", "1"])
        == 0
    )
    assert (
        main(["generate", "--of", "b", "--variant", "swapped", "--out", "c", "--n-jobs", "1"]) == 0
    )
    assert "mirrored, then swapped; of " in _words(show(work / "c", 0, 0))


def test_rows_on_the_sheet_are_of_all_labels_alike_and_the_seeds_own(spatial):
    def ids(seed):
        return [row.id for row in show(spatial, 10, seed).rows]

    counts = Counter(row.label for row in show(spatial, 10, 0).rows)
    assert sorted(counts.values()) == [2, 2, 3, 3]
    assert ids(0) == ids(0) != ids(1) and len(set(ids(0))) == 10


def test_a_rare_label_is_on_the_sheet_and_others_take_what_it_leaves(write_dataset):
    rows = [{**CUP, "id": str(i), "label": "rare" if i == 50 else "left_of"} for i in range(100)]
    shown = show(write_dataset(rows), 8, 0)
    assert Counter(row.label for row in shown.rows) == {"left_of": 7, "rare": 1}
    assert len(show(shown.dataset, 1000, 0).rows) == 100


def test_any_row_may_come_to_the_sheet(write_dataset):
    folder = write_dataset([{**CUP, "id": str(i)} for i in range(8)])
    first = Counter(show(folder, 1, seed).rows[0].id for seed in range(400))
    assert len(first) == 8 and min(first.values()) > 25


def test_the_same_dataset_gives_the_same_sheet(spatial, tmp_path):
    sheets = []
    for name in ("a.png", "b.PNG"):
        assert draw(spatial, show(spatial, 7, 3).rows, tmp_path / name) == []
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1]
    assert Image.open(io.BytesIO(sheets[0])).size == (6 * 294 + 14, 2 * 351 + 14 + 19)


def test_boxes_are_drawn_where_they_are_in_two_colours(write_dataset):
    boxes = {"subject_box": [2, 3, 5, 9], "reference_box": [6, 1, 11, 4]}
    cell = _first_cell(_sheet(_rows(write_dataset, **boxes))[0])
    for (left, top, right, bottom), color in zip(boxes.values(), (RED, BLUE), strict=True):
        scale = SIDE / 12
        rows, columns = np.nonzero((cell == color).all(axis=2))
        found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        assert np.abs(found - np.array([left, top, right, bottom]) * scale).max() < 2


@pytest.mark.parametrize(
    ("boxes", "color"),
    [
        ({"subject_boxes": [[1, 1, 3, 3], [6, 6, 9, 10]]}, RED),  # what is counted
        ({"reference_box": [1, 1, 3, 3], "second_box": [6, 6, 9, 10]}, BLUE),  # between both
    ],
)
def test_several_boxes_of_a_row_are_all_drawn(write_dataset, boxes, color):
    cell = _first_cell(_sheet(_rows(write_dataset, **boxes))[0])
    for x, y in ((2, 1), (7, 6)):  # on the upper edge of each
        assert tuple(cell[round(y * SIDE / 12), round(x * SIDE / 12)]) == color


def test_a_mask_is_boxed(write_dataset):
    folder = _rows(write_dataset, subject_mask="m.png", reference_mask="none.png")
    (folder / "masks").mkdir()
    mask = np.zeros((12, 12), np.uint8)
    mask[3:9, 2:5] = 255
    Image.fromarray(mask).save(folder / "masks/m.png")
    Image.fromarray(mask * 0).save(folder / "masks/none.png")
    sheet, problems = _sheet(folder)
    rows, columns = np.nonzero((_first_cell(sheet) == RED).all(axis=2))
    assert abs(columns.min() - 2 * SIDE / 12) < 2 and abs(rows.max() - 9 * SIDE / 12) < 2
    assert problems == ["row '0': reference_mask is black everywhere"]


def test_pictures_are_upright_and_whole(write_dataset):
    folder = _rows(write_dataset, image_filename="a.jpg")
    exif, pixels = Image.Exif(), np.zeros((20, 40), np.uint8)
    exif[0x0112], pixels[:, :20] = 6, 255  # turned upright, its left half is on top
    Image.fromarray(pixels).save(folder / "images/a.jpg", exif=exif)
    cell = _first_cell(_sheet(folder)[0]).astype(int)
    assert cell[20:130, 80:200].min() > 240 and cell[150:260, 80:200].max() < 15
    assert (cell[20:260, 20:60] == 0xF0).all()  # free beside it


def test_an_image_that_is_not_there_has_a_marked_place_and_is_said(write_dataset):
    folder = write_dataset([CUP, {**CUP, "image_filename": "b.png"}])
    (folder / "images/a.png").unlink()
    (folder / "images/b.png").write_bytes(b"GIF89a")
    sheet, problems = _sheet(folder)
    assert len(problems) == 2 and all("cannot be read" in problem for problem in problems)
    assert {problem[:7] for problem in problems} == {"row '0'", "row '1'"}
    cell = _first_cell(sheet)
    colors = {tuple(color) for color in cell.reshape(-1, 3)}
    assert (cell[100, 100] == 0xCC).all() and (0x76, 0x76, 0x76) in colors


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([-1, 0, 5, 5], "subject_box [-1, 0, 5, 5] is not inside the picture, 12 × 12"),
        ([0, 0, 12.5, 5], "subject_box [0, 0, 12.5, 5] is not inside the picture, 12 × 12"),
        ([0, -0.5, 5, 5], "subject_box [0, -0.5, 5, 5] is not inside the picture, 12 × 12"),
        ([0, 0, 5, 12.5], "subject_box [0, 0, 5, 12.5] is not inside the picture, 12 × 12"),
        ([5, 0, 5, 5], "subject_box [5, 0, 5, 5] is empty or inverted"),
        ([5, 9, 8, 2], "subject_box [5, 9, 8, 2] is empty or inverted"),
        ([5, 9], "has subject_box [5, 9]; give it [left, top, right, bottom] or a mask"),
        ("x", "has subject_box 'x'; give it [left, top, right, bottom] or a mask"),
        ([0, 0, 12, 12], None),
    ],
)
def test_a_box_that_cannot_be_is_said_and_the_row_still_drawn(write_dataset, box, problem):
    sheet, problems = _sheet(_rows(write_dataset, subject_box=box))
    assert problems == ([f"row '0': {problem}"] if problem else [])
    below = sheet[TOP + SIDE + 2 * 19 :]
    assert (below == RED).all(axis=2).any() == bool(problem)


@pytest.mark.parametrize("name", ["W" * 2_000_000, "x", "чашка é – “q”", "two\nlines"])
def test_captions_stay_in_their_place(write_dataset, name):
    folder = write_dataset(
        [{**CUP, "subject": name, "reference": name, "id": name * n, "subject_box": 3}
         for n in (1, 2)]
    )  # fmt: skip
    sheet, _ = _sheet(folder)
    between = sheet[TOP:, LEFT + SIDE + 2 : LEFT + SIDE + 12]
    assert (between == 255).all()


def test_a_row_without_names_is_captioned_with_its_prompt(write_dataset):
    own = {"image_filename": "a.png", "label": "yes"}
    sheets = [
        _sheet(write_dataset([{**own, "prompt": prompt}], prompt))[0] for prompt in ("Why", "How")
    ]
    assert not np.array_equal(*sheets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "record 1 has label None; give it a text"),
        ({"split": "dev"}, "record 1 split 'dev' is none of train, val, test"),
        ({"image_filename": ""}, "record 1 has image_filename ''; give it a text"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(write_dataset, change, message):
    folder = write_dataset([CUP])
    (folder / "metadata.json").write_text(json.dumps([CUP, {**CUP, **change}]))
    with pytest.raises(DatasetError, match=message):
        show(folder, 3, 0)


def test_a_sheet_is_a_png(write_dataset, tmp_path):
    folder = write_dataset([CUP])
    with pytest.raises(ConfigError, match=r"sheet '.*a\.jpg': ends in '\.jpg'; use \.png"):
        draw(folder, show(folder, 3, 0).rows, tmp_path / "a.jpg")


def test_the_command_says_where_the_sheet_is(write_dataset, work, capsys):
    folder = write_dataset([{**CUP, "subject_box": [0, 0, 99, 5]}])
    assert main(["dataset", "show", "own"]) == 0
    out, log = capsys.readouterr()
    assert out.endswith("wrote own/sheet.png: 1 row, the subject in red, the reference in blue\n")
    assert log == ("note: row '0': subject_box [0, 0, 99, 5] is not inside the picture, 12 × 12\n")
    (folder / "sheet.png").rename(folder / "first.png")
    assert main(["dataset", "show", "own", "--json", "--sheet", "s.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 1 and found["sheet"] == "s.png" and len(found["problems"]) == 1
    assert (work / "s.png").read_bytes() == (folder / "first.png").read_bytes()
    assert main(["dataset", "show", "own", "--n", "0"]) == 0
    assert "wrote" not in capsys.readouterr().out and not (folder / "sheet.png").exists()
    assert main(["dataset", "show", "none"]) == 1
    assert "none/metadata.json: no such file" in capsys.readouterr().err


def test_what_is_wrong_with_many_pictures_is_three_lines_and_a_count(write_dataset, work, capsys):
    write_dataset([{**CUP, "id": str(n), "subject_box": [0, 0, 99, 5]} for n in range(9)])
    assert main(["dataset", "show", "own"]) == 0
    log = capsys.readouterr().err.splitlines()
    assert len(log) == 4 and log[-1] == "note: 6 more problems; the sheet shows all"
