"""The exclusive choice (the book's section 4.2): exactly one of several routes runs, and the reason is recorded.

A retry takes the recorded route again, whatever has changed since; a rerun evaluates the conditions again.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from spark_flow.core import fingerprint, html
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import LazyFrame, held
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidArgument, InvalidCondition, NoBranches, NotExclusive
from spark_flow.storage.sink_protocol import Written
from spark_flow.transforms.columns import is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run
    from spark_flow.fan_out.conditions import Answer, Condition

T = TypeVar("T")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The route that was taken.

    Attributes:
        route: The route's name; empty in plan mode if the decision needs data.
        reason: Why it was taken.
        result: The route's return value.
        not_taken: Why each other route was not taken.
    """

    route: str
    reason: str
    result: T | None
    not_taken: Mapping[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return the routes for notebooks."""
        taken = [("taken", self.route, self.reason)] if self.route else [("undecided", "", self.reason)]
        rows = [*taken, *(("not taken", route, why) for route, why in self.not_taken.items())]
        return html.table("exclusive choice", ("", "route", "reason"), rows, states=0)

    @property
    def frame(self) -> DataFrame | LazyFrame:
        """The frame that the route returned, so that a choice can be passed on like a frame.

        Raises:
            InvalidArgument: The route did not return a frame, or plan mode could not decide without reading data.
        """
        frame = held(self.result)
        if isinstance(frame, LazyFrame) or is_frame(frame):
            return frame
        found = f"a {type(self.result).__name__} of route {self.route!r}" if self.route else self.reason
        raise InvalidArgument("choice: frame", found, "a route that returns a frame; .result is the return value")


def exclusive_choice(
    run: Run,
    name: str,
    routes: Mapping[str, tuple[Condition | None, Callable[[], T]]],
    *,
    default: str | None = None,
) -> Choice[T]:
    """Run the one route whose condition holds.

    >>> exclusive_choice(run, "output", {  # doctest: +SKIP
    ...     "csv": (by_date(before="2013-01-03"), lambda: write(run, "legacy", daily, csv("out/legacy"))),
    ...     "delta": (by_date(since="2013-01-03"), lambda: write(run, "lake", daily, delta("out/lake"))),
    ... })

    Args:
        run: The run.
        name: The node's name; routes that are not taken are listed as ``<name>/<route>``.
        routes: By name, a condition and a function to call; the default's condition may be ``None``.
        default: The route to take if no condition holds, or more than one does.

    Returns:
        The route, the reason, and the route's return value.

    Raises:
        NoBranches: There is no route.
        InvalidName: A route's name cannot be a folder name.
        InvalidCondition: A route has no condition and is not the default, the default is not a route, or two date
            ranges overlap.
        NotExclusive: No condition holds or several do, and there is no default; the message lists every condition with
            the value that was found.
    """
    node = run.node(name)
    _check(node, routes, default)
    digest = fingerprint.combine(
        "choice", default or "", [[route, one.fingerprint if one else ""] for route, (one, _) in routes.items()]
    )
    conditions = {route: one for route, (one, _) in routes.items() if one is not None}
    chosen = Node(name=node, kind="choice", fingerprint=digest, writes=False)
    if run.plan and not run.keeps(node) and not run.is_valid(chosen):
        if any(one.reads_data for one in conditions.values()):
            reason = "decided by data at run time: " + "; ".join(f"{r}: {one.text}" for r, one in conditions.items())
            run.plan_to(node, "choice", reason, digest)
            return Choice("", reason, None)
        decided = _decide(node, run, conditions, default)
        detail, reason = decided.detail, decided.reason
        run.plan_to(node, "choice", reason, digest)
    else:
        decide = functools.partial(_decide, node, run, conditions, default)
        outcome = run.once(chosen, lambda _: decide())
        detail, reason = outcome.detail, outcome.reason
    for route, why in detail["not_taken"].items():
        run.skip(f"{node}/{route}", "choice", f"not taken: {why}")
    taken = str(detail["route"])
    with run.graph.route(f"{node}/{taken}"):
        return Choice(taken, reason, routes[taken][1](), dict(detail["not_taken"]))


def _check(node: str, routes: Mapping[str, tuple[Condition | None, Any]], default: str | None) -> None:
    if not routes:
        raise NoBranches(node)
    for route, pair in routes.items():
        check_name("route", route)
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):  # noqa: PLR2004
            raise InvalidCondition(f"{node}/{route}", repr(pair), "(condition, function)")
    if default is not None and default not in routes:
        raise InvalidCondition(f"{node}: default", repr(default), f"one of: {', '.join(routes)}")
    for route, (condition, _) in routes.items():
        if condition is None and route != default:
            raise InvalidCondition(f"{node}/{route}", "no condition", f"a condition, or default={route!r}")
    spans = {route: one.span for route, (one, _) in routes.items() if one is not None and one.span is not None}
    for (one, first), (other, second) in combinations(spans.items(), 2):
        if first[0] < second[1] and second[0] < first[1]:
            both = max(first[0], second[0])
            raise InvalidCondition(node, f"{one} and {other} both hold on {both}", "date ranges that do not overlap")


def _decide(node: str, run: Run, conditions: Mapping[str, Condition], default: str | None) -> Written:
    """Evaluate every condition; return the route, with what each condition found."""
    began = time.monotonic()
    answers = {route: condition.answer(run.key, lambda: run.spark) for route, condition in conditions.items()}
    took = round((time.monotonic() - began) * 1000)
    holding = [route for route, answer in answers.items() if answer.holds]
    found = {route: _describe(conditions[route], answer) for route, answer in answers.items()}
    if len(holding) != 1 and default is None:
        raise NotExclusive(node, holding, found)
    taken = holding[0] if len(holding) == 1 else str(default)
    why = found[taken] if len(holding) == 1 else f"the default: {len(holding)} of {len(found)} conditions hold"
    not_taken = {route: why for route, why in found.items() if route != taken}
    if default is not None and default != taken and default not in not_taken:
        not_taken[default] = "the default"
    cost = f" ({took} ms)" if any(one.reads_data for one in conditions.values()) else ""
    detail = {"route": taken, "not_taken": not_taken, "conditions": found, "cost_ms": took}
    return Written(reason=f"{taken}: {why}{cost}", detail=detail)


def _describe(condition: Condition, answer: Answer) -> str:
    return f"{condition.text}: {'yes' if answer.holds else 'no'}, {answer.found}"
