"""Floor 2: free page reporting, modelled on Linux 6.1's `mm/page_reporting.c`.

The scatterlist, the cycle that fills, reports and drains it, the delayed work that starts the
cycle, and the policies that decide how much it may take. It knows the host only through the
report request of `pagesoak.base`.
"""
