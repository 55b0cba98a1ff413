"""The machine: cores, quotas, free memory, devices and what a driver says."""

import os

import pytest
import torch

from cnnscope import parallel
from cnnscope.errors import RequestError
from cnnscope.models import failures
from cnnscope.timing import devices, machine


def test_cores_are_those_of_the_affinity():
    if hasattr(os, "sched_getaffinity"):
        assert machine.usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 1.5), ("max 100000", None)])
def test_quota_of_a_container(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert machine.cpu_quota(tmp_path) == cores


def test_waiting_for_a_core_is_summed_over_threads(tmp_path):
    for thread, line in (("7", "900 300 12\n"), ("8", "100 45 3\n")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(line)
    assert machine.waited_ns(tmp_path) == 345
    assert machine.waited_ns(tmp_path / "none") is None


def test_quota_of_an_older_container(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(tmp_path) == 2
    assert machine.cpu_quota(tmp_path / "none") is None


def test_free_memory_of_a_container_leaves_the_page_cache_out(tmp_path):
    (tmp_path / "memory.max").write_text("1000000")
    (tmp_path / "memory.current").write_text("700000")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    # 1,000,000 - (700,000 - 300,000)
    assert parallel._cgroup_free(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max")
    assert parallel._cgroup_free(tmp_path) is None


class Gpu:
    name, total_memory, uuid = "Big GPU", 2**35, "12ab-34cd"

    def __init__(self, major=9):
        self.major = major


SMI = """#!/bin/sh
echo "$@" > "$0.asked"
sleep 0.05
echo "1980 MHz, 2100 MHz, [N/A], 700.00 W"
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    path = tmp_path / "nvidia-smi"
    path.write_text(SMI)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    return path


def test_clocks_of_a_gpu_are_read_while_it_works(smi):
    steps = []
    clocks = machine.gpu_clocks(torch.device("cuda:1"), lambda: steps.append(0))
    assert clocks == {
        "clocks.sm": "1980 MHz",
        "clocks.max.sm": "2100 MHz",
        "power.limit": "700.00 W",
    }
    assert steps
    # its number may be another one than torch's
    assert "--id=GPU-12ab-34cd" in smi.with_name("nvidia-smi.asked").read_text()
    assert machine.gpu_clocks(torch.device("cpu"), lambda: None) == {}


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\n", None])
def test_a_driver_that_tells_nothing_is_no_failure(smi, script):
    smi.unlink() if script is None else smi.write_text(script)
    assert machine._nvidia_smi(Gpu(), "driver_version") == {}


def test_a_gpu_without_tf32_computes_in_full_precision(monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    conv = torch.backends.cudnn.conv
    assert conv.fp32_precision == "tf32"  # torch's default
    assert machine._fp32(conv, Gpu(major=8)) == "tf32"
    assert machine._fp32(conv, Gpu(major=7)) == "ieee"
    # an H100 at 51.9 TFLOP/s where it reaches 385 in TF32
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert machine._fp32(conv, Gpu(major=9)) == "ieee"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert machine._fp32(conv, Gpu(major=9)) == "tf32"


def test_running_out_of_memory_inside_of_a_library_is_out_of_memory():
    for text in ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED when ..."):
        assert failures.out_of_memory(RuntimeError(text))
    assert not failures.out_of_memory(RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"))


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:0", ""])
def test_unknown_devices_are_refused(text):
    with pytest.raises(RequestError, match="use cpu, cuda, cuda:1, mps or auto"):
        devices.check(text)


def without_cuda(monkeypatch, built):
    def fails():
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that ...")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fails)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)


def test_missing_cuda_says_what_was_built_and_what_was_found(monkeypatch):
    without_cuda(monkeypatch, "13.2")
    with pytest.raises(RequestError) as error:
        devices.resolve("cuda")
    text = str(error.value)
    assert f"torch {torch.__version__} was built with CUDA 13.2" in text
    assert "found no GPU (Found no NVIDIA driver on your system)" in text
    assert text.endswith("use --device cpu")


def test_a_build_without_cuda_says_so(monkeypatch):
    without_cuda(monkeypatch, None)
    with pytest.raises(RequestError, match="was built without CUDA"):
        devices.resolve("cuda:1")


def test_auto_without_cuda_is_the_cpu(monkeypatch):
    without_cuda(monkeypatch, "13.2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve("auto") == torch.device("cpu")


def test_a_cuda_device_beyond_the_last_names_those_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Big GPU")
    with pytest.raises(RequestError, match=r"there is cuda:0 \(Big GPU\)"):
        devices.resolve("cuda:3")
    assert devices.resolve("cuda") == torch.device("cuda", 0)


def test_a_dtype_that_the_device_cannot_is_refused(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fails)
    with pytest.raises(RequestError, match="--dtype float16: not supported on cpu"):
        devices.check_dtype(torch.device("cpu"), "float16")
