"""Events of a ledger, made in memory: what a run of the bundled jobs records, without Spark."""

import datetime as dt

from spark_flow.ledger import Event

START = dt.datetime(2024, 3, 1, 2, 0, tzinfo=dt.timezone.utc)
HOURS = tuple(f"hours/{hour:02d}" for hour in range(5, 24))


class Attempt:
    """Collects the events of one attempt; a node's time is given in seconds since the attempt began."""

    def __init__(self, pipeline, key, *, generation=1, attempt=1, began=START, **detail):
        self.identity = {"pipeline": pipeline, "key": key, "generation": generation, "attempt": attempt}
        self.began, self.events = began, []
        self.node("", "started", 0, kind="run", detail=detail)

    def node(self, name, state, at, *, kind="step", took=None, **fields):
        duration = None if took is None else round(took * 1000)
        when = self.began + dt.timedelta(seconds=at)
        seq = len(self.events) + 1
        self.events.append(
            Event(**self.identity, seq=seq, node=name, kind=kind, state=state, duration_ms=duration, at=when, **fields)
        )
        return self

    def wrote(self, name, at, took, *, kind="sink", rows=None, **fields):
        self.node(name, "started", at - took, kind=kind, revision=1)
        return self.node(name, "succeeded", at, kind=kind, took=took, rows=rows, revision=1, **fields)

    def end(self, at, state="succeeded", **fields):
        return self.node("", state, at, kind="run", took=at, **{"reason": state, **fields}).events


def completeness(missing=(), node="hours", expected=19):
    arrived = expected - len(missing)
    part = {"node": node, "expected": expected, "arrived": arrived, "ratio": round(arrived / expected, 4)}
    return {"completeness": [part | {"missing": list(missing), "is_approximate": bool(missing)}]}


def day(key, *, pipeline="daily_flights", began=START, missing=(), rows=800, slow=1.0):
    """A day of 19 hours, 33 nodes in all."""
    run = Attempt(pipeline, key, began=began, command={"job": "job.py", "overrides": [f"key={key}"]})
    for number, hour in enumerate(HOURS):
        if hour.rpartition("/")[2] in missing:
            continue
        at = 1 + 0.4 * number * slow
        run.wrote(hour, at, 0.9 * slow, kind="branch", rows=rows // 19, reason="checkpoint written; first time")
    run.node("hours", "succeeded", 9 * slow, kind="merge", took=0.02, rows=rows, reason="19 branches")
    for number in range(9):
        up = "hours" if number == 0 else f"step_{number - 1}"
        run.node(
            f"step_{number}", "succeeded", 12 * slow, took=0.01, reason="within publish/lake", detail={"upstream": [up]}
        )
    run.wrote("publish/lake", 12 * slow, 2.5, rows=rows, reason="written at version 3", detail={"path": "out/lake"})
    run.wrote("publish/legacy", 11 * slow, 1.5, rows=rows, reason="written", detail={"path": "out/legacy"})
    run.wrote("publish", 12.1 * slow, 0.1, kind="marker")
    marker = {"dataset": pipeline, "key": key, "generation": 1, "revision": 1}
    run.wrote(f"marker/{pipeline}", 12.3 * slow, 0.1, kind="marker", rows=rows, detail={"marker": marker})
    for hour in missing:
        run.node(f"hours/{hour}", "skipped", 12.4 * slow, kind="branch", reason=f"not arrived: data/hour={hour}")
    return run.end(12.4 * slow, detail=completeness(missing))


def keys(count):
    first = dt.date(2021, 1, 1)
    return [(first + dt.timedelta(days=number)).isoformat() for number in range(count)]


def many_days(count):
    """Days with missing hours and stragglers, and errors whose text is HTML."""
    events = []
    for number, key in enumerate(keys(count)):
        began = START + dt.timedelta(minutes=number)
        if number % 50 == 17:
            error = (
                f"NodeFailed: publish/lake: ValueError: <script>alert({number})</script> (steps.py, line 12, in clean)"
            )
            run = Attempt("daily_flights", key, began=began).wrote("hours/05", 1, 0.5, kind="branch", rows=40)
            run.node("publish/lake", "failed", 3, kind="sink", took=1, error=error)
            events += run.end(3, "failed", error=error)
            continue
        missing = ("07", "09") if number % 40 == 3 else ()
        events += day(
            key, began=began, missing=missing, rows=800 + number % 13 * 10, slow=3.0 if number % 97 == 60 else 1.0
        )
    return events


def killed(key, *, pipeline="daily_flights", began=START):
    """A first attempt that was killed in its write, after 18 hours."""
    run = Attempt(pipeline, key, began=began)
    for number, hour in enumerate(HOURS[:18]):
        run.wrote(hour, 1 + 0.3 * number, 0.9, kind="branch", rows=40, reason="checkpoint written; first time")
    run.node(HOURS[18], "started", 6.5, kind="branch", revision=1)
    return run.events


def resumed(key, *, pipeline="daily_flights", began=START):
    """A killed attempt, and the attempt that resumed it."""
    later = Attempt(pipeline, key, attempt=2, began=began + dt.timedelta(minutes=9))
    later.wrote(HOURS[18], 1.5, 1, kind="branch", rows=40, reason="checkpoint written; it was started and did not end")
    later.node(
        "hours", "succeeded", 1.7, kind="merge", took=0.02, rows=760, reason="19 branches", detail={"rule": "all"}
    )
    later.wrote("publish/lake", 4, 2, rows=760, detail={"path": "out/lake", "upstream": ["hours"]})
    for hour in HOURS[:18]:
        later.node(hour, "reused", 4.1, kind="branch", took=0.9, rows=40, reason="succeeded in attempt 1")
    return [*killed(key, pipeline=pipeline, began=began), *later.end(4.1, detail=completeness())]


def chosen(key, *, pipeline="routes", began=START):
    """A choice, a check whose rule is violated, and rows that are set aside."""
    run = Attempt(pipeline, key, began=began)
    detail = {
        "route": "csv",
        "not_taken": {"delta": "since 2024-03-04: no, 2024-03-01"},
        "conditions": {},
        "cost_ms": 2,
    }
    run.node("format", "succeeded", 0.2, kind="choice", took=0.1, reason="csv: before 2024-03-04: yes", detail=detail)
    found = {"expectations": {"positive": 3, "known": 0}}
    run.wrote("checked", 2, 1.5, kind="expect", rows=90, reason="positive: 3 row(s) without amount > 0", detail=found)
    run.wrote(
        "format/csv", 3, 0.8, rows=87, detail={"path": "out/csv", "within": "format/csv", "upstream": ["checked"]}
    )
    run.node("format/delta", "skipped", 3.1, kind="choice", reason="not taken: since 2024-03-04: no, 2024-03-01")
    return run.end(3.1)


def reads(key, *, pipeline="by_carrier", began=START, generation=1):
    """A consumer that has read a marker of daily_flights; with generation 0 one that waits for it."""
    run = Attempt(pipeline, key, began=began)
    if not generation:
        why = f"wait/daily_flights: not ready after 600.0 s: daily_flights/{key} (no marker)"
        return run.node("wait/daily_flights", "skipped", 600, kind="marker", reason=why).end(
            600, "skipped", reason="waiting", error=why
        )
    name = f"daily_flights/{key}"
    marker = {"dataset": "daily_flights", "key": key, "generation": generation}
    detail = {"markers": {name: marker}, "paths": {name: f"m/{name}.json"}, "looks": 2, "waited_s": 4.2}
    run.node("wait/daily_flights", "succeeded", 4.3, kind="marker", took=4.2, reason="ready", detail=detail)
    run.wrote("carriers", 6, 1.5, rows=16, detail={"path": "out/carriers"})
    marker = {"dataset": "carriers", "key": key, "generation": 1, "revision": 1}
    return run.wrote("marker/carriers", 6.3, 0.1, kind="marker", rows=16, detail={"marker": marker}).end(6.4)


def backfilled(key, *, pipeline="backfill", began=START):
    """A generation, and a partial backfill that took its first node over."""
    first = Attempt(pipeline, key, began=began).wrote("read", 1, 0.9, rows=5, kind="step").wrote("lake", 3, 1, rows=5)
    later = Attempt(pipeline, key, generation=2, began=began + dt.timedelta(hours=1), kept={"read": 1})
    later.node("read", "succeeded", 0, rows=5, reason="kept from generation 1", revision=1)
    later.wrote("lake", 2, 1, rows=5).node("read", "reused", 2.1, rows=5, reason="kept from generation 1")
    return [*first.end(3.1), *later.end(2.1)]


def story():
    """Three pipelines with what can happen to a key, sorted as a ledger returns them."""
    error = "NodeFailed: carriers: KeyError: 'EUR' (steps.py, line 12, in by_carrier)"
    failed = Attempt("by_carrier", "2024-03-03", began=START).node(
        "carriers", "failed", 2, kind="sink", took=1, error=error
    )
    events = [
        *backfilled("2024-03-01"),
        *reads("2024-03-01"),
        *reads("2024-03-02", generation=0),
        *failed.end(2, "failed", error=error),
    ]
    events += day("2024-03-01")
    events += day("2024-03-02", missing=("07",))
    events += [*killed("2024-03-03"), *resumed("2024-03-04"), *chosen("2024-03-01")]
    forgotten = Event(**{**vars(chosen("2024-03-02")[-1]), "seq": 99, "state": "forgotten", "reason": "forgotten"})
    return [*events, *chosen("2024-03-02"), forgotten]
