"""The modelled guest as node_exporter would show it from inside, so that dashboards and alerts for
buddyinfo, zoneinfo and vmstat work on it as they are.

These names are never among the daemon's own series: on a machine that runs node_exporter they
would be taken for the machine's. So it is an endpoint of its own, one target for each run. Names
and labels are those of node_exporter 1.5: collectors `buddyinfo`, `zoneinfo`, `vmstat`, `meminfo`.
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.layout_reclaim import Z_ACTIVE_FILE, Z_INACTIVE_FILE, Z_UNEVICTABLE
from pagesoak.base.units import PAGE_SIZE_BYTES
from pagesoak.daemon.metrics import zone_labels
from pagesoak.daemon.reading import Reading

PROTECTIONS = 5
"""Words of the lowmem reserve."""
ZONEINFO = {
    "nr_free_pages": layout.Z_FREE_PAGES,
    "min_pages": layout.Z_WMARK_MIN,
    "low_pages": layout.Z_WMARK_LOW,
    "high_pages": layout.Z_WMARK_HIGH,
    "managed_pages": layout.Z_MANAGED,
    **{f"protection_{n}": layout.Z_LOWMEM_RESERVE + n for n in range(PROTECTIONS)},
}
"""`node_zoneinfo_` names, and the words of the zone record."""
VMSTAT = {"oom_kill": (st.OOM_ISOLATED, st.OOM_FRAGMENTED, st.OOM_EXHAUSTED)}
"""`node_vmstat_` names, and the counters that are added up."""
MEMINFO = {
    "MemTotal": layout.Z_MANAGED,
    "MemFree": layout.Z_FREE_PAGES,
    "Active_file": Z_ACTIVE_FILE,
    "Inactive_file": Z_INACTIVE_FILE,
    "Unevictable": Z_UNEVICTABLE,
}
"""`node_memory_` names, and the words of all zones that are added up."""


class GuestCollector(Collector):
    """The series of one reading of one run."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        zones = self._reading.zones
        blocks = GaugeMetricFamily(
            "node_buddyinfo_blocks", "Count of free blocks.", labels=["node", "zone", "size"]
        )
        for zone in zones:
            for order in range(layout.MAX_ORDER):
                free = zone[layout.Z_NR_FREE + order]
                blocks.add_metric([*zone_labels(zone), str(order)], free)
        yield blocks
        for name, word in ZONEINFO.items():
            family = GaugeMetricFamily(
                f"node_zoneinfo_{name}", f"Zoneinfo field {name}.", labels=["node", "zone"]
            )
            for zone in zones:
                family.add_metric(zone_labels(zone), zone[word])
            yield family
        for name, words in VMSTAT.items():
            value = sum(self._reading.statistics.counters[word] for word in words)
            yield UntypedMetricFamily(f"node_vmstat_{name}", f"Vmstat field {name}.", value=value)
        for name, word in MEMINFO.items():
            value = sum(zone[word] for zone in zones) * PAGE_SIZE_BYTES
            yield GaugeMetricFamily(
                f"node_memory_{name}_bytes", f"Memory field {name}_bytes.", value=value
            )
