"""Floor 3: the drivers that run guest, reporter and host, and all that one run needs.

The runner, the worker processes, the verdict and summary, the directory of a run and the logs
of its workers.
"""
