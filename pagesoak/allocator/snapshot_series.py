"""A series of snapshots in one text, as the recorder of the committed recordings writes it.

Each `=== SNAP n` holds sections: /proc/buddyinfo first, then `--- vmstat`, and now and then
`--- truth_free` with the exact free lists; only those are read here.
"""

import re
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import FreeListReader
from pagesoak.base.textfile import TextFile, excerpt


class NumberedSnapshot(NamedTuple):
    """A snapshot of a series: its `=== SNAP n`, the time that line names, the exact lists."""

    number: int
    snap_t_ns: int
    snapshot: FreeListSnapshot


_SNAP = re.compile(r"=== SNAP ([0-9]{1,9}) t_ns=([0-9]{1,18})")
_SECTION = re.compile(r"--- (\w+)")


def read_snapshots(path: str | Path) -> tuple[NumberedSnapshot, ...]:
    """The exact snapshots of a series (`snaps.txt`, plain or gzip), in its order.

    What stands between them (/proc/buddyinfo, vmstat) is skipped. Raises `InputError`.
    """
    text = TextFile(path)
    found: list[NumberedSnapshot] = []
    snap: tuple[int, int] | None = None
    reader: FreeListReader | None = None

    def finish() -> None:
        if reader is not None and snap is not None:
            found.append(NumberedSnapshot(*snap, reader.finish()))

    for number, line in text:
        if line.startswith("=== "):
            finish()
            match = _SNAP.fullmatch(line)
            if match is None:
                raise text.error(f"expected `=== SNAP n t_ns=…`, found {excerpt(line)}", number)
            snap = int(match[1]), int(match[2])
            reader = None
        elif snap is None:
            raise text.error("text before the first `=== SNAP`", number)
        elif section := _SECTION.fullmatch(line):
            finish()
            reader = FreeListReader(text.name) if section[1] == "truth_free" else None
        elif reader is not None:
            reader.feed(number, line)
    finish()
    return tuple(found)
