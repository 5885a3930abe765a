"""A piece of a recorded trace as a recording of its own, to be changed by tests.

`w1` holds two exact snapshots 400 events apart, with a reporting pass between them: enough to see
that a check succeeds, and small enough to spoil it in many ways.
"""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"
FIRST_LINE = 12_440
"""Of w1's trace: some allocations before its first exact snapshot."""
LAST_LINE = 12_900
"""Behind the second one."""
FIRST_CAPTURE = 12_469 - FIRST_LINE
"""Index in `lines` of the first truth_capture."""
VERSION = "Linux version 6.1.0-56-amd64 (gcc-12) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2"

_SNAP = re.compile(r"=== SNAP .*")


@dataclass
class Slice:
    """Lines of a trace, and its exact snapshots as lists of lines; `write` makes the folder."""

    lines: list[str]
    snapshots: list[list[str]]
    version: str = VERSION
    heading: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """The recording in a folder, as the recorder would leave it."""
        text = "".join(f"{line}\n" for line in [*self.heading, *self.lines])
        (folder / "trace.txt").write_text(text)
        series = [f"{line}\n" for snapshot in self.snapshots for line in snapshot]
        (folder / "snaps.txt").write_text("".join(series))
        (folder / "meta.txt").write_text(f"== version\n{self.version}\n")
        return folder

    def find(self, text: str, start: int = FIRST_CAPTURE) -> int:
        """Index of the first line from `start` on that holds a text."""
        return next(i for i in range(start, len(self.lines)) if text in self.lines[i])

    def allocations(self, start: int, end: int | None = None) -> int:
        """Allocations in a run of lines."""
        return sum(": mm_page_alloc: " in line for line in self.lines[start:end])


def _unpacked(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") as file:
        for line in file:
            yield line.rstrip("\n")


def exact_snapshots(name: str, number: int) -> list[list[str]]:
    """The first exact snapshots of a recording, each with its `=== SNAP` line."""
    found: list[list[str]] = []
    heading = ""
    exact = False
    for line in _unpacked(RECORDINGS / name / "snaps.txt.gz"):
        if _SNAP.fullmatch(line):
            heading, exact = line, False
            if len(found) == number:
                break
        elif line.startswith("--- "):
            exact = line == "--- truth_free"
            if exact:
                found.append([heading])
        if exact:
            found[-1].append(line)
    return found


def slice_of_w1() -> Slice:
    """The piece of w1, as it was recorded."""
    return slice_of("w1", FIRST_LINE, LAST_LINE, snapshots=2)


def slice_of(name: str, first_line: int, last_line: int, *, snapshots: int) -> Slice:
    """Lines of a recording's trace, and its first exact snapshots."""
    numbered = enumerate(_unpacked(RECORDINGS / name / "trace.txt.gz"), start=1)
    lines = [
        line
        for number, line in takewhile(lambda item: item[0] <= last_line, numbered)
        if number >= first_line
    ]
    return Slice(lines, exact_snapshots(name, snapshots))
