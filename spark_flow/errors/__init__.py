"""Every error of spark_flow, in one tree.

::

    SparkFlowError
    ├── UsageError                  exit code 2: the request is invalid
    │   ├── ConfigError             a YAML file is wrong; all its problems at once
    │   ├── InvalidName             a pipeline, key or node name that cannot be a folder name
    │   ├── InvalidPath             a path that two libraries would read as two paths
    │   ├── InvalidStep             a step that is not a function, or has no stable fingerprint
    │   ├── DuplicateNode           two nodes of one name, or two writes to one path
    │   ├── CannotReplace           a sink that cannot replace a key's rows was asked to
    │   ├── CannotAdopt             a key's rows are not in place, or it was run before
    │   ├── CannotRollBack          no earlier generation whose rows are still there
    │   ├── NoBranches              a fan-in without branches
    │   ├── UnknownBranch           a branch was named that the fan-in does not have
    │   ├── UnknownNode             a node was named that the flow does not have
    │   ├── UnknownFormat           a sink's format that neither we nor an installed package has
    │   ├── OtherCheckpoint         a stream's name was used with another checkpoint
    │   ├── OtherLimit              another runner has another limit for the same pipeline or pool
    │   ├── SharedState             runs of several keys that read or replace what another one writes
    │   └── Unexpected              something else was given than expected; where, found, expected, fix
    │       ├── InvalidArgument     an argument that a pattern does not take
    │       ├── InvalidCondition    a condition of a choice that cannot be asked
    │       ├── UnknownJob          a job to trigger that is missing, or is another one
    │       ├── UnknownPool         a pool that is not declared, or has too few slots
    │       ├── InvalidRule         a rule of how many branches must arrive that cannot be met
    │       └── EnvironmentTooOld   Java, Python or Delta's library missing or too old
    ├── StateError                  exit code 1: the state folder
    │   ├── StateNotWritable
    │   ├── StateTooNew             written by a newer version of spark_flow
    │   ├── StateDamaged            not what this version writes
    │   └── LedgerOld               a target remembers a write that the ledger does not know
    ├── NothingToDo                 exit code 0: the key is skipped
    │   ├── Adopted                 the key's rows were there before its first run
    │   └── UpstreamSkipped         a provider has skipped the key
    ├── NotNow                      exit code 75: nothing failed; run again later
    │   ├── NotAllArrived           branches of an aligned fan-in have not arrived
    │   ├── NotArrived              a source of this key is not there yet
    │   ├── UpstreamNotReady        a provider's readiness marker did not come in time
    │   ├── Busy                    the lease, or slots of the pool, are held by others
    │   ├── QueueFull               as many wait already as may wait
    │   ├── LeaseLost               the lease expired or was released: others may run
    │   ├── Fenced                  the ledger rejects a run that was taken over
    │   ├── PreviousNotDone         the previous key has not succeeded, and this one depends on it
    │   ├── EndedAfter              the run was asked to end after a node (exit code 0)
    │   └── TriggeredWaits          a consumer that was triggered has to wait itself
    ├── Interrupted                 exit code 130: by Ctrl-C; what succeeded is reused
    └── RunError                    exit code 1: the run itself
        ├── NodeFailed              a node's action raised; holds node and cause
        ├── ExpectationFailed       a frame does not meet a rule
        ├── NodeTimedOut            a node took longer than it may
        ├── NotRecorded             a node that a partial backfill takes over would have to run
        ├── DamagedFile             a file that spark_flow wrote is empty, cut or changed
        ├── MissingInput            a file, folder or table that a source needs is not there
        ├── SourceNotReadable       a database or service does not answer, or refuses
        ├── BadRecords              corrupt lines, missing or mistyped required columns
        ├── HeaderMismatch          a CSV file's header names other columns, or in another order
        ├── NotADataFrame           a step or branch returned something else
        ├── FrameMismatch           frames that cannot be combined
        │   ├── MissingColumns      a frame is missing a column
        │   ├── NewColumns          a frame has columns that its table does not have
        │   ├── TypeConflict        a column has two types
        │   ├── ColumnClash         a name stands for a column of each
        │   └── AmbiguousColumns    a name stands for two columns of one frame
        ├── DuplicateKeys           a join would multiply rows
        ├── BranchesFailed          branches of a fan-in or a split failed; holds each one's error
        ├── ApplicationFailed       a branch that runs as its own application failed
        ├── UpstreamFailed          a provider has failed
        ├── UpstreamPartial         a provider's data is approximate, and that was refused
        ├── InvalidMarker           a readiness marker that cannot be trusted
        │   ├── MarkerTooNew        of a newer version of spark_flow
        │   └── OutsideRoots        a table outside of the folders that are allowed
        ├── TriggeredFailed         a consumer that was triggered did not end as allowed
        ├── NotEnoughBranches       fewer branches arrived than the fan-in's rule requires
        ├── NotExclusive            of a choice's routes not exactly one can be taken
        ├── StoppedBySibling        a branch was stopped because another one failed
        ├── TookFallback            a fan-in had nothing to merge, and its fallback ran instead
        ├── NotNotified             a notification could not be sent
        ├── SummaryNotWritten       the file of --summary-json could not be written when the run had ended
        ├── OutsideKey              rows that do not belong to the key being written
        ├── InvalidMergeKeys        rows to merge whose key occurs twice or holds NULL
        ├── OtherTimeZone           a key's text is another instant than the one it was written as
        ├── ConstraintViolated      a row breaks a table's CHECK or NOT NULL
        ├── WriteNotProved          the table does not hold what was just written
        ├── NotRepresentable        a file format cannot hold the frame's values
        └── SetNotVisible           a transaction's tables were not all committed

A message says what was found, what was expected and what to do; the fields hold the objects.
"""

from spark_flow.errors.base import (
    INTERRUPTED,
    NothingToDo,
    NotNow,
    RunError,
    SparkFlowError,
    StateError,
    Unexpected,
    UsageError,
    describe,
    some,
)
from spark_flow.errors.frames import (
    AmbiguousColumns,
    ColumnClash,
    DuplicateKeys,
    FrameMismatch,
    MissingColumns,
    NewColumns,
    NotADataFrame,
    TypeConflict,
)
from spark_flow.errors.run import (
    ApplicationFailed,
    BadRecords,
    BranchesFailed,
    ConstraintViolated,
    ExpectationFailed,
    HeaderMismatch,
    InvalidMarker,
    InvalidMergeKeys,
    MarkerTooNew,
    MissingInput,
    NodeFailed,
    NodeTimedOut,
    NotEnoughBranches,
    NotExclusive,
    NotNotified,
    NotRecorded,
    NotRepresentable,
    OtherTimeZone,
    OutsideKey,
    OutsideRoots,
    SetNotVisible,
    SourceNotReadable,
    StoppedBySibling,
    SummaryNotWritten,
    TookFallback,
    TriggeredFailed,
    UpstreamFailed,
    UpstreamPartial,
    WriteNotProved,
    reason_of,
)
from spark_flow.errors.spark import is_of_plan
from spark_flow.errors.state import DamagedFile, LedgerOld, StateDamaged, StateNotWritable, StateTooNew, old_ledger
from spark_flow.errors.usage import (
    CannotAdopt,
    CannotReplace,
    CannotRollBack,
    ConfigError,
    Conflict,
    DuplicateNode,
    EnvironmentTooOld,
    InvalidArgument,
    InvalidCondition,
    InvalidName,
    InvalidPath,
    InvalidRule,
    InvalidStep,
    NoBranches,
    OtherCheckpoint,
    OtherLimit,
    Problem,
    SharedState,
    UnknownBranch,
    UnknownFormat,
    UnknownJob,
    UnknownNode,
    UnknownPool,
)
from spark_flow.errors.wait import (
    Adopted,
    Busy,
    EndedAfter,
    Fenced,
    Interrupted,
    LeaseLost,
    NotAllArrived,
    NotArrived,
    PreviousNotDone,
    QueueFull,
    TriggeredWaits,
    UpstreamNotReady,
    UpstreamSkipped,
)

__all__ = [
    "INTERRUPTED",
    "Adopted",
    "AmbiguousColumns",
    "ApplicationFailed",
    "BadRecords",
    "BranchesFailed",
    "Busy",
    "CannotAdopt",
    "CannotReplace",
    "CannotRollBack",
    "ColumnClash",
    "ConfigError",
    "Conflict",
    "ConstraintViolated",
    "DamagedFile",
    "DuplicateKeys",
    "DuplicateNode",
    "EndedAfter",
    "EnvironmentTooOld",
    "ExpectationFailed",
    "Fenced",
    "FrameMismatch",
    "HeaderMismatch",
    "Interrupted",
    "InvalidArgument",
    "InvalidCondition",
    "InvalidMarker",
    "InvalidMergeKeys",
    "InvalidName",
    "InvalidPath",
    "InvalidRule",
    "InvalidStep",
    "LeaseLost",
    "LedgerOld",
    "MarkerTooNew",
    "MissingColumns",
    "MissingInput",
    "NewColumns",
    "NoBranches",
    "NodeFailed",
    "NodeTimedOut",
    "NotADataFrame",
    "NotAllArrived",
    "NotArrived",
    "NotEnoughBranches",
    "NotExclusive",
    "NotNotified",
    "NotNow",
    "NotRecorded",
    "NotRepresentable",
    "NothingToDo",
    "OtherCheckpoint",
    "OtherLimit",
    "OtherTimeZone",
    "OutsideKey",
    "OutsideRoots",
    "PreviousNotDone",
    "Problem",
    "QueueFull",
    "RunError",
    "SetNotVisible",
    "SharedState",
    "SourceNotReadable",
    "SparkFlowError",
    "StateDamaged",
    "StateError",
    "StateNotWritable",
    "StateTooNew",
    "StoppedBySibling",
    "SummaryNotWritten",
    "TookFallback",
    "TriggeredFailed",
    "TriggeredWaits",
    "TypeConflict",
    "Unexpected",
    "UnknownBranch",
    "UnknownFormat",
    "UnknownJob",
    "UnknownNode",
    "UnknownPool",
    "UpstreamFailed",
    "UpstreamNotReady",
    "UpstreamPartial",
    "UpstreamSkipped",
    "UsageError",
    "WriteNotProved",
    "describe",
    "is_of_plan",
    "old_ledger",
    "reason_of",
    "some",
]
