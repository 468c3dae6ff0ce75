"""Runs the tasks that a state machine puts in a queue, and reports each to its token.

A task is ``sqs:sendMessage.waitForTaskToken``, see
https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html. A message stays hidden in the queue while
its worker lives. If the worker is killed, the message comes back, and the next one runs the same command: what
succeeded is reused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_flow.errors import EnvironmentTooOld, InvalidArgument, NotNow, UsageError, describe
from spark_flow.export.step_functions import FAILED, RETRY_LATER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

USAGE = "SparkFlow.Usage"
BEAT = 30  # seconds after which a message is hidden again, each time for four times as long
_PAUSE = 5  # seconds after an error of AWS
_KILLED_AFTER = 60  # seconds after an interrupt
_LONGEST = 20  # seconds that the queue is asked for a message
_CAUSE = 32_000  # characters of a cause, which Step Functions limits


@dataclass(frozen=True, kw_only=True)
class Message:
    """A task of a state machine.

    Attributes:
        token: The token that its outcome is reported to.
        arguments: Of ``spark-flow``: ``run``, the file, the key.
        receipt: By which the queue knows it.
    """

    token: str
    arguments: tuple[str, ...]
    receipt: str


class TokenWorker:
    """Takes one message at a time.

    Args:
        queue_url: The queue of SQS.
        say: Called with what it does.
        beat: Seconds after which a message is hidden again, each time for four times as long.

    Raises:
        EnvironmentTooOld: boto3 is not installed.
        InvalidArgument: The region is not known, or there is no such queue.
    """

    def __init__(self, queue_url: str, *, say: Callable[[str], None], beat: float = BEAT) -> None:
        try:
            import boto3
        except ImportError as error:
            raise EnvironmentTooOld("token-worker", "no boto3", "boto3", "pip install boto3") from error
        self._queue_url = queue_url
        self._say = say
        self._beat = beat
        try:
            self._queue: Any = boto3.client("sqs", region_name=_region(queue_url))
            self._machine: Any = boto3.client("stepfunctions", region_name=_region(queue_url))
            self._queue.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        except Exception as error:
            raise InvalidArgument("--queue-url", describe(error), "the URL of a queue of SQS, or AWS_REGION") from error

    def work(self, *, most: int | None = None) -> None:
        """Take messages until it is interrupted, or until it has taken as many as asked for."""
        taken = 0
        while most is None or taken < most:
            found: Mapping[str, Any] = {}
            with self._reported("the queue did not answer"):
                found = self._queue.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=1,
                    WaitTimeSeconds=_LONGEST,
                    VisibilityTimeout=int(4 * self._beat),
                )
            for raw in found.get("Messages", ()):
                taken += 1
                self._take(raw)

    def _take(self, raw: Mapping[str, Any]) -> None:
        try:
            message = _message(raw)
        except (KeyError, TypeError, ValueError) as error:
            self._say(f"found a message that is no task ({describe(error)}); it is deleted")
            self._delete(raw["ReceiptHandle"])
            return
        self._say(f"spark-flow {' '.join(message.arguments)}")
        ended = threading.Event()
        beats = threading.Thread(target=self._keep_hidden, args=(message, ended), daemon=True)
        beats.start()
        try:
            code, summary, last = run(message.arguments)
        finally:
            ended.set()
            beats.join()
        if self._report(message, code, summary, last):
            self._delete(message.receipt)

    def _delete(self, receipt: str) -> None:
        with self._reported("the message was not deleted"):
            self._queue.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt)

    def _keep_hidden(self, message: Message, ended: threading.Event) -> None:
        while not ended.wait(self._beat):
            with self._reported("the message was not kept hidden"):
                self._queue.change_message_visibility(
                    QueueUrl=self._queue_url, ReceiptHandle=message.receipt, VisibilityTimeout=int(4 * self._beat)
                )

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """Go on after an error of AWS, after a pause: a message that was not deleted comes back."""
        try:
            yield
        except Exception as error:
            self._say(f"{what}: {describe(error)}")
            time.sleep(_PAUSE)

    def _report(self, message: Message, code: int, summary: Mapping[str, Any], last: str) -> bool:
        """Report an outcome; returns whether nothing waits for it any more. If not, the message comes back."""
        reason = str(summary.get("reason") or last)[:_CAUSE]
        kinds = {NotNow.exit_code: RETRY_LATER, UsageError.exit_code: USAGE}
        known = self._machine.exceptions
        try:
            if code:
                kind = kinds.get(code, FAILED)
                self._say(f"exit code {code}: {kind}")
                self._machine.send_task_failure(taskToken=message.token, error=kind, cause=reason)
            else:
                result = outcome(summary, message.arguments)
                self._say(f"done: {json.dumps(result)}")
                self._machine.send_task_success(taskToken=message.token, output=json.dumps(result))
        except (known.TaskTimedOut, known.TaskDoesNotExist, known.InvalidToken) as error:
            self._say(f"its state machine waits for it no more: {describe(error)}")
        except Exception as error:
            self._say(f"its outcome was not reported, so the task comes back: {describe(error)}")
            return False
        return True


def _region(queue_url: str) -> str | None:
    """The region in the URL of a queue; of another server that of the environment."""
    found = re.match(r"https://sqs\.([a-z0-9-]+)\.", queue_url)
    return found[1] if found else os.environ.get("AWS_REGION")


def _message(raw: Mapping[str, Any]) -> Message:
    body = json.loads(raw["Body"])
    arguments = tuple(map(str, body["arguments"]))
    if arguments[:1] != ("run",):
        raise ValueError(f"{arguments[:1]} is not run")
    return Message(token=body["token"], arguments=arguments, receipt=raw["ReceiptHandle"])


def run(arguments: Sequence[str]) -> tuple[int, dict[str, Any], str]:
    """Run ``spark-flow``; returns its exit code, the run's summary, and the last line that it printed."""
    last = "it printed nothing"
    with tempfile.TemporaryDirectory(prefix="spark-flow-") as folder:
        path = Path(folder) / "summary.json"
        program = [sys.executable, "-m", "spark_flow.cli.app", *arguments, f"--summary-json={path}"]
        how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(program, text=True, errors="replace", **how)  # noqa: S603 - `run`, as checked above
        try:
            for line in process.stdout or ():
                sys.stdout.write(line)
                last = line.rstrip() or last
            process.wait()
        finally:
            _end(process)
        summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return process.returncode, summary, last


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt a job that still runs, as its worker ends: it releases its lease."""
    for sent in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED_AFTER)


def outcome(summary: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return a task's result: ``{pipeline, key, generation, attempt, state}``, and the ``route`` of its last choice."""
    until = next((after for word, after in pairwise(arguments) if word == "--until"), "")
    result = {name: summary.get(name) for name in ("pipeline", "key", "generation", "attempt", "state")}
    routes = {node["node"]: node["route"] for node in summary.get("nodes", ()) if "route" in node}
    return result | ({"route": routes[until]} if until in routes else {})
