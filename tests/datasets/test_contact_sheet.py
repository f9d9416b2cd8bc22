"""A contact sheet shows pictures, boxes and captions, and reports what is wrong with them."""

import io

import numpy as np
import pytest
from PIL import Image

from vsp.datasets.contact_sheet import Sheet, draw_sheet
from vsp.datasets.summary import summarize
from vsp.errors import ConfigError

SIDE, LEFT, TOP = 280, 14, 33  # side and corner of the first picture, pixels
RED, BLUE = (0xD1, 0x49, 0x5B), (0x00, 0x62, 0x8B)
CUP = {"image_filename": "a.png", "subject": "cup", "reference": "hat", "label": "left_of"}


def _sheet(folder, **options):
    """The pixels of the sheet, and its problems."""
    summary = summarize(folder, options.pop("n", 24), options.pop("seed", 0))
    problems = draw_sheet(folder, summary.sheet_rows, folder / "sheet.png").problems
    return np.asarray(Image.open(io.BytesIO((folder / "sheet.png").read_bytes()))), problems


def _first_cell(sheet):
    return sheet[TOP : TOP + SIDE, LEFT : LEFT + SIDE]


def _rows(write_dataset, **fields):
    return write_dataset([{**CUP, **fields}])


def test_the_same_dataset_gives_the_same_sheet(spatial, tmp_path):
    sheets = []
    for name in ("a.png", "b.PNG"):
        sheet = draw_sheet(spatial, summarize(spatial, 7, 3).sheet_rows, tmp_path / name)
        assert sheet == Sheet([], "subject red, reference blue")
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
        outside = (found - np.array([left, top, right, bottom]) * scale) * (-1, -1, 1, 1)
        assert outside.min() > 3 and outside.max() < 7


@pytest.mark.parametrize(
    ("boxes", "color"),
    [
        ({"subject_boxes": [[1, 1, 3, 3], [6, 6, 9, 10]]}, RED),  # the objects to be counted
        (
            {"reference_box": [1, 1, 3, 3], "second_box": [6, 6, 9, 10]},
            BLUE,
        ),  # the two references of `between`
    ],
)
def test_several_boxes_of_a_row_are_all_drawn(write_dataset, boxes, color):
    cell = _first_cell(_sheet(_rows(write_dataset, **boxes))[0])
    for x, y in ((2, 1), (7, 6)):  # above the upper edge of each box
        assert tuple(cell[round(y * SIDE / 12) - 4, round(x * SIDE / 12)]) == color


def test_a_mask_is_boxed(write_dataset):
    folder = _rows(write_dataset, subject_mask="m.png", reference_mask="none.png")
    (folder / "masks").mkdir()
    mask = np.zeros((12, 12), np.uint8)
    mask[3:9, 2:5] = 255
    Image.fromarray(mask).save(folder / "masks/m.png")
    Image.fromarray(mask * 0).save(folder / "masks/none.png")
    sheet, problems = _sheet(folder)
    rows, columns = np.nonzero((_first_cell(sheet) == RED).all(axis=2))
    assert 3 < 2 * SIDE / 12 - columns.min() < 7 and 3 < rows.max() - 9 * SIDE / 12 < 7
    assert problems == ["row '0': reference_mask is black everywhere"]


def test_pictures_are_upright_and_whole(write_dataset):
    folder = _rows(write_dataset, image_filename="a.jpg")
    exif, pixels = Image.Exif(), np.zeros((20, 40), np.uint8)
    exif[0x0112], pixels[:, :20] = 6, 255  # the upright picture has the left half on top
    Image.fromarray(pixels).save(folder / "images/a.jpg", exif=exif)
    cell = _first_cell(_sheet(folder)[0]).astype(int)
    assert cell[20:130, 80:200].min() > 240 and cell[150:260, 80:200].max() < 15
    assert (cell[20:260, 20:60] == 0xF0).all()  # the empty part of the cell


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


def test_a_sheet_is_a_png(write_dataset, tmp_path):
    folder = write_dataset([CUP])
    with pytest.raises(ConfigError, match=r"sheet '.*a\.jpg': ends in '\.jpg'; use \.png"):
        draw_sheet(folder, summarize(folder, 3, 0).sheet_rows, tmp_path / "a.jpg")


def test_names_are_drawn_with_their_control_characters_shown(write_dataset):
    """The sheet of a hostile name is that of the name's escaped form."""
    sheets = []
    for i, name in enumerate(("a\x1b[7m\u202e\nb", r"a\x1b[7m\u202e\nb")):
        folder = write_dataset([{**CUP, "id": name, "subject": name, "label": name}], f"{i}/own")
        sheets.append(_sheet(folder)[0])
    assert np.array_equal(*sheets)


@pytest.mark.parametrize(
    "place", ["folder.png", "file/sheet.png", "/proc/sheet.png", "n" * 300 + ".png"]
)
def test_a_sheet_that_cannot_be_written_is_one_line_after_the_page(vsp, work, spatial, place):
    (work / "folder.png").mkdir()
    (work / "file").write_text("")
    before = sorted(work.rglob("*"))
    answer = vsp("dataset", "show", spatial, "--n", 2, "--sheet", place)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert "rows " in answer.stdout and "wrote" not in answer.stdout
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("vsp: ") and ("another" in last or "shorter" in last)
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("box", [[3, 4, 9, 8], [0, 0, 4, 12], [2, 2, 12, 5]])
def test_a_frame_leaves_what_is_in_the_box_as_it_is(write_dataset, box):
    cells = []
    for name in ("plain", "framed"):
        fields = {"subject_box": box} if name == "framed" else {}
        folder = write_dataset([{**CUP, **fields}], name)
        pixels = np.full((12, 12, 3), 120, np.uint8)
        Image.fromarray(pixels).save(folder / "images/a.png")
        cells.append(_first_cell(_sheet(folder)[0]).astype(int))
    left, top, right, bottom = (round(edge * SIDE / 12) for edge in box)
    changed = np.abs(cells[0] - cells[1]).max(axis=2) > 0
    edge = 6  # a frame at the edge of the picture lies inside it
    inside = changed[
        top + edge * (top == 0) : bottom - edge * (bottom == SIDE),
        left + edge * (left == 0) : right - edge * (right == SIDE),
    ]
    assert changed.any() and not inside.any()


@pytest.mark.parametrize("box", [[0, 0, 12, 12], [-9, -9, -2, -2], [20, 20, 30, 30]])
def test_a_frame_is_seen_wherever_the_box_is(write_dataset, box):
    cell = _first_cell(_sheet(_rows(write_dataset, subject_box=box))[0])
    assert (cell == RED).all(axis=2).sum() >= 4


@pytest.mark.parametrize(
    ("fields", "legend"),
    [
        ({}, ""),
        ({"subject_box": [1, 1, 3, 3]}, "subject red"),
        ({"reference_box": [1, 1, 3, 3]}, "reference blue"),
        ({"subject_box": [1, 1, 3, 3], "reference_box": [5, 5, 8, 8]}, "subject red, reference blue"),
        ({"subject_box": "x"}, ""),
    ],
)  # fmt: skip
def test_the_legend_names_the_colours_of_the_boxes_that_are_drawn(
    vsp, write_dataset, fields, legend
):
    folder = _rows(write_dataset, **fields)
    rows = summarize(folder, 3, 0).sheet_rows
    assert draw_sheet(folder, rows, folder / "a.png").legend == legend
    out = vsp("dataset", "show", folder).stdout
    assert out.endswith(f"1 row{', ' if legend else ''}{legend}\n")
