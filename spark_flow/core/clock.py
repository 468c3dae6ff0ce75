"""The clock of code that waits; a test replaces it to wait an hour in no time."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Functions that read the time and wait.

    Attributes:
        monotonic: Returns seconds that never decrease.
        sleep: Waits a number of seconds.
        now: Returns the current time in UTC.
    """

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc)
