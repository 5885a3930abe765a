"""The bursts of one recorded run: `raw/T_wW_sS.burst.csv`, and what can be told from their times.

    event,t_ns,burst,mib,free_pages_at_begin,touch_ns
    done,3328960189,1,100.000,35369,87810255
    oomkill,12795115913,8,100.000,11501,70947116

`t_ns` is a burst's begin. `touch_ns` of one that was done is the time to touch all of it; of one
that was killed it is how long it took until the process was seen dead.

From bursts that were done the time to touch a page is read; and from the shortest time between the
end of a hold and the next begin, how long giving back takes at most. Begins and ends give the
pauses: what the load asked for, whatever the kernel made of it.
"""

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, excerpt, whole_number
from pagesoak.study.oom_table import PAGES_PER_MIB, OomRun
from pagesoak.study.recording_meta import find_file

COLUMNS = ("event", "t_ns", "mib", "free_pages_at_begin", "touch_ns")
EVENTS = ("done", "oomkill")

_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class RecordedBurst(NamedTuple):
    """One burst: when it began, ns; pages; how long until it was touched, or seen dead."""

    began_ns: int
    pages: int
    free_pages: int
    touch_ns: int
    killed: bool


class Requests(NamedTuple):
    """What the load of a run asked for, one by one: pauses before bursts, and their sizes."""

    pauses_ns: tuple[int, ...]
    sizes_pages: tuple[int, ...]


def find_bursts(folder: Path, run: OomRun) -> Path | None:
    """The file with a run's bursts."""
    return find_file(folder / "raw", f"{run.table}_w{run.window}_s{run.seed}.burst.csv")


def read_bursts(path: Path) -> list[RecordedBurst]:
    """Read a run's bursts. Raises InputError with file and line."""
    text = TextFile(path)
    lines = iter(text)
    number, header = next(lines, (1, ""))
    columns = header.split(",")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise text.error(f"no column {', '.join(missing)}", number)
    bursts: list[RecordedBurst] = []
    for number, line in lines:
        fields = line.split(",")
        if len(fields) != len(columns):
            message = f"expected {len(columns)} fields, found {len(fields)}: {excerpt(line)}"
            raise text.error(message, number)
        burst = _burst(dict(zip(columns, fields, strict=True)), number, text)
        if bursts and burst.began_ns < bursts[-1].began_ns + bursts[-1].touch_ns:
            raise text.error("it begins before the last one was touched", number)
        bursts.append(burst)
    return bursts


def _burst(named: dict[str, str], line: int, text: TextFile) -> RecordedBurst:
    event, mib = named["event"], named["mib"]
    if event not in EVENTS:
        raise text.error(f"unknown event {excerpt(event)}", line)
    if not _DECIMAL.fullmatch(mib):
        raise text.error(f"mib is no number: {excerpt(mib)}", line)
    began, free, touch = (
        whole_number(named[name], name, file=text.name, line=line)
        for name in ("t_ns", "free_pages_at_begin", "touch_ns")
    )
    pages = int(Decimal(mib) * PAGES_PER_MIB)
    return RecordedBurst(began, pages, free, touch, event == "oomkill")


def check_counts(run: OomRun, bursts: list[RecordedBurst], path: Path) -> None:
    """InputError when a run's bursts are not those that the table counts."""
    kills = sum(burst.killed for burst in bursts)
    if kills != run.kills or len(bursts) != run.bursts:
        message = (
            f"{len(bursts)} bursts, {kills} killed; per_run.csv says {run.bursts}, {run.kills}"
        )
        raise InputError(message, file=path)


def touch_page_ns(runs: list[list[RecordedBurst]]) -> int | None:
    """Median time to touch a page, of all bursts that were done; None when none was."""
    times = [
        burst.touch_ns // burst.pages
        for bursts in runs
        for burst in bursts
        if not burst.killed and burst.pages
    ]
    return median_low(times) if times else None


def _rests_ns(bursts: list[RecordedBurst], hold_ns: int) -> list[int]:
    """From the end of each burst's hold, or from when its process was seen dead, to the next."""
    rests = []
    for burst, following in pairwise(bursts):
        held_ns = 0 if burst.killed else hold_ns
        rests.append(max(following.began_ns - burst.began_ns - burst.touch_ns - held_ns, 0))
    return rests


def give_back_ns(runs: list[list[RecordedBurst]], hold_ns: int, gap_ns: int) -> int:
    """How long giving a burst back takes, from the shortest time between the end of a hold and the
    next begin; 0 when nothing tells.

    That time has a pause in it, the shortest of so many exponential ones around `gap_ns`: it is
    taken to be as long as such a one is on average.
    """
    rests = [
        rest
        for bursts in runs
        for burst, rest in zip(bursts, _rests_ns(bursts, hold_ns), strict=False)
        if not burst.killed
    ]
    return max(min(rests) - gap_ns // len(rests), 0) if rests else 0


def requests_of(
    bursts: list[RecordedBurst], hold_ns: int, unmap_ns: int, first_pause_ns: int
) -> Requests:
    """The requests of a run: its pauses, without the time that giving back takes, and its sizes.

    `first_pause_ns` is the pause before the first burst, which its begin alone does not tell.
    """
    pauses = [first_pause_ns]
    for burst, rest_ns in zip(bursts, _rests_ns(bursts, hold_ns), strict=False):
        pauses.append(rest_ns if burst.killed else max(rest_ns - unmap_ns, 0))
    return Requests(tuple(pauses), tuple(burst.pages for burst in bursts))
