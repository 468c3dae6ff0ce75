"""Logging of Spark and PySpark in a job's process: errors are not logged twice, and --debug logs everything."""

from __future__ import annotations

import logging
import os
import signal
import threading

LEVEL, ABORTS = "SPARK_FLOW_LOGS", "SPARK_FLOW_ABORTS"  # read by resources/log4j2.properties
SIGINT = "SPARK_FLOW_SIGINT"  # set by spark-submit.sh


def begin(*, debug: bool) -> None:
    """Set up the logging and signals of a job's process, before anything else; existing settings are not changed.

    Args:
        debug: Let a JVM that this process starts log everything. A JVM started by spark-submit has its own settings.
    """
    if os.environ.get(SIGINT) and threading.current_thread() is threading.main_thread():
        # spark-submit.sh lets the JVM ignore Ctrl-C, which this process inherits; the job handles it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if debug:
        os.environ.setdefault(LEVEL, "info")
        os.environ.setdefault(ABORTS, "NEUTRAL")
    elif not logging.root.handlers:  # else the first log call adds a handler, and Py4J logs an interrupt with its stack
        handler = logging.StreamHandler()
        handler.addFilter(lambda record: f"{os.sep}py4j{os.sep}" not in record.pathname)
        logging.root.addHandler(handler)


def quiet() -> None:
    """Restore our Ctrl-C handler; call it once the session exists."""
    if threading.current_thread() is threading.main_thread():
        # PySpark's handler calls the JVM in the middle of another call, which fails and breaks the connection.
        signal.signal(signal.SIGINT, signal.default_int_handler)
