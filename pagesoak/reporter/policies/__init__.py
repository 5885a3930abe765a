"""The built-in policies, each named as its source names it."""

from pagesoak.base.errors import InputError
from pagesoak.reporter.policies.driver_capacity import DriverCapacity
from pagesoak.reporter.policies.halving import Halving
from pagesoak.reporter.policies.headroom import Headroom
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.policies.off import Off
from pagesoak.reporter.policies.options import split_options, with_options
from pagesoak.reporter.policies.order_threshold import OrderThreshold
from pagesoak.reporter.policies.reserve import Reserve
from pagesoak.reporter.policy import Policy

BUILT_IN: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (Off, Mainline, DriverCapacity, OrderThreshold, Halving, Reserve, Headroom)
}
"""The classes by name, in the order of their making; each can be made without an option."""
POLICIES: dict[str, Policy] = {name: policy() for name, policy in BUILT_IN.items()}
"""With their defaults, by name."""


def policy_by_name(text: str) -> Policy:
    """The built-in policy of that name, with options as in `halving:budget=shift`.

    Raises InputError (key `policy`) if there is none, or not such an option.
    """
    name, given = split_options(text)
    policy = BUILT_IN.get(name)
    if policy is None:
        known = ", ".join(sorted(BUILT_IN))
        raise InputError(f"no policy named {name!r}; known are {known}", key="policy")
    made: Policy = with_options(policy, given, name)
    return made
