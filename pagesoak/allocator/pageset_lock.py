"""The lock of a pageset: nearly free for its CPU's worker, dear for anybody else.

A pageset belongs to one CPU. Its worker goes in and out for every request; others (an audit, a
remote drain) come a few times a second at most. An atomic operation for each request would cost a
third of all a request costs. So the two sides are told apart:

- The worker marks itself *inside* with a plain store, then looks whether somebody has *claimed*
  the pageset; if so it leaves at once, and its request goes past the pageset, as the kernel's does
  when its trylock fails.
- Who claims writes the claim first, then makes every processor that runs a worker pass a fence
  (membarrier(2)), and then waits until the worker is not inside. After that fence either the
  worker sees the claim, or the claimer sees the worker.

Where membarrier is missing, `H_FENCED` is set, and the worker marks itself with an atomic
exchange, which is a fence of its own.

The lock is not robust: a worker that dies inside stays inside, claimers give up after a time, and
the supervisor sees the death.

Models `per_cpu_pages.lock` (Linux 6.1 `mm/page_alloc.c`: `pcp_spin_trylock`).
"""

from pagesoak.base.external import (
    compare_exchange,
    compiler_fence,
    exchange,
    fence_others,
    load_acquire,
    monotonic_ns,
    store_release,
)
from pagesoak.base.layout import H_FENCED, H_STOP, H_ZONES, P_CLAIM, P_INSIDE, PAGESET_WORDS, Core
from pagesoak.base.layout_virtual import H_VIRTUAL
from pagesoak.base.native import inner, leaf

OWNER_STAYS_NS = 2_000_000
"""How long a claimer waits for the worker to leave: longer than a refill under a contended zone
lock, short enough that signals are served.
"""


@leaf
def pageset_at(core: Core, cpu: int, zone: int) -> int:
    """Index of a pageset's first word."""
    return (cpu * core.header[H_ZONES] + zone) * PAGESET_WORDS


@leaf
def enter_pageset(core: Core, p: int) -> bool:
    """The CPU's own worker goes in; False when somebody else has the pageset."""
    if core.header[H_FENCED] != 0:
        exchange(core.pagesets, p + P_INSIDE, 1)
    else:
        core.pagesets[p + P_INSIDE] = 1
        compiler_fence()
    if load_acquire(core.pagesets, p + P_CLAIM) != 0:
        store_release(core.pagesets, p + P_INSIDE, 0)
        return False
    return True


@leaf
def leave_pageset(core: Core, p: int) -> None:
    """The CPU's own worker goes out."""
    store_release(core.pagesets, p + P_INSIDE, 0)


@inner
def claim_pageset(core: Core, p: int, worker: int) -> bool:
    """Somebody else takes the pageset; False when it cannot be had in time, or the run ends."""
    if compare_exchange(core.pagesets, p + P_CLAIM, 0, worker + 1) != 0:
        return False
    if core.header[H_FENCED] == 0 and core.header[H_VIRTUAL] == 0:
        fence_others()
    until_ns = monotonic_ns() + OWNER_STAYS_NS
    while load_acquire(core.pagesets, p + P_INSIDE) != 0:
        if core.header[H_STOP] != 0 or monotonic_ns() >= until_ns:
            store_release(core.pagesets, p + P_CLAIM, 0)
            return False
    return True


@inner
def unclaim_pageset(core: Core, p: int) -> None:
    """Give a claimed pageset back."""
    store_release(core.pagesets, p + P_CLAIM, 0)
