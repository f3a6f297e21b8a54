"""``warmup``: compile all kernels into the cache on disk."""
from __future__ import annotations

import sys
import time
from typing import Any

import gpugrad
from gpugrad import backend, dtypes
from gpugrad.backend import kernels
from gpugrad.command.line import fail


def run(options: Any) -> int:
    """Compile every kernel for a device in the precisions that were asked for."""
    if not gpugrad.cuda.is_available():
        return fail(f"CUDA can't be used here: {gpugrad.cuda.unavailable_reason()}")
    wanted = options.dtypes.split(",")
    if unknown := [name for name in wanted if name not in kernels.FLAGS]:
        return fail(f"no such precision: {', '.join(unknown)}; there are "
                    f"{', '.join(kernels.FLAGS)}")
    try:
        be: Any = backend.get(options.device)
    except RuntimeError as e:
        return fail(str(e))
    if not be.index:
        return fail(f"{options.device!r} has no kernels: name a CUDA device")
    start, count = time.perf_counter(), 0
    files = kernels.sources()
    for i, (file, text) in enumerate(files.items(), 1):
        for name in wanted:
            if name == "bfloat16" and not dtypes.has_bfloat16():
                continue
            for kernel in kernels.names(text):
                be.kernels.prepare(file, kernel, getattr(dtypes, name).np)
                count += 1
        if sys.stderr.isatty():
            print(f"\r{i} of {len(files)} files", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    print(f"{count} kernels of {len(files)} files compiled for {be.name} in "
          f"{time.perf_counter() - start:.1f} s")
    return 0
