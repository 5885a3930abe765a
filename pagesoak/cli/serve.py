"""`pagesoak serve`: the daemon, in the foreground of whoever starts it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.output import print_json, write_out

PRIVATE_UMASK = 0o077
"""Index and results are their owner's; the socket is made with one of its own."""


CONFIG_NAME = "daemon.toml"
"""In the service manager's folder for configuration."""


def configured(environment: Mapping[str, str]) -> Path | None:
    """The configuration where a service manager puts it, if there is one."""
    folder = environment.get("CONFIGURATION_DIRECTORY", "").split(":")[0]
    file = Path(folder) / CONFIG_NAME
    return file if folder and file.exists() else None


def serve(
    config: Annotated[
        Path | None, typer.Option(help="Configuration, a TOML file; every key has a default.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say whether the configuration is in order, and end.")
    ] = False,
    allow_root: Annotated[
        bool, typer.Option("--allow-root", help="Run as root, which nothing here needs.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check: one JSON object on one line.")
    ] = False,
) -> None:
    """Keep soaks running: the daemon that start, list, status, stop and attach talk to.

    SIGTERM ends it and its soaks in order, exit code 0; SIGHUP reads the configuration again.
    """
    from pagesoak.daemon.config import load_config

    loaded = load_config(config or configured(os.environ), os.environ)
    if check:
        if as_json:
            print_json({"config": loaded.model_dump(mode="json")})
        else:
            write_out(f"in order: {loaded.file or 'the defaults'}\n")
        return
    if os.geteuid() == 0 and not allow_root:
        said = "runs as root only with --allow-root; it needs no privileges"
        raise InputError(said, key="serve")
    from pagesoak.daemon import log
    from pagesoak.daemon.service import serve as serve_to_the_end

    os.umask(PRIVATE_UMASK)
    log.configure(sys.stderr, os.environ)
    serve_to_the_end(loaded, os.environ)
