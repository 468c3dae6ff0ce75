"""On a standalone cluster of processes: jobs, runners and splits end with the same rows, and so do kills.

``make cluster`` runs these; ``CLUSTER_KILLS=20`` sets how many kills there are of each kind.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cluster import standalone
from conftest import stored, stored_csv
from test_crash import KEY, ONCE, SMALL, small_result, successes

from jobs import ENVIRONMENT, ROOT, summary_of
from spark_flow.spark.jars import pyspark_home

pytestmark = [pytest.mark.cluster, pytest.mark.process]
KILLS = int(os.environ.get("CLUSTER_KILLS", "1"))
EXECUTORS = ["--conf", "spark.executor.memory=512m", "--conf", "spark.sql.shuffle.partitions=4"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with standalone(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class Submitted:
    """Jobs that are submitted to a cluster, with their state and output in a folder that all nodes see."""

    def __init__(self, cluster, root):
        self.cluster, self.root = cluster, root

    def start(self, job, *words, options=EXECUTORS):
        submit = [sys.executable, "-m", "spark_flow.cli.submit", "--master", self.cluster.master, *options]
        places = [f"state={self.root}/state", f"output={self.root}/out"]
        command = [*submit, str(job), *words, *places, f"--summary-json={self.root}/s.json"]
        with (self.root / "job.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __call__(self, job, *words, options=EXECUTORS):
        """Run a job to its end; returns its exit code and all that was printed so far."""
        code = self.start(job, *words, options=options).wait()
        return code, (self.root / "job.log").read_text()

    @property
    def nodes(self):
        return summary_of(self.root / "s.json")[1]


@pytest.fixture
def submitted(cluster, tmp_path):
    return Submitted(cluster, tmp_path)


def applications(cluster):
    return (cluster.folder / "master.log").read_text().count("Registered app")


def plain_small(spark):
    """The rows of the small job by a plain script."""
    from flights import SCHEMA

    paths = [f"data/flights/date={KEY}/hour={hour}" for hour in ("05", "06")]
    late = spark.read.schema(SCHEMA).json([str(ROOT / path) for path in paths]).where("dep_delay > 15")
    return sorted((KEY, row.carrier, row.flight) for row in late.collect())


def test_the_main_job_runs_on_the_workers_and_is_reused(submitted, cluster, spark):
    before = applications(cluster)
    code, said = submitted("jobs/daily_flights.py", f"key={KEY}")
    assert code == 0, said
    assert applications(cluster) == before + 1
    work = [path for path in cluster.folder.glob("worker*/app-*/*/stderr") if path.stat().st_size]
    assert len({path.parts[-4] for path in work}) == 2, "both workers have run tasks"
    rows = stored(submitted.root / "out" / "daily_flights", "carrier", "origin", "flights")
    assert rows == main_rows(spark)
    code, said = submitted("jobs/daily_flights.py", f"key={KEY}")
    assert (code, {node["state"] for node in submitted.nodes.values()}) == (0, {"reused"}), said
    assert applications(cluster) == before + 1, "nothing was left to do for Spark"


def main_rows(spark):
    from flights import SCHEMA, clean

    hours = spark.read.schema(SCHEMA).json(str(ROOT / "data" / "flights" / f"date={KEY}"))
    counted = clean(hours.drop("date")).groupBy("carrier", "origin").count()
    return sorted(tuple(row) for row in counted.collect())


@pytest.mark.parametrize("mode", ["threads", "intermediary"])
def test_a_split_runs_in_one_application_or_in_one_for_each_branch_with_resources_of_its_own(submitted, cluster, mode):
    before = applications(cluster)
    split, memory = "flow[2].parallel_split", {"lake": "512m", "enriched": "640m", "legacy": "512m"}
    own = [
        f"{split}.sinks.{name}.spark={{spark.cores.max: 1, spark.executor.memory: {of}}}" for name, of in memory.items()
    ]
    own = own if mode == "intermediary" else []
    words = [f"key={KEY}", f"{split}.mode={mode}", f"{split}.max_in_flight=1", *own]
    one_core = [*EXECUTORS, "--conf", "spark.cores.max=1"]  # the other one is for the branches' own applications
    code, said = submitted("jobs/parallel_split.py", *words, options=one_core)
    assert code == 0, said
    assert applications(cluster) == before + (4 if own else 1)
    counts = {
        name: len(stored(submitted.root / "out" / f"split_{name}", "carrier")) for name in ("flights", "enriched")
    }
    counts["legacy"] = len(stored_csv(submitted.root / "out" / "split_legacy", "carrier"))
    assert set(counts.values()) == {943}


@pytest.mark.parametrize("kind", ["single", "concurrent"])
def test_the_runners_run_days_on_the_workers(submitted, kind):
    words = ["2013-01-01..2013-01-03"]
    code, said = submitted(f"jobs/{kind}_runner.py", *words)
    assert code == 0, said
    name = {"single": "daily_trend", "concurrent": "daily_loads"}[kind]
    days = {str(row[0]) for row in stored(submitted.root / "out" / name, "date")}
    assert days == {"2013-01-01", "2013-01-02", "2013-01-03"}


LONELY = """
import os, sys
from pyspark.sql.functions import udf
import spark_flow
from spark_flow.spark.session import session

spark = session("lonely")
where = udf(lambda _: __import__("spark_flow").__file__)
print("executors:", *{row[0] for row in spark.range(4).repartition(2).select(where("id")).collect()})
print("driver:", spark_flow.__file__)
"""


def test_a_bundle_is_used_by_a_python_that_has_no_spark_flow(cluster, tmp_path):
    """The wheel in an environment of its own, packed; driver and executors run the machine's Python with it."""
    environment, packed = tmp_path / "made", tmp_path / "environment.tar.gz"
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([*pip, f"{ROOT}[bundle]"], check=True)
    subprocess.run([environment / "bin" / "spark-flow", "bundle", "--out", packed], check=True, cwd=tmp_path)
    shutil.rmtree(environment)
    unpacked, program = tmp_path / "environment", tmp_path / "lonely.py"
    shutil.unpack_archive(packed, unpacked, filter="fully_trusted")
    program.write_text(LONELY)
    options = ["--archives", f"{packed}#environment", "--conf", "spark.pyspark.python=./environment/bin/python"]
    command = [unpacked / "bin" / "python", "-m", "spark_flow.cli.submit", "--master", cluster.master]
    variables = {**ENVIRONMENT, "SPARK_HOME": str(pyspark_home()), "DELTA": "no"}
    variables.pop("PYTHONPATH", None)
    submit = [*command, *EXECUTORS, *options, program]
    done = subprocess.run(submit, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert said["driver"].startswith(f"{unpacked}/lib/"), said
    assert "/environment/lib/" in said["executors"], said
    assert str(tmp_path) not in said["executors"], "each executor has unpacked it for itself"


@pytest.mark.timeout(600 + 150 * KILLS)
@pytest.mark.parametrize("lost", ["driver", "worker", "both"])
def test_kills_at_random_moments_and_repeated_equals_never_killed(cluster, tmp_path, spark, lost):
    """The machine of a worker, of the driver, or both are lost at some moment; the command is repeated."""
    (tmp_path / "small.yaml").write_text(SMALL)
    moments, expected, took = random.Random(lost), None, 0.0
    for number in range(KILLS + 1):
        root = tmp_path / str(number)
        root.mkdir()
        submitted = Submitted(cluster, root)
        words = ["jobs/daily_flights.py", f"--config={tmp_path}/small.yaml", f"key={KEY}"]
        began = time.monotonic()
        if number:
            job = submitted.start(*words)
            time.sleep(moments.uniform(took * 0.3, took))
            if lost != "driver":
                worker = moments.choice([name for name in cluster.processes if name != "master"])
                cluster.kill(worker)
            if lost != "worker":
                os.killpg(job.pid, signal.SIGKILL)
            code = job.wait()
            assert code in ((0, -signal.SIGKILL) if lost != "worker" else (0, 1)), (root / "job.log").read_text()
            if lost != "driver":
                cluster.start_worker(worker)
        code, said = submitted(*words)
        assert code == 0, said
        if expected is None:
            took, expected = time.monotonic() - began, small_result(root)
            lake = stored(root / "out" / "lake", "date", "carrier", "flight")
            assert [(str(day), *rest) for day, *rest in lake] == plain_small(spark)
        assert small_result(root) == expected, (number, said)
        if lost == "driver":
            assert successes(root, "small", ONCE) == dict.fromkeys(ONCE, 1), (number, said)
