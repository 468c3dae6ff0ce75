"""Time as one who waits sees it: a port, so that a test can wait an hour in no time."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time that passes.

    Attributes:
        monotonic: Seconds that only grow.
        sleep: Waits so many seconds.
        now: The time of day, UTC.
    """

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc)
