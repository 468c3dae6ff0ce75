"""``aligned_fan_in``: all branches, stacked, or joined to the frame so far."""

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo, field_validator

from spark_flow.engine.parallel import OnFailure
from spark_flow.fan_in import aligned_fan_in
from spark_flow.jobfile.model.base import PATTERN, Model, Text
from spark_flow.jobfile.model.fan_in import FanInModel
from spark_flow.jobfile.model.fields import one_or_many
from spark_flow.jobfile.model.problems import refuse
from spark_flow.transforms import join_all
from spark_flow.transforms.join import Clash, How

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.job import JobConfig

Columns = Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]


class JoinModel(Model):
    """How branches are joined, beside one another: the arguments of ``join_all``.

    Attributes:
        using: The key columns, or those of each source by its name.
        how: The kind of join.
        clash: What to do if two frames have a column of one name: ``refuse``, or ``prefix`` it with the frame's name.
        allow_duplicates: Allow a key of a joined source to occur twice, which multiplies rows.
    """

    # ``on`` in Python; YAML 1.1 reads a bare ``on`` as true.
    using: Annotated[Columns | dict[str, Columns], Field(union_mode="left_to_right")]
    how: How = "inner"
    clash: Clash = "refuse"
    allow_duplicates: StrictBool = False

    @field_validator("using")
    @classmethod
    def _by_something(cls, value: Columns | dict[str, Columns]) -> Columns | dict[str, Columns]:
        if not value or (isinstance(value, dict) and not all(value.values())):
            raise refuse("no column", "the columns to join by")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """As ``join_all`` takes them."""
        return {"on": self.using, **self.model_dump(exclude={"using"})}


class AlignedFanInModel(FanInModel):
    """All branches, stacked, or joined to the frame so far.

    Attributes:
        restart: Write a checkpoint for each branch; ``false`` for cheap branches, which are then one plan.
        on_failure: When a branch fails: ``finish`` the others, or ``stop`` them.
        join: Join the sources to the frame so far, instead of stacking them.
    """

    nested = {"join": JoinModel}  # noqa: RUF012 - declared as a class variable
    pattern: Literal["aligned_fan_in"] = Field("aligned_fan_in", alias=PATTERN)
    restart: StrictBool = True
    on_failure: OnFailure = "finish"
    join: JoinModel | None = None

    @field_validator("join")
    @classmethod
    def _sources_are_joined(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("source") is not None:
            raise refuse("join with source", "sources: [weather, planes]", "The frame so far is the first branch.")
        return value

    @property
    def acts(self) -> bool:
        """With checkpoints."""
        return self.restart

    @property
    def joins(self) -> bool:
        """With ``join``."""
        return self.join is not None

    def branch_nodes(self, config: "JobConfig") -> tuple[str, ...]:
        """Without a checkpoint, it has no branches to run alone."""
        return super().branch_nodes(config) if self.restart else (self.name,)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":
        """Merge the branches."""
        return aligned_fan_in(
            scope.run,
            self.name,
            self.inputs(flow, frame),
            each=flow.resolve(self.each) if self.each else None,
            merge=functools.partial(join_all, **self.join.arguments) if self.join else None,
            restart=self.restart,
            max_in_flight=self.max_in_flight,
            on_failure=self.on_failure,
            allow_missing_columns=self.allow_missing_columns,
        ).frame
