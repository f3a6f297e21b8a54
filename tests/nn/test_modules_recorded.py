"""Modules against what PyTorch's gave: tests/recorded/modules.json, made by make_modules.py."""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import gpugrad

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "recorded")]
from make_modules import seen  # noqa: E402

from module_table import LINES, Line  # noqa: E402

RECORDED = json.loads((TESTS / "recorded" / "modules.json").read_text(encoding="utf-8"))

# Their random numbers are the device's own.
OF_A_DEVICE = ("Dropout", "RReLU", "AlphaDropout", "FeatureAlphaDropout")


def check(found: Any, want: Any, where: str) -> None:
    """Nested lists and dicts of digests are the same."""
    if isinstance(want, dict):
        assert list(found) == list(want), where
        for k, v in want.items():
            check(found[k], v, f"{where}.{k}")
    elif isinstance(want, list) and len(want) == 3 and isinstance(want[1], float):
        assert found is not None and found[0] == want[0], where
        norm = pytest.approx(want[1], rel=2e-4, abs=2e-5, nan_ok=True)
        assert found[1] == norm, where
        assert found[2] == pytest.approx(want[2], abs=2e-4 * (1 + want[1]), nan_ok=True), where
    elif isinstance(want, list):
        assert len(found) == len(want), where
        for i, (a, b) in enumerate(zip(found, want)):
            check(a, b, f"{where}[{i}]")
    else:
        assert found == want, where


def test_all_lines_are_recorded() -> None:
    assert list(RECORDED) == [line.code for line in LINES]
    assert (TESTS / "recorded" / "modules.json").stat().st_size < 100_000


@pytest.mark.parametrize("line", LINES, ids=[line.code for line in LINES])
def test_a_module_is_and_gives_what_pytorch_s_did(line: Line, device: str) -> None:
    want = RECORDED[line.code]
    if "values" in line.known or (device != "cpu" and line.name.startswith(OF_A_DEVICE)):
        pytest.skip("its numbers are its own")
    check(seen(gpugrad, line, device), want, line.code)
