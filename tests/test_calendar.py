"""The keys of a pipeline: days, hours, lists; ranges of them; and the key before."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_flow.errors import InvalidArgument, InvalidName
from spark_flow.orchestration.calendar import MOST, daily, hourly, listed

JANUARY = daily("2013-01-01", "2013-01-31")
NOW = dt.datetime(2013, 1, 4, 6, 30, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ("2013-01-02", ["2013-01-02"]),
        ("2013-01-30..2013-01-31", ["2013-01-30", "2013-01-31"]),
        (" 2013-01-03 , 2013-01-01..2013-01-02 ", ["2013-01-01", "2013-01-02", "2013-01-03"]),
        ("2013-01-01..2013-01-02,2013-01-02..2013-01-03", ["2013-01-01", "2013-01-02", "2013-01-03"]),
    ],
)
def test_keys_and_ranges_come_in_order_and_once(wanted, keys):
    assert list(JANUARY.keys(wanted)) == keys


def test_all_are_those_from_the_start_to_the_end():
    assert len(JANUARY.keys()) == 31
    assert listed(["b", "a"]).keys() == ("b", "a")


@pytest.mark.parametrize(
    ("calendar", "last"), [(daily("2013-01-01"), "2013-01-03"), (hourly("2013-01-04T00"), "2013-01-04T05")]
)
def test_without_an_end_they_go_up_to_what_is_over(calendar, last):
    assert calendar.keys(now=NOW)[-1] == last


def test_hours_pass_midnight():
    assert hourly().keys("2012-12-31T23..2013-01-01T01") == ("2012-12-31T23", "2013-01-01T00", "2013-01-01T01")


def test_ranges_of_a_list_go_by_its_order():
    assert listed(["east", "west", "north"]).keys("west..north") == ("west", "north")


@pytest.mark.parametrize(
    ("calendar", "key", "previous"),
    [
        (JANUARY, "2013-01-01", None),
        (JANUARY, "2013-01-02", "2013-01-01"),
        (daily(), "2013-03-01", "2013-02-28"),
        (hourly("2013-01-01T00"), "2013-01-02T00", "2013-01-01T23"),
        (hourly("2013-01-01T00"), "2013-01-01T00", None),
        (listed(["a", "b"]), "a", None),
        (listed(["a", "b"]), "b", "a"),
    ],
)
def test_the_key_before(calendar, key, previous):
    assert calendar.previous(key) == previous


@pytest.mark.parametrize(
    ("calendar", "wanted"),
    [
        (JANUARY, "2013-01-03..2013-01-01"),
        (JANUARY, "2012-12-31"),
        (JANUARY, "2013-02-01"),
        (JANUARY, "2013-01-31..2013-02-01"),
        (JANUARY, "2013-1-2"),
        (JANUARY, "20130102"),
        (JANUARY, "2013-02-30"),
        (JANUARY, ".."),
        (JANUARY, "2013-01-01.."),
        (JANUARY, "2013-01-01...2013-01-02"),
        (JANUARY, ","),
        (JANUARY, "2013-01-01T05"),
        (daily(), "0001-01-01..9999-12-31"),
        (hourly(), "2013-01-01T24"),
        (hourly(), "2013-01-01"),
        (listed(["a", "b"]), "c"),
        (listed(["a", "b"]), "b..a"),
        (daily(), ""),
    ],
)
def test_what_is_no_key_of_the_calendar_is_refused(calendar, wanted):
    with pytest.raises(InvalidArgument):
        calendar.keys(wanted)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: daily("2013-02-01", "2013-01-01"), InvalidArgument),
        (lambda: daily("yesterday"), InvalidArgument),
        (lambda: hourly("2013-01-01"), InvalidArgument),
        (lambda: listed([]), InvalidArgument),
        (lambda: listed(["a", "a"]), InvalidArgument),
        (lambda: listed("abc"), InvalidArgument),
        (lambda: listed(["../x"]), InvalidName),
    ],
)
def test_a_calendar_that_is_none_is_refused(make, error):
    with pytest.raises(error):
        make()


def test_a_start_after_what_is_over_is_refused():
    with pytest.raises(InvalidArgument):
        daily("2013-01-04").keys(now=NOW)


@settings(deadline=None)
@given(first=st.dates(dt.date(1990, 1, 1), dt.date(2030, 1, 1)), days=st.integers(0, 400))
def test_each_key_is_the_one_before_of_the_next(first, days):
    keys = daily(first.isoformat()).keys(f"{first}..{first + dt.timedelta(days=days)}")
    assert len(keys) == days + 1 <= MOST
    assert [daily(first.isoformat()).previous(key) for key in keys] == [None, *keys[:-1]]
