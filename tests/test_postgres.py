"""PostgreSQL as a source, killed at each point while its rows change: what a retry reads again, and what it does not.

Needs a PostgreSQL server's programs (Debian's package ``postgresql``), which are started here on loopback.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs import CRASH, ENVIRONMENT, ROOT, table

pytestmark = [pytest.mark.nightly, pytest.mark.process]

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
JOB = """
from spark_flow.cli import job

def main(argv=None, observers=()):
    return job.main(argv, job=__file__, observers=observers)

if __name__ == "__main__":
    raise SystemExit(main())
"""
FILE = """
pipeline: rates
key: ???
spark:
  spark.jars.packages: org.postgresql:postgresql:42.7.14
sources:
  rates: {{format: jdbc, options: {{url: "{url}", dbtable: rates, driver: org.postgresql.Driver, user: postgres}}}}
flow:
  - read: rates
  - step: {{name: day, sql: "SELECT *, '${{key}}' AS day FROM {{frame}}", restart: {restart}}}
  - write: {{name: lake, format: delta, path: "${{output}}/lake", partition_by: day}}
"""


@pytest.fixture(scope="module")
def server():
    """A server of its own; returns its port."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL's initdb is not installed")
    folder = Path(tempfile.mkdtemp(prefix="spark_flow_pg"))
    own = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to be root
    if own:
        shutil.chown(folder, "postgres")

    def program(name, *words):
        subprocess.run([str(PROGRAMS[-1] / name), *words], check=True, capture_output=True, cwd="/", **own)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program("initdb", f"--pgdata={folder}/data", "--auth=trust", "--username=postgres", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    program("pg_ctl", "start", f"--pgdata={folder}/data", f"--log={folder}/log", f"--options={options}", "--wait")
    yield port
    program("pg_ctl", "stop", f"--pgdata={folder}/data", "--mode=immediate")
    shutil.rmtree(folder)


@pytest.fixture
def rates(server, tmp_path):
    """Set the table's only rate, and run the job; returns its exit code and what it printed."""

    class Rates:
        rows = staticmethod(lambda: table(tmp_path / "out" / "lake"))

        def set(self, rate):
            sql = f"DROP TABLE IF EXISTS rates; CREATE TABLE rates AS SELECT 'EUR' AS name, {rate} AS rate"
            psql = ["psql", "--host=127.0.0.1", f"--port={server}", "--username=postgres", f"--command={sql}"]
            subprocess.run(psql, check=True, capture_output=True)

        def write(self, *, restart):
            (tmp_path / "jobs").mkdir(exist_ok=True)
            (tmp_path / "jobs" / "rates.py").write_text(JOB)
            url = f"jdbc:postgresql://127.0.0.1:{server}/postgres"
            (tmp_path / "rates.yaml").write_text(FILE.format(url=url, restart=str(restart).lower()))

        def run(self, *crash):
            program = [CRASH, *crash, f"{tmp_path}/jobs/rates.py"] if crash else [f"{tmp_path}/jobs/rates.py"]
            words = [
                "--config",
                f"{tmp_path}/rates.yaml",
                "key=d1",
                f"state={tmp_path}/state",
                f"output={tmp_path}/out",
            ]
            command = [sys.executable, *program, *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
            return done.returncode, done.stdout + done.stderr

    return Rates()


@pytest.mark.parametrize(
    ("node", "point", "expected"),
    [
        *(("day", point, 2) for point in ("before_action", "during_action", "before_event")),
        ("day", "after_event", 1),
        *(("lake", point, 1) for point in ("before_action", "before_commit", "after_commit", "before_event")),
    ],
)
def test_a_recorded_checkpoint_pins_the_rows_and_nothing_else_does(rates, node, point, expected):
    rates.write(restart=True)
    rates.set(1)
    code, said = rates.run(point, node)
    assert code == -9, said
    rates.set(2)
    code, said = rates.run()
    assert (code, rates.rows()) == (0, [("EUR", expected, "d1")]), said
    rates.set(3)
    assert (rates.run()[0], rates.rows()) == (0, [("EUR", expected, "d1")])  # all is reused


@pytest.mark.parametrize(("point", "expected"), [("before_commit", 2), ("after_commit", 1), ("before_event", 1)])
def test_without_a_checkpoint_the_commit_pins_them(rates, point, expected):
    """What was committed is found, and is not replaced by the rows of a second attempt."""
    rates.write(restart=False)
    rates.set(1)
    assert rates.run(point, "lake")[0] == -9
    rates.set(2)
    code, said = rates.run()
    assert (code, rates.rows()) == (0, [("EUR", expected, "d1")]), said


def test_a_server_that_is_down_is_tried_again_and_then_named(rates, tmp_path):
    rates.write(restart=False)
    file = tmp_path / "rates.yaml"
    text = file.read_text()
    file.write_text(text.replace(text.partition("127.0.0.1:")[2].partition("/")[0], "1"))
    code, said = rates.run()
    assert (code, "SourceNotReadable" in said or "rates" in said) == (1, True), said
