"""Send notifications with Apprise (https://github.com/caronc/apprise), to any service that it supports.

Addresses contain secrets: they come from an environment variable only, and never appear in a message, log or ledger.
"""

from __future__ import annotations

import contextvars
import logging
import os

from spark_flow.errors import NotNotified

_LOGGERS = ("apprise", "requests", "urllib3", "slixmpp")  # their log records contain addresses
_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("spark_flow_sending", default=False)


def is_set(variable: str) -> bool:
    """Whether an environment variable has a value that is not blank."""
    return bool(os.environ.get(variable, "").strip())


def send(variable: str, title: str, body: str) -> None:
    """Send a message to all addresses in an environment variable, separated by blanks or commas.

    Raises:
        NotNotified: An address is invalid, or a service rejected the message.
    """
    before = _sending.set(True)
    try:
        wrong = _send(os.environ.get(variable, ""), title, body)
    except Exception as error:
        wrong = type(error).__name__  # its message may contain an address
    finally:
        _sending.reset(before)
    if wrong:
        raise NotNotified(variable, wrong)


def _send(addresses: str, title: str, body: str) -> str:
    """Send a message; returns why it failed, or an empty string."""
    import apprise

    _silence()
    # Services are called one by one in this thread: log records of a thread pool could not be attributed to us.
    services = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    if not services.add(addresses) or not len(services):
        return "an address is not supported by Apprise"
    _silence()  # a service's own module may have added loggers
    return "" if services.notify(body=body, title=title) else f"not all of {len(services)} service(s) accepted it"


def _silence() -> None:
    """Suppress log records of these libraries during our own calls only.

    Uses a filter that stays installed: a log level applies to the whole process, so other threads would lose records.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in _LOGGERS and isinstance(logger, logging.Logger):
            logger.addFilter(_is_others)


def _is_others(_: logging.LogRecord) -> bool:
    return not _sending.get()
