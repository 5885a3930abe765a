"""The words of slow path, reclaim, page cache and OOM killer: the map of `layout` goes on here.

Each record of `layout` keeps a run of words for them: the header from `H_RECLAIM_FIRST`, a zone
from `Z_RECLAIM_FIRST`, a load from `L_RECLAIM_FIRST` on. The page cache has a section of its own,
of *slots*: eight 32-bit words for each page that the loads' files have, whether it is in memory or
not. The first slots are the lock of the cache and the heads of the LRU lists; slots, not pages,
are what those lists link. So a page's record stays what it is for every page in use, and the
memory needed goes by the files.
"""

from pagesoak.base.layout import H_RECLAIM_FIRST, L_RECLAIM_FIRST, Z_RECLAIM_FIRST

# -- header ---------------------------------------------------------------------------------------

H_CACHE_SLOTS = 13
"""Slots of the page cache, with its lock and heads; 0 without one."""

NODES_MAX = 2
H_NODES = H_RECLAIM_FIRST
"""A record of NODE_WORDS for each node: its kswapd."""
N_FAILURES = 0
"""Runs of kswapd without a page since reclaim last gave any; at the limit it is left alone."""
N_ORDER = 1
"""Largest order it was woken for, since it last looked."""
N_HIGHEST_ZONE = 2
"""One more than the highest zone index it was woken for, since it last looked; 0 for none."""
N_AWAKE = 3
N_RUNNING = 4
"""Who runs it now, its worker number + 1; 0 nobody."""
N_PRIORITY = 5
"""Of the run that goes on at the next chance; 0 when none is begun. The next words are its own."""
N_RUN_ORDER = 6
N_RUN_ZONE = 7
"""Highest zone index; stays from run to run."""
N_RUN_RECLAIMED = 8
N_BOOST_LEFT = 9
"""Pages still to be reclaimed on account of boosts."""
N_ALLOC_ORDER = 10
"""Order that the present run was begun for; kcompactd is woken with it."""
NODE_WORDS = 11

H_WRITEBACK_NS = H_NODES + NODES_MAX * NODE_WORDS
"""From handing a page to the device until it is written."""

# -- zone record ----------------------------------------------------------------------------------

Z_INACTIVE_FILE = Z_RECLAIM_FIRST
"""Pages of the zone on its node's LRU lists: inactive file here, active file and unevictable in
the next two words; under the cache's lock.
"""
Z_ACTIVE_FILE = Z_RECLAIM_FIRST + 1
Z_UNEVICTABLE = Z_RECLAIM_FIRST + 2
Z_BOOST_SEEN = Z_RECLAIM_FIRST + 3
"""The boost that kswapd's present run saw when it began."""

# -- load record ----------------------------------------------------------------------------------

L_OOM_SCORE_ADJ = L_RECLAIM_FIRST
"""oom_score_adj of the load's process."""
L_VICTIM = L_RECLAIM_FIRST + 1
"""1 when the OOM killer has chosen the load's process, 2 when its pages are back already; 0 again
when the load has noticed.
"""
L_BUSY = L_RECLAIM_FIRST + 2
"""Who works on the load's table, its worker in a burst or a reaper: worker + 1; 0 nobody."""
L_FIRST_SLOT = L_RECLAIM_FIRST + 3
"""Of the load's files in the page cache: slots of L_FILE_PAGES pages, then of L_TMPFS_PAGES."""
L_FILE_PAGES = L_RECLAIM_FIRST + 4
L_MLOCKED_PAGES = L_RECLAIM_FIRST + 5
"""So many of the file pages, from the first on, are locked in memory."""
L_TMPFS_PAGES = L_RECLAIM_FIRST + 6
L_WRITE_PERMILLE = L_RECLAIM_FIRST + 7
L_SEQUENTIAL = L_RECLAIM_FIRST + 8
"""1: page after page, 0: at random."""
L_FILE_POSITION = L_RECLAIM_FIRST + 9

SECTION_CACHE = 10
"""Number of the slots' section, behind those of `layout.Section`."""

# -- page cache slot ------------------------------------------------------------------------------

SLOT_WORDS = 8
"""32-bit words."""
SLOT_BYTES = 4 * SLOT_WORDS
S_PFN = 0
"""The page, -1 when it is not in memory."""
S_NEXT = 1
S_PREVIOUS = 2
S_STATE = 3
S_QUEUE_NEXT = 4
"""Next slot in the queue of pages to be written, or of those that are; 0 for none."""
S_DUE_HIGH = 5
"""When its writing ends, in ns: this word * 2**31 and the next."""
S_DUE_LOW = 6

LRU_LIST_MASK = 3
LRU_NONE = 0
"""On no list: not in memory, or of tmpfs, whose pages only swap could take."""
LRU_INACTIVE = 1
LRU_ACTIVE = 2
LRU_UNEVICTABLE = 3
LRU_LISTS = 4
REFERENCED = 4
DIRTY = 8
WRITEBACK = 16
RECLAIM = 32
"""Reclaim met it while it could not be freed: it goes where it is found next, once written."""

_QUEUES_SLOT = 2
"""The slots before are the lock, MUTEX_WORDS words."""
Q_DIRTY = _QUEUES_SLOT * SLOT_WORDS
"""Three words for the pages to be written: first slot (0 none), last slot, how many; then the same
for those that are being written.
"""
Q_WRITEBACK = Q_DIRTY + 3
Q_FIRST = 0
Q_LAST = 1
Q_PAGES = 2
HEADS_FIRST_SLOT = _QUEUES_SLOT + 1
CACHE_FIRST_SLOT = HEADS_FIRST_SLOT + NODES_MAX * LRU_LISTS
"""First slot of a file's page."""
