"""Nothing that belongs to the whole process is changed and restored around a call: other threads would see it."""

import ast
import logging
import pathlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import spark_flow
from spark_flow.core import notify
from spark_flow.errors import NotNotified
from spark_flow.spark.session import existing, session

PACKAGE = pathlib.Path(spark_flow.__file__).parent

FORBIDDEN = {
    "contextlib.redirect_stdout", "contextlib.redirect_stderr", "contextlib.chdir", "os.chdir", "os.fchdir",
    "os.umask", "os.putenv", "os.unsetenv", "os.environ.update", "os.environ.pop", "os.environ.setdefault",
    "os.environ.clear", "os.dup2", "sys.setrecursionlimit", "sys.settrace", "sys.setprofile", "sys.path.insert",
    "sys.path.append", "sys.path.remove", "sys.modules.pop", "sys.modules.setdefault", "sys.modules.update",
    "warnings.filterwarnings", "warnings.simplefilter", "warnings.catch_warnings", "warnings.resetwarnings",
    "logging.disable", "logging.basicConfig", "logging.captureWarnings", "logging.setLogRecordFactory",
    "logging.setLoggerClass", "signal.signal", "signal.setitimer", "signal.alarm", "locale.setlocale",
    "random.seed", "socket.setdefaulttimeout", "threading.settrace", "threading.setprofile", "threading.stack_size",
    "decimal.setcontext", "time.tzset", "faulthandler.enable", "gc.disable", "multiprocessing.set_start_method",
    "importlib.reload", "yaml.add_constructor", "OmegaConf.register_new_resolver", "OmegaConf.clear_resolvers",
}  # fmt: skip
METHODS = {"setLevel", "setLogLevel", "setCheckpointDir", "addHandler", "removeHandler", "removeFilter", "unset"}
ASSIGNED = {
    "os.environ", "sys.stdout", "sys.stderr", "sys.stdin", "sys.path", "sys.modules", "sys.argv", "sys.excepthook",
    "threading.excepthook", "tempfile.tempdir", "socket.socket", "builtins.print", "pandas.options",
}  # fmt: skip

ALLOWED = {
    (
        "jobfile/model/references.py",
        "sys.path.insert",
    ): "a job's own folder, put there once and left there, as Python does",
    ("cli/submit.py", "signal.signal"): "just before this process is replaced by spark-submit",
    ("cli/job.py", "os.environ"): "by the command line, before anything runs: jobs that it starts have the same server",
    (
        "jobfile/request.py",
        "os.environ",
    ): "before anything of a job is opened: its engines and jobs have the same store",
    ("cli/job.py", "os.environ.pop"): "as above: PySpark refuses a master beside a server",
    ("cli/commands/orchestrators.py", "signal.signal"): "once, in the process of a worker, that SIGTERM interrupts it",
    ("view/logs.py", "signal.signal"): "once, in the process of a job, that Ctrl-C interrupts it",
    ("view/logs.py", "logging.root.addHandler"): "once, at the entry of a job's process, where nobody else has one",
    ("view/logs.py", "os.environ.setdefault"): "once, at the entry of a job's process, for the JVM that it starts",
    ("spark/session.py", "PySparkLogger.getLogger(name).setLevel"): "once, in the job's own session",
    ("testing/crash.py", "sys.path.insert"): "the program of a process of its own, before anything else runs in it",
    (
        "fan_out/branch_application.py",
        "spark.conf.set",
    ): "in the session that this process, an application, has made itself",
    ("storage/merge.py", "alone.conf.set"): "in a session made for the one MERGE",
    ("core/fingerprint.py", "session.conf.set"): "in a session made for the one statement",
    ("sequence/isolated_sequencer/trigger.py", "signal.signal"): (
        "by the main thread alone, the only one that may, while it waits: no other one can come between"
    ),
}


def changes(file):
    """What a module does to its process, as names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN or name.rpartition(".")[2] in METHODS or name.endswith("conf.set"):
                yield name
        targets = {ast.Assign: "targets", ast.Delete: "targets", ast.AugAssign: "target", ast.AnnAssign: "target"}
        found = getattr(node, targets[type(node)]) if type(node) in targets else []
        for target in found if isinstance(found, list) else [found]:
            base = ast.unparse(target.value if isinstance(target, ast.Subscript) else target)
            if base in ASSIGNED:
                yield base


def test_the_package_changes_nothing_of_its_process_but_what_is_listed_with_a_reason():
    found = {(file.relative_to(PACKAGE).as_posix(), name) for file in PACKAGE.rglob("*.py") for name in changes(file)}
    assert found == set(ALLOWED)


CHANGES = """os.environ['X'] = '1'; del os.environ['X']; os.environ |= {}; sys.stdout = s; log.setLevel(9)
spark.conf.unset('x'); self.spark.conf.set('a', 'b'); contextlib.redirect_stdout(s).__enter__(); sys.path[:] = []"""


@pytest.mark.parametrize("text", re.split(r";|\n", CHANGES))
def test_the_search_finds(tmp_path, text):
    (tmp_path / "m.py").write_text(text.strip())
    assert len(list(changes(tmp_path / "m.py"))) == 1


# --- notifications -----------------------------------------------------------------------------------------------


def test_a_notification_leaves_others_loggers_as_they_are(webhook, monkeypatch, caplog):
    """While one thread sends, another one's lines are heard; of the sending itself nothing is, at any level."""
    import apprise  # noqa: F401 - what it says when it is imported holds no address

    address, told = webhook
    monkeypatch.setenv("FLOW_NOTIFY", f"{address} {address}more")
    caplog.set_level(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "urllib3.connectionpool", "requests")]
    before = [logger.level for logger in loggers]
    sending, heard = threading.Event(), []

    def watch():
        sending.wait(5)
        while not stop.is_set():
            heard.append([logger.level for logger in loggers])
            loggers[0].error("another thread's line")

    stop = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        other = pool.submit(watch)
        sending.set()
        list(pool.map(lambda _: notify.send("FLOW_NOTIFY", "t", "b"), range(6)))
        stop.set()
        other.result(5)
    assert len(told) == 12
    assert all(levels == before for levels in heard)
    assert [logger.level for logger in loggers] == before
    ours = [record for record in caplog.records if record.name.partition(".")[0] in notify._LOGGERS]
    assert {record.getMessage() for record in ours} == {"another thread's line"}
    assert len(ours) == len(heard)


@pytest.mark.parametrize("address", ["json://user:secret@127.0.0.1:1/", "nosuchservice://user:secret@host/"])
def test_what_cannot_be_sent_says_no_secret_at_any_level(address, monkeypatch, caplog, capfd):
    monkeypatch.setenv("FLOW_NOTIFY", address)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotNotified) as error:
        notify.send("FLOW_NOTIFY", "t", "b")
    assert "secret" not in "".join([caplog.text, str(error.value), *capfd.readouterr()])


# --- a session that somebody else has made -----------------------------------------------------------------------


@pytest.mark.spark
def test_a_session_made_by_another_thread_is_taken_as_it_is(spark):
    before = spark.conf.get("spark.sql.shuffle.partitions")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(session, "x", config={"spark.sql.shuffle.partitions": "77"}).result()
        there = pool.submit(existing).result()
    assert spark.conf.get("spark.sql.shuffle.partitions") == before
    assert taken is there is spark
