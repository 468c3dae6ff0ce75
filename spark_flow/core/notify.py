"""Notifications by Apprise (https://github.com/caronc/apprise) to any of its services.

Addresses hold secrets: they come from an environment variable only, and no message, log or ledger tells them.
"""

from __future__ import annotations

import contextvars
import logging
import os

from spark_flow.errors import NotNotified

_TALKERS = ("apprise", "requests", "urllib3", "slixmpp")  # what their loggers say of a call shows addresses
_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("spark_flow_sending", default=False)


def is_set(variable: str) -> bool:
    """Whether an environment variable holds anything."""
    return bool(os.environ.get(variable, "").strip())


def send(variable: str, title: str, body: str) -> None:
    """Send a message to all addresses in an environment variable, separated by blanks or commas.

    Raises:
        NotNotified: An address is none, or a service did not take the message.
    """
    before = _sending.set(True)
    try:
        wrong = _send(os.environ.get(variable, ""), title, body)
    except Exception as error:
        wrong = type(error).__name__  # its text may show an address
    finally:
        _sending.reset(before)
    if wrong:
        raise NotNotified(variable, wrong)


def _send(addresses: str, title: str, body: str) -> str:
    """Why it was not sent to all; empty when it was."""
    import apprise

    _silence()
    # One service after another, in this thread: what is logged by threads of a pool could not be told from others'.
    services = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    if not services.add(addresses) or not len(services):
        return "an address is none that Apprise knows"
    _silence()  # a service's own module may have brought loggers
    return "" if services.notify(body=body, title=title) else f"of {len(services)} service(s) not all took it"


def _silence() -> None:
    """Keep what is logged within a call of ours from being said; what others log stays as it is.

    By a filter that stays, not by levels: those are of the whole process, and other threads would lose their lines.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in _TALKERS and isinstance(logger, logging.Logger):
            logger.addFilter(_is_others)


def _is_others(_: logging.LogRecord) -> bool:
    return not _sending.get()
