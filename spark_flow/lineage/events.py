"""Builds OpenLineage events. Imported with the first event, so that runs without lineage do not load the package."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)

from spark_flow.core.completeness import Completeness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spark_flow.lineage.datasets import Data
    from spark_flow.lineage.job_identity import JobIdentity

PRODUCER = f"urn:spark-flow:{importlib.metadata.version('spark-flow')}"
COMPLETENESS = "spark_flow_completeness"
SCHEMA = "urn:spark-flow:schema:completeness-facet:1-0-0"
"""The URN of ``spark_flow/schemas/completeness-facet.json``, which ships with the package."""


@attr.define
class CompletenessDatasetFacet(DatasetFacet):
    """Completeness of the fan-ins from which an output was computed."""

    fanIns: list[dict[str, Any]]  # noqa: N815 - OpenLineage's naming convention
    isApproximate: bool  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/CompletenessDatasetFacet"


@attr.define
class CompletenessRunFacet(RunFacet):
    """Completeness of the fan-ins of a run."""

    fanIns: list[dict[str, Any]]  # noqa: N815
    isApproximate: bool  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/CompletenessRunFacet"


def event(
    job: JobIdentity,
    state: str,
    at: dt.datetime,
    *,
    inputs: Sequence[Data] = (),
    outputs: Sequence[Data] = (),
    error: str = "",
    completeness: Sequence[Completeness] = (),
) -> RunEvent:
    """Build an event of a run or node; duplicate datasets are listed once."""
    facets: dict[str, RunFacet] = {**_parent(job), **_nominal(job.key)}
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "PYTHON", producer=PRODUCER)
    if completeness:
        facets[COMPLETENESS] = CompletenessRunFacet(**_completeness_fields(completeness), producer=PRODUCER)
    kind = job_type_job.JobTypeJobFacet("BATCH", "SPARK_FLOW", "TASK" if job.node else "DAG", producer=PRODUCER)
    return RunEvent(
        eventType=RunState[state],
        eventTime=_iso(at),
        producer=PRODUCER,
        run=Run(job.run, facets),
        job=Job(job.namespace, job.job, {"jobType": kind}),
        inputs=[InputDataset(*data.name, facets=_facets(data)) for data in _once(inputs)],
        outputs=[_output(data) for data in _once(outputs)],
    )


def _once(datasets: Iterable[Data]) -> list[Data]:
    return list({data.name: data for data in datasets}.values())


def _output(data: Data) -> OutputDataset:
    facets = _facets(data)
    if data.completeness:
        parts = [Completeness.from_record(record) for record in data.completeness]
        facets[COMPLETENESS] = CompletenessDatasetFacet(**_completeness_fields(parts), producer=PRODUCER)
    made = OutputDataset(*data.name, facets=facets)
    if data.rows is not None:
        rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(data.rows, producer=PRODUCER)
        made.outputFacets = {"outputStatistics": rows}
    return made


def _facets(data: Data) -> dict[str, DatasetFacet]:
    facets: dict[str, DatasetFacet] = {}
    columns = _columns(data)
    if columns:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name, kind or None, ordinal_position=at, fields=None)
            for at, (name, kind) in enumerate(columns, start=1)
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
    if data.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(data.version, producer=PRODUCER)
    return facets


def _columns(data: Data) -> list[tuple[str, str]]:
    """Return the columns, or none if they cannot be determined; the event is useful without them."""
    try:
        return data.columns()
    except Exception:
        return []


def _completeness_fields(parts: Sequence[Completeness]) -> dict[str, Any]:
    fan_ins = []
    for part in parts:
        facts = part.facts
        facts["isApproximate"] = facts.pop("is_approximate")
        fan_ins.append(facts)
    return {"fanIns": fan_ins, "isApproximate": any(part.is_approximate for part in parts)}


def _parent(job: JobIdentity) -> dict[str, RunFacet]:
    if job.parent is None:
        return {}
    root = job.root or job.parent
    return {
        "parent": parent_run.ParentRunFacet(
            parent_run.Run(job.parent.run),
            parent_run.Job(job.parent.namespace, job.parent.job),
            parent_run.Root(parent_run.RootRun(root.run), parent_run.RootJob(root.namespace, root.job)),
            producer=PRODUCER,
        )
    }


def _nominal(key: str) -> Mapping[str, RunFacet]:
    """Return the period of a key, if it is a day (``2013-01-02``) or an hour (``2013-01-02T07``)."""
    match = re.fullmatch(r"(\d{4}-\d{2}-\d{2})(?:[T_.-](\d{2}))?", key)
    if match is None:
        return {}
    try:
        begin = dt.datetime.fromisoformat(f"{match[1]}T{match[2] or '00'}:00:00+00:00")
    except ValueError:
        return {}  # digits that are not a date
    end = begin + (dt.timedelta(hours=1) if match[2] else dt.timedelta(days=1))
    return {"nominalTime": nominal_time_run.NominalTimeRunFacet(_iso(begin), _iso(end), producer=PRODUCER)}


def _iso(at: dt.datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
