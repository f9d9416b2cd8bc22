import pytest

from vsp.config import ModelConfig, Profile, parse, read_yaml
from vsp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot be read as YAML"),
        ("- 1\n- 2", "holds a list"),
        ("", "holds a NoneType"),
        ("a: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_a_yaml_file_that_is_no_mapping_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partitoin": "gpu"}, r"partitoin 'gpu': extra inputs"),
        ({"cpus_per_task": 0}, r"cpus_per_task 0: "),
        ({"environment": {"A": [1]}}, r"environment\.A \[1\]: "),
    ],
)
def test_an_unknown_key_or_a_wrong_value_names_source_key_and_value(values, message):
    with pytest.raises(ConfigError, match=f"jobs/p.yaml: {message}"):
        parse(Profile, values, "jobs/p.yaml")


def test_configurations_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        ModelConfig(family="fake").family = "other"
