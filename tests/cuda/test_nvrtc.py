"""Every kernel compiles for every dtype and GPU generation: with NVRTC from PyPI, without a GPU."""
from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from gpugrad.backend import kernels

DTYPES = ("float32", "float64", "float16")
ARCHS = (70, 75, 80, 90, 120)
WHEELS = "nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12"


def installed(pattern: str) -> Path | None:
    """A file in the wheels that share the namespace package ``nvidia``."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(p for root in roots for p in Path(root).glob(pattern))
    return found[0] if found else None


class NVRTC:
    """NVIDIA's run-time compiler through ctypes, so that neither CuPy nor a driver is needed."""

    def __init__(self, library: Path, include: Path) -> None:
        self.lib, self.include = ctypes.CDLL(str(library)), include
        n = ctypes.c_int()
        self.lib.nvrtcGetNumSupportedArchs(ctypes.byref(n))
        archs = (ctypes.c_int * n.value)()
        self.lib.nvrtcGetSupportedArchs(archs)
        self.archs = set(archs)

    def compile(self, text: str, name: str, arch: int, options: tuple[str, ...]) -> str:
        """The compiler's log; an AssertionError with it if the text doesn't compile."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None,
                                    None)
        flags = [f"--gpu-architecture=sm_{arch}", "--ptxas-options=-v", *options]
        status = self.lib.nvrtcCompileProgram(
            program, len(flags), (ctypes.c_char_p * len(flags))(*[f.encode() for f in flags]))
        self.lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.lib.nvrtcGetProgramLog(program, log)
        self.lib.nvrtcDestroyProgram(ctypes.byref(program))
        assert status == 0, f"{name} for sm_{arch} with {options}:\n{log.value.decode()}"
        return log.value.decode()


@pytest.fixture(scope="module")
def nvrtc() -> NVRTC:
    library = installed("*/lib/libnvrtc.so.*") or installed("*/bin/**/nvrtc64_*_0.dll")
    header = installed("*/include/cuda_fp16.h")
    if library is None or header is None:
        pytest.skip(f"NVRTC or CUDA's headers are not installed: pip install {WHEELS}")
    return NVRTC(library, header.parent)


Usage = dict[str, dict[str, int]]       # of each kernel


def usage(log: str) -> Usage:
    """Registers, stack and spilled bytes of each kernel, from what ptxas says."""
    def number(pattern: str, text: str) -> int:
        return sum(map(int, re.findall(pattern, text)))

    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return {name: {"registers": number(r"Used (\d+) registers", text),
                   "stack": number(r"(\d+) bytes stack frame", text),
                   "spilled": number(r"(\d+) bytes spill", text)}
            for name, text in zip(parts[::2], parts[1::2])}


def check(log: str, text: str) -> Usage:
    """No warnings; every kernel of the file there, in registers alone."""
    warnings = [line for line in log.splitlines()
                if "warning" in line and "Architectures prior to" not in line]
    assert not warnings, log
    used = usage(log)
    assert sorted(used) == sorted(re.findall(r'extern "C" __global__ void (\w+)\(', text))
    for name, u in used.items():
        assert u["registers"] and not u["stack"] and not u["spilled"], f"{name}: {u}"
    return used


def compiled(nvrtc: NVRTC, file: str, arch: int, dtype: str, wide: bool) -> Usage:
    options = kernels.options(dtype, wide)
    if dtype == "float16":          # the others must do without any header
        options += (f"--include-path={nvrtc.include}",)
    text = kernels.source(file)
    return check(nvrtc.compile(text, f"{file}.cu", arch, options), text)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", kernels.sources())
def test_compiles(nvrtc: NVRTC, file: str, dtype: str, arch: int) -> None:
    if arch not in nvrtc.archs:
        pytest.skip(f"this NVRTC does not know sm_{arch}; CUDA 12's does")
    for name, used in compiled(nvrtc, file, arch, dtype, wide=False).items():
        print(f"{file}.{name} {dtype} sm_{arch}: {used['registers']} registers")


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
        original = (kernels.folder() / f"{file}.cu").read_text().splitlines()
        tail = text[text.rindex("#line "):].splitlines()
        first = int(tail[0].split()[1])
        assert tail[1:] == original[first - 1:]


def test_dtypes_are_those_of_the_launcher() -> None:
    assert set(kernels.DEFINES) == {np.dtype(d) for d in DTYPES}
