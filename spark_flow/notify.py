"""Notifications by Apprise (https://github.com/caronc/apprise) to any of its services.

Addresses hold secrets: they come from an environment variable only, and no message, log or ledger tells them.
"""

from __future__ import annotations

import logging
import os

from spark_flow.errors import NotNotified


def is_set(variable: str) -> bool:
    """Whether an environment variable holds anything."""
    return bool(os.environ.get(variable, "").strip())


def send(variable: str, title: str, body: str) -> None:
    """Send a message to all addresses in an environment variable, separated by blanks or commas.

    Raises:
        NotNotified: An address is none, or a service did not take the message.
    """
    loggers = {name: logging.getLogger(name) for name in ("apprise", "urllib3", "requests")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.CRITICAL + 1)  # what they say shows addresses
    try:
        wrong = _send(os.environ.get(variable, ""), title, body)
    except Exception as error:
        wrong = type(error).__name__  # its text may show an address
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
    if wrong:
        raise NotNotified(variable, wrong)


def _send(addresses: str, title: str, body: str) -> str:
    """Why it was not sent to all; empty when it was."""
    import apprise

    services = apprise.Apprise()
    if not services.add(addresses) or not len(services):
        return "an address is none that Apprise knows"
    return "" if services.notify(body=body, title=title) else f"of {len(services)} service(s) not all took it"
