"""What Spark and PySpark log in the process of a job: nothing that its own message says, or with --debug all."""

from __future__ import annotations

import logging
import os
import signal
import threading

LEVEL, ABORTS = "SPARK_FLOW_LOGS", "SPARK_FLOW_ABORTS"  # looked up by resources/log4j2.properties
SIGINT = "SPARK_FLOW_SIGINT"  # set by spark-submit.sh
_QUERY_CONTEXT = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")


def begin(*, debug: bool) -> None:
    """Set up the process of a job, once, before anything else; what is set up already is left.

    Args:
        debug: Have a JVM that is started from here log all. One that is there, by spark-submit, has its settings.
    """
    if os.environ.get(SIGINT) and threading.current_thread() is threading.main_thread():
        # spark-submit.sh has left Ctrl-C to the job: it had the JVM, and so us, ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if debug:
        os.environ.setdefault(LEVEL, "info")
        os.environ.setdefault(ABORTS, "NEUTRAL")
    elif not logging.root.handlers:  # else the first one who logs makes one, and Py4J logs an interrupt with its stack
        handler = logging.StreamHandler()
        handler.addFilter(lambda record: f"{os.sep}py4j{os.sep}" not in record.pathname)
        logging.root.addHandler(handler)


def quiet() -> None:
    """Once the job's own session is there: PySpark prints no error as a line of JSON as well, and takes no Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        # PySpark's own asks the JVM within a call to it, which fails and breaks the call's connection.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get(LEVEL):
        return
    from pyspark.logger import PySparkLogger

    for name in _QUERY_CONTEXT:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
