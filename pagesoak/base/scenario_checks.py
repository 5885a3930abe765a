"""The checks between the keys of a scenario: what each key alone cannot tell.

They run on views of the tables as the user gave them, in which a key that is wrong in itself has
no value, so that one mistake neither hides another nor is reported twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pagesoak.base.scenario_file import Key
from pagesoak.base.scenario_tables import GUEST_BYTES_MIN, GUEST_BYTES_MULTIPLE
from pagesoak.base.scenario_values import THP_ORDER
from pagesoak.base.units import KIB, MIB, format_size

GUEST_STARTS = ("memory", "snapshot", "recording")
SYNTHETIC_KEYS = ("nodes", "min_free_kbytes", "watermark_scale_factor", "movable")
"""Keys of [guest] for a guest laid out by formulas; a snapshot brings its own zones and marks."""

DMA_ZONE_BYTES = 16 * MIB  # the kernel's own zone at the bottom, which never becomes movable


class Mistake(NamedTuple):
    """One thing wrong with a scenario, and the key it is wrong at."""

    key: Key
    message: str


class TableView(NamedTuple):
    """A table of the file: its place, the keys given, the valid values, the defaults."""

    place: Key
    given: frozenset[str]
    valid: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """The value of `key`: as given, or by default; None if it is wrong, missing, or unset."""
        return self.valid.get(key) if key in self.given else self.defaults.get(key)

    def mistake(self, key: str, message: str) -> Mistake:
        """A mistake at `key` of this table."""
        return Mistake((*self.place, key), message)


def between_keys(guest: TableView, loads: Sequence[TableView]) -> Iterator[Mistake]:
    """Everything wrong between keys of the guest, and between the guest and each load."""
    yield from _guest(guest)
    for load in loads:
        yield from _load_cpu(guest, load)
        match load.get("kind"):
            case "replay":
                yield from _replay(load)
            case "bursts":
                yield from _bursts(guest, load)
            case "steady":
                yield from _steady(guest, load)
            case "files":
                yield from _files(guest, load)


def _guest(guest: TableView) -> Iterator[Mistake]:
    starts = [key for key in GUEST_STARTS if key in guest.given]
    if not starts:
        yield Mistake(guest.place, "one of memory, snapshot and recording must be given")
    for key in starts[1:]:
        yield guest.mistake(key, f"cannot go with {starts[0]}: a guest has one start")
    if starts and "memory" not in starts:
        for key in SYNTHETIC_KEYS:
            if key in guest.given:
                yield guest.mistake(key, f"goes with memory only: here the {starts[0]} says it")
    memory_bytes = guest.get("memory")
    if memory_bytes is None:
        return
    nodes = guest.get("nodes") or 1
    if memory_bytes < nodes * GUEST_BYTES_MIN or memory_bytes % (nodes * GUEST_BYTES_MULTIPLE):
        least = format_size(nodes * GUEST_BYTES_MIN)
        multiple = format_size(nodes * GUEST_BYTES_MULTIPLE)
        needs = f"need guest.memory of at least {least}, a multiple of {multiple}"
        yield guest.mistake("nodes", f"{nodes} nodes {needs}")
    movable_bytes = guest.get("movable")
    if movable_bytes and movable_bytes > memory_bytes - DMA_ZONE_BYTES:
        most = format_size(memory_bytes - DMA_ZONE_BYTES)
        yield guest.mistake("movable", f"must be at most {most}: zone DMA is never movable")
    min_free_kbytes = guest.get("min_free_kbytes")
    if min_free_kbytes is not None and min_free_kbytes * KIB >= memory_bytes:
        all_of_it = format_size(memory_bytes)
        yield guest.mistake("min_free_kbytes", f"must be less than guest.memory ({all_of_it})")


def _load_cpu(guest: TableView, load: TableView) -> Iterator[Mistake]:
    cpu, cpus = load.get("cpu"), guest.get("cpus")
    if cpu is not None and cpus is not None and cpu >= cpus:
        numbers = f"are 0 to {cpus - 1}" if cpus > 1 else "is only 0"
        yield load.mistake("cpu", f"no such vCPU: guest.cpus is {cpus}, so there {numbers}")


def _replay(load: TableView) -> Iterator[Mistake]:
    if "recording" not in load.given and "trace" not in load.given:
        yield Mistake(load.place, "one of recording and trace must be given")
    if "recording" in load.given and "trace" in load.given:
        yield load.mistake("trace", "cannot go with recording: a load replays one trace")


def _bursts(guest: TableView, load: TableView) -> Iterator[Mistake]:
    yield from _below_memory(guest, load, "leave_free")
    memory_bytes = guest.get("memory")
    burst_bytes, jitter_percent = load.get("burst"), load.get("jitter")
    if None not in (memory_bytes, burst_bytes, jitter_percent):
        largest_bytes = burst_bytes * (100 + jitter_percent) // 100
        if largest_bytes > memory_bytes:
            larger = (
                f"grows to {largest_bytes} bytes by its jitter and" if jitter_percent else "it"
            )
            most = format_size(memory_bytes)
            yield load.mistake("burst", f"{larger} must be at most guest.memory ({most})")
    if load.get("order") == THP_ORDER and guest.get("thp") == "never":
        needs = 'needs thp = "always" in [guest]'
        yield load.mistake("order", f"{THP_ORDER} is a transparent huge page, which {needs}")


def _steady(guest: TableView, load: TableView) -> Iterator[Mistake]:
    yield from _below_memory(guest, load, "target")
    types = load.get("types")
    if types is not None and not (types.unmovable or types.movable or types.reclaimable):
        yield load.mistake("types", "at least one weight must be more than 0")
    if "cpu" in load.given and "cpus" in load.given:
        yield load.mistake("cpus", "cannot go with cpu: name one vCPU, or all")


def _files(guest: TableView, load: TableView) -> Iterator[Mistake]:
    yield from _below_memory(guest, load, "mlocked")
    yield from _below_memory(guest, load, "tmpfs")
    files_bytes, mlocked_bytes = load.get("files"), load.get("mlocked")
    if files_bytes is not None and mlocked_bytes is not None and mlocked_bytes > files_bytes:
        yield load.mistake("mlocked", f"must be at most files ({format_size(files_bytes)})")


def _below_memory(guest: TableView, load: TableView, key: str) -> Iterator[Mistake]:
    memory_bytes, size_bytes = guest.get("memory"), load.get(key)
    if memory_bytes is not None and size_bytes is not None and size_bytes >= memory_bytes:
        yield load.mistake(key, f"must be less than guest.memory ({format_size(memory_bytes)})")
