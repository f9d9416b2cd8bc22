import subprocess
import sys

import pytest

_START = "import sys; from vsp.utils.streams import escape_output; escape_output(); "


def _printed(code, **options):
    command = [sys.executable, "-c", _START + code]
    return subprocess.run(command, capture_output=True, **options)


@pytest.mark.parametrize(
    "code",
    [
        r"print('a\x1b[7mb', 'c', file=sys.stderr)",
        r"sys.stderr.write('a\x1b[7mb c\n')",
        r"sys.stderr.writelines(['a\x1b[7mb', ' c\n'])",
        r"import logging; logging.error('a\x1b[7mb c')",
        r"import warnings; warnings.warn('a\x1b[7mb c')",
        r"raise ValueError('a\x1b[7mb c')",
        r"import threading; threading.Thread(target=lambda: exec(r'raise ValueError(\'a\x1b[7mb c\')')).start()",
        r"exec(r'class A:\n def __del__(self): raise ValueError(\'a\x1b[7mb c\')'); a = A(); a.b = a",
        r"import argparse; argparse.ArgumentParser().parse_args(['a\x1b[7mb c'])",
        r"sys.exit('a\x1b[7mb c')",
        r"escape_output(); sys.__stderr__.write('a\x1b[7mb c\n')",
    ],
)  # fmt: skip
def test_whoever_prints_the_text_is_escaped(code):
    printed = _printed(code).stderr.decode()
    assert r"a\x1b[7mb c" in printed and "\x1b" not in printed


def test_lines_and_tabs_stay():
    assert _printed(r"print('a\tb\nc')").stdout == b"a\tb\nc\n"


def test_a_stream_keeps_its_encoding_and_shows_question_marks_for_other_characters():
    code = r"print('é', '中', '\x1b')"
    printed = _printed(code, env={"PYTHONIOENCODING": "latin-1"}).stdout
    assert printed == b"\xe9 ? \\x1b\n"


def test_what_was_printed_before_comes_first():
    code = "import sys; print('a', end=''); from vsp.utils.streams import escape_output; escape_output(); print('b')"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"ab\n"


def test_worker_processes_escape_too():
    code = (
        r"from joblib import delayed; from vsp.utils.workers import worker_pool; "
        "import warnings\nwith worker_pool(2) as pool: "
        r"pool(delayed(warnings.warn)(f'a\x1b[7mb {i}') for i in range(2))"
    )
    printed = _printed(code).stderr
    assert b"\\x1b[7mb 0" in printed and b"\\x1b[7mb 1" in printed and b"\x1b" not in printed


def test_what_a_library_writes_to_the_number_of_stderr_is_passed_on_escaped():
    code = (
        r"import os; from vsp.models.library_errors import hidden_panics"
        "\nwith hidden_panics(): os.write(2, b'a\\x1b[7mb c\\n')"
    )
    assert _printed(code).stderr == b"a\\x1b[7mb c\n"
