"""One file per pattern of a job file: its model, how it calls the pattern, and what it reads and writes.

To add a pattern, write its file and add its model to ``ENTRIES``.
"""

from spark_flow.jobfile.entries.aligned_fan_in import AlignedFanInModel
from spark_flow.jobfile.entries.call import CallModel
from spark_flow.jobfile.entries.exclusive_choice import ExclusiveChoiceModel
from spark_flow.jobfile.entries.expect import ExpectModel
from spark_flow.jobfile.entries.expose import ExposeModel
from spark_flow.jobfile.entries.parallel_split import ParallelSplitModel
from spark_flow.jobfile.entries.publish import PublishModel
from spark_flow.jobfile.entries.read import ReadModel
from spark_flow.jobfile.entries.report_completeness import ReportCompletenessModel
from spark_flow.jobfile.entries.step import StepModel
from spark_flow.jobfile.entries.transaction import TransactionModel
from spark_flow.jobfile.entries.trigger import TriggerModel
from spark_flow.jobfile.entries.unaligned_fan_in import UnalignedFanInModel
from spark_flow.jobfile.entries.wait_for import WaitForModel
from spark_flow.jobfile.entries.with_completeness import WithCompletenessModel
from spark_flow.jobfile.entries.write import WriteModel

ENTRIES = (
    ReadModel,
    AlignedFanInModel,
    UnalignedFanInModel,
    StepModel,
    CallModel,
    ExpectModel,
    WithCompletenessModel,
    WriteModel,
    ParallelSplitModel,
    ExclusiveChoiceModel,
    TransactionModel,
    ReportCompletenessModel,
    WaitForModel,
    ExposeModel,
    PublishModel,
    TriggerModel,
)
"""All patterns, in the order in which messages name them."""
