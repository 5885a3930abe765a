"""Which free lists a pass has to visit: those that are not empty when it comes to them.

The kernel looks at each list, without the lock, and passes over an empty one; here one call finds
the next that is not. Models Linux 6.1 `mm/page_reporting.c`: the loops of
`page_reporting_process_zone`, and the first test of `page_reporting_cycle`.
"""

from pagesoak.allocator.buddy import free_list
from pagesoak.base.layout import ISOLATE, NEXT, PAGE_WORDS, open_core
from pagesoak.base.native import entry
from pagesoak.reporter.gate import hold_words


@entry
def next_list(base: int, zone: int, order: int, migratetype: int) -> tuple[int, ...]:
    """Migratetype of the first list of an order with a block on it, from this one on, ISOLATE when
    there is none; and what `policy.HoldView` holds of it from `free_pages` on. No lock.
    """
    core = open_core(base)
    while migratetype < ISOLATE:
        head = free_list(core, zone, order, migratetype)
        if core.pages[head * PAGE_WORDS + NEXT] != head:
            break
        migratetype += 1
    free, isolated, blocks, pending = hold_words(core, zone, order)
    return migratetype, free, isolated, blocks, pending
