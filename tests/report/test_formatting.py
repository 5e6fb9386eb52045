import math

import pytest

from basin.report.formatting import (
    format_count,
    format_number,
    format_p_value,
    format_setting,
    format_with_error,
    plain_text,
)


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.00813, 0.00117, "0.0081 ± 0.0012"),
        (0.4838, 0.0041, "0.484 ± 0.004"),
        (-0.0312, 0.0096, "−0.031 ± 0.010"),
        (451.29, 0.23, "451.29 ± 0.23"),
        (12345.0, 678.0, "12300 ± 700"),
        (0.0, 0.5, "0.0 ± 0.5"),
        (-0.0004, 0.03, "0.00 ± 0.03"),
        (1.23e-9, 4e-11, "(1.23 ± 0.04) × 10⁻⁹"),
        (0.280207, 0.000013, "0.2802 ± 1 × 10⁻⁵"),
        (3.14159, None, "3.14"),
        (3.14159, math.nan, "3.14"),
        (3.14159, 0.0, "3.14"),
        (math.nan, 0.1, "not a number"),
        (None, None, "–"),
        ("<b>", 1, "–"),
        (True, 1, "–"),
    ],
)
def test_digits_come_from_the_error(value, error, shown):
    assert format_with_error(value, error) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "1"), (0, "0"), (123456, "123456"), (1e300, "1.00 × 10³⁰⁰"), (-math.inf, "−∞")],
)
def test_numbers(value, shown):
    assert format_number(value) == shown


def test_huge_whole_numbers_do_not_overflow():
    assert format_number(10**400) == "∞"
    assert format_count(10**400) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.50"), (0.00123, "0.0012"), (1.0, "1.00"), (0, "< 0.0001")]
)
def test_p_values(value, shown):
    assert format_p_value(value) == shown


def test_settings_gain_no_zeros():
    assert (format_setting(0.1), format_setting(-0.5), format_setting(None)) == ("0.1", "−0.5", "–")


@pytest.mark.parametrize("bad", ["\x00", "\u202e", "\ud800", "\u200b", "\x1b"])
def test_text_that_acts_is_replaced(bad):
    text = plain_text(f"a{bad}b")
    assert text == "a\N{REPLACEMENT CHARACTER}b"
    text.encode("utf-8")


def test_text_is_cut():
    assert plain_text("x" * 500, 10) == "x" * 9 + "…"
