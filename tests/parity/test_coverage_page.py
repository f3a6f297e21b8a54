"""docs/coverage.md is what coverage_page.py writes."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))

from coverage_page import PAGE, page  # noqa: E402


def test_the_page_is_true() -> None:
    version = torch.__version__.partition("+")[0]
    if f"PyTorch {version}," not in PAGE.read_text():
        pytest.skip("the page is about another version of PyTorch")
    assert PAGE.read_text() == page(), "run python tests/parity/coverage_page.py"
