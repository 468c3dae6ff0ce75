"""A call with an effect outside of Spark, once per generation: a paid API, a ticket, a cache to empty.

It is the step of a sequence (the book's section 2.1) whose repetition costs something, which is why it is a node.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.core.secrets import resolved
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidStep
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

_MOST = 4_000  # characters of a result that are recorded


def call(run: Run, function: Callable[..., object], *, name: str = "", **arguments: Any) -> Outcome:
    """Call a function once per generation of the key; a retry reuses the recorded call.

    The function gets ``idempotency_key``, the same text for each try of the generation, for a service that supports
    one. A process that is killed after the effect and before its record calls again with the same key: at least once
    there, once everywhere else. Changed code or arguments do not call again; ``--rerun`` or ``--from`` does.

    >>> def order_report(*, idempotency_key, day): ...
    >>> call(run, order_report, day=run.key)  # doctest: +SKIP

    Args:
        run: The run.
        function: Takes ``idempotency_key`` (str) and ``arguments`` as keyword arguments. What it returns is recorded
            if it is JSON of up to 4,000 characters: ``outcome.detail["returned"]``.
        name: The node's name; defaults to the function's name.
        **arguments: Passed to the function; ``${oc.env:NAME}`` in a text is resolved when it is called.

    Raises:
        InvalidStep: The function has no name, and none is given; or it does not take ``idempotency_key`` and the
            arguments.
        NodeFailed: The function raised; the next attempt calls it again.
    """
    own_name = getattr(function, "__name__", "")
    if not callable(function) or not (name or own_name.isidentifier()):
        raise InvalidStep(name or repr(function), "a function without a name", "Pass name=.")
    node = run.node(name or own_name)
    try:
        inspect.signature(function).bind(idempotency_key="", **arguments)
    except TypeError as error:
        fix = "It is called with idempotency_key and the given arguments, by name."
        raise InvalidStep(node, f"a function that cannot be called so: {error}", fix) from error
    run.secrets.learn_from(arguments)
    idempotency_key = f"{run.pipeline}/{node}/{run.key}/{run.generation}"

    def do(_: Intent) -> Written:
        returned = function(idempotency_key=idempotency_key, **resolved(arguments))
        detail = {"idempotency_key": idempotency_key, **_recorded(returned)}
        return Written(reason=f"called with idempotency key {idempotency_key}", detail=detail)

    return run.once(Node(name=node, kind="call", fingerprint=_ONCE, writes=False), do)


_ONCE = fingerprint.of("call")  # of nothing that may change within a generation


def _recorded(returned: object) -> dict[str, Any]:
    """What is recorded of a result. The effect has happened, so a result that cannot be recorded is no failure."""
    if returned is None:
        return {}
    try:
        text = json.dumps(returned, allow_nan=False)
    except (TypeError, ValueError):
        return {"not_recorded": f"a {type(returned).__name__}, which is not JSON"}
    if len(text) > _MOST:
        return {"not_recorded": f"{len(text)} characters, more than {_MOST}"}
    return {"returned": json.loads(text)}
