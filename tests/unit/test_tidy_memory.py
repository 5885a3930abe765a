"""What the C library keeps after large and small things were mixed goes back to the system."""

import ctypes
from pathlib import Path

import pytest

from pagesoak.base.tidy_memory import tidy_memory
from pagesoak.base.units import MIB

LIBRARY = ctypes.CDLL(None)
BLOCKS = 20_000
BLOCK_BYTES = 4_000
"""Small enough to lie in the heap, large enough to have whole pages between two of them."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not hasattr(LIBRARY, "malloc_trim"),
    reason="this machine's C library has no malloc_trim (GNU's has): nothing can be given back",
)
def test_holes_of_the_heap_are_given_back() -> None:
    LIBRARY.malloc.restype, LIBRARY.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    LIBRARY.free.restype, LIBRARY.free.argtypes = None, [ctypes.c_void_p]
    blocks = [LIBRARY.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for number, block in enumerate(blocks):
        if number % 100:
            LIBRARY.free(block)  # every hundredth stays, so the heap's end does
    before = resident_bytes()
    tidy_memory()
    after = resident_bytes()
    for block in blocks[::100]:
        LIBRARY.free(block)
    assert before - after > 40 * MIB
