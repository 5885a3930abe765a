"""Wrong slow paths, kswapds, reclaims and OOM killers that must be caught: planted in a copy of
the sources, which runs as plain Python in a process of its own, a named case fails.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SLOWPATH, KSWAPD, CACHE, OOM = (
    "test_slowpath.py",
    "test_kswapd.py",
    "test_page_cache.py",
    "test_oom.py",
)
CASES_SECONDS_MAX = 300
"""No case runs for more than some seconds; a mutant that never ends is none."""
HELPERS = ("core_helper.py", "files_guest.py")
PACKAGES = ("base", "allocator")
SETTINGS = {
    "NUMBA_DISABLE_JIT": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Mutant(NamedTuple):
    """In `allocator/<file>`, `before` becomes `after`; the test `caught_by` of `cases` fails."""

    file: str
    before: str
    after: str
    cases: str
    caught_by: str


MUTANTS = {
    "one retry too few": Mutant(
        "slowpath.py", "RECLAIM_RETRIES_MAX = 16", "RECLAIM_RETRIES_MAX = 15",
        SLOWPATH, "stalls_of_each_release",
    ),
    "isolated pages counted in the retry": Mutant(
        "slowpath.py", "available += zone_reclaimable_pages(core, zone)",
        "available += zone_reclaimable_pages(core, zone) + 400",
        SLOWPATH, "rounds_end_at_once",
    ),
    "the retry does not ask for a block": Mutant(
        "slowpath.py", "order == 0 or zone_has_block(core, zone, order, alloc_flags)",
        "order >= 0", SLOWPATH, "no_round_for_an_order",
    ),
    "free pages never reclaimable": Mutant(
        "reclaim.py", "if pages == 0 and kernel_has(", "if pages < 0 and kernel_has(",
        SLOWPATH, "stalls_of_each_release",
    ),
    "NORETRY goes on": Mutant(
        "slowpath.py",
        "if pfn != NO_PAGE or gfp & GFP_NORETRY or (",
        "if pfn != NO_PAGE or (",
        SLOWPATH, "what_becomes_of_a_request and NORETRY",
    ),
    "a request without __GFP_FS kills": Mutant(
        "oom.py", "if gfp & GFP_FS == 0:", "if gfp < 0:",
        SLOWPATH, "what_becomes_of_a_request and FS",
    ),
    "of equals the first is killed": Mutant(
        "oom.py", "badness >= worst", "badness > worst", OOM, "of_equals_the_last",
    ),
    "the unkillable is killed": Mutant(
        "oom.py", "if core.loads[at + L_OOM_SCORE_ADJ] == OOM_SCORE_ADJ_MIN:",
        "if core.loads[at + L_OOM_SCORE_ADJ] > 0:", OOM, "nobody_may_be_killed",
    ),
    "the adjustment is not weighed": Mutant(
        "oom.py", "return held + page_tables + adjusted", "return held + page_tables",
        OOM, "adjustment_weighs",
    ),
    "a victim gets no reserves": Mutant(
        "watermark.py",
        "    if alloc_flags & ALLOC_OOM:\n        low -= low // 2\n", "",
        OOM, "who_asks_is_killed",
    ),
    "a second kill while the first is dying": Mutant(
        "oom.py", "    if dying != NOTHING:\n        return dying\n", "",
        OOM, "victim_at_work_elsewhere",
    ),
    "balanced only when all zones are": Mutant(
        "node.py", "        if zone_watermark_ok(core, zone, order, mark, highest_zone, 0):\n"
        "            return True\n    return zones == 0",
        "        if not zone_watermark_ok(core, zone, order, mark, highest_zone, 0):\n"
        "            return False\n    return True",
        KSWAPD, "ks_1",
    ),
    "balanced at the low mark": Mutant(
        "node.py", "mark = wmark_pages(core, zone, WMARK_HIGH)",
        "mark = wmark_pages(core, zone, 1)", KSWAPD, "ks_1 or above_the_high_mark",
    ),
    "a boost does not wake": Mutant(
        "kswapd.py", "if balanced and not pgdat_boosted(core, node, highest_zone):",
        "if balanced:", KSWAPD, "boost_wakes_it",
    ),
    "kswapd never gives up": Mutant(
        "kswapd.py", "            header[at + N_FAILURES] += 1\n",
        "            header[at + N_FAILURES] = min(header[at + N_FAILURES] + 1, 20)\n"
        "            header[at + N_AWAKE] = 0\n",
        KSWAPD, "sixteen_fruitless_runs",
    ),
    "the hopeless takes boosts back": Mutant(
        "kswapd.py", "    if header[at + N_FAILURES] >= FAILURES_MAX:", "    if header[at] < 0:",
        KSWAPD, "boosts_alone",
    ),
    "throttled at all of min": Mutant(
        "reclaim.py", "free > reserve // 2", "free > reserve", KSWAPD, "half_of_min",
    ),
    "a second access changes nothing": Mutant(
        "page_cache.py", "if state & REFERENCED == 0:", "if state >= 0:",
        CACHE, "second_access",
    ),
    "a page on two lists": Mutant(
        "page_cache.py",
        "        lru_delete(core, slots, slot)\n        slots[at + S_STATE] &= ~REFERENCED\n",
        "        slots[at + S_STATE] &= ~(REFERENCED | LRU_LIST_MASK)\n",
        CACHE, "second_access",
    ),
    "taken from the front": Mutant(
        "shrink.py", "    slot = slots[head * SLOT_WORDS + S_PREVIOUS]\n    while left",
        "    slot = slots[head * SLOT_WORDS + 1]\n    while left",
        CACHE, "clean_pages_go_from_the_end",
    ),
    "a dirty page is freed": Mutant(
        "shrink.py", "if state & (DIRTY | WRITEBACK) == 0:", "if state & WRITEBACK == 0:",
        CACHE, "dirty_pages_become_active",
    ),
    "the flusher sleeps on": Mutant(
        "shrink.py", "if dirty > 0 and dirty == scanned:", "if dirty > scanned:",
        CACHE, "dirty_pages_become_active",
    ),
    "a written page stays active": Mutant(
        "writeback.py", "        elif state & RECLAIM:", "        elif state < 0:",
        CACHE, "dirty_pages_become_active",
    ),
    "active pages come down always": Mutant(
        "shrink.py", "return inactive * ratio < active", "return True",
        CACHE, "left_alone_while_they_are_fewer",
    ),
    "pages of zones the request may not use": Mutant(
        "shrink.py", "if core.zones[zone * ZONE_WORDS + Z_INDEX] <= highest_zone:",
        "if highest_zone >= 0:", CACHE, "only_pages_of_zones",
    ),
    "direct reclaim stops at its first page": Mutant(
        "reclaim.py", "freed < CLUSTER_PAGES", "freed < 1", CACHE, "goes_down_the_priorities",
    ),
    "no hope for kswapd": Mutant(
        "shrink.py", "        core.header[node_at(node) + N_FAILURES] = 0\n", "        pass\n",
        CACHE, "new_hope",
    ),
    "pagesets are not emptied": Mutant(
        "slowpath.py", "    drain_all_pagesets(core, cpu, core.header[H_CPUS])\n", "",
        CACHE, "pagesets_are_emptied",
    ),
}  # fmt: skip


def plant(folder: Path, mutant: Mutant | None) -> None:
    """A copy of what the cases need, with the mutant in it."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / "pagesoak" / package,
            folder / "pagesoak" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pagesoak" / "__init__.py", folder / "pagesoak")
    (folder / "tests" / "unit").mkdir(parents=True)
    for name in HELPERS:
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for name in (SLOWPATH, KSWAPD, CACHE, OOM):
        shutil.copy(ROOT / "tests" / "unit" / name, folder / "tests" / "unit")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    if mutant is not None:
        source = folder / "pagesoak" / "allocator" / mutant.file
        text = source.read_text(encoding="utf-8")
        assert text.count(mutant.before) == 1
        source.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")


def run_cases(folder: Path, cases: str, keyword: str) -> subprocess.CompletedProcess[str]:
    """The cases whose names hold the keyword, on the copy."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--import-mode=importlib"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", f"tests/unit/{cases}", "-k", keyword],
        cwd=folder,
        env=environment | SETTINGS,
        capture_output=True,
        text=True,
        check=False,
        timeout=CASES_SECONDS_MAX,
    )


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    plant(tmp_path, mutant)
    done = run_cases(tmp_path, mutant.cases, mutant.caught_by)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert re.search(r"AssertionError|\bassert ", done.stdout)


@pytest.mark.parametrize("cases", [SLOWPATH, KSWAPD, CACHE, OOM])
def test_the_cases_pass_without_a_mutant(tmp_path: Path, cases: str) -> None:
    plant(tmp_path, None)
    keywords = {f"({m.caught_by})" for m in MUTANTS.values() if m.cases == cases}
    done = run_cases(tmp_path, cases, " or ".join(sorted(keywords)))
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
