"""`pagesoak policies`: the policies there are, and what each one does."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagesoak.cli.common import print_json, write_out
from pagesoak.cli.summary_text import folded

if TYPE_CHECKING:
    from pagesoak.engine.policy_choice import Offered

REPORTING_ORDER = 9
CAPACITY = 32
"""The device that bounds are given for: the kernel's own."""
NOT_STATED = "not stated"
LABEL_COLUMNS = 10
PAGES_PER_MIB = 256


def policies(
    name: Annotated[
        str | None,
        typer.Argument(help="One policy, with options, or FILE.py:Name; all without it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line.")
    ] = False,
) -> None:
    """List the reporting policies: where each comes from, its bound, its rule, its options."""
    from pagesoak.engine.policy_choice import Offered, find_policy, offered

    if name is None:
        found = list(offered())
    else:
        policy = find_policy(name, files=True)
        origins = {offer.name: offer.origin for offer in offered()}
        found = [Offered(policy.name, policy, origins.get(policy.name, "file"))]
    entries = [described(offer) for offer in found]
    if as_json:
        print_json({"policies": entries})
        return
    width = 0
    if sys.stdout.isatty():
        from rich.console import Console

        width = Console().width
    write_out("\n\n".join("\n".join(lines(entry, width)) for entry in entries) + "\n")


def described(offer: "Offered") -> dict[str, Any]:
    """What is said of one policy, as JSON values; bounds in pages, for a device of 32 entries."""
    from pagesoak.reporter.policies.options import options_of

    policy = offer.policy
    most = getattr(policy, "isolated_pages_max", None)
    summary = (type(policy).__doc__ or "").strip().splitlines()
    return {
        "name": offer.name,
        "origin": offer.origin,
        "summary": summary[0] if summary else "",
        "source": getattr(policy, "source", None) or NOT_STATED,
        "isolated_pages_max": most(REPORTING_ORDER, CAPACITY) if callable(most) else None,
        "formula": getattr(policy, "formula", None) or NOT_STATED,
        "options": [
            {
                "name": option.name,
                "default": option.default,
                "value": getattr(policy, option.name),
                "values": option.values(),
                "help": option.help,
            }
            for option in options_of(policy)
        ],
    }


def lines(entry: dict[str, Any], width: int) -> list[str]:
    """One policy for people, folded to `width` columns if that is more than 0."""
    pages = entry["isolated_pages_max"]
    bound = NOT_STATED if pages is None else f"{pages:,} pages ({pages // PAGES_PER_MIB} MiB)"
    rows = [("source", entry["source"]), ("isolates", f"at most {bound} at once")]
    if pages is None:
        rows[-1] = ("isolates", bound)
    rows.append(("formula", entry["formula"]))
    for option in entry["options"]:
        default = "left out" if option["default"] is None else option["default"]
        text = f"{option['name']} = {option['values']} (default: {default})"
        rows.append(("option", f"{text}: {option['help']}" if option["help"] else text))
    shown = [f"{entry['name']}: {entry['summary']}"]
    for label, text in rows:
        line = f"  {label:<{LABEL_COLUMNS}}{text}"
        shown += folded(line, width, " " * (LABEL_COLUMNS + 2)) if width else [line]
    return shown
