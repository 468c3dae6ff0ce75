"""``step``: a function of the user's, or SQL over ``{frame}``."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from spark_flow.errors import InvalidArgument
from spark_flow.jobfile.model.base import PATTERN, Name, Text
from spark_flow.jobfile.model.fields import (
    argument_names,
    named_by_run,
    placeholders,
    references_function,
    version_text,
)
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.problems import nearest, one_of, refuse, show
from spark_flow.jobfile.model.transform import TransformModel
from spark_flow.sequence import Step, step
from spark_flow.transforms import sql

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


class StepModel(TransformModel, LimitedModel):
    """A function of one's own, or SQL over ``{frame}``.

    ``step: flights:clean`` is short for ``step: {run: flights:clean}``.

    Attributes:
        name: The node's name; by default the function's.
        run: The function: it takes the frame so far, and returns a frame.
        with_: The arguments, by the names of parameters; the name of a source passes its frame.
        sql: SQL over ``{frame}``, and over the names in ``with``; instead of ``run``.
        restart: Write a checkpoint, from which a retry resumes.
        version: Change it when the result changes in a way that the source text does not show.
    """

    short = ("run", str)
    pattern: Literal["step"] = Field("step", alias=PATTERN)
    name: Name
    run: Annotated[str | None, AfterValidator(references_function)] = None
    with_: Annotated[dict[str, Any], AfterValidator(argument_names)] = Field(default_factory=dict, alias="with")
    sql: Text | None = Field(None, validate_default=True)
    restart: StrictBool = False
    version: Annotated[str | None, BeforeValidator(version_text)] = None

    def split_with(self, sources: Collection[str]) -> tuple[dict[str, str], dict[str, Any]]:
        """The arguments that are sources, by the source's name, and those that are plain values.

        A string is a source if, and only if, one of exactly that name exists.
        """
        named = {arg: value for arg, value in self.with_.items() if isinstance(value, str) and value in sources}
        return named, {arg: value for arg, value in self.with_.items() if arg not in named}

    @property
    def lazy(self) -> bool:
        """A step with a checkpoint has an action of its own."""
        return not self.restart

    @property
    def boundary(self) -> bool:
        """A step with a checkpoint."""
        return self.restart

    def reads(self) -> tuple[str, ...]:
        """Arguments that may be sources."""
        return tuple(value for value in self.with_.values() if isinstance(value, str))

    def steps(self) -> tuple["StepModel", ...]:
        """Itself."""
        return (self,)

    def step(self, flow: "Flow", frame: "LazyFrame") -> Step:  # noqa: ARG002 - whatever the frame is
        """The step that it describes, its arguments that name sources or tables as frames."""
        transform = sql(self.sql) if self.sql is not None else flow.resolve(str(self.run))
        named, plain = self.split_with(flow.frames)
        frames = {argument: flow.frame(name) for argument, name in named.items()}
        self._check_frames(transform, plain, flow.frames)
        arguments: dict[str, Any] = {**plain, **frames}
        return step(transform, name=self.name, restart=self.restart, version=self.version or "", **arguments)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":
        """Append the step to the chain."""
        made = super().call(flow, scope, frame)
        if self.restart and scope.run.redoes(made.node) and scope.run.recorded(made.node, made.fingerprint) is None:
            _ = made.frame  # requested by its name: what follows may be taken over, and would not need it
        return made

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The sources among its arguments."""
        for name in self.split_with(config.sources)[0].values():
            yield from config.paths_of(name, name)

    def _check_frames(self, transform: object, plain: Mapping[str, object], known: Collection[str]) -> None:
        """A parameter that is declared as a DataFrame gets one: a misspelt name would reach it as text."""
        for argument, declared in getattr(transform, "__annotations__", {}).items():
            if argument in plain and getattr(declared, "__name__", str(declared)).rpartition(".")[2] == "DataFrame":
                value, expected = plain[argument], f"a source or table, {one_of(sorted(known))}"
                raise InvalidArgument(f"step {self.name}: {argument}", show(value), expected, nearest(value, known))

    @model_validator(mode="before")
    @classmethod
    def _name_defaults_to_the_functions(cls, body: Any) -> Any:
        return named_by_run(body)

    @field_validator("sql")
    @classmethod
    def _sql_or_run(cls, value: str | None, info: ValidationInfo) -> str | None:
        run = info.data.get("run", "")  # what is wrong with `run` is already said
        if (value is None) == (run is None):
            found = "neither run nor sql" if value is None else "both run and sql"
            raise refuse(found, "exactly one of run and sql", "")
        if value is not None:
            placeholders(value, info.data.get("with_"))
        return value
