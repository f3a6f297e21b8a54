"""For pytest: ``-p gpugrad.cudasim.driver.plugin``. Tests of a GPU run with CuPy itself.

A test that needs a library of CUDA that isn't simulated is skipped.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpugrad.cudasim import driver
from gpugrad.cudasim.driver.libraries import NOT_SIMULATED

driver.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    try:
        return (yield)
    except BaseException as e:
        for error in (e, e.__cause__, e.__context__):
            if NOT_SIMULATED in str(error):
                pytest.skip(str(error))
        raise
