"""torch.cuda.nvtx: what reaches CuPy, and the depths that are returned."""
from __future__ import annotations

from typing import Any

import pytest

import gpugrad as torch
from gpugrad.cuda import nvtx

pytestmark = pytest.mark.gpu


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    noted: list[Any] = []

    class Noted:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: noted.append((name, *args)) or len(noted)

    monkeypatch.setattr(nvtx, "_nvtx", Noted)
    return noted


def test_depths(calls: list[Any]) -> None:
    assert nvtx.range_push("a") == 0 and nvtx.range_push("b") == 1
    nvtx.mark("now")
    assert nvtx.range_pop() == 1 and nvtx.range_pop() == 0 and nvtx.range_pop() == -2
    assert calls == [("RangePush", "a"), ("RangePush", "b"), ("Mark", "now"), ("RangePop",),
                     ("RangePop",)]


def test_range(calls: list[Any]) -> None:
    with nvtx.range("step {} of {n}", 3, n=10):
        assert calls == [("RangePush", "step 3 of 10")]

    @nvtx.range("f")
    def f(x: int) -> int:
        return x + 1

    assert f(1) == 2 and f(2) == 3
    with pytest.raises(ZeroDivisionError), nvtx.range("g"):
        1 / 0                                               # noqa: B018
    assert [c[0] for c in calls] == ["RangePush", "RangePop"] * 4
    assert nvtx._open.depth == 0


def test_ranges_that_overlap(calls: list[Any]) -> None:
    first, second = nvtx.range_start("a"), nvtx.range_start("b")
    assert first != second
    nvtx.range_end(first)
    assert calls == [("RangeStart", "a", None), ("RangeStart", "b", None), ("RangeEnd", first)]


def test_on_the_device() -> None:
    assert torch.cuda.nvtx is nvtx
    with torch.cuda.nvtx.range("around"):
        torch.cuda.nvtx.mark("inside")
        torch.cuda.nvtx.range_end(torch.cuda.nvtx.range_start("x"))
