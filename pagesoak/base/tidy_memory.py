"""Memory that a process of weeks has no use for goes back to the system: what only its own cycles
hold, and what the C library keeps.

Large arrays come and go with each audit, small things stay in between; without this the heap grows
by the holes, some MiB an hour, and each worker is forked with them.
"""

import ctypes
import gc

_library = ctypes.CDLL(None)


def tidy_memory() -> None:
    """Collect garbage, and have the C library give back whole pages of its holes; GNU's can. Takes
    milliseconds.
    """
    gc.collect()
    if hasattr(_library, "malloc_trim"):
        _library.malloc_trim(ctypes.c_size_t(0))
