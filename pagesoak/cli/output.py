"""Standard output, for every verb: text or one JSON object; a reader that has gone is no error."""

import json
import os
import sys
from typing import Any


def write_out(text: str) -> bool:
    """Write to standard output; False when its reader has gone. That is no error: nobody wants the
    rest, and who would go on writing ends.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return False
    return True


def discard_output() -> None:
    """What standard output still holds, and all that comes, goes nowhere: it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(document: dict[str, Any]) -> None:
    """One object on one line, the last of stdout."""
    write_out(json.dumps(document, sort_keys=False) + "\n")
