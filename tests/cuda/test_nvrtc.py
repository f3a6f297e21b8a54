"""Every kernel compiles for every dtype and GPU generation: with NVRTC from PyPI, without a GPU.

GPUGRAD_NVRTC_ARCHS=70,90 compiles for these alone.
"""
from __future__ import annotations

import os
import re

import budgets
import pytest
from nvrtc import ARCHS, DTYPES, NVRTC, WHEELS, check, compiled, find

from gpugrad.backend import kernel_files, kernels

ASKED = [int(arch) for arch in os.environ.get("GPUGRAD_NVRTC_ARCHS", "").split(",") if arch]


@pytest.fixture(scope="module")
def nvrtc() -> NVRTC:
    found = find()
    if found is None:
        pytest.skip(f"NVRTC or CUDA's headers are not installed: pip install {WHEELS}")
    return found


@pytest.mark.parametrize("arch", ASKED or ARCHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", kernels.sources())
def test_compiles(nvrtc: NVRTC, file: str, dtype: str, arch: int) -> None:
    if arch not in nvrtc.archs:
        pytest.skip(f"this NVRTC does not know sm_{arch}; CUDA 12's does")
    used = compiled(nvrtc, file, arch, dtype)
    if nvrtc.version == budgets.read()["nvrtc"]:            # others give out registers otherwise
        assert not budgets.excess(file, arch, dtype, used)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", kernels.sources())
def test_compiles_with_64_bit_indices(nvrtc: NVRTC, file: str, dtype: str) -> None:
    compiled(nvrtc, file, 80, dtype, wide=True)


FILL = "float a[64]; for (int k = 0; k < 64; ++k) a[k] = x[k];"
STORE = "for (int k = 0; k < 64; ++k) x[k] = a[k];"


@pytest.mark.parametrize("fault", [
    # 64 values at a time, where two blocks of 1024 threads leave 32 registers to each
    FILL + "for (int r = 0; r < 9; ++r) for (int k = 0; k < 64; ++k) a[k] *= a[(k + r) % 64];"
    + STORE,
    # an array that is indexed at run time is on the stack
    FILL + "for (int k = 0; k < x[0]; ++k) a[(int) x[k]] += a[(int) x[k + 1]];" + STORE,
    "int unused; x[0] = 1;",
    "x[0] = 1 +;",
    "x[0] = INFINITY;",                         # g++ knows it, NVRTC doesn't
], ids=["spill", "stack", "warning", "syntax", "name"])
def test_faults_are_found(nvrtc: NVRTC, fault: str) -> None:
    text = f'extern "C" __launch_bounds__(1024, 2) __global__ void bad(float* x) {{ {fault} }}'
    with pytest.raises(AssertionError):
        check(nvrtc.compile(text, "bad.cu", 80, ()), 'extern "C" __global__ void bad(')


def test_a_sound_kernel_passes(nvrtc: NVRTC) -> None:
    text = 'extern "C" __global__ void good(float* x) { x[threadIdx.x] = 1; }'
    assert check(nvrtc.compile(text, "good.cu", 80, ()), text)["good"]["registers"] > 0


def test_every_kernel_has_a_budget_and_a_line_in_the_table() -> None:
    made = {f"{file}.{name} {dtype}" for file, text in kernels.sources().items()
            for name in kernels.names(text) for dtype in DTYPES}
    assert made == set(budgets.read()["kernels"])
    assert budgets.read()["archs"] == list(ARCHS)
    assert budgets.as_table(budgets.read()) == budgets.TABLE.read_text(encoding="utf-8")
    assert budgets.as_json(budgets.read()) == budgets.PATH.read_text(encoding="utf-8")


def test_what_is_beyond_the_budget_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"registers": [33] * len(ARCHS), "shared": [64] * len(ARCHS)}
    monkeypatch.setattr(budgets, "read", lambda: {
        "archs": list(ARCHS), "kernels": {"f.k float32": entry}})

    def found(registers: int, shared: int, kernel: str = "k") -> int:
        return len(budgets.excess("f", 80, "float32",
                                  {kernel: {"registers": registers, "shared": shared}}))
    assert found(40, 64) == 0 and found(41, 64) == 1 and found(41, 65) == 2
    assert found(1, 0, "other") == 1


def test_windows_are_packed_as_the_kernels_read_them() -> None:
    struct = re.search(r"struct Windows \{\s*int ([\w, ]+);\s*\};", kernels.source("pool"))
    assert struct is not None
    assert tuple(struct[1].split(", ")) == kernels.WINDOWS.names
    assert kernels.WINDOWS.itemsize == 4 * len(kernels.WINDOWS.names)
    w = kernels.windows((5, 6), (3, 2), (2, 3), (1, 2), (0, 1), (1, 1))
    assert w.size == 1 and w.dtype == kernels.WINDOWS and w["ow"] == 2 and w["pw"] == 1


def test_sources_stand_alone_and_keep_their_line_numbers() -> None:
    for file, text in kernels.sources().items():
        assert '#include "' not in text
        original = kernel_files.text(f"{file}.cu").splitlines()
        tail = text[text.rindex("#line "):].splitlines()
        first = int(tail[0].split()[1])
        assert tail[1:] == original[first - 1:]


def test_dtypes_are_those_of_the_launcher() -> None:
    assert {d.name for d in kernels.DEFINES} | {"bfloat16"} == set(DTYPES)
