import pytest

from vsp.utils.text import format_age, format_bytes, format_clock, format_count, format_ranges


@pytest.mark.parametrize(("n", "text"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows")])
def test_one_is_singular(n, text):
    assert format_count(n, "row") == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (999_600, "1 MB"),
        (2.05e11, "205 GB"),
        (5e21, "5e+03 EB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(n_bytes, text):
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([5], "5"), ([9, 3, 8, 7], "3,7-9"), ([0, 1, 2, 4], "0-2,4"), ([1, 3, 5], "1,3,5")],
)
def test_numbers_are_written_in_the_short_form(numbers, text):
    assert format_ranges(numbers) == text


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "0:05"), (65, "1:05"), (7384, "2:03:04")])
def test_a_clock_shows_hours_only_when_there_are_some(seconds, text):
    assert format_clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0, "0s"), (99, "99s"), (101, "2m"), (5999, "100m"), (7200, "2h"), (1e6, "12d")],
)
def test_a_time_that_has_passed_is_short(seconds, text):
    assert format_age(seconds) == text
