"""What a recording says of itself: which kernel ran, and with which settings.

The recorder leaves `run.json` and the guest's own answers: `meta.txt` in sections, or one file
`meta.NAME` each. Everything here is optional; a recording of the user's own may have none of it.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.allocator.profile import DEFAULT_PROFILE, Profile, profile_of
from pagesoak.base.errors import InputError

ORDER_MAX = 10
"""The largest block of the modelled kernels."""
SMALL_FILE_BYTES_MAX = 16 << 20
"""Far above any: settings, a command line, the kernel's log."""

_BANNER = re.compile(r"(?:\[ *[0-9.]+\] )?(Linux version \S.*)")
_IMAGE = re.compile(r"(?:^|[\s/])((?:vmlinuz|bzImage|linux)-[0-9]\S*)")
_SECTION = re.compile(r"== (\w+)")


class Said(NamedTuple):
    """A text, and the place in the recording that says so."""

    text: str
    place: str


class RecordedKernel(NamedTuple):
    """The kernel of a recording: its version as the recording words it, and the rules it has.

    `said` is None when nothing names a kernel; the profile is the default one then.
    """

    said: Said | None
    profile: Profile

    @property
    def version(self) -> str:
        """The release alone, "" when none is named."""
        if self.said is None:
            return ""
        words = self.said.text.removeprefix("Linux version ").split()
        return words[0].removeprefix("vmlinuz-") if words else ""


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that the folder holds, each plain or gzip."""
    candidates = (folder / f"{name}{end}" for name in names for end in ("", ".gz"))
    return next((path for path in candidates if path.exists()), None)


def small_lines(path: Path) -> Iterator[Said]:
    """The lines of a small file, plain or gzip, each with its place. Raises InputError."""
    for number, line in enumerate(_small_text(path).split("\n"), start=1):
        yield Said(line.rstrip("\r"), f"{path}:{number}")


def _small_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SMALL_FILE_BYTES_MAX + 1)
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                data = unpacked.read(SMALL_FILE_BYTES_MAX + 1)
    except EOFError:
        raise InputError("the gzip data is cut off", file=path) from None
    except (gzip.BadGzipFile, zlib.error) as damage:
        raise InputError(f"the gzip data is damaged: {damage}", file=path) from None
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror or fault}", file=path) from None
    if len(data) > SMALL_FILE_BYTES_MAX:
        raise InputError(f"longer than {SMALL_FILE_BYTES_MAX} bytes", file=path)
    return data.decode("utf-8", "replace")


def read_run_json(path: Path) -> dict[str, Any]:
    """The object in a run.json; empty when there is no such file. Raises InputError."""
    if not path.exists():
        return {}
    try:
        document = json.loads(_small_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", file=path, line=error.lineno) from None
    except RecursionError:
        raise InputError("not JSON that anybody wrote: nested too deep", file=path) from None
    if not isinstance(document, dict):
        raise InputError("not a JSON object", file=path)
    return document


def read_section(folder: Path, name: str) -> list[Said]:
    """The lines of one section of meta.txt, or of the file meta.NAME. Raises InputError."""
    path = find_file(folder, f"meta.{name}")
    if path is not None:
        return [said for said in small_lines(path) if said.text]
    path = find_file(folder, "meta.txt")
    found = []
    section = ""
    for said in () if path is None else small_lines(path):
        if match := _SECTION.fullmatch(said.text):
            section = match[1]
        elif section == name and said.text:
            found.append(said)
    return found


def recorded_kernel(folder: Path, run_json: str = "run.json") -> RecordedKernel:
    """The kernel that made a recording, from meta, run.json or the boot log.

    Raises InputError with the place when it is none that is modelled, or a file is damaged.
    """
    said = next(_kernels_named(folder, folder / run_json), None)
    if said is None:
        return RecordedKernel(None, DEFAULT_PROFILE)
    try:
        return RecordedKernel(said, profile_of(said.text))
    except InputError as error:
        raise InputError(error.message, file=said.place) from None


def _kernels_named(folder: Path, run_json: Path) -> Iterator[Said]:
    for said in read_section(folder, "version"):
        yield said
    document = read_run_json(run_json)
    if isinstance(document.get("kernel"), str):
        yield Said(document["kernel"], str(run_json))
    arguments = document.get("qemu_args")
    if isinstance(arguments, str) and (match := _IMAGE.search(arguments)):
        yield Said(match[1], str(run_json))
    dmesg = find_file(folder, "dmesg.txt")
    for said in () if dmesg is None else small_lines(dmesg):
        if match := _BANNER.fullmatch(said.text):
            yield Said(match[1], said.place)


def registered_order(folder: Path, pageblock_order: int) -> int:
    """page_reporting_order while the device reported: as run.json wrote it, else as the guest
    showed it, else the order of a page block.

    A guest asked before the device was registered shows a number above every order (MAX_ORDER in
    6.1, -1 since 6.3: Linux `mm/page_reporting.c`); registration then takes the page block's.
    Raises InputError when run.json names no order.
    """
    run_json = folder / "run.json"
    settings = read_run_json(run_json).get("kv")
    written = settings.get("po") if isinstance(settings, dict) else None
    if written is not None:
        if not str(written).isdecimal() or int(written) > ORDER_MAX:
            raise InputError(f"{written!r} is no order", file=run_json, key="kv.po")
        return int(written)
    shown = [said.text for said in read_section(folder, "page_reporting_order")]
    if shown and shown[0].isdecimal() and int(shown[0]) <= ORDER_MAX:
        return int(shown[0])
    return pageblock_order
