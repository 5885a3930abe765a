"""Floor 5: the service that keeps soaks running unattended.

No module yet: a soak runs in the foreground, through `pagesoak.engine`.
"""
