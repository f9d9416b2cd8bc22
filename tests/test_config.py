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
        ({"partitoin": "gpu"}, r"'partitoin' is neither .*; write partition$"),
        ({"mem-per-cpu": "4G"}, r"'mem-per-cpu' is neither .*; write mem_per_cpu$"),
        ({"throtle": 3}, r"'throtle' is neither .*; write throttle$"),
        ({"cpu": {"exclusiv": True}}, r"cpu: 'exclusiv' is neither .*; write exclusive$"),
        ({"qqqqqqq": 1}, r"'qqqqqqq' is neither .*; remove it$"),
        ({"array": "1-3"}, r"array cannot be set in a profile: .*throttle"),
        ({"mem": "1G", "mem_per_gpu": "1G"}, r"mem and mem_per_gpu exclude each other"),
        ({"gpus": 1.5}, r"gpus 1\.5: write text or a whole number"),
        ({"mem": "1G\n2G"}, r"mem '1G\\n2G': write one line"),
        ({"cpus_per_task": 0}, r"cpus_per_task 0: "),
        ({"environment": {"A": [1]}}, r"environment\.A \[1\]: "),
    ],
)
def test_an_unknown_key_or_a_wrong_value_names_source_key_and_value(values, message):
    with pytest.raises(ConfigError, match=f"jobs/p.yaml: {message}"):
        parse(Profile, values, "jobs/p.yaml")


@pytest.mark.parametrize(
    ("text", "time"),
    [("12:00:00", "12:00:00"), ("1-12:00:00", "1-12:00:00"), ("90", "90"), ("'60'", "60")],
)
def test_a_clock_time_in_yaml_needs_no_quotes(tmp_path, text, time):
    path = tmp_path / "p.yaml"
    path.write_text(f"time: {text}\nbegin: 2026-01-31T10:00:00\nenvironment: {{A: 1:30.5}}")
    profile = parse(Profile, read_yaml(path), str(path))
    assert profile.time == time and profile.environment == {"A": "1:30.5"}
    assert profile.further_options == {"begin": "2026-01-31T10:00:00"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("USER: <image>", r"write \{instruction\} once, where the row's prompt belongs"),
        ("<image> {prompt}", r"write \{instruction\} once instead of \{prompt\}, where"),
        ("{instruction} {instruction}", r"write \{instruction\} once, where"),
    ],
)
def test_a_template_without_one_place_for_the_prompt_is_refused(template, reason):
    with pytest.raises(ConfigError, match=rf"^m.yaml: template '.*': {reason}") as caught:
        parse(ModelConfig, {"family": "auto", "template": template}, "m.yaml")
    assert "\n" not in str(caught.value)


def test_configurations_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        ModelConfig(family="fake").family = "other"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partition": "a\n#SBATCH --wrap=x"}, "partition 'a\\n#SBATCH --wrap=x': write one line"),
        ({"partition": "-x"}, "partition '-x': write a value that does not begin with '-'"),
        ({"reservation": "--wrap=x y"}, "reservation '--wrap=x y': write a value that does not"),
        ({"cpu": {"mem": "1\r2"}}, "cpu.mem '1\\r2': write one line of text"),
        ({"cpu": {"comment": "x"}}, "cpu: comment cannot be set in a profile"),
        ({"cpus_per_task": 2**31}, f"cpus_per_task {2**31}: input should be less than"),
        ({"throttle": 10**5000}, "throttle of thousands of digits: input should be less than"),
        ({"export": "PYTHONPATH=/x,ALL"}, "export must be ALL, NIL or NONE; write variables under"),
        (
            {"export_file": "/x"},
            "export_file cannot be set in a profile: write the variables under",
        ),
        ({"logs": "a\nb"}, "logs 'a\\nb': write one line of printable text"),
        ({"logs": "\ud800"}, "logs '\\ud800': "),
        ({"modules": ["a b"]}, "modules.0 'a b': write the name of a module, such as cuda/12.4"),
        ({"modules": ["-f"]}, "modules.0 '-f': write the name of a module"),
        ({"modules": ["x;touch y"]}, "modules.0 'x;touch y': write the name of a module"),
        ({"modules": ["./x"]}, "modules.0 './x': write the name of a module"),
        ({"modules": ["x\n"]}, "modules.0 'x\\n': write the name of a module"),
        ({"environment": {"A;touch y": "1"}}, "environment: 'A;touch y' is no name of a variable"),
        ({"environment": {"A=1": "1"}}, "environment: 'A=1' is no name of a variable"),
        ({"environment": {"A\n": "1"}}, "environment: 'A\\n' is no name of a variable"),
        ({"environment": {"": "1"}}, "environment: '' is no name of a variable"),
        ({"environment": {"A": "1\n2"}}, "environment.A '1\\n2': write one line of printable text"),
        ({"environment": {"A": "\0"}}, "environment.A '\\x00': write one line of printable text"),
        ({"environment": {"UID": "0"}}, "environment: variable UID is set by bash; remove it"),
        (
            {"environment": {"SLURM_ARRAY_TASK_ID": "0"}},
            "environment: variable SLURM_ARRAY_TASK_ID is set by the batch system; remove it",
        ),
    ],
)
def test_text_of_a_profile_that_could_change_a_script_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError) as caught:
        parse(Profile, values, "p.yaml")
    assert str(caught.value).startswith(f"p.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_a_profile_takes_what_clusters_need():
    values = {
        "modules": ["cuda/12.4", "GCCcore/.12.2", "intel@2023:x", "/opt/modules/a+b"],
        "environment": {"PATH": "/x:/bin", "LD_PRELOAD": "/y.so", "A": "é 'b' $c", "no": ""},
        "export": "NONE", "nice": -5, "exclude": "n[1-3]", "logs": "/a b/c",
    }  # fmt: skip
    profile = parse(Profile, values, "p.yaml")
    assert profile.code_variables == ["PATH", "LD_PRELOAD"]


@pytest.mark.parametrize("name", ["PYTHONPATH", "BASH_ENV", "LD_AUDIT", "PYTHONSTARTUP", "ENV"])
def test_a_variable_that_decides_which_code_runs_is_named(name):
    assert Profile(environment={name: "/x", "OMP_NUM_THREADS": "1"}).code_variables == [name]
