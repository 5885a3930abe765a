"""Which run is meant: a directory, one of the results folder, or one that the daemon keeps."""

import re
from pathlib import Path

from pagesoak.base.errors import PagesoakError
from pagesoak.cli.common import RESULTS
from pagesoak.study.run_record import LATEST

ANSWER_SECONDS_MAX = 2.0
"""A daemon that has not answered by then is not waited for: most runs are not its own."""


def run_named(text: str, results: Path) -> str:
    """What `open_run` is to be given: of a run that only this user's daemon knows its directory,
    everything else as it is. A daemon is not asked where `results` is no default.
    """
    from pagesoak.base.run_name import RUN_NAME
    from pagesoak.daemon.client import Client

    here = text == LATEST or not re.fullmatch(RUN_NAME, text)
    if here or results != RESULTS or Path(text).exists() or (results / text).exists():
        return text
    try:
        return str(Client(answer_seconds=ANSWER_SECONDS_MAX).get(f"/v1/runs/{text}")["directory"])
    except PagesoakError:  # no daemon, or it knows no such run: who opens it says so
        return text
