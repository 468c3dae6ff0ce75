"""Map a consumer's key to the provider's keys: the same key, all hours of a day, or the last n days."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.core.names import check_name
from spark_flow.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KeyMap: TypeAlias = "Callable[[str], Sequence[str]]"

_HOURS, _DAYS = 24, 366
_HOURS_OF_DAY = re.compile(r"hours_of_day(?:\(\s*(\d+)\s*\.\.\s*(\d+)\s*\))?")
_LAST_DAYS = re.compile(r"last_days\(\s*(\d+)\s*\)")
KEY_MAPS = "same, hours_of_day, hours_of_day(05..23) or last_days(7)"


def same_key(key: str) -> tuple[str, ...]:
    """Return the key itself: the provider uses the same keys.

    >>> same_key("2013-01-02")
    ('2013-01-02',)
    """
    return (key,)


def hours_of_day(first: int = 0, last: int = 23) -> KeyMap:
    """Map a day to its hours; for an hourly provider with keys like ``2013-01-02T05``.

    >>> hours_of_day(5, 7)("2013-01-02")
    ('2013-01-02T05', '2013-01-02T06', '2013-01-02T07')

    Raises:
        InvalidArgument: The hours are not within 0 to 23, or the map is called with a key that is not a day.
    """
    if not 0 <= first <= last < _HOURS:
        raise InvalidArgument("hours_of_day", f"{first}..{last}", "hours from 0 to 23, first <= last")

    def hours(key: str) -> tuple[str, ...]:
        day = _day("hours_of_day", key)
        return tuple(f"{day}T{hour:02d}" for hour in range(first, last + 1))

    return hours


def last_days(days: int) -> KeyMap:
    """Map a day to itself and the days before it, oldest first; ``days`` counts the day itself.

    >>> last_days(3)("2013-01-02")
    ('2012-12-31', '2013-01-01', '2013-01-02')

    Raises:
        InvalidArgument: The number is not 1 to 366, or the map is called with a key that is not a day.
    """
    if not 1 <= days <= _DAYS:
        raise InvalidArgument("last_days", str(days), f"1 to {_DAYS} days")

    def several(key: str) -> tuple[str, ...]:
        day = _day("last_days", key)
        try:
            return tuple((day - dt.timedelta(days=back)).isoformat() for back in reversed(range(days)))
        except OverflowError as error:
            raise InvalidArgument("last_days", f"key {key!r}", f"a day with {days - 1} days before it") from error

    return several


def _day(what: str, key: str) -> dt.date:
    try:
        return dt.date.fromisoformat(key)
    except ValueError as error:
        raise InvalidArgument(what, f"key {key!r}", "a day like 2013-01-02") from error


def parse_keys(text: str) -> KeyMap:
    """Parse a key map as written in a YAML file, for example ``hours_of_day(05..23)``.

    Raises:
        InvalidArgument: The text is not a key map.
    """
    text = text.strip()
    hours, days = _HOURS_OF_DAY.fullmatch(text), _LAST_DAYS.fullmatch(text)
    if text == "same":
        return same_key
    if hours is not None:
        return hours_of_day(*(int(hour) for hour in hours.groups() if hour))
    if days is not None:
        return last_days(int(days[1]))
    raise InvalidArgument("keys", repr(text), KEY_MAPS)


def keys_of(keys: KeyMap | Sequence[str], key: str) -> tuple[str, ...]:
    """Return the provider's keys for a consumer's key, without duplicates.

    Raises:
        InvalidArgument: There are no keys, or they are a string instead of a list.
        InvalidName: A key cannot be a folder name.
    """
    found = keys(key) if callable(keys) else keys
    if isinstance(found, str) or not found:
        raise InvalidArgument("keys", repr(found), "a function that returns keys, or a list of keys")
    return tuple(dict.fromkeys(check_name("key", one) for one in found))
