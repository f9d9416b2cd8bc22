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
        ({"modules": [-1]}, "modules.0 -1: write the name of a module"),
        ({"modules": [3.11]}, "modules.0 3.11: write text or a whole number"),
        ({"modules": [True]}, "modules.0 True: write text or a whole number"),
        ({"modules": ["../x"]}, "modules.0 '../x': write the name of a module"),
        ({"modules": ["a\u202eb"]}, "modules.0 'a\\u202eb': write the name of a module"),
        ({"environment": {"A": True}}, "environment.A True: write text or a whole number"),
        ({"environment": {"A": None}}, "environment.A None: write text or a whole number"),
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
        *(
            (
                {"environment": {name: "0"}},
                f"environment: variable {name} is set by the batch system",
            )
            for name in ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME")
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
        "modules": [2023, "cuda/12.4", "GCCcore/.12.2", "intel@2023:x", "/opt/modules/a+b", ".h/1",
                    "gcc-runtime/11.3~x", "python/3.11%gcc", "name=1", "~/m/x", "a(b)", "é", ".."],
        "environment": {"PATH": "/x:/bin", "LD_PRELOAD": "/y.so", "A": "é 'b' $c", "no": "",
                        "OMP_NUM_THREADS": 4, "PYTHONPATH": "", "LD_LIBRARY_PATH": "/a $b/c", "B": "~x", "C": "-1:~/a"},
        "export": "NONE", "nice": -5, "exclude": "n[1-3]", "logs": "/a b/c",
    }  # fmt: skip
    profile = parse(Profile, values, "p.yaml")
    assert profile.modules == tuple(map(str, values["modules"]))
    assert profile.environment == {**values["environment"], "OMP_NUM_THREADS": "4"}


def test_whole_numbers_in_a_yaml_file_are_names_of_modules_and_values_of_variables(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("modules: [2023, R/4.3]\nenvironment: {OMP_NUM_THREADS: 4, A: -1}")
    profile = parse(Profile, read_yaml(path), str(path))
    assert profile.modules == ("2023", "R/4.3")
    assert profile.environment == {"OMP_NUM_THREADS": "4", "A": "-1"}


@pytest.mark.parametrize(
    "name", ["EPOCHS", "EPOCH", "BASH_ARGS", "SLURM_CPU_BIND", "SLURM_EXPORT_ENV", "SLURM_CONF"]
)
def test_a_variable_that_only_looks_like_one_of_bash_or_of_a_task_may_be_set(name):
    assert parse(Profile, {"environment": {name: "1"}}, "p").environment == {name: "1"}


@pytest.mark.parametrize(
    "name", ["EPOCHSECONDS", "EPOCHREALTIME", "BASH_ARGC", "HISTCMD", "OPTIND"]
)
def test_a_variable_that_bash_keeps_to_itself_is_refused(name):
    with pytest.raises(ConfigError, match=f"variable {name} is set by bash; remove it"):
        parse(Profile, {"environment": {name: "1"}}, "p")


_AS_IT_STANDS = (
    "is taken as it stands, variables are not expanded; write all folders of the path in full, "
    "or load a module that adds to it"
)
_NOT_FULL = "is no full path, and tasks leave it out; write the full path or remove it"


@pytest.mark.parametrize(
    ("name", "value", "folder", "reason"),
    [
        ("PATH", "/opt/x/bin:$PATH", "$PATH", _AS_IT_STANDS),
        ("LD_LIBRARY_PATH", "${HOME}/lib", "${HOME}/lib", _AS_IT_STANDS),
        ("PYTHONPATH", "lib", "lib", _NOT_FULL),
        ("PYTHONPATH", "/site:", "", _NOT_FULL),
        ("PATH", "/bin:.", ".", _NOT_FULL),
        ("PATH", "~other/bin", "~other/bin", _NOT_FULL),
    ],
)
def test_a_folder_of_a_search_path_that_tasks_would_drop_is_refused(name, value, folder, reason):
    with pytest.raises(ConfigError) as caught:
        parse(Profile, {"environment": {name: value}}, "p.yaml")
    assert str(caught.value) == (
        f"p.yaml: environment: variable {name} {value!r}: {folder!r} {reason}"
    )


def test_a_tilde_is_the_home_folder_where_a_profile_names_folders(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    values = {
        "logs": "~/logs",
        "environment": {"HF_HOME": "~/hf", "PATH": "/bin:~/bin", "PYTHONPATH": "~"},
    }
    profile = parse(Profile, values, "p.yaml")
    assert profile.logs == "/home/me/logs"
    assert profile.environment == {
        "HF_HOME": "/home/me/hf", "PATH": "/bin:/home/me/bin", "PYTHONPATH": "/home/me",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        parse(Profile, {"logs": "~other/logs"}, "p.yaml")
    assert str(caught.value) == (
        "p.yaml: logs '~other/logs': begins with the name of a user; write the full path, or ./~ for "
        "a folder"
    )


@pytest.mark.parametrize(
    "name",
    ["PYTHONPATH", "BASH_ENV", "LD_AUDIT", "PYTHONSTARTUP", "ENV", "HOME", "CC", "CXX", "CUDA_HOME",
     "TRITON_CACHE_DIR", "OPENSSL_CONF", "GCONV_PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
     "MPLBACKEND", "HF_HOME", "TMPDIR", "NCCL_NET_PLUGIN", "OMP_TOOL_LIBRARIES", "anything"],
)  # fmt: skip
def test_every_variable_but_the_harmless_ones_is_named_as_one_that_can_decide_what_runs(name):
    harmless = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0", "HF_HUB_OFFLINE": "0"}
    assert Profile(environment=harmless).code_note == ""
    assert Profile(environment={name: "/x", **harmless}).code_note == (
        f"the profile sets {name}: this can decide which code the tasks run"
    )


def test_variables_and_modules_are_named_together():
    profile = Profile(environment={"CC": "x", "PATH": "/x"}, modules=("cuda/12.4", "R/4"))
    assert profile.code_note == (
        "the profile sets CC, PATH and loads cuda/12.4, R/4: this can decide which code the tasks run"
    )
    assert Profile(modules=("R/4",)).code_note.startswith("the profile loads R/4: this can")
