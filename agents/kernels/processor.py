"""What this processor has, for those who choose between a compiled kernel and torch.

torch says it, and its environment variable ATEN_CPU_CAPABILITY=default makes it say that there is
nothing: so the other path can be tried anywhere. Left out: which instruction set a kernel takes
(mlp/isa.h), and devices that are no processor.
"""

from __future__ import annotations

import ctypes
import platform

import torch
from playout.agents.runs.devices import slow_bfloat16


def fuses_multiply_add() -> bool:
    """Whether float32 multiply-add is one instruction (AVX2 with FMA, NEON and the like).

    Our kernels round as that instruction does; without it they would have to imitate it, and torch
    is faster.
    """
    old = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
    return not old or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX")


def multiplies_bfloat16() -> bool:
    """Whether bfloat16 convolutions and products are worth while here."""
    native = fuses_multiply_add() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return native and not slow_bfloat16()


def openmp_team() -> tuple[int, int, int]:
    """Addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads of torch's OpenMP.

    For team.h. Zeros where torch computes with other threads than OpenMP's, or with an OpenMP that
    lacks the entry.
    """
    try:
        loaded = ctypes.CDLL(None)  # what torch has loaded is visible to all
        found = loaded.GOMP_parallel, loaded.omp_get_thread_num, loaded.omp_get_num_threads
    except (AttributeError, OSError, TypeError):  # TypeError: no such handle on Windows
        return 0, 0, 0
    parallel, number, size = (ctypes.cast(entry, ctypes.c_void_p).value or 0 for entry in found)
    return parallel, number, size
