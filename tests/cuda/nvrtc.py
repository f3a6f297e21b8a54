"""NVIDIA's run-time compiler without a GPU, and what it says a kernel takes of a multiprocessor."""
from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

from gpugrad.backend import kernels

DTYPES = tuple(kernels.FLAGS)
ARCHS = (70, 75, 80, 86, 89, 90, 100, 120)
WHEELS = "nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12"

Usage = dict[str, dict[str, int]]       # of each kernel


class NVRTC:
    """The compiler through ctypes, so that neither CuPy nor a driver is needed."""

    def __init__(self, library: Path, include: Path) -> None:
        self.lib, self.include = ctypes.CDLL(str(library)), include
        major, minor, n = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self.lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"
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


def installed(pattern: str) -> Path | None:
    """A file in the wheels that share the namespace package ``nvidia``."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(p for root in roots for p in Path(root).glob(pattern))
    return found[0] if found else None


def find() -> NVRTC | None:
    """NVRTC with CUDA's headers, from the wheels; None if they are not installed."""
    library = installed("*/lib/libnvrtc.so.*") or installed("*/bin/**/nvrtc64_*_0.dll")
    header = installed("*/include/cuda_fp16.h")
    return None if library is None or header is None else NVRTC(library, header.parent)


def usage(log: str) -> Usage:
    """Of each kernel its registers, and the bytes of its shared memory, stack and spills."""
    def number(pattern: str, text: str) -> int:
        return sum(map(int, re.findall(pattern, text)))

    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return {name: {"registers": number(r"Used (\d+) registers", text),
                   "shared": number(r"(\d+) bytes smem", text),
                   "stack": number(r"(\d+) bytes stack frame", text),
                   "spilled": number(r"(\d+) bytes spill", text)}
            for name, text in zip(parts[::2], parts[1::2])}


def check(log: str, text: str) -> Usage:
    """No warnings; every kernel of the file there, in registers alone."""
    warnings = [line for line in log.splitlines()
                if "warning" in line and "Architectures prior to" not in line]
    assert not warnings, log
    used = usage(log)
    assert sorted(used) == sorted(kernels.names(text))
    for name, u in used.items():
        assert u["registers"] and not u["stack"] and not u["spilled"], f"{name}: {u}"
    return used


def compiled(nvrtc: NVRTC, file: str, arch: int, dtype: str, wide: bool = False) -> Usage:
    """What the kernels of a file take, compiled as the launcher does."""
    options = kernels.options(dtype, wide)
    if dtype in ("float16", "bfloat16"):            # the others must do without any header
        options += (f"--include-path={nvrtc.include}",)
    text = kernels.source(file)
    return check(nvrtc.compile(text, f"{file}.cu", arch, options), text)
