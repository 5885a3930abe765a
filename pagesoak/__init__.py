"""A soak-test bench for Linux free page reporting.

This package imports nothing, so that `pagesoak --version` and every command that only talks
start at once. The code lives on floors; a module imports only from its own floor or one below:
base < allocator < reporter, host < engine < study < daemon < cli.
"""

__version__ = "0.1.0"
