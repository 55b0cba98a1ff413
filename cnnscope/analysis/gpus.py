"""GPUs by name, with the memory that PyTorch finds on them.

Data sheets round, and a driver keeps a part: a GPU of "24 GB" has 23.5 GiB. Each figure is the
lowest "total capacity" that an out-of-memory message of PyTorch gave for the GPU in a public issue
(named beside it), but that of the H100, which `tests/benchmarks/cuda_memory.py` ran on.
"""

from __future__ import annotations

import re

from cnnscope.errors import RequestError
from cnnscope.text import printable

_GIB = 2**30
GPUS = {  # GiB
    "rtx2060": 5.79,  # github.com/facebookresearch/meshrcnn/issues/92
    "rtx2080ti": 10.76,  # github.com/JDAI-CV/image-captioning/issues/11
    "rtx3060-12gb": 11.75,  # github.com/Kunhao-Liu/StyleGaussian/issues/12
    "rtx3070": 7.76,  # github.com/sshan-zhao/GASDA/issues/19
    "rtx3080": 9.78,  # github.com/zai-org/CogVideo/issues/34
    "rtx3090": 23.70,  # github.com/GaoLii/DSP/issues/10
    "rtx4060": 7.75,  # github.com/ESRSchao/EdgeRegNet/issues/2
    "rtx4090": 23.52,  # github.com/Soul-AILab/SoulX-FlashTalk/issues/5
    "rtx5090": 31.36,  # github.com/TrajectoryCrafter/TrajectoryCrafter/issues/20
    "rtx6000ada": 44.43,  # github.com/DINGYANB/MTVCrafter/issues/21 (with ECC)
    "rtxa4000": 15.61,  # github.com/DengKaiCQ/VGGT-Long/issues/6
    "rtx8000": 47.46,  # github.com/Victarry/stable-dreambooth/issues/8
    "t4": 14.56,  # github.com/Zheng-Chong/CatVTON/issues/133
    "v100-16gb": 15.75,  # github.com/Morizeyao/GPT2-Chinese/issues/215
    "v100-32gb": 31.74,  # github.com/haotian-liu/LLaVA/issues/812
    "a30": 23.53,  # github.com/google/RB-Modulation/issues/5
    "l40": 44.40,  # github.com/NVlabs/Eagle/issues/68
    "l40s": 44.53,  # github.com/Wan-Video/Wan2.1/issues/205
    "a100-40gb": 39.50,  # github.com/TianheWu/CoSeR/issues/10
    "a100-80gb": 79.25,  # github.com/levihsu/OOTDiffusion/issues/235
    "h100-80gb": 79.17,  # measured: 85,017,493,504 bytes
    "h100-nvl": 93.00,  # github.com/ali-vilab/VACE/issues/56
}
_MAKER = re.compile(r"nvidia|geforce|tesla|quadro|pcie|sxm\d*|hbm\d*e?|[\s_-]+")


def memory_of(name: str) -> tuple[str, int]:
    """A GPU's name here, and its bytes.

    Args:
        name: as in "RTX 4090", "NVIDIA A100-SXM4-40GB" or "h100"; of several the smallest.

    Raises:
        RequestError: there is none of that name; the message has all that are known.
    """
    plain = _plain(name)
    found = [one for one in GPUS if plain and _plain(one) == plain]
    found = found or [one for one in GPUS if plain and _family(one) == plain]
    if len(plain) > 2:  # "3090"
        found = found or [one for one in GPUS if _plain(one).endswith(plain)]
        found = found or [one for one in GPUS if _family(one).endswith(plain)]
    if found:
        chosen = min(found, key=GPUS.__getitem__)
        return chosen, int(GPUS[chosen] * _GIB)
    known = ", ".join(f"{one} ({GPUS[one]:g} GiB)" for one in sorted(GPUS, key=GPUS.__getitem__))
    raise RequestError(
        f"--gpu {printable(name)!r}: no such GPU is known; give its memory, as in --memory 24GiB, "
        f"or one of {known}"
    )


def _plain(name: str) -> str:
    """The name without the maker's words: "a10040gb"."""
    return _MAKER.sub("", name.casefold())


def _family(name: str) -> str:
    """The name without a size: "a100"."""
    return _plain(name.partition("-")[0])
