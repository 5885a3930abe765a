"""Kernel profiles: which version's rules a guest follows, each difference named here and nowhere
else.

A profile is a set of rules, one bit each, kept in the header (`H_KERNEL`); the core asks for a
rule where the versions differ. What is not named here is the same in both: the order of fallback
types, splitting and merging, placement, watermarks' arithmetic, boost, largest order, THP lists of
the pagesets, and all of page reporting.

`6.1` stands for 6.1.124 and later, `6.12` for 6.12.29 and later: the stable releases that Debian
12 and 13 carry. A version text (`profile_of`) may name an older release of 6.1 or 6.12.

Sources: Linux 6.1.y and 6.12.y `mm/page_alloc.c`, `mm/vmscan.c`; the announcement of each stable
release, and the patches as they were sent to the stable list. Docs: docs/model.md, 2.1.
"""

import re
from dataclasses import dataclass

from pagesoak.base.errors import InputError
from pagesoak.base.layout import Core
from pagesoak.base.layout_kernel import H_COMPACTION, H_KERNEL
from pagesoak.base.native import Words, leaf
from pagesoak.base.timer_wheel import MSLEEP_EXTRA_TICKS

FREE_PAGES_ARE_RECLAIMABLE = 1 << 0
"""A zone without reclaimable pages counts its free pages as such (`zone_reclaimable_pages`), so
that the retry rule sees them twice. 6.1.124, 6.12.9 (mainline 6aaced5abd32, CVE-2024-57884). A
change that moves this into the test for throttling alone was merged for 6.18
("fix duplicate accounting of free pages in should_reclaim_retry"); no stable release of 6.1 or
6.12 with it is known here.
"""
ATOMIC_FALLS_BACK_ON_RESERVE = 1 << 1
"""A single page for somebody who cannot sleep may come from the HIGHATOMIC reserve when all else
failed (`rmqueue_buddy`). 6.1.116 (which also brought the present rights, ALLOC_NON_BLOCK and so
on), 6.12 (mainline 281dd25c1a01).
"""
RESERVE_BY_FREE_PAGES = 1 << 2
"""The watermark test takes off the *free* pages of HIGHATOMIC page blocks, not all of those blocks
(`__zone_watermark_unusable_free`). 6.12 (mainline c928807f6f6b).
"""
RESERVE_IN_WHOLE_PAGEBLOCKS = 1 << 3
"""The HIGHATOMIC reserve is at most 1 % of the zone in whole page blocks, and none in a zone of
which 1 % is less than one; blocks larger than a page block are reserved and given back whole. 6.8
(mainline d68e39fc45f7, 9cd20f3fbe6b) and 6.10 (7cc5a5d65011).
"""
TYPED_FREE_LISTS = 1 << 4
"""A free block is always on the lists of its page block's type. So drained pages go where their
page block says, merging and isolation carry the other block's type along, and a fallback either
claims the whole page block or takes the smallest block there is and leaves its rest where it was.
6.10 (mainline c0cd6f557b90 and the series before it), 6.12.29 (c2f6ea38fc1b, 90abee6d7895).
"""
TUNED_PAGESETS = 1 << 5
"""`high` of a pageset moves between high_min and high_max with use; refills double, frees grow
page by page (`nr_pcp_alloc`, `nr_pcp_high`). 6.7 (mainline 90b41691b988 and the series around it).
"""
MOVABLE_ZONE_APART = 1 << 6
"""Zone Movable takes no share of `min_free_kbytes`: its min is a thousandth of it, 32 to 128
pages (`__setup_per_zone_wmarks`). By 6.6.
"""
RESERVE_BEFORE_OOM = 1 << 7
"""The whole HIGHATOMIC reserve is given back before every "no" of the retry rule, not only when
the rounds are used up (`should_reclaim_retry`). 6.8 (mainline ac3f3b0a5551) and 6.1.119.
"""
MSLEEP_ADDS_A_TICK = 1 << 8
"""`msleep` sleeps a tick longer than the timer wheel makes it anyway. Dropped in 6.12 (mainline
4381b895f544).
"""
FREED_IN_ORDER = 1 << 9
"""Unmapped pages are freed in the order of their addresses, not each batch of a gather from its
end (`folios_put_refs` in place of the list of `release_pages`). 6.9 (mainline 99fbb6bfc16f).
"""
WHOLE_REGIONS_ALIGNED = 1 << 10
"""An anonymous region of whole 2 MiB begins at a 2 MiB boundary (`thp_get_unmapped_area`), huge
pages on or off. 6.7 (mainline efa7df3e3bb5; of whole 2 MiB only since d4148aeab412, 6.12).
"""

_RULES_OF_BOTH = FREE_PAGES_ARE_RECLAIMABLE | ATOMIC_FALLS_BACK_ON_RESERVE | RESERVE_BEFORE_OOM
_RULES_6_1 = _RULES_OF_BOTH | MSLEEP_ADDS_A_TICK
_RULES_6_12 = (
    _RULES_OF_BOTH
    | RESERVE_BY_FREE_PAGES
    | RESERVE_IN_WHOLE_PAGEBLOCKS
    | TYPED_FREE_LISTS
    | TUNED_PAGESETS
    | MOVABLE_ZONE_APART
    | FREED_IN_ORDER
    | WHOLE_REGIONS_ALIGNED
)
_SINCE = {
    "6.1": (
        (ATOMIC_FALLS_BACK_ON_RESERVE, 116),
        (RESERVE_BEFORE_OOM, 119),
        (FREE_PAGES_ARE_RECLAIMABLE, 124),
    ),
    "6.12": ((FREE_PAGES_ARE_RECLAIMABLE, 9), (TYPED_FREE_LISTS, 29)),
}
"""From which stable release on a rule holds, where it came with one."""
_LEAST = {"6.1": 0, "6.12": 29}
"""The oldest release modelled: 6.12 before 6.12.29 fell back in a way of its own."""
_DEBIAN_ABI_OF_6_1_124 = 30
"""Debian 12 names its kernels 6.1.0-N; from N = 30 on they are 6.1.124 or later."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of a kernel. `release` is its stable release, None for the profile's newest."""

    name: str
    rules: int
    release: int | None = None

    def has(self, rule: int) -> bool:
        """Whether the kernel follows a rule."""
        return self.rules & rule != 0


PROFILES = {"6.1": Profile("6.1", _RULES_6_1), "6.12": Profile("6.12", _RULES_6_12)}
"""By the name that `guest.kernel` of a scenario gives."""
DEFAULT_PROFILE = PROFILES["6.1"]

_DEBIAN_RELEASE = re.compile(r"(?<!\()\bDebian (\d+)\.(\d+)\.(\d+)(?!\d)")
_RELEASE = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?:\.(\d+))?(?:-(\d+)-[a-z0-9-]+)?")


def profile_of(version_text: str) -> Profile:
    """The profile of a kernel by the text that names it.

    Takes what `uname -r`, `/proc/version`, a boot log or the name of a kernel image say, such as
    `Linux version 6.1.0-56-amd64 (…) #1 SMP Debian 6.1.192-2`, `vmlinuz-6.1.0-56-amd64` or
    `6.12.43+deb13-amd64`. Raises InputError when no version is in it, or one that is not modelled.
    """
    shown = version_text.strip()[:80]
    debian = _DEBIAN_RELEASE.search(version_text)
    found = debian or _RELEASE.search(version_text)
    if found is None:
        raise InputError(f"no kernel version in {shown!r}")
    name = f"{found[1]}.{found[2]}"
    if name not in PROFILES:
        known = " and ".join(PROFILES)
        raise InputError(f"kernel {name} is not modelled, only {known}: {shown!r}")
    if debian is None and found[3] == "0" and found[4] is not None:
        if name != "6.1" or int(found[4]) < _DEBIAN_ABI_OF_6_1_124:
            raise InputError(f"which stable release of {name} it is cannot be told: {shown!r}")
        return PROFILES[name]
    return _of_release(name, None if found[3] is None else int(found[3]))


def _of_release(name: str, release: int | None) -> Profile:
    profile = PROFILES[name]
    if release is None:
        return profile
    if release < _LEAST[name]:
        raise InputError(f"kernel {name}.{release} is not modelled, {name}.{_LEAST[name]} is")
    rules = profile.rules
    for rule, since in _SINCE[name]:
        if release < since:
            rules &= ~rule
    return Profile(name, rules, release)


def msleep_extra_ticks(profile: Profile) -> int:
    """Ticks that `msleep` adds to what it was asked for (`base.timer_wheel`)."""
    return MSLEEP_EXTRA_TICKS if profile.has(MSLEEP_ADDS_A_TICK) else 0


def set_compaction(header: Words, *, on: bool) -> None:
    """Let a guest compact, or not (CONFIG_COMPACTION); until then it does not."""
    header[H_COMPACTION] = int(on)


@leaf
def kernel_has(core: Core, rule: int) -> bool:
    """Whether the guest's kernel follows a rule."""
    return core.header[H_KERNEL] & rule != 0
