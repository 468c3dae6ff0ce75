"""What the run of a job file would write and read, without a session: all routes of its choices are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_flow.orchestration.shared_state import Footprint, Read, Write

if TYPE_CHECKING:
    from spark_flow.jobfile.model.job import JobConfig


def footprint(config: JobConfig) -> Footprint:
    """What the file's run of its key would write and read.

    Unknown is what a function of the user's reads by itself, and what triggered jobs do. A Delta source with a given
    version is not listed: later writes do not change it.

    Raises:
        InvalidArgument: A ``wait_for`` maps days, and the key is not a date.
        UnknownFormat: A sink's format is not installed.
    """
    touched = list(dict.fromkeys(each for entry in config.flow for each in entry.footprint(config, "")))
    writes = tuple(one for one in touched if isinstance(one, Write))
    return Footprint(config.key, writes, tuple(one for one in touched if isinstance(one, Read)))
