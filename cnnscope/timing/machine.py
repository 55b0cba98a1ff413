"""The machine: what it is, what it has free, and what it reaches at best."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING, Any

from cnnscope import parallel
from cnnscope.records.bench import Ceilings, Environment
from cnnscope.timing.loop import Step

if TYPE_CHECKING:
    import torch

_LONG_ENOUGH_NS = {"cpu": 30_000_000, "cuda": 10_000_000}
_LARGEST = {"cpu": 4096, "cuda": 16384}
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # beyond any cache
_LONG_NS = 400_000_000  # a ceiling is a maximum: enough tries for one that nothing disturbs
_LEAST = 2
_CLOCKS = "clocks.sm,clocks.max.sm,clocks.mem,power.limit"
_SMI_FORMAT = "--format=csv,noheader"
_SMI_SECONDS = 10.0
_AMPERE = 8  # the first compute capability with TF32


# ------------------------------------------------------------------------------ what it is


def environment(device: torch.device) -> Environment:
    """Everything about the machine that a time depends on, as far as it can be read."""
    import torch

    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    driver = _nvidia_smi(gpu, "driver_version") if gpu is not None else {}
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    return Environment(
        cpu=cpu_model(),
        cores=usable_cores(),
        machine_cores=os.cpu_count() or 1,
        quota=cpu_quota(),
        threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        memory_bytes=_machine_memory(),
        cpu_mhz=_cpu_mhz(),
        load=_load(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        torch_cuda=str(torch.version.cuda or torch.version.hip or ""),
        cudnn=str(cudnn.version() or "") if gpu is not None else "",
        gpu=gpu.name if gpu is not None else "",
        gpu_memory_bytes=gpu.total_memory if gpu is not None else None,
        driver=driver.get("driver_version", ""),
        gpu_clocks={},
        matmul_fp32=_fp32(torch.backends.cuda.matmul, gpu),
        conv_fp32=_fp32(cudnn.conv, gpu),
        cudnn_benchmark=cudnn.benchmark,
        cudnn_deterministic=cudnn.deterministic,
        mkldnn=mkldnn.is_available() and mkldnn.enabled,
    )


def usable_cores() -> int:
    """Cores that this process may run on: its affinity, which a container or taskset narrows."""
    counted = getattr(os, "process_cpu_count", None)  # Python 3.13
    if counted is not None:
        return int(counted() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that a control group allows (v2, then v1); None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = (root / "cpu/cpu.cfs_quota_us").read_text()
        period = (root / "cpu/cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_mhz() -> float | None:
    """The present clock of the first core that tells."""
    with contextlib.suppress(OSError, ValueError):
        khz = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").read_text()
        return int(khz) / 1000
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("cpu MHz"):
                return float(line.partition(":")[2])
    return None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _fp32(backend: Any, gpu: Any) -> str:
    """The precision that float32 products are computed in: "ieee" unless it was changed.

    Before Ampere no GPU of NVIDIA has TF32, whatever is allowed, and NVIDIA's libraries use none
    under NVIDIA_TF32_OVERRIDE=0, of which torch knows nothing.
    """
    import torch

    if gpu is not None and torch.version.hip is None and not _has_tf32(gpu):
        return "ieee"
    precision = str(getattr(backend, "fp32_precision", "none"))
    if precision == "none":
        precision = str(getattr(torch.backends, "fp32_precision", "none"))
    return "ieee" if precision == "none" else precision


def _has_tf32(gpu: Any) -> bool:
    return bool(gpu.major >= _AMPERE) and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"


def gpu_clocks(device: torch.device, step: Step) -> dict[str, str]:
    """Clocks and the limit of power, read while the device is at work: idle ones say nothing."""
    import torch

    if device.type != "cuda":
        return {}
    wait = synchronize(device)

    def work() -> None:
        step()
        wait()

    return _nvidia_smi(torch.cuda.get_device_properties(device), _CLOCKS, work)


def _nvidia_smi(gpu: Any, fields: str, work: Step = lambda: time.sleep(0.01)) -> dict[str, str]:
    """Query nvidia-smi for a GPU while `work` runs; {} where it is missing or fails.

    The GPU is named by its UUID, for its number may be another one than torch's
    (CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER).
    """
    command = ("nvidia-smi", f"--id=GPU-{gpu.uuid}", f"--query-gpu={fields}", _SMI_FORMAT)
    try:
        with Popen(command, stdout=PIPE, stderr=DEVNULL, text=True) as process:  # noqa: S603
            end = time.monotonic() + _SMI_SECONDS
            while process.poll() is None and time.monotonic() < end:
                work()
            process.kill()
            lines = process.communicate()[0].splitlines()
    except (OSError, AttributeError):
        return {}
    if process.returncode or not lines:
        return {}
    values = [value.strip() for value in lines[0].split(",")]
    pairs = zip(fields.split(","), values, strict=False)
    return {name: value for name, value in pairs if not value.startswith("[")}  # [N/A]


# -------------------------------------------------------------------------- what it has free


def free_memory(device: torch.device) -> int | None:
    """Bytes that could still be allocated on a device; None where the system does not say."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return parallel.free_memory()


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def resident(*, reset: bool = False) -> int:
    """The process's largest resident set in bytes, since the last reset where that is possible.

    At a reset glibc gives back what it keeps of memory that was freed: what reuses it, as a batch
    after a larger one does, would seem to need none.
    """
    if reset:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):  # Linux: start counting anew
            Path("/proc/self/clear_refs").write_text("5")
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def waited_ns(root: Path = Path("/proc/self/task")) -> int | None:
    """Sum the time that ready threads of this process waited for a core; None but on Linux."""
    try:
        found = [(task / "schedstat").read_text().split()[1] for task in root.iterdir()]
    except (OSError, IndexError):
        return None
    return sum(map(int, found))


# ----------------------------------------------------------------------- what it reaches


def ceilings(device: torch.device, dtype: str) -> Ceilings:
    """The machine's own roofline: the best of several large matrix products and copies.

    Square matrices double until the shortest product takes long enough to be timed well, and the
    size that was multiplied fastest counts; the copy is larger than any cache, and counts the bytes
    read and the bytes written. float32 products run
    in the precision that convolutions are allowed (TF32 on CUDA, unless it was forbidden).
    """
    import torch

    kind = "cuda" if device.type == "cuda" else "cpu"
    chosen = getattr(torch, dtype)
    wait = synchronize(device)
    with torch.inference_mode(), _conv_precision(device, dtype) as precision:
        size, flops = _matmul(device, chosen, wait, _LONG_ENOUGH_NS[kind], _LARGEST[kind])
        free = free_memory(device)
        count = min(_COPY_BYTES[kind], free // 8 if free else 2**26) // chosen.itemsize
        source = torch.ones(count, dtype=chosen, device=device)
        target = torch.empty_like(source)
        copied = _best(lambda: target.copy_(source), wait, _LONG_NS)
        nbytes = source.nbytes
    return Ceilings(dtype, flops, 2 * nbytes / copied * 1e9, size, nbytes, precision)


def synchronize(device: torch.device) -> Callable[[], object]:
    """Return a function that waits for a device."""
    import torch

    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else lambda: None


def _matmul(
    device: torch.device, dtype: torch.dtype, wait: Step, long_enough: int, largest: int
) -> tuple[int, float]:
    """Rows of the fastest product, and its operations per second."""
    import torch

    reached: dict[int, float] = {}
    size = 256
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty(size, size, dtype=dtype, device=device)

        def product(a: Any = a, b: Any = b, out: Any = out) -> object:
            return torch.mm(a, b, out=out)

        took = _best(product, wait, _LONG_NS // 2)
        reached[size] = 2e9 * size**3 / took
        if took >= long_enough or size >= largest:
            best = max(reached, key=lambda n: reached[n])
            return best, reached[best]
        size *= 2


def _best(step: Step, wait: Step, total: int) -> int:
    """The shortest call, after one that does not count, of as many as fit in `total` ns (2..)."""
    step()
    wait()
    times: list[int] = []
    while len(times) < _LEAST or sum(times) < total:
        begin = time.perf_counter_ns()
        step()
        wait()
        times.append(time.perf_counter_ns() - begin)
    return max(1, min(times))


@contextmanager
def _conv_precision(device: torch.device, dtype: str) -> Iterator[str]:
    """Matrix products in the precision of convolutions, for as long as the ceiling is measured."""
    import torch

    if device.type != "cuda" or dtype != "float32":
        yield ""
        return
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    cudnn: Any = torch.backends.cudnn
    precision = _fp32(cudnn.conv, torch.cuda.get_device_properties(device))
    matmul.fp32_precision = precision
    try:
        yield precision
    finally:
        matmul.fp32_precision = before
