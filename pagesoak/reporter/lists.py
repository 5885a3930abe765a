"""Which free lists a pass has to visit: those that are not empty when it comes to them.

The kernel looks at each list, without the lock, and passes over an empty one; here one call finds
the next that is not. Models Linux 6.1 `mm/page_reporting.c`: the loops of
`page_reporting_process_zone`, and the first test of `page_reporting_cycle`.
"""

from pagesoak.allocator.buddy import free_list
from pagesoak.base.layout import ISOLATE, NEXT, PAGE_WORDS, open_core
from pagesoak.base.native import entry


@entry
def next_list(base: int, zone: int, order: int, migratetype: int) -> int:
    """Migratetype of the first list of an order with a block on it, from this one on; ISOLATE, or
    above, when there is none. No lock.
    """
    core = open_core(base)
    while migratetype < ISOLATE:
        head = free_list(core, zone, order, migratetype)
        if core.pages[head * PAGE_WORDS + NEXT] != head:
            break
        migratetype += 1
    return migratetype
