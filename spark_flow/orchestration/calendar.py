"""The keys of a pipeline, in order: days, hours, or a list."""

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

MOST = 10_000  # a range is written in a few characters; a slip of them should not fill the memory
_FORMATS = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
_STEPS = {"day": dt.timedelta(days=1), "hour": dt.timedelta(hours=1)}
_ORIGIN = dt.datetime(1000, 1, 1)  # noqa: DTZ001 - of places among keys, of no zone
_EXAMPLES = {"day": "a day as 2013-01-02", "hour": "an hour as 2013-01-02T05"}


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The keys that a pipeline has; made by ``daily``, ``hourly`` or ``listed``.

    Attributes:
        every: What a key stands for; ``None`` for a list.
        start: The first key; ``None``: there is no first.
        end: The last key; ``None``: the last one whose time is over.
        list: The keys of a list, in order.
    """

    every: Every | None
    start: str | None = None
    end: str | None = None
    list: tuple[str, ...] = ()

    def keys(self, wanted: str = "", *, now: dt.datetime | None = None) -> tuple[str, ...]:
        """The keys that are asked for, in the calendar's order.

        >>> daily("2013-01-01", "2013-01-31").keys("2013-01-02..2013-01-03,2013-01-09")
        ('2013-01-02', '2013-01-03', '2013-01-09')

        Args:
            wanted: Keys and ranges ``from..to``, both ends among them, with commas between; by default all.
            now: The time of day, UTC: where there is no ``end``, "all" goes up to the last key whose time is over.

        Raises:
            InvalidArgument: A key is none of the calendar's, or a range begins after its end.
        """
        if not wanted.strip():
            return self._between("the calendar", self._first(), self._last(now))
        found = [key for part in wanted.split(",") for key in self._part(part.strip())]
        return tuple(sorted(dict.fromkeys(found), key=self._place))

    def check_form(self, key: str) -> None:
        """Refuse a key that is written otherwise than the calendar's, whether or not it is among them.

        Raises:
            InvalidArgument: It is no day, or no hour.
        """
        if self.every is not None:
            _moment(self.every, key)

    def previous(self, key: str) -> str | None:
        """The key before one; ``None`` if it is the first."""
        if self.every is None:
            place = self._place(key)
            return self.list[place - 1] if place else None
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
        begin, end = self._place(first), self._place(last)
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
            raise InvalidArgument("keys", "no keys, and no start_date", "one of them, as 2013-01-01..2013-01-31")
        return self.start

    def _last(self, now: dt.datetime | None) -> str:
        if self.every is None:
            return self.list[-1]
        over = (now or dt.datetime.now(dt.timezone.utc)) - _STEPS[self.every]
        return self.end or over.strftime(_FORMATS[self.every])

    def _place(self, key: str) -> int:
        """Where a key stands among the others.

        Raises:
            InvalidArgument: It is none of the calendar's.
        """
        if self.every is None:
            if key not in self.list:
                raise InvalidArgument("key", repr(key), f"one of the list: {', '.join(self.list[:10])}")
            return self.list.index(key)
        at = self._moment(key)
        if self.start is not None and at < self._moment(self.start):
            raise InvalidArgument("key", key, f"none before start_date {self.start}")
        if self.end is not None and at > self._moment(self.end):
            raise InvalidArgument("key", key, f"none after end_date {self.end}")
        return (at - _ORIGIN) // _STEPS[self.every]

    def _moment(self, key: str) -> dt.datetime:
        return _moment(self.every or "day", key)


def daily(start: str | None = None, end: str | None = None) -> Calendar:
    """A key for each day, as ``2013-01-02``.

    Args:
        start: The first one: it has no key before it.
        end: The last one; by default yesterday (UTC), the last day that is over.

    Raises:
        InvalidArgument: One is no day, or the start is after the end.
    """
    return _ranging("day", start, end)


def hourly(start: str | None = None, end: str | None = None) -> Calendar:
    """A key for each hour, as ``2013-01-02T05``; as ``daily`` otherwise."""
    return _ranging("hour", start, end)


def listed(keys: Sequence[str]) -> Calendar:
    """The keys of a list, in its order.

    Raises:
        InvalidArgument: There is none, or one twice.
        InvalidName: One cannot be a folder name.
    """
    if isinstance(keys, str) or not keys or len(set(keys)) < len(keys):
        raise InvalidArgument("calendar", repr(keys), "a list of keys, each once")
    return Calendar(every=None, list=tuple(check_name("key", key) for key in keys))


_LIKE: dict[Every, re.Pattern[str]] = {
    "day": re.compile(r"\d{4}-\d{1,2}-\d{1,2}"),
    "hour": re.compile(r"\d{4}-\d{1,2}-\d{1,2}T\d{1,2}"),
}


def check_date(key: str) -> None:
    """Refuse a key that looks like a day or an hour and is none, as ``2024-02-30`` or ``2024-3-1``.

    Raises:
        InvalidArgument: See above.
    """
    for every, form in _LIKE.items():
        if form.fullmatch(key):
            _moment(every, key)


def _ranging(every: Every, start: str | None, end: str | None) -> Calendar:
    for key in (start, end):
        if key is not None:
            _moment(every, key)
    if start is not None and end is not None and _moment(every, start) > _moment(every, end):
        raise InvalidArgument("calendar", f"start_date {start} after end_date {end}", "the earlier one first")
    return Calendar(every=every, start=start, end=end)


def _moment(every: Every, key: str) -> dt.datetime:
    try:
        at = dt.datetime.strptime(key, _FORMATS[every])  # noqa: DTZ007 - a key is a name, of no zone
    except (ValueError, TypeError) as error:
        raise InvalidArgument("key", repr(key), _EXAMPLES[every]) from error
    if at < _ORIGIN:
        raise InvalidArgument("key", repr(key), f"{_EXAMPLES[every]}, of the year 1000 or later")
    written = at.strftime(_FORMATS[every])
    if written != key:  # 2013-1-2 is the same day by another name
        raise InvalidArgument("key", repr(key), f"{_EXAMPLES[every]}: {written}")
    return at
