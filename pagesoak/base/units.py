"""Sizes, durations and page counts as people write them, in exact integer arithmetic.

A text such as "512MiB", "1.5s" or "33614p" becomes a whole number of bytes, nanoseconds or pages,
or an `InputError`; no float is involved, so what is written back reads as what was given. Sizes
are binary: `K`, `M`, `G` and `T` mean the same as `KiB`, `MiB`, `GiB` and `TiB`, as on a kernel
command line (`mem=512M`) and in QEMU (`-m 512M`). `KB`, `MB` and the like, which mean 1000 to some
and 1024 to others, are refused.
"""

import re

from pagesoak.base.errors import InputError

PAGE_SHIFT = 12  # x86-64 base pages, the only ones modelled
PAGE_SIZE_BYTES = 1 << PAGE_SHIFT

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_SECOND = 1_000_000_000
NS_PER_MINUTE = 60 * NS_PER_SECOND
NS_PER_HOUR = 60 * NS_PER_MINUTE
NS_PER_DAY = 24 * NS_PER_HOUR

INT64_MAX = (1 << 63) - 1  # every figure has to fit a signed 64-bit field of the segment
TEXT_LENGTH_MAX = 64  # no sensible figure is longer; bounds the work on hostile input

_SIZE_UNITS = {"TiB": TIB, "GiB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}
_SIZE_SYNONYMS = {"T": TIB, "G": GIB, "M": MIB, "K": KIB}
_DURATION_UNITS = {
    "d": NS_PER_DAY,
    "h": NS_PER_HOUR,
    "m": NS_PER_MINUTE,
    "s": NS_PER_SECOND,
    "ms": NS_PER_MS,
    "us": NS_PER_US,
    "ns": 1,
}
_DECIMAL_UNITS = ("s", "ms", "us", "ns")  # a decimal of these always ends

_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))? ?([A-Za-z]+)")
_DURATION_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?([a-z]+)")
_DURATION_PARTS = re.compile(r"(?:[0-9]+[a-z]+)*[0-9]+(?:\.[0-9]+)? ?[a-z]+")
_PAGES = re.compile(r"([0-9]+) ?p")

_SIZE_HINT = 'write a number and one of B, KiB, MiB, GiB, TiB, like "512MiB"'
_DURATION_HINT = 'write a number and one of ns, us, ms, s, m, h, d, like "150ms" or "1h30m"'
_PAGES_HINT = 'write a number of pages like "33614p", or a size like "512MiB"'


def parse_size_bytes(text: str) -> int:
    """Bytes meant by `text` ("512MiB", "1.5GiB", "64K", "0"), 0 to 2^63 - 1, or `InputError`."""
    _check_length(text, "a size", _SIZE_HINT)
    if text == "0":
        return 0
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _not_understood(text, "a size", _SIZE_HINT)
    whole, decimals, unit = match.groups()
    unit_bytes = _SIZE_UNITS.get(unit) or _SIZE_SYNONYMS.get(unit)
    if unit_bytes is None:
        raise InputError(f"{text!r} has no known unit of size: {_SIZE_HINT}")
    return _checked(text, _scaled(text, whole, decimals, unit_bytes, "bytes"), "8EiB")


def parse_duration_ns(text: str) -> int:
    """Nanoseconds meant by `text`, 0 to 2^63 - 1 (292 years); `InputError` otherwise.

    "2s", "150ms", "1.5s", "20us", "5m", "30d", "0"; or several parts from the largest unit down,
    "1h30m", of which only the last may have decimals.
    """
    _check_length(text, "a duration", _DURATION_HINT)
    if text == "0":
        return 0
    if _DURATION_PARTS.fullmatch(text) is None:
        raise _not_understood(text, "a duration", _DURATION_HINT)
    total_ns = 0
    larger_ns: int | None = None
    for match in _DURATION_PART.finditer(text.replace(" ", "")):
        whole, decimals, unit = match.groups()
        unit_ns = _DURATION_UNITS.get(unit)
        if unit_ns is None:
            raise InputError(f"{text!r} has no known unit of time: {_DURATION_HINT}")
        if larger_ns is not None and unit_ns >= larger_ns:
            raise InputError(f"{text!r}: the parts must go from the largest unit down, each once")
        larger_ns = unit_ns
        total_ns += _scaled(text, whole, decimals, unit_ns, "nanoseconds")
    return _checked(text, total_ns, "292 years")


def parse_pages(text: str) -> int:
    """Pages of 4 KiB meant by `text`: a count ("33614p") or a size of whole pages ("512MiB")."""
    _check_length(text, "a number of pages", _PAGES_HINT)
    match = _PAGES.fullmatch(text)
    if match is not None:
        pages = int(match.group(1))
        _checked(text, pages << PAGE_SHIFT, "8EiB")
        return pages
    if text != "0" and (text.endswith("p") or _SIZE.fullmatch(text) is None):
        raise _not_understood(text, "a number of pages", _PAGES_HINT)
    size_bytes = parse_size_bytes(text)
    if size_bytes % PAGE_SIZE_BYTES:
        raise InputError(f"{text!r} is not a whole number of pages of {PAGE_SIZE_BYTES} bytes")
    return size_bytes >> PAGE_SHIFT


def format_size(size_bytes: int) -> str:
    """`size_bytes` in the largest unit that divides it; `parse_size_bytes` reads it back."""
    sign, magnitude = _split(size_bytes)
    for unit, unit_bytes in _SIZE_UNITS.items():
        if magnitude >= unit_bytes and magnitude % unit_bytes == 0:
            return f"{sign}{magnitude // unit_bytes}{unit}"
    return "0B"


def format_duration(duration_ns: int) -> str:
    """`duration_ns` in one unit, with decimals in seconds or less ("90s", "1.5s", "30d").

    Exact: `parse_duration_ns` reads exactly it back.
    """
    sign, magnitude = _split(duration_ns)
    for unit, unit_ns in _DURATION_UNITS.items():
        whole, rest = divmod(magnitude, unit_ns)
        if whole == 0 or (rest and unit not in _DECIMAL_UNITS):
            continue
        decimals = str(rest).zfill(len(str(unit_ns)) - 1).rstrip("0") if rest else ""
        return f"{sign}{whole}{'.' if decimals else ''}{decimals}{unit}"
    return "0s"


def _scaled(text: str, whole: str, decimals: str | None, unit: int, noun: str) -> int:
    """`whole.decimals` times `unit`, which must come out whole."""
    digits = decimals or ""
    value, rest = divmod(int(whole + digits) * unit, int("1" + "0" * len(digits)))
    if rest:
        raise InputError(f"{text!r} is not a whole number of {noun}")
    return value


def _checked(text: str, value: int, limit: str) -> int:
    if value > INT64_MAX:
        raise InputError(f"{text!r} is too much: it must stay below {limit}")
    return value


def _check_length(text: str, what: str, hint: str) -> None:
    if len(text) > TEXT_LENGTH_MAX:
        raise _not_understood(text[:TEXT_LENGTH_MAX] + "...", what, hint)


def _not_understood(text: str, what: str, hint: str) -> InputError:
    if text.startswith("-"):
        return InputError(f"{text!r} is negative: {what} is 0 or more")
    if text.isascii() and text.isdecimal():
        return InputError(f"{text!r} has no unit: {hint}")
    return InputError(f"{text!r} is not {what}: {hint}")


def _split(value: int) -> tuple[str, int]:
    return ("-", -value) if value < 0 else ("", value)
