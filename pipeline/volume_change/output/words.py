"""How a number is said to a person: as many digits as its error allows, with its unit."""

import math
from pathlib import PurePath

from pipeline.volume_change.types import Interval

MINUS = "\N{MINUS SIGN}"
_SURE = 0.995  # above this, "100 % sure" would be the rounding, and a lie


def number(value: float, decimals: int = 0, *, signed: bool = False) -> str:
    """Return a number with thousands separators and a true minus sign.

    Args:
        value: Any finite number.
        decimals: Digits after the point.
        signed: Whether a plus sign is shown.

    >>> number(-5252.4), number(5316.2, signed=True), number(-0.001, 1)
    ('−5,252', '+5,316', '0.0')
    """
    rounded = round(value, decimals)
    text = f"{abs(rounded):,.{decimals}f}"
    if rounded == 0:
        return text
    return (MINUS if rounded < 0 else "+" if signed else "") + text


def half_width(interval: Interval) -> float:
    """Return half of an interval's length, in its unit.

    >>> half_width((61.0, 75.6))
    7.299999999999997
    """
    return (interval[1] - interval[0]) / 2


def _magnitude(error: float) -> int:
    return math.floor(math.log10(error)) if error > 0 else 0


def decimals_for(error: float) -> int:
    """Return how many decimals a number with this error deserves: two significant digits of the error.

    >>> [decimals_for(e) for e in (903.0, 7.3, 0.37, 0.0)]
    [0, 1, 2, 2]
    """
    if not error > 0:
        return 2
    return min(6, max(0, 1 - math.floor(math.log10(error))))


def rounded_error(error: float) -> float:
    """Return an error with two significant digits.

    >>> rounded_error(903.4), rounded_error(0.0)
    (900.0, 0.0)
    """
    if not error > 0:
        return 0.0
    return float(f"{error:.1e}")


def volume(value: float, interval: Interval | None = None, *, signed: bool = False) -> str:
    """Return a volume in cubic metres, with the half width of its 95 % interval if one is given.

    >>> volume(5316.2, (4412.8, 6219.6), signed=True)
    '+5,316 m³ ± 900'
    >>> volume(68.31, (61.0, 75.6))
    '68.3 m³ ± 7.3'
    >>> volume(2503593.0, (2033593.0, 2973593.0))
    '2,504,000 m³ ± 470,000'
    >>> volume(0.0), volume(0.0, (0.0, 0.0))
    ('0 m³', '0 m³')
    """
    if interval is None or interval[0] == interval[1] == value == 0:
        return f"{number(value, decimals_for(abs(value) / 10) if value else 0, signed=signed)} m³"
    error = half_width(interval)
    decimals = decimals_for(error)
    step = 10 ** max(0, _magnitude(error) - 2)  # of millions of cubic metres nobody knows the last one
    value = round(value / step) * step if step > 1 else value
    return f"{number(value, decimals, signed=signed)} m³ ± {number(rounded_error(error), decimals)}"


def between(interval: Interval, *, signed: bool = False) -> str:
    """Return an interval as two numbers.

    >>> between((-1.25, 3.5), signed=True)
    '−1.2 to +3.5'
    """
    decimals = decimals_for(half_width(interval))
    return f"{number(interval[0], decimals, signed=signed)} to {number(interval[1], decimals, signed=signed)}"


def significant(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with so many significant digits, whole digits kept.

    >>> significant(0.1342), significant(312.44, 3), significant(1234.5, 2), significant(0.0)
    ('0.13', '312', '1,234', '0')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return number(value, min(decimals, 6), signed=signed)


def metres(value: float, *, signed: bool = False) -> str:
    """Return a length: centimetres matter, so two decimals, and more below ten centimetres.

    >>> metres(0.412), metres(-1.6, signed=True), metres(0.0441), metres(12.0)
    ('0.41 m', '−1.60 m', '0.044 m', '12.00 m')
    """
    if not math.isfinite(value):
        return "unknown"
    decimals = 2 if value == 0 or abs(value) >= 0.0995 else 3 if abs(value) >= 0.00095 else 5
    return f"{number(value, decimals, signed=signed)} m"


def area(value: float) -> str:
    """Return an area in square metres.

    >>> area(312.44), area(4.8)
    ('312 m²', '4.8 m²')
    """
    return f"{significant(value, 3 if value >= 100 else 2)} m²"


def certainty(score: float) -> str:
    """Return a probability as people say it; never "100 % sure", never "0 % sure".

    >>> certainty(0.97), certainty(0.999), certainty(0.001)
    ('97 % sure', 'over 99 % sure', 'under 1 % sure')
    """
    if score > _SURE:
        return "over 99 % sure"
    if score < 1 - _SURE:
        return "under 1 % sure"
    return f"{100 * score:.0f} % sure"


def round_length(limit: float) -> float:
    """Return the largest of 1, 2, 5 × 10ⁿ that is at most ``limit`` (> 0).

    >>> [round_length(v) for v in (7.0, 34.0, 0.19, 1000.0)]
    [5.0, 20.0, 0.1, 1000.0]
    """
    power = math.floor(math.log10(limit) + 1e-9)
    for step in (5.0, 2.0, 1.0):
        if step * 10.0**power <= limit * (1 + 1e-9):
            return float(f"{step * 10.0**power:.0e}")
    return float(f"{10.0**power:.0e}")


def distance(value: float) -> str:
    """Return a round length for a scale bar, in the unit that keeps it short.

    >>> distance(2000.0), distance(50.0), distance(0.2)
    ('2 km', '50 m', '20 cm')
    """
    if value >= 1000:
        return f"{value / 1000:g} km"
    return f"{value:g} m" if value >= 1 else f"{value * 100:g} cm"


def survey_name(name: str, fallback: str, limit: int = 28) -> str:
    """Return a file's name, shortened in the middle so that both ends stay readable.

    >>> survey_name("/data/2015/pre.laz", "pre"), survey_name("", "pre")
    ('pre.laz', 'pre')
    >>> survey_name("a_very_long_name_of_a_survey_file_2015.laz", "pre", 20)
    'a_very_lo…e_2015.laz'
    """
    text = " ".join(PurePath(name).name.split()) or fallback
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"
