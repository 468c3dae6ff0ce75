"""Poll readiness markers until they are all there: the policies, the timing, and what each poll found."""

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

_LONGEST = 1e9  # seconds: 30 years; a comparison with NaN is false

OnFailed = Literal["fail", "wait", "ignore"]
OnSkipped = Literal["skip", "fail", "wait", "ignore"]
OnPartial = Literal["pass_on", "take", "refuse", "wait"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to do if the provider failed, skipped the key, or published partial data.

    Attributes:
        on_failed: ``fail`` at once; ``wait`` until it is fixed; ``ignore``: continue without it, as if missing.
        on_skipped: ``skip`` this key as well; ``fail``; ``wait``; ``ignore``.
        on_partial: ``pass_on``: read it, and label the result as approximate; ``take`` it as complete; ``refuse`` it;
            ``wait`` until it is complete.
    """

    on_failed: OnFailed = "fail"
    on_skipped: OnSkipped = "skip"
    on_partial: OnPartial = "pass_on"

    def check(self, where: str) -> Policy:
        """Return the policy if all its values are valid.

        Raises:
            InvalidArgument: A value is not one of the choices.
        """
        for name, choices in (("on_failed", OnFailed), ("on_skipped", OnSkipped), ("on_partial", OnPartial)):
            check_choice(f"{where}: {name}", getattr(self, name), choices)
        return self


def check_choice(where: str, value: object, choices: object) -> None:
    """Check that a value is one of a ``Literal``.

    Raises:
        InvalidArgument: It is not.
    """
    if value not in get_args(choices):
        raise InvalidArgument(where, repr(value), f"one of: {', '.join(get_args(choices))}")


@dataclass(frozen=True, kw_only=True)
class Polling:
    """How often to poll, and when to give up.

    Attributes:
        timeout: Seconds until giving up; 0 polls once.
        interval: Seconds between the first two polls.
        backoff: Factor by which each pause grows; 1 for a constant interval.
        max_interval: The longest pause in seconds, before jitter.
        jitter: Each pause grows by up to this share of itself, at random, so that many consumers do not poll at once.
    """

    timeout: float = 3600.0
    interval: float = 10.0
    backoff: float = 1.5
    max_interval: float = 60.0
    jitter: float = 0.1

    def check(self, where: str) -> Polling:
        """Return the settings if all are valid.

        Raises:
            InvalidArgument: A setting is negative, not a finite number, or too small to wait at all.
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
        """Return the seconds to wait after this number of polls."""
        longest = math.log(self.max_interval / self.interval, self.backoff) if self.backoff > 1 else 0
        grown = self.interval * self.backoff ** min(looks - 1, max(longest, 0) + 1)
        return min(grown, self.max_interval) * (1 + random.uniform(0, self.jitter))  # noqa: S311 - no secret


@dataclass
class Watch:
    """The markers that a consumer waits for, and their state after the last poll.

    Attributes:
        node: The consumer's node.
        paths: The marker files, by dataset and key: ``daily_flights/2013-01-02``.
        roots: Folders that may contain the tables.
        tables: Tables that each marker must have.
        policy: What to do about failed, skipped and partial data.
        arrived: Markers that are ready and accepted.
        ignored: Markers that failed or were skipped and are not waited for; with a description.
        waiting: The others, with what the last poll found.
        looks: The number of polls.
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
        """Read all markers that have not arrived yet; return whether there is nothing left to wait for.

        Raises:
            InvalidMarker: A marker cannot be trusted. A truncated one may still be being copied by another tool, so
                it is an error only at the second poll.
            UpstreamFailed, UpstreamPartial, UpstreamSkipped: According to the policy.
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
                self.ignored[name] = str(marker)  # read again while others are waited for: it may be fixed
            else:
                self._take(name, marker)
        return not self.waiting

    def _take(self, name: str, marker: Marker) -> None:
        """Accept a ready marker if its tables can be read.

        Raises:
            InvalidMarker: A required table is not in the marker, is missing, or is outside the allowed folders.
        """
        missing = [table for table in self.tables if table not in marker.tables]
        if missing:
            found = f"tables {', '.join(marker.tables) or 'none'}"
            raise InvalidMarker(self.paths[name], found, f"tables including {', '.join(missing)}")
        try:
            markers.check_tables(self.paths[name], marker, self.roots)
        except OSError as error:
            self.waiting[name] = f"cannot check its tables: {describe(error)}"
        else:
            self.waiting.pop(name, None)
            self.arrived[name] = marker

    def give_up(self) -> None:
        """Raise the error of a marker that is still truncated at the last poll."""
        for error in self._cut_off.values():
            raise error

    def _read(self, name: str) -> Marker | None:
        suspect = self._cut_off.pop(name, None)
        try:
            return markers.read(self.paths[name])
        except FileNotFoundError:
            self.waiting[name] = "no marker yet"
        except OSError as error:  # the storage may respond at the next poll
            self.waiting[name] = f"cannot read its marker: {describe(error)}"
        except InvalidMarker as error:
            if not error.cut_off or suspect is not None:
                raise
            self._cut_off[name] = error
            self.waiting[name] = f"its marker is incomplete: {error.found}"
        return None

    def _chosen(self, marker: Marker) -> str:
        """Return what the policy does with a marker."""
        if marker.state == "ready":
            return self.policy.on_partial if marker.is_approximate else "take"
        return self.policy.on_failed if marker.state == "failed" else self.policy.on_skipped

    def _refuse(self, found: Sequence[Marker]) -> None:
        """Raise the policy's error for failed, skipped or partial markers; one error for all of a kind."""
        chosen = [(str(marker), self._chosen(marker)) for marker in found]
        for choice, error in (("fail", UpstreamFailed), ("skip", UpstreamSkipped), ("refuse", UpstreamPartial)):
            refused = [words for words, one in chosen if one == choice]
            if refused:
                raise error(self.node, refused)


def poll(watch: Watch, polling: Polling, clock: Clock, report: Callable[[str], None]) -> float:
    """Poll until nothing is left to wait for or the timeout has passed; return the seconds that it took.

    Args:
        watch: The markers to wait for.
        polling: How often to poll, and the timeout.
        clock: The clock.
        report: Called before each pause with what is still missing.
    """
    began = clock.monotonic()

    def waited(_: RetryCallState | None = None) -> float:
        return clock.monotonic() - began

    def pause(_: RetryCallState) -> float:
        return min(polling.pause(watch.looks), max(polling.timeout - waited(), 0.001))  # last poll: at the timeout

    def before_sleep(_: RetryCallState) -> None:
        report("; ".join(f"{name}: {words}" for name, words in list(watch.waiting.items())[:3]))

    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=lambda _: waited() >= polling.timeout,
        wait=pause,
        sleep=clock.sleep,
        before_sleep=before_sleep,
        retry_error_callback=lambda _: False,
    )(watch.look)
    return waited()
