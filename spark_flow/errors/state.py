"""The state folder cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

from spark_flow.errors.base import RunError, StateError


@dataclass(eq=False, repr=False)
class StateNotWritable(StateError):
    """Nothing can be recorded, so nothing is run."""

    path: str
    reason: str

    def _text(self) -> str:
        return (
            f"state folder {self.path} is not writable: {self.reason}. "
            "Point state= at a folder that this user may write."
        )


@dataclass(eq=False, repr=False)
class StateTooNew(StateError):
    """The state was written by a newer version; reading it by older rules could redo or lose work."""

    path: str
    found: object
    supported: int

    def _text(self) -> str:
        return (
            f"state folder {self.path} has format {self.found}, this version reads up to {self.supported}. "
            "Upgrade spark-flow, or point state= at another folder."
        )


@dataclass(eq=False, repr=False)
class StateDamaged(StateError):
    """A file in the state folder is not what this version writes."""

    path: str
    found: str
    expected: str
    fix: str

    def _text(self) -> str:
        return f"{self.path}: found {self.found}, expected {self.expected}. {self.fix}"


@dataclass(eq=False, repr=False)
class LedgerOld(StateError):
    """A target remembers a newer write than the ledger, which was restored from a backup or lost its tail.

    No recorded result of the key is used any more: it may be older than what the targets hold.

    Attributes:
        node: The node that writes to the target.
        known: The highest revision of the node in the ledger.
        remembered: The revision that the target remembers.
    """

    node: str
    known: int
    remembered: int
    fix: str

    def _text(self) -> str:
        return f"{old_ledger(self.node, self.known, self.remembered)}. {self.fix}"


@dataclass(eq=False, repr=False)
class DamagedFile(RunError):
    """A file that spark_flow wrote is empty, cut or changed, as after a power loss; it is not used."""

    path: str
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Say what to do."""
        self.fix = self.fix or "Restore it from a backup, or remove it and run the same command again."
        super().__post_init__()

    def _text(self) -> str:
        return f"{self.path}: found {self.found}, expected a whole JSON document. {self.fix}"


def old_ledger(node: str, known: int, remembered: int) -> str:
    """Why no recorded result of a key is used."""
    return (
        f"the ledger is old: the target of {node} remembers revision {remembered}, "
        f"the ledger {f'only {known}' if known else 'none'}; nothing recorded is reused"
    )
