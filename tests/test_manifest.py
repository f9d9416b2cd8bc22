import pytest

from vsp.errors import RunError
from vsp.manifest import Manifest, Sample

SAMPLES = [
    Sample(f"s{i}", f"/a b/{i}.png", f"line one\nline two \u2028 {i}", "left_of", f"g{i // 2}")
    for i in range(10)
]


def test_rows_come_back_in_their_order(tmp_path):
    digest = Manifest.write(tmp_path / "m.jsonl", SAMPLES)
    manifest = Manifest(tmp_path / "m.jsonl")
    assert list(manifest.rows()) == SAMPLES
    assert list(manifest.rows(3, 7)) == SAMPLES[3:7]
    assert manifest.digest() == digest


def test_any_edit_changes_the_digest(tmp_path):
    path = tmp_path / "m.jsonl"
    digest = Manifest.write(path, SAMPLES)
    path.write_text(path.read_text().replace("left_of", "left-of", 1))
    assert Manifest(path).digest() != digest


@pytest.mark.parametrize("line", ["", "{", "[1]", '{"id": "a"}', '{"id": "a", "x": 1}'])
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    path = tmp_path / "m.jsonl"
    Manifest.write(path, SAMPLES[:2])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match="row 2 is not a sample"):
        list(Manifest(path).rows())
