"""Whether this model can hold a recorded guest.

What a snapshot contradicts in itself, `free_read` finds.
"""

from collections.abc import Iterator
from itertools import pairwise

from pagesoak.allocator.free_lists import FreeListSnapshot, ZoneSnapshot
from pagesoak.allocator.geometry import (
    GUEST_BYTES_MAX,
    NODES_MAX,
    NORMAL_PFN,
    PAGE_BYTES,
    ZONE_NAMES,
)
from pagesoak.allocator.watermark_setup import ZONE_COLUMNS
from pagesoak.base.errors import InputError, InputErrors
from pagesoak.base.layout import (
    MAX_ORDER,
    MIGRATE_TYPES,
    PAGEBLOCK_ORDER,
    PCP_LISTS,
    PCPTYPES,
)

END_PFN_MAX = GUEST_BYTES_MAX // PAGE_BYTES + NORMAL_PFN
"""The largest guest, and below 4 GiB the hole of a PC."""


def check_snapshot(snapshot: FreeListSnapshot, cpus: int, file: str | None) -> None:
    """Raise InputErrors, one for each thing that a guest of `cpus` CPUs cannot take over."""
    errors = [InputError(message, file=file) for message in _complaints(snapshot, cpus)]
    if errors:
        raise InputErrors(errors)


def _complaints(snapshot: FreeListSnapshot, cpus: int) -> Iterator[str]:
    for name, value, modelled in (
        ("pageblock_order", snapshot.pageblock_order, PAGEBLOCK_ORDER),
        ("largest order", snapshot.max_order, MAX_ORDER - 1),
        ("pcptypes", snapshot.pcptypes, PCPTYPES),
        ("nr_pcp_lists", snapshot.nr_pcp_lists, PCP_LISTS),
    ):
        if value != modelled:
            yield f"a kernel whose {name} is {value}; modelled is {modelled}"
    if not snapshot.zones:
        yield "a snapshot without zones"
    known = [zone for zone in snapshot.zones if zone.name in ZONE_NAMES]
    for zone in snapshot.zones:
        if zone not in known:
            yield f"zone {zone.name} is not modelled: {', '.join(ZONE_NAMES)} are"
        yield from _zone_complaints(zone, cpus)
    yield from _node_complaints(known)
    for below, above in pairwise(known):
        in_order = _rank(below) < _rank(above)
        if not in_order or above.start_pfn < below.end_pfn:
            yield f"zone {above.label} does not lie above zone {below.label}"
        shared = above.first_pageblock_pfn < below.end_pfn
        if shared and above.pageblock_types[:1] != below.pageblock_types[-1:]:
            yield f"zones {below.label} and {above.label} share a page block of two types"


def _rank(zone: ZoneSnapshot) -> tuple[int, int]:
    return zone.node, ZONE_NAMES.index(zone.name)


def _node_complaints(zones: list[ZoneSnapshot]) -> Iterator[str]:
    nodes = sorted({zone.node for zone in zones})
    if nodes and nodes[-1] >= NODES_MAX:
        yield f"zones of node {nodes[-1]}; a guest has at most {NODES_MAX} nodes"
    elif nodes != list(range(len(nodes))):
        yield f"no zone of node 0, but of node {nodes[-1]}"


def _zone_complaints(zone: ZoneSnapshot, cpus: int) -> Iterator[str]:
    if not zone.spanned:
        yield f"zone {zone.label} has no pages"
    if zone.end_pfn > END_PFN_MAX:
        yield f"zone {zone.label} ends at pfn {zone.end_pfn:#x}, above {END_PFN_MAX:#x}"
    if len(zone.lowmem_reserve) > ZONE_COLUMNS:
        yield f"zone {zone.label} names {len(zone.lowmem_reserve)} reserves, not {ZONE_COLUMNS}"
    types = {*zone.pageblock_types, *(migratetype for _, migratetype in zone.free_lists)}
    if not types <= set(range(MIGRATE_TYPES)):
        yield f"zone {zone.label} has migratetype {max(types)}, above {MIGRATE_TYPES - 1}"
    for pageset in zone.pagesets:
        if pageset.cpu >= cpus:
            yield (
                f"zone {zone.label} has a pageset of CPU {pageset.cpu}, the guest has {cpus} CPUs"
            )
