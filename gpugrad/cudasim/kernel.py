"""Launches compiled kernels: checks and packs arguments, and raises what went wrong."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad.cudasim import memory
from gpugrad.cudasim.errors import KINDS, ArgumentError, LaunchError
from gpugrad.cudasim.errors import SimulatorError as SimulatorError
from gpugrad.cudasim.memory import Pointer
from gpugrad.cudasim.source import lines

if TYPE_CHECKING:
    from gpugrad.cudasim.compiler import Module

# The device that is simulated.
CAPABILITY = (8, 0)
MAX_THREADS, MAX_BLOCK, MAX_GRID = 1024, (1024, 1024, 64), (2**31 - 1, 65535, 65535)
SHARED = 48 << 10                   # bytes that a block has
SHARED_AT_MOST = 163 << 10          # if the kernel asks: Kernel.max_dynamic_shared_size_bytes


class Settings:
    """How kernels run, from the next launch on.

    mode: "plain" is fast; "check" finds faults; "coverage" counts lines.
    order: of threads and blocks: "forward", "reversed", or a seed for a random one.
    patience: how often a thread may access memory without meeting another one, before it counts as
    waiting in vain (checked accesses and atomic operations only).
    """

    patience = 1 << 28

    def __init__(self) -> None:
        self.mode = os.environ.get("GPUGRAD_CUDASIM_MODE") or "check"
        self.order = os.environ.get("GPUGRAD_CUDASIM_ORDER") or "forward"

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in ("plain", "check", "coverage"):
            raise ValueError(f"the simulator's mode is plain, check or coverage, not {mode!r}")
        self._mode = mode

    @property
    def order(self) -> str | int:
        return self._order

    @order.setter
    def order(self, order: str | int) -> None:
        try:
            if order in ("forward", "reversed"):
                self._order: str | int = order
                self.packed = int(order == "reversed"), 0
            else:
                seed = self._order = int(order)
                self.packed = 2, seed & 0xffffffff
        except ValueError:
            raise ValueError(f"the simulator's order is forward, reversed or a seed, not "
                             f"{order!r}") from None

    @contextlib.contextmanager
    def using(self, mode: str | None = None, order: str | int | None = None) -> Iterator[None]:
        """Other settings for a while."""
        before = self._mode, self._order
        try:
            self.mode = self._mode if mode is None else mode
            self.order = self._order if order is None else order
            yield
        finally:
            self.mode, self.order = before


settings = Settings()


# ---- parameters -------------------------------------------------------------------------------

_DTYPES = {"?": "?", "b": "i1", "h": "i2", "i": "i4", "l": "i8", "B": "u1", "H": "u2", "I": "u4",
           "L": "u8", "e": "f2", "f": "f4", "d": "f8"}
_NAMES = {"?": "bool", "b": "signed char", "h": "short", "i": "int", "l": "long long",
          "B": "unsigned char", "H": "unsigned short", "I": "unsigned", "L": "unsigned long long",
          "e": "__half", "E": "__nv_bfloat16", "f": "float", "d": "double", "S": "struct",
          "v": "void", "A": "pointer"}
# Arrays that a pointer may be of: integers of either sign, and bytes for bool.
_ARRAYS = {code: frozenset(map(np.dtype, of.split(","))) for codes, of in (
    ("?bB", "?,i1,u1"), ("hH", "i2,u2"), ("iI", "i4,u4"), ("lLA", "i8,u8"), ("e", "f2"),
    ("f", "f4"), ("d", "f8")) for code in codes}


def _pointer(code: str, const: bool) -> Callable[[Any], Any]:
    """What turns an argument into the address that a pointer parameter takes."""
    declared = f"{'const ' if const else ''}{_NAMES[code]}*"
    anything = code in "Sv"
    allowed = _ARRAYS.get(code, frozenset())

    def take(a: Any) -> int:
        if type(a) is Pointer:
            if anything or a.dtype in allowed or a.dtype is None or (
                    code == "E" and a.dtype.name == "bfloat16"):
                return a.address
            raise ArgumentError(f"is an array of {a.dtype}, but the kernel declares {declared}")
        if a is None:
            return 0
        if isinstance(a, (int, np.integer)) and not isinstance(a, bool):
            if not a or memory.holds(int(a)):
                return int(a)
            raise ArgumentError(f"is {a!r}, which is no address in device memory, but the kernel "
                                f"declares {declared}")
        if isinstance(a, np.ndarray):
            raise ArgumentError(f"is a NumPy array, in the host's memory; the kernel declares "
                                f"{declared} and needs an array of the device")
        raise ArgumentError(f"is {type(a).__name__} {a!r}, but the kernel declares {declared}")

    return take


def _struct(size: int) -> Callable[[Any], Any]:
    def take(a: Any) -> bytes:
        if isinstance(a, np.ndarray) and a.dtype.kind == "V" and a.size == 1:
            a = a.reshape(())[()]
        if not isinstance(a, (np.void, np.complexfloating)):
            raise ArgumentError(f"is {type(a).__name__}, but the kernel declares a struct of "
                                f"{size} bytes by value: pass a NumPy structured scalar")
        if a.nbytes != size:
            raise ArgumentError(f"has {a.nbytes} bytes, but the kernel declares a struct of {size}")
        return a.tobytes()

    return take


def _number(code: str) -> Callable[[Any], Any]:
    """What checks a number passed by value, and hands over what ``struct`` packs."""
    exact: Any = np.dtype(_DTYPES[code]).type if code != "E" else None
    name, kind = _NAMES[code], "E" if code == "E" else np.dtype(_DTYPES[code]).kind

    def take(a: Any) -> Any:
        if type(a) is exact:
            return a
        if isinstance(a, np.ndarray):
            raise ArgumentError(f"is a NumPy array of shape {a.shape}, but the kernel declares "
                                f"{name}: pass a NumPy scalar of that type")
        if code == "E" and getattr(getattr(a, "dtype", None), "name", "") == "bfloat16":
            return int(np.asarray(a).view(np.uint16))
        if kind in "iu" and type(a) is int:           # right on a GPU too, as long as it fits
            limits = np.iinfo(exact)
            if limits.min <= a <= limits.max:
                return a
            raise ArgumentError(f"is {a}, too large for the {name} that the kernel declares")
        if kind in "iu" and isinstance(a, np.integer) and a.dtype.itemsize == exact().itemsize:
            limits = np.iinfo(exact)
            if limits.min <= a <= limits.max:
                return a
        if (code == "d" and type(a) is float) or (code == "?" and type(a) is bool):
            return a
        given = a.dtype.name if isinstance(a, np.generic) else type(a).__name__
        if isinstance(a, Pointer):
            given = f"an array of {a.dtype}"
        hint = "" if code == "E" else f": pass numpy.{np.dtype(exact).name}"
        raise ArgumentError(f"is {given}, but the kernel declares {name}{hint}")

    return take


HEADER = "=QQIIIIIIQQIIII"       # struct Launch of runtime/device.h


@functools.lru_cache(4096)
def _dimensions(grid: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """Grid and block filled up with ones; LaunchError if a device doesn't allow them."""
    for what, sizes, most in (("grid", grid, MAX_GRID), ("block", block, MAX_BLOCK)):
        if not 1 <= len(sizes) <= 3 or min(sizes) < 1:
            raise LaunchError(f"the {what} is {sizes}; it has 1 to 3 dimensions, all at least 1")
        if any([size > limit for size, limit in zip(sizes, most)]):
            raise LaunchError(f"the {what} is {sizes}; the most that a device allows is {most}")
    grid, block = grid + (1,) * (3 - len(grid)), block + (1,) * (3 - len(block))
    if block[0] * block[1] * block[2] > MAX_THREADS:
        raise LaunchError(f"the block {block} has {block[0] * block[1] * block[2]} threads; a "
                          f"device allows {MAX_THREADS}")
    return tuple(map(int, grid + block))


class _Prepared:
    """A kernel as compiled for one mode: its addresses, and how its arguments are packed."""

    def __init__(self, module: Module, name: str, mode: str) -> None:
        from gpugrad.cudasim.compiler import runtime

        self.binary = module.binary(mode)
        self.checked = int(mode == "check")
        self.runtime = runtime()
        self.launch = self.runtime.cs_launch
        self.entry, signature, self.max_threads = self.binary.kernels[name]
        self.place = self.binary.place
        self.take: list[Callable[[Any], Any]] = []
        layout, end = HEADER, 0
        for part in signature.split(",")[:-1]:
            code, size, alignment = part.split()
            layout += f"{-end % int(alignment)}x"
            end += -end % int(alignment) + int(size)
            if code[0] in "pP":
                self.take.append(_pointer(code[1], code[0] == "p"))
                layout += "Q"
            elif code == "S":
                self.take.append(_struct(int(size)))
                layout += f"{size}s"
            else:
                self.take.append(_number(code))
                layout += {"l": "q", "L": "Q", "E": "H"}.get(code, code)
        self.pack = struct.Struct(layout).pack


class Kernel:
    """A kernel of a module; calling it runs it, in the mode and order of ``settings``."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 0      # more than 48 KiB must be asked for
        self._prepared: dict[str, _Prepared] = {}

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...],
                 shared_mem: int = 0) -> None:
        """Run it. args: Pointers for arrays, NumPy scalars of the declared types for the rest."""
        p = self._prepared.get(settings._mode)
        if p is None:
            mode = settings.mode
            p = self._prepared[mode] = _Prepared(self.module, self.name, mode)
        try:
            sizes = _dimensions(grid, block)
            if shared_mem > SHARED or p.max_threads:
                self._check(p, sizes, shared_mem)
            if len(args) != len(p.take):
                raise ArgumentError(f"{len(args)} arguments for {len(p.take)} parameters")
            values = [take(a) for take, a in zip(p.take, args)]
            packed = p.pack(p.entry, p.place, *sizes, shared_mem,
                            SHARED_AT_MOST if self.max_dynamic_shared_size_bytes else SHARED,
                            *settings.packed, p.checked, settings.patience, *values)
        except SimulatorError as e:
            raise self._named(e, p, grid, block, args) from None
        if p.launch(packed):
            raise self.fault(p, sizes)

    def _check(self, p: _Prepared, sizes: tuple[int, ...], shared_mem: int) -> None:
        threads, asked = sizes[3] * sizes[4] * sizes[5], self.max_dynamic_shared_size_bytes
        if p.max_threads and threads > p.max_threads:
            raise LaunchError(f"a block of {threads} threads, but its __launch_bounds__ are "
                              f"{p.max_threads}")
        if shared_mem > max(SHARED, min(asked, SHARED_AT_MOST)):
            raise LaunchError(
                f"{shared_mem} bytes of shared memory; a block has {SHARED}, or up to "
                f"{SHARED_AT_MOST} if max_dynamic_shared_size_bytes asks for them")

    def _named(self, error: SimulatorError, p: _Prepared, grid: Any, block: Any,
               args: tuple[Any, ...]) -> SimulatorError:
        """The error with the kernel's name and, of an argument, its number."""
        text = str(error)
        if isinstance(error, ArgumentError) and len(args) == len(p.take):
            for i, (take, a) in enumerate(zip(p.take, args)):
                try:
                    take(a)
                except ArgumentError:
                    text = f"argument {i} {text}"
                    break
        new = type(error)(f"{self.name}<<<{grid}, {block}>>>: {text}")
        new.kernel = self.name
        return new

    def fault(self, p: Any, sizes: tuple[int, ...]) -> SimulatorError:
        """The exception for what the runtime says of the last launch. p has runtime and binary."""
        fault = _Fault.from_address(p.runtime.cs_fault())
        where = _source_lines(p.binary.path, [fault.place[i].pc for i in range(fault.places)])
        if fault.file:
            where = [[(_relative(fault.file.decode()), fault.line)]]
        said = []
        for i in range(fault.places):
            place = fault.place[i]
            said.append(f"block {place.block[:]} thread {place.thread[:]}".replace("[", "(")
                        .replace("]", ")") + _at(where[i]))
        text = fault.text.decode(errors="replace")
        for i, words in enumerate(said):
            text = text.replace(f"{{{i}}}", words)
        kind = KINDS[fault.kind]
        text = f"{self.name}<<<{sizes[:3]}, {sizes[3:]}>>>: {text}"
        known = lines(self.module.code, self.module.path)
        shown = dict.fromkeys(w[0] for w in where if w and known.get(w[0], "").strip())
        text += "".join(f"\n    {file}:{line}: {known[file, line].strip()}" for file, line in shown)
        error = kind(text)
        error.kernel = self.name
        if fault.places:
            last = fault.place[fault.places - 1]
            error.block, error.thread = tuple(last.block), tuple(last.thread)
            if where[-1]:
                error.file, error.line = where[-1][0]
        return error


# ---- faults -----------------------------------------------------------------------------------


class _Place(ctypes.Structure):
    _fields_ = [("pc", ctypes.c_uint64), ("block", ctypes.c_uint * 3),
                ("thread", ctypes.c_uint * 3)]


class _Fault(ctypes.Structure):
    """struct Fault of runtime/device.h."""

    _fields_ = [("kind", ctypes.c_int32), ("places", ctypes.c_int32), ("place", _Place * 2),
                ("line", ctypes.c_uint32), ("file", ctypes.c_char * 252),
                ("text", ctypes.c_char * 1024)]


def _relative(file: str) -> str:
    """A source's name without the folder that it was compiled in."""
    return file.removeprefix("/source/")


def _at(frames: list[tuple[str, int]]) -> str:
    """The place in words; an inlined function's with its callers."""
    if not frames:
        return ""
    first, *callers = [f"{file}:{line}" for file, line in frames]
    return f" at {first}" + "".join(f", called at {caller}" for caller in callers)


def _source_lines(library: Any, pcs: list[int]) -> list[list[tuple[str, int]]]:
    """For each address the source's lines, that of an inlined function before its caller's.

    An address that isn't known has none. The simulator's own headers are left out.
    """
    found: list[list[tuple[str, int]]] = [[] for _ in pcs]
    known = [i for i, pc in enumerate(pcs) if pc]
    if not known:
        return found
    try:
        out = subprocess.run(["addr2line", "-a", "-i", "-e", str(library),
                              *[hex(pcs[i] - 1) for i in known]], capture_output=True, text=True)
    except OSError:                     # binutils is there with every g++, but perhaps no more
        return found
    which = -1
    for text in out.stdout.splitlines():
        m = re.match(r"(.*):(\d+)", text)
        if text.startswith("0x"):
            which += 1
        elif m and "/cudasim/include/" not in m[1] and m[1] != "??":
            found[known[which]].append((_relative(m[1]), int(m[2])))
    return found
