"""The page and the output of `vsp dataset show`."""

import io
import json

from rich.console import Console

from vsp.cli.main import main
from vsp.datasets.summary import summarize
from vsp.reporting.dataset_page import dataset_page

CUP = {"image_filename": "a.png", "subject": "cup", "reference": "hat", "label": "left_of"}


def _lines(summary, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(dataset_page(summary))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def _words(summary):
    return " ".join(" ".join(_lines(summary)).split())


def test_rows_that_share_images_and_groups_and_have_flags_are_counted(write_dataset):
    names = "aaabbc"
    folder = write_dataset(
        [{**CUP, "image_filename": f"{name}.png", "group": "g" if name > "a" else "a",
          "flags": ["odd", "far"][: i % 3]} for i, name in enumerate(names)]
    )  # fmt: skip
    (folder / "images/b.png").unlink()
    summary = summarize(folder, 0, 0)
    found = summary.as_json()
    assert found["rows_per_image"] == {"mean": 2.0, "median": 2, "max": 3}
    assert found["rows_sharing_an_image"] == 5 and found["groups"] == 2
    assert found["flags"] == {"odd": 4, "far": 2} and found["missing_images"] == ["b.png"]
    text = _words(summary)
    assert "6 in 2 groups" in text and "83.3% of rows share their image with another row" in text
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
    summary = summarize(folder, 0, 0)
    text = _words(summary)
    assert (
        "20 others" in text
        and "[b]" in text
        and "funnel.json counts the rows that the import dropped, and dropped.csv lists them"
        in text
    )
    for width in (60, 80, 200):
        (total,) = [line.split() for line in _lines(summary, width) if line.startswith("all ")]
        assert total == ["all", "40", "40", "40", "120", "100.0%"]
    assert len(summary.as_json()["labels"]) == 40


def test_a_style_that_not_every_row_works_in_says_so(write_dataset):
    text = _words(summarize(write_dataset([{**CUP, "prompt": "Where?"}, CUP, CUP]), 0, 0))
    assert "dataset (1 of 3 rows) Where?" in text and "(3 of 3 rows)" not in text
    only = summarize(
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
    assert "mirrored, then swapped; variant of " in _words(summarize(work / "c", 0, 0))


def test_the_command_says_where_the_sheet_is(write_dataset, work, capsys):
    folder = write_dataset([{**CUP, "subject_box": [0, 0, 99, 5]}])
    assert main(["dataset", "show", "own"]) == 0
    out, log = capsys.readouterr()
    assert out.endswith("wrote own/sheet.png: 1 row, subject red\n")
    scarce, problem = log.splitlines()
    assert scarce.startswith(
        "note: label 'left_of' has 1 row in 1 group; `vsp probe` needs 5 groups"
    )
    assert problem == "note: row '0': subject_box [0, 0, 99, 5] is not inside the picture, 12 × 12"
    (folder / "sheet.png").rename(folder / "first.png")
    assert main(["dataset", "show", "own", "--json", "--sheet", "s.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 1 and found["sheet"] == "s.png" and len(found["problems"]) == 1
    assert (work / "s.png").read_bytes() == (folder / "first.png").read_bytes()
    assert main(["dataset", "show", "own", "--n", "0"]) == 0
    assert "wrote" not in capsys.readouterr().out and not (folder / "sheet.png").exists()
    assert main(["dataset", "show", "none"]) == 1
    assert "vsp: none: no such folder; the datasets here are own" in capsys.readouterr().err


def test_what_is_wrong_with_many_pictures_is_three_lines_and_a_count(write_dataset, work, capsys):
    write_dataset([{**CUP, "id": str(n), "subject_box": [0, 0, 99, 5]} for n in range(9)])
    assert main(["dataset", "show", "own"]) == 0
    log = capsys.readouterr().err.splitlines()[1:]  # the first line is about the label
    assert len(log) == 4 and log[-1] == "note: 6 more problems; the sheet shows all"
