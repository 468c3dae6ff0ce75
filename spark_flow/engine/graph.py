"""The nodes of a run, and the inputs of each."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

from spark_flow.errors import DuplicateNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame

    from spark_flow.core.completeness import Completeness
    from spark_flow.ledger import Kind
    from spark_flow.storage.sources import Source


class Lazy(Protocol):
    """A frame that is not computed yet, as ``once`` uses it (``spark_flow.LazyFrame``)."""

    @property
    def node(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def inputs(self) -> Sequence[Lazy]: ...  # noqa: D102
    @property
    def completeness(self) -> tuple[Completeness, ...]: ...  # noqa: D102
    @property
    def frame(self) -> DataFrame: ...  # noqa: D102


class Graph:
    """The nodes that a run has declared: their sources, their branches, and the lazy ones among them.

    Attributes:
        sources: The sources, by the node that reads each.
        inputs: Facts of the files that were read, by node (``storage.arrivals.facts``).
        writes: The rows that each node replaces, by path.
        waits: The paths of the markers that each node waits for.
        fan_ins: The nodes of each fan-in's branches.
        declared: Lazy nodes, which are computed within another node's action, in the order of the flow.
        built: Milliseconds that making each plan took; plans that were not needed are missing.
    """

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.inputs: dict[str, Mapping[str, Any]] = {}
        self.writes: dict[str, Mapping[str, str]] = {}
        self.waits: dict[str, tuple[str, ...]] = {}
        self.fan_ins: dict[str, tuple[str, ...]] = {}
        self.declared: dict[str, Lazy] = {}
        self.built: dict[str, int] = {}
        self._used: dict[str, dict[str, None]] = {}
        self._route = ""
        self._within: dict[str, str] = {}
        self._claimed: set[str] = set()
        self._lock = threading.RLock()

    def declare(self, lazy: Lazy) -> None:
        """Add a lazy node, which is computed within another node's action.

        Raises:
            DuplicateNode: Another node has its name.
        """
        with self._lock:
            known = self.declared.setdefault(lazy.node, lazy)
        if known.fingerprint != lazy.fingerprint:
            raise DuplicateNode(lazy.node, "two different nodes have this name")
        self.uses(lazy.node, (each.node for each in lazy.inputs))

    def uses(self, node: str, inputs: Iterable[str]) -> None:
        """Add the inputs of a node, whether it is computed in this attempt or reused."""
        with self._lock:
            self._used.setdefault(node, {}).update(dict.fromkeys(inputs))
            if self._route:
                self._within.setdefault(node, self._route)

    @contextlib.contextmanager
    def route(self, name: str) -> Iterator[None]:
        """Note that the nodes that are declared meanwhile are on a route of a choice, ``<choice>/<route>``."""
        before, self._route = self._route, name
        try:
            yield
        finally:
            self._route = before

    def position(self, node: str) -> dict[str, Any]:
        """Where a node is, to be recorded with it: ``upstream``, its inputs; ``within``, the route that it is on."""
        with self._lock:
            found = {"upstream": list(self._used.get(node, ())), "within": self._within.get(node, "")}
        return {name: value for name, value in found.items() if value}

    def inputs_of(self, node: str) -> tuple[str, ...]:
        """The nodes that a node is computed from directly."""
        with self._lock:
            return tuple(self._used.get(node, ()))

    def reads(self, node: str) -> list[str]:
        """The sources upstream of a node; of a fan-in, those of the branches that arrived."""
        found: dict[str, None] = {}

        def walk(name: str) -> None:
            if name not in found:
                found[name] = None
                for before in [*self._used.get(name, ()), *self._arrived(name)]:
                    walk(before)

        with self._lock:
            walk(node)
            return [name for name in found if name in self.sources]

    def _arrived(self, node: str) -> list[str]:
        """The nodes of the branches that arrived in a fan-in."""
        merge = self.declared.get(node) if node in self.fan_ins else None
        parts = merge.completeness if merge is not None else ()
        return [f"{node}/{name}" for part in parts if part.node == node for name in part.arrived]

    def claim(self, inputs: Sequence[Lazy], has_ended: Callable[[str], bool]) -> list[Lazy]:
        """Lazy nodes that were computed within an action, upstream ones first; each is claimed by one action only.

        Args:
            inputs: The action's.
            has_ended: Whether a node's outcome is known already.
        """
        found: dict[str, Lazy] = {}

        def walk(lazy: Lazy) -> None:
            if has_ended(lazy.node) or lazy.node in self._claimed or lazy.node in found:
                return
            for before in lazy.inputs:
                walk(before)
            if lazy.node in self.built:
                found[lazy.node] = lazy

        with self._lock:
            for lazy in inputs:
                walk(lazy)
            self._claimed.update(found)
        return list(found.values())
