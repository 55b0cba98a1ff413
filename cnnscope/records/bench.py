"""The report of `cnnscope bench`: times, intervals, comparisons."""

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import Shape, Source, TensorSpec

# Modes of torch.compile, the default first
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Interval(msgspec.Struct, frozen=True):
    """Confidence interval of a quantity (0.95)."""

    low: float
    high: float
    confidence: float


class Ratio(msgspec.Struct, frozen=True):
    """Ratio of two times, with its confidence interval and verdict.

    The verdict is "slower" or "faster" only where the whole interval lies beyond the noise floor,
    which is a fraction (0.01).
    """

    ratio: float
    interval: Interval
    noise_floor: float
    verdict: str  # "slower", "faster", "no difference visible", "too few samples"


class Histogram(msgspec.Struct, frozen=True):
    """Counts in equal bins from `low_ns` to `high_ns`; the last bin has what lies beyond too."""

    low_ns: float
    high_ns: float
    counts: tuple[int, ...]


class BenchStatistics(msgspec.Struct, frozen=True):
    """A distribution of times in nanoseconds; percentiles are None where samples are too few."""

    count: int
    median_ns: float
    interval: Interval | None  # of the median; None for fewer than 6 samples
    mean_ns: float
    min_ns: int
    max_ns: int
    q1_ns: float
    q3_ns: float
    p90_ns: float | None
    p95_ns: float | None
    p99_ns: float | None
    drift: float  # median of the second half over that of the first, minus 1
    outliers: int  # samples more than 3 IQR above the upper quartile
    block_length: int  # of the bootstrap
    histogram: Histogram


class BenchSettings(msgspec.Struct, frozen=True):
    """Settings of a measurement; two with other settings cannot be compared."""

    device: str  # "cpu", "cuda:0", "mps"
    mode: str = "forward"  # or "train"
    dtype: str = "float32"  # of weights and input
    amp: str = ""  # dtype of autocast
    channels_last: bool = False
    compile: str = ""  # mode of torch.compile
    threads: int = 1
    seconds: float = 5.0  # asked for, for each model and batch


class Environment(msgspec.Struct, frozen=True):
    """The machine and the libraries, as far as they can be read; "" or None where not."""

    cpu: str
    cores: int  # that this process may run on
    machine_cores: int
    quota: float | None  # cores' worth of time that a container's limit allows
    threads: int  # of torch within an operation
    interop_threads: int
    memory_bytes: int | None
    cpu_mhz: float | None
    load: float | None  # average over the minute before
    system: str
    python: str
    torch: str
    torch_cuda: str  # what torch was built with
    cudnn: str
    gpu: str
    gpu_memory_bytes: int | None
    driver: str
    gpu_clocks: dict[str, str]  # at work, as nvidia-smi writes them; of the first batch
    matmul_fp32: str  # "tf32", "ieee", ...: what float32 matrix products are computed in
    conv_fp32: str
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    mkldnn: bool

    @property
    def capacity(self) -> float:
        """Cores' worth of time that the process can have."""
        return min(self.cores, self.quota or self.cores)


class Ceilings(msgspec.Struct, frozen=True):
    """Rates that this machine reached in this run: a large matrix product, a large copy."""

    dtype: str
    flops: float  # per second
    bandwidth: float  # bytes read and written per second
    matmul_size: int  # rows = columns
    copy_bytes: int
    fp32: str = ""  # precision of float32 products, where it is not full


class Work(msgspec.Struct, frozen=True):
    """Work of one forward, by its trace."""

    macs: int
    nbytes: int | None  # read and written by its operations, one by one; None where not known
    params: int
    param_bytes: int
    needed_bytes: int  # memory: weights, what training adds, input, peak of the activations


class BenchMemory(msgspec.Struct, frozen=True):
    """Peak memory in bytes, up to the end of the warm-up."""

    allocated: int | None = None  # CUDA: by tensors of this model
    reserved: int | None = None  # CUDA: by torch from the driver, for all models
    resident: int | None = None  # otherwise: the whole process
    resident_before: int | None = None  # what of it this model had no part in


class Launch(msgspec.Struct, frozen=True):
    """Time of the host to enqueue one iteration, and of the device to execute it (ns)."""

    enqueue_ns: float
    device_ns: float


class LayerTime(msgspec.Struct, frozen=True):
    """One call of a layer, measured by itself on the input that it had in the forward."""

    path: str
    call: int
    operation: str
    output_shape: Shape
    median_ns: float
    count: int
    macs: int
    nbytes: int
    bound: str  # "compute", "memory" or "" (no ceilings)
    roofline: float | None  # attainable time over measured time


class BenchRun(msgspec.Struct, frozen=True):
    """One model at one batch size, with every sample.

    `warnings` are words for programs: "threads", "busy", "drift", "outliers", "launch-bound",
    "other-work" (calls compute less than the trace: rates are left out), "grows" (every call keeps
    `kept` bytes), "above-arithmetic" and "above-traffic" (more than the ceiling, measured twice).
    """

    label: str  # the model as it was named, "#2" after it for the second of one name
    source: Source
    inputs: tuple[TensorSpec, ...]
    batch: int
    settings: BenchSettings
    first_call_ns: int
    warmup_ns: int
    warmup_calls: int
    samples_ns: tuple[tuple[int, ...], ...]  # by round
    walls_ns: tuple[int, ...]  # wall clock of each round (0 where the samples are wall clock)
    statistics: BenchStatistics
    work: Work
    memory: BenchMemory = BenchMemory()
    launch: Launch | None = None
    layers: tuple[LayerTime, ...] = ()
    warnings: tuple[str, ...] = ()
    waited: float | None = None  # share of the threads' time in which they had no core
    computed: int | None = None  # multiply-accumulates of a call that was watched; None: not known
    kept: int = 0  # bytes that every call makes and the model keeps


class Comparison(msgspec.Struct, frozen=True):
    """A run beside another one, of this report or saved before; both by their labels."""

    base: str
    other: str
    run: int  # index of the other one in `runs`
    interleaved: bool
    ratio: Ratio
    differences: tuple[str, ...] = ()  # in settings and environment


class BenchReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope bench`."""

    runs: tuple[BenchRun, ...]
    comparisons: tuple[Comparison, ...]
    environment: Environment
    ceilings: Ceilings | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA
