"""What a reviewer would say of a network: one record for each kind of remark."""

from enum import Enum

import msgspec


class Severity(Enum):
    """How much a finding matters; in the order in which they are shown."""

    ERROR = "error"  # the network does not do what its code says
    WARNING = "warning"  # it does, and loses something by it
    NOTE = "note"  # to know before training it


class FindingKind(Enum):
    """What a finding is about."""

    UNREGISTERED = "unregistered"
    NO_OUTPUT = "no output"
    NONE_OUTPUT = "none output"
    NO_GRADIENT = "no gradient"
    UNUSED = "unused"
    ALWAYS_DROPOUT = "dropout in inference"
    SOFTMAX_AXIS = "softmax axis"
    MIXED_SAMPLES = "mixed samples"
    RELU_OUTPUT = "relu output"
    FINAL_DROPOUT = "final dropout"
    SKIPPED = "skipped positions"
    LINEAR_PAIR = "linear pair"
    IDLE_ACTIVATION = "idle activation"
    UNMIXED_GROUPS = "unmixed groups"
    BOTTLENECK = "bottleneck"
    FLOORED = "floored map"
    IDLE_TAPS = "idle taps"
    UNPRODUCTIVE = "unproductive"
    CANCELLED_BIAS = "cancelled bias"
    DROPOUT_BEFORE_NORM = "dropout before norm"
    SOFTMAX_OUTPUT = "softmax output"
    TRAINING_ONLY = "used in training only"
    NOT_ROUTED = "not routed"
    RANDOM = "random"
    TIED = "tied"
    NOT_REACHED = "not reached"


class Finding(msgspec.Struct, frozen=True):
    """What a reviewer would say of some layers, in one sentence.

    `layers` are the paths of all layers, modules or parameters that it is true of, in the order in
    which they run. `explain` is a layer that `cnnscope explain` knows more of, "" for the model.
    """

    kind: FindingKind
    severity: Severity
    sentence: str
    layers: tuple[str, ...] = ()
    explain: str = ""
