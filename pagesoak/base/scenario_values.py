"""Single values of a scenario file: from what TOML gives to what the models hold, and back.

Readers take any value and raise `ValueError` with a message for people; `toml_value` is their
exact inverse.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pagesoak.base.errors import InputError
from pagesoak.base.faults import FAULTS
from pagesoak.base.scenario_file import TomlFloat
from pagesoak.base.units import format_duration, format_size, parse_duration_ns, parse_size_bytes

Reader = Callable[[object], int]

SPEED_RECORDED_PPM = 1_000_000  # by the recording's own clock
SPEED_FAST_PPM = 0  # as fast as it goes
SPEED_MIN_PPM = 1_000  # a thousandth
SPEED_MAX_PPM = 1_000_000_000  # a thousandfold; beyond, "fast" says it better

THP_ORDER = 9
ORDERS = 11  # orders 0 to 10
WEIGHT_MAX = 1_000_000  # enough for shares of one in a million

_FACTOR = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?")


def size(least: int, most: int, multiple: int = 1) -> Reader:
    """A reader of sizes in bytes from `least` to `most`, in whole `multiple`s."""

    def read(value: object) -> int:
        size_bytes = _with_unit(value, parse_size_bytes, '"512MiB"')
        _check_range(size_bytes, least, most, format_size)
        if size_bytes % multiple:
            raise ValueError(
                f"must be a multiple of {format_size(multiple)}, not {format_size(size_bytes)}"
            )
        return size_bytes

    return read


def duration(least: int, most: int) -> Reader:
    """A reader of durations in nanoseconds from `least` to `most`."""

    def read(value: object) -> int:
        duration_ns = _with_unit(value, parse_duration_ns, '"150ms"')
        _check_range(duration_ns, least, most, format_duration)
        return duration_ns

    return read


def _with_unit(value: object, parse: Callable[[str], int], example: str) -> int:
    if not isinstance(value, str):
        raise ValueError(f"must be a text with a unit, like {example}")  # noqa: TRY004 - pydantic's way
    try:
        return parse(value)
    except InputError as error:
        raise ValueError(error.message) from error


def _check_range(value: int, least: int, most: int, shown: Callable[[int], str]) -> None:
    if not least <= value <= most:
        raise ValueError(f"must be from {shown(least)} to {shown(most)}, not {shown(value)}")


def replay_speed_ppm(value: object) -> int:
    """The speed of a replay in exact parts per million of the recorded one; 0 is unlimited."""
    if value == "recorded":
        return SPEED_RECORDED_PPM
    if value == "fast":
        return SPEED_FAST_PPM
    text = value.text.replace("_", "") if isinstance(value, TomlFloat) else str(value)
    match = _FACTOR.fullmatch(text) if type(value) in (str, int, TomlFloat) else None
    if match is None:
        raise ValueError(
            'must be "recorded", "fast", or a factor with up to six decimals, like 2.5'
        )
    whole, decimals = match.groups()
    speed_ppm = int(whole) * SPEED_RECORDED_PPM + int((decimals or "").ljust(6, "0"))
    if not SPEED_MIN_PPM <= speed_ppm <= SPEED_MAX_PPM:
        raise ValueError(f"must be a factor from 0.001 to 1000, not {text}")
    return speed_ppm


def order_weights(value: object) -> tuple[int, ...]:
    """Weights of the orders 0 to 10, from a list that may stop early (the rest is 0)."""
    if not isinstance(value, list) or not 1 <= len(value) <= ORDERS:
        raise ValueError(f"must be a list of 1 to {ORDERS} weights, for the orders from 0 up")
    if not all(type(weight) is int and 0 <= weight <= WEIGHT_MAX for weight in value):
        raise ValueError(f"each weight must be a whole number from 0 to {WEIGHT_MAX}")
    if not any(value):
        raise ValueError("at least one weight must be more than 0")
    return tuple(value + [0] * (ORDERS - len(value)))


def burst_order(value: object) -> int:
    """The order a burst is taken in: single pages, or huge pages first."""
    if type(value) is not int or value not in (0, THP_ORDER):
        raise ValueError(f"must be 0 or {THP_ORDER}")
    return value


def fault_kinds(value: object) -> tuple[str, ...]:
    """Kinds of faults, from a list of their names; one that stands twice comes twice as often."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of kinds of faults")
    for kind in value:
        if kind not in FAULTS:
            raise ValueError(f"must be of {', '.join(FAULTS)}, not {kind!r}")
    return tuple(value)


def toml_value(name: str, value: Any) -> Any:
    """What the file says for attribute `name` with `value`; its end tells the unit."""
    if value is None:
        return None
    if name.endswith("_bytes"):
        return format_size(value)
    if name.endswith("_ns"):
        return format_duration(value)
    if name == "speed_ppm":
        return _speed_text(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _speed_text(speed_ppm: int) -> str:
    if speed_ppm in (SPEED_RECORDED_PPM, SPEED_FAST_PPM):
        return "recorded" if speed_ppm else "fast"
    whole, decimals = divmod(speed_ppm, SPEED_RECORDED_PPM)
    return f"{whole}.{decimals:06}"
