"""From a scenario to a guest in its starting state: segment, guest RAM, load records, and each
CPU's programs.

Everything that can be refused is refused here, before any worker exists: what does not fit the
memory allowed, a recording that cannot be read, a load without room. On a refusal nothing is left
behind.
"""

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pagesoak.allocator import loads
from pagesoak.allocator.free_lists import FreeListSnapshot
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.geometry import ZoneGeometry, guest_zones
from pagesoak.allocator.loads import (
    BurstSettings,
    FilesSettings,
    Program,
    ReplaySettings,
    SteadySettings,
)
from pagesoak.allocator.oom import OOM_SCORE_ADJ_MIN
from pagesoak.allocator.oom_wait import set_oom_waits
from pagesoak.allocator.populate import (
    WatermarkSettings,
    plan_from_geometry,
    plan_from_snapshot,
    populate_snapshot,
    populate_synthetic,
)
from pagesoak.allocator.profile import PROFILES, set_compaction
from pagesoak.allocator.recording import Recording, load_recording, load_trace
from pagesoak.allocator.replay_word import FREE, pack_request
from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.errors import InputError
from pagesoak.base.generator import seed_words
from pagesoak.base.layout_reclaim import CACHE_FIRST_SLOT, H_WRITEBACK_NS, L_OOM_SCORE_ADJ
from pagesoak.base.memory import MemoryAllowed, memory_allowed, require_memory
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.scenario import Bursts, Files, Replay, Scenario, Steady
from pagesoak.base.segment import Segment
from pagesoak.base.units import PAGE_SHIFT, PAGE_SIZE_BYTES
from pagesoak.base.virtual import make_virtual
from pagesoak.engine.prepare_files import file_slots, write_files
from pagesoak.host.ram import GuestRam, NoRam, open_ram
from pagesoak.host.virtual_ram import VirtualRam, open_virtual_ram

PROCESS_BYTES = 60 << 20
"""What one worker process needs of its own; the code is shared (measured: some 30 MiB with the
compiled core).
"""
RUNNER_BYTES = 200 << 20
"""What the runner needs of its own, compiled core included."""
AUDIT_BYTES_PER_PAGE = 72
"""What an audit needs in the runner: the copy of each page's record, and what is computed from it
when every page is a block of its own (measured with 64 GiB in single pages: 67).
"""
AUDIT_BYTES_PER_SLOT = 96
"""And for each page of files: the copy of its slot, 32, and what comes of it (measured: 56).
"""
STEADY_TABLE_SHARE = 2
"""A steady load's table has room for so many times its target, in single pages."""
WEIGHT_UNIT = 1000
SEED_STREAMS_PER_LOAD = 1


class Room(NamedTuple):
    """One load record to be written: kind by its scenario entry, where, and how large its table
    is.
    """

    settings: Bursts | Steady | Replay | Files
    cpu: int
    capacity: int
    events: int
    oom_score_adj: int = 0
    """A hog, which stays, and a replay, which stands for a whole guest, are never killed."""


class Soak(NamedTuple):
    """A guest in its starting state, ready for the workers to be forked."""

    scenario: Scenario
    segment: Segment
    ram: GuestRam | NoRam | VirtualRam
    programs: tuple[tuple[Callable[[], Program], ...], ...]
    """Per CPU, what makes the programs of its loads."""
    unmatched_frees: int
    """Frees of the recordings that match no allocation, as counted when they were read."""
    replay_loads: tuple[int, ...]
    virtual: bool = False

    def close(self) -> None:
        """Give the memory back; nothing is left behind."""
        self.segment.close()
        self.ram.close()


def _recordings(scenario: Scenario) -> tuple[FreeListSnapshot | None, dict[int, Recording]]:
    """The starting state if it is recorded, and each replay's recording by the load's number."""
    guest = scenario.guest
    known: dict[object, Recording] = {}
    start = None
    if guest.recording is not None:
        known[guest.recording] = load_recording(guest.recording)
        start = known[guest.recording].start
    elif guest.snapshot is not None:
        start = read_free_lists(guest.snapshot)
    found = {}
    for number, load in enumerate(scenario.loads):
        if isinstance(load, Replay):
            source = load.recording or load.trace
            if source not in known:
                known[source] = (
                    load_recording(load.recording)
                    if load.recording is not None
                    else load_trace(load.trace or Path(), guest.snapshot)
                )
            found[number] = known[source]
    return start, found


def _rooms(scenario: Scenario, recordings: dict[int, Recording], pages: int) -> list[Room]:
    rooms: list[Room] = []
    for number, load in enumerate(scenario.loads):
        if isinstance(load, Bursts):
            burst = (load.burst_bytes >> PAGE_SHIFT) * (100 + load.jitter_percent) // 100 + 1
            hog = Room(load, load.cpu, pages, 0, OOM_SCORE_ADJ_MIN)
            rooms += [hog, Room(load, load.cpu, min(burst, pages), 0)]
        elif isinstance(load, Steady):
            target = load.target_bytes >> PAGE_SHIFT
            capacity = min(STEADY_TABLE_SHARE * target + PAGE_SIZE_BYTES, pages)
            cpus = range(scenario.guest.cpus) if load.cpus == "all" else (load.cpu,)
            rooms += [Room(load, cpu, capacity, 0) for cpu in cpus]
        elif isinstance(load, Files):
            rooms.append(Room(load, load.cpu, 0, 0))
        elif isinstance(load, Replay):
            recording = recordings[number]
            made, requests = recording.counts.allocations, len(recording.requests.opcode)
            rooms.append(Room(load, load.cpu, made, requests, OOM_SCORE_ADJ_MIN))
    if len(rooms) > layout.LOADS_MAX:
        msg = f"{len(rooms)} load records are needed, at most {layout.LOADS_MAX} fit"
        raise InputError(msg, key="load")
    return rooms


def _touchable(scenario: Scenario, start: FreeListSnapshot | None) -> list[int]:
    """Pages of each zone that a run may come to touch."""
    if start is not None:
        return [zone.spanned for zone in start.zones]
    return [zone.managed_pages for zone in _zones(scenario)]


def _zones(scenario: Scenario) -> tuple[ZoneGeometry, ...]:
    """The zones of a guest that is not recorded; InputError at the key of the scenario."""
    guest = scenario.guest
    try:
        return guest_zones(guest.memory_bytes or 0, guest.movable_bytes, guest.nodes)
    except InputError as error:
        key = f"guest.{(error.key or 'memory').removesuffix('_bytes')}"
        raise InputError(error.message, key=key) from error


def _plan(
    scenario: Scenario, start: FreeListSnapshot | None, recordings: dict[int, Recording]
) -> tuple[SegmentPlan, list[Room]]:
    guest = scenario.guest
    zones = () if start is not None else _zones(scenario)
    spans = [zone.managed for zone in start.zones] if start else [z.managed_pages for z in zones]
    rooms = _rooms(scenario, recordings, sum(spans))
    table_words = sum(room.capacity for room in rooms)
    events = sum(room.events for room in rooms)
    if start is not None:
        name = str(guest.recording or guest.snapshot)
        plan = plan_from_snapshot(
            start, cpus=guest.cpus, loads=len(rooms), table_words=table_words,
            replay_events=events, file=name,
        )  # fmt: skip
    else:
        plan = plan_from_geometry(
            zones, cpus=guest.cpus, loads=len(rooms), table_words=table_words,
            replay_events=events,
        )  # fmt: skip
    if files := sum(file_slots(room.settings) for room in rooms):
        plan = plan._replace(cache_slots=CACHE_FIRST_SLOT + files)
    return plan, rooms


def needed_bytes(plan: SegmentPlan, *, touch: bool, touched_pages: int) -> int:
    """The most a run of this plan can come to occupy: segment, touched guest RAM, processes."""
    audit = plan.max_pfn * AUDIT_BYTES_PER_PAGE + plan.cache_slots * AUDIT_BYTES_PER_SLOT
    processes = RUNNER_BYTES + audit + plan.workers * PROCESS_BYTES
    return plan.offsets()[-1] + processes + (touched_pages * PAGE_SIZE_BYTES if touch else 0)


def _populate(segment: Segment, scenario: Scenario, start: FreeListSnapshot | None) -> None:
    guest = scenario.guest
    if start is not None:
        populate_snapshot(
            segment,
            start,
            watermark_boost_factor=guest.watermark_boost_factor,
            profile=PROFILES[guest.kernel],
        )
        return
    populate_synthetic(
        segment,
        _zones(scenario),
        WatermarkSettings(
            thp=guest.thp == "always",
            min_free_kbytes=guest.min_free_kbytes,
            watermark_scale_factor=guest.watermark_scale_factor,
            watermark_boost_factor=guest.watermark_boost_factor,
            profile=PROFILES[guest.kernel],
        ),
    )


def _cumulative(weights: Sequence[int]) -> list[int]:
    """Weights as the ends of their shares of WEIGHT_UNIT."""
    total = sum(weights)
    ends, seen = [], 0
    for weight in weights:
        seen += weight
        ends.append(seen * WEIGHT_UNIT // total)
    return ends


def _write_load(
    segment: Segment, number: int, room: Room, table: int, events: int, seed: int
) -> None:
    at = number * layout.LOAD_WORDS
    words = segment.loads
    words[at + layout.L_OWNER] = layout.OWNER_FIRST_LOAD + number
    words[at + layout.L_CPU] = room.cpu
    words[at + layout.L_TABLE] = table
    words[at + layout.L_CAPACITY] = room.capacity
    words[at + L_OOM_SCORE_ADJ] = room.oom_score_adj
    words[at + layout.L_EVENTS] = events
    words[at + layout.L_EVENT_COUNT] = room.events
    for word, value in enumerate(seed_words(seed, number)):
        words[at + layout.L_RANDOM + word] = value
    if isinstance(room.settings, Bursts):
        words[at + layout.L_ORDER] = room.settings.order
    elif isinstance(room.settings, Steady):
        words[at + layout.L_TARGET_PAGES] = room.settings.target_bytes >> PAGE_SHIFT
        words[at + layout.L_ATOMIC_PERMILLE] = room.settings.atomic_percent * 10
        types = room.settings.types
        weights = _cumulative(room.settings.orders)
        weights += _cumulative((types.unmovable, types.movable, types.reclaimable))
        for word, value in enumerate(weights):
            words[at + layout.L_WEIGHTS + word] = value


def _write_requests(segment: Segment, first: int, recording: Recording) -> None:
    requests = recording.requests
    packed = array("q")
    for time_ns, opcode, order, migratetype, identity, gfp, offset in zip(
        requests.time_ns,
        requests.opcode,
        requests.order,
        requests.migratetype,
        requests.identity,
        requests.gfp,
        requests.offset,
        strict=True,
    ):
        packed.append(time_ns)
        detail = offset if opcode == FREE else gfp
        packed.append(pack_request(opcode, order, migratetype, identity, detail))
    start = first * layout.REPLAY_EVENT_WORDS
    segment.replay[start : start + len(packed)] = memoryview(packed)


def _write_loads(
    segment: Segment, scenario: Scenario, rooms: list[Room], recordings: dict[int, Recording]
) -> None:
    table = events = 0
    slot = CACHE_FIRST_SLOT
    segment.header[H_WRITEBACK_NS] = scenario.guest.writeback_ns
    for number, room in enumerate(rooms):
        _write_load(segment, number, room, table, events, scenario.seed)
        if isinstance(room.settings, Files):
            write_files(segment, number, room.settings, slot)
            slot += file_slots(room.settings)
        if isinstance(room.settings, Replay):
            _write_requests(segment, events, recordings[scenario.loads.index(room.settings)])
            for word in range(table, table + room.capacity):
                segment.tables[word] = -1
        table += room.capacity
        events += room.events


def _programs(
    scenario: Scenario, rooms: list[Room]
) -> tuple[tuple[Callable[[], Program], ...], ...]:
    makers: list[list[Callable[[], Program]]] = [[] for _ in range(scenario.guest.cpus)]
    skip = False
    for number, room in enumerate(rooms):
        settings = room.settings
        if skip:
            skip = False
        elif isinstance(settings, Bursts):
            burst = BurstSettings(
                room.cpu,
                number + 1,
                number,
                settings.leave_free_bytes >> PAGE_SHIFT,
                settings.burst_bytes >> PAGE_SHIFT,
                settings.jitter_percent,
                settings.think_ns,
                settings.hold_ns,
            )
            makers[room.cpu].append(lambda burst=burst: loads.bursts(burst))  # type: ignore[misc]
            skip = True
        elif isinstance(settings, Steady):
            steady = SteadySettings(room.cpu, number, settings.rate_per_second)
            makers[room.cpu].append(lambda steady=steady: loads.steady(steady))  # type: ignore[misc]
        elif isinstance(settings, Files):
            files = FilesSettings(room.cpu, number, settings.rate_per_second)
            makers[room.cpu].append(lambda files=files: loads.files(files))  # type: ignore[misc]
        else:
            alone = [other.cpu for other in rooms].count(room.cpu) == 1
            replay = ReplaySettings(room.cpu, number, settings.speed_ppm, alone)
            makers[room.cpu].append(lambda replay=replay: loads.replay(replay))  # type: ignore[misc]
    return tuple(tuple(maker) or (loads.idle,) for maker in makers)


def costs_of(scenario: Scenario) -> Costs:
    """What things take in a virtual run of a scenario."""
    return Costs(*(getattr(scenario.virtual, name) for name in Costs._fields))


def _open_ram(
    segment: Segment, scenario: Scenario, *, virtual: bool
) -> GuestRam | NoRam | VirtualRam:
    if not virtual:
        return open_ram(segment, touch=scenario.guest.touch)
    ram = open_virtual_ram(segment, touch=scenario.guest.touch)
    make_virtual(segment, costs_of(scenario))
    return ram


def prepare(
    scenario: Scenario, allowed: MemoryAllowed | None = None, *, virtual: bool = False
) -> Soak:
    """Make the guest of a scenario; InputError(s) when it cannot be; nothing is left behind.

    A `virtual` guest has content words in place of touched memory, and its clocks.
    """
    start, recordings = _recordings(scenario)
    plan, rooms = _plan(scenario, start, recordings)
    touch = scenario.guest.touch
    touchable = 0 if virtual else sum(_touchable(scenario, start))
    if virtual and touch:
        plan = plan._replace(content_pages=plan.max_pfn)
    what = f"the guest of scenario {scenario.name}"
    needed = needed_bytes(plan, touch=touch, touched_pages=touchable)
    require_memory(needed, allowed or memory_allowed(), what)
    segment = Segment.create(plan)
    try:
        _populate(segment, scenario, start)
        set_compaction(segment.header, on=scenario.guest.compaction)
        set_oom_waits(segment.header, on=scenario.guest.oom_waits_for_report)
        _write_loads(segment, scenario, rooms, recordings)
        segment.report[layout.R_EVENTFD] = -1
        ram = _open_ram(segment, scenario, virtual=virtual)
    except BaseException:
        segment.close()
        raise
    unmatched = sum({id(r): r.counts.unmatched_frees for r in recordings.values()}.values())
    replays = tuple(n for n, room in enumerate(rooms) if isinstance(room.settings, Replay))
    programs = _programs(scenario, rooms)
    return Soak(scenario, segment, ram, programs, unmatched, replays, virtual)
