"""What several test files share: a small flow with every kind of node, and its frame."""

import csv
import http.server
import io
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import connect as connect_server
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from pyspark.sql import functions as F
from runs import new_run

import spark_flow as sf
from jobs import Jobs
from spark_flow.cli import job
from spark_flow.storage import catalog


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Whoever takes the session is a Spark test: ``make fast`` starts no JVM. What runs later must be asked for.

    The long ones come first: two workers then end at about the same time.
    """
    for item in items:
        if "spark" in item.fixturenames:
            item.add_marker("spark")
    later = [
        name
        for name in ("nightly", "cluster", "object_storage", "aws", "datafactory")
        if name not in config.option.markexpr
    ]
    config.hook.pytest_deselected(items=[item for item in items if any(map(item.get_closest_marker, later))])
    items[:] = [item for item in items if not any(map(item.get_closest_marker, later))]
    if os.environ.get("CONNECT") == "yes":
        for item in items:
            names = (item.name.partition("[")[0], item.path.stem)
            if found := [connect_server.SKIPPED[name] for name in names if name in connect_server.SKIPPED]:
                item.add_marker(pytest.mark.skip(reason=found[0]))
    items.sort(key=lambda item: [not item.get_closest_marker(name) for name in ("process", "spark")])


@pytest.fixture(scope="session", autouse=True)
def connect(tmp_path_factory):
    """With ``CONNECT=yes`` (``make connect``), sessions are those of a Spark Connect server of this process's own."""
    if os.environ.get("CONNECT") != "yes":
        yield
        return
    with connect_server.served(tmp_path_factory.mktemp("connect")) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_REMOTE", address)
        yield address


@pytest.fixture(autouse=True)
def own_modules():
    """What a test imported from a folder of its own is not there for the next test, nor is the folder on the path."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(tempfile.gettempdir()):
            del sys.modules[name]


@pytest.fixture
def run_file(tmp_path, capsys):
    """Run a job file's text by ``main(argv)``, with ``FOLDER`` and ``OUT`` for two folders of the test.

    Returns the exit code, and what was printed.
    """

    def run(text, *arguments):
        text = text.replace("FOLDER", str(tmp_path / "in")).replace("OUT", str(tmp_path / "out"))
        (tmp_path / "job.yaml").write_text(text)
        state = [] if any(a.startswith("state=") for a in arguments) else [f"state={tmp_path}/state"]
        code = job.main(["--config", str(tmp_path / "job.yaml"), *state, *arguments], job=str(tmp_path / "job.py"))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


HERE_OR_PROCESS = [pytest.param("here", marks=pytest.mark.spark), pytest.param("process", marks=pytest.mark.nightly)]


@pytest.fixture(params=HERE_OR_PROCESS)
def submit(request, tmp_path, capsys, monkeypatch):
    """Run a job by ``main(argv)`` in the shared session; at night also as the process that a user starts."""
    if request.param == "here":
        request.getfixturevalue("spark")
    return Jobs(tmp_path, how=request.param, capsys=capsys, monkeypatch=monkeypatch)


def rows(frame):
    """A frame's rows in a fixed order."""
    return sorted(tuple(row) for row in frame.collect())


def law(by_day):
    """Settings of a property test with Spark: few examples by day, ten times as many with ``LAWS=thorough``."""
    examples = by_day * (10 if os.environ.get("LAWS") == "thorough" else 1)
    how = settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    return lambda test: pytest.mark.law(how(test))


def stored(path, *columns):
    """A Delta table's rows in a fixed order, read without Spark, which takes a second; all columns by default."""
    table = DeltaTable(str(path)).to_pyarrow_table(columns=list(columns) or None)
    return sorted(tuple(row.values()) for row in table.to_pylist())


def stored_csv(folder, *columns):
    """The rows of a CSV sink with a header, as texts in a fixed order, read without Spark."""
    found = []
    for file in Path(folder).rglob("part-*.csv"):
        partitions = dict(part.split("=") for part in file.relative_to(folder).parts[:-1])
        found += [{**partitions, **row} for row in csv.DictReader(io.StringIO(file.read_text()))]
    return sorted(tuple(row[name] for name in columns) for row in found)


def at_night(*values):
    """Parameters of a test that runs for them only at night."""
    given = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=pytest.mark.nightly) for value in given]


class Killed(BaseException):
    """Stands for SIGKILL where no process is to be ended."""


def killing(point, node):
    """An observer that ends a run at a point of a node, as a kill would: nothing more is recorded by ``once``."""

    def observer(at, where, _):
        if (at, where) == (point, node):
            raise Killed

    return observer


@pytest.fixture
def webhook():
    """A service on loopback that Apprise can tell: its address, with a secret in it, and what it was told."""
    told = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"json://user:secret@127.0.0.1:{server.server_port}/", told
        server.shutdown()
        thread.join()


@pytest.fixture
def lasting(monkeypatch):
    """A catalog that lives in memory is taken for one that lasts; its tables are dropped."""
    monkeypatch.setattr(catalog, "check_lasting", lambda *_: None)


@pytest.fixture
def shop(spark, tmp_path, lasting):
    spark.sql(f"CREATE DATABASE shop LOCATION '{tmp_path}/shop'")
    yield "shop"
    spark.sql("DROP DATABASE shop CASCADE")


@pytest.fixture
def lines(tmp_path):
    """Write JSON lines into a folder; returns the folder."""

    def write(*records, name="in", file="a.json"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / file).write_text("".join(f"{record}\n" for record in records))
        return str(folder)

    return write


def keep_large(frame):
    return frame.where("n > 1")


def double(frame):
    return frame.withColumn("n", F.col("n") * 2)


def dated(frame, *, key):
    return frame.withColumn("date", F.lit(key).cast("date"))


@pytest.fixture
def flow(spark, state, lines, tmp_path):
    """Run keep_large, double (boundary) and dated, and write a Delta table and CSV together."""
    folder = lines('{"id": "a", "n": 1}', '{"id": "b", "n": 2}', '{"id": "c", "n": 3}')
    out = tmp_path / "out"

    def run_flow(key="2013-01-02", steps=None, sinks=None, **options):
        run = new_run("p", key, **{"state": state, "spark": spark, **options})
        with run:
            source = sf.source("json", folder, schema="id STRING NOT NULL, n INT")
            chain = steps or [keep_large, sf.step(double, restart=True), sf.step(dated, key=key)]
            frame = sf.local_sequencer(run, sf.read(run, "in", source), chain)
            lake = sf.delta(str(out / "lake"), partition_by="date")
            chosen = sinks or {"lake": lake, "legacy": sf.csv(str(out / "legacy"), partition_by="date")}
            with sf.transaction(run, "publish") as tx:
                for name, sink in chosen.items():
                    sf.write(tx, name, frame, sink)
        return run

    run_flow.out = out
    run_flow.lake = lambda: [(id_, n, str(date)) for id_, n, date in stored(out / "lake", "id", "n", "date")]
    run_flow.legacy = lambda: stored_csv(out / "legacy", "id", "n")
    return run_flow


def states(run):
    return {outcome.node: outcome.state for outcome in run.outcomes}
