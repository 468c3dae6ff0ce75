"""The one primitive, ``once``: a node is reused, or its action runs and is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spark_flow.engine.limits import within
from spark_flow.engine.outcome import Outcome
from spark_flow.errors import DuplicateNode, Interrupted, is_of_plan
from spark_flow.storage import arrivals
from spark_flow.storage.failures import as_bad_records
from spark_flow.storage.sink_protocol import Intent
from spark_flow.transforms.join import as_duplicate_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_flow.engine.graph import Lazy
    from spark_flow.engine.node import Node, Target
    from spark_flow.engine.run import Run
    from spark_flow.storage.sink_protocol import Written

_DONE = ("succeeded", "reused", "would run", "would reuse")


def once(run: Run, node: Node, action: Callable[[Intent], Written], target: Target) -> Outcome:
    """Implement ``Run.once``, which lets one thread at a time in here for each node."""
    done = run.outcome(node.name)
    if done is not None and done.state in _DONE:
        if done.fingerprint != node.fingerprint:
            raise DuplicateNode(node.name, "two different nodes have this name")
        return done
    try:
        last = run.history.last(node.name)
        why = run.why_run(last, node, target)
        if not why and last is not None:
            return run.end(run.reused(last))
        run.check_kept(node, target)
        run.permit(node.name)
        why = (run.trust.doubt({node.name: target.proven_revision()}) if node.writes else "") or why
        intent = _intent(run, node, target)
        target.validate(intent)
    except Exception as error:  # the target refuses, or cannot even be looked at
        failure = run.failed(node.name, node.kind, error, node.fingerprint)
        raise failure from (error if failure is not error else error.__cause__)
    for needed in node.inputs:
        _ = needed.frame
    if run.plan:
        return run.plan_to(node.name, node.kind, why, node.fingerprint)
    return _do(run, node, action, intent)


def _intent(run: Run, node: Node, target: Target) -> Intent:
    """The intent to run the action, under the revision of the last intent or the next one."""
    remembered = target.last_revision() if node.writes else 0
    revision = run.history.revision(node.name, node.fingerprint, remembered) if node.writes else 0
    if remembered and remembered == revision:
        run.trust.use()  # written by an earlier attempt, and not again
    return Intent(
        pipeline=run.pipeline,
        key=run.key,
        generation=run.generation,
        attempt=run.attempt,
        node=node.name,
        revision=revision,
        run_id=run.run_id,
        mark=lambda point: run.mark(point, node.name),
        only_writer=lambda path: run.permission.only_writer(
            path, run.pipeline, f"{run.key} {node.name}", lambda why: run.waiting(node.name, node.kind, why)
        ),
    )


def _do(run: Run, node: Node, action: Callable[[Intent], Written], intent: Intent) -> Outcome:
    history, revision, fingerprint = run.history, intent.revision, node.fingerprint
    if revision:
        history.record([history.event(node.name, node.kind, "started", revision=revision, fingerprint=fingerprint)])
    began = time.monotonic()
    try:
        run.check()
        run.report("before_action", node.name)
        written = within(run, node, lambda: action(intent), lambda error: _cause(run, node.name, error))
        run.trust.check()
    except BaseException as error:
        own = _cause(run, node.name, error)
        took = ms_since(began)
        failure = run.failed(node.name, node.kind, own, fingerprint, revision=revision, duration_ms=took)
        raise failure from (error if failure is not error else error.__cause__)
    outcome = Outcome(
        node=node.name,
        kind=node.kind,
        state="succeeded",
        revision=revision,
        fingerprint=fingerprint,
        rows=written.rows,
        duration_ms=ms_since(began),
        reason=written.reason,
        detail=written.detail,
    )
    run.report("before_event", node.name)
    carried = [_carried(run, lazy, node.name) for lazy in run.graph.claim(node.inputs, run.has_ended)]
    history.record([run.event_of(each) for each in [*carried, outcome]])
    run.report("after_event", node.name)
    for each in carried:
        run.end(each)
    return run.end(outcome)


def _cause(run: Run, node: str, error: BaseException) -> BaseException:
    """The error to record for a failed action: a stop from outside, or the cause within Spark's error."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if node in run.stopped:
        return run.stopped[node]
    if run.permission.interrupted():
        return Interrupted(node)
    if is_of_plan(error):
        return error
    return as_bad_records(error, run.graph.sources, node) or as_duplicate_keys(error) or error


def _carried(run: Run, lazy: Lazy, node: str) -> Outcome:
    """The success of a lazy node that was computed within another node's action."""
    held = run.graph.inputs.get(lazy.node)
    within = f"{arrivals.EMPTY}, within {node}" if arrivals.is_empty(held) else f"within {node}"
    return Outcome(
        node=lazy.node,
        kind=lazy.kind,
        state="succeeded",
        fingerprint=lazy.fingerprint,
        duration_ms=run.graph.built.get(lazy.node),
        reason=within,
        detail={"input": held} if held else {},
    )


def ms_since(began: float) -> int:
    """Milliseconds since a moment of ``time.monotonic``."""
    return round((time.monotonic() - began) * 1000)
