"""Where everything lies in the shared segment: the one map that all workers read.

One memfd holds, in this order: a header, zone records, pagesets (one per CPU and zone), the page
reporting device with its scatterlist, worker records (counters, histograms, flight recorder), load
records, page block types, page records, the loads' tables of held blocks, the requests of a
replay, virtual pages' contents. Native byte order, naturally aligned, sections on cache lines.
Nothing is a pointer: a page is named by its frame number, a list by the number of its head record.

*Page records* are four 32-bit words: `NEXT`, `PREVIOUS`, `STATE`, `SEQUENCE`. The record of page
`pfn` is number `pfn`; list heads are records too, numbered from `max_pfn` on, so that taking a
block off a list needs to know neither the list nor whether the neighbour is its head. Only the
first page of a block carries the block's kind and order; the others are `KIND_NONE`. While a block
is taken, its first page's links are free: `NEXT` holds the sequence number and `PREVIOUS` the
owner of who took it. While it is isolated they hold the report request and the scatterlist entry.
Three facts stay with each page through every change: whether it carries a stamp, and of which
owner and sequence number (`STAMPED`, the owner bits of `STATE`, `SEQUENCE`).

Models the role of `struct page`, `struct zone`, `struct free_area` and `struct per_cpu_pages`
(Linux 6.1 `include/linux/mmzone.h`), not their form.

Here are numbers only, so that who just reads a segment never loads the compiler; the typed
pointers of compiled code (`base.core`) come from here when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagesoak.base.core import Core as Core
    from pagesoak.base.core import open_core as open_core

MAGIC = 0x7061_6765_736F_616B
"""`pagesoak` in ASCII."""
VERSION = 2
"""Of this layout; a segment of another version is refused."""

WORD_BYTES = 8
CACHE_LINE_BYTES = 64

# -- limits ---------------------------------------------------------------------------------------

MAX_ORDER = 11
"""Exclusive: the largest block has order 10 (Linux 6.1 `MAX_ORDER`)."""
PAGEBLOCK_ORDER = 9
"""Unit that carries one migratetype: 2 MiB on x86-64 with huge pages."""
PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER
ZONES_MAX = 8
"""Two nodes of DMA, DMA32, Normal, Movable; records stand node after node, ascending by index."""
CPUS_MAX = 16
"""A worker process each; more than a soak of a small guest needs."""
LOADS_MAX = 32
"""Load records kept: two for each CPU."""
REPORTING_CAPACITY = 32
"""Entries of the scatterlist (PAGE_REPORTING_CAPACITY)."""

UNMOVABLE = 0
MOVABLE = 1
RECLAIMABLE = 2
HIGHATOMIC = 3
CMA = 4
ISOLATE = 5
MIGRATE_TYPES = 6
"""With the slot of CMA, which stays empty here."""
PCPTYPES = 3
"""Types that have pageset lists of their own (MIGRATE_PCPTYPES)."""
PCP_ORDERS = 4
"""Orders 0 to 3 are kept in pagesets (PAGE_ALLOC_COSTLY_ORDER)."""
PCP_THP_LIST = PCP_ORDERS * PCPTYPES
"""First of the two lists for whole page blocks: not movable, then movable."""
PCP_LISTS = PCP_THP_LIST + 2

# -- header ---------------------------------------------------------------------------------------

H_MAGIC = 0
H_VERSION = 1
H_SEGMENT_BYTES = 2
H_COMPILED = 3
"""1 when compiled workers use the segment: compiled and plain locks do not mix."""
H_ZONES = 4
H_CPUS = 5
H_MAX_PFN = 6
H_LISTS = 7
H_WORKERS = 8
H_LOADS = 9
H_TABLE_WORDS = 10
H_REPLAY_EVENTS = 11
H_OFFSETS = 16
"""Byte offsets of the sections, in the order of `Section`."""
H_STOP = 32
"""Not 0: every worker ends, or comes to rest, at the next chance (`layout_faults`)."""
H_TOUCH = 33
"""1 when guest RAM is mapped and stamped."""
H_RAM_ADDRESS = 34
"""Where all workers have guest RAM mapped (they inherit the mapping), 0 without."""
H_RAM_BYTES = 35
H_TIMED_LOCKS = 36
"""1 when zone lock waits and holds are measured."""
H_FREE_PAGES_MIN = 37
"""Fewest free pages of all zones together, in this run."""
H_ISOLATED_PAGES_MAX = 38
"""Most pages isolated at once, all zones together, in this run."""
H_REQUEST_SEQUENCE = 39
"""Number of the last report request."""
H_THP_PAGESETS = 41
"""1 when blocks of pageblock_order pass through the pagesets (THP compiled in, as in Debian's
kernels).
"""
H_KSWAPD_WAKE = 42
"""Set by an allocation that wakes kswapd; cleared by whoever plays kswapd."""
H_STARTED_AT_NS = 43
"""When the soak's clock started, 0 before: every guest CPU is in its starting state."""
H_HOST_STOP = 44
"""Not 0: the host ends too (it outlives the reporter, whose last request it still serves)."""
H_FENCED = 45
"""1 when a CPU's worker must fence each time it enters its pageset; 0 when who claims one can make
the others fence (`allocator.pageset_lock`).
"""
H_ATOMIC_MUTEX = 48
"""MUTEX_WORDS words: the plain run's atomics."""
H_PREPARED_FIRST = 64
"""One word per guest CPU: 1 when it has reached the barrier."""
H_ZONELIST_FIRST = H_PREPARED_FIRST + CPUS_MAX
"""A row of ZONES_MAX words per guest CPU: the zone records in the order in which its requests try
them (`allocator.zonelist`).
"""
H_RECLAIM_FIRST = H_ZONELIST_FIRST + CPUS_MAX * ZONES_MAX
HEADER_WORDS = H_RECLAIM_FIRST + 48 + 16  # the last are `layout_virtual`'s

# -- zone record ----------------------------------------------------------------------------------

Z_INDEX = 0
"""0 DMA, 1 DMA32, 2 Normal, 3 Movable."""
Z_NODE = 1
Z_START_PFN = 2
Z_END_PFN = 3
Z_MANAGED = 4
Z_RESERVED = 5
"""Pages of the span that the zone does not manage."""
Z_FREE_PAGES = 6
"""NR_FREE_PAGES."""
Z_WMARK_MIN = 7
"""Raw, without boost; LOW and HIGH follow."""
Z_WMARK_LOW = 8
Z_WMARK_HIGH = 9
Z_BOOST = 10
Z_LOWMEM_RESERVE = 11
"""Five words, one per highest zone index of the request."""
Z_RESERVED_HIGHATOMIC = 16
Z_ISOLATED = 17
Z_REPORTED = 18
Z_BOOT_PAGES = 19
"""Pages in use at the start; those given back since are subtracted where they went."""
Z_DEAD = 20
"""1 when somebody died holding the lock: nobody touches the zone any more."""
Z_BOOSTED = 21
"""A fallback asked for kswapd (ZONE_BOOSTED_WATERMARK)."""
Z_BOOST_FACTOR = 22
Z_RECLAIM_ACTIVE = 23
"""kswapd is at work: pagesets keep less."""
Z_FREE_PAGES_MIN = 24
Z_MARGIN_MIN = 25
"""Least free pages over the min watermark with boost, in this run; over low and high follow."""
Z_MARGIN_LOW = 26
Z_MARGIN_HIGH = 27
Z_ISOLATED_MAX = 28
Z_LIST_BASE = 29
"""Number of the record that heads list (order 0, unmovable); order * MIGRATE_TYPES + type follow.
"""
Z_LOCK_SINCE_NS = 30
Z_ALLOCATED_DIRECT = 31
"""Pages taken minus given back by blocks that pass no pageset; under the zone lock."""
Z_LOCK = 32
"""A robust mutex: zone->lock."""
Z_NR_FREE = 40
"""MAX_ORDER words: blocks per order, all types."""
Z_COUNTER_DRIFT = 54
"""Part of NR_FREE_PAGES the CPU has not told the zone's counter yet; 0 with Z_COUNTER_STEP 0."""
Z_COUNTER_STEP = 55
"""Pages a CPU may keep to itself before it tells (stat_threshold); 0: the counter is exact."""
Z_RECLAIM_FIRST = 56
ZONE_WORDS = 80

# -- pageset record -------------------------------------------------------------------------------

P_CLAIM = 0
"""Who else has the pageset, its worker number + 1; 0 nobody."""
P_COUNT = 8
P_HIGH = 9
P_BATCH = 10
P_FREE_FACTOR = 11
P_LIST_BASE = 12
P_ALLOCATED = 13
"""Pages that came out of this pageset minus those that went in; under its lock."""
P_INSIDE = 14
"""1 while the CPU's own worker is inside."""
PAGESET_WORDS = 16

# -- page reporting device and scatterlist ------------------------------------------------------

R_STATE = 0
"""IDLE, REQUESTED or ACTIVE."""
R_REGISTERED = 1
R_ORDER = 2
"""page_reporting_order."""
R_REQUESTED_AT_NS = 3
"""When the work was last scheduled; its delay counts from here."""
R_EVENTFD = 4
"""Wakes the reporter when IDLE turned to REQUESTED; -1 without."""
R_REQUEST = 5
"""Number of the request that is with the host, 0 none; written by the reporter."""
R_SERVED = 6
"""Number of the last request that the host has answered."""
R_ERROR = 7
"""The host's answer: 0 or an errno."""
R_START = 8
R_COUNT = 9
R_FIRST_ISOLATED_AT_NS = 10
"""When the pending batch got its first block."""
R_OFFSET = 11
"""Lowest used entry, REPORTING_CAPACITY when empty."""
R_BUDGET = 12
R_ZONE = 13
R_CALLS = 14
R_PUNCHED_BYTES = 15
"""What the host saw go back in the request it serves."""
R_CAPACITY = 16
R_NOTIFY_SEQUENCE = 17
"""Counts requests for a pass, for the lost wake-up check."""
R_DELAY_NS = 18
R_PASS = 19
R_ENTRIES = 32
"""REPORTING_CAPACITY entries of ENTRY_WORDS."""
ENTRY_WORDS = 4
E_PFN = 0
"""First page, -1 none."""
E_ORDER = 1
E_PAGES = 2
E_END = 3
"""1 marks the last entry: iteration stops there, not at a count."""
REPORT_WORDS = R_ENTRIES + REPORTING_CAPACITY * ENTRY_WORDS

IDLE = 0
REQUESTED = 1
ACTIVE = 2

# -- worker record --------------------------------------------------------------------------------

W_HEARTBEAT_NS = 0
W_PID = 1
W_OPERATIONS = 2
W_SEQUENCE = 8
"""Last sequence number this worker gave to a page it took."""
W_PUBLISHED_SEQUENCE = 9
"""Seqlock of the published copy: odd while it is written."""
W_RING_HEAD = 10
"""Events ever recorded; the ring keeps the last RING_EVENTS."""
W_COUNTERS = 16
COUNTERS = 56
HISTOGRAMS = 4
HISTOGRAM_WORDS = 328
"""Count, sum, maximum, five spare words, 320 buckets: eight to the octave from 1 ns to 2**40 ns.
"""
W_HISTOGRAMS = W_COUNTERS + COUNTERS
STATISTICS_WORDS = COUNTERS + HISTOGRAMS * HISTOGRAM_WORDS
W_PUBLISHED = W_COUNTERS + STATISTICS_WORDS
RING_EVENTS = 4096
"""Events the flight recorder keeps per worker: some seconds of a busy soak."""
RING_EVENT_WORDS = 8
W_RING = W_PUBLISHED + STATISTICS_WORDS
WORKER_WORDS = W_RING + RING_EVENTS * RING_EVENT_WORDS

# -- load record ----------------------------------------------------------------------------------

L_KIND = 0
L_OWNER = 1
L_CPU = 2
L_TABLE = 3
"""First word of the load's table."""
L_CAPACITY = 4
L_HELD = 5
"""Used words of the table."""
L_HELD_PAGES = 6
L_ORDER = 7
L_MIGRATETYPE = 8
L_GFP = 9
L_CURSOR = 10
L_EVENTS = 11
"""First event of a replay, and below their number."""
L_EVENT_COUNT = 12
L_RANDOM = 13
"""Four words: the state of the load's generator."""
L_TARGET_PAGES = 17
L_UNMATCHED_FREES = 18
"""Frees of a replay that found no such page."""
L_ATOMIC_PERMILLE = 19
L_DROPPED = 20
"""Requests of a replay that got nothing."""
L_WEIGHTS = 32
"""Cumulative weights: MAX_ORDER orders, then three types."""
L_RECLAIM_FIRST = 48
LOAD_WORDS = 64

# -- page record ----------------------------------------------------------------------------------

PAGE_WORDS = 4
PAGE_RECORD_BYTES = 16
NEXT = 0
PREVIOUS = 1
STATE = 2
SEQUENCE = 3

ORDER_MASK = 0xF
KIND_SHIFT = 4
KIND_MASK = 0x70
KIND_NONE = 0
"""Not the first page of a block."""
KIND_FREE = 1 << KIND_SHIFT
KIND_PAGESET = 2 << KIND_SHIFT
KIND_ALLOCATED = 3 << KIND_SHIFT
KIND_ISOLATED = 4 << KIND_SHIFT
KIND_RESERVED = 5 << KIND_SHIFT
REPORTED = 0x80
TYPE_SHIFT = 8
TYPE_MASK = 0x700
STAMPED = 0x800
"""The page carries a stamp; without it, it must read zero."""
ON_LRU = 0x1000
"""Taken as a movable user page."""
OWNER_SHIFT = 16
OWNER_MASK = 0x7FFF_0000
BLOCK_MASK = ORDER_MASK | KIND_MASK | REPORTED | TYPE_MASK | ON_LRU
"""What a change of the block's kind replaces."""
PAGE_MASK = STAMPED | OWNER_MASK
"""What stays with the page."""

OWNER_NOBODY = 0
OWNER_BOOT = 1
"""Pages in use at the start."""
OWNER_REPORTER = 2
OWNER_FIRST_LOAD = 16


class Section:
    """Order of the sections; `H_OFFSETS + Section.X` holds the offset of each."""

    ZONES = 0
    PAGESETS = 1
    REPORT = 2
    WORKERS = 3
    LOADS = 4
    BLOCKS = 5
    PAGES = 6
    TABLES = 7
    REPLAY = 8
    CONTENTS = 9


REPLAY_EVENT_WORDS = 2
"""Time in ns, and the packed request (`allocator.replay`)."""


def __getattr__(name: str) -> Any:
    """`Core` and `open_core`, which compiled modules import from here with the words."""
    if name not in {"Core", "open_core"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pagesoak.base import core

    return getattr(core, name)
