"""A job as steps of Amazon EMR (https://docs.aws.amazon.com/emr/latest/APIReference/API_StepConfig.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spark_flow.export.tasks import command, made_by, tasks, with_routes
from spark_flow.jobfile.model.runner import RunnerModel

if TYPE_CHECKING:
    from spark_flow.export.tasks import Job, Tasks

MOST_STEPS = 256  # that are pending or running in a cluster


def steps(job: Job, keys: str, *, how: Tasks = "job") -> tuple[dict[str, Any], list[str]]:
    """Return the steps of several keys, and what EMR cannot express.

    ``StepConcurrencyLevel`` is for ``run-job-flow`` or ``modify-cluster``, ``Steps`` for ``add-steps``. Keys that
    depend on the past, and parts of a job, run one after another, and those after a failed one are cancelled (the
    book's examples 6-2 and 6-21); other keys run ``runner.max_active_runs`` at a time (6-22), one at a time by default.

    Args:
        job: The job.
        keys: Keys and ranges, as the runners take them: ``2013-01-01..2013-01-04``.
        how: One step for a key, or one for each of its checkpoints, sinks and choices.

    Raises:
        InvalidArgument: The keys are not of the job's calendar.
    """
    runner = RunnerModel.model_validate({**job.graph["runner"], "pool": None})  # its file is the job's business
    parts, notes = list(tasks(job.graph, how)), []
    for choice in [task for task in parts if task.kind == "choice"]:
        parts = with_routes(parts, choice)
        notes.append(f"{choice.until}: one step with its routes")
    in_order = bool(runner.depends_on_past) or len(parts) > 1
    wanted = 1 if in_order else runner.max_active_runs or 1
    made = [
        {
            "Name": f"{job.graph['pipeline']} {key}{f' {part.name}' if len(parts) > 1 else ''}",
            "ActionOnFailure": "CANCEL_AND_WAIT" if in_order else "CONTINUE",
            "HadoopJarStep": {
                "Jar": "command-runner.jar",
                "Args": ["spark-flow", "submit", *command(job, part, key)[1:]],
            },
        }
        for key in runner.keys_of.keys(keys)
        for part in parts
    ]
    if runner.max_active_runs and in_order and runner.max_active_runs > 1:
        notes.append(f"max_active_runs {runner.max_active_runs}: one at a time, as steps have no other order")
    if len(made) > MOST_STEPS:
        notes.append(f"{len(made)} steps: EMR takes {MOST_STEPS} at once, so export fewer keys")
    return {"Comment": made_by(job.file), "StepConcurrencyLevel": wanted, "Steps": made}, notes
