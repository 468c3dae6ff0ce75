"""The identity of an event: its job, its run and its parent runs."""

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
_IDS = uuid.UUID("4f3cbb0e-9d0f-5d47-8a43-6f0a3d7c52b1")  # the uuid5 namespace of spark_flow

_log = logging.getLogger("spark_flow.lineage")


@dataclass(frozen=True, kw_only=True)
class JobIdentity:
    """A job and one run of it, as OpenLineage identifies them.

    Attributes:
        namespace: The job's namespace.
        job: The job's name.
        run: The run's UUID; the same for the same attempt and node.
        key: The run's key, which may be a date or time.
        node: The node; empty for the run itself.
        parent: The parent run, if any.
        root: The topmost parent run, if any.
    """

    namespace: str
    job: str
    run: str
    key: str = ""
    node: str = ""
    parent: JobIdentity | None = None
    root: JobIdentity | None = None

    def of(self, node: str) -> JobIdentity:
        """Return the identity of one of the run's nodes."""
        id_ = str(uuid.uuid5(uuid.UUID(self.run), node))
        top = self.root or self.parent or self
        return dataclasses.replace(self, job=f"{self.job}.{node}", run=id_, node=node, parent=self, root=top)


def identity_of(run: Run, namespace: str, environment: Mapping[str, str]) -> JobIdentity:
    """Return a run's identity; its parent is read from ``OPENLINEAGE_PARENT_ID``, as ``namespace/job/run id``."""
    name = "/".join([run.pipeline, run.key, str(run.generation), str(run.attempt), run.run_id])
    parent = _from_environment(PARENT, environment)
    root = _from_environment(ROOT, environment) if parent else None
    id_ = str(uuid.uuid5(_IDS, name))
    return JobIdentity(namespace=namespace, job=run.pipeline, run=id_, key=run.key, parent=parent, root=root or parent)


def _from_environment(variable: str, environment: Mapping[str, str]) -> JobIdentity | None:
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
    return JobIdentity(namespace=namespace, job=job, run=run)
