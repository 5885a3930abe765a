"""Sizes, durations and page counts: what is read, what is refused, and how it is written."""

import pytest

from pagesoak.base.errors import InputError
from pagesoak.base.units import (
    GIB,
    INT64_MAX,
    KIB,
    MIB,
    NS_PER_DAY,
    NS_PER_HOUR,
    NS_PER_MINUTE,
    NS_PER_MS,
    NS_PER_SECOND,
    NS_PER_US,
    PAGE_SHIFT,
    PAGE_SIZE_BYTES,
    TIB,
    format_duration,
    format_size,
    parse_duration_ns,
    parse_pages,
    parse_size_bytes,
)


def test_a_page() -> None:
    assert PAGE_SIZE_BYTES == 4096 == 1 << PAGE_SHIFT


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("0B", 0),
        ("1B", 1),
        ("4KiB", 4 * KIB),
        ("512MiB", 512 * MIB),
        ("512 MiB", 512 * MIB),
        ("1.5GiB", 1536 * MIB),
        ("0.5KiB", 512),
        ("2TiB", 2 * TIB),
        ("64K", 64 * KIB),
        ("512M", 512 * MIB),
        ("8G", 8 * GIB),
        ("1T", TIB),
        ("9223372036854775807B", INT64_MAX),
        ("8388607.999999999999TiB", None),
    ],
)
def test_sizes_read(text: str, size_bytes: int | None) -> None:
    if size_bytes is None:
        with pytest.raises(InputError, match="not a whole number of bytes"):
            parse_size_bytes(text)
    else:
        assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a size"),
        ("512", "has no unit"),
        ("512MB", "no known unit of size"),
        ("512mib", "no known unit of size"),
        ("512m", "no known unit of size"),
        ("1e3MiB", "is not a size"),
        ("-1MiB", "is negative"),
        ("+1MiB", "is not a size"),
        ("nan", "is not a size"),
        ("infMiB", "is not a size"),
        ("MiB", "is not a size"),
        ("1.MiB", "is not a size"),
        (".5MiB", "is not a size"),
        ("1,5GiB", "is not a size"),
        ("1.5B", "not a whole number of bytes"),
        ("0.3KiB", "not a whole number of bytes"),
        ("9223372036854775808B", "too much"),
        ("8388608TiB", "too much"),
        ("٣MiB", "is not a size"),
        ("1\nMiB", "is not a size"),
        ("1MiB\n", "is not a size"),
        ("9" * 100_000, "is not a size"),
    ],
)
def test_sizes_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_size_bytes(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("20us", 20 * NS_PER_US),
        ("150ms", 150 * NS_PER_MS),
        ("1.5s", 1500 * NS_PER_MS),
        ("2s", 2 * NS_PER_SECOND),
        ("2 s", 2 * NS_PER_SECOND),
        ("5m", 5 * NS_PER_MINUTE),
        ("1.5h", 90 * NS_PER_MINUTE),
        ("30d", 30 * NS_PER_DAY),
        ("1h30m", NS_PER_HOUR + 30 * NS_PER_MINUTE),
        ("1d2h3m4s5ms6us7ns", 93_784_005_006_007),
        ("1m0.5s", NS_PER_MINUTE + 500 * NS_PER_MS),
        ("0.1s", 100_000_000),
        ("9223372036854775807ns", INT64_MAX),
    ],
)
def test_durations_read(text: str, duration_ns: int) -> None:
    assert parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a duration"),
        ("2", "has no unit"),
        ("2x", "no known unit of time"),
        ("2sec", "no known unit of time"),
        ("2S", "is not a duration"),
        ("-2s", "is negative"),
        ("nan", "is not a duration"),
        ("1.5ns", "not a whole number of nanoseconds"),
        ("0.0000000001s", "not a whole number of nanoseconds"),
        ("30m1h", "largest unit down"),
        ("1h1h", "largest unit down"),
        ("1.5h30m", "is not a duration"),
        ("1h 30m", "is not a duration"),
        ("9223372036854775808ns", "too much"),
        ("106752d", "too much"),
        ("106751d24h", "too much"),
    ],
)
def test_durations_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_duration_ns(text)


@pytest.mark.parametrize(
    ("text", "pages"),
    [("0", 0), ("0p", 0), ("33614p", 33_614), ("4KiB", 1), ("512MiB", 131_072), ("16K", 4)],
)
def test_pages_read(text: str, pages: int) -> None:
    assert parse_pages(text) == pages


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("33614", "has no unit"),
        ("1.5p", "is not a number of pages"),
        ("-1p", "is negative"),
        ("5000B", "not a whole number of pages"),
        ("1MB", "no known unit of size"),
        ("2251799813685248p", "too much"),
    ],
)
def test_pages_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_pages(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (4097, "4097B"),
        (4 * KIB, "4KiB"),
        (1536 * MIB, "1536MiB"),
        (8 * GIB, "8GiB"),
        (-MIB, "-1MiB"),
    ],
)
def test_sizes_written(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1500, "1.5us"),
        (150 * NS_PER_MS, "150ms"),
        (1_000_000_001, "1.000000001s"),
        (90 * NS_PER_SECOND, "90s"),
        (2 * NS_PER_HOUR, "2h"),
        (-30 * NS_PER_DAY, "-30d"),
    ],
)
def test_durations_written(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text
