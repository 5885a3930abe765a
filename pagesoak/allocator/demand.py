"""How much a guest takes, and how fast: the most pages taken from a zone in any interval of a
length, over the last minutes.

*Taken* is net: how far the zone's supply, its free and its isolated pages together, went down
between two moments. Isolating changes nothing of it, a free brings some of it back. The maximum is
kept for intervals of 2**20, 2**21, ... 2**36 ns. Time is cut into quarters of an interval; of the
last five quarters the highest supply is known, and each time pages are taken, what is missing from
the highest of them is what was taken since. So the answer for a length L is never less than the
exact maximum for L, and never more than that for 2.5 L: twice for the step to the next power, a
quarter for the first quarter.

The maxima lie in slots, each a tenth of the time that is remembered, so that old ones are
forgotten a slot at a time. The lengths of report windows are remembered with them.

A request that fails for isolated pages ends what would have been taken. What it would have come to
nobody knows; it counts as if all that is isolated had been taken, too.

No kernel does this; it is what `reporter.policies.headroom` goes by. Watched only while somebody
asks (`watch_demand`). Everything here is under the zone lock; the questions are asked without.
"""

from pagesoak.base import recorder
from pagesoak.base.clock import now_ns
from pagesoak.base.layout import (
    H_OFFSETS,
    H_ZONES,
    Z_FREE_PAGES,
    Z_ISOLATED,
    ZONE_WORDS,
    Core,
    open_core,
)
from pagesoak.base.layout_demand import (
    D_LEVELS,
    D_LONGEST_NS,
    D_RECENT_NS,
    D_SINCE_NS,
    D_SLOT,
    D_TAKEN_PAGES,
    D_WINDOW_LEFT,
    D_WINDOW_PEAK,
    D_WINDOW_TAKEN,
    D_WINDOWS,
    DEMAND_WORDS,
    H_DEMAND_SLOT_NS,
    LEVEL_BUCKET,
    LEVEL_FIRST_BITS,
    LEVEL_SLOTS,
    LEVEL_WORDS,
    LEVELS,
    PEAKS,
    RECENT_WINDOWS,
    SECTION_DEMAND,
    SLOTS,
)
from pagesoak.base.lock import HELD, lock_zone, unlock_zone
from pagesoak.base.native import Words, entry, inner, int64_at, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import DEMANDS_UNSEEN, count

QUARTER_BITS = 2
"""A level's interval is so many bits longer than its quarters."""
QUIET_NS = 3_000_000_000
"""A guest of which nothing was taken for so long is known to be idle: longer than the delay before
the first pass, shorter than until the second.
"""
LEARNING_NS = 60_000_000_000
"""A guest that was watched for so long is known, also when nothing could be reported meanwhile."""
FIRST_WINDOW_NS = 2_000_000_000
"""Taken for the length of a window as long as none was seen: passes are at least so far apart."""
NO_PEAK = -1
NO_LIMIT = 1 << 60
"""Of what a window's fills left free, before the first: more pages than there are."""

_OFFSET = H_OFFSETS + SECTION_DEMAND


@leaf
def demand_words(core: Core) -> Words:
    """The section's words."""
    return int64_at(core.base + core.header[_OFFSET])


@leaf
def supply_pages(core: Core, zone: int) -> int:
    """Pages of a zone that are free or isolated."""
    z = zone * ZONE_WORDS
    return core.zones[z + Z_FREE_PAGES] + core.zones[z + Z_ISOLATED]


@inner
def _forget_since(words: Words, d: int, slot: int) -> None:
    """Let the slot that is going on be this one; what its places held is forgotten."""
    last = words[d + D_SLOT]
    for passed in range(last + 1, min(slot, last + SLOTS) + 1):
        place = passed % SLOTS
        words[d + D_LONGEST_NS + place] = 0
        for level in range(LEVELS):
            words[d + D_LEVELS + level * LEVEL_WORDS + LEVEL_SLOTS + place] = 0
    words[d + D_SLOT] = max(slot, last)


@inner
def _highest_peak(words: Words, at: int, quarter: int, supply: int) -> int:
    """Let the supply count among the peaks of a level's quarter; the highest of the last five."""
    last = words[at + LEVEL_BUCKET]
    for passed in range(last + 1, min(quarter, last + PEAKS) + 1):
        words[at + passed % PEAKS] = NO_PEAK
    quarter = max(quarter, last)  # a CPU's clock may be a little behind another's
    words[at + LEVEL_BUCKET] = quarter
    words[at + quarter % PEAKS] = max(words[at + quarter % PEAKS], supply)
    highest = supply
    for peak in range(PEAKS):
        highest = max(highest, words[at + peak])
    return highest


@inner
def _note(core: Core, zone: int, now: int, before: int, after: int) -> None:
    """The supply of a zone went down."""
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    _forget_since(words, d, now // core.header[H_DEMAND_SLOT_NS])
    place = words[d + D_SLOT] % SLOTS
    for level in range(LEVELS):
        at = d + D_LEVELS + level * LEVEL_WORDS
        quarter = now >> (LEVEL_FIRST_BITS - QUARTER_BITS + level)
        taken = _highest_peak(words, at, quarter, before) - after
        words[at + LEVEL_SLOTS + place] = max(words[at + LEVEL_SLOTS + place], taken)
    words[d + D_WINDOW_PEAK] = max(words[d + D_WINDOW_PEAK], before)
    taken = words[d + D_WINDOW_PEAK] - after
    words[d + D_WINDOW_TAKEN] = max(words[d + D_WINDOW_TAKEN], taken)


@inner
def note_taken(core: Core, worker: int, zone: int, pages: int) -> None:
    """So many pages have left the free lists for the guest; does nothing unless somebody asked."""
    if core.header[H_DEMAND_SLOT_NS] == 0 or pages == 0:
        return
    after = supply_pages(core, zone)
    _note(core, zone, now_ns(core, worker), after + pages, after)
    demand_words(core)[zone * DEMAND_WORDS + D_TAKEN_PAGES] += pages


@inner
def note_cut_off(core: Core, worker: int) -> None:
    """A request failed for isolated pages: they count as taken, in every zone that has some."""
    if core.header[H_DEMAND_SLOT_NS] == 0:
        return
    for zone in range(core.header[H_ZONES]):
        if core.zones[zone * ZONE_WORDS + Z_ISOLATED] == 0:
            continue
        if lock_zone(core, zone, worker) != HELD:
            return
        supply = supply_pages(core, zone)
        free = core.zones[zone * ZONE_WORDS + Z_FREE_PAGES]
        _note(core, zone, now_ns(core, worker), supply, free)
        unlock_zone(core, zone, worker)


@inner
def begin_window(core: Core, zone: int) -> None:
    """The first block of a batch is about to be isolated."""
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    words[d + D_WINDOW_PEAK] = supply_pages(core, zone)
    words[d + D_WINDOW_TAKEN] = 0
    words[d + D_WINDOW_LEFT] = NO_LIMIT


@inner
def note_fill(core: Core, zone: int, left_pages: int) -> None:
    """A fill of the open window was to leave so many pages free for what may be taken."""
    words = demand_words(core)
    at = zone * DEMAND_WORDS + D_WINDOW_LEFT
    words[at] = min(words[at], left_pages)


@inner
def end_window(core: Core, worker: int, zone: int, window_ns: int) -> int:
    """A batch is back: remember how long it took, and put on record if more was taken meanwhile
    than had been left for that; so many pages, else 0.
    """
    if core.header[H_DEMAND_SLOT_NS] == 0:
        return 0
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    _forget_since(words, d, now_ns(core, worker) // core.header[H_DEMAND_SLOT_NS])
    longest = d + D_LONGEST_NS + words[d + D_SLOT] % SLOTS
    words[longest] = max(words[longest], window_ns)
    words[d + D_RECENT_NS + words[d + D_WINDOWS] % RECENT_WINDOWS] = window_ns
    words[d + D_WINDOWS] += 1
    taken, left = words[d + D_WINDOW_TAKEN], words[d + D_WINDOW_LEFT]
    if taken <= left:
        return 0
    record(core, worker, recorder.DEMAND_UNSEEN, zone, taken, left, 0, 0)
    count(core, worker, DEMANDS_UNSEEN, 1)
    return int(taken)


@inner
def _largest_of_slots(words: Words, d: int, first: int, slot: int) -> int:
    """The largest of the values, from `first` on, whose slot is remembered still."""
    largest = 0
    for back in range(SLOTS):
        passed = words[d + D_SLOT] - back
        if slot - passed < SLOTS:
            largest = max(largest, words[first + passed % SLOTS])
    return int(largest)


@inner
def longest_window_ns(core: Core, zone: int, now: int) -> int:
    """The longest report window that is remembered; 0 without one."""
    d = zone * DEMAND_WORDS
    slot = now // core.header[H_DEMAND_SLOT_NS]
    return _largest_of_slots(demand_words(core), d, d + D_LONGEST_NS, slot)


@inner
def demand_is_known(core: Core, zone: int, now: int) -> bool:
    """Whether what was seen says something: a window of a guest that takes pages, a guest that
    takes none for a while, or long enough of either.
    """
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    watched_ns = now - words[d + D_SINCE_NS]
    if words[d + D_TAKEN_PAGES] == 0:
        return watched_ns >= QUIET_NS
    return words[d + D_WINDOWS] > 0 or watched_ns >= LEARNING_NS


@inner
def largest_demand_pages(core: Core, zone: int, interval_ns: int, now: int) -> int:
    """The most pages taken in any interval of a length that is remembered; for lengths above the
    longest kept, of as many such intervals as they take.
    """
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    level = 0
    while level < LEVELS - 1 and interval_ns > 1 << (LEVEL_FIRST_BITS + level):
        level += 1
    length_ns = 1 << (LEVEL_FIRST_BITS + level)
    times = max(1, (interval_ns + length_ns - 1) // length_ns)
    first = d + D_LEVELS + level * LEVEL_WORDS + LEVEL_SLOTS
    slot = now // core.header[H_DEMAND_SLOT_NS]
    return _largest_of_slots(words, d, first, slot) * times


@entry
def watch_demand(base: int, worker: int, memory_ns: int, _until_ns: int) -> int:
    """Watch from now on what is taken, and remember it so long; returns the slots' length."""
    core = open_core(base)
    words = demand_words(core)
    now = now_ns(core, worker)
    slot_ns = max(1, memory_ns // (SLOTS - 1))
    for zone in range(core.header[H_ZONES]):
        d = zone * DEMAND_WORDS
        for word in range(DEMAND_WORDS):
            words[d + word] = 0
        words[d + D_SINCE_NS] = now
        words[d + D_SLOT] = now // slot_ns
        words[d + D_WINDOW_LEFT] = NO_LIMIT
        for level in range(LEVELS):
            at = d + D_LEVELS + level * LEVEL_WORDS
            for peak in range(PEAKS):
                words[at + peak] = NO_PEAK
            words[at + LEVEL_BUCKET] = now >> (LEVEL_FIRST_BITS - QUARTER_BITS + level)
    core.header[H_DEMAND_SLOT_NS] = slot_ns
    return slot_ns


@entry
def look_at_demand(base: int, worker: int, zone: int) -> tuple[int, ...]:
    """Whether the demand is known, the largest of an interval as long as the longest window, that
    window (ns), and the last windows, newest first, 0 where there were none. All 0 if nobody
    watches. No lock.
    """
    core = open_core(base)
    if core.header[H_DEMAND_SLOT_NS] == 0:
        return 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    now = now_ns(core, worker)
    longest = longest_window_ns(core, zone, now)
    words = demand_words(core)
    d = zone * DEMAND_WORDS
    windows = words[d + D_WINDOWS]
    r = d + D_RECENT_NS
    interval_ns = longest if longest > 0 else FIRST_WINDOW_NS
    return (
        int(demand_is_known(core, zone, now)),
        largest_demand_pages(core, zone, interval_ns, now),
        longest,
        words[r + (windows - 1) % RECENT_WINDOWS],
        words[r + (windows - 2) % RECENT_WINDOWS],
        words[r + (windows - 3) % RECENT_WINDOWS],
        words[r + (windows - 4) % RECENT_WINDOWS],
        words[r + (windows - 5) % RECENT_WINDOWS],
        words[r + (windows - 6) % RECENT_WINDOWS],
        words[r + (windows - 7) % RECENT_WINDOWS],
        words[r + (windows - 8) % RECENT_WINDOWS],
    )
