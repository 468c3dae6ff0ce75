"""How long the nodes of an entry may take, and how often they are tried."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StrictInt

from spark_flow.engine.limits import Limits
from spark_flow.jobfile.model.base import FlowModel, Model, Seconds
from spark_flow.jobfile.model.problems import Finding

if TYPE_CHECKING:
    from spark_flow.jobfile.model.job import JobConfig


class RetryModel(Model):
    """How often a node is tried again.

    Attributes:
        times: How often a node is tried again.
        backoff: Seconds before the second try; doubled before each further one.
    """

    times: Annotated[StrictInt, Field(ge=1, le=100)]
    backoff: Annotated[Seconds, Field(ge=0)] = Limits.backoff


class LimitedModel(FlowModel):
    """An entry whose nodes have actions of their own: ``timeout`` in seconds, ``retry: {times, backoff}``.

    Attributes:
        timeout: Seconds that one try of each node may take; then its Spark jobs are cancelled. Nodes without an action
            of their own (a ``step`` without ``restart: true``) have none.
        retry: Try each node again after it failed or timed out, within the same attempt of the run.
    """

    nested = {"retry": RetryModel}  # noqa: RUF012 - declared as a class variable
    timeout: Annotated[Seconds, Field(gt=0)] | None = None
    retry: RetryModel | None = None

    @property
    def acts(self) -> bool:
        """Whether its nodes have actions of their own, rather than being computed within others."""
        return not self.lazy

    def limits(self) -> Limits | None:
        """The limits of each of its nodes."""
        if self.timeout is None and self.retry is None:
            return None
        times, backoff = (self.retry.times, self.retry.backoff) if self.retry else (0, Limits.backoff)
        return Limits(timeout=self.timeout, retries=times, backoff=backoff)

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """A node without an action of its own has nothing to limit."""
        yield from super().problems(config)
        if self.limited_by and not self.acts:
            found = f"{self.limited_by} of what is computed within other nodes"
            yield Finding((self.limited_by,), found, "restart: true", "Or give it to the write that computes it.")

    @property
    def limited_by(self) -> str:
        """The key that limits it; empty if none does."""
        return next((name for name in ("timeout", "retry") if getattr(self, name) is not None), "")
