"""The words of slow path, reclaim and OOM killer: the map of `layout` goes on here.

Each record of `layout` keeps a run of words for them: the header from `H_RECLAIM_FIRST`, a zone
from `Z_RECLAIM_FIRST`, a load from `L_RECLAIM_FIRST` on.
"""

from pagesoak.base.layout import L_RECLAIM_FIRST, Z_RECLAIM_FIRST

# -- zone record ----------------------------------------------------------------------------------

Z_INACTIVE_FILE = Z_RECLAIM_FIRST
"""Pages of the zone on its node's LRU lists: inactive file here, active file and unevictable in
the next two words.
"""
Z_ACTIVE_FILE = Z_RECLAIM_FIRST + 1
Z_UNEVICTABLE = Z_RECLAIM_FIRST + 2

# -- load record ----------------------------------------------------------------------------------

L_OOM_SCORE_ADJ = L_RECLAIM_FIRST
"""oom_score_adj of the load's process."""
L_VICTIM = L_RECLAIM_FIRST + 1
"""1 when the OOM killer has chosen the load's process, 2 when its pages are back already; 0 again
when the load has noticed.
"""
L_BUSY = L_RECLAIM_FIRST + 2
"""Who works on the load's table, its worker in a burst or a reaper: worker + 1; 0 nobody."""
