"""Floor 1: the guest. Its page allocator, what loads it, and what reads and audits its state.

Zones, buddy lists, watermarks, pagesets, fallback, the slow path and the OOM decision,
modelled on Linux 6.1's `mm/page_alloc.c`; the readers of recorded traces and of the `/proc`
formats.
"""
