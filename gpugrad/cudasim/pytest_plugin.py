"""For pytest: the fixture ``simulated_cuda``, CuPy on a simulated device in check mode.

``pytest_plugins = ["gpugrad.cudasim.pytest_plugin"]`` in conftest.py makes it known.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def simulated_cuda() -> Iterator[Any]:
    """CuPy's stand-in as a module; ``import cupy`` gives it too while the test runs.

    Kernels run in check mode, gpugrad's cuda is the simulated device, and the counts of
    gpugrad.cuda.sim begin at 0. Without a C++ compiler the test is skipped.
    """
    from gpugrad.backend import cuda
    from gpugrad.cudasim import installing, state
    from gpugrad.cudasim.kernel import settings

    reason = installing.missing()
    if reason:
        pytest.skip(reason)
    before = cuda.simulated()
    cuda.simulate(True)
    try:
        with settings.using(mode="check"):
            cupy = installing.start()
            state.reset()
            yield cupy
    finally:
        cuda.simulate(before)
