"""The frozen records: the trace, and the reports made from it. Plain data without torch."""

from cnnscope.records.bench import (
    BenchMemory as BenchMemory,
)
from cnnscope.records.bench import (
    BenchReport as BenchReport,
)
from cnnscope.records.bench import (
    BenchRun as BenchRun,
)
from cnnscope.records.bench import (
    BenchSettings as BenchSettings,
)
from cnnscope.records.bench import (
    BenchStatistics as BenchStatistics,
)
from cnnscope.records.bench import (
    Ceilings as Ceilings,
)
from cnnscope.records.bench import (
    Comparison as Comparison,
)
from cnnscope.records.bench import (
    Environment as Environment,
)
from cnnscope.records.bench import (
    Histogram as Histogram,
)
from cnnscope.records.bench import (
    Interval as Interval,
)
from cnnscope.records.bench import (
    Launch as Launch,
)
from cnnscope.records.bench import (
    LayerTime as LayerTime,
)
from cnnscope.records.bench import (
    Ratio as Ratio,
)
from cnnscope.records.bench import (
    Work as Work,
)
from cnnscope.records.catalogue import (
    About as About,
)
from cnnscope.records.catalogue import (
    Card as Card,
)
from cnnscope.records.catalogue import (
    Listed as Listed,
)
from cnnscope.records.catalogue import (
    ListReport as ListReport,
)
from cnnscope.records.check import (
    PRUNED as PRUNED,
)
from cnnscope.records.check import (
    Cause as Cause,
)
from cnnscope.records.check import (
    CheckAllReport as CheckAllReport,
)
from cnnscope.records.check import (
    Checked as Checked,
)
from cnnscope.records.check import (
    CheckReport as CheckReport,
)
from cnnscope.records.check import (
    Count as Count,
)
from cnnscope.records.check import (
    Published as Published,
)
from cnnscope.records.check import (
    Reason as Reason,
)
from cnnscope.records.check import (
    Tally as Tally,
)
from cnnscope.records.check import (
    Verdict as Verdict,
)
from cnnscope.records.checkpoint import (
    CheckpointReport as CheckpointReport,
)
from cnnscope.records.checkpoint import (
    StoredModule as StoredModule,
)
from cnnscope.records.checkpoint import (
    StoredOther as StoredOther,
)
from cnnscope.records.checkpoint import (
    StoredTensor as StoredTensor,
)
from cnnscope.records.diff import (
    CONSEQUENCES as CONSEQUENCES,
)
from cnnscope.records.diff import (
    Change as Change,
)
from cnnscope.records.diff import (
    DiffReport as DiffReport,
)
from cnnscope.records.diff import (
    DiffRow as DiffRow,
)
from cnnscope.records.diff import (
    DiffSide as DiffSide,
)
from cnnscope.records.diff import (
    Finding as Finding,
)
from cnnscope.records.explain import (
    ExplainReport as ExplainReport,
)
from cnnscope.records.explain import (
    Explanation as Explanation,
)
from cnnscope.records.explain import (
    KindShare as KindShare,
)
from cnnscope.records.explain import (
    ModelExplanation as ModelExplanation,
)
from cnnscope.records.explain import (
    ResolutionChange as ResolutionChange,
)
from cnnscope.records.explain import (
    Run as Run,
)
from cnnscope.records.explain import (
    SizeFailure as SizeFailure,
)
from cnnscope.records.explain import (
    SmallestInput as SmallestInput,
)
from cnnscope.records.explain import (
    Step as Step,
)
from cnnscope.records.rf import (
    AxisCheck as AxisCheck,
)
from cnnscope.records.rf import (
    EffectiveField as EffectiveField,
)
from cnnscope.records.rf import (
    EffectiveReport as EffectiveReport,
)
from cnnscope.records.rf import (
    FieldReport as FieldReport,
)
from cnnscope.records.rf import (
    LayerCheck as LayerCheck,
)
from cnnscope.records.rf import (
    UnitAxis as UnitAxis,
)
from cnnscope.records.rf import (
    UnitReport as UnitReport,
)
from cnnscope.records.rf import (
    VerifyReport as VerifyReport,
)
from cnnscope.records.stack import (
    StackReport as StackReport,
)
from cnnscope.records.stack import (
    StackRow as StackRow,
)
from cnnscope.records.stages import (
    ModelStages as ModelStages,
)
from cnnscope.records.stages import (
    Stage as Stage,
)
from cnnscope.records.stages import (
    StageFork as StageFork,
)
from cnnscope.records.stages import (
    StageItem as StageItem,
)
from cnnscope.records.stages import (
    StageLayer as StageLayer,
)
from cnnscope.records.stages import (
    StagePart as StagePart,
)
from cnnscope.records.stages import (
    StagesReport as StagesReport,
)
from cnnscope.records.stages import (
    flat as flat,
)
from cnnscope.records.summary import (
    CONTAINERS as CONTAINERS,
)
from cnnscope.records.summary import (
    REPORT_SCHEMA as REPORT_SCHEMA,
)
from cnnscope.records.summary import (
    AxisField as AxisField,
)
from cnnscope.records.summary import (
    Excess as Excess,
)
from cnnscope.records.summary import (
    Field as Field,
)
from cnnscope.records.summary import (
    Geometry as Geometry,
)
from cnnscope.records.summary import (
    LayerRow as LayerRow,
)
from cnnscope.records.summary import (
    ModelReport as ModelReport,
)
from cnnscope.records.summary import (
    Totals as Totals,
)
from cnnscope.records.summary import (
    UnitMap as UnitMap,
)
from cnnscope.records.summary import (
    UnknownOp as UnknownOp,
)
from cnnscope.records.trace import (
    TRACE_SCHEMA as TRACE_SCHEMA,
)
from cnnscope.records.trace import (
    Attribute as Attribute,
)
from cnnscope.records.trace import (
    CallRecord as CallRecord,
)
from cnnscope.records.trace import (
    Inputs as Inputs,
)
from cnnscope.records.trace import (
    ModuleRecord as ModuleRecord,
)
from cnnscope.records.trace import (
    OpRecord as OpRecord,
)
from cnnscope.records.trace import (
    ParamRecord as ParamRecord,
)
from cnnscope.records.trace import (
    Plain as Plain,
)
from cnnscope.records.trace import (
    Shape as Shape,
)
from cnnscope.records.trace import (
    Source as Source,
)
from cnnscope.records.trace import (
    StorageRecord as StorageRecord,
)
from cnnscope.records.trace import (
    TensorRecord as TensorRecord,
)
from cnnscope.records.trace import (
    TensorSpec as TensorSpec,
)
from cnnscope.records.trace import (
    Trace as Trace,
)
