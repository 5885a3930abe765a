"""A table of OOM runs: `per_run.csv`, one line per run, and what it says was done and counted.

Columns are found by name (tests/recordings/README.md, "OOM table"). A run whose line cannot be
right, or contradicts itself, is a fault and left out; reading goes on behind it. What `window`
means: a number is how many milliseconds the report callback of a stand-in device sleeps, `off` is
no device; anything else is some other device, and its runs measure something else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, excerpt, whole_number
from pagesoak.base.units import MIB, NS_PER_MS, NS_PER_SECOND, PAGE_SIZE_BYTES
from pagesoak.study.fidelity_result import Fault

OFF = "off"
"""Window of a run without a reporting device."""

PAGES_PER_MIB = MIB // PAGE_SIZE_BYTES
WINDOW_MS_MAX = 3_600_000
"""A callback that sleeps longer than an hour is a slip of the pen."""
SECONDS_MAX = 86_400
"""No run of a table is longer than a day."""
MIB_MAX = 1 << 24
JITTER_PERCENT_MAX = 100
BURSTS_MAX = 1_000_000

_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_NEEDED = (
    "table", "boot", "run", "window", "free_mib", "burst_mib", "hold_ms", "gap_ms", "secs",
    "seed", "thp", "jitter", "bursts_done", "oom_kills",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run's load was told to do: pages, ns; with huge pages or without."""

    free_pages: int
    burst_pages: int
    jitter_percent: int
    hold_ns: int
    gap_ns: int
    run_ns: int
    thp: bool


class OomRun(NamedTuple):
    """One line: a run of `window` under `conditions`, the `seed`-th of its kind, and its counts.

    `bursts` were begun, `kills` of them ended by the OOM killer. `stalls`, `calls`,
    `reported_pages` and `call_ms` (mean) are None where there is no such column or no value.
    """

    table: str
    boot: str
    window: str
    seed: str
    conditions: Conditions
    bursts: int
    kills: int
    stalls: int | None
    calls: int | None
    reported_pages: int | None
    call_ms: Decimal | None
    touch_ms: Decimal | None
    """Median time to touch a whole burst."""
    line: int

    @property
    def window_ms(self) -> int | None:
        """What the callback sleeps; None without a device, or with another one."""
        return int(self.window) if self.window.isdecimal() else None

    @property
    def is_stand_in(self) -> bool:
        """Whether the run is one of a stand-in device, or of none."""
        return self.window == OFF or self.window.isdecimal()


class OomTable(NamedTuple):
    """The runs in the file's order, and what is wrong with the others."""

    runs: tuple[OomRun, ...]
    faults: tuple[Fault, ...]


def read_oom_table(path: Path) -> OomTable:
    """Read the runs. Raises InputError when the file cannot be read, or lacks a column."""
    text = TextFile(path)
    runs: list[OomRun] = []
    faults: list[Fault] = []
    seen: dict[tuple[str, str, str], int] = {}
    lines = iter(text)
    columns = _columns(lines, text)
    while True:
        try:
            number, line = next(lines)
            if not line:
                continue
            named = _named(line, number, columns, text)
            run = _run(named, number, text)
            _check_new(named, number, seen, text)
            runs.append(run)
        except StopIteration:
            break
        except InputError as error:
            faults.append(Fault.of(error))
            if error.message.startswith(("the line is cut off", "the gzip", "cannot be read")):
                break
    return OomTable(tuple(runs), tuple(faults))


def _columns(lines: Iterator[tuple[int, str]], text: TextFile) -> list[str]:
    try:
        number, line = next(lines)
    except StopIteration:
        raise text.error("is empty") from None
    columns = line.split(",")
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise text.error(f"no column {', '.join(missing)}", number)
    if len(set(columns)) < len(columns):
        raise text.error("a column stands there twice", number)
    return columns


def _named(line: str, number: int, columns: list[str], text: TextFile) -> dict[str, str]:
    fields = line.split(",")
    if len(fields) != len(columns):
        message = f"expected {len(columns)} fields, found {len(fields)}: {excerpt(line)}"
        raise text.error(message, number)
    return dict(zip(columns, fields, strict=True))


def _check_new(
    named: dict[str, str], number: int, seen: dict[tuple[str, str, str], int], text: TextFile
) -> None:
    key = named["table"], named["boot"], named["run"]
    if key in seen:
        raise text.error(f"run {key[2]} of boot {key[1]} stands in line {seen[key]} too", number)
    seen[key] = number


class _Fields:
    """The fields of one line, read by name."""

    def __init__(self, named: dict[str, str], line: int, text: TextFile) -> None:
        self._named = named
        self._line = line
        self._text = text

    def text(self, name: str) -> str:
        value = self._named[name]
        if not value:
            raise self._text.error(f"{name} is empty", self._line)
        return value

    def whole(self, name: str, limit: int) -> int:
        value = whole_number(self._named[name], name, file=self._text.name, line=self._line)
        if value > limit:
            raise self._text.error(f"{name} is {value}, at most {limit}", self._line)
        return value

    def decimal(self, name: str, limit: int) -> Decimal:
        text = self._named[name]
        if not _DECIMAL.fullmatch(text):
            raise self._text.error(f"{name} is no number: {excerpt(text)}", self._line)
        if Decimal(text) > limit:
            raise self._text.error(f"{name} is {text}, at most {limit}", self._line)
        return Decimal(text)

    def scaled(self, name: str, limit: int, unit: int) -> int:
        return int(self.decimal(name, limit) * unit)

    def total(self, prefix: str) -> int | None:
        names = [name for name in self._named if name.startswith(prefix)]
        return sum(self.whole(name, BURSTS_MAX) for name in names) if names else None

    def optional(self, name: str) -> Decimal | None:
        return self.decimal(name, 1 << 40) if self._named.get(name) else None


def _conditions(fields: _Fields) -> Conditions:
    return Conditions(
        free_pages=fields.scaled("free_mib", MIB_MAX, PAGES_PER_MIB),
        burst_pages=fields.scaled("burst_mib", MIB_MAX, PAGES_PER_MIB),
        jitter_percent=fields.whole("jitter", JITTER_PERCENT_MAX),
        hold_ns=fields.scaled("hold_ms", SECONDS_MAX * 1000, NS_PER_MS),
        gap_ns=fields.scaled("gap_ms", SECONDS_MAX * 1000, NS_PER_MS),
        run_ns=fields.scaled("secs", SECONDS_MAX, NS_PER_SECOND),
        thp=fields.whole("thp", 1) == 1,
    )


def _run(named: dict[str, str], line: int, text: TextFile) -> OomRun:
    fields = _Fields(named, line, text)
    conditions = _conditions(fields)
    for name, value in (("burst_mib", conditions.burst_pages), ("secs", conditions.run_ns)):
        if value <= 0:
            raise text.error(f"{name} is 0", line)
    window = fields.text("window")
    if window.isdecimal():
        fields.whole("window", WINDOW_MS_MAX)
    kills = fields.whole("oom_kills", BURSTS_MAX)
    counted = fields.optional("oom_kill_vmstat")
    if counted is not None and counted != kills:
        raise text.error(f"oom_kills is {kills}, oom_kill_vmstat {counted}", line)
    calls = fields.optional("report_calls")
    pages = fields.optional("reported_pages")
    return OomRun(
        table=fields.text("table"),
        boot=fields.text("boot"),
        window=window,
        seed=fields.text("seed"),
        conditions=conditions,
        bursts=fields.whole("bursts_done", BURSTS_MAX) + kills,
        kills=kills,
        stalls=fields.total("allocstall_"),
        calls=None if calls is None else int(calls),
        reported_pages=None if pages is None else int(pages),
        call_ms=fields.optional("mean_call_ms"),
        touch_ms=fields.optional("median_touch_ms"),
        line=line,
    )
