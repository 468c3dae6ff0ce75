"""Pass a frame through a chain of functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spark_flow.transforms.columns import check_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame


def pipe(frame: DataFrame, *steps: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """Pass a frame through steps, each a plain function ``DataFrame -> DataFrame``, and return the last result.

    This is the local sequencer without a run, as one Spark plan (the book's section 2.1);
    ``spark_flow.local_sequencer`` is the durable version.

    >>> adults = pipe(people, only_adults, add_birth_year)  # doctest: +SKIP

    Raises:
        NotADataFrame: A step returned something else.
    """
    for step in steps:
        frame = apply(step, frame)
    return frame


def apply(step: Callable[..., DataFrame], frame: DataFrame, *, name: str = "", **arguments: object) -> DataFrame:
    """Apply one step to a frame.

    Raises:
        NotADataFrame: The step returned something else.
    """
    result = step(frame, **arguments)
    check_frame(name or getattr(step, "__name__", repr(step)), result)
    return result


def sql(query: str) -> Callable[[DataFrame], DataFrame]:
    """Return a step that runs SQL text; ``{frame}`` is the frame, other ``{names}`` are arguments of the step.

    >>> pipe(flights, sql("SELECT carrier, count(*) AS n FROM {frame} GROUP BY carrier"))  # doctest: +SKIP
    """

    def run_sql(frame: DataFrame, **arguments: Any) -> DataFrame:
        return frame.sparkSession.sql(query, frame=frame, **arguments)

    return run_sql
