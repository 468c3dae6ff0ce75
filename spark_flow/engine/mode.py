"""How a run treats its key (``Mode``), and what it asks before it works (``Permission``)."""

from __future__ import annotations

import datetime as dt
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from spark_flow.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from spark_flow.core.secrets import Redactor
    from spark_flow.engine.limits import Limits
    from spark_flow.ledger import Fence

RETENTION = dt.timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a run treats what is recorded of its key; by default it is a retry of the key's last generation.

    Attributes:
        rerun: Start the next generation: recompute everything and replace the key's rows. A rerun that did not
            succeed is resumed.
        plan: Walk the run without a Spark action, and without writing a checkpoint, a table or an event.
        only: Branches of fan-ins, as ``hours/07``: of those fan-ins no other branch runs, and downstream nodes run if
            that completes them.
        redo: For a partial backfill, whether to run a node again, given its full name. Starts the next generation as
            ``rerun`` does, and takes over the recorded results of all other nodes.
        request_id: A new id starts a new generation; the same id retries it.
        command: How to start the same run from a shell: ``job``, ``config``, ``overrides``, ``cwd``; for ``backfill``.
        retention: How long the checkpoints of a succeeded run are kept.
        secrets: Hides secrets in everything that is recorded or shown; by default those that are known by their name
            or look.

    Raises:
        InvalidArgument: Both ``rerun`` and ``redo`` are given.
    """

    rerun: bool = False
    plan: bool = False
    only: tuple[str, ...] = ()
    redo: Callable[[str], bool] | None = None
    request_id: str = ""
    command: Mapping[str, Any] = field(default_factory=dict)
    retention: dt.timedelta = RETENTION
    secrets: Redactor | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.rerun and self.redo is not None:
            raise InvalidArgument("Mode", "rerun with redo", "one of them")


class Lease(Protocol):
    """The lease of a key, which may be lost while the run works (``spark_flow.orchestration.leases``)."""

    @property
    def fence(self) -> Fence:
        """Fencing token: the ledger rejects writers with a lower one."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is recorded with the start of the run."""

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LeaseLost: Another process may hold it now.
        """


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What a run asks before it does any work.

    Attributes:
        lease: Keeps other processes from the same key; once it is lost, nothing more is started, committed or recorded.
        only_writer: Keeps other processes from committing to a table while one is written, where Delta does not
            (``spark_flow.orchestration.leases.only_writer``): given the table's path, the pipeline, the key and node,
            and what to call with the reason for waiting.
        before_node: Called with a node's name before it runs, not if it is reused; waits or raises until it may run.
        interrupted: Whether the run was asked to stop: then it starts nothing more and waits for nothing.
        limits: How long nodes may take and how often they are tried, by node; those of ``hours`` hold for each
            ``hours/07`` that has none itself.
    """

    lease: Lease | None = None
    only_writer: Callable[[str, str, str, Callable[[str], None]], AbstractContextManager[object]] = lambda *_: (
        nullcontext()
    )
    before_node: Callable[[str], None] = lambda _: None
    interrupted: Callable[[], bool] = lambda: False
    limits: Mapping[str, Limits] = field(default_factory=dict)

    def limits_of(self, node: str) -> Limits | None:
        """The limits of a node, or of the nearest one that it is below; ``None`` without any."""
        return next((self.limits[name] for name in (node, *above(node)) if name in self.limits), None)


def above(node: str) -> Iterator[str]:
    """The nodes that a node is below, nearest first.

    >>> list(above("publish/split/lake"))
    ['publish/split', 'publish']
    """
    while "/" in node:
        node = node.rpartition("/")[0]
        yield node
