"""A user's own CSV and JSON lines: all values are read, and errors name the line."""

import csv
import json
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Relation, Thing
from vsp.errors import ConfigError, DatasetError

IMPORTER = IMPORTERS.load("csv")
FLAT = "img_path,subj,obj,relationship\n"


def _read(folder, data, split="", name="own.csv", **options):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    list(IMPORTER.read_embedded([(split, path)], options))  # as an import does, for its notes
    return list(IMPORTER.read([(split, path)], options))


def _refused(folder, data, **options):
    with pytest.raises(DatasetError) as caught:
        _read(folder, data, **options)
    message = str(caught.value)
    assert message.startswith(str(folder / "own.csv")) and "\n" not in message
    return message.removeprefix(f"{folder}/own.csv: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table")


def test_the_flat_file_of_the_research_project_is_read(folder):
    a, b = _read(
        folder,
        FLAT + "a.jpg,car,person,left of\nb.jpg,sky,tree,above\na.jpg,person,car,right of\n",
        split="train",
    )
    assert (a.image, a.split, a.group, a.things) == (
        "a.jpg", "train", "", (Thing("car"), Thing("person"))
    )  # fmt: skip
    assert a.relations == (
        Relation(
            Thing("car"), "left of", Thing("person"), file=f"{folder}/own.csv", where="line 2"
        ),
        Relation(
            Thing("person"), "right of", Thing("car"), file=f"{folder}/own.csv", where="line 4"
        ),
    )
    assert b.relations[0].where == "line 3"


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line", ["sep={}\n", '"sep={}"\r\n', "\ufeffSEP={}\r\n"])
def test_a_first_line_that_declares_the_separator_is_not_the_header(folder, mark, line):
    text = line.format(mark) + "image,prompt,label\na.png,what?,b\n".replace(",", mark)
    (picture,) = _read(folder, text)
    assert picture.image == "a.png" and picture.relations[0].where == "line 3"


def test_a_column_without_a_name_is_not_read_and_said(folder, caplog):
    caplog.set_level("INFO")
    (picture,) = _read(folder, ",image,prompt,label\n0,a.png,what?,b\n")
    assert picture.image == "a.png"
    assert "columns that are not read: one without a name" in caplog.text
    assert _refused(folder, ",image\n0,a\n").startswith(
        "has no column 'prompt' and no 'label'; its columns are one without a name, image; add"
    )


@pytest.mark.parametrize("options", [(), ("--resplit", "--test-fraction", "0.2")])
def test_an_import_names_the_columns_that_are_not_read_once(vsp, work, options):
    rows = "".join(f"{i}.png,cup,table,{('above', 'below')[i % 2]},x\n" for i in range(40))
    (work / "own.csv").write_text("image,subject,object,relation,Note\n" + rows)
    answer = vsp("import", "csv", "--annotations", "train=own.csv", "--out", "data/own", *options)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("own.csv: columns that are not read: Note") == 1


def test_the_unicode_form_of_a_name_makes_no_second_image_group_or_class(folder):
    rows = "".join(
        f"{form}.png,what?,{form},{form}\n" for form in ("caf\u00e9", "cafe\u0301", "caf\u00e9")
    )
    (picture,) = _read(folder, "image,prompt,label,group\n" + rows)
    assert picture.image == "caf\u00e9.png" and picture.group == "caf\u00e9"
    assert {relation.label for relation in picture.relations} == {"caf\u00e9"}


def test_all_columns_are_read_whatever_they_are_called_and_others_are_named(folder, caplog):
    caplog.set_level("INFO")
    text = (
        "Note; Image_Filename ;SUBJECT;reference;predicate;ID;group;split;subject_box;reference_box\n"
        "x;a.jpg; red cup ;plate;on;r1;kitchen;DEV;[1, 2.5, 3, 4];[0, 0, 9, 9]\n"
    )
    (picture,) = _read(folder, text, split="train")
    assert (picture.split, picture.group) == ("val", "kitchen")
    (relation,) = picture.relations
    assert relation.subject == Thing("red cup", (1.0, 2.5, 3.0, 4.0))
    assert relation.reference == Thing("plate", (0.0, 0.0, 9.0, 9.0))
    assert (relation.predicate, relation.id) == ("on", "r1")
    assert caplog.messages == [f"{folder / 'own.csv'}: columns that are not read: Note"]


def test_a_row_may_bring_its_own_question(folder):
    (picture,) = _read(folder, "image,prompt,label\na.jpg,Is the cup full?,yes\n")
    assert picture.relations == (
        Relation(
            None, "", None, prompt="Is the cup full?", label="yes", file=f"{folder}/own.csv", where="line 2"
        ),
    )  # fmt: skip
    assert picture.things == ()


def test_the_split_of_a_row_comes_before_the_files(folder):
    text = "image,subject,object,relation,split\na,x,y,on,test\nb,x,y,on,\n"
    assert [p.split for p in _read(folder, text, split="train")] == ["test", "train"]


ROWS = [
    {"image": "a.jpg", "subject": "cup", "object": "plate", "relation": "on", "id": 3,
     "subject_box": [1, 2, 3, 4], "object_box": None, "more": [1]},
    {"img_path": "b.jpg", "prompt": "Is it?\nSay.", "label": "yes", "split": "val"},
]  # fmt: skip


@pytest.mark.parametrize("written", ["lines", "list"])
def test_json_lines_and_a_json_list_are_told_by_what_is_in_them(folder, written):
    lines = "\r\n\r\n".join(map(json.dumps, ROWS)) + "\n\n"
    a, b = _read(folder, "\ufeff" + lines if written == "lines" else json.dumps(ROWS))
    where = ("line 1", "line 3") if written == "lines" else ("record 0", "record 1")
    assert a.relations == (
        Relation(
            Thing("cup", (1.0, 2.0, 3.0, 4.0)), "on", Thing("plate"), "3",
            file=f"{folder}/own.csv", where=where[0],
        ),
    )  # fmt: skip
    assert b.split == "val"
    assert b.relations[0].prompt == "Is it?\nSay." and b.relations[0].where == where[1]


def test_a_long_list_on_one_line_is_read(folder):
    row = {"image": "a", "prompt": "x" * 1000, "label": "y"}
    (picture,) = _read(folder, json.dumps([row] * 20_000))
    assert len(picture.relations) == 20_000


TABLE = 'image,subject,object,relation\na.jpg,"cup, blue",plate,left of\n"b\n.jpg",Tür,帽子,on\n'


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda text: text.encode(), {}),
        (lambda text: text.encode("utf-8-sig"), {}),
        (lambda text: text.encode("utf-8-sig"), {"encoding": "utf-8"}),
        (lambda text: text.replace("\n", "\r\n").replace('"b\r', '"b').encode(), {}),
        (lambda text: text.removesuffix("\n").encode(), {}),
        (lambda text: text.replace("on\n", "on\n\n\n").encode(), {}),
        (lambda text: text.replace("on\n", "on\n, ,,\n").encode(), {}),
        (lambda text: ("\n\n" + text).encode(), {}),
        (lambda text: text.replace(",", ", ").replace(",  blue", ", blue").encode(), {}),
        (lambda text: text.replace(",", ";").replace("cup; blue", "cup, blue").encode(), {}),
        (lambda text: text.replace(",", "\t").replace("cup\t blue", "cup, blue").encode(), {}),
        (lambda text: text.encode("utf-16"), {}),
        (lambda text: text.encode("utf-16-be"), {"encoding": "utf-16-be"}),
        (lambda text: text.encode("gb18030"), {"encoding": "gb18030"}),
        (lambda text: text.replace("image,", "image,,").replace("jpg,", "jpg,,")
         .replace('jpg",', 'jpg",,').encode(), {}),
    ],
)  # fmt: skip
def test_a_table_is_the_same_however_a_programme_writes_it(folder, change, options):
    a, b = _read(folder, change(TABLE), **options)
    (first,), (second,) = a.relations, b.relations
    assert (a.image, first.subject, first.reference) == (
        "a.jpg", Thing("cup, blue"), Thing("plate")
    )  # fmt: skip
    assert (b.image, second.subject, second.reference) == ("b\n.jpg", Thing("Tür"), Thing("帽子"))


def test_lines_that_end_in_a_return_alone_are_lines(folder):
    assert len(_read(folder, (FLAT + "a,x,y,on\nb,x,y,on\n").replace("\n", "\r"))) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # the file as a whole
        (b"", "has no column 'image' and no 'prompt' and no 'label'; its columns are none; add it, or "
              "rename the column that holds it (a row needs image, and subject, object and relation, or "
              "prompt and label, or question, options and answer)"),
        (b"\xef\xbb\xbf\n\n", "has no column 'image' and no 'prompt' and no 'label'; its columns are none"),
        (FLAT, "contains a header and no rows; write a row for each relation"),
        ("image,subject,object\na,x,y\n", "has no column 'relation'; its columns are image, subject, object; add it, or rename the column"),
        ("subject,object,relation\nx,y,on\n", "has no column 'image'; its columns are subject, object, relation; add"),
        ("image,label\na,x\n", "has no column 'prompt'; its columns are image, label; add it"),
        ("image,Promt ,answer\na,x,y\n",
         "has no column 'prompt' and no 'label'; its columns are image, Promt, answer; rename 'Promt' to 'prompt' "),
        ("Image,prompt,lable\na,x,y\n",
         "has no column 'label'; its columns are Image, prompt, lable; rename 'lable' to 'label' (a row needs"),
        ("image|subject|object|relation\n", "has no column 'image' and no 'prompt' and no 'label'; its columns are image|subject|object|relation;"),
        (FLAT.replace("\n", ",img_path\n"), "'img_path' and 'img_path' both give the image; keep"),
        (FLAT.replace("\n", ",Image\n"), "'img_path' and 'Image' both give the image; keep one"),
        # cells
        (FLAT + "a,x,y,on\nb,x,y\n", "line 3 has 3 cells, the header 4; give each row as many"),
        (FLAT + "a,x,y,on,\n", "line 2 has 5 cells, the header 4; give each row as many"),
        (FLAT + ",x,y,on\n", "line 2 has no image; a row needs image, subject, object, relation"),
        (FLAT + "a,  ,y,on\n", "line 2 has no subject; a row needs image, subject, object, rel"),
        (FLAT + "a,x,,on\n", "line 2 has no object; a row needs"),
        (FLAT + "a,x,y,\n", "line 2 has no relation; a row needs"),
        ("image,prompt,label\na,x,\n", "line 2 has no label; a row needs image, prompt, label"),
        ("image,prompt,label\na,,x\n", "line 2 has no prompt; a row needs image, prompt, label"),
        (FLAT.replace("\n", ",label\n") + "a,x,y,on,0\n",
         "line 2 has a relation and a label; a row takes relation, or prompt and label"),
        (FLAT.replace("\n", ",split\n") + "a,x,y,on,eval\n",
         "line 2 has the split 'eval'; write train, val or test"),
        # quotation marks
        (FLAT + 'a,x,y,on\nb,"x,y,on\nc,x,y,on\n', "line 3 is not CSV: unexpected end of data; look"),
        (FLAT + 'a,"x"x,y,on\n', "line 2 is not CSV: ',' expected after '\"'; look for"),
        (FLAT + '"a\n\nb",x,y,on\nc,x,y\n', "line 5 has 3 cells"),
        (FLAT + "a," + "x" * 200_000 + ",y,on\n",
         "line 2 has a subject of 200,000 characters, at most 131,072 can be read; look for a quotation"),
        (FLAT + 'a,"x,y,on\n' + "b,x,y,on\n" * 50_000, "line 2 is not CSV: unexpected end of data; look for a quotation mark"),
        # bytes
        (FLAT.encode() + b"a,x,y,on\nb,T\xfcr,y,on\n",
         "line 3: byte 43 is not utf-8 (invalid start byte); save the file as UTF-8, or give its "
         "encoding, for example --option encoding=latin-1"),
        (FLAT.encode() + b"a,x,y,on\xc3", "line 2: byte 39 is not utf-8 (unexpected end of data)"),
        (FLAT.encode() * 5000 + b"\xff", "line 5001: byte 155000 is not utf-8"),
        (FLAT + "a,x\0,y,on\n", "line 2 contains a NUL byte, so the file is not text; save it as"),
        (bytes(100), "line 1 contains a NUL byte"),
        (FLAT + "x" * (1 << 24), "line 2 has more than 16777215 characters; write each row on its"),
        # JSON
        ('{"image": "a"', "line 1 is not JSON: Expecting ',' delimiter: column 14"),
        ('{"image": "a", "prompt": "?", "label": "x"}\n{]\n', "line 2 is not JSON: Expecting"),
        ('{"a": ' + "[" * 100_000, "line 1 is not JSON: Nested too deeply"),
        ('{"image": ' + "9" * 5000 + "}", "line 1 has a number with thousands of digits"),
        ('{"image": "a", "prompt": "?", "label": "x"}\n[1]\n', "line 2 is a list, not a mapping"),
        ('[{"image": "a", "prompt": "?", "label": "x"}, 5]', "record 1 is 5, not a mapping"),
        ("[]", "holds no list of records"),
        ('{"prompt": "?", "label": "x"}', "line 1 has no key 'image'; its keys are prompt, label; add it"),
        ('{"image": "a"}', "line 1 has no key 'prompt' and no 'label'; its keys are image; add it"),
        ('{"image": [0.5], "prompt": "?", "label": "x"}', "line 1 has image 0.5; write text"),
        ('{"image": true, "prompt": "?", "label": "x"}', "line 1 has image True; write text"),
        ('{"image": "\\ud800", "prompt": "?", "label": "x"}', "line 1 has image '\\ud800', which cannot be encoded; write another name"),
        ('{"image": "a", "img_path": "b"}', "line 1 'image' and 'img_path' both give the image"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_its_place(folder, data, message):
    assert _refused(folder, data).startswith(message)


@pytest.mark.parametrize(
    "box",
    ["1 2 3 4", "[1, 2, 3]", "[1, 2, 3, 4, 5]", '["1", 2, 3, 4]', "[1, 2, 3, NaN]", "[1, 2, 3, null]",
     "[1, 2, 3, Infinity]", "[true, 2, 3, 4]", "{}", "5", "[" * 9999, "[1, 2, 3, 1" + "0" * 400 + "]"],
)  # fmt: skip
def test_a_box_that_is_none_is_refused(folder, box):
    text = FLAT.replace("\n", ",subject_box\n").replace(",", "\t") + f"a\tx\ty\ton\t{box}\n"
    message = _refused(folder, text)
    assert message.startswith("line 2 has subject_box ")
    assert message.endswith("; write [left, top, right, bottom] in pixels")


def test_a_box_of_nothing_is_refused(folder):
    text = 'image,prompt,label,subject_box\na,?,x,"[1, 2, 3, 4]"\n'
    assert _refused(folder, text) == (
        "line 2 has subject_box '[1, 2, 3, 4]' but no name; write a name, or remove the box"
    )


def test_an_image_in_two_groups_is_refused_with_both_places(folder):
    path = folder / "own.csv"
    path.write_text(FLAT.replace("\n", ",group\n") + "a,x,y,on,g\nb,x,y,on,g\na,y,x,under,h\n")
    with pytest.raises(DatasetError, match=r"\(own.csv line 2\).*\(own.csv line 4\).*one group"):
        list(IMPORTER.read([("", path)], {}))


def test_what_cannot_be_opened_is_said(folder):
    with pytest.raises(
        DatasetError,
        match=r"none.csv: cannot be read .no such file or directory.; give a readable file",
    ):
        list(IMPORTER.read([("", folder / "none.csv")], {}))
    with pytest.raises(DatasetError, match=r"is a directory.; give a readable file"):
        list(IMPORTER.read([("", folder)], {}))
    with pytest.raises(ConfigError, match="encoding 'klingon' is not known; use utf-8"):
        _read(folder, FLAT, encoding="klingon")
    with pytest.raises(ConfigError, match="encoding 'base64' is not known; use utf-8"):
        _read(folder, FLAT, encoding="base64")


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(",;\t\"\r\n '\ufeff="),
    max_size=9,
)
names = cells.filter(str.strip)


@given(
    st.lists(st.tuples(names, names, names, names, cells), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.permutations(range(5)),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_the_csv_module_writes_comes_back(folder, rows, delimiter, quoting, order, encoding):
    """Any text in any cell is read as written, except for outer spaces."""
    header = ["image", "subject", "object", "relation", "note"]
    path = folder / "written.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        writer.writerows([[row[i] for i in order] for row in (header, *rows)])
    pictures = list(IMPORTER.read([("", path)], {}))
    read_rows = [
        (p.image, r.subject.name, r.reference.name, r.predicate)
        for p in pictures
        for r in p.relations
    ]
    expected = [tuple(text.strip() for text in row[:4]) for row in rows]
    assert sorted(read_rows) == sorted(expected)
    assert [p.image for p in pictures] == list(dict.fromkeys(row[0] for row in expected))


@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"a", b"\xff", b"\0", b"{", b"}", b"[", b":",
                                b'"image"', b"]", b";", b"\xef\xbb\xbf", b"on", b"1"])).map(b"".join),
    st.sampled_from([b"", FLAT.encode(), FLAT.replace(",", ";").encode(), b'{"image": "a", ', b"["]),
)  # fmt: skip
def test_no_bytes_end_in_a_traceback(folder, data, start):
    try:
        pictures = _read(folder, start + data)
    except DatasetError as error:
        for line in error.details[:20] or [str(error)]:
            assert line.startswith(str(folder / "own.csv")) and "\n" not in line
    else:
        assert pictures and all(p.image and p.relations for p in pictures)


_PEAK = """
import sys
from pathlib import Path
from vsp.datasets.importers.table import IMPORTER
from vsp.utils.peak_memory import PeakMemory
IMPORTER.read([], {})
memory = PeakMemory()
n = sum(len(p.relations) for p in IMPORTER.read([("", Path(sys.argv[1]))], {}))
print(n, memory.bytes())
"""


def test_many_rows_of_images_scattered_over_a_file_take_little_memory(folder):
    path = folder / "many.csv"
    with path.open("w") as file:
        file.write(FLAT)
        for i in range(50_000):
            file.write(f"image_{i * 7919 % 10_007:09}.jpg,cup {i % 97},plate {i},left of\n")
    answer = subprocess.run(
        [sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    n, n_bytes = map(int, answer.stdout.split())
    assert n == 50_000 and n_bytes < 32e6  # the cache of the database may take 16 MB


CHOICE = "image,question,options,answer\n"


@pytest.mark.parametrize(
    "options", ['"[""left"", ""right|of""]"', "left|right of", "left; right of"]
)
def test_a_row_may_ask_a_multiple_choice_question(folder, options):
    (picture,) = _read(folder, CHOICE + f"a.jpg,Where?,{options},B\n")
    (relation,) = picture.relations
    assert relation.label == relation.options[1] and relation.options[0] == "left"
    assert relation.prompt.startswith("Where?\nOptions:\nleft\nright")
    (alone,) = _read(folder, CHOICE + f"a.jpg,Where?,{options},B\n", prompt="question")
    assert alone.relations[0].prompt == "Where?"


def test_rows_of_every_kind_may_stand_in_one_table(folder):
    head = "image,subject,object,relation,prompt,label,question,options,answer\n"
    rows = (
        "a,x,y,on,,,,,\na,,,,Is it?,yes,,,\na,cup,hat,,,,Where?,on;under,on\na,,,,,,W?,on;in,of\n"
    )
    (picture,) = _read(folder, head + rows)
    assert [(r.predicate, r.label, r.unusable) for r in picture.relations] == [
        ("on", "", ""), ("", "yes", ""), ("", "on", ""), ("", "of", "no-such-option"),
    ]  # fmt: skip
    assert picture.relations[2].subject == Thing("cup")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CHOICE + "a,,x|y,A\n", "line 2 has no question; a row needs image, question, options, answer"),
        (CHOICE + "a,?,,A\n", "line 2 has a question without options; write them, or use prompt and"),
        (CHOICE + "a,?,x|y;z,A\n", "line 2 has options 'x|y;z', which contain both | and ;"),
        (CHOICE + "a,?,x y,A\n", "line 2 has options 'x y', which contain neither | nor ;"),
        (CHOICE + "a,?,B|A,A\n", "line 2 has the answer 'A', which is the text of one option and"),
        (CHOICE + "a,?,x|y,1\n", "none of 1 answers that are numbers is 0, so they may count from 1"),
        ("image,question,answer\na,?,A\n", "has no column 'options'; its columns are image, question"),
        (CHOICE.replace("\n", ",label\n") + "a,?,x|y,A,no\n",
         "line 2 has a question and a label; a row takes one of them: empty the other"),
    ],
)  # fmt: skip
def test_a_question_that_can_be_read_in_two_ways_is_refused(folder, data, message):
    assert _refused(folder, data).startswith(message)
