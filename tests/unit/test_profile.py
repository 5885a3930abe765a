"""Kernel profiles: which text names which rules, and what sets them."""

import pytest

from pagesoak.allocator import profile as rules
from pagesoak.allocator.geometry import guest_zones, managed_by_index
from pagesoak.allocator.populate import WatermarkSettings
from pagesoak.allocator.profile import PROFILES, kernel_has, profile_of
from pagesoak.allocator.watermark_setup import zone_watermarks
from pagesoak.base.errors import InputError
from pagesoak.base.layout import open_core
from pagesoak.base.layout_kernel import H_KERNEL
from pagesoak.base.native import entry
from tests.guests import recorded_guest, small_snapshot, synthetic_guest

MIB = 1 << 20
BOOT_LINE = (
    "Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14"
    "+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian"
    " 6.1.192-2 (2026-11-16)"
)


@entry
def follows(base: int, rule: int) -> int:
    """`kernel_has` for a test."""
    return int(kernel_has(open_core(base), rule))


@pytest.mark.parametrize(
    ("text", "name", "release"),
    [
        (BOOT_LINE, "6.1", 192),
        ("6.1", "6.1", None),
        ("vmlinuz-6.1.0-56-amd64", "6.1", None),
        ("6.1.0-30-amd64", "6.1", None),
        ("6.1.124", "6.1", 124),
        ("6.12", "6.12", None),
        ("Linux version 6.12.43+deb13-amd64 (x) #1 SMP Debian 6.12.43-1 (2025-08-27)", "6.12", 43),
        ("vmlinuz-6.12.43+deb12-amd64", "6.12", 43),
        ("6.12.29", "6.12", 29),
    ],
)
def test_a_version_text_names_a_profile(text: str, name: str, release: int | None) -> None:
    found = profile_of(text)
    assert (found.name, found.release, found.rules) == (name, release, PROFILES[name].rules)


@pytest.mark.parametrize(
    ("release", "without"),
    [
        (192, ()),
        (124, ()),
        (123, (rules.FREE_PAGES_ARE_RECLAIMABLE,)),
        (119, (rules.FREE_PAGES_ARE_RECLAIMABLE,)),
        (118, (rules.FREE_PAGES_ARE_RECLAIMABLE, rules.RESERVE_BEFORE_OOM)),
        (
            115,
            (
                rules.FREE_PAGES_ARE_RECLAIMABLE,
                rules.RESERVE_BEFORE_OOM,
                rules.ATOMIC_FALLS_BACK_ON_RESERVE,
            ),
        ),
    ],
)
def test_rules_that_came_with_a_stable_release_of_6_1(
    release: int, without: tuple[int, ...]
) -> None:
    found = profile_of(f"6.1.{release}")
    missing = PROFILES["6.1"].rules & ~found.rules
    assert missing == sum(without)
    assert not any(found.has(rule) for rule in without)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no kernel version in ''"),
        ("bzImage", "no kernel version in 'bzImage'"),
        ("Linux version 5.10.0-8-amd64", "kernel 5.10 is not modelled, only 6.1 and 6.12"),
        ("6.6.42", "kernel 6.6 is not modelled"),
        ("6.13.7", "kernel 6.13 is not modelled"),
        ("6.12.28", "kernel 6.12.28 is not modelled, 6.12.29 is"),
        ("6.12.0", "kernel 6.12.0 is not modelled"),
        ("vmlinuz-6.1.0-21-amd64", "which stable release of 6.1 it is cannot be told"),
    ],
)
def test_an_unknown_kernel_is_named(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace(".", r"\.")):
        profile_of(text)


def test_the_guest_carries_its_rules() -> None:
    """The default is 6.1; both ways of starting a guest take a profile."""
    with synthetic_guest(64 * MIB) as old, recorded_guest(small_snapshot(), cpus=2) as recorded:
        assert old.header[H_KERNEL] == recorded.header[H_KERNEL] == PROFILES["6.1"].rules
        assert follows(old.base, rules.FREE_PAGES_ARE_RECLAIMABLE) == 1
        assert follows(old.base, rules.TUNED_PAGESETS) == 0
    settings = WatermarkSettings(profile=PROFILES["6.12"])
    with synthetic_guest(64 * MIB, settings=settings) as new:
        assert follows(new.base, rules.TUNED_PAGESETS) == 1


def test_a_movable_zone_takes_no_share_of_min_free_kbytes_in_6_12() -> None:
    """1 GiB with 256 MiB in zone Movable: 65536 pages, of which a 1024th is 64."""
    managed = managed_by_index(guest_zones(1024 * MIB, 256 * MIB))
    assert managed == (3840, 180224, 0, 65536)
    shared = zone_watermarks(managed, thp=False)
    apart = zone_watermarks(managed, thp=False, movable_apart=True)
    assert shared.min_free_kbytes == apart.min_free_kbytes == 3432
    assert [zone.min for zone in shared.zones] == [13, 619, 0, 225]
    assert [zone.min for zone in apart.zones] == [17, 840, 0, 64]
    assert apart.zones[3].low - apart.zones[3].min == 305 // 4


def test_the_min_of_a_movable_zone_is_32_to_128_pages() -> None:
    for movable, least in ((1024, 32), (40_000, 39), (10_000_000, 128)):
        zones = zone_watermarks((3840, 100_000, 0, movable), thp=False, movable_apart=True).zones
        assert zones[3].min == least
