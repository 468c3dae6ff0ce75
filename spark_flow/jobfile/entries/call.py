"""``call``: a function with an effect outside of Spark, once per generation."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from spark_flow.jobfile.model.base import PATTERN, Name
from spark_flow.jobfile.model.fields import argument_names, named_by_run, references_function
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.problems import refuse
from spark_flow.sequence import call

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow

_GIVEN = "idempotency_key"


class CallModel(LimitedModel):
    """A function with an effect outside of Spark; ``call: billing:order`` is short for ``call: {run: billing:order}``.

    It is called when the entries before it are done, and may come before the first ``read``; the frame so far is passed
    on unchanged.

    Attributes:
        name: The node's name; by default the function's.
        run: The function, which gets ``idempotency_key`` and the arguments.
        with_: The arguments, by the names of parameters.
        timeout: Refused: only Spark's jobs can be cancelled. Give it to the service's client.
    """

    short = ("run", str)
    before_chain = True
    kind = "call"
    pattern: Literal["call"] = Field("call", alias=PATTERN)
    name: Name
    run: Annotated[str, AfterValidator(references_function)]
    with_: Annotated[dict[str, Any], AfterValidator(argument_names)] = Field(default_factory=dict, alias="with")

    def nodes(self) -> tuple[str, ...]:
        """The call's name."""
        return (self.name,)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Call the function, once."""
        scope.run.graph.uses(self.name, [frame.node] if frame is not None else [])
        call(scope.run, flow.resolve(self.run), name=self.name, **self.with_)
        return frame

    @model_validator(mode="before")
    @classmethod
    def _name_defaults_to_the_functions(cls, body: Any) -> Any:
        return named_by_run(body)

    @field_validator("with_")
    @classmethod
    def _the_key_is_given(cls, value: dict[str, Any]) -> dict[str, Any]:
        if _GIVEN in value:
            raise refuse(f"the name {_GIVEN!r}", "the name of another parameter", "It is given to each call.")
        return value

    @field_validator("timeout")
    @classmethod
    def _python_cannot_be_cancelled(cls, value: float | None) -> float | None:
        if value is not None:
            raise refuse(
                "timeout of a call", "no timeout", "Only Spark's jobs can be cancelled: give it to the client."
            )
        return value
