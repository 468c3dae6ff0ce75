"""``exclusive_choice``: of several routes exactly one is taken."""

import functools
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from spark_flow.errors import EndedAfter, InvalidCondition, NotRecorded
from spark_flow.fan_out import by_data, by_date, by_parameter, by_schema, by_share, exclusive_choice
from spark_flow.fan_out.conditions import Condition
from spark_flow.jobfile.model.base import (
    PATTERN,
    FlowModel,
    Located,
    Model,
    Name,
    SourceName,
    Text,
    frame_of,
    located,
)
from spark_flow.jobfile.model.fields import date_text, one_or_many
from spark_flow.jobfile.model.problems import Location, nearest, one_of, refuse, show
from spark_flow.storage.sources import source

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.run import Run
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.flow import FlowEntry
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


class ByParameter(Model):
    """The file's ``parameters.<name>``, by ``--<name>`` on the command line.

    Attributes:
        name: The parameter's name.
        equals: The value for which the route is taken.
    """

    name: Text
    equals: Text

    @field_validator("name")
    @classmethod
    def _is_declared(cls, value: str, info: ValidationInfo) -> str:
        known = (info.context or {}).get("parameters")
        if known is not None and value not in known:
            raise refuse(show(value), one_of(known) if known else "a name under parameters", nearest(value, known))
        return value


class _Asks(Protocol):
    @property
    def condition(self) -> Condition: ...


Asks = TypeVar("Asks", bound=_Asks)


def _asked(model: Asks) -> Asks:
    """The model, if its condition can be asked: else that is found out after other nodes were done."""
    try:
        _ = model.condition
    except InvalidCondition as error:
        raise refuse(error.found, error.expected) from error
    return model


class ByDate(Model):
    """The run's key: ``since`` a day, ``before`` a day, or both.

    Attributes:
        since: The first day.
        before: The day after the last one.
    """

    since: Annotated[str, BeforeValidator(date_text)] = ""
    before: Annotated[str, BeforeValidator(date_text)] = ""

    @property
    def condition(self) -> Condition:
        """As a choice asks it."""
        return by_date(since=self.since, before=self.before)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        return _asked(self)


class ByShare(Model):
    """A share of all keys, by a stable hash.

    Attributes:
        share: From 0 to 1.
        salt: Another salt chooses other keys.
    """

    share: Annotated[float, Field(ge=0, le=1)]
    salt: str = ""


class BySchema(Model):
    """Columns of a source, or of the frame so far.

    Attributes:
        source: The source whose columns are tested; by default the frame so far.
        has: Columns that are there.
        types: Columns with their types.
        fields: The number of columns.
        min_fields: The smallest number of columns.
    """

    source: SourceName | None = None
    has: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    types: dict[str, Text] = Field(default_factory=dict)
    fields: Annotated[StrictInt, Field(ge=1)] | None = None
    min_fields: Annotated[StrictInt, Field(ge=1)] | None = None

    @property
    def condition(self) -> Condition:
        """As a choice asks it, of whatever data."""
        return by_schema(source("json", "any"), **self.model_dump(exclude={"source"}))

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        return _asked(self)


class ByData(Model):
    """Rows of the frame so far, bounded.

    Attributes:
        where: SQL that is true for the rows that are counted; by default all rows.
        at_least: The smallest number of such rows.
        within: With ``where``, the most rows of each partition that are looked at.
    """

    where: str = ""
    at_least: Annotated[StrictInt, Field(ge=1)] = 1
    within: Annotated[StrictInt, Field(ge=1)] = 100_000

    @field_validator("within")
    @classmethod
    def _holds_as_many(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("at_least", 1)
        if value < least:
            raise refuse(f"{value}, with at_least {least}", "no less than at_least")
        return value


class WhenModel(Model):
    """The condition of a route: one of these.

    Attributes:
        by_parameter: By an argument of the job.
        by_date: By the key.
        by_share: By a share of all keys.
        by_schema: By columns and types.
        by_data: By rows.
    """

    by_parameter: ByParameter | None = None
    by_date: ByDate | None = None
    by_share: ByShare | None = None
    by_schema: BySchema | None = None
    by_data: ByData | None = Field(None, validate_default=True)

    @field_validator("by_data")
    @classmethod
    def _exactly_one(cls, value: ByData | None, info: ValidationInfo) -> ByData | None:
        given = [name for name, model in {**info.data, "by_data": value}.items() if model is not None]
        if len(given) != 1 and set(info.data) == set(cls.model_fields) - {"by_data"}:
            raise refuse(" and ".join(given) or "nothing", f"exactly {one_of(cls.model_fields)}")
        return value

    @property
    def text(self) -> str:
        """The condition in one line, as ``by_date(since=2013-01-03)``."""
        ((name, given),) = self.model_dump(exclude_none=True, exclude_defaults=True).items()
        return f"{name}({', '.join(f'{key}={_plain(value)}' for key, value in given.items())})"

    def condition(self, flow: "Flow", frame: "LazyFrame") -> Condition:
        """What it describes, of a source or of the frame so far."""
        if self.by_parameter is not None:
            parameter = flow.parameters[self.by_parameter.name]
            asked = self.by_parameter
            return by_parameter(asked.name, str(parameter.value), asked.equals, allowed=parameter.values)
        if self.by_date is not None:
            return by_date(since=self.by_date.since, before=self.by_date.before)
        if self.by_share is not None:
            return by_share(self.by_share.share, salt=self.by_share.salt)
        if self.by_schema is not None:
            one = self.by_schema
            data = flow.source(one.source) if one.source else frame
            return by_schema(data, has=one.has, types=one.types, fields=one.fields, min_fields=one.min_fields)
        return by_data(frame, **self.by_data.model_dump() if self.by_data else {})


def _plain(value: object) -> str:
    """A value of a condition as it is written in YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {each}" for name, each in value.items()) + "}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple | list) else str(value)


class RouteModel(Model):
    """What is done if its condition holds.

    Attributes:
        when: Its condition; the default route needs none.
        flow: Its entries, in order.
    """

    when: WhenModel | None = None
    flow: tuple["FlowEntry", ...]

    @field_validator("flow")
    @classmethod
    def _not_empty(cls, flow: tuple[FlowModel, ...]) -> tuple[FlowModel, ...]:
        if not flow:
            raise refuse("an empty list", "at least one entry")
        return flow


def _asks_date(route: RouteModel) -> bool:
    return route.when is not None and route.when.by_date is not None


class ExclusiveChoiceModel(FlowModel):
    """Of several routes exactly one is taken; later entries get the frame of the route.

    Attributes:
        name: The node's name; a route is ``<name>/<route>``.
        routes: The routes by name.
        default: The route that is taken if no condition holds.
    """

    named = {"routes": RouteModel}  # noqa: RUF012 - declared as a class variable
    nested = {  # noqa: RUF012
        "by_parameter": ByParameter,
        "by_date": ByDate,
        "by_share": ByShare,
        "by_schema": BySchema,
        "by_data": ByData,
        "when": WhenModel,
    }
    kind = "choice"
    pattern: Literal["exclusive_choice"] = Field("exclusive_choice", alias=PATTERN)
    name: Name
    routes: dict[Name, RouteModel]
    default: str | None = Field(None, validate_default=True)

    @property
    def boundary(self) -> bool:
        """After the decision, and after a route."""
        return True

    def nodes(self) -> tuple[str, ...]:
        """Its own name, the routes' under it, and those of all their entries."""
        return (
            self.name,
            *(f"{self.name}/{route}" for route in self.routes),
            *(n for e in self.within() for n in e.nodes()),
        )

    def within(self, skipped: Collection[str] = ()) -> tuple[FlowModel, ...]:
        """Those of all routes but some."""
        routes = [route for name, route in self.routes.items() if f"{self.name}/{name}" not in skipped]
        return tuple(entry for route in routes for entry in route.flow)

    def located(self, loc: Location, prefix: str, around: tuple[str, ...]) -> Iterator[Located]:
        """Its record comes before the entries of its routes."""
        routes = {f"{self.name}/{name}": name for name in self.routes}
        yield Located(loc, self, (self.name, *routes), around)
        for node, name in routes.items():
            yield from located(self.routes[name].flow, (*loc, "routes", name, "flow"), prefix, (*around, node))

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:
        """Later entries get the frame of one of the routes."""
        wiring.inputs[self.name] = before
        wiring.inputs |= {f"{self.name}/{name}": (self.name,) for name in self.routes}
        ends = [node for route in self.routes.values() for node in wiring.along(route.flow, before, prefix)]
        return tuple(dict.fromkeys(ends))

    def described(self, config: "JobConfig") -> Mapping[str, object]:  # noqa: ARG002
        """Its routes, with the condition of each as text and as in the file."""
        routes = {name: route.when.text if route.when else "" for name, route in self.routes.items()}
        when = {name: route.when for name, route in self.routes.items() if route.when}
        given = {
            name: one.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for name, one in when.items()
        }
        return {"routes": routes, "conditions": given, "default": self.default}

    def not_taken(self, run: "Run") -> tuple[str, ...]:
        """All routes but the one that is recorded."""
        outcome = run.outcome(self.name)
        taken = outcome.detail.get("route") if outcome else None
        return tuple(f"{self.name}/{route}" for route in self.routes if route != taken)

    @field_validator("default")
    @classmethod
    def _is_a_route(cls, value: str | None, info: ValidationInfo) -> str | None:
        routes = info.data.get("routes")
        if routes is None:
            return value
        if value is not None and value not in routes:
            raise refuse(show(value), one_of(routes), nearest(value, routes))
        without = [name for name, route in routes.items() if route.when is None and name != value]
        if without or not routes:
            found = f"route {without[0]} without a condition" if without else "no route"
            raise refuse(found, "a condition (when) for each route but the default")
        dated = {name: route.when.by_date.condition.span for name, route in routes.items() if _asks_date(route)}
        for (one, first), (other, second) in combinations(dated.items(), 2):
            if first and second and first[0] < second[1] and second[0] < first[1]:
                both = f"{one} and {other} both hold on {max(first[0], second[0])}"
                raise refuse(both, "date ranges that do not overlap")
        return value

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Decide, and walk the route that is taken."""
        before = frame_of(frame)
        scope.run.graph.uses(self.name, [before.node])
        routes = {
            name: (
                route.when.condition(flow, before) if route.when else None,
                functools.partial(self._take, flow, name, scope, before),
            )
            for name, route in self.routes.items()
        }
        choice = exclusive_choice(scope.run, self.name, routes, default=self.default)
        return choice.result if choice.route else before

    def _take(self, flow: "Flow", name: str, scope: "Scope", frame: "LazyFrame") -> "LazyFrame | None":
        """Walk a route.

        Raises:
            EndedAfter: Only the decision was requested.
            NotRecorded: The recorded choice is taken over, and what is to run again is on another route.
        """
        if flow.until == self.name:
            raise EndedAfter(self.name)
        others = [one for other, route in self.routes.items() if other != name for one in route.flow]
        astray = [node for one in others for node in one.nodes() if not scope.run.keeps(node)]
        if astray and scope.run.keeps(self.name):
            why = f"it took the route {name}, which does not lead to {astray[0]}"
            raise scope.run.failed(self.name, "choice", NotRecorded(self.name, why))
        return flow.walk(self.routes[name].flow, scope, frame)

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """All routes, and the sources that conditions read."""
        for route in self.routes.values():
            asked = route.when.by_schema if route.when is not None else None
            if asked is not None and asked.source is not None:
                yield from config.paths_of(asked.source, self.name)
            for entry in route.flow:
                yield from entry.footprint(config, above)
