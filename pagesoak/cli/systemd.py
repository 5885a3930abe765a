"""`pagesoak systemd install`: write the units, with the path of this program in them."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.output import print_json, write_out

SYSTEM_DIRECTORY = Path("/etc/systemd/system")
UNIT_MODE = 0o644
"""The service manager and everybody else may read them: there is nothing to hide."""
UNIT_BYTES_MAX = 1 << 20
"""Of a file that is to be replaced: a unit has some KiB."""


class Action(StrEnum):
    """What to do."""

    INSTALL = "install"


def systemd(
    _action: Annotated[Action, typer.Argument(metavar="install", help="Write the units.")],
    user: Annotated[
        bool, typer.Option("--user", help="For your own service manager, not the machine's.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where to, instead of where systemd looks.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Whose members may talk to the daemon, besides root.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """Write systemd's units for the daemon: a hardened service and its socket."""
    from pagesoak.daemon.units import SERVICE, Wanted, is_temporary, units

    where = directory or (_user_directory() if user else SYSTEM_DIRECTORY)
    started = program()
    texts = units(Wanted(started, group, user))
    for name in texts:
        check_replaceable(where / name)
    written = [str(_write(where / name, text)) for name, text in texts.items()]
    if is_temporary(started[0]):
        sys.stderr.write(
            f"pagesoak: the service will not see {started[0]}, as it has temporary folders of its"
            " own (PrivateTmp=yes): install pagesoak elsewhere before you start it\n"
        )
    if as_json:
        print_json({"written": written, "user": user})
        return
    option = " --user" if user else ""
    unit = SERVICE.replace("@.", "@NAME.")
    write_out(
        "".join(f"wrote {file}\n" for file in written)
        + f"  systemctl{option} daemon-reload\n"
        + f"  systemctl{option} enable --now {unit}\n"
    )


def _user_directory() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user"


def program() -> tuple[str, ...]:
    """What starts this pagesoak: its script, or its interpreter with the module."""
    script = Path(sys.executable).with_name("pagesoak")
    if script.is_file() and os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-P", "-m", "pagesoak")


def check_replaceable(file: Path) -> None:
    """Raise InputError when something is there that pagesoak did not write."""
    from pagesoak.daemon.units import MARK

    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise InputError("is there already, and is no plain file", file=file)
    try:
        with file.open("rb") as there:
            begun = there.read(UNIT_BYTES_MAX)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    if not begun.startswith(MARK.encode()):
        raise InputError("is there already, and was not made by pagesoak", file=file)


def _write(file: Path, text: str) -> Path:
    from pagesoak.engine.run_files import replace_file

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text)
        file.chmod(UNIT_MODE)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=file) from error
    return file
