"""The examples of docs/cuda.md run, one after another, as a reader would type them."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gpugrad.backend.precision import matmul

PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"


@pytest.mark.gpu
def test_examples(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    settings = dict(vars(matmul))
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        vars(matmul).clear()
        vars(matmul).update(settings)
    assert names["result"].tolist() == (names["batch"] * 2).tolist()
    assert " ms\n" in capsys.readouterr().out
