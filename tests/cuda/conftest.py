"""Tests marked ``gpu`` need a CUDA device: without one they skip, or fail if one is demanded."""
from __future__ import annotations

import os

import pytest

from gpugrad.backend import cuda


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and cuda.usable()[0] is None:
        reason = f"no CUDA device: {cuda.usable()[1]}"
        if os.environ.get("GPUGRAD_REQUIRE_GPU") == "1":
            pytest.fail(f"GPUGRAD_REQUIRE_GPU=1, but {reason}", pytrace=False)
        pytest.skip(reason)
