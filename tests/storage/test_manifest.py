import json
from dataclasses import asdict, replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.choices import POSITIONS
from vsp.errors import RunError
from vsp.storage.manifest import Manifest, Sample

SAMPLES = [
    Sample(f"s{i}", f"/a b/{i}.png", f"line one\nline two \u2028 {i}", "left_of", f"g{i // 2}")
    for i in range(10)
]
STARTS = (0, 4, 5, 10)
REFUSED = "was changed or lost since the plan; plan the run again"


@pytest.fixture
def manifest(tmp_path):
    return Manifest.write(tmp_path / "m.jsonl", SAMPLES, STARTS)


def test_rows_come_back_in_their_order(manifest):
    assert list(manifest.rows()) == SAMPLES
    for start in range(11):
        for stop in range(start, 11):
            assert list(manifest.rows(start, stop)) == SAMPLES[start:stop]


def _with_options(drawn):
    """A sample with options and as many lists of tokens, or with options alone."""
    sample, pairs, has_tokens = drawn
    options, tokens = zip(*pairs, strict=True) if pairs else ((), ())
    return replace(sample, options=options, option_tokens=tokens if has_tokens else ())


text = st.text(st.characters(exclude_categories=["Cs"]))
samples = st.builds(
    Sample, text, text, text, text, text, text, text, st.integers(0), st.integers(0),
    st.lists(text | st.tuples(*[st.floats(0, 1e6)] * 4)).map(tuple), text, text, text,
    st.just(()) | st.tuples(*[st.floats(0, 1e6)] * 4), st.just(()), st.tuples(st.integers(1)),
    tokens_of=st.dictionaries(st.sampled_from(POSITIONS), st.integers(0)).map(
        lambda places: tuple(places.items())
    ),
)  # fmt: skip
tokens = st.lists(st.integers(0), min_size=1).map(tuple)
samples = st.tuples(samples, st.lists(st.tuples(text, tokens), max_size=3), st.booleans())
samples = samples.map(_with_options)
LATER = ("options", "option_tokens", "tokens_of")  # keys that a line has only if they say something
ONLY_PLANNED = ("subject_span", "reference_span")


@given(st.lists(samples, min_size=1, max_size=5))
def test_a_line_is_the_sample_in_json(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
    manifest = Manifest.write(path, samples, (0, len(samples)))
    lines = path.read_bytes().decode().split("\n")
    assert lines == [*map(_expected_line, samples), ""]
    assert list(manifest.rows()) == samples


def _expected_line(sample):
    values = {k: v for k, v in asdict(sample).items() if k not in ONLY_PLANNED}
    values["tokens_of"] = dict(sample.tokens_of)
    written = {k: v for k, v in values.items() if v or k not in LATER}
    return json.dumps(written, ensure_ascii=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"option_tokens": ((1,), (2,), (3,))},
        {"options": ("a", "b", "c"), "option_tokens": ((1,), (2,), (3,))},
        {"option_tokens": ((1,), ())},
        {"option_tokens": ((1,), (-2,))},
        {"option_tokens": ((1,), ("2",))},
        {"option_tokens": ((1,), (2.0,))},
        {"tokens_of": (("image", -1),)},
        {"tokens_of": (("image", True),)},
    ],
)
def test_tokens_that_vsp_does_not_write_are_refused(tmp_path, changes):
    """Otherwise log-likelihoods would go to the columns of other rows."""
    good = replace(SAMPLES[0], options=("a", "b"), option_tokens=((1,), (2, 3)))
    for sample, is_good in ((good, True), (replace(good, **changes), False)):
        path = tmp_path / f"{is_good}.jsonl"
        written = Manifest.write(path, [sample], (0, 1))
        manifest = Manifest(path, (0, 1), written.offsets, written.digests, most_options=2)
        if is_good:
            assert list(manifest.rows()) == [sample]
        else:
            with pytest.raises(RunError, match="row 0 is not a sample; plan the run again"):
                list(manifest.rows())


def test_manifests_of_older_versions_have_no_names_and_boxes(tmp_path):
    path = tmp_path / "m.jsonl"
    later = ("subject", "reference", "subject_box", "reference_box", "image_size")
    later += LATER + ONLY_PLANNED
    old = {name: value for name, value in asdict(SAMPLES[0]).items() if name not in later}
    line = json.dumps(old).encode() + b"\n"
    path.write_bytes(line)
    manifest = Manifest(path, (0, 1), (0, len(line)), [sha256(line).hexdigest()])
    assert list(manifest.rows()) == SAMPLES[:1]


def test_a_slice_is_read_without_the_others(manifest):
    data = bytearray(manifest.path.read_bytes())
    first, second = manifest.offsets[1:3]
    data[:first] = bytes(first)
    data[second:] = bytes(len(data) - second)
    manifest.path.write_bytes(data)
    assert list(manifest.rows(4, 5)) == SAMPLES[4:5]
    manifest.check(1)
    for start in (0, 5):
        with pytest.raises(RunError, match=REFUSED):
            list(manifest.rows(start, start + 1))


def _lines(data):
    return data.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda data: data.replace(b"left_of", b"left-of", 1), " the slice of shard 0"),
        (lambda data: b"".join([*_lines(data)[1::-1], *_lines(data)[2:]]), " the slice of shard 0"),
        (lambda data: b"".join([*_lines(data)[:9], _lines(data)[9].upper()]), " the slice of shard 2"),
        (lambda data: data[:-1], ""),
        (lambda data: b"".join(_lines(data)[:9]), ""),
        (lambda data: b"".join(_lines(data)[1:]), ""),
        (lambda data: data + b"\n", ""),
        (lambda data: data + _lines(data)[0], ""),
        (lambda data: b"", ""),
    ],
    ids=["a word", "two rows", "the last row", "its end", "the last line gone",
         "the first line gone", "an empty line", "a line more", "nothing left"],
)  # fmt: skip
def test_a_file_that_was_changed_is_refused(manifest, edit, named):
    manifest.path.write_bytes(edit(manifest.path.read_bytes()))
    with pytest.raises(RunError, match=f"m.jsonl:{named} {REFUSED}$"):
        list(manifest.rows())


def test_of_a_changed_slice_no_row_is_given(manifest):
    manifest.path.write_bytes(manifest.path.read_bytes().replace(b'"s3"', b'"x3"'))
    with pytest.raises(RunError, match="shard 0"):
        next(manifest.rows())


def test_a_file_that_is_gone_is_refused(manifest):
    manifest.path.unlink()
    for read in (lambda: manifest.check(0), lambda: next(manifest.rows())):
        with pytest.raises(RunError, match=f"m.jsonl: {REFUSED}$"):
            read()


@pytest.mark.parametrize("line", ["", "{", "[1]", '{"id": "a"}', '{"id": "a", "x": 1}'])
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    path = tmp_path / "m.jsonl"
    Manifest.write(path, SAMPLES[:2], (0, 2))
    path.write_bytes(path.read_bytes() + f"{line}\n".encode())
    data = path.read_bytes()
    manifest = Manifest(path, (0, 3), (0, len(data)), [sha256(data).hexdigest()])
    with pytest.raises(RunError, match="row 2 is not a sample"):
        list(manifest.rows())


def test_texts_that_come_again_are_one_object(manifest):
    rows = list(manifest.rows())
    assert len({id(row.label) for row in rows}) == 1
    assert rows[0].group is rows[1].group and rows[0].group != rows[2].group
