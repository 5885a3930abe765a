"""What reclaim and compaction do to the pagesets besides freeing pages: told by their events when.

*Direct reclaim* that freed something but not enough: the request is tried again, and when it fails
all pagesets are emptied, and a page block of the HIGHATOMIC reserve is given back. The trace says
when it ended and for which request; whether the request would have been served is the model's to
say.

*kcompactd*, woken for blocks of an order, empties the pageset of each zone in which it got to the
end without success. When it runs by itself, for half a second without a wake-up (proactive
compaction), it does not. kswapd wakes it at the end of a run that took a boost back, or that was
for blocks larger than a page.

Models Linux 6.1 `mm/page_alloc.c` (`__alloc_pages_direct_reclaim`), `mm/compaction.c`
(`kcompactd_do_work`, `proactive_compact_node`), `mm/vmscan.c` (`balance_pgdat`,
`kswapd_try_to_sleep`).
"""

import re
from typing import NamedTuple

from pagesoak.allocator.gfp import pack_gfp, parse_gfp
from pagesoak.base.errors import InputError
from pagesoak.study import fidelity_trace_events as events
from pagesoak.study.fidelity_trace_core import drain_zone, reclaimed_too_little
from pagesoak.study.fidelity_trace_driven import Driven
from pagesoak.study.fidelity_trace_events import TraceColumns

PROACTIVE_AFTER_NS = 500_000_000
"""kcompactd looks by itself when it has not been woken for so long
(HPAGE_FRAG_CHECK_INTERVAL_MSEC).
"""
_ENDED_WITHOUT_SUCCESS = frozenset({"complete", "partial_skipped"})
_FIELD = re.compile(r"(\w+)=(\S+)")
_NEVER_NS = -(1 << 62)


class Wanted(NamedTuple):
    """The request for which a task reclaims."""

    order: int
    migratetype: int
    gfp: int


def fields_of(text: str) -> dict[str, str]:
    """The fields of an event by name."""
    return {name: value.rstrip(",") for name, value in _FIELD.findall(text)}


def number_of(fields: dict[str, str], name: str, default: int = 0) -> int:
    """A field as a number, decimal or with 0x; the default when it is none."""
    try:
        return int(fields.get(name, ""), 0)
    except ValueError:
        return default


class ReclaimEvents:
    """Follows reclaim and compaction along a trace."""

    def __init__(self) -> None:
        self._wanted: dict[int, Wanted] = {}
        self._woken_ns = _NEVER_NS
        self._for_an_order = False

    def event(self, driven: Driven, columns: TraceColumns, index: int) -> None:
        """One of the events of reclaim or compaction."""
        kind = columns.kind[index]
        fields = fields_of(columns.texts.get(index, ""))
        if kind == events.KSWAPD_WAKE:
            driven.kswapd.begin(
                driven.pair.guest, number_of(fields, "nid"), number_of(fields, "order")
            )
            driven.pair.same()
        elif kind == events.DIRECT_RECLAIM_BEGIN:
            self._begin_direct(columns.task[index], fields)
        elif kind == events.DIRECT_RECLAIM_END:
            wanted = self._wanted.pop(columns.task[index], None)
            if wanted is not None and number_of(fields, "nr_reclaimed") > 0:
                reclaimed_too_little(driven.pair.guest.base, *wanted)
                driven.changed()
        elif columns.tasks[columns.task[index]].startswith("kcompactd"):
            self._compaction(driven, kind, columns.time_ns[index], fields)

    def kswapd_ended(self, driven: Driven, time_ns: int) -> None:
        """A run of kswapd is over."""
        if driven.kswapd.wakes_compaction:
            self._woken_ns = time_ns
        driven.kswapd.end(driven.pair.guest)
        driven.pair.same()

    def _begin_direct(self, task: int, fields: dict[str, str]) -> None:
        try:
            flags = parse_gfp(fields.get("gfp_flags", "none"))
        except InputError:
            return
        order = number_of(fields, "order")
        self._wanted[task] = Wanted(order, flags.migratetype, pack_gfp(flags))

    def _compaction(self, driven: Driven, kind: int, time_ns: int, fields: dict[str, str]) -> None:
        if kind == events.COMPACTION_BEGIN:
            self._for_an_order = time_ns - self._woken_ns < PROACTIVE_AFTER_NS
            return
        if kind != events.COMPACTION_END or not self._for_an_order:
            return
        if fields.get("status") not in _ENDED_WITHOUT_SUCCESS:
            return
        zone = driven.pair.guest.zone_of(number_of(fields, "zone_start", -1))
        if zone >= 0:
            drain_zone(driven.pair.guest.base, zone)
            driven.changed()
