"""Typed pointers to the sections of a segment: what compiled code is handed to work on.

`base.native` says why it is done this way; where everything lies is `base.layout`.
"""

from typing import NamedTuple

from pagesoak.base.layout import H_OFFSETS, Section
from pagesoak.base.native import Words, int8_at, int32_at, int64_at, leaf

_ZONES = H_OFFSETS + Section.ZONES
_PAGESETS = H_OFFSETS + Section.PAGESETS
_REPORT = H_OFFSETS + Section.REPORT
_WORKERS = H_OFFSETS + Section.WORKERS
_LOADS = H_OFFSETS + Section.LOADS
_BLOCKS = H_OFFSETS + Section.BLOCKS
_PAGES = H_OFFSETS + Section.PAGES
_TABLES = H_OFFSETS + Section.TABLES
_REPLAY = H_OFFSETS + Section.REPLAY


class Core(NamedTuple):
    """Typed pointers to the sections, made inside each compiled entry by `open_core`."""

    base: int
    header: Words
    zones: Words
    pagesets: Words
    report: Words
    workers: Words
    loads: Words
    blocks: Words
    pages: Words
    tables: Words
    replay: Words


@leaf
def open_core(base: int) -> Core:
    """The core that lies at address `base`."""
    header = int64_at(base)
    return Core(
        base,
        header,
        int64_at(base + header[_ZONES]),
        int64_at(base + header[_PAGESETS]),
        int64_at(base + header[_REPORT]),
        int64_at(base + header[_WORKERS]),
        int64_at(base + header[_LOADS]),
        int8_at(base + header[_BLOCKS]),
        int32_at(base + header[_PAGES]),
        int32_at(base + header[_TABLES]),
        int64_at(base + header[_REPLAY]),
    )
