"""Numbers and names as a reader should see them: only digits that the error supports.

    0.00813, error 0.00117  ->  0.0081 ± 0.0012      one digit of the error, two if it starts 1 or 2

A value without an error gets three significant digits and no promise.
"""

from __future__ import annotations

import math
import unicodedata

__all__ = [
    "format_count",
    "format_setting",
    "format_number",
    "format_p_value",
    "format_with_error",
    "plain_text",
]

MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: object, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits; anything that is not a number says so.

    >>> format_number(0.0081234), format_number(-1234567.0), format_number(float("nan"))
    ('0.00812', '−1.23 × 10⁶', 'not a number')
    """
    number = _as_float(value)
    if number is None:
        return "–"
    if math.isnan(number):
        return "not a number"
    if math.isinf(number):
        return "∞" if number > 0 else f"{MINUS}∞"
    if number == 0:
        return "0"
    exponent = _exponent(number, digits)
    if exponent < -4 or exponent >= 6:
        return _scientific(f"{number / 10.0**exponent:.{digits - 1}f}", exponent)
    text = f"{number:.{max(digits - 1 - exponent, 0)}f}"
    if float(text).is_integer() and float(text) == number:
        text = f"{number:.0f}"
    return text.replace("-", MINUS)


def format_with_error(value: object, standard_error: object) -> str:
    """``value ± standard_error``, cut at the error's first digit (second if it starts with 1, 2).

    >>> format_with_error(0.00813, 0.00117)
    '0.0081 ± 0.0012'
    >>> format_with_error(-6.8123, 0.42)
    '−6.8 ± 0.4'
    >>> format_with_error(3.14159, None)
    '3.14'
    >>> format_with_error(0.280207, 0.000013)
    '0.2802 ± 1 × 10⁻⁵'
    """
    number, error = _as_float(value), _as_float(standard_error)
    if number is None or not math.isfinite(number):
        return format_number(value)
    if error is None or not math.isfinite(error) or error <= 0:
        return format_number(value)
    leading = _exponent(error, 2)
    digits = 2 if abs(error) / 10.0**leading < 2.95 else 1
    place = leading - (digits - 1)
    if number and _exponent(number, 4) - place >= 5:  # more digits than anyone reads
        return f"{format_number(number, 4)} ± {format_number(error, 1)}"
    if place < -7 or max(abs(number), error) >= 1e6:
        exponent = max(_exponent(number, 3) if number else leading, leading)
        decimals = max(exponent - place, 0)
        body = f"({number / 10.0**exponent:.{decimals}f} ± {error / 10.0**exponent:.{decimals}f})"
        return _scientific(body, exponent)
    decimals = max(-place, 0)
    scale = 10.0 ** max(place, 0)
    rounded, rounded_error = round(number / scale) * scale, round(error / scale) * scale
    if decimals:
        rounded, rounded_error = number, error
    text = f"{rounded:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return f"{text} ± {rounded_error:.{decimals}f}".replace("-", MINUS)


def format_p_value(value: object) -> str:
    """Two significant digits, and a bound where more would be a pretence.

    >>> format_p_value(0.0412), format_p_value(1e-9)
    ('0.041', '< 0.0001')
    """
    number = _as_float(value)
    if number is None or math.isnan(number):
        return "–"
    return "< 0.0001" if number < 1e-4 else f"{float(f'{number:.2g}'):.{_p_decimals(number)}f}"


def format_count(value: object) -> str:
    """A whole number with its thousands apart.

    >>> format_count(50000)
    '50,000'
    """
    number = _as_float(value)
    if number is None or not math.isfinite(number):
        return "–"
    return f"{number:,.0f}".replace("-", MINUS)


def format_setting(value: object) -> str:
    """A number that somebody chose: four digits at most, no zeros added.

    >>> format_setting(0.1), format_setting(4e-05)
    ('0.1', '4e-05')
    """
    number = _as_float(value)
    return "–" if number is None else f"{number:.4g}".replace("-", MINUS if number < 0 else "-", 1)


def plain_text(value: object, limit: int = 200) -> str:
    """``value`` as text in which nothing acts: no control, direction or unpaired characters.

    Longer than ``limit`` characters is cut and ends in an ellipsis. Not escaped for HTML.

    >>> plain_text("a\\x00b")
    'a\N{REPLACEMENT CHARACTER}b'
    """
    text = str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"} else c
        for c in text.replace("\n", " ").replace("\t", " ")
    )


def _as_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _exponent(number: float, digits: int) -> int:
    """The power of ten of the leading digit once ``number`` is rounded to ``digits`` digits."""
    return int(f"{abs(number):.{digits - 1}e}".split("e")[1])


def _scientific(mantissa: str, exponent: int) -> str:
    return f"{mantissa} × 10{str(exponent).translate(SUPERSCRIPTS)}".replace("-", MINUS)


def _p_decimals(number: float) -> int:
    return max(1 - _exponent(number, 2), 2)
