"""What both fan-ins have in common, as entries."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, ValidationInfo, field_validator

from spark_flow.core.arrival_rules import all_succeeded
from spark_flow.jobfile.model.base import Name, SourceName
from spark_flow.jobfile.model.fields import branch_names, one_or_many, references_function
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.problems import Finding, refuse

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.source import SourceModel
    from spark_flow.storage.sources import Source


class FanInModel(LimitedModel):
    """What both fan-ins take: the branches of one source, or sources as branches.

    Attributes:
        name: The node's name; a branch's node is ``<name>/<branch>``.
        source: A source with ``{branch}`` in its path; each branch is one of its folders.
        sources: Sources, each as one branch; instead of ``source``.
        branches: The branches of ``source``, if it does not declare them: a range, ``"05..23"``, or a list.
        each: A function that is applied to each branch's frame.
        max_in_flight: How many branches run at once; by default what the session can run at once.
        allow_missing_columns: Fill columns that a branch does not have with nulls.
    """

    knows_completeness = True
    makes_frame = True
    kind = "merge"
    name: Name
    source: SourceName | None = None
    sources: Annotated[tuple[SourceName, ...], BeforeValidator(one_or_many)] = Field((), validate_default=True)
    branches: Annotated[tuple[str, ...] | None, BeforeValidator(branch_names)] = None
    each: Annotated[str | None, AfterValidator(references_function)] = None
    max_in_flight: Annotated[StrictInt, Field(ge=1)] | None = None
    allow_missing_columns: StrictBool = False

    @property
    def joins(self) -> bool:
        """Whether the frame so far is its first branch."""
        return False

    @property
    def starts_chain(self) -> bool:
        """Its branches are its input."""
        return True

    @property
    def boundary(self) -> bool:
        """With checkpoints."""
        return self.acts

    def inputs(self, flow: "Flow", frame: "LazyFrame | None") -> "Source | dict[str, Source | LazyFrame]":
        """The branches of one source, or several sources as branches; a join's first is the frame so far."""
        if self.source is not None:
            return flow.source(self.source, self.branches or ())
        first = {"frame": frame} if frame is not None and self.joins else {}
        return {**first, **{name: flow.source(name) for name in self.sources}}

    def branch_names(self, config: "JobConfig") -> tuple[str, ...]:
        """The names of its branches in its file; the frame so far, which a join takes as well, is ``frame``."""
        if self.source is None:
            return (*(["frame"] if self.joins and config.flow[0] is not self else []), *self.sources)
        return self.branches or config.sources[self.source].branch_names()

    def branch_nodes(self, config: "JobConfig") -> tuple[str, ...]:
        """Its own name, and those of its branches."""
        return (self.name, *(f"{self.name}/{each}" for each in self.branch_names(config)))

    @property
    def rule(self) -> str:
        """How many of its branches must arrive."""
        return all_succeeded.name

    def described(self, config: "JobConfig") -> Mapping[str, object]:
        """Its branches and its rule."""
        return {"branches": list(self.branch_names(config)), "rule": self.rule}

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """Each branch is named once, and those of a source are in its path."""
        yield from super().problems(config)
        branches = self.branch_names(config)
        for one, times in Counter(branches).items():
            if times > 1:
                yield Finding((), f"branch {one!r} again", "each once")
        if self.source is not None:
            yield from self._source_problems(config.sources[self.source])

    def _source_problems(self, source: "SourceModel") -> Iterator[Finding]:
        place = ("branches",)
        if "{branch}" not in source.path:
            yield Finding(place, f"path {source.path!r} of source {self.source!r}", "{branch} in it")
        elif self.branches and source.branches:
            yield Finding(place, "branches here and in the source", "them in one place", "Leave them out here.")
        elif not self.branches and not source.branches:
            yield Finding(place, "nothing", "the branches of {branch} in path", 'For example branches: "05..23".')

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The paths of all branches."""
        if self.source is not None:
            yield from config.paths_of(self.source, self.name, self.branches or ())
        for name in self.reads():
            yield from config.paths_of(name, self.name)

    def nodes(self) -> tuple[str, ...]:
        """The merge's name."""
        return (self.name,)

    def reads(self) -> tuple[str, ...]:
        """Sources that are branches as a whole."""
        return self.sources

    @field_validator("sources")
    @classmethod
    def _source_or_sources(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        source = info.data.get("source", "")  # what is wrong with `source` is already said
        if bool(value) == (source is not None) and source != "":
            raise refuse(
                "both source and sources" if value else "neither source nor sources",
                "source, with {branch} in its path, or sources, each a branch",
            )
        return value

    @field_validator("branches")
    @classmethod
    def _branches_are_of_one_source(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("sources"):
            raise refuse("branches with sources", "each source as a branch", "Leave branches out.")
        return value
