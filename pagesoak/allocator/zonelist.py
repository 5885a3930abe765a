"""The zonelist: which zones a request tries, in which order, and which of them are local.

Every CPU belongs to a node, and its requests try the zones of that node from the highest index
down, then those of the other nodes, nearest first: all zones of a node come before any of the
next. So with two nodes a user page of node 0 is rather taken from node 0's DMA than from node 1,
which the lowmem reserve bounds. A request with __GFP_THISNODE has its own node's zones only.

Models Linux 6.1 `mm/page_alloc.c`: `build_zonelists`, `build_zonerefs_node`,
`first_zones_zonelist` and the loop of `get_page_from_freelist`. The table is worked out once
(`write_zonelists`) and lies in the header, a row per CPU; one zone's record number after the
other. The first one is always local, so the local node needs no word of its own.
"""

from collections.abc import Sequence

from pagesoak.allocator.gfp import GFP_THISNODE, GFP_ZONE_SHIFT
from pagesoak.base.layout import (
    CPUS_MAX,
    H_ZONELIST_FIRST,
    Z_INDEX,
    Z_NODE,
    ZONE_WORDS,
    ZONES_MAX,
    Core,
)
from pagesoak.base.native import Words, inner, leaf

ZonePlace = tuple[int, int]
"""Node and zone index of a zone record."""


def node_of_cpu(cpu: int, cpus: int, nodes: int) -> int:
    """The node of a CPU: the CPUs in equal runs, the first run on node 0 (`-numa node,cpus=`)."""
    return cpu * nodes // cpus


def local_cpus(node: int, cpus: int, nodes: int) -> int:
    """CPUs that share a zone of this node; all of them for a node that has none of its own."""
    own = sum(1 for cpu in range(cpus) if node_of_cpu(cpu, cpus, nodes) == node)
    return own or cpus


def zonelist(zones: Sequence[ZonePlace], node: int) -> tuple[int, ...]:
    """Record numbers of `zones` in the order in which requests of a CPU of `node` try them.

    The other nodes follow by distance; as many steps away as their numbers are apart, as a
    machine's firmware lists them, and the next higher one first.
    """

    def rank(number: int) -> tuple[int, int, int]:
        zone_node, index = zones[number]
        away = zone_node - node
        return abs(away), -away, -index

    return tuple(sorted(range(len(zones)), key=rank))


def write_zonelists(header: Words, zones: Sequence[ZonePlace], cpus: int) -> None:
    """Enter every CPU's zonelist in a segment's header."""
    nodes = 1 + max(node for node, _ in zones)
    for cpu in range(min(cpus, CPUS_MAX)):
        row = H_ZONELIST_FIRST + cpu * ZONES_MAX
        for position, zone in enumerate(zonelist(zones, node_of_cpu(cpu, cpus, nodes))):
            header[row + position] = zone


@leaf
def zonelist_zone(core: Core, cpu: int, position: int) -> int:
    """The zone at a position of a CPU's zonelist; position 0 is local."""
    return core.header[H_ZONELIST_FIRST + cpu * ZONES_MAX + position]


@inner
def is_local(core: Core, cpu: int, zone: int) -> bool:
    """Whether a zone lies in the CPU's own node."""
    local = zonelist_zone(core, cpu, 0)
    return core.zones[zone * ZONE_WORDS + Z_NODE] == core.zones[local * ZONE_WORDS + Z_NODE]


@inner
def zone_allowed(core: Core, cpu: int, zone: int, gfp: int) -> bool:
    """Whether a request of a CPU may take pages from a zone: its highest zone, and its own node if
    it wants no other.
    """
    if core.zones[zone * ZONE_WORDS + Z_INDEX] > gfp >> GFP_ZONE_SHIFT:
        return False
    return gfp & GFP_THISNODE == 0 or is_local(core, cpu, zone)
