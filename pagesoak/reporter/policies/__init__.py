"""The built-in policies, each named as its source names it."""

from pagesoak.base.errors import InputError
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policies.off import Off
from pagesoak.reporter.policy import Policy

POLICIES: dict[str, Policy] = {policy.name: policy for policy in (Mainline(), Off())}
"""By name."""


def policy_by_name(name: str) -> Policy:
    """The policy of that name; `InputError` with the known names if there is none."""
    policy = POLICIES.get(name)
    if policy is None:
        known = ", ".join(sorted(POLICIES))
        raise InputError(f"no policy named {name!r}; known are {known}", key="policy")
    return policy
