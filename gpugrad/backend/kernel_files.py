"""The sources of kernels: files beside the package in a checkout, a zip file in an installed one.

They are alike, so that together they pack to half the size.
"""
from __future__ import annotations

import functools
import os

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def place() -> str:
    """The path of the folder, or of the zip file."""
    places = (os.path.join(_PACKAGE, "_kernels.zip"),
              os.path.join(os.path.dirname(_PACKAGE), "kernels"))
    for path in places:
        if os.path.exists(path):
            return path
    raise RuntimeError(f"gpugrad's kernels are missing: neither {places[0]} nor {places[1]} "
                       "exists; install gpugrad again")


@functools.cache
def _packed() -> dict[str, str]:
    """The texts in the zip file, by name."""
    import zipfile

    with zipfile.ZipFile(place()) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def names() -> list[str]:
    """The files, such as "pool.cu" and "cpu/pool.c"."""
    top = place()
    if top.endswith(".zip"):
        return sorted(_packed())
    found = [os.path.relpath(os.path.join(path, file), top).replace(os.sep, "/")
             for path, _, files in os.walk(top) for file in files]
    return sorted([name for name in found if name.endswith((".cu", ".cuh", ".c", ".h"))])


def text(name: str) -> str:
    """What a file says; FileNotFoundError if there is none of that name."""
    path = os.path.join(place(), name)
    if not place().endswith(".zip"):
        with open(path, encoding="utf-8") as file:
            return file.read()
    if name not in _packed():
        raise FileNotFoundError(path)
    return _packed()[name]
