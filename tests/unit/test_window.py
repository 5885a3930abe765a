"""`pagesoak window`: guests as they are named, what the reporter does to them, ranges, cliffs."""

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.errors import InputError
from pagesoak.base.layout import MOVABLE
from pagesoak.cli.window import parse_blocks
from pagesoak.cli.window_text import (
    bar_lines,
    cliff_lines,
    mib,
    plot_lines,
    point_lines,
    table_lines,
)
from pagesoak.engine.policy_list import chosen_policies
from pagesoak.reporter.policies import policy_by_name
from pagesoak.study.window import Window, WindowSettings, look
from pagesoak.study.window_guests import (
    NamedGuest,
    from_proc,
    from_snapshot,
    named_guest,
    place_blocks,
    small_blocks,
)
from pagesoak.study.window_range import Cliff, cliffs, parse_free
from tests.guests import RECORDINGS

G512 = named_guest(512 << 20, thp=False)
IDLE = RECORDINGS / "idle_d0"
SETTINGS = WindowSettings()


def window(pages: int, policy: str, guest: NamedGuest = G512) -> Window:
    return look(guest.with_free(pages), policy_by_name(policy), SETTINGS)


def batches(found: Window) -> list[list[dict[int, int]]]:
    return [[call.counts() for call in one.calls] for one in found.passes]


# ---- what a policy does ----


def test_the_mails_example() -> None:
    """P4-1: 100 MiB free: 32 entries at order 9, 16 at order 10."""
    found = window(25_600, "order-threshold")
    assert found.as_json() == {
        "name": "order-threshold",
        "options": {"threshold": "once"},
        "passes": [
            {
                "gate_open": True,
                "capacities": [{"order": 9, "capacity": 32}, {"order": 10, "capacity": 16}],
                "calls": [
                    {
                        "entries": [{"order": 10, "count": 16}],
                        "pfns": None,
                        "free_pages_in_window": 9216,
                    },
                    {
                        "entries": [{"order": 10, "count": 9}],
                        "pfns": None,
                        "free_pages_in_window": 16_384,
                    },
                ],
                "requested_again": False,
            }
        ],
        "isolated_pages_max": 16_384,
        "free_pages_min": 9216,
    }


CLIFF = {
    "mainline": (846, 847),
    "order-threshold": (17_230, 847),
    "halving": (17_230, 17_231),
    "reserve": (17_230, 17_231),
}


@pytest.mark.parametrize("policy", CLIFF, ids=[f"P4-2 S12-2 {name}" for name in CLIFF])
def test_the_cliff(policy: str) -> None:
    left = tuple(window(pages, policy).free_pages_min for pages in (33_614, 33_615))
    assert left == CLIFF[policy]


def test_pass_after_pass() -> None:
    """A-2 in a window: 100 blocks, in four passes."""
    found = look(G512.with_blocks({10: 100}), policy_by_name("halving"), SETTINGS)
    assert batches(found) == [*[[{10: 16}, {10: 16}]] * 3, [{10: 4}]]
    assert [one.requested_again for one in found.passes] == [True, True, True, False]


def test_off_and_a_closed_gate() -> None:
    off = window(25_600, "off")
    assert (off.passes, off.free_pages_min, off.isolated_pages_max) == ([], 25_600, 0)
    closed = window(17_231, "mainline")
    [only] = closed.passes
    assert (only.gate_open, only.calls, only.capacities) == (False, [], {})
    assert closed.free_pages_min == 17_231


@pytest.mark.parametrize(
    ("policy", "after", "least"),
    [
        ("order-threshold", [{9: 1, 10: 20}], 16_756),
        ("halving", [{9: 1}, {10: 16}, {10: 4}], 21_364),
        ("reserve", [{9: 1, 10: 15}, {10: 5}], 21_876),
    ],
    ids=lambda value: f"ST-1 {value}" if isinstance(value, str) else None,
)
def test_a_user_in_the_first_window(policy: str, after: list[dict[int, int]], least: int) -> None:
    guest = named_guest(1 << 30, thp=True).with_blocks({9: 64, 10: 20, **small_blocks(500)})
    settings = WindowSettings(taken_pages=16_000)
    found = look(guest, policy_by_name(policy), settings)
    assert batches(found)[0] == [{9: 32}, *after]
    assert found.free_pages_min == least


def test_a_user_cannot_take_more_than_there_is() -> None:
    with pytest.raises(InputError, match=r"--take: 9217 pages .* 9216 are free"):
        look(
            G512.with_free(25_600),
            policy_by_name("order-threshold"),
            WindowSettings(taken_pages=9217),
        )


def test_what_stops_a_policy_is_shown() -> None:
    """P4-6 from the command line, and where the same repair does no harm."""
    policy = policy_by_name("order-threshold:threshold=each-order")
    found = look(G512.with_blocks({9: 10, 10: 27, **small_blocks(1232)}), policy, SETTINGS)
    assert found.stopped is not None
    assert "10 blocks pending: 5120 pages would be lost" in found.stopped
    assert found.as_json()["stopped"] == found.stopped
    assert table_lines([found])[-1].startswith("order-threshold:threshold=each-order: stopped: ")
    fine = look(G512.with_blocks({9: 10, 10: 20, **small_blocks(1232)}), policy, SETTINGS)
    assert fine.stopped is None
    assert batches(fine) == [[{9: 10}, {10: 16}, {10: 4}]]


def test_device_and_factor() -> None:
    settings = WindowSettings(capacity=24, factor_percent=10)
    [only] = look(G512.with_free(51_200), policy_by_name("halving"), settings).passes
    assert only.capacities == {9: 24, 10: 12}
    assert [call.counts() for call in only.calls] == [{10: 12}]


# ---- guests ----


def test_a_snapshot_has_exact_page_frames() -> None:
    guest = from_snapshot(IDLE / "before.free.gz")
    found = look(guest, policy_by_name("mainline"), SETTINGS)
    unreported = {
        block.pfn
        for zone in guest.snapshot.zones
        for (order, _), blocks in zone.free_lists.items()
        for block in blocks
        if zone.name != "DMA" and order >= 9 and not block.reported
    }
    listed = [pfn for call in found.as_json()["passes"][0]["calls"] for pfn in call["pfns"]]
    everything = [pfn for call in found.calls for pfn, _ in call.blocks]
    assert listed == everything[: len(listed)]
    assert {*everything} == unreported


def test_buddyinfo_and_zoneinfo_say_the_same_without_page_frames() -> None:
    exact = from_snapshot(IDLE / "before.free.gz")
    counted = from_proc(IDLE / "before.buddyinfo.gz", IDLE / "before.zoneinfo.gz")
    assert not counted.exact
    policy = policy_by_name("reserve")
    of_exact, of_counted = look(exact, policy, SETTINGS), look(counted, policy, SETTINGS)
    assert [{*map(tuple, (c.items() for c in one))} for one in batches(of_counted)] == [
        {*map(tuple, (c.items() for c in one))} for one in batches(of_exact)
    ]
    assert of_counted.as_json()["passes"][0]["calls"][0]["pfns"] is None


@pytest.mark.parametrize("name", ["before", "after", "atload"])
def test_blocks_of_recorded_guests_find_a_place(name: str) -> None:
    guest = from_proc(IDLE / f"{name}.buddyinfo.gz", IDLE / f"{name}.zoneinfo.gz")
    for zone in guest.snapshot.zones:
        taken: dict[int, int] = {}
        for (order, _), blocks in zone.free_lists.items():
            for block in blocks:
                assert block.pfn % (1 << order) == 0
                assert zone.start_pfn <= block.pfn <= zone.end_pfn - (1 << order)
                taken[block.pfn] = order
        for pfn, order in taken.items():
            if order < 10:
                assert taken.get(pfn ^ (1 << order)) != order  # no free buddies
        ends = sorted((pfn, pfn + (1 << order)) for pfn, order in taken.items())
        assert all(before[1] <= after[0] for before, after in pairwise(ends))


def test_placing_fills_a_zone_to_the_last_page() -> None:
    counts = {10: 2, 9: 1, 8: 1, 0: 1}
    lists = place_blocks(0, 4096, counts)
    assert {order: len(blocks) for (order, _), blocks in lists.items()} == counts
    assert len(place_blocks(1, 1024, dict.fromkeys(range(10), 1))) == 10
    with pytest.raises(InputError, match="2 free blocks of order 9 do not fit in 1024 pages"):
        place_blocks(0, 1024, {9: 2})
    assert lists[10, MOVABLE][0].pfn == 0


def test_small_rest() -> None:
    assert small_blocks(1232) == {8: 4, 7: 1, 6: 1, 4: 1}
    assert small_blocks(0) == {}
    assert G512.with_free(33_615).snapshot.zones[1].listed_pages == 33_615
    assert G512.marks == ((21, 26, 31), (678, 847, 1016))


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    lines = gzip.decompress((IDLE / "before.buddyinfo.gz").read_bytes()).decode().splitlines()
    other = tmp_path / "buddyinfo"
    other.write_text(lines[0] + "\n")
    with pytest.raises(InputError, match="has no line for node 0, zone DMA32"):
        from_proc(other, IDLE / "before.zoneinfo.gz")
    words = lines[1].split()
    other.write_text(f"{lines[0]}\n{' '.join([*words[:-1], '99999'])}\n")
    with pytest.raises(InputError):
        from_proc(other, IDLE / "before.zoneinfo.gz")


# ---- ranges ----


def test_ranges() -> None:
    assert parse_free("100MiB") == [25_600]
    assert parse_free("33614p..33615p") == [33_614, 33_615]
    assert parse_free("10p..20p/4p") == [10, 14, 18, 20]
    assert parse_free("7p..7p") == [7]
    assert len(parse_free("60MiB..160MiB")) <= 73


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20p..10p", "ends before it begins"),
        ("0..8GiB/1p", "more than 2000 steps"),
        ("many", "is not a number of pages"),
        ("1p..2p..3p", "is not a number of pages"),
        ("10p..20p/0p", "a step of nothing"),
        ("10p..", "is not a number of pages"),
    ],
)
def test_bad_ranges(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_free(text)
    assert caught.value.key == "--free"
    assert said in caught.value.message


def test_cliffs_are_found_to_the_page() -> None:
    policy = policy_by_name("order-threshold")

    def looked(pages: int, _policy: Any) -> Window:
        return look(G512.with_free(pages), policy, SETTINGS)

    windows = [looked(pages, policy) for pages in range(16_000, 40_001, 4_000)]
    found = cliffs(windows, looked)
    assert found == [
        Cliff("order-threshold", 17_231, 17_231, 848),
        Cliff("order-threshold", 33_614, 17_230, 847),
    ]
    assert "with 33,614 pages free, 17,230 stay free in the window" in cliff_lines(found)[1]
    assert json.dumps(found[1].as_json()).count("847") == 1


# ---- what is shown ----


def test_table_and_bars() -> None:
    found = [window(25_600, name) for name in ("off", "mainline", "halving")]
    lines = table_lines(found)
    assert lines[1].split() == ["off", "no", "device"]
    assert lines[2].split()[:5] == ["mainline", "1", "32/32", "24", "o10"]
    assert "9,216 (36.0 MiB)" in lines[3]
    bars = bar_lines(found)
    assert bars[1].count("█") == 50
    assert bars[2].rstrip().endswith("██")
    assert mib(847) == "3.3 MiB"


def test_many_windows_are_counted() -> None:
    found = look(
        G512.with_blocks({10: 100}), policy_by_name("driver-capacity:capacity=4"), SETTINGS
    )
    assert len(found.calls) == 25
    assert any("and 13 more windows" in line for line in table_lines([found]))
    assert not any("o10" in line for line in table_lines([found])[20:])


def test_plot() -> None:
    points = (16_000, 33_614, 33_615)
    by_policy = [[window(pages, "order-threshold") for pages in points]]
    lines = plot_lines(by_policy, 80)
    assert lines[0] == "order-threshold: least free in a window, up to 67.3 MiB"
    assert [line.removeprefix("  |") for line in lines[1:5]] == ["▅█", "██", "██", "██▁"]
    assert lines[5] == "   62.5 MiB to 131.3 MiB free"
    assert point_lines(by_policy)[-1].split() == ["33,615", "847"]


# ---- words of the command line ----


def test_policies_of_a_list() -> None:
    found = chosen_policies("off,halving:budget=shift,driver-capacity:capacity=3")
    assert [policy.name for policy in found] == ["off", "halving", "driver-capacity"]
    assert [policy.name for policy in chosen_policies(None)][:3] == [
        "off", "mainline", "driver-capacity",
    ]  # fmt: skip
    with pytest.raises(InputError, match="no policy named 'magic'"):
        chosen_policies("off,magic")


@pytest.mark.parametrize("text", ["9", "9:1,9:2", "11:1", "9:-1", "", "a:b", "9:1,"])
def test_bad_blocks(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_blocks(text)
    assert caught.value.key == "--blocks"


def test_blocks() -> None:
    assert parse_blocks("9:20, 10:20,0:3") == {9: 20, 10: 20, 0: 3}
