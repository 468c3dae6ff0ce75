"""Create sinks by the name of their format; installed packages can add formats."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from spark_flow.core import secrets
from spark_flow.errors import UnknownFormat
from spark_flow.storage import folders
from spark_flow.storage.delta import delta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spark_flow.storage.sink_protocol import Sink

GROUP = "spark_flow.sinks"

FORMATS: Mapping[str, Callable[..., Sink]] = {
    "delta": delta,
    "csv": folders.csv,
    "json": folders.json,
    "parquet": folders.parquet,
}


def sink(format: str, path: str = "", **settings: Any) -> Sink:  # noqa: A002 - Spark's own word
    """Return a sink of a format: ``delta``, ``csv``, ``json``, ``parquet``, or one of an installed package.

    >>> lake = sink("delta", "out/lake", partition_by="date")

    A package adds a format with an entry point in the group ``spark_flow.sinks``: the format's name, and a function
    ``(path, **settings)`` that returns a ``spark_flow.storage.sink_protocol.Sink``.

    Args:
        format: The format's name.
        path: A path or URI.
        **settings: Arguments of the format's own function, for example ``partition_by`` and ``options``.

    Raises:
        UnknownFormat: There is no such format.
    """
    if format in FORMATS:
        return FORMATS[format](path, **settings)
    for found in entry_points(group=GROUP, name=format):
        made: Sink = found.load()(path, **secrets.resolved(settings))  # it does not know our references
        return made
    raise UnknownFormat(format, sink_formats())


def sink_formats() -> tuple[str, ...]:
    """Return the formats that ``sink`` accepts."""
    return (*FORMATS, *sorted({found.name for found in entry_points(group=GROUP)} - set(FORMATS)))
