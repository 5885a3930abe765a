"""Units: what is written reads back as itself, and no text raises anything but `InputError`."""

import contextlib
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesoak.base.errors import InputError
from pagesoak.base.units import (
    INT64_MAX,
    PAGE_SHIFT,
    format_duration,
    format_size,
    parse_duration_ns,
    parse_pages,
    parse_size_bytes,
)

BYTES_OF = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
NS_OF = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
VALUES = st.integers(min_value=0, max_value=INT64_MAX)
ROUND_VALUES = st.builds(
    lambda value, shift: value << shift, st.integers(0, 99), st.integers(0, 50)
)
NEARLY_RIGHT = st.text(alphabet="0123456789. -+_eTGMKiBpsmnudh\n٣", max_size=80)
DECIMALS = st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,9})?", fullmatch=True)


@given(VALUES | ROUND_VALUES)
def test_a_size_reads_back(size_bytes: int) -> None:
    assert parse_size_bytes(format_size(size_bytes)) == size_bytes


@given(VALUES | ROUND_VALUES)
def test_a_duration_reads_back(duration_ns: int) -> None:
    assert parse_duration_ns(format_duration(duration_ns)) == duration_ns


@given(st.integers(min_value=0, max_value=INT64_MAX >> PAGE_SHIFT))
def test_pages_read_back(pages: int) -> None:
    assert parse_pages(f"{pages}p") == parse_pages(format_size(pages << PAGE_SHIFT)) == pages


@given(DECIMALS, st.sampled_from(sorted(BYTES_OF)))
def test_sizes_are_exact(number: str, unit: str) -> None:
    exactly_equals(parse_size_bytes, number, unit, BYTES_OF[unit])


@given(DECIMALS, st.sampled_from(sorted(NS_OF)))
def test_durations_are_exact(number: str, unit: str) -> None:
    exactly_equals(parse_duration_ns, number, unit, NS_OF[unit])


def exactly_equals(parse: Callable[[str], int], number: str, unit: str, scale: int) -> None:
    """`parse` gives the exact product, and refuses exactly what is not whole or too much."""
    wanted = Fraction(number) * scale
    if wanted.denominator == 1 and wanted <= INT64_MAX:
        assert parse(number + unit) == wanted
    else:
        with pytest.raises(InputError):
            parse(number + unit)


@pytest.mark.parametrize("parse", [parse_size_bytes, parse_duration_ns, parse_pages])
@given(text=st.text() | NEARLY_RIGHT)
def test_nothing_but_input_errors(parse: Callable[[str], int], text: str) -> None:
    with contextlib.suppress(InputError):
        assert 0 <= parse(text) <= INT64_MAX
