"""The compiled helper: C kernels for what NumPy does badly, built by the machine's own C compiler.

``library()`` gives the kernels of kernels/cpu/*.c, or None: without a C compiler, on systems
without POSIX threads, or with GPUGRAD_CPU_KERNELS=0. It is called by the ops' ``cpu`` bodies, which
return NotImplemented for None, and then NumPy does the work. The first call compiles, a few seconds
once for each version of the sources, compiler and processor; the result is kept in
GPUGRAD_CPU_CACHE, or the user's cache folder.

A kernel is a C function without result that takes numpy arrays (``const Array *``, see
kernels/cpu/array.h) and numbers; its parameters are read from its declaration, KERNEL name(...).
Arrays are float32 (int64 for indices), C-contiguous unless the kernel says that it looks at
strides; the caller sees to it, nothing is checked here. The interpreter's lock is released
meanwhile.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from gpugrad.backend import freed_memory, kernel_files, threads

_FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math",
          "-fvisibility=hidden", "-pthread", "-w"]
# The compiler's choice would be half of what the processor has.
_NATIVE = [["-march=native", "-mprefer-vector-width=512"], ["-march=native"], ["-mcpu=native"], []]
_KERNEL = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.M)
_TYPES = {"Array *": ctypes.py_object, "List *": ctypes.py_object, "intptr_t ": ctypes.c_ssize_t,
          "int ": ctypes.c_int, "real ": ctypes.c_float, "double ": ctypes.c_double}

FLOAT = np.dtype(np.float32)
ABSENT = np.empty(0, FLOAT)     # what kernels get for an array that there isn't

_making = threading.Lock()
_found: list[Any] = []          # the library, or None, once it is known
why_not = [""]                  # the reason for None


def library() -> Any:
    """The kernels as functions of an object, or None."""
    return _found[0] if _found else _find()


def for_floats(first: Any, *arrays: Any) -> Any:
    """library(), if ``first`` has elements and all, None aside, are float32; else None.

    NumPy's scalars, which rules may pass for 0-dim arrays, aren't what kernels can read.
    """
    if first.dtype != FLOAT or not first.size or type(first) is not np.ndarray:
        return None
    for a in arrays:
        if a is not None and (a.dtype != FLOAT or type(a) is not np.ndarray):
            return None
    return library()


def dense(a: Any) -> Any:
    """a in C order, as kernels read it; ABSENT for None."""
    return ABSENT if a is None else a if a.flags.c_contiguous else np.ascontiguousarray(a)


def each(name: str, *arrays: Any, numbers: tuple[Any, ...] = ()) -> Any:
    """A kernel of activation.c on arrays of one shape: a new array in the last one's memory order.

    NotImplemented without the helper, and for arrays that aren't float32.
    """
    c = for_floats(*arrays)
    if c is None:
        return NotImplemented
    out = np.empty_like(arrays[-1])
    getattr(c, name)(*[like(a, out) for a in arrays], *numbers, out)
    return out


def total(x: Any, dim: Any) -> Any:
    """The sum over a tuple of dims, or all for None, as one dim; None if it isn't for the helper:
    the dims must be the first or the last ones."""
    n, shape = x.ndim, x.shape
    first = 0 if dim is None else n - len(dim)
    rows = dim is None or dim == tuple(range(first, n))
    if not (x.flags.c_contiguous and (rows or dim == tuple(range(len(dim))))):
        return None
    kept = shape[:first] if rows else shape[len(dim):]
    c = for_floats(x)
    if c is None:
        return None
    out = np.empty(math.prod(kept), FLOAT)
    if rows:
        c.row_sums(x, np.empty(x.size // 16384 + out.size, FLOAT), out)
    else:
        c.column_sums(x, out)
    return out


def like(a: Any, out: Any) -> Any:
    """a laid out as ``out`` is, which is dense and of its shape or a greater one."""
    if a.strides == out.strides and a.shape == out.shape:
        return a
    copy = np.empty_like(out)
    copy[...] = a
    return copy


def _find() -> Any:
    with _making:
        if not _found:
            freed_memory.keep()         # arrays are large enough by now for it to matter
            try:
                made = _load(_build())
                made.use_threads(threads.get())
            except _Missing as error:
                made, why_not[0] = None, str(error)
            _found.append(made)
    return _found[0]


def set_threads(n: int) -> None:
    """Let the kernels use n threads; nothing is compiled for that."""
    with _making:
        if _found and _found[0] is not None:
            _found[0].use_threads(n)


def _in_child() -> None:
    """After a fork: the lock may be one that a thread of the parent held."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class _Missing(Exception):
    """There can be no helper here."""


def compiler() -> list[str] | None:
    """The C compiler's command: CC's, or the first of the usual names that is there."""
    chosen = os.environ.get("CC", "")
    for command in [shlex.split(chosen)] if chosen else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(command[0]) if command else None
        if path:
            return [path, *command[1:]]
    return None


@functools.cache
def _processor() -> str:
    """What distinguishes processors to which -march=native means different things."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        lines = [line for line in file.read().split("\n\n")[0].split("\n")
                 if line.startswith(("model name", "flags", "Features", "CPU part"))]
        return "\n".join(lines)
    import platform

    return platform.machine() + platform.processor()


def cache_folder() -> str:
    """Where libraries are kept."""
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("GPUGRAD_CPU_CACHE") or os.path.join(users, "gpugrad", "cpu")


def _build() -> str:
    """The path of the library, compiled if it isn't there."""
    import hashlib
    import tempfile

    if os.environ.get("GPUGRAD_CPU_KERNELS", "1") == "0":
        raise _Missing("GPUGRAD_CPU_KERNELS=0 says so")
    if os.name != "posix" or sys.implementation.name != "cpython":
        raise _Missing("it is for CPython on POSIX systems")
    command = compiler()
    if command is None:
        raise _Missing("there is no C compiler on the PATH: install gcc or clang, or name one "
                       "in CC")
    sources = {name: kernel_files.text(name) for name in kernel_files.names()
               if name.startswith("cpu/") or name.endswith("_steps.cuh")}
    made_by = os.stat(command[0])                   # asking it for its version takes milliseconds
    h = hashlib.sha256("\0".join([
        *command, str(made_by.st_size), str(made_by.st_mtime_ns), _processor(), *_FLAGS,
        str(object.__basicsize__), *sources, *sources.values()]).encode())
    path = os.path.join(cache_folder(), h.hexdigest()[:24] + ".so")
    if os.path.exists(path):
        return path
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as work:
            os.mkdir(os.path.join(work, "cpu"))
            for name, text in sources.items():
                with open(os.path.join(work, name), "w", encoding="utf-8") as file:
                    file.write(text)
            made = _compile(command, [os.path.join(work, name) for name in sources
                                      if name.endswith(".c")], work)
            os.replace(made, path)
    except OSError as error:
        raise _Missing(f"the cache folder {os.path.dirname(path)} can't be written to ({error}): "
                       "name another one in GPUGRAD_CPU_CACHE") from error
    return path


def _compile(command: list[str], sources: list[str], work: str) -> str:
    """One library of all sources, each compiled by a process of its own."""
    said = ""
    for native in _NATIVE:
        flags = [*_FLAGS, *native, f"-DHEAD={object.__basicsize__}",
                 '-DKERNEL=__attribute__((visibility("default"))) void']
        objects = [os.path.join(work, os.path.basename(s)[:-2] + ".o") for s in sources]
        jobs = [subprocess.Popen([*command, *flags, "-c", s, "-o", o], stderr=subprocess.PIPE,
                                 text=True) for s, o in zip(sources, objects)]
        said = "".join([job.communicate()[1] for job in jobs])
        if any([job.returncode for job in jobs]):
            continue
        made = os.path.join(work, "made.so")
        link = subprocess.run([*command, "-shared", "-pthread", *objects, "-o", made, "-lm"],
                              capture_output=True, text=True)
        if not link.returncode:
            return made
        said = link.stderr
    raise _Missing(f"{' '.join(command)} can't compile it: {said.strip()[:2000]}")


class Library:
    """The kernels, each a function; ``alone`` says that they use one thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        lib = ctypes.CDLL(path)
        for file in [name for name in kernel_files.names() if name.endswith(".c")]:
            for name, parameters in _KERNEL.findall(kernel_files.text(file)):
                function = getattr(lib, name)
                function.argtypes = [_type(p) for p in parameters.replace("\n", " ").split(",")]
                function.restype = None
                setattr(self, name, function)

    def use_threads(self, n: int) -> None:
        self.set_threads(n)  # type: ignore[attr-defined]
        self.alone = n <= 1


def _type(parameter: str) -> Any:
    """The ctypes type of a declared parameter, "const Array *x" or "intptr_t n"."""
    return _TYPES[re.sub(r"\w+$", "", " ".join(parameter.replace("const ", "").split()))]


def _load(path: str) -> Library:
    try:
        made = Library(path)
    except (OSError, AttributeError) as error:       # or the sources changed since it was built
        raise _Missing(f"{path} can't be loaded: {error}") from error
    a, found = np.zeros((2, 3), np.float32), np.zeros(1, np.int64)
    made.address(a, found)  # type: ignore[attr-defined]
    if found[0] != a.__array_interface__["data"][0]:
        raise _Missing("arrays of this NumPy lie in memory in another way than it knows")
    made.listed([a, a + 1], found)  # type: ignore[attr-defined]
    if found[0] != 1:
        raise _Missing("lists of this Python lie in memory in another way than it knows")
    return made
