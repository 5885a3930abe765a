"""A node's record and its zones: which they are, and whether they are balanced.

Models Linux 6.1 `mm/vmscan.c`: `pgdat_balanced`, `pgdat_watermark_boosted`. A node is balanced for
a request when **one** of the zones it may use stands above its high mark, boost and lowmem reserve
included. In a guest without a Normal zone an untouched DMA is enough for that (docs/model.md,
KS-1).
"""

from pagesoak.allocator.watermark import WMARK_HIGH, wmark_pages, zone_watermark_ok
from pagesoak.base.layout import (
    H_ZONES,
    Z_BOOST,
    Z_INDEX,
    Z_MANAGED,
    Z_NODE,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_reclaim import H_NODES, NODE_WORDS
from pagesoak.base.native import inner, leaf


@leaf
def node_at(node: int) -> int:
    """First header word of a node's record."""
    return H_NODES + node * NODE_WORDS


@inner
def in_node(core: Core, zone: int, node: int, highest_zone: int) -> bool:
    """Whether a zone is one of the node's up to an index, and has pages at all."""
    z = zone * ZONE_WORDS
    return (
        core.zones[z + Z_NODE] == node
        and core.zones[z + Z_INDEX] <= highest_zone
        and core.zones[z + Z_MANAGED] > 0
    )


@inner
def pgdat_balanced(core: Core, node: int, order: int, highest_zone: int) -> bool:
    """Whether a request of this order and highest zone finds one zone above its high mark; a node
    without such zones needs no balancing.
    """
    zones = 0
    for zone in range(core.header[H_ZONES]):
        if not in_node(core, zone, node, highest_zone):
            continue
        zones += 1
        mark = wmark_pages(core, zone, WMARK_HIGH)
        if zone_watermark_ok(core, zone, order, mark, highest_zone, 0):
            return True
    return zones == 0


@inner
def pgdat_boosted(core: Core, node: int, highest_zone: int) -> bool:
    """Whether a zone of the node is boosted."""
    for zone in range(core.header[H_ZONES]):
        if in_node(core, zone, node, highest_zone) and core.zones[zone * ZONE_WORDS + Z_BOOST] > 0:
            return True
    return False
