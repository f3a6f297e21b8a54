"""Records which names and parameters the real CuPy has: ``python -m gpugrad.cudasim.recorder``.

Needs CuPy, but no GPU. The stand-in offers nothing beyond this record (api.json).
"""
from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("api.json")

MODULES = ("cupy", "cupy.linalg", "cupy.fft", "cupy.random", "cupy.cuda",
           "cupy.cuda.runtime", "cupy.cuda.nvtx", "cupy.cuda.memory", "cupyx",
           "cupyx.scipy.special")
CLASSES = ("cupy.ndarray", "cupy.RawModule", "cupy.RawKernel", "cupy.cuda.Device",
           "cupy.cuda.Stream", "cupy.cuda.ExternalStream", "cupy.cuda.Event", "cupy.cuda.Graph",
           "cupy.cuda.Function", "cupy.cuda.MemoryPool", "cupy.cuda.MemoryPointer",
           "cupy.cuda.Memory", "cupy.cuda.UnownedMemory", "cupy.cuda.PinnedMemoryPool",
           "cupy.cuda.PinnedMemoryPointer", "cupy.random.Generator", "cupy._core.flags.Flags")
UFUNC_METHODS = ("reduce", "accumulate", "reduceat", "at")

# The first line of a compiled function's docstring: "ndarray.get(self, stream=None, order='C')".
_DOCUMENTED = re.compile(r"[\w.]+\((.*?)\)(?: ->.*)?$")


def found(path: str) -> Any:
    """The module, or the class in it, of a dotted name."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        owner, _, name = path.rpartition(".")
        return getattr(found(owner), name)


def parameters(f: Any) -> list[str] | None:
    """Names of parameters, "*" before those by keyword only, "*args" and "**kw"; None: unknown."""
    try:
        return list(_named(inspect.signature(f)))
    except (TypeError, ValueError):
        pass
    line = (getattr(f, "__doc__", None) or "").partition("\n")[0]
    m = _DOCUMENTED.match(line)
    if not m:
        return None
    # "str code=None, *, tuple options=()": the last word before "=" is the name.
    parts = re.split(r",\s*(?![^(\[{]*[)\]}])", m[1])
    names = [p.partition("=")[0].split()[-1].replace("intp_t", "") for p in parts if p.strip()]
    return [n for n in names if n != "self"]


def _named(signature: inspect.Signature) -> Iterator[str]:
    by_keyword = False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not by_keyword:
            by_keyword = True
            yield "*"
        elif p.kind is p.VAR_POSITIONAL:
            by_keyword = True
        if p.name != "self":
            stars = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
            yield stars + p.name


def members(owner: Any, kinds: tuple[type, ...]) -> dict[str, list[str] | None]:
    """Public names of a module or class with the parameters of those that are functions."""
    record: dict[str, list[str] | None] = {}
    for name in dir(owner):
        special = name.startswith("__") and inspect.isclass(owner) and not hasattr(object, name)
        if (name.startswith("_") and not special) or name == "__pyx_vtable__":
            continue
        value = getattr(owner, name, None)
        plain = callable(value) and not special and not isinstance(value, kinds)
        record[name] = parameters(value) if plain else None
    return record


def working(cupy: Any, ufunc: Any) -> list[str]:
    """Which methods a ufunc has beside being called; the others raise NotImplementedError."""
    import numpy

    host = numpy.ones(2, "i4")                  # enough to be refused, or to fail for want of a GPU
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
    a = cupy.ndarray((2,), "i4", cupy.cuda.MemoryPointer(memory, 0))
    arguments = {"reduce": (a,), "accumulate": (a,), "reduceat": (a, a), "at": (a, a, a)}
    names = []
    for name in UFUNC_METHODS:
        try:
            getattr(ufunc, name)(*arguments[name])
        except NotImplementedError:
            continue
        except Exception:                       # no GPU
            pass
        names.append(name)
    return names


def record() -> dict[str, Any]:
    """What the installed CuPy has."""
    cupy = importlib.import_module("cupy")
    kinds = (type, cupy.ufunc)
    ufuncs = {name: working(cupy, f) for name in dir(cupy)
              if isinstance(f := getattr(cupy, name), cupy.ufunc)}
    return {
        "version": cupy.__version__,
        "modules": {m: members(found(m), kinds) for m in MODULES},
        "classes": {c: members(found(c), kinds) for c in CLASSES},
        "ufuncs": ufuncs,
    }


def text(made: dict[str, Any]) -> str:
    """The record as JSON, a line per name."""
    blocks = []
    for part in ("modules", "classes"):
        owners = []
        for owner, names in made[part].items():
            lines = ",\n".join(f"   {json.dumps(n)}: {json.dumps(p)}" for n, p in names.items())
            owners.append(f'  "{owner}": {{\n{lines}\n  }}')
        blocks.append(f' "{part}": {{\n' + ",\n".join(owners) + "\n }")
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(p)}" for n, p in made["ufuncs"].items())
    blocks.append(f' "ufuncs": {{\n{lines}\n }}')
    return f'{{\n "version": "{made["version"]}",\n' + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(text(record()), end="")
    else:
        FILE.write_text(text(record()), encoding="utf-8")
