"""On object storage: a server of the S3 protocol (moto, an emulator) keeps the promise as a local disk does.

``make object-storage`` runs these; ``STORE_KILLS=8`` sets how many times a driver is killed at a random moment.
"""

import contextlib
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable
from object_store import BUCKET, served
from test_crash import KEY, ONCE, SMALL

from jobs import ENVIRONMENT, ROOT, summary_of
from spark_flow.cli import doctor
from spark_flow.errors import Busy, Fenced, LeaseLost, StateNotWritable
from spark_flow.ledger import DeltaLedger
from spark_flow.ledger.register import DeltaRegister
from spark_flow.operations.verify import verify
from spark_flow.orchestration.leases import (
    RENEWALS,
    TTL,
    Leases,
    PoolDocument,
    free,
    hold,
    only_writer,
    this_process,
)
from spark_flow.storage import files

pytestmark = [pytest.mark.object_storage, pytest.mark.process]
KILLS = int(os.environ.get("STORE_KILLS", "4"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with served(tmp_path_factory.mktemp("store")) as server:
        yield server


class Job:
    """The small job, with its state and output in the bucket."""

    def __init__(self, store, folder, name):
        self.store, self.folder, self.root = store, folder, f"s3a://{BUCKET}/{name}"
        (folder / "small.yaml").write_text(SMALL)

    def start(self, *words):
        places = [f"state={self.root}/state", f"output={self.root}/out", f"--summary-json={self.folder}/s.json"]
        command = [sys.executable, "jobs/daily_flights.py", f"--config={self.folder}/small.yaml", f"key={KEY}", *places]
        with (self.folder / "job.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *words],
                cwd=ROOT,
                env={**ENVIRONMENT, **self.store.variables},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __call__(self, *words):
        code = self.start(*words).wait()
        return code, (self.folder / "job.log").read_text()

    @property
    def events(self):
        return DeltaLedger(f"{self.root}/state", create=False).read("small", KEY)

    @property
    def states(self):
        return {node["node"]: node["state"] for node in summary_of(self.folder / "s.json")[1].values()}

    def result(self):
        """What readers find: the rows of the table and of its files, the versions, and the marker's state."""
        lake = DeltaTable(files.for_deltalake(f"{self.root}/out/lake"))
        csv = files.listing(f"{self.root}/out/legacy", recursive=True)
        lines = [files.read_bytes(f"s3://{info.path}").decode().split("\n")[1:] for info in csv if ".csv" in info.path]
        marker = files.read_json(f"{self.root}/out/markers/small/{KEY}.json")
        rows = sorted(repr(row) for row in lake.to_pyarrow_table().to_pylist())
        text = sorted(line for one in lines for line in one if line)
        return rows, text, lake.version(), (marker["state"], marker["revision"], sorted(marker["tables"]))


@pytest.fixture
def job(store, tmp_path):
    return Job(store, tmp_path, tmp_path.name)


def test_a_job_runs_is_reused_and_verified_and_no_secret_is_stored(job, store):
    code, said = job()
    assert (code, set(job.states.values())) == (0, {"succeeded", "skipped"}), said
    rows, text, version, marker = job.result()
    assert (len(rows), len(text), version, marker) == (11, 11, 0, ("ready", 1, ["lake", "legacy"]))
    before = len(store.requests)
    code, said = job()
    assert (code, set(job.states.values())) == (0, {"reused", "skipped"}), said
    assert len(store.requests) - before < 650  # it merges the small files of the ledger, if the first run did not
    before = len(store.requests)
    assert job()[0] == 0
    assert len(store.requests) - before < 250  # nothing is left to merge
    assert {one.state for one in verify(job.events)} == {"ok"}
    stored = files.listing(job.root, recursive=True)
    for info in stored:
        if info.is_file:
            assert b"secret-of-the-store" not in files.read_bytes(f"s3://{info.path}"), info.path


def test_what_a_file_gives_to_spark_is_what_all_engines_use(store, tmp_path):
    job, name = Job(store, tmp_path, tmp_path.name), "AWS_ENDPOINT_URL"
    hadoop = {
        "endpoint": store.variables[name].partition("//")[2],
        "connection.ssl.enabled": "'false'",
        "path.style.access": "'true'",
        "endpoint.region": "us-east-1",
        "access.key": "key",
        "secret.key": "secret-of-the-store",
    }
    settings = "".join(f"  spark.hadoop.fs.s3a.{key}: {value}\n" for key, value in hadoop.items())
    (tmp_path / "small.yaml").write_text(f"{SMALL}spark:\n{settings}")
    job.store = SimpleNamespace(variables=dict.fromkeys(store.variables, ""))  # not in the job's environment
    code, said = job()
    assert (code, set(job.states.values())) == (0, {"succeeded", "skipped"}), said
    assert "secret-of-the-store" not in said
    for info in files.listing(job.root, recursive=True):
        if info.is_file:
            assert b"secret-of-the-store" not in files.read_bytes(f"s3://{info.path}"), info.path


def test_killed_at_random_moments_and_repeated_equals_never_killed(store, tmp_path):
    moments, expected, took = random.Random(17), None, 0.0
    for number in range(KILLS + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        job, began = Job(store, folder, f"{tmp_path.name}/{number}"), time.monotonic()
        if number:
            running = job.start()
            time.sleep(moments.uniform(took * 0.3, took))
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        code, said = job()
        assert code == 0, said
        expected, took = expected or job.result(), took or time.monotonic() - began
        assert job.result() == expected, (number, said)
        done = [event.node for event in job.events if event.state == "succeeded"]
        assert {node: done.count(node) for node in ONCE} == dict.fromkeys(ONCE, 1), (number, said)


@contextlib.contextmanager
def proxied(store, change):
    """The same store behind a proxy that changes the blocks of bytes that are sent to it; yields its address."""
    host, _, port = store.variables["AWS_ENDPOINT_URL"].partition("//")[2].partition(":")

    def pump(source, target, change):
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 16):
                target.sendall(change(block))
            target.shutdown(socket.SHUT_WR)

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection((host, int(port))) as there:
                back = threading.Thread(target=pump, args=(there, self.request, bytes))
                back.start()
                pump(self.request, there, change)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


DRIVER = """
import sys
import spark_flow as sf
from spark_flow.spark.session import session

me, root = sys.argv[1:]
spark = session("driver", schemes=["s3"], config={"spark.master": "local[1]"})

def load(run):
    row = spark.createDataFrame([(run.key, me)], "day STRING, driver STRING")
    sf.write(run, "lake", row, sf.delta(f"{root}/lake", mode="append"))

days = sf.SingleRunner(sf.pipeline(me, load, state=f"{root}/state", spark=spark), sf.daily("2013-01-01"))
print(days.run("2013-01-01..2013-01-04").counts)
"""


def slow(block):
    """Seconds between Delta's look at a version and its commit, in which the other driver does the same."""
    if block.startswith(b"PUT ") and b"/lake/_delta_log/0" in block[:200]:
        time.sleep(3)
    return block


def test_two_drivers_that_write_one_table_lose_no_commit(store, tmp_path):
    """Delta's log store for S3 lets one driver replace the commit of another, and both succeed."""
    root, command = f"s3://{BUCKET}/{tmp_path.name}", [sys.executable, "-c", DRIVER]
    with proxied(store, slow) as address:
        environment = {**ENVIRONMENT, **store.variables, "AWS_ENDPOINT_URL": address}
        how = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        drivers = [subprocess.Popen([*command, me, root], **how) for me in ("a", "b")]
        said = [driver.communicate()[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert all("'succeeded': 4" in words for words in said), said
    rows = DeltaTable(files.for_deltalake(f"{root}/lake")).to_pyarrow_table().to_pylist()
    days = [f"2013-01-{day:02d}" for day in range(1, 5)]
    assert sorted((row["driver"], row["day"]) for row in rows) == [(me, day) for me in ("a", "b") for day in days]


def test_who_waits_for_a_table_is_told_for_whom_and_a_lost_lease_is_no_success(store, tmp_path):
    table, told = f"s3://{BUCKET}/{tmp_path.name}/lake", []
    place = PoolDocument("", DeltaRegister(f"{table}/_spark_flow"))

    def first():
        with only_writer(table, "p", "1 lake"), ThreadPoolExecutor(1) as pool:
            waits = pool.submit(second)
            while not told:
                time.sleep(0.05)
            assert not waits.done()
            free(place, "1 lake")  # as another process does with one that is silent
            waits.result(30)
            time.sleep(TTL / RENEWALS + 2)  # it is told when it renews the lease

    def second():
        with only_writer(table, "q", "2 lake", told.append):
            pass

    with pytest.raises(LeaseLost):
        first()
    assert told == [f"2 lake waits for the table {table}: held by p 1 lake ({this_process()})"]


def test_of_eight_who_take_a_lease_one_has_it_and_the_token_grows(store, tmp_path):
    pool = Leases(f"s3://{BUCKET}/{tmp_path.name}/leases").of_pipeline("p")
    had, lock = [], threading.Lock()

    def take(_):
        try:
            with hold(pool, "p", "k", busy="exit") as lease:
                with lock:
                    had.append(lease.fence.token)
                time.sleep(3)
        except Busy:
            return "busy"
        return "held"

    with ThreadPoolExecutor(8) as eight:
        assert sorted(eight.map(take, range(8))) == ["busy"] * 7 + ["held"]
    with hold(pool, "p", "k", busy="exit") as lease:
        assert lease.fence.token > had[0]


def forgetful(block):
    """Renames the condition of a write, as a server without them ignores it."""
    return block.replace(b"if-none-match:", b"xx-none-match:")


@pytest.fixture
def unconditional(store, monkeypatch):
    with proxied(store, forgetful) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield f"s3://{BUCKET}/unconditional"


def test_a_store_without_conditional_writes_is_refused_for_leases_and_found_by_doctor(unconditional):
    with pytest.raises(StateNotWritable, match="If-None-Match"):
        Leases(f"{unconditional}/leases").of_pipeline("p")
    found = {one.name: one.fix for one in doctor._state(f"{unconditional}/state")}
    assert "If-None-Match" in found["leases"]


def test_a_store_with_conditional_writes_is_right(store):
    assert {one.name: one.fix for one in doctor._state(f"s3://{BUCKET}/right")} == dict.fromkeys(
        ("state folder", "leases", "clock"), ""
    )
    assert not [info for info in files.listing(f"s3://{BUCKET}/right", recursive=True) if info.is_file and info.size]


def test_the_ledger_on_a_store_refuses_who_was_overtaken(store, tmp_path):
    from test_ledger import event

    from spark_flow.ledger import Fence

    ledger = DeltaLedger(f"s3://{BUCKET}/{tmp_path.name}/state")
    ledger.append([event()], Fence("p/k", 2))
    with pytest.raises(Fenced):
        ledger.append([event()], Fence("p/k", 1))
