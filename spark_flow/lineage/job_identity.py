"""Where an event stands: its job, its run, and the runs above it."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spark_flow.engine.run import Run

PARENT, ROOT = "OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID"
_IDS = uuid.UUID("4f3cbb0e-9d0f-5d47-8a43-6f0a3d7c52b1")  # a namespace of our own for uuid5

_log = logging.getLogger("spark_flow.lineage")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A job and one run of it.

    Attributes:
        run: A UUID; the same for the same attempt of a run, and node.
        key: The run's key, which may stand for a time.
        node: Empty for the run itself.
        parent: The run that this one is a part of, if any.
        root: The run above all.
    """

    namespace: str
    job: str
    run: str
    key: str = ""
    node: str = ""
    parent: Place | None = None
    root: Place | None = None

    def of(self, node: str) -> Place:
        """The place of one of the run's nodes."""
        id_ = str(uuid.uuid5(uuid.UUID(self.run), node))
        top = self.root or self.parent or self
        return dataclasses.replace(self, job=f"{self.job}.{node}", run=id_, node=node, parent=self, root=top)


def place_of(run: Run, namespace: str, environment: Mapping[str, str]) -> Place:
    """A run's place; what started it may tell its own in ``OPENLINEAGE_PARENT_ID``, as ``namespace/job/run id``."""
    made_of = "/".join([run.pipeline, run.key, str(run.generation), str(run.attempt), run.run_id])
    parent = _told(PARENT, environment)
    root = _told(ROOT, environment) if parent else None
    id_ = str(uuid.uuid5(_IDS, made_of))
    return Place(namespace=namespace, job=run.pipeline, run=id_, key=run.key, parent=parent, root=root or parent)


def _told(variable: str, environment: Mapping[str, str]) -> Place | None:
    text = environment.get(variable, "").strip()
    if not text:
        return None
    namespace, _, rest = text.partition("/")
    job, _, id_ = rest.rpartition("/")
    try:
        run = str(uuid.UUID(id_))
    except ValueError:
        run = ""
    if not (namespace and job and run):
        _log.warning("lineage: found %r in %s, expected namespace/job/run id; it is ignored", text, variable)
        return None
    return Place(namespace=namespace, job=job, run=run)
