"""The CuPy that is installed, on the simulated device, without a GPU and without a driver.

The stand-in gpugrad.cudasim.cupy is small, quick and strict. This is CuPy itself: its arrays,
memory pools, streams and graphs, and the kernels that it writes, which g++ compiles. Only what it
calls of CUDA is simulated: the runtime, the driver, the compiler (``runtime``, ``modules``,
``nvrtc``), and of CUDA's libraries cuBLAS's products and Thrust's sorts (``libraries``). So it
shows what the stand-in can't: whether code gets along with CuPy as it is.

    from gpugrad.cudasim import driver
    driver.install()                    # before CuPy is imported
    import cupy

or ``python -m gpugrad.cudasim cupy program.py``, or ``pytest -p gpugrad.cudasim.driver.plugin``.
"""
from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

_installed = False


def missing() -> str:
    """What this machine lacks for it, and what to install; "" if nothing."""
    from gpugrad.cudasim import installing

    try:
        found = importlib.util.find_spec("cupy_backends")
    except ValueError:
        found = None
    if found is None:
        return "CuPy is not installed: pip install cupy-cuda12x"
    return installing.missing()


def is_installed() -> bool:
    """Whether CuPy's device is a simulated one."""
    return _installed


@contextlib.contextmanager
def leaving_out_launches() -> Iterator[None]:
    """``with``: kernels, graphs, copies and fills are not launched, at next to no cost.

    What is left is what the host does for them; results are what was in memory. One device.
    """
    from gpugrad.cudasim.driver import capsules

    capsules.leave_out(True)
    try:
        yield
    finally:
        capsules.leave_out(False)


def install() -> None:
    """Simulate CUDA underneath CuPy, until the process ends. RuntimeError if that can't be."""
    global _installed
    if _installed:
        return
    if "cupy" in sys.modules:
        raise RuntimeError("CuPy has been imported already: call install() before")
    lacking = missing()
    if lacking:
        raise RuntimeError(lacking)
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"        # no file of a simulated device for a real one
    os.environ["CUPY_ACCELERATORS"] = ""            # CUB is compiled for real ones
    from gpugrad.cudasim.driver import capsules, libraries, modules, nvrtc, runtime

    capsules.replace("cupy_backends.cuda.api.runtime", vars(runtime),
                     ["getDevice", "graphLaunch", "memcpyAsync", "memsetAsync"])
    capsules.replace("cupy_backends.cuda.api.driver", vars(modules), ["launchKernel"])
    capsules.replace("cupy_backends.cuda.libs.nvrtc", vars(nvrtc))
    importlib.import_module("cupy")
    libraries.install()
    _installed = True
