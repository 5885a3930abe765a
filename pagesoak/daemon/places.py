"""Where the daemon's socket and results lie unless somebody says otherwise: the same answer for
the daemon and for who calls it.
"""

from collections.abc import Mapping
from pathlib import Path

SOCKET_VARIABLE = "PAGESOAK_SOCKET"
"""Environment: the path of the daemon's socket."""
SOCKET_PATH_BYTES_MAX = 107
"""What fits the kernel's `sun_path` with its end."""
SOCKET_NAME = "control.sock"


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where what is to stay is kept: systemd's state directory, or the user's own."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = Path(environment.get("HOME", "/"))
    base = environment.get("XDG_STATE_HOME") or str(home / ".local" / "state")
    return Path(base) / "pagesoak"


def default_socket(environment: Mapping[str, str]) -> Path:
    """The socket of this user's daemon: what the environment names, or in the runtime directory;
    without one, beside the results.
    """
    if given := environment.get(SOCKET_VARIABLE):
        return Path(given)
    if given := environment.get("RUNTIME_DIRECTORY"):
        return Path(given.split(":")[0]) / SOCKET_NAME
    if given := environment.get("XDG_RUNTIME_DIR"):
        return Path(given) / "pagesoak" / SOCKET_NAME
    return state_folder(environment) / SOCKET_NAME


def default_results(environment: Mapping[str, str]) -> Path:
    """The folder of the runs' directories."""
    return state_folder(environment) / "runs"
