"""The option `--duration`, wherever a run is asked for."""

from pagesoak.base.errors import InputError

KEY = "--duration"


def duration_option_ns(text: str | None) -> int | None:
    """What was given, in nanoseconds; InputError (key --duration) if it is none."""
    from pagesoak.base.units import parse_duration_ns

    if text is None:
        return None
    try:
        return parse_duration_ns(text)
    except InputError as error:
        raise InputError(error.message, key=KEY) from error
