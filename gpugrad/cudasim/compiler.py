"""Compiles CUDA C++ and the simulator's own runtime with g++, once for each text and mode."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpugrad.cudasim import memory
from gpugrad.cudasim.errors import CompileError, NoCompilerError
from gpugrad.cudasim.kernel import Kernel, settings
from gpugrad.cudasim.source import Rewriter, excerpts, exports

HERE = Path(__file__).parent
RUNTIME, INCLUDE = HERE / "runtime", HERE / "include"

# Both runtime and modules. Symbols bind to the library itself: a kernel may be named as a function
# of libc, and one template in two modules is two.
_SHARED = ["-shared", "-fPIC", "-Wl,--as-needed", "-Wl,-Bsymbolic"]
_RUNTIME = ["-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fcf-protection=none"]
# No fused multiply-adds, so that results don't depend on the machine.
_MODULE = ["-w", "-g1", "-gdwarf-4", "-fPIC", "-fno-gnu-unique", "-fno-strict-aliasing",
           "-ffp-contract=off", "-fno-math-errno", "-fno-exceptions", "-fsigned-char",
           "-fno-threadsafe-statics",
           "-fno-optimize-sibling-calls",       # who calls the runtime must be on the stack
           "-fno-diagnostics-show-caret", "-fdiagnostics-color=never", "-fmax-errors=20"]
MODES = {
    "plain": ["-O2", "-fwrapv"],
    # Calls before each access and for arithmetic's faults; runtime/ has what they call.
    "check": ["-O1", "-fno-wrapv", "-fsanitize=thread", "-fsanitize=bounds,shift,alignment,"
              "integer-divide-by-zero,signed-integer-overflow,float-cast-overflow"],
    "coverage": ["-O0", "-fwrapv", "--coverage"],
}
# Options of NVRTC that change nothing here.
_IGNORED = re.compile(
    r"-{1,2}(gpu-architecture|arch|generate-line-info|lineinfo|device-debug|G|dopt|ptxas-options|Xptxas|"
    r"maxrregcount|ftz|prec-sqrt|prec-div|fmad|use_fast_math|extra-device-vectorization|"
    r"restrict|device-as-default-execution-space|default-device|w|disable-warnings|"
    r"device-int128|split-compile|time|minimal|fdevice-syntax-only|pch|no-cache|"
    r"diag-(error|suppress|warn)|builtin-\w+|dlto|rdc|relocatable-device-code|"
    r"extensible-whole-program)(=.*)?")


# ---- g++ --------------------------------------------------------------------------------------


@functools.cache
def _find(cxx: str) -> tuple[str, ...]:
    names = [shlex.split(cxx)] if cxx else [["g++"], *([f"g++-{v}"] for v in range(15, 9, -1))]
    for command in names:
        path = shutil.which(command[0]) if command else None
        if path:
            return path, *command[1:]
    asked = f"CXX={cxx} can't be run" if cxx else "there is no g++ on the PATH"
    raise NoCompilerError(
        f"kernels of the simulated CUDA device are compiled by GNU's C++ compiler, and {asked}: "
        f"install g++ (apt install g++, dnf install gcc-c++, conda install gxx), or name it in the "
        f"environment variable CXX")


def command() -> tuple[str, ...]:
    """The C++ compiler; NoCompilerError if there is none."""
    return _find(os.environ.get("CXX", ""))


def available() -> bool:
    """Whether kernels can be compiled."""
    try:
        command()
    except NoCompilerError:
        return False
    return True


@functools.cache
def _version(compiler: tuple[str, ...]) -> int:
    """The major version of g++."""
    text = subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    if "clang" in text:
        raise NoCompilerError(f"{' '.join(compiler)} is Clang; kernels of the simulated CUDA "
                              f"device need GNU's g++: name it in the environment variable CXX")
    run = subprocess.run([*compiler, "-dumpversion"], capture_output=True, text=True)
    return int(re.match(r"\d+|$", run.stdout)[0] or 0)  # type: ignore[index]


def run_compiler(arguments: Sequence[str], folder: Path | None = None) -> str:
    """Run g++; CompileError with what it says if it fails."""
    compiler = command()
    version = _version(compiler)
    if "-fsanitize=thread" in arguments and version >= 11:
        arguments = [*arguments, "--param", "tsan-instrument-func-entry-exit=0"]
    run = subprocess.run([*compiler, *arguments], capture_output=True, text=True, cwd=folder,
                         env={**os.environ, "LC_ALL": "C"})
    if run.returncode:
        raise CompileError(run.stderr)
    return run.stdout


# ---- cache ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled modules are kept: GPUGRAD_CUDASIM_CACHE, else in the user's cache."""
    return _cache_folder(os.environ.get("GPUGRAD_CUDASIM_CACHE", ""),
                         os.environ.get("XDG_CACHE_HOME", ""))


@functools.cache
def _cache_folder(chosen: str, users: str) -> Path:
    if chosen:
        path = Path(chosen).absolute()
        path.mkdir(parents=True, exist_ok=True)
        return path
    path = Path(users or os.path.expanduser("~/.cache")) / "gpugrad" / "cudasim"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        pass
    path = Path(tempfile.gettempdir()) / f"gpugrad-cudasim-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():        # somebody else's: their code isn't to be run
        path = Path(tempfile.mkdtemp(prefix="gpugrad-cudasim-"))
    return path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let no other process make ``path`` meanwhile, where files can be locked."""
    import fcntl

    with open(f"{path}.lock", "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    with contextlib.suppress(OSError):
        os.unlink(f"{path}.lock")


def _cached(path: Path, make: Callable[[Path, Path], None], good: Callable[[], bool]) -> Path:
    """``path``, made by make(folder, path in it) if it isn't there or isn't good any more."""
    if path.exists() and good():
        return path
    with _alone(path):
        if not (path.exists() and good()):
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as name:
                new = Path(name) / path.name
                make(Path(name), new)
                for suffix in (".so", ".json"):     # what says that the library is good comes last
                    if new.with_suffix(suffix).exists():
                        os.replace(new.with_suffix(suffix), path.with_suffix(suffix))
    return path


def _tidy(folder: Path) -> None:
    """Delete what was compiled 30 days ago and more, and what was never finished."""
    now = time.time()
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            days = (now - path.stat().st_mtime) / 86400
            if path.name.startswith("building-") and days > 1:
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix in (".so", ".json", ".lock") and days > 30:
                path.unlink()


@functools.cache
def _own_sources() -> str:
    """A digest of the simulator's own C++, and of what this file makes of it."""
    digest = hashlib.sha256(repr((_SHARED, _RUNTIME, _MODULE, MODES)).encode())
    for path in sorted([*RUNTIME.iterdir(), *INCLUDE.rglob("*.h"), HERE / "source.py"]):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _identity(compiler: tuple[str, ...]) -> tuple[Any, ...]:
    status = os.stat(compiler[0])
    return *compiler, os.path.realpath(compiler[0]), status.st_size, status.st_mtime_ns


def _key(*parts: Any) -> str:
    text = repr((_own_sources(), _identity(command()), parts))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


# ---- the runtime ------------------------------------------------------------------------------

_lock = threading.RLock()
_loaded: Any = None


def _runtime_path() -> Path:
    name = f"runtime-{_key('runtime')}.so"

    def make(folder: Path, new: Path) -> None:
        _tidy(new.parent.parent)
        run_compiler([*_SHARED, *_RUNTIME, f"-Wl,-soname,{name}",
                      *sorted(map(str, RUNTIME.glob("*.cpp"))), "-o", str(new), "-ldl",
                      "-lpthread"])

    return _cached(cache_folder() / name, make, lambda: True)


def runtime() -> Any:
    """The C library that runs kernels, compiled and loaded at the first request."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                library = ctypes.CDLL(str(_runtime_path()))
                word = ctypes.c_uint64
                library.cs_add_memory.argtypes = [word, word, ctypes.c_uint]
                library.cs_remove_memory.argtypes = [word]
                library.cs_launch.argtypes = [ctypes.c_char_p]
                library.cs_fault.restype = ctypes.c_void_p
                library.cs_variable.restype = word
                library.cs_add_memory.restype = library.cs_remove_memory.restype = None
                memory.attach(library)
                _loaded = library
    return _loaded


# ---- modules ----------------------------------------------------------------------------------


class _Entry(ctypes.Structure):
    """struct KernelEntry of runtime/device.h."""

    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p),
                ("function", ctypes.c_void_p), ("argument_bytes", ctypes.c_uint),
                ("max_threads", ctypes.c_int), ("signature", ctypes.c_char * 1024)]


class Binary:
    """A module compiled for one mode, and loaded.

    kernels: for each name the address of its entry, its signature and its largest block.
    place: the address of struct Module of runtime/device.h.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        library = runtime()
        self.library = ctypes.CDLL(str(path))
        count = ctypes.c_int.in_dll(self.library, "cs_kernel_count").value
        self._table = (_Entry * count).in_dll(self.library, "cs_kernels")
        self.kernels: dict[str, tuple[int, str, int]] = {}
        self._place = (ctypes.c_uint64 * 3)()
        for i, entry in enumerate(self._table):
            if not i:
                library.cs_find_module(ctypes.c_void_p(entry.function), self._place)
            self.kernels[entry.name.decode()] = (ctypes.addressof(entry), entry.signature.decode(),
                                                 entry.max_threads)
        self.place = ctypes.addressof(self._place)


counting: list[Binary] = []         # those of mode coverage; coverage.py asks them

_WRITE_COVERAGE = """extern "C" void __gcov_dump();
extern "C" void __gcov_reset();
extern "C" void cs_write_coverage() { __gcov_dump(); __gcov_reset(); }
"""


class Module:
    """CUDA C++ source with its kernels, compiled when one is first asked for.

    options: NVRTC's; -D, -U, -I and -std matter. name_expressions: of kernels that aren't
    extern "C", such as "scale<float>". path: what messages call the source.
    """

    def __init__(self, code: str, options: Sequence[str] = (),
                 name_expressions: Sequence[str] | None = (), path: str = "kernel.cu") -> None:
        self.code, self.path = code, path
        self.folders, self.macros, self.standard = _options(options)
        self.name_expressions = tuple(name_expressions or ())
        self._binaries: dict[str, Binary] = {}

    def function(self, name: str) -> Kernel:
        """The kernel of that name, compiled for the current mode."""
        kernels = self.binary(settings.mode).kernels
        if name not in kernels:
            have = ", ".join(kernels) or "none"
            raise CompileError(f'{self.path} has no extern "C" kernel and no name expression '
                               f"{name!r}; it has: {have}")
        return Kernel(self, name)

    def variable(self, name: str) -> tuple[int, int]:
        """(address, bytes) of a __device__ or __constant__ variable, in the current mode."""
        address = ctypes.c_uint64()
        handle = ctypes.c_void_p(self.binary(settings.mode).library._handle)
        nbytes = runtime().cs_variable(handle, name.encode(), ctypes.byref(address))
        if not nbytes:
            raise CompileError(f"{self.path} has no __device__ or __constant__ variable {name!r}")
        return address.value, nbytes

    def binary(self, mode: str) -> Binary:
        """The module as compiled for a mode."""
        found = self._binaries.get(mode)
        if found is None:
            with _lock:
                found = self._binaries.get(mode)
                if found is None:
                    found = self._binaries[mode] = Binary(self._compiled(mode))
                    if mode == "coverage":
                        counting.append(found)
        return found

    def _compiled(self, mode: str) -> Path:
        base = runtime()._name
        key = _key(mode, self.code, self.path, self.folders, self.macros, self.standard,
                   self.name_expressions)
        path = cache_folder() / f"{key}.so"
        return _cached(path, lambda folder, new: self._make(mode, folder, new, base),
                       lambda: _unchanged(path.with_suffix(".json")))

    def _make(self, mode: str, folder: Path, new: Path, base: str) -> None:
        try:
            text = self._preprocessed(folder)
            rewriter = Rewriter(text)
            whole = rewriter.run() + exports(rewriter.kernels, self.name_expressions)
            objects = folder
            if mode == "coverage":        # g++ remembers where to count: the folder must last
                whole += _WRITE_COVERAGE
                objects = cache_folder() / "coverage" / f"{new.stem}-{folder.name}"
                objects.mkdir(parents=True)
            (folder / "kernel.ii").write_text(whole, encoding="utf-8")
            run_compiler([*_MODULE, self.standard, *MODES[mode],
                          f"-fdebug-prefix-map={folder}=/source", "-c", "kernel.ii", "-o",
                          str(objects / "kernel.o")], folder)
            run_compiler([*_SHARED, str(objects / "kernel.o"), base, "-o", str(new),
                          *(["--coverage"] if mode == "coverage" else [])])
        except CompileError as e:
            message = excerpts(str(e).replace(f"{folder}/", ""), self.code, self.path)
            raise CompileError(f"{self.path} can't be compiled for the simulated device:\n"
                               f"{message}") from None
        new.with_suffix(".json").write_text(json.dumps(_headers(text)))

    def _preprocessed(self, folder: Path) -> str:
        source = folder / "kernel.cpp"
        # The source's macros come after the simulator's own header, whose names they may be.
        text = ["#define NDEBUG\n" if "define NDEBUG 1" in self.macros else "",
                '#include "cudasim.h"\n', *[f"#{macro}\n" for macro in self.macros],
                f'#line 1 "{self.path}"\n', self.code, "\n"]
        source.write_text("".join(text), encoding="utf-8")
        return run_compiler(["-E", self.standard, "-nostdinc", f"-I{INCLUDE}", *self.folders,
                             "-fno-working-directory", str(source)])


def _options(options: Sequence[str]) -> tuple[list[str], list[str], str]:
    """What matters of NVRTC's options: headers' folders, macros as "define A 1", the standard."""
    folders: list[str] = []
    macros: list[str] = []
    standard, rest = "-std=c++17", list(options)
    while rest:
        option = rest.pop(0)
        m = re.fullmatch(r"(-D|-U|-I|--define-macro|--undefine-macro|--include-path)=?(.*)", option,
                         re.S)
        if m:
            letter, what = m[1].strip("-")[0].lower(), m[2] or (rest.pop(0) if rest else "")
            name, equals, value = what.partition("=")
            if letter == "d":
                macros.append(f"define {name} {value if equals else 1}")
            elif letter == "u":
                macros.append(f"undef {name}")
            else:
                folders.append(f"-I{what}")
        elif m := re.fullmatch(r"--?std=(c\+\+\d\w)", option):
            # The simulator's headers are C++17.
            standard = "-std=" + max(m[1], "c++17") if m[1] < "c++9" else standard
        elif not _IGNORED.fullmatch(option):
            raise CompileError(f"the simulated device doesn't know the compiler option {option!r}")
    return folders, macros, standard


def _headers(text: str) -> dict[str, str]:
    """Files that the source included, with digests of their contents; not the simulator's."""
    names = set(re.findall(r'^# \d+ "([^"]+)" 1', text, re.M))
    return {os.path.abspath(name): _digest(name) for name in names
            if not name.startswith(str(INCLUDE)) and os.path.isfile(name)}


def _digest(name: str) -> str:
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""


def _unchanged(record: Path) -> bool:
    """Whether the headers are still what they were when a module was compiled."""
    try:
        headers = json.loads(record.read_text())
    except (OSError, ValueError):
        return False
    return all(_digest(name) == digest for name, digest in headers.items())
