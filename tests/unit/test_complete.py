"""What a shell is offered while somebody types, beside names of runs."""

from pagesoak.base.faults import FAULTS
from pagesoak.base.scenario import builtin_names
from pagesoak.cli.complete import complete_policy, complete_run, complete_scenario, one_of
from pagesoak.cli.steer import KEYS
from pagesoak.engine import settings
from pagesoak.reporter.policies import BUILT_IN


def test_scenarios_and_policies_are_those_there_are() -> None:
    assert [name for name, _ in complete_scenario("")] == list(builtin_names())
    assert [name for name, _ in complete_scenario("seed-")] == [
        name for name in builtin_names() if name.startswith("seed-")
    ]
    assert {name for name, _ in complete_policy("")} >= set(BUILT_IN)
    assert complete_policy("of") == [("off", "built in")]


def test_words_of_a_list_are_offered_in_its_order() -> None:
    assert one_of(FAULTS)("stop-") == ["stop-guest", "stop-reporter", "stop-host"]
    assert one_of(FAULTS)("x") == []


def test_what_can_be_set_is_offered_and_nothing_else() -> None:
    assert tuple(settings.KEYS) == KEYS


def test_nothing_is_said_when_it_cannot_be_told() -> None:
    assert complete_run(None, "") == []
