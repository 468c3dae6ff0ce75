"""A real Airflow: its scheduler, triggerer, API server and DAG processor as processes, on PostgreSQL."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BIN = Path(sys.executable).parent
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PATIENCE = 400  # seconds
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(scope="session")
def home():
    """A folder with the project's files, jobs for the tests, and DAGs of both; states and outputs are in it too."""
    folder = Path(tempfile.mkdtemp(prefix="spark_flow_airflow_"))
    for name in ("conf", "jobs", "data"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(HERE / "flows", folder / "flows")
    shutil.copytree(HERE / "dags", folder / "dags")
    shutil.copy(HERE.parent / "dags" / "book_examples.py", folder / "dags")
    yield folder
    if not os.environ.get("KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def database():
    """A server of PostgreSQL; returns its port."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="spark_flow_pg"))
    own = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to be root
    if own:
        shutil.chown(folder, "postgres")

    def program(name, *words):
        subprocess.run([str(PROGRAMS[-1] / name), *words], check=True, capture_output=True, cwd="/", **own)

    port = free_port()
    program("initdb", f"--pgdata={folder}/data", "--auth=trust", "--username=postgres", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    program("pg_ctl", "start", f"--pgdata={folder}/data", f"--log={folder}/log", f"--options={options}", "--wait")
    yield port
    program("pg_ctl", "stop", f"--pgdata={folder}/data", "--mode=immediate")
    shutil.rmtree(folder)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def settings(home, database):
    """The environment of Airflow's processes."""
    port = free_port()
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SPARK_FLOW_HOME": str(home),
        "SPARK_FLOW_NOTIFY": "",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": "tests",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, that is long enough for the library",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@127.0.0.1:{database}/postgres",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
        ),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow",
    }


class Airflow:
    """What the tests ask of it, by its REST API."""

    def __init__(self, env, home):
        self.env, self.home = env, home
        self.url = env["AIRFLOW__API__BASE_URL"]
        self.token = ""

    def cli(self, *words, check=True):
        done = subprocess.run([BIN / "airflow", *words], env=self.env, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def ask(self, path, body=None, method=None):
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()[:2000]}") from error

    def sign_in(self):
        self.token = self.ask("/auth/token")["access_token"]

    def start(self, dag, day=None, conf=None):
        body = {"logical_date": f"{day}T00:00:00Z" if day else None, "conf": conf or {}}
        return self.ask(f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"]

    def run(self, dag, run_id):
        return self.ask(f"/api/v2/dags/{dag}/dagRuns/{urllib.parse.quote(run_id)}")

    def runs(self, dag):
        return self.ask(f"/api/v2/dags/{dag}/dagRuns?limit=100")["dag_runs"]

    def tasks(self, dag, run_id):
        found = self.ask(f"/api/v2/dags/{dag}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances")["task_instances"]
        return {one["task_id"]: one for one in found}

    def states(self, dag, run_id):
        return {name: one["state"] for name, one in self.tasks(dag, run_id).items()}

    def result(self, dag, run_id, task):
        path = f"/api/v2/dags/{dag}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances/{task}/xcomEntries/return_value"
        value = self.ask(path)["value"]
        return json.loads(value) if isinstance(value, str) else value

    def clear(self, dag, run_id, **more):
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "include_downstream": True, **more}
        return self.ask(f"/api/v2/dags/{dag}/clearTaskInstances", body)

    def ended(self, dag, run_id, state="success"):
        found = until(
            lambda: (one := self.run(dag, run_id))["state"] in ("success", "failed") and one, f"{dag} {run_id}"
        )
        if found["state"] != state:
            raise AssertionError(
                f"{dag} {run_id}: {found['state']}, {self.states(dag, run_id)}\n{self.log(dag, run_id)}"
            )
        return found

    def log(self, dag, run_id):
        logs = sorted((self.home / "airflow" / "logs").glob(f"dag_id={dag}/run_id={run_id}/**/*.log"))
        return "\n".join(f"--- {path}\n{path.read_text()[-3000:]}" for path in logs)


def until(look, what, patience=PATIENCE):
    """Look until something is found, and return it."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not in {patience} s: {what}")


@pytest.fixture(scope="session")
def airflow(settings, home):
    """Airflow, started."""
    ours = Airflow(settings, home)
    (home / "airflow").mkdir()
    ours.cli("db", "migrate")
    ours.cli("pools", "set", "etl", "4", "workload pool of conf/pools.yaml")
    with contextlib.ExitStack() as ends:
        for name in COMPONENTS:
            log = ends.enter_context((home / f"{name}.log").open("w"))
            process = subprocess.Popen(
                [BIN / "airflow", name], env=settings, stdout=log, stderr=log, start_new_session=True
            )
            ends.callback(stop, process)

        def answers():
            try:
                ours.sign_in()
                health = ours.ask("/api/v2/monitor/health")
                dags = ours.ask("/api/v2/dags?limit=100")["total_entries"]
            except (AssertionError, OSError):
                return False
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            return dags >= ours.expected and all(health[part]["status"] == "healthy" for part in parts)

        ours.expected = 17
        until(answers, "a healthy Airflow")
        yield ours


def stop(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
