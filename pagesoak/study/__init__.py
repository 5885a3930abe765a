"""Floor 4: what is done with finished runs, or with many of them.

No module yet: what one run needs, its verdict too, is in `pagesoak.engine`.
"""
