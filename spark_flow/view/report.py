"""The runs of a ledger as one self-contained HTML page, which a browser shows without a network.

The page's script (``report.js``) draws what the embedded JSON document holds. The document is compact: a thousand keys
of 33 nodes stay below 2 MB. Names and texts are in tables and referred to by position; a node is a list of ``FIELDS``
whose empty end is left out; times are milliseconds since the attempt began.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

from spark_flow.view.tables import attempts
from spark_flow.view.text import plain

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from spark_flow.ledger import Event
    from spark_flow.view.tables import RunView

FIELDS = ("name", "state", "end", "took", "rows", "text", "facts", "start")
"""A node's fields in the document: positions in its tables, milliseconds, and -1 or nothing for what is unknown."""
STATES = ("succeeded", "reused", "failed", "skipped", "started", "forgotten")
_EMPTY = (None, None, -1, -1, -1, 0, 0, -1)
_OF_RUN = ("cause", "adopted", "kept")  # what the start of an attempt records and the page shows

Attempt: TypeAlias = "tuple[str, str, int, int]"


Holders: TypeAlias = "Mapping[tuple[str, str], str]"


def report(events: Iterable[Event], *, title: str, made: dt.datetime, holders: Holders | None = None) -> str:
    """One self-contained HTML page of the runs in a ledger's events.

    Args:
        events: Sorted by pipeline and key, as ``Ledger.read`` and ``Ledger.latest`` return them.
        title: The page's title, such as the state folder.
        made: When the page is made.
        holders: The process that holds the lease of each pipeline and key. ``None`` if that is not known: then a run
            without an end is not told from one that was killed.
    """
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pages = Environment(loader=PackageLoader("spark_flow", "view"), autoescape=True, undefined=StrictUndefined)
    return pages.get_template("report.html.j2").render(
        title=plain(title),
        style=_file("report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        document=embedded(document(events, made=made, holders=holders)),
    )


def embedded(value: object) -> str:
    r"""JSON that can stand within a script element: it holds no ``<``.

    >>> embedded({"error": "</script>"})
    '{"error":"\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def document(events: Iterable[Event], *, made: dt.datetime, holders: Holders | None = None) -> dict[str, Any]:
    """The page's data as JSON-compatible values; the arguments are those of ``report``."""
    events = list(events)
    tables = _Tables()
    noted = _Noted.of(events)
    views: dict[str, dict[str, list[RunView]]] = {}
    for view in sorted(attempts(events), key=_identity):
        views.setdefault(view.pipeline, {}).setdefault(view.key, []).append(view)
    pipelines = [_pipeline(name, by_key, noted, tables, holders or {}) for name, by_key in views.items()]
    return {
        "made": _ms(made),
        "fields": FIELDS,
        "states": STATES,
        "leases": holders is not None,
        "handovers": _handovers([view[-1] for by_key in views.values() for view in by_key.values()], noted),
        "pipelines": pipelines,
        **tables.content,
    }


@dataclass(frozen=True)
class _Tables:
    """Names, texts and facts of nodes, each once; text 0 and facts 0 are empty.

    Attributes:
        kinds: The kind of each name.
    """

    names: dict[str, int] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=lambda: {"": 0})
    facts: dict[str, int] = field(default_factory=lambda: {"{}": 0})

    def name(self, node: str, kind: str) -> int:
        at = self.names.setdefault(node, len(self.names))
        if at == len(self.kinds):
            self.kinds.append(kind)
        self.kinds[at] = self.kinds[at] or kind
        return at

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def fact(self, facts: Mapping[str, Any]) -> int:
        return self.facts.setdefault(embedded(facts), len(self.facts)) if facts else 0

    @property
    def content(self) -> dict[str, Any]:
        """The tables as they are in the document."""
        return {
            "names": [plain(name) for name in self.names],
            "kinds": self.kinds,
            "texts": [plain(text) for text in self.texts],
            "facts": [json.loads(each) for each in self.facts],
        }


@dataclass(frozen=True)
class _Noted:
    """What a view of an attempt leaves out: when its nodes started, and what its start recorded."""

    starts: Mapping[tuple[Attempt, str], dt.datetime]
    opened: Mapping[Attempt, Mapping[str, Any]]

    @classmethod
    def of(cls, events: Iterable[Event]) -> _Noted:
        started = [event for event in events if event.state == "started"]
        return cls(
            starts={(_identity(event), event.node): event.at for event in started if event.node},
            opened={_identity(event): event.detail for event in started if event.kind == "run"},
        )


def _identity(one: Event | RunView) -> Attempt:
    return one.pipeline, one.key, one.generation, one.attempt


def _ms(at: dt.datetime) -> int:
    return round(at.timestamp() * 1000)


def _pipeline(
    name: str, by_key: Mapping[str, Sequence[RunView]], noted: _Noted, tables: _Tables, holders: Holders
) -> dict[str, Any]:
    keys = [
        {
            "key": key,
            "attempts": [_attempt(view, noted, tables) for view in views],
            **({"holder": holders[name, key]} if (name, key) in holders else {}),
        }
        for key, views in by_key.items()
    ]
    columns = _columns([view for views in by_key.values() for view in views])
    return {"name": name, "columns": [tables.name(node, "") for node in columns], "keys": keys}


def _attempt(view: RunView, noted: _Noted, tables: _Tables) -> dict[str, Any]:
    began = _ms(view.began)
    start_of = {node.node: noted.starts.get((_identity(view), node.node)) for node in view.nodes}
    opened = noted.opened.get(_identity(view), {})
    facts: dict[str, Any] = {name: opened[name] for name in _OF_RUN if opened.get(name)}
    facts |= {"command": words} if (words := _command(opened.get("command") or {})) else {}
    facts |= {"completeness": list(view.completeness)} if view.completeness else {}
    return {
        "generation": view.generation,
        "attempt": view.attempt,
        "state": view.state,
        "began": began,
        "took": _ms(view.ended) - began if view.ended else -1,
        "error": tables.text(view.error),
        "facts": tables.fact(facts),
        "nodes": [_node(node, view, start_of[node.node], tables) for node in view.nodes],
    }


def _command(command: Mapping[str, Any]) -> str:
    """The command of an attempt in a shell's words; empty if it was not run by a job."""
    if not command.get("job"):
        return ""
    config = ["--config", str(command["config"])] if command.get("config") else []
    return plain(shlex.join([str(command["job"]), *config, *map(str, command.get("overrides") or ())]))


def _node(event: Event, view: RunView, started: dt.datetime | None, tables: _Tables) -> list[int]:
    """A node's last event in an attempt as a list of ``FIELDS``, without its empty end."""
    began = _ms(view.began)
    ran = event.state in ("succeeded", "failed") and event.duration_ms is not None
    fields = [
        tables.name(event.node, event.kind),
        STATES.index(event.state),
        max(_ms(event.at) - began, 0),
        -1 if event.duration_ms is None else event.duration_ms,
        -1 if event.rows is None else event.rows,
        tables.text(event.error or event.reason),
        tables.fact(_facts(event, view, tables)),
        max(_ms(started) - began, 0) if started and not ran else -1,  # of what ran, the duration gives it
    ]
    while len(fields) > 1 and fields[-1] == _EMPTY[len(fields) - 1]:
        fields.pop()
    return fields


def _facts(event: Event, view: RunView, tables: _Tables) -> dict[str, Any]:
    """What the page shows of an event's detail; an older ledger holds less of it."""
    detail = event.detail
    found: dict[str, Any] = {name: detail[name] for name in ("within", "rule", "expectations") if detail.get(name)}
    if detail.get("upstream"):
        found["upstream"] = [tables.name(str(node), "") for node in detail["upstream"]]
    if "route" in detail:
        not_taken = {str(route): tables.text(f"not taken: {why}") for route, why in detail["not_taken"].items()}
        found |= {"route": detail["route"], "not_taken": not_taken}
    if "waited_s" in detail:
        found["waited"] = round(float(detail["waited_s"]) * 1000)
    if event.kind == "sink" and "path" in detail:
        found["where"] = plain(detail["path"])
    found |= {"publishes": published} if (published := _published(event)) else {}
    return found | ({"waits": waits} if (waits := _waits(event, view)) else {})


def _published(event: Event) -> list[Any]:
    """The dataset, key, generation and revision of the marker that a node published, if it did.

    A marker that announces a failed or skipped key is followed by that word, which only the event's reason has.
    """
    marker = event.detail.get("marker")
    if not marker:
        return []
    words = event.reason.removeprefix(f"{marker['dataset']} {marker['key']} is ")
    state = [word for word in ("failed", "skipped") if words.startswith(word)]
    return [marker["dataset"], marker["key"], marker["generation"], marker["revision"], *state]


def _waits(event: Event, view: RunView) -> list[list[Any]]:
    """The markers that a node waited for, by dataset and key, with the generation that was read: 0 if it still waits.

    A wait that did not end records no markers: then the node's name has the dataset, unless it was given another one.
    A run that failed or was skipped with its provider waits no more.
    """
    if event.kind != "marker":
        return []
    if "paths" in event.detail:
        read = event.detail["markers"]
        return [[name, read.get(name, {}).get("generation", 0)] for name in event.detail["paths"]]
    without = view.state == "waiting" and event.state == "skipped" and event.node.startswith("wait/")
    return [[event.node.removeprefix("wait/"), 0]] if without else []


def _columns(views: Sequence[RunView]) -> list[str]:
    """The nodes of a pipeline in the order in which they ended, by the attempt that ran most of them."""
    ran = [sum(node.state == "succeeded" for node in view.nodes) for view in views]
    first = ran.index(max(ran, default=0)) if ran else 0
    ordered = [*views[first : first + 1], *reversed(views)]
    return list(dict.fromkeys(node.node for view in ordered for node in sorted(view.nodes, key=lambda one: one.order)))


def _handovers(last: Sequence[RunView], noted: _Noted) -> list[list[Any]]:
    """Who publishes, reads and starts what, as ``[from, to, how, keys, keys that wait]``; datasets begin with ``=``."""
    done: Counter[tuple[str, str, str]] = Counter()
    waiting: Counter[tuple[str, str, str]] = Counter()
    for view in last:
        for node in view.nodes:
            if published := _published(node):
                ready = len(published) == 4  # noqa: PLR2004 - see there
                done[view.pipeline, f"={published[0]}", "publishes"] += ready
            waits = _waits(node, view)
            for dataset in dict.fromkeys(name.partition("/")[0] for name, _ in waits):
                read = any(generation for name, generation in waits if name.partition("/")[0] == dataset)
                (done if read else waiting)[f"={dataset}", view.pipeline, "is read by"] += 1
        starter = str(noted.opened.get(_identity(view), {}).get("cause", ""))
        if "/" in starter and "@" in starter:  # <pipeline>/<node>@<id>, as a trigger asks for a run
            done[starter.partition("/")[0], view.pipeline, "starts"] += 1
    return [[*edge, done[edge], waiting[edge]] for edge in dict.fromkeys([*done, *waiting])]


def _file(name: str) -> str:
    return resources.files("spark_flow.view").joinpath(name).read_text("utf-8")
