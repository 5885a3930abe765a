"""What a run may be called: its name is a folder, a label of Prometheus and a part of a URL."""

RUN_NAME_CHARS_MAX = 64
"""A line of a list has room for it."""
RUN_NAME = rf"[a-z0-9][a-z0-9._-]{{0,{RUN_NAME_CHARS_MAX - 1}}}"
RUN_NAME_WORDS = (
    f"a name is a to z, 0 to 9, dot, dash and underscore, at most {RUN_NAME_CHARS_MAX} of them,"
    " and begins with a letter or digit"
)
