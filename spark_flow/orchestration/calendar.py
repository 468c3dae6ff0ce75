"""Calendars: the ordered keys of a pipeline, as days, hours or a list."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.core.names import check_name
from spark_flow.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

Every = Literal["day", "hour"]

MOST = 10_000  # keys in one range: a typing error must not fill the memory
_FORMATS = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
_STEPS = {"day": dt.timedelta(days=1), "hour": dt.timedelta(hours=1)}
_ORIGIN = dt.datetime(1000, 1, 1)  # noqa: DTZ001 - the zero point for positions of keys, without a time zone
_EXAMPLES = {"day": "a day as 2013-01-02", "hour": "an hour as 2013-01-02T05"}


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The keys of a pipeline; create one with ``daily``, ``hourly`` or ``listed``.

    Attributes:
        every: The period that one key covers; ``None`` for a list.
        start: The first key; ``None`` means that there is no first key.
        end: The last key; ``None`` means the last period that is over.
        list: The keys of a list, in order.
    """

    every: Every | None
    start: str | None = None
    end: str | None = None
    list: tuple[str, ...] = ()

    def keys(self, wanted: str = "", *, now: dt.datetime | None = None) -> tuple[str, ...]:
        """Return the requested keys in the calendar's order.

        >>> daily("2013-01-01", "2013-01-31").keys("2013-01-02..2013-01-03,2013-01-09")
        ('2013-01-02', '2013-01-03', '2013-01-09')

        Args:
            wanted: Comma-separated keys and ranges ``from..to``, both ends included; all keys by default.
            now: The current time in UTC. Without an ``end``, "all" stops at the last period that is over.

        Raises:
            InvalidArgument: A key is not in the calendar, or a range starts after its end.
        """
        if not wanted.strip():
            return self._between("the calendar", self._first(), self._last(now))
        found = [key for part in wanted.split(",") for key in self._part(part.strip())]
        return tuple(sorted(dict.fromkeys(found), key=self._position))

    def check_form(self, key: str) -> None:
        """Check that a key is written in the calendar's format, without checking that the calendar contains it.

        Raises:
            InvalidArgument: The key is not a valid day or hour.
        """
        if self.every is not None:
            _moment(self.every, key)

    def previous(self, key: str) -> str | None:
        """Return the key before ``key``, or ``None`` if it is the first."""
        if self.every is None:
            position = self._position(key)
            return self.list[position - 1] if position else None
        at = self._moment(key)
        if self.start is not None and at <= self._moment(self.start):
            return None
        return (at - _STEPS[self.every]).strftime(_FORMATS[self.every])

    def _part(self, part: str) -> tuple[str, ...]:
        first, dots, last = (side.strip() for side in part.partition(".."))
        if not dots:
            return self._between(part, first, first)
        if not first or not last:
            raise InvalidArgument(f"keys {part}", "a range without an end", "both, as 2013-01-01..2013-01-04")
        return self._between(part, first, last)

    def _between(self, what: str, first: str, last: str) -> tuple[str, ...]:
        begin, end = self._position(first), self._position(last)
        if begin > end:
            raise InvalidArgument(f"keys {what}", f"{first} after {last}", f"the earlier one first: {last}..{first}")
        if self.every is None:
            return self.list[begin : end + 1]
        step = _STEPS[self.every]
        count = (self._moment(last) - self._moment(first)) // step + 1
        if count > MOST:
            raise InvalidArgument(f"keys {what}", f"{count} keys", f"at most {MOST}")
        return tuple((self._moment(first) + n * step).strftime(_FORMATS[self.every]) for n in range(count))

    def _first(self) -> str:
        if self.every is None:
            return self.list[0]
        if self.start is None:
            raise InvalidArgument("keys", "no keys and no start_date", "keys such as 2013-01-01..2013-01-31")
        return self.start

    def _last(self, now: dt.datetime | None) -> str:
        if self.every is None:
            return self.list[-1]
        over = (now or dt.datetime.now(dt.timezone.utc)) - _STEPS[self.every]
        return self.end or over.strftime(_FORMATS[self.every])

    def _position(self, key: str) -> int:
        """Return the position of a key in the calendar.

        Raises:
            InvalidArgument: The key is not in the calendar.
        """
        if self.every is None:
            if key not in self.list:
                raise InvalidArgument("key", repr(key), f"one of the list: {', '.join(self.list[:10])}")
            return self.list.index(key)
        at = self._moment(key)
        if self.start is not None and at < self._moment(self.start):
            raise InvalidArgument("key", key, f"a key not before start_date {self.start}")
        if self.end is not None and at > self._moment(self.end):
            raise InvalidArgument("key", key, f"a key not after end_date {self.end}")
        return (at - _ORIGIN) // _STEPS[self.every]

    def _moment(self, key: str) -> dt.datetime:
        return _moment(self.every or "day", key)


def daily(start: str | None = None, end: str | None = None) -> Calendar:
    """Return a calendar with one key per day, such as ``2013-01-02``.

    Args:
        start: The first key; no key comes before it.
        end: The last key; by default yesterday (UTC), the last day that is over.

    Raises:
        InvalidArgument: A value is not a day, or the start is after the end.
    """
    return _ranging("day", start, end)


def hourly(start: str | None = None, end: str | None = None) -> Calendar:
    """Return a calendar with one key per hour, such as ``2013-01-02T05``; arguments as for ``daily``."""
    return _ranging("hour", start, end)


def listed(keys: Sequence[str]) -> Calendar:
    """Return a calendar of the given keys, in the given order.

    Raises:
        InvalidArgument: The list is empty or has a duplicate.
        InvalidName: A key cannot be used as a folder name.
    """
    if isinstance(keys, str) or not keys or len(set(keys)) < len(keys):
        raise InvalidArgument("calendar", repr(keys), "a list of keys without duplicates")
    return Calendar(every=None, list=tuple(check_name("key", key) for key in keys))


_LIKE: dict[Every, re.Pattern[str]] = {
    "day": re.compile(r"\d{4}-\d{1,2}-\d{1,2}"),
    "hour": re.compile(r"\d{4}-\d{1,2}-\d{1,2}T\d{1,2}"),
}


def check_date(key: str) -> None:
    """Check that a key which looks like a day or an hour is a valid one, unlike ``2024-02-30`` or ``2024-3-1``.

    Raises:
        InvalidArgument: The key looks like a day or an hour, but is not valid.
    """
    for every, form in _LIKE.items():
        if form.fullmatch(key):
            _moment(every, key)


def _ranging(every: Every, start: str | None, end: str | None) -> Calendar:
    for key in (start, end):
        if key is not None:
            _moment(every, key)
    if start is not None and end is not None and _moment(every, start) > _moment(every, end):
        raise InvalidArgument("calendar", f"start_date {start} after end_date {end}", "start_date before end_date")
    return Calendar(every=every, start=start, end=end)


def _moment(every: Every, key: str) -> dt.datetime:
    try:
        at = dt.datetime.strptime(key, _FORMATS[every])  # noqa: DTZ007 - a key is a name, without a time zone
    except (ValueError, TypeError) as error:
        raise InvalidArgument("key", repr(key), _EXAMPLES[every]) from error
    if at < _ORIGIN:
        raise InvalidArgument("key", repr(key), f"{_EXAMPLES[every]}, in the year 1000 or later")
    written = at.strftime(_FORMATS[every])
    if written != key:  # 2013-1-2 is the same day, written differently
        raise InvalidArgument("key", repr(key), f"{_EXAMPLES[every]}: {written}")
    return at
