"""The OOM killer: whom it takes, and how the memory comes back.

Models Linux 6.1 `mm/oom_kill.c`: `out_of_memory`, `select_bad_process`, `oom_badness`, the OOM
reaper. The processes are the loads. A load's badness is what it has in pages, its page tables, and
`oom_score_adj` thousandths of all memory; the worst is killed, of equals the last. It may be
another one than the one that asked. Who asked and is chosen gets at the reserves and dies when its
request is over; another one's pages are given back at once, as the reaper does, unless its CPU is
at work on them this moment: then it gives them back itself, and who asked waits a tick.

No process to kill: the kernel would panic. Here the request is answered KILLED, and what asked
says what that means (a hog that cannot reach its size, a replay that drops a request).
"""

from pagesoak.allocator.attribution import ISOLATED, note_request
from pagesoak.allocator.demand import note_cut_off
from pagesoak.allocator.gfp import GFP_FS
from pagesoak.allocator.page_alloc import ABORTED, total_pages
from pagesoak.allocator.page_free import release
from pagesoak.base import recorder
from pagesoak.base.external import compare_exchange, store_release
from pagesoak.base.layout import (
    H_LOADS,
    H_STOP,
    L_CURSOR,
    L_HELD,
    L_HELD_PAGES,
    L_OWNER,
    L_TABLE,
    LOAD_WORDS,
    OWNER_FIRST_LOAD,
    PAGEBLOCK_ORDER,
    Z_MANAGED,
    Core,
)
from pagesoak.base.layout_reclaim import L_BUSY, L_OOM_SCORE_ADJ, L_VICTIM
from pagesoak.base.native import inner
from pagesoak.base.recorder import record
from pagesoak.base.statistics import OOM_ISOLATED, count

OOM_SCORE_ADJ_MIN = -1000
"""Never killed."""
OOM_SCORE_ADJ_UNIT = 1000

NO_PROCESS = -1
DYING = 1
"""Chosen; its pages are still its own."""
REAPED = 2

NOTHING = 0
"""Nobody is dying."""
PROGRESS = 1
"""Something was or will be freed: try again from the start."""
WAIT = 2
"""Somebody is dying on another CPU, or nobody may be killed for this request: try again later."""
NOBODY = 3
"""There is no process to kill."""


@inner
def process_of(core: Core, owner: int) -> int:
    """The load whose process asks; NO_PROCESS when it is none."""
    load = owner - OWNER_FIRST_LOAD
    return load if 0 <= load < core.header[H_LOADS] else NO_PROCESS


@inner
def is_victim(core: Core, owner: int) -> bool:
    """Whether the process that asks has been chosen already (`tsk_is_oom_victim`)."""
    load = process_of(core, owner)
    return load != NO_PROCESS and core.loads[load * LOAD_WORDS + L_VICTIM] != 0


@inner
def oom_badness(core: Core, load: int) -> int:
    """How much is gained by killing a load's process; pages, with its adjustment."""
    at = load * LOAD_WORDS
    held = core.loads[at + L_HELD_PAGES]
    page_tables = (held >> PAGEBLOCK_ORDER) + 1
    adjusted = core.loads[at + L_OOM_SCORE_ADJ] * (
        total_pages(core, Z_MANAGED) // OOM_SCORE_ADJ_UNIT
    )
    return held + page_tables + adjusted


@inner
def select_bad_process(core: Core, asking: int) -> int:
    """The worst process, of equals the last; NO_PROCESS when none may be killed.

    One that has nothing is not there, unless it is the one that asks.
    """
    chosen = NO_PROCESS
    worst = 0
    for load in range(core.header[H_LOADS]):
        at = load * LOAD_WORDS
        if core.loads[at + L_OOM_SCORE_ADJ] == OOM_SCORE_ADJ_MIN:
            continue
        if core.loads[at + L_HELD_PAGES] == 0 and load != asking:
            continue
        badness = oom_badness(core, load)
        if chosen == NO_PROCESS or badness >= worst:
            chosen = load
            worst = badness
    return chosen


@inner
def reap(core: Core, cpu: int, load: int) -> int:
    """Give back all that a dying process has, if nobody works on its table; pages, -1 if somebody
    does, ABORTED when the run ends.
    """
    at = load * LOAD_WORDS
    if compare_exchange(core.loads, at + L_BUSY, 0, cpu + 1) != 0:
        return -1
    freed = core.loads[at + L_HELD_PAGES]
    owner = core.loads[at + L_OWNER]
    answer = 0
    while core.loads[at + L_CURSOR] < core.loads[at + L_HELD]:
        pfn = core.tables[core.loads[at + L_TABLE] + core.loads[at + L_CURSOR]]
        if core.header[H_STOP] != 0 or release(core, cpu, pfn, owner) == ABORTED:
            answer = ABORTED
            break
        core.loads[at + L_CURSOR] += 1
    if answer != ABORTED:
        core.loads[at + L_CURSOR] = 0
        core.loads[at + L_HELD] = 0
        core.loads[at + L_HELD_PAGES] = 0
        core.loads[at + L_VICTIM] = REAPED
    store_release(core.loads, at + L_BUSY, 0)
    return answer if answer == ABORTED else freed


@inner
def reap_victims(core: Core, cpu: int, asking: int) -> int:
    """See after the processes that were chosen before: NOTHING, PROGRESS, WAIT, or ABORTED."""
    for load in range(core.header[H_LOADS]):
        if load == asking or core.loads[load * LOAD_WORDS + L_VICTIM] != DYING:
            continue
        freed = reap(core, cpu, load)
        if freed == ABORTED:
            return ABORTED
        return WAIT if freed < 0 else PROGRESS
    return NOTHING


@inner
def call_oom_notifiers(_core: Core) -> int:
    """Pages freed by those that asked to be told before anybody is killed (`oom_notify_list`).

    The balloon is the one that does in a guest, when it may deflate on OOM; it is not modelled.
    """
    return 0


@inner
def kill(core: Core, cpu: int, victim: int, asking: int) -> int:
    """Kill a load's process: PROGRESS, WAIT or ABORTED (`oom_kill_process`)."""
    at = victim * LOAD_WORDS
    pages = core.loads[at + L_HELD_PAGES]
    record(core, cpu, recorder.OOM_KILL, victim, pages, oom_badness(core, victim), asking, 0)
    core.loads[at + L_VICTIM] = DYING
    return PROGRESS if victim == asking else reap_victims(core, cpu, asking)


@inner
def out_of_memory(core: Core, cpu: int, order: int, gfp: int, owner: int, cause: int) -> int:
    """Kill somebody: PROGRESS, WAIT, NOBODY or ABORTED (`out_of_memory`).

    The kill is counted under the cause of the failure that led to it.
    """
    if call_oom_notifiers(core) > 0 or is_victim(core, owner):
        return PROGRESS
    if gfp & GFP_FS == 0:
        return WAIT
    asking = process_of(core, owner)
    dying = reap_victims(core, cpu, asking)
    if dying != NOTHING:
        return dying
    count(core, cpu, OOM_ISOLATED + cause, 1)
    note_request(core, cpu, recorder.OOM, order, gfp, cause)
    if cause == ISOLATED:
        note_cut_off(core, cpu)
    victim = select_bad_process(core, asking)
    return NOBODY if victim == NO_PROCESS else kill(core, cpu, victim, asking)
