"""Several policies in one text, as options name them: `off,halving:budget=shift,a.py:Name`."""

from pagesoak.engine.policy_choice import find_policy, offered
from pagesoak.reporter.policy import Policy


def policy_texts(text: str) -> list[str]:
    """The policies of `a,b:option=value,option=value,c`, each as a text of its own."""
    names: list[str] = []
    for part in text.split(","):
        if names and "=" in part and ":" not in part:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return [name.strip() for name in names]


def chosen_policies(text: str | None) -> list[Policy]:
    """The policies of such a text; all built-in and installed ones without it.

    Raises InputError (key `policy`) as `find_policy` does.
    """
    if text is None:
        return [offer.policy for offer in offered()]
    return [find_policy(name, files=True) for name in policy_texts(text)]
