"""What a run may be called: its name is a folder, a label of Prometheus and a part of a URL."""

RUN_NAME_CHARS_MAX = 64
RUN_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
RUN_NAME_WORDS = (
    f"a name is a to z, 0 to 9, dot, dash and underscore, at most {RUN_NAME_CHARS_MAX} of them,"
    " and begins with a letter or digit"
)
