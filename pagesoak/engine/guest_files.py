"""The guest's state at the end of a run, in the kernel's own formats, beside the summary.

`after.buddyinfo`, `after.pagetypeinfo` and `after.zoneinfo` read as /proc does; `after.free` holds
the exact free lists in the format of the recordings, and can start another soak.
"""

from pathlib import Path

from pagesoak.allocator.free_lists import format_free_lists
from pagesoak.allocator.proc_view import (
    buddy_info,
    free_list_snapshot,
    page_type_info,
    zone_info,
)
from pagesoak.allocator.procfs import format_buddyinfo, format_pagetypeinfo
from pagesoak.allocator.zoneinfo import format_zoneinfo
from pagesoak.base.segment import Segment
from pagesoak.engine.run_files import replace_file


def write_guest_files(directory: Path, segment: Segment, now_ns: int) -> None:
    """Write the four files; `now_ns` is the instant the snapshot names. OSError when they cannot
    be written.
    """
    texts = {
        "after.buddyinfo": format_buddyinfo(buddy_info(segment)),
        "after.pagetypeinfo": format_pagetypeinfo(page_type_info(segment)),
        "after.zoneinfo": format_zoneinfo(zone_info(segment)),
        "after.free": format_free_lists(free_list_snapshot(segment, now_ns)),
    }
    for name, text in texts.items():
        replace_file(directory / name, text)
