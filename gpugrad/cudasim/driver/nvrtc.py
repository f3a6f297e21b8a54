"""CUDA's compiler, by the names of cupy_backends.cuda.libs.nvrtc: it calls g++."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gpugrad.cudasim import compiler
from gpugrad.cudasim.errors import CompileError
from gpugrad.cudasim.kernel import settings

_COMPILATION = 6                        # NVRTC_ERROR_COMPILATION
INCLUDE = Path(__file__).parent / "include"     # what NVRTC knows, or g++ can't read, of headers
_programs: dict[int, Program] = {}


class Program:
    """A source with what is known of it after its compilation."""

    def __init__(self, source: str, name: str) -> None:
        self.source, self.name = source, name
        self.name_expressions: list[str] = []
        self.log = ""
        # CuPy's own kernels cast as they like, which is a fault in others.
        self.mode = "plain" if "#include <cupy/" in source else settings.mode
        self.module: Any = None


def program_of(image: bytes) -> Program:
    """The program whose image this is."""
    return _programs[int(re.match(rb"cudasim (\d+)", image)[1])]        # type: ignore[index]


def createProgram(source: str, name: str, headers: Any, include_names: Any) -> int:
    number = len(_programs) + 1
    _programs[number] = Program(source, name or "kernel.cu")
    return number


def destroyProgram(program: int) -> None:
    pass                                # modules and their kernels still need it


def addNameExpression(program: int, name: str) -> None:
    _programs[program].name_expressions.append(name)


def getLoweredName(program: int, name: str) -> str:
    return name


def compileProgram(program: int, options: Any) -> None:
    from cupy_backends.cuda.libs.nvrtc import NVRTCError

    p = _programs[program]
    flags = [o.decode() if isinstance(o, bytes) else o for o in options]
    p.module = compiler.Module(f"#include <nvrtc.h>\n#line 1\n{p.source}", [f"-I{INCLUDE}", *flags],
                               p.name_expressions, p.name)
    try:
        p.module.binary(p.mode)
    except CompileError as e:
        p.log = str(e)
        failed = NVRTCError.__new__(NVRTCError)     # whose __init__ asks the real NVRTC
        failed.status = _COMPILATION
        raise failed from e


def getProgramLog(program: int) -> str:
    return _programs[program].log


def getPTX(program: int) -> bytes:
    return b"cudasim %d\0" % program


getCUBIN = getPTX


def getVersion() -> tuple[int, int]:
    return 12, 9


def getSupportedArchs() -> list[int]:
    return [50, 60, 70, 75, 80, 86, 89, 90]
