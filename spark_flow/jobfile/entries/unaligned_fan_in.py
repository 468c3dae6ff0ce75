"""``unaligned_fan_in``: enough branches, stacked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from spark_flow.core.arrival_rules import parse
from spark_flow.errors import InvalidRule
from spark_flow.fan_in import error_table, unaligned_fan_in
from spark_flow.jobfile.model.base import PATTERN, Model, SourceName, TablePath, Text
from spark_flow.jobfile.model.fan_in import FanInModel
from spark_flow.jobfile.model.fields import references_function, rule_text
from spark_flow.jobfile.model.problems import Finding, refuse
from spark_flow.orchestration.shared_state import Write
from spark_flow.storage.files import absolute

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.fan_in.unaligned import Fallback
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


class FallbackModel(Model):
    """What to do when no branch arrived: one of a function, a source or an error table.

    Attributes:
        run: A function that takes the completeness and returns a frame, or ``None``.
        source: A source, for example the last good copy.
        error_table: The path of a Delta table of errors: one row for each branch of the key.
    """

    run: Annotated[str | None, AfterValidator(references_function)] = None
    source: SourceName | None = None
    error_table: TablePath | None = Field(None, validate_default=True)

    @field_validator("error_table")
    @classmethod
    def _exactly_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [name for name in ("run", "source") if info.data.get(name) is not None]
        given += ["error_table"] if value is not None else []
        if len(given) != 1:
            raise refuse(" and ".join(given) or "nothing", "exactly one of run, source and error_table")
        return value

    def fallback(self, flow: "Flow") -> "Fallback":
        """What it describes."""
        if self.error_table is not None:
            return error_table(self.error_table)
        return flow.source(self.source) if self.source is not None else flow.resolve(str(self.run))


def _unfold_fallback(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class UnalignedFanInModel(FanInModel):
    """Enough branches, stacked.

    Attributes:
        require: How many must arrive: ``all_succeeded``, ``at_least(12)``, ``at_least(0.5)``, ``any_succeeded``,
            ``all_done``.
        on_all_failed: The fallback when no branch arrived. The run ends as ``fallback``, exit code 1.
    """

    nested = {"on_all_failed": FallbackModel}  # noqa: RUF012 - declared as a class variable
    pattern: Literal["unaligned_fan_in"] = Field("unaligned_fan_in", alias=PATTERN)
    require: Annotated[Text, AfterValidator(rule_text)]
    on_all_failed: Annotated[FallbackModel | None, BeforeValidator(_unfold_fallback)] = None

    def reads(self) -> tuple[str, ...]:
        """Sources that are read as a whole, the last good copy included."""
        copy = self.on_all_failed.source if self.on_all_failed else None
        return (*self.sources, *([copy] if copy else []))

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """Its rule can be met by its branches, and none has the name of its fallback."""
        yield from super().problems(config)
        branches = self.branch_names(config)
        if self.on_all_failed is not None and "fallback" in branches:
            yield Finding((), "a branch named 'fallback'", "another name: it is that of the fan-in's fallback")
        try:
            parse(self.require).needed(len(branches))
        except InvalidRule:
            if branches:  # that there is none is reported by itself
                expected = f"at most {len(branches)}, or a share like at_least(0.5)"
                yield Finding(("require",), f"{self.require} of {len(branches)} branches", expected)

    @property
    def rule(self) -> str:
        """How many of its branches must arrive."""
        return self.require

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":
        """Merge the branches that arrived."""
        return unaligned_fan_in(
            scope.run,
            self.name,
            self.inputs(flow, frame),
            require=parse(self.require),
            each=flow.resolve(self.each) if self.each else None,
            max_in_flight=self.max_in_flight,
            on_all_failed=self.on_all_failed.fallback(flow) if self.on_all_failed else None,
            allow_missing_columns=self.allow_missing_columns,
        ).frame

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """The paths of all branches, of the last good copy and of the error table."""
        yield from super().footprint(config, above)
        if self.on_all_failed is not None and self.on_all_failed.error_table is not None:
            yield Write(f"{self.name}/fallback", absolute(self.on_all_failed.error_table), config.rows_of_key)
