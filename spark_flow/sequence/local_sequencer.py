"""The local sequencer (the book's section 2.1): steps that run in order within one application.

Without checkpoints the chain is one Spark plan, as in the book's PySpark example. A step with ``restart=True`` writes
its frame as a checkpoint. A retry starts at the last valid checkpoint and does not call the steps before it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from spark_flow.core import fingerprint
from spark_flow.core.completeness import together
from spark_flow.core.secrets import arguments_shown, resolved
from spark_flow.engine.lazy_frame import Checkpoint, LazyFrame, lazy
from spark_flow.errors import InvalidStep
from spark_flow.storage.sources import Source
from spark_flow.transforms.pipe import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame

    from spark_flow.engine.lazy_frame import HasFrame
    from spark_flow.engine.run import Run

Transform: TypeAlias = "Callable[..., DataFrame]"


@dataclass(frozen=True)
class Step:
    """A function with its node name, arguments and checkpoint setting; create one with ``step``."""

    transform: Transform
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    restart: bool = False
    version: str = ""

    @property
    def fingerprint(self) -> str:
        """A hash of the function's source, what it uses from the user's modules, its arguments and its version.

        Frames among the arguments have their own fingerprints; credentials are not hashed.
        """
        plain = {name: value for name, value in self.arguments.items() if not isinstance(value, LazyFrame)}
        return fingerprint.of((self.transform, arguments_shown(plain), self.version), name=self.name)


def step(transform: Transform, *, name: str = "", restart: bool = False, version: str = "", **arguments: Any) -> Step:
    """Create a step of a local sequencer.

    Args:
        transform: A plain function that takes a frame, and ``arguments`` as keyword arguments, and returns a frame.
        name: The node's name; defaults to the function's name.
        restart: Write the step's frame as a checkpoint, from which a retry resumes.
        version: Change it when the step's result changes in a way that its source does not show.
        **arguments: Passed to the function; a frame of the run (``spark_flow.read``) arrives as a DataFrame.

    Raises:
        InvalidStep: The transform is not a function, or has no name.
    """
    if not callable(transform):
        raise InvalidStep(
            name or repr(transform), type(transform).__name__, "Expected a function DataFrame -> DataFrame."
        )
    named = name or _name_of(transform)
    if not named or named == "<lambda>":
        raise InvalidStep(repr(transform), "a function without a name", "Pass name=.")
    return Step(transform, named, dict(arguments), restart, str(version))


def local_sequencer(
    run: Run, frame: DataFrame | HasFrame, steps: Sequence[Step | Transform], *, name: str = ""
) -> LazyFrame:
    """Apply steps to a frame in order; a retry resumes at the last checkpoint.

    Args:
        run: The run.
        frame: The input: the result of ``spark_flow.read`` or of another pattern, or any DataFrame.
        steps: Functions or ``step(...)``; node names must be unique within a run.
        name: A prefix for the steps' node names.

    Returns:
        The last step's frame, computed when a sink or ``.frame`` needs it.

    Raises:
        InvalidStep: A step is not a function, has no name, or its arguments have no stable fingerprint.
    """
    current = lazy(run, frame, f"{name or 'local_sequencer'}: frame")
    for one in steps:
        current = _chain(run, current, one if isinstance(one, Step) else step(one), name)
    return current


def _chain(run: Run, before: LazyFrame, step: Step, prefix: str) -> LazyFrame:
    node = run.node(f"{prefix}/{step.name}" if prefix else step.name)
    arguments = {k: lazy_source(run, k, v) for k, v in step.arguments.items()}
    run.secrets.learn_from(arguments)
    step = Step(step.transform, step.name, arguments, step.restart, step.version)
    frames = {k: v for k, v in arguments.items() if isinstance(v, LazyFrame)}
    inputs = (before, *frames.values())
    used = [[k, v.fingerprint] for k, v in sorted(frames.items())]
    digest = fingerprint.combine(before.fingerprint, step.fingerprint, used, step.restart)
    build = functools.partial(_apply, step, before)
    completeness = together(part for frame in inputs for part in frame.completeness)
    if step.restart:
        return Checkpoint(run, node, "step", digest, inputs, build).lazily(completeness)
    return LazyFrame(run, node, "step", digest, inputs, build, completeness)


def lazy_source(run: Run, name: str, value: Any) -> Any:
    """Return a frame of the run for an argument that is a source or a pattern's result; else the argument unchanged."""
    from spark_flow.engine.lazy_frame import held
    from spark_flow.engine.reading import read

    if isinstance(value, Source):
        return read(run, name, value)
    frame = held(value)
    return frame if isinstance(frame, LazyFrame) else value


def _apply(step: Step, before: LazyFrame) -> DataFrame:
    arguments = {k: v.frame if isinstance(v, LazyFrame) else resolved(v) for k, v in step.arguments.items()}
    return apply(step.transform, before.frame, name=step.name, **arguments)


def _name_of(transform: Transform) -> str:
    inner = transform.func if isinstance(transform, functools.partial) else transform
    return str(getattr(inner, "__name__", ""))
