"""The guest under node_exporter's names: each figure is that of the kernel's field, counted here
in another way, and no name is there that the kernel or node_exporter does not have.
"""

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from pagesoak.allocator.files import fill_files
from pagesoak.allocator.geometry import ZONE_MOVABLE
from pagesoak.allocator.gfp import USER_MOVABLE
from pagesoak.allocator.guest import DONE
from pagesoak.allocator.page_alloc import KILLED
from pagesoak.allocator.proc_view import buddy_info, zone_info
from pagesoak.allocator.procfs import format_buddyinfo
from pagesoak.allocator.shrink import DIRECT, KSWAPD
from pagesoak.allocator.zoneinfo import format_zoneinfo
from pagesoak.base.layout import Z_BOOST, Z_FREE_PAGES
from pagesoak.base.layout_reclaim import L_FILE_PAGES, L_MLOCKED_PAGES
from pagesoak.base.segment_view import SegmentView
from pagesoak.base.statistics import publish_statistics
from pagesoak.daemon.metrics_guest import GuestCollector
from pagesoak.daemon.reading import Reader
from pagesoak.engine.summary import figures
from tests.core_helper import G512, CoreGuest, core_guest, dma32_alone, kswapd, zone_of_blocks
from tests.files_guest import (
    END_WRITEBACK,
    FOREVER_NS,
    WAKE_FLUSHER,
    FilesGuest,
    files_guest,
    reclaim_directly,
    shrink,
)

RECORDED = Path(__file__).parents[1] / "recordings" / "w1"
"""A guest with Linux 6.1 at rest."""
ZONE = zone_of_blocks(8)
"""32 MiB of DMA32."""
COUNTED = {
    "nr_written",
    "oom_kill",
    "pageoutrun",
    "pgdeactivate",
    "pgscan_direct_throttle",
    "pgsteal_direct",
    "pgsteal_file",
    "pgsteal_kswapd",
}
ZONEINFO_NAMES = re.compile(
    r"(nr_free|min|low|high|spanned|present|managed)_pages|protection_[0-4]"
)
"""What node_exporter makes of a zone's lines of Linux 6.1 that are modelled, and of `present`."""

Series = dict[tuple[str, ...], float]


def recorded(name: str) -> str:
    """A file of /proc of the recorded guest."""
    return gzip.decompress((RECORDED / f"before.{name}.gz").read_bytes()).decode()


def collected(guest: CoreGuest) -> list[Metric]:
    """All series of a guest, as the daemon reads and gives them."""
    publish_statistics(guest.base, 0)
    view = SegmentView(os.dup(guest.segment.file.descriptor))
    try:
        reading = Reader(view).take()
    finally:
        view.close()
    assert reading is not None
    return list(GuestCollector(reading).collect())


def series(guest: CoreGuest) -> Series:
    """Values by name and the labels' values, in the labels' order."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in collected(guest)
        for sample in family.samples
    }


def vmstat(guest: CoreGuest) -> dict[str, float]:
    """The fields of `vmstat` by the kernel's names."""
    named = {name: value for (name, *labels), value in series(guest).items() if not labels}
    stem = "node_vmstat_"
    return {name.removeprefix(stem): value for name, value in named.items() if stem in name}


def counted(guest: CoreGuest) -> dict[str, float]:
    """The counters of `vmstat` that are not 0."""
    return {name: value for name, value in vmstat(guest).items() if name in COUNTED and value}


def printed_zones(guest: CoreGuest) -> Series:
    """What node_exporter reads from the text of /proc/zoneinfo, of zones that have pages."""
    found: Series = {}
    text_of_all = format_zoneinfo(zone_info(guest.segment))
    for text in re.split(r"^(?=Node )", text_of_all, flags=re.MULTILINE)[1:]:
        node, zone = re.findall(r"^Node (\d+), zone +(\w+)", text)[0]
        lines = re.findall(r"^ +(min|low|high|spanned|managed) +(\d+)$", text, re.MULTILINE)
        values = {f"{name}_pages": int(value) for name, value in lines}
        reserve = re.findall(r"\d+", re.findall(r"protection: \((.*)\)", text)[0])
        values |= {f"protection_{column}": int(pages) for column, pages in enumerate(reserve)}
        if values["managed_pages"]:
            values["nr_free_pages"] = int(re.findall(r" nr_free_pages (\d+)", text)[0])
            for name, value in values.items():
                found[f"node_zoneinfo_{name}", node, zone] = value
    return found


# ---- names and types ----


def test_every_vmstat_name_is_one_that_linux_6_1_prints() -> None:
    printed = [line.split()[0] for line in recorded("vmstat").splitlines()]
    with core_guest(*G512) as guest:
        given = list(vmstat(guest))
    assert set(given) <= set(printed)
    assert given == sorted(given, key=printed.index), "in the kernel's order"
    assert set(given) > COUNTED


def test_every_zoneinfo_name_is_one_of_node_exporter() -> None:
    """It knows `scanned_pages` too, which Linux 6.1 does not print."""
    with core_guest(*G512) as guest:
        names = {name for name, *_ in series(guest) if name.startswith("node_zoneinfo_")}
    assert all(ZONEINFO_NAMES.fullmatch(name.removeprefix("node_zoneinfo_")) for name in names)
    assert "spanned" in recorded("zoneinfo")
    assert "scanned" not in recorded("zoneinfo")


def test_vmstat_is_untyped_and_all_else_is_a_gauge() -> None:
    with core_guest(*G512) as guest:
        types = {family.name: family.type for family in collected(guest)}
    for name, kind in types.items():
        assert kind == ("unknown" if name.startswith("node_vmstat_") else "gauge"), name


# ---- levels, against the text of the same guest ----


def test_zones_are_those_of_the_text() -> None:
    """Watermarks with their boost, of one zone only."""
    with core_guest(*G512) as guest:
        guest.set_marks(21, 26, 31, 0)
        guest.set_marks(678, 847, 1016, 1)
        guest.set_word(Z_BOOST, 512, 1)
        guest.take_down_to(2000, 1)
        found, printed = series(guest), printed_zones(guest)
        assert {
            key: value for key, value in found.items() if key[0].startswith("node_zoneinfo_")
        } == printed
        assert printed["node_zoneinfo_low_pages", "0", "DMA32"] == 847 + 512
        assert printed["node_zoneinfo_spanned_pages", "0", "DMA"] == 4095
        guest.set_word(Z_BOOST, 0, 1)


def test_free_blocks_are_those_of_the_text() -> None:
    with core_guest(*G512) as guest:
        guest.take_down_to(2000, 1)
        found = series(guest)
        for line in format_buddyinfo(buddy_info(guest.segment)).splitlines():
            (node, zone), blocks = (
                re.findall(r"Node (\d+), zone +(\w+)", line)[0],
                line.split()[4:],
            )
            given = [found["node_buddyinfo_blocks", node, zone, str(n)] for n in range(11)]
            assert given == [int(number) for number in blocks]


def test_levels_of_vmstat_are_those_of_all_zones_of_the_text() -> None:
    with files_guest(*G512, pages=300) as guest:
        guest.set_load(L_FILE_PAGES, 200)
        guest.set_load(L_MLOCKED_PAGES, 10)
        assert fill_files(guest.base, 0, 0, FOREVER_NS) == DONE
        guest.read(*range(20, 120))
        guest.take_down_to(847, 1)
        guest.drain()
        guest.read(*range(120, 200), *range(100, 140))
        zones = zone_info(guest.segment)
        names = [name for name, _ in next(zone for zone in zones if zone.managed).zone_stats]
        together = {
            name: sum(dict(zone.zone_stats).get(name, 0) for zone in zones) for name in names
        }
        assert min(dict(zone.zone_stats)["nr_zone_inactive_file"] for zone in zones[:2]) > 0
        found = vmstat(guest)
        assert {name: found[name] for name in together} == together
        for lru, pages in (("inactive_file", 140), ("active_file", 40), ("unevictable", 10)):
            assert found[f"nr_{lru}"] == found[f"nr_zone_{lru}"] == pages


# ---- counters, against what is seen to have happened ----


def in_memory(guest: FilesGuest) -> int:
    """Pages of files that are in memory, counted one by one."""
    return sum(guest.pfn(page) >= 0 for page in range(guest.pages))


def direct_reclaim(guest: FilesGuest) -> None:
    assert reclaim_directly(guest.base, 0, USER_MOVABLE, 0) > 0


def kswapd_scan(guest: FilesGuest) -> None:
    assert shrink(guest.base, 0, ZONE_MOVABLE, 32, 0, KSWAPD)[0] > 0


@pytest.mark.parametrize(
    ("take", "name"), [(direct_reclaim, "pgsteal_direct"), (kswapd_scan, "pgsteal_kswapd")]
)
def test_pages_stolen_are_those_that_left_the_cache(
    take: Callable[[FilesGuest], None], name: str
) -> None:
    with files_guest(ZONE) as guest:
        guest.read(*range(200))
        before = in_memory(guest)
        take(guest)
        gone = before - in_memory(guest)
        assert gone > 0
        assert counted(guest) == {name: gone, "pgsteal_file": gone}


def test_pages_deactivated_are_those_that_left_the_active_list() -> None:
    with files_guest(ZONE) as guest:
        guest.read(*range(20), *range(12))
        before = len(guest.lru("active"))
        shrink(guest.base, 2, ZONE_MOVABLE, 100, 0, DIRECT)
        gone = before - len(guest.lru("active"))
        assert gone == 3
        assert counted(guest)["pgdeactivate"] == gone


def test_pages_written_are_counted_when_the_disk_has_them() -> None:
    with files_guest(ZONE) as guest:
        guest.written_after(0)
        guest.write(1, 2, 3, 2)
        guest.step(WAKE_FLUSHER)
        assert counted(guest) == {}
        guest.step(END_WRITEBACK)
        assert counted(guest) == {"nr_written": 3}


@pytest.mark.parametrize(("free_pages", "throttled"), [(340, 0), (339, 1)])
def test_runs_of_kswapd_throttled_requests_and_kills(free_pages: int, throttled: int) -> None:
    """Half of min is 339; a request that waits sees kswapd give up after 16 runs."""
    with dma32_alone() as guest:
        guest.take_down_to(free_pages)
        guest.set_word(Z_FREE_PAGES, free_pages)
        assert guest.alloc() == KILLED
        wanted = {"pgscan_direct_throttle": throttled, "pageoutrun": 16 * throttled, "oom_kill": 1}
        assert counted(guest) == {name: value for name, value in wanted.items() if value}


def test_counters_are_those_of_the_summary_of_the_same_run() -> None:
    """A guest that has been through everything: kswapd, then direct reclaim, and dirty pages."""
    with files_guest(ZONE, pages=6000) as guest:
        guest.set_marks(300, 375, 450)
        guest.written_after(0)
        guest.read(*range(6000), *range(4000))
        guest.write(*range(5990, 6000))
        guest.step(WAKE_FLUSHER)
        guest.step(END_WRITEBACK)
        guest.drain()
        guest.take_down_to(360)
        assert guest.alloc() >= 0
        kswapd(guest.base)
        direct_reclaim(guest)
        found, summary = vmstat(guest), figures(guest.segment, 0)
    reclaim, cache = summary["reclaim"], summary["page_cache"]
    freed = reclaim["freed_pages"]
    assert {name: found[name] for name in COUNTED} == {
        "nr_written": cache["written_pages"],
        "oom_kill": sum(summary["oom_events"].values()),
        "pageoutrun": reclaim["kswapd_runs"],
        "pgdeactivate": cache["deactivated_pages"],
        "pgscan_direct_throttle": reclaim["throttles"],
        "pgsteal_direct": freed["direct"],
        "pgsteal_file": freed["direct"] + freed["kswapd"],
        "pgsteal_kswapd": freed["kswapd"],
    }
    assert found["nr_inactive_file"] == cache["inactive_pages"]
    assert found["nr_active_file"] == cache["active_pages"]
    assert min(found[name] for name in COUNTED - {"oom_kill", "pgscan_direct_throttle"}) > 0
    assert freed["direct"] != freed["kswapd"]
