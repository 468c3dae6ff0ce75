"""Lineage: the events of a run and its nodes, valid by OpenLineage's schema, and never in the run's way."""

import http.server
import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from conftest import Killed, killing
from openlineage.client.serde import Serde
from openlineage_spec import facets_of, wrong_with, wrong_with_all
from runs import new_run

import spark_flow as sf
from jobs import ENVIRONMENT
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidArgument, NodeFailed, NotAllArrived
from spark_flow.lineage import Lineage, Target, follow
from spark_flow.lineage.datasets import Data, inputs_of
from spark_flow.lineage.transport import GIVE_UP, Delivery
from spark_flow.storage.sink_protocol import Written

ROOT = Path(__file__).parent.parent
DETAIL = {
    "format": "other",
    "path": "/out/lake",
    "completeness": [{"node": "hours", "expected": ["05", "06"], "arrived": ["05"]}],
}


class Told:
    """What a service would be told, as JSON."""

    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(json.loads(Serde.to_json(event)))

    def of(self, job, kind="COMPLETE"):
        (found,) = [e for e in self.events if (e["job"]["name"], e["eventType"]) == (job, kind)]
        return found

    @property
    def kinds(self):
        return [(event["job"]["name"], event["eventType"]) for event in self.events]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def opened(told, memory_ledger, state):
    """Open a run with lineage; returns it and the lineage."""

    def open_run(key="2013-01-02", target=None, **options):
        run = new_run("p", key, **{"ledger": memory_ledger, "state": state, **options})
        target = target or Target(transport="console")
        lineage = Lineage(run, target, Delivery(target, lambda _: told))
        run.observe(lineage)
        return run, lineage

    return open_run


def flights(run, path="/data/flights", **settings):
    run.graph.sources["flights"] = sf.source("json", path, schema="id INT NOT NULL, at TIMESTAMP", **settings)
    source = LazyFrame(run, "flights", "source", "f", (), object)
    return LazyFrame(run, "clean", "step", "c", (source,), object)


def write(run, action=None, node="lake"):
    data = flights(run)
    return run.once(
        Node(name=node, kind="sink", fingerprint="w", inputs=[data]),
        action or (lambda _: Written(rows=3, detail=DETAIL)),
    )


def finished(run, lineage, body):
    """Run a body as a job does."""
    error = None
    try:
        with run:
            body(run)
    except BaseException as raised:
        error = raised
    lineage.finish(error)
    return error


def names(datasets):
    return [(each["namespace"], each["name"]) for each in datasets]


# ---------------------------------------------------------------------------------------------- what is told


def test_a_run_and_each_node_that_works_begin_and_end(opened, told):
    finished(*opened(), write)
    assert told.kinds == [
        ("p", "START"),
        ("p.lake", "START"),
        ("p.flights", "START"),
        ("p.flights", "COMPLETE"),
        ("p.clean", "START"),
        ("p.clean", "COMPLETE"),
        ("p.lake", "COMPLETE"),
        ("p", "COMPLETE"),
    ]
    assert wrong_with_all(told.events) == []


@pytest.mark.parametrize("job", ["p.lake", "p"])
def test_inputs_are_the_sources_and_outputs_the_sinks(opened, told, job):
    finished(*opened(), write)
    event = told.of(job)
    assert names(event["inputs"]) == [("file", "/data/flights")]
    assert names(event["outputs"]) == [("file", "/out/lake")]
    columns = event["inputs"][0]["facets"]["schema"]["fields"]
    assert [(c["name"], c["type"]) for c in columns] == [("id", "int"), ("at", "timestamp")]
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3


def test_a_step_has_no_datasets(opened, told):
    finished(*opened(), write)
    assert (told.of("p.clean")["inputs"], told.of("p.clean")["outputs"]) == ([], [])
    assert names(told.of("p.flights")["inputs"]) == [("file", "/data/flights")]


def test_nodes_are_part_of_their_run(opened, told):
    run, lineage = opened()
    finished(run, lineage, write)
    above = told.of("p")["run"]["runId"]
    parents = [e["run"]["facets"]["parent"] for e in told.events if e["job"]["name"] != "p"]
    assert {(p["run"]["runId"], p["job"]["name"], p["root"]["run"]["runId"]) for p in parents} == {(above, "p", above)}
    assert told.of("p.lake")["run"]["runId"] == str(uuid.uuid5(uuid.UUID(above), "lake"))


def test_completeness_is_a_facet_of_outputs_and_run(opened, told):
    run, lineage = opened()
    run.measure(sf.Completeness(node="hours", expected=("05", "06"), arrived=("05",)))
    finished(run, lineage, write)
    part = {"node": "hours", "expected": 2, "arrived": 1, "ratio": 0.5, "missing": ["06"], "isApproximate": True}
    for holder in (told.of("p.lake")["outputs"][0], told.of("p")["run"]):
        facet = holder["facets"]["spark_flow_completeness"]
        assert (facet["fanIns"], facet["isApproximate"]) == ([part], True)


def test_a_failed_node_fails_its_run(opened, told):
    def fail(_):
        raise RuntimeError("no space")

    finished(*opened(), lambda run: write(run, fail))
    for job in ("p.lake", "p"):
        assert "no space" in told.of(job, "FAIL")["run"]["facets"]["errorMessage"]["message"]
    assert names(told.of("p.lake", "FAIL")["inputs"]) == [("file", "/data/flights")]
    assert wrong_with_all(told.events) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NotAllArrived("hours", ["06"], 2, requested=True), "ABORT"),
        (KeyboardInterrupt(), "ABORT"),
        (ValueError("x"), "FAIL"),
    ],
)
def test_what_waits_or_is_interrupted_is_aborted(opened, told, error, state):
    def end(_):
        raise error

    finished(*opened(), end)
    assert told.kinds == [("p", "START"), ("p", state)]


def test_a_node_that_was_killed_is_aborted(opened, told):
    run, lineage = opened()
    run.observe(killing("before_event", "lake"))
    assert isinstance(finished(run, lineage, write), Killed)
    assert told.kinds[-2:] == [("p.lake", "ABORT"), ("p", "ABORT")]
    assert wrong_with_all(told.events) == []


def test_an_interrupted_branch_is_aborted(opened, told):
    def wait(_):
        raise NotAllArrived("hours", ["06"], 2, requested=True)

    finished(*opened(), lambda run: run.once(Node(name="hours/06", kind="branch"), wait))
    assert told.kinds == [("p", "START"), ("p.hours/06", "START"), ("p.hours/06", "ABORT"), ("p", "ABORT")]
    assert "06" in told.of("p.hours/06", "ABORT")["run"]["facets"]["errorMessage"]["message"]


def test_a_node_that_is_done_again_in_one_run_ends_once(opened, told):
    def twice(run):
        with pytest.raises(NodeFailed):
            write(run, lambda _: 1 / 0)
        write(run)

    finished(*opened(), twice)
    assert wrong_with_all(told.events) == []


def test_what_is_reused_says_nothing_of_its_own_and_stands_in_the_run(opened, told):
    finished(*opened(), write)
    told.events.clear()
    finished(*opened(), write)
    assert told.kinds == [("p", "START"), ("p", "COMPLETE")]
    assert names(told.of("p")["inputs"]) == [("file", "/data/flights")]
    assert names(told.of("p")["outputs"]) == [("file", "/out/lake")]


def test_each_attempt_is_a_run_of_its_own(opened, told):
    finished(*opened(), write)
    finished(*opened(), write)
    assert len({e["run"]["runId"] for e in told.events if e["job"]["name"] == "p"}) == 2


def test_a_plan_says_nothing(memory_ledger, state, tmp_path):
    run = sf.Run.open("p", "k", ledger=memory_ledger, state=state, mode=Mode(plan=True))
    assert follow(run, Target(path=str(tmp_path / "lineage.jsonl"))) is None
    with sf.emit_lineage(run, path=str(tmp_path / "lineage.jsonl")):
        write(run)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "span"),
    [
        ("2013-01-02", ("2013-01-02T00:00:00.000Z", "2013-01-03T00:00:00.000Z")),
        ("2013-01-02T23", ("2013-01-02T23:00:00.000Z", "2013-01-03T00:00:00.000Z")),
        ("2013-13-02", None),
        ("batch-7", None),
    ],
)
def test_a_key_that_is_a_time_is_the_nominal_time(opened, told, key, span):
    finished(*opened(key), lambda _: None)
    facet = told.of("p")["run"]["facets"].get("nominalTime")
    assert (facet and (facet["nominalStartTime"], facet["nominalEndTime"])) == span


PARENT = "9a2d1d3c-6a57-4b5e-8d2a-1c5b7d0f9e11"


def test_a_run_has_the_parent_that_its_environment_names(opened, told, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/days/load.flights/{PARENT}")
    finished(*opened(), write)
    parent = told.of("p")["run"]["facets"]["parent"]
    assert parent["job"] == {"namespace": "airflow", "name": "days/load.flights"} | {"facets": parent["job"]["facets"]}
    assert {e["run"]["facets"]["parent"]["root"]["run"]["runId"] for e in told.events} == {PARENT}
    assert wrong_with_all(told.events) == []


@pytest.mark.parametrize("text", ["nonsense", f"/{PARENT}", "airflow/days/not-a-uuid"])
def test_a_parent_that_is_none_is_ignored_with_a_warning(opened, told, monkeypatch, caplog, text):
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", text)
    finished(*opened(), write)
    assert "parent" not in told.of("p")["run"]["facets"]
    assert "OPENLINEAGE_PARENT_ID" in caplog.text


def test_of_a_fan_in_the_branches_that_arrived_are_read(opened):
    run, _ = opened()
    hours = sf.source("json", "/data/hour={branch}", branches=["05", "06"])
    for name in hours.branches:
        run.graph.sources[f"hours/{name}"] = hours.branch(name)
    run.graph.fan_ins["hours"] = ("hours/05", "hours/06")
    part = sf.Completeness(node="hours", expected=("05", "06"), arrived=("06",))
    merged = LazyFrame(run, "hours", "merge", "m", (), object, (part,))
    LazyFrame(run, "daily", "step", "d", (merged,), object, (part,))
    assert run.graph.reads("daily") == ["hours/06"]
    assert [data.path for data in inputs_of(run, "daily")] == ["/data/hour=06"]


@pytest.mark.parametrize(
    ("path", "is_table", "name"),
    [
        ("/data/flights", False, ("file", "/data/flights")),
        ("/data/flights/date=2013-01-02/hour=07", False, ("file", "/data/flights")),
        ("s3://bucket/a/b/date=2013-01-02", False, ("s3://bucket", "a/b")),
        ("s3://bucket/of=mine", True, ("s3://bucket", "of=mine")),
        ("gs://bucket", False, ("gs://bucket", "/")),
        ("s3://user:secret@bucket/x", False, ("s3://bucket", "x")),
    ],
)
def test_datasets_are_named_by_openlineages_rules(path, is_table, name):
    assert Data(path=path, is_table=is_table).name == name


def test_ddl_is_read_without_spark():
    source = sf.source(
        "json", "/x", schema="id INT NOT NULL, `a, b`: MAP<STRING, DECIMAL(3, 1)> COMMENT 'x, y', c STRING"
    )
    columns = Data(path="/x", source=source).columns()
    assert columns == [("id", "int"), ("a, b", "map<string, decimal(3, 1)>"), ("c", "string")]


def test_a_dataset_whose_columns_cannot_be_found_is_told_without(opened, told, tmp_path):
    def read(run):
        run.graph.sources["in"] = sf.source("parquet", str(tmp_path / "nowhere"))
        run.once(Node(name="in", kind="source"), lambda _: Written())

    finished(*opened(), read)
    (data,) = told.of("p.in")["inputs"]
    assert data.get("facets", {}) == {}


def test_a_validator_that_finds_what_is_wrong(opened, told):
    finished(*opened(), write)
    good = told.of("p.lake")
    assert facets_of(good)
    for broken in (
        {**good, "run": {**good["run"], "runId": "7"}},
        {**good, "eventTime": "yesterday"},
        {name: value for name, value in good.items() if name != "job"},
        {**good, "outputs": [{**good["outputs"][0], "facets": {"version": {"datasetVersion": 1}}}]},
    ):
        assert wrong_with(broken)
    facet = good["outputs"][0]["facets"]["spark_flow_completeness"]
    facet["fanIns"][0]["ratio"] = 2
    assert wrong_with(good)


# --------------------------------------------------------------------------------------------- how it is sent


@pytest.fixture
def service():
    """A service on loopback: where it is, what it was told, and how it shall answer."""

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.told.append((self.path, self.headers.get("Authorization"), body))
            server.gate.wait(10)
            self.send_response(server.once.pop() if server.once else server.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.daemon_threads = True
        server.told, server.once, server.answer, server.gate = [], [], 200, threading.Event()
        server.gate.set()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


def sent(target, memory_ledger, state, count=0):
    """A run that sends to a target; returns how long its end took."""
    run = sf.Run.open("p", "2013-01-02", ledger=memory_ledger, state=state)
    lineage = follow(run, target)
    with run:
        write(run)
    began = time.monotonic()
    lineage.finish()
    return time.monotonic() - began


def test_a_file_gets_a_line_for_each_event(memory_ledger, state, tmp_path):
    file = tmp_path / "new" / "lineage.jsonl"
    sent(Target(path=str(file)), memory_ledger, state)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert (len(events), wrong_with_all(events)) == (8, [])


def test_the_console_gets_them_too(memory_ledger, state, capsys):
    sent(Target(transport="console"), memory_ledger, state)
    assert [json.loads(line)["job"]["name"] for line in capsys.readouterr().out.splitlines()][::7] == ["p", "p"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [("", "/api/v1/lineage"), ("/", "/api/v1/lineage"), ("/openlineage/events", "/openlineage/events")],
)
def test_a_service_gets_them_with_its_key(memory_ledger, state, service, monkeypatch, path, asked):
    monkeypatch.setenv("LINEAGE_KEY", "secret")
    sent(Target(transport="http", url=service.url + path, api_key="LINEAGE_KEY"), memory_ledger, state)
    assert {(where, key) for where, key, _ in service.told} == {(asked, "Bearer secret")}
    assert (len(service.told), wrong_with_all([body for _, _, body in service.told])) == (8, [])


def test_a_service_that_answers_500_fails_nothing_and_is_left_alone(memory_ledger, state, service, caplog):
    service.answer = 500
    sent(Target(transport="http", url=service.url), memory_ledger, state)
    assert [r.getMessage() for r in caplog.records] == [
        "lineage: 8 of 8 events were not delivered (transport http): the service answered 500"
    ]
    assert len(service.told) == 2 * GIVE_UP


def test_an_event_that_is_not_taken_is_sent_again(memory_ledger, state, service, caplog):
    service.once.append(503)
    delivery = Delivery(Target(transport="http", url=service.url))
    delivery.put(lambda: {"n": 1})
    delivery.close()
    assert ([body for _, _, body in service.told], caplog.records) == ([{"n": 1}] * 2, [])


def test_failures_with_successes_between_them_are_no_reason_to_give_up(caplog):
    def send(n):
        if n % 2:
            raise OSError("full")

    delivery = Delivery(Target(), lambda _: send)
    for n in range(2 * GIVE_UP + 4):
        delivery.put(lambda n=n: n)
    delivery.close()
    assert f"lineage: {GIVE_UP + 2} of {2 * GIVE_UP + 4} events were not delivered" in caplog.text


def test_a_dead_service_fails_nothing_and_no_address_is_told(memory_ledger, state, caplog):
    target = Target(transport="http", url="http://127.0.0.1:9/secret-path")
    with caplog.at_level(logging.INFO):
        assert sent(target, memory_ledger, state) < 5
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "8 of 8 events" in record.getMessage()
    assert "secret" not in caplog.text


def test_a_slow_service_holds_up_neither_the_run_nor_its_end(memory_ledger, state, service, monkeypatch, caplog):
    monkeypatch.setattr("spark_flow.lineage.transport.Delivery.close.__defaults__", (0.3,))
    service.gate.clear()
    began = time.monotonic()
    assert sent(Target(transport="http", url=service.url), memory_ledger, state) < 2
    assert time.monotonic() - began < 4
    assert "8 of 8 events were not delivered (transport http): gave up after 0.3 s" in caplog.text


def test_a_key_that_is_not_set_is_told_by_the_variables_name(memory_ledger, state, service, caplog):
    sent(Target(transport="http", url=service.url, api_key="NO_SUCH_KEY"), memory_ledger, state)
    assert "the environment variable NO_SUCH_KEY is not set" in caplog.text
    assert service.told == []


def test_a_file_that_cannot_be_written_fails_nothing(memory_ledger, state, tmp_path, caplog):
    (tmp_path / "file").touch()
    sent(Target(path=str(tmp_path / "file" / "lineage.jsonl")), memory_ledger, state)
    assert "8 of 8 events were not delivered (transport file)" in caplog.text


def test_what_goes_wrong_with_an_event_fails_no_node(opened, told, caplog, monkeypatch):
    monkeypatch.setattr("spark_flow.lineage.observer.inputs_of", lambda *_: 1 / 0)
    assert finished(*opened(), write) is None
    assert "division by zero" in caplog.text


def test_lines_of_runs_that_append_at_the_same_time_stay_whole(tmp_path):
    code = (
        "import sys\nfrom spark_flow.lineage.transport import Target, sender\n"
        "send = sender(Target(path=sys.argv[1]))\n"
        "for n in range(200): send({'n': n, 'text': sys.argv[2] * 30_000})"
    )
    file = str(tmp_path / "lineage.jsonl")
    children = [subprocess.Popen([sys.executable, "-c", code, file, letter]) for letter in "ab"]
    assert [child.wait(60) for child in children] == [0, 0]
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    assert (len(lines), {len(set(line["text"])) for line in lines}) == (400, {1})


def test_a_run_without_lineage_does_not_pay_for_the_package():
    imported = "spark_flow.cli.job, spark_flow.cli.commands.runs"
    code = f"import sys, {imported}; sys.exit('openlineage' in str(sorted(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("given", [{"transport": "smoke"}, {}, {"transport": "http"}])
def test_a_transport_that_lacks_something_is_refused(memory_ledger, state, given):
    run = sf.Run.open("p", "k", ledger=memory_ledger, state=state)
    with pytest.raises(InvalidArgument), sf.emit_lineage(run, **given):
        pass
    assert [event.state for event in memory_ledger.read()] == ["started", "failed"]  # the run was open: it is closed


def test_python_tells_of_a_run_as_a_job_does(memory_ledger, state, tmp_path):
    file = tmp_path / "lineage.jsonl"
    run = sf.Run.open("p", "2013-01-02", ledger=memory_ledger, state=state)
    with pytest.raises(NodeFailed), sf.emit_lineage(run, path=str(file), namespace="mine") as same:
        write(same, lambda _: 1 / 0)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert (events[-1]["eventType"], {event["job"]["namespace"] for event in events}) == ("FAIL", {"mine"})


# ------------------------------------------------------------------------------------------------------ Spark


def test_sparks_listener_is_told_the_run_and_no_key(opened, told, monkeypatch):
    monkeypatch.setenv("LINEAGE_KEY", "secret")
    target = Target(transport="http", url="http://service", api_key="LINEAGE_KEY", spark_events=True)
    run, lineage = opened(target=target)
    told_to = lineage.spark_settings()
    apart = Path(told_to["spark.openlineage.transport.location"])
    apart.write_text('{"eventType": "START", "job": {"name": "p_spark"}}\n')
    finished(run, lineage, write)
    above = told.of("p")["run"]["runId"]
    assert {told_to["spark.openlineage.parentRunId"], told_to["spark.openlineage.rootParentRunId"]} == {above}
    assert "secret" not in str(told_to)
    assert "service" not in str(told_to)
    assert ("p_spark", "START") in told.kinds
    assert not apart.parent.exists()


@pytest.mark.parametrize(("action", "told_of"), [(None, True), (lambda _: 1 / 0, False)])
def test_missing_events_of_spark_are_told_of_a_run_that_was_done(opened, caplog, action, told_of):
    run, lineage = opened(target=Target(transport="console", spark_events=True))
    lineage.spark_settings()
    finished(run, lineage, lambda run: write(run, action))
    assert ("Spark's events are missing" in caplog.text) is told_of


@pytest.mark.spark
def test_a_real_flow_has_its_sources_through_boundaries_and_splits_also_when_reused(spark, state, lines, tmp_path):
    folder = lines('{"id": "a", "n": 1}', '{"id": "b", "n": 2}')
    hours = sf.source("json", str(tmp_path / "hour={branch}"), schema="id STRING", branches=["05", "06"])
    lines('{"id": "a"}', name="hour=05")
    spark.range(2).write.format("delta").save(str(tmp_path / "ids"))
    spark.range(3).write.format("delta").mode("overwrite").save(str(tmp_path / "ids"))

    def run_it():
        file = tmp_path / "lineage.jsonl"
        file.unlink(missing_ok=True)
        run = sf.Run.open("p", "2013-01-02", state=state, spark=spark)
        with sf.emit_lineage(run, path=str(file)):
            arrived = sf.unaligned_fan_in(run, "hours", hours, require=sf.any_succeeded)
            ids = sf.read(run, "ids", sf.source("delta", str(tmp_path / "ids")))
            numbers = sf.read(run, "in", sf.source("json", folder, schema="id STRING, n INT"))
            joined = sf.step(with_ids, ids=ids, numbers=numbers, restart=True)
            frame = sf.local_sequencer(run, arrived.frame, [joined])
            sinks = {"lake": sf.delta(str(tmp_path / "lake")), "legacy": sf.csv(str(tmp_path / "legacy"))}
            sf.parallel_split(run, frame, {"lake": sinks["lake"], "legacy": sinks["legacy"]})
            sf.report_completeness(run, "p", frame, table=str(tmp_path / "completeness"))
        reads = [run.graph.reads(node) for node in ("lake", "legacy", "completeness")]
        assert reads == [["hours/05", "ids", "in"]] * 3
        return [json.loads(line) for line in file.read_text().splitlines()]

    first, second = run_it(), run_it()
    assert wrong_with_all(first) + wrong_with_all(second) == []
    whole = [events[-1] for events in (first, second)]
    read = {("file", str(tmp_path)), ("file", f"{tmp_path}/ids"), ("file", folder)}
    written = {("file", f"{tmp_path}/{name}") for name in ("lake", "legacy", "completeness")}
    lake = next(e for e in first if e["job"]["name"] == "p.lake" and e["eventType"] == "COMPLETE")
    assert [set(names(event["inputs"])) for event in (*whole, lake)] == [read] * 3
    assert [set(names(event["outputs"])) for event in whole] == [written] * 2
    for event in whole:
        datasets = {each["name"].removeprefix(f"{tmp_path}/"): each for each in event["inputs"] + event["outputs"]}
        versions = {
            name: each["facets"]["version"]["datasetVersion"]
            for name, each in datasets.items()
            if "version" in each["facets"]
        }
        assert versions == {"ids": "1", "lake": "0", "legacy": "1", "completeness": "0"}
        assert datasets["legacy"]["outputFacets"]["outputStatistics"]["rowCount"] == 1
        assert [c["name"] for c in datasets["legacy"]["facets"]["schema"]["fields"]] == ["id"]
        assert datasets["lake"]["facets"]["spark_flow_completeness"]["fanIns"][0]["missing"] == ["06"]


def with_ids(frame, ids, numbers):
    return frame.join(numbers.select("id"), "id").crossJoin(ids.where("id = 2").select()).select("id")


@pytest.mark.nightly
@pytest.mark.process
def test_the_main_jobs_events_and_sparks_own_are_under_one_parent(tmp_path):
    kept = {key: value for key, value in ENVIRONMENT.items() if not key.startswith(("OPENLINEAGE", "PYSPARK_"))}
    overrides = ["key=2013-01-02", f"state={tmp_path}/state", f"output={tmp_path}/out", "lineage.spark_events=true"]
    overrides += ["flow.0.unaligned_fan_in.branches=05..08"]
    command = [sys.executable, "jobs/daily_flights.py", *overrides]
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "state" / "lineage.jsonl").read_text().splitlines()]
    assert [error for event in events for error in wrong_with(event)] == []
    (whole,) = [e for e in events if (e["job"]["name"], e["eventType"]) == ("daily_flights", "COMPLETE")]
    assert wrong_with_all([e for e in events if not e["job"]["name"].startswith("daily_flights_spark")]) == []
    data, out = ROOT / "data", tmp_path / "out"
    assert {name for _, name in names(whole["inputs"])} == {
        f"{data}/{n}" for n in ("flights", "weather", "planes", "airlines")
    }
    assert {name for _, name in names(whole["outputs"])} == {
        f"{out}/{n}" for n in ("daily_flights", "legacy", "completeness")
    }
    sparks = [e for e in events if e["job"]["name"].startswith("daily_flights_spark")]
    application = [e for e in sparks if e["job"]["name"] == "daily_flights_spark"]
    parents = {e["run"]["facets"]["parent"]["run"]["runId"] for e in application}
    roots = {e["run"]["facets"]["parent"]["root"]["run"]["runId"] for e in sparks}
    assert parents == roots == {whole["run"]["runId"]}
    assert [e["eventType"] for e in application] == ["START", "COMPLETE"]
    columns = [d for e in sparks for d in e["outputs"] if "columnLineage" in d["facets"]]
    assert f"{out}/daily_flights" in {dataset["name"] for dataset in columns}
