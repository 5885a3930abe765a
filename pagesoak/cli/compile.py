"""`pagesoak compile`: compile the core into the cache now, so that no run has to."""

import importlib

import typer

from pagesoak.cli.common import EVERYTHING, load_core


def compile_core() -> None:
    """Compile the core into the cache; does nothing when it is there already."""
    from pagesoak.base.native import CACHE_DIRECTORY, PLAIN

    for name in EVERYTHING:
        importlib.import_module(name)
    load_core()
    where = "plain Python, nothing to compile" if PLAIN else str(CACHE_DIRECTORY or "not kept")
    typer.echo(f"core: {where}")
