"""Floor 4: what is done with finished runs, or with many of them.

`fidelity*`: the model against recordings of a real kernel. What one run needs, its verdict too, is
in `pagesoak.engine`.
"""
