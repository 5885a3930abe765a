"""`pagesoak window`: what each policy would do to a guest with nobody else running."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.base.errors import InputError
from pagesoak.cli.common import load_core, print_json, write_out

if TYPE_CHECKING:
    from pagesoak.reporter.policy import Policy
    from pagesoak.study.window import Window, WindowSettings
    from pagesoak.study.window_guests import NamedGuest, WindowGuest

COLUMNS_MIN = 40
"""Of a plot, however narrow the terminal; with what stands beside it."""
COLUMNS_OF_FRAME = 3
COLUMNS_ELSEWHERE = 100
"""Where no terminal looks on."""
_BLOCKS = re.compile(r"([0-9]{1,2}):([0-9]{1,8})")


def window(
    buddyinfo: Annotated[
        Path | None, typer.Option(help="A /proc/buddyinfo; with --zoneinfo.")
    ] = None,
    zoneinfo: Annotated[Path | None, typer.Option(help="A /proc/zoneinfo, taken with it.")] = None,
    snapshot: Annotated[
        Path | None, typer.Option(help="A .free snapshot: exact page frames.")
    ] = None,
    guest: Annotated[str | None, typer.Option(help="A guest of this size, e.g. 512MiB.")] = None,
    free: Annotated[
        str | None,
        typer.Option(help="With --guest: free memory, 100MiB, 33614p, or a range 60MiB..160MiB."),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(help="With --guest: free blocks, ORDER:COUNT,... as in 9:20,10:20."),
    ] = None,
    thp: Annotated[
        bool, typer.Option("--thp", help="With --guest: the watermarks of a guest with THP on.")
    ] = False,
    policies: Annotated[
        str | None, typer.Option(help="Policies, separated by commas; all without it.")
    ] = None,
    order: Annotated[int, typer.Option(min=0, max=10, help="page_reporting_order.")] = 9,
    capacity: Annotated[
        int, typer.Option(min=1, max=32, help="Entries of the device's list.")
    ] = 32,
    factor: Annotated[
        int | None, typer.Option(min=0, max=100, help="reporting_factor, in percent.")
    ] = None,
    take: Annotated[
        str | None, typer.Option(help="What a user takes in the first window, e.g. 16000p.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """Show which blocks each policy isolates together, call by call, and what stays free."""
    from pagesoak.base.units import parse_pages
    from pagesoak.engine.policy_list import chosen_policies
    from pagesoak.study.window import WindowSettings

    chosen = chosen_policies(policies)
    try:
        taken = 0 if take is None else parse_pages(take)
    except InputError as error:
        raise InputError(error.message, key="--take") from error
    settings = WindowSettings(order, capacity, factor, taken)
    named = _named(buddyinfo, zoneinfo, snapshot, guest, free, blocks, thp=thp)
    if named is None:
        source = _from_files(buddyinfo, zoneinfo, snapshot)
    elif blocks is not None:
        source = _with_blocks(named, blocks)
    else:
        from pagesoak.study.window_range import parse_free

        points = parse_free(free or "")
        if len(points) > 1:
            _range(named, points, chosen, settings, as_json=as_json)
            return
        source = _with_free(named, points[0])
    _one(source, chosen, settings, as_json=as_json)


def parse_blocks(text: str) -> dict[int, int]:
    """Blocks by order of `9:20,10:20`; InputError (key --blocks)."""
    counts: dict[int, int] = {}
    for part in text.split(","):
        match = _BLOCKS.fullmatch(part.strip())
        if match is None:
            raise InputError(f"{part!r} is not ORDER:COUNT, as in 9:20", key="--blocks")
        order = int(match[1])
        if order > 10 or order in counts:  # noqa: PLR2004 - the largest order, as in the help
            said = "is given twice" if order in counts else "is above 10"
            raise InputError(f"order {order} {said}", key="--blocks")
        counts[order] = int(match[2])
    return counts


def _named(
    buddyinfo: Path | None,
    zoneinfo: Path | None,
    snapshot: Path | None,
    guest: str | None,
    free: str | None,
    blocks: str | None,
    *,
    thp: bool,
) -> "NamedGuest | None":
    """The guest that is only named, None for one from files; InputError for a mix of both."""
    from pagesoak.base.units import parse_size_bytes
    from pagesoak.study.window_guests import named_guest

    files = buddyinfo is not None or zoneinfo is not None
    if sum((files, snapshot is not None, guest is not None)) != 1:
        said = "name one guest: --buddyinfo with --zoneinfo, --snapshot, or --guest"
        raise InputError(said)
    if files and (buddyinfo is None or zoneinfo is None):
        raise InputError("--buddyinfo and --zoneinfo belong together")
    if guest is None:
        for key, given in (("--free", free), ("--blocks", blocks), ("--thp", thp)):
            if given:
                raise InputError("goes with --guest only: here a file says it", key=key)
        return None
    if (free is None) == (blocks is None):
        raise InputError("--guest needs --free or --blocks, one of them")
    try:
        return named_guest(parse_size_bytes(guest), thp=thp)
    except InputError as error:
        raise InputError(error.message, key="--guest") from error


def _from_files(
    buddyinfo: Path | None, zoneinfo: Path | None, snapshot: Path | None
) -> "WindowGuest":
    from pagesoak.study.window_guests import from_proc, from_snapshot

    if buddyinfo is not None and zoneinfo is not None:
        return from_proc(buddyinfo, zoneinfo)
    return from_snapshot(snapshot or Path())


def _with_free(named: "NamedGuest", pages: int) -> "WindowGuest":
    try:
        return named.with_free(pages)
    except InputError as error:
        most = named.largest.managed_pages
        said = f"{pages} pages: zone {named.largest.name} has {most}"
        raise InputError(said, key="--free") from error


def _with_blocks(named: "NamedGuest", text: str) -> "WindowGuest":
    counts = parse_blocks(text)
    try:
        return named.with_blocks(counts)
    except InputError as error:
        raise InputError(error.message, key="--blocks") from error


def _one(
    source: "WindowGuest",
    chosen: "list[Policy]",
    settings: "WindowSettings",
    *,
    as_json: bool,
) -> None:
    from pagesoak.cli.window_text import bar_lines, table_lines
    from pagesoak.study.window import look

    load_core()
    windows = [look(source, policy, settings) for policy in chosen]
    if as_json:
        print_json({"policies": [found.as_json() for found in windows]})
    else:
        _print([*table_lines(windows), "", *bar_lines(windows)])
    _complain(windows)


def _range(
    named: "NamedGuest",
    points: list[int],
    chosen: "list[Policy]",
    settings: "WindowSettings",
    *,
    as_json: bool,
) -> None:
    from pagesoak.cli.window_text import (
        POINTS_LISTED_MAX,
        cliff_lines,
        plot_lines,
        point_lines,
    )
    from pagesoak.study.window import look
    from pagesoak.study.window_range import cliffs

    def looked(pages: int, policy: "Policy") -> "Window":
        return look(_with_free(named, pages), policy, settings)

    _with_free(named, points[-1])
    load_core()
    by_policy = [[looked(pages, policy) for pages in points] for policy in chosen]
    found = [cliff for windows in by_policy for cliff in cliffs(windows, looked)]
    if as_json:
        listed: list[dict[str, Any]] = [
            {"free_pages": pages, "policies": [of_one[number].as_json() for of_one in by_policy]}
            for number, pages in enumerate(points)
        ]
        print_json({"points": listed, "cliffs": [cliff.as_json() for cliff in found]})
    else:
        lines = plot_lines(by_policy, _columns() - COLUMNS_OF_FRAME)
        if len(points) <= POINTS_LISTED_MAX:
            lines = ["least free in a window:", *point_lines(by_policy), "", *lines]
        _print([*lines, *([""] if found else []), *cliff_lines(found)])
    _complain([window for windows in by_policy for window in windows])


def _columns() -> int:
    if not sys.stdout.isatty():
        return COLUMNS_ELSEWHERE
    from rich.console import Console

    return max(COLUMNS_MIN, Console().width)


def _print(lines: list[str]) -> None:
    write_out("".join(f"{line}\n" for line in lines))


def _complain(windows: "list[Window]") -> None:
    """Exit as for any input that was wrong if a policy did what it may not."""
    for found in windows:
        if found.stopped is not None:
            raise InputError(found.stopped)
