"""The words of a load that has a region of memory as a process does (`allocator.process_memory`).

They lie in places of the load record that `layout` and the others leave free; whoever adds a
word looks at all of them.
"""

L_OFFSET = 26
"""Pages between a 2 MiB boundary and the begin of the load's region."""
L_PAGE_TABLES = 27
"""Of the kernel's pages at the back of the table, those that are page tables; they lie last."""
L_BATCHES = 28
"""The others: what the gather of an unmapping needs."""
L_GATHER_END = 29
"""Block at which the present gather ends, 0: nothing is gathered."""
L_FREED = 30
"""How many of the present gather, or of the kernel's pages, have been freed."""
