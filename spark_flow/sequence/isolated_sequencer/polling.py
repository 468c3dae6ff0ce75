"""Looking at readiness markers until they are there: what was found at each look, and when to stop."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from tenacity import RetryCallState, Retrying, retry_if_result

from spark_flow.errors import InvalidArgument, InvalidMarker, UpstreamFailed, UpstreamPartial, UpstreamSkipped, describe
from spark_flow.storage import markers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spark_flow.core.clock import Clock
    from spark_flow.storage.markers import Marker

_LONGEST = 1e9  # seconds: 30 years; not a number is below no number

OnFailed = Literal["fail", "wait", "ignore"]
OnSkipped = Literal["skip", "fail", "wait", "ignore"]
OnPartial = Literal["pass_on", "take", "refuse", "wait"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to do about a provider that is not simply ready.

    Attributes:
        on_failed: ``fail`` at once; ``wait`` for it to be mended; ``ignore``: go on without it, as if it never came.
        on_skipped: ``skip`` this key, too; ``fail``; ``wait``; ``ignore``.
        on_partial: ``pass_on``: take it, and say that what is made of it is approximate; ``take`` it as if it were
            whole; ``refuse`` it; ``wait`` until it is complete.
    """

    on_failed: OnFailed = "fail"
    on_skipped: OnSkipped = "skip"
    on_partial: OnPartial = "pass_on"

    def check(self, where: str) -> Policy:
        """The policy, if there is one of each name.

        Raises:
            InvalidArgument: There is none.
        """
        for name, choices in (("on_failed", OnFailed), ("on_skipped", OnSkipped), ("on_partial", OnPartial)):
            check_choice(f"{where}: {name}", getattr(self, name), choices)
        return self


def check_choice(where: str, value: object, choices: object) -> None:
    """Refuse what is none of a ``Literal``.

    Raises:
        InvalidArgument: See above.
    """
    if value not in get_args(choices):
        raise InvalidArgument(where, repr(value), f"one of: {', '.join(get_args(choices))}")


@dataclass(frozen=True, kw_only=True)
class Polling:
    """When to look again.

    Attributes:
        timeout: Give up after so many seconds; 0 looks once.
        interval: Seconds between the first two looks.
        backoff: What each pause is multiplied by for the next one; 1 keeps them alike.
        max_interval: No pause is longer, in seconds, but for the jitter.
        jitter: Each pause is longer by up to this share of it, at random, so that many consumers do not look at once.
    """

    timeout: float = 3600.0
    interval: float = 10.0
    backoff: float = 1.5
    max_interval: float = 60.0
    jitter: float = 0.1

    def check(self, where: str) -> Polling:
        """The settings, if they can be waited by.

        Raises:
            InvalidArgument: One is negative, not a finite number, or a pause or factor that would never wait.
        """
        least = {"timeout": 0.0, "interval": 0.001, "backoff": 1.0, "max_interval": 0.001, "jitter": 0.0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LONGEST:
                raise InvalidArgument(f"{where}: {name}", repr(value), f"a number below {_LONGEST:.0e}")
            if value < smallest:
                raise InvalidArgument(f"{where}: {name}", repr(value), f"{smallest:g} or more")
        return self

    def pause(self, looks: int) -> float:
        """Seconds to wait after so many looks."""
        longest = math.log(self.max_interval / self.interval, self.backoff) if self.backoff > 1 else 0
        grown = self.interval * self.backoff ** min(looks - 1, max(longest, 0) + 1)
        return min(grown, self.max_interval) * (1 + random.uniform(0, self.jitter))  # noqa: S311 - no secret


@dataclass
class Watch:
    """What a consumer waits for, and what came of it so far.

    Attributes:
        node: The consumer's node.
        paths: The markers' files, by dataset and key as ``daily_flights/2013-01-02``.
        roots: Folders that their tables may lie in.
        tables: Those that each must have.
        arrived: Those that are ready and taken.
        ignored: Those that failed or were skipped, and are not waited for; with their words.
        waiting: What was found of the others at the last look.
        looks: How many there were.
    """

    node: str
    paths: Mapping[str, str]
    roots: Sequence[str]
    tables: Sequence[str]
    policy: Policy
    arrived: dict[str, Marker] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    _cut_off: dict[str, InvalidMarker] = field(default_factory=dict)

    def look(self) -> bool:
        """Look at all that have not arrived; whether there is nothing more to wait for.

        Raises:
            InvalidMarker: One cannot be trusted. One that is cut off may be in another tool's hands: that is said at
                the second look.
            UpstreamFailed, UpstreamPartial, UpstreamSkipped: As the policy says.
        """
        self.looks += 1
        left = [name for name in self.paths if name not in self.arrived]
        found = {name: marker for name in left if (marker := self._read(name)) is not None}
        self._refuse(list(found.values()))
        for name, marker in found.items():
            chosen = self._chosen(marker)
            if chosen == "wait":
                self.waiting[name] = str(marker)
                continue
            self.ignored.pop(name, None)
            if chosen == "ignore":
                self.waiting.pop(name, None)
                self.ignored[name] = str(marker)  # looked at again while others are waited for: it may be mended
            else:
                self._take(name, marker)
        return not self.waiting

    def _take(self, name: str, marker: Marker) -> None:
        """Take a marker that is ready, if what it names is there.

        Raises:
            InvalidMarker: It lacks a table, or a table is gone or elsewhere.
        """
        lacking = [table for table in self.tables if table not in marker.tables]
        if lacking:
            found = f"tables {', '.join(marker.tables) or 'none'}"
            raise InvalidMarker(self.paths[name], found, f"{', '.join(lacking)} among them")
        try:
            markers.check_tables(self.paths[name], marker, self.roots)
        except OSError as error:
            self.waiting[name] = f"its tables cannot be looked at: {describe(error)}"
        else:
            self.waiting.pop(name, None)
            self.arrived[name] = marker

    def give_up(self) -> None:
        """Raise what a last look leaves no doubt of."""
        for error in self._cut_off.values():
            raise error

    def _read(self, name: str) -> Marker | None:
        suspect = self._cut_off.pop(name, None)
        try:
            return markers.read(self.paths[name])
        except FileNotFoundError:
            self.waiting[name] = "no marker yet"
        except OSError as error:  # storage that does not answer now may do so at the next look
            self.waiting[name] = f"its marker cannot be looked at: {describe(error)}"
        except InvalidMarker as error:
            if not error.cut_off or suspect is not None:
                raise
            self._cut_off[name] = error
            self.waiting[name] = f"its marker is not whole: {error.found}"
        return None

    def _chosen(self, marker: Marker) -> str:
        """What the policy says of a marker."""
        if marker.state == "ready":
            return self.policy.on_partial if marker.is_approximate else "take"
        return self.policy.on_failed if marker.state == "failed" else self.policy.on_skipped

    def _refuse(self, found: Sequence[Marker]) -> None:
        """Raise what the policy says of markers that are not ready, or not complete; all of a kind at once."""
        chosen = [(str(marker), self._chosen(marker)) for marker in found]
        for choice, error in (("fail", UpstreamFailed), ("skip", UpstreamSkipped), ("refuse", UpstreamPartial)):
            told = [words for words, one in chosen if one == choice]
            if told:
                raise error(self.node, told)


def poll(watch: Watch, polling: Polling, clock: Clock, tell: Callable[[str], None]) -> float:
    """Look until there is nothing more to wait for, or the time is over; returns the seconds that it took.

    Args:
        watch: What is waited for.
        polling: When to look again.
        clock: What time it is.
        tell: Told before each pause what is waited for.
    """
    began = clock.monotonic()

    def waited(_: RetryCallState | None = None) -> float:
        return clock.monotonic() - began

    def pause(_: RetryCallState) -> float:
        return min(polling.pause(watch.looks), max(polling.timeout - waited(), 0.001))  # the last look is at the end

    def before_sleep(_: RetryCallState) -> None:
        tell("; ".join(f"{name}: {words}" for name, words in list(watch.waiting.items())[:3]))

    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=lambda _: waited() >= polling.timeout,
        wait=pause,
        sleep=clock.sleep,
        before_sleep=before_sleep,
        retry_error_callback=lambda _: False,
    )(watch.look)
    return waited()
