"""Pictures as PNG and SVG: what all of them share.

Drawn with matplotlib on a canvas without a screen, and the same bytes every time: no date in the
file, no random names in the SVG. Nothing else of the program imports matplotlib; it is loaded when
a picture is asked for.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagesoak.base.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
"""What a picture's file may end in."""
DOTS_PER_INCH = 110
FONT_POINTS = 9
FONT = "DejaVu Sans"
"""Comes with matplotlib: the same everywhere."""

FREE = "#2b6cb0"
ISOLATED = "#dd6b20"
FAILURE = "#c53030"
WINDOW = "#f6ad55"
MARKS = {"min": "#822727", "low": "#97266d", "high": "#553c9a"}
SERIES = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#b7791f", "#0987a0")
"""Colours that are told apart on white, also by people who see fewer of them."""

_STYLE: Any = {
    "font.size": FONT_POINTS,
    "font.family": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "pagesoak",
    "svg.fonttype": "path",
    "figure.facecolor": "white",
}


def style() -> "AbstractContextManager[None]":
    """What is drawn within looks as everything here does."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def new_figure(
    panels: int, *, width_inches: float = 10.0, heights: Sequence[float], shared: bool = True
) -> "tuple[Figure, list[Axes]]":
    """A figure with panels one below the other that share their x axis, or have one each; heights
    in inches.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width_inches, sum(heights)), layout="constrained")
        axes = figure.subplots(
            panels, 1, sharex=shared, squeeze=False, gridspec_kw={"height_ratios": list(heights)}
        )
    return figure, [row[0] for row in axes]


def styled() -> AbstractContextManager[None]:
    """The style of all pictures, for what is added to a figure after it was made (legends)."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def plain_text(text: str) -> str:
    """A text from a file as it may stand in a picture: what the font cannot show is escaped, so
    that no letter is a box.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties(family=[FONT]))).get_charmap()
    return "".join(
        letter
        if letter.isprintable() and ord(letter) in known
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def picture_bytes(figure: "Figure", suffix: str) -> bytes:
    """The picture as a file of this ending (`FORMATS`)."""
    out = BytesIO()
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with style():
        figure.savefig(out, format=suffix[1:], dpi=DOTS_PER_INCH, metadata=metadata)
    return out.getvalue()


def check_picture_file(path: Path, key: str) -> None:
    """Raise InputError (with the option's name as key) unless the ending names a format."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} must end in {' or '.join(FORMATS)}", key=key)


def write_picture(figure: "Figure", path: Path, key: str) -> None:
    """Write a picture; InputError when its ending names no format or it cannot be written."""
    check_picture_file(path, key)
    try:
        path.write_bytes(picture_bytes(figure, path.suffix.lower()))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path, key=key) from error
