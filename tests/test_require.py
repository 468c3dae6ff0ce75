"""Rules of how many branches must arrive; no Spark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_flow.core.arrival_rules import parse
from spark_flow.core.completeness import Completeness
from spark_flow.errors import InvalidRule
from spark_flow.fan_in import all_done, all_succeeded, any_succeeded, at_least


@pytest.mark.parametrize(
    ("rule", "expected", "needed"),
    [
        (all_succeeded, 19, 19),
        (any_succeeded, 19, 1),
        (all_done, 19, 1),
        (at_least(12), 24, 12),
        (at_least(24), 24, 24),
        (at_least(0.5), 24, 12),
        (at_least(0.5), 19, 10),
        (at_least(0.9), 19, 18),
        (at_least(0.1), 30, 3),  # 0.1 * 30 is above 3 in floating point
        (at_least(0.7), 10, 7),
        (at_least(1.0), 7, 7),
        (at_least(1), 7, 1),
        (at_least(0.001), 7, 1),
    ],
)
def test_the_number_that_a_rule_needs(rule, expected, needed):
    assert rule.needed(expected) == needed


@pytest.mark.parametrize("least", [0, -1, 0.0, 1.5, -0.5, float("nan"), float("inf"), True, "0.5", None])
def test_a_threshold_that_nothing_can_meet_is_refused(least):
    with pytest.raises(InvalidRule):
        at_least(least)


def test_a_threshold_over_the_number_of_branches_is_refused():
    with pytest.raises(InvalidRule, match="at most 3"):
        at_least(4).needed(3)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("all_succeeded", all_succeeded),
        (" any_succeeded ", any_succeeded),
        ("all_done", all_done),
        ("at_least(0.5)", at_least(0.5)),
        ("at_least( 12 )", at_least(12)),
        ("at_least(1.0)", at_least(1.0)),
    ],
)
def test_rules_as_they_are_written(text, rule):
    assert parse(text) == rule
    assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text", ["", "most", "at_least", "at_least()", "at_least(-1)", "at_least(50%)", "at_least(2.0)"]
)
def test_what_is_no_rule(text):
    with pytest.raises(InvalidRule):
        parse(text)


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sets(st.sampled_from("abcdefgh")))
def test_approximate_is_false_exactly_when_every_expected_branch_has_arrived(expected, also):
    arrived = expected & also
    part = Completeness(node="n", expected=tuple(sorted(expected)), arrived=tuple(sorted(arrived)))
    assert part.is_approximate is (expected != arrived)
    assert set(part.missing) | arrived == expected
    assert (part.ratio == 1) is not part.is_approximate


def test_completeness_in_words():
    half = Completeness(node="hours", expected=("00", "01"), arrived=("01",))
    assert str(half) == "hours: 1 of 2 = 50%, approximate; missing 00"
    assert str(Completeness(node="hours", expected=("00",), arrived=("00",))) == "hours: 1 of 1 = 100%, complete"
