"""``env``: what gpugrad runs on here."""
from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import gpugrad
from gpugrad.backend import compiled, kernel_files, kernels
from gpugrad.backend import cuda as backend

# What else matters, by the names that distributions have.
_BESIDE = ("ml_dtypes", "cupy-cuda12x", "cupy-cuda13x", "cupy", "nvidia-cudnn-frontend",
           "nvmath-python", "safetensors", "scikit-learn", "matplotlib", "tensorboard", "torch",
           "pytest")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _devices() -> list[dict[str, Any]]:
    found = []
    for i in range(gpugrad.cuda.device_count()):
        properties = gpugrad.cuda.get_device_properties(i)
        major, minor = gpugrad.cuda.get_device_capability(i)
        found.append({"device": f"cuda:{i}", "name": properties.name,
                      "capability": f"{major}.{minor}", "memory_bytes": properties.total_memory})
    return found


def _cache() -> str | None:
    """Where CuPy keeps compiled kernels; None on a simulated device, which has a cache of its own.
    """
    if backend.simulated():
        return None
    return os.environ.get("CUPY_CACHE_DIR") or str(Path("~/.cupy/kernel_cache").expanduser())


def _helper() -> dict[str, Any]:
    """The compiled helper, which this compiles if it wasn't yet."""
    made = compiled.library()
    return {"in_use": made is not None, "why_not": compiled.why_not[0] or None,
            "library": made and made.path, "compiler": " ".join(compiled.compiler() or []) or None}


def collected() -> dict[str, Any]:
    """All that ``env`` shows, by name."""
    usable = gpugrad.cuda.is_available()
    return {
        "gpugrad": gpugrad.__version__,
        "installed_in": str(Path(gpugrad.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "numpy": np.__version__,
        "blas": _blas(),
        "threads": gpugrad.get_num_threads(),
        "cpu_kernels": _helper(),
        "packages": {name: v for name in _BESIDE if (v := _version(name)) is not None},
        "cuda": {
            "usable": usable,
            "why_not": None if usable else gpugrad.cuda.unavailable_reason(),
            "simulated": backend.simulated(),
            "kernels": kernels.enabled(),
            "kernel_files": kernel_files.place(),
            "kernel_cache": _cache() if usable else None,
            "devices": _devices() if usable else [],
        },
        "variables": {name: value for name, value in sorted(os.environ.items())
                      if name.startswith(("GPUGRAD_", "CUPY_", "CUDA_", "OPENBLAS_", "OMP_NUM"))},
    }


def show(options: Any) -> int:
    """Print it."""
    facts = collected()
    if options.json:
        json.dump(facts, sys.stdout, indent=2)
        print()
        return 0
    cuda, packages, helper = facts["cuda"], facts["packages"], facts["cpu_kernels"]
    lines = [("gpugrad", f"{facts['gpugrad']} in {facts['installed_in']}"),
             ("Python", f"{facts['python']} on {facts['platform']}"),
             ("NumPy", f"{facts['numpy']} with {facts['blas']}, {facts['threads']} of "
                       f"{facts['cpu_count']} CPUs"),
             ("CPU kernels", f"{helper['library']}, compiled by {helper['compiler']}"
              if helper["in_use"] else f"not in use: {helper['why_not']}"),
             ("beside it", ", ".join(f"{name} {v}" for name, v in packages.items()) or "nothing")]
    if not cuda["usable"]:
        lines.append(("CUDA", f"not usable: {cuda['why_not']}"))
    for d in cuda["devices"]:
        lines.append((d["device"], f"{d['name']}, compute capability {d['capability']}, "
                                   f"{d['memory_bytes'] / 2 ** 30:.1f} GiB"))
    if cuda["usable"]:
        lines.append(("kernels", f"{'on' if cuda['kernels'] else 'off (GPUGRAD_KERNELS=0)'}, from "
                                 f"{cuda['kernel_files']}"))
    if cuda["kernel_cache"]:
        lines.append(("their cache", cuda["kernel_cache"]))
    lines += facts["variables"].items()
    for name, value in lines:
        print(f"{name + ':':<14} {value}")
    return 0
