"""The modelled guest as node_exporter would show it from inside, so that dashboards and alerts for
buddyinfo, zoneinfo and vmstat work on it as they are.

These names are never among the daemon's own series: on a machine that runs node_exporter they
would be taken for the machine's. So it is an endpoint of its own, one target for each run. Names
and labels are those of node_exporter 1.5: collectors `buddyinfo`, `zoneinfo`, `vmstat`, `meminfo`.

A series is here only if it is counted as Linux 6.1 counts the field it is named after
(`mm/vmstat.c`, `mm/vmscan.c`); docs/daemon.md says which are left out for that.
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
VMSTAT_LEVELS = {
    "nr_free_pages": layout.Z_FREE_PAGES,
    "nr_zone_inactive_file": Z_INACTIVE_FILE,
    "nr_zone_active_file": Z_ACTIVE_FILE,
    "nr_zone_unevictable": Z_UNEVICTABLE,
    "nr_inactive_file": Z_INACTIVE_FILE,
    "nr_active_file": Z_ACTIVE_FILE,
    "nr_unevictable": Z_UNEVICTABLE,
}
"""`node_vmstat_` names of levels, and the words of all zones that are added up. The kernel counts
pages on LRU lists twice, by zone and by node; of all together that is the same.
"""
VMSTAT_COUNTERS = {
    "nr_written": (st.PAGES_WRITTEN,),
    "pgdeactivate": (st.PAGES_DEACTIVATED,),
    "pgsteal_kswapd": (st.PAGES_STOLEN_KSWAPD,),
    "pgsteal_direct": (st.PAGES_STOLEN_DIRECT,),
    "pgscan_direct_throttle": (st.THROTTLES,),
    "pgsteal_file": (st.PAGES_STOLEN_KSWAPD, st.PAGES_STOLEN_DIRECT),
    "pageoutrun": (st.KSWAPD_RUNS,),
    "oom_kill": (st.OOM_ISOLATED, st.OOM_FRAGMENTED, st.OOM_EXHAUSTED),
}
"""`node_vmstat_` names of counters, and those of the core that are added up."""
MEMINFO = {
    "MemTotal": layout.Z_MANAGED,
    "MemFree": layout.Z_FREE_PAGES,
    "Active_file": Z_ACTIVE_FILE,
    "Inactive_file": Z_INACTIVE_FILE,
    "Unevictable": Z_UNEVICTABLE,
}
"""`node_memory_` names, and the words of all zones that are added up."""


def zoneinfo(zone: tuple[int, ...]) -> dict[str, int]:
    """`node_zoneinfo_` names and values of a zone record; marks with the boost, as printed."""
    boost = zone[layout.Z_BOOST]
    reserve = zone[layout.Z_LOWMEM_RESERVE :][:PROTECTIONS]
    return {
        "nr_free_pages": zone[layout.Z_FREE_PAGES],
        "min_pages": zone[layout.Z_WMARK_MIN] + boost,
        "low_pages": zone[layout.Z_WMARK_LOW] + boost,
        "high_pages": zone[layout.Z_WMARK_HIGH] + boost,
        "spanned_pages": zone[layout.Z_END_PFN] - zone[layout.Z_START_PFN],
        "managed_pages": zone[layout.Z_MANAGED],
        **{f"protection_{column}": pages for column, pages in enumerate(reserve)},
    }


def vmstat(reading: Reading) -> dict[str, int]:
    """`node_vmstat_` names and values, of the whole guest."""
    zones, counters = reading.zones, reading.statistics.counters
    levels = {name: sum(zone[word] for zone in zones) for name, word in VMSTAT_LEVELS.items()}
    return levels | {
        name: sum(counters[word] for word in words) for name, words in VMSTAT_COUNTERS.items()
    }


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
        fields = [zoneinfo(zone) for zone in zones]
        for name in fields[0]:
            family = GaugeMetricFamily(
                f"node_zoneinfo_{name}", f"Zoneinfo field {name}.", labels=["node", "zone"]
            )
            for zone, found in zip(zones, fields, strict=True):
                family.add_metric(zone_labels(zone), found[name])
            yield family
        for name, value in vmstat(self._reading).items():
            yield UntypedMetricFamily(f"node_vmstat_{name}", f"Vmstat field {name}.", value=value)
        for name, word in MEMINFO.items():
            value = sum(zone[word] for zone in zones) * PAGE_SIZE_BYTES
            yield GaugeMetricFamily(
                f"node_memory_{name}_bytes", f"Memory field {name}_bytes.", value=value
            )
