"""What is said about a device's memory: figures, peaks, reports, limits."""
from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

import gpugrad as torch
from gpugrad.cuda import memory

pytestmark = pytest.mark.gpu

MB = 1 << 20


@pytest.fixture(autouse=True)
def settled() -> Any:
    torch.ones(1, device="cuda")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def test_now_and_at_most() -> None:
    before = torch.cuda.memory_allocated()
    assert torch.cuda.max_memory_allocated() == before
    x = torch.empty(MB, device="cuda")
    assert torch.cuda.memory_allocated() == before + 4 * MB
    y = torch.empty(2 * MB, device="cuda")
    del x, y
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.max_memory_allocated() == before + 12 * MB
    torch.empty(MB, device="cuda")
    assert torch.cuda.max_memory_allocated() == before + 12 * MB
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == before
    torch.cuda.reset_max_memory_allocated()


def test_peaks_inside_of_operations_count() -> None:
    x = torch.ones(MB, device="cuda")
    before = torch.cuda.memory_allocated()
    ((x + 1) * (x + 2)).sum()
    assert torch.cuda.max_memory_allocated() >= before + 12 * MB


def test_reserved() -> None:
    x = torch.empty(4 * MB, device="cuda")
    reserved = torch.cuda.memory_reserved()
    assert reserved >= torch.cuda.memory_allocated() >= x.nbytes
    del x
    assert torch.cuda.memory_reserved() == reserved
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < reserved
    assert torch.cuda.max_memory_reserved() >= reserved
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_reserved() < reserved


def test_before_anybody_watches_the_peak_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread that has never asked: the reserved bytes stand for the peak."""
    monkeypatch.setattr(memory, "_peaks", {})
    x = torch.empty(4 * MB, device="cuda")
    nbytes = x.nbytes
    del x
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.cuda.max_memory_allocated()))
    thread.start()
    thread.join()
    assert found[0] >= nbytes and found[0] <= torch.cuda.max_memory_reserved()


def test_stats_and_summary() -> None:
    x = torch.empty(20 * MB, device="cuda")
    stats = torch.cuda.memory_stats()
    assert stats["allocated_bytes.all.current"] == torch.cuda.memory_allocated()
    assert stats["allocated_bytes.all.peak"] == torch.cuda.max_memory_allocated()
    assert stats["reserved_bytes.all.current"] == torch.cuda.memory_reserved()
    assert stats["reserved_bytes.all.peak"] == torch.cuda.max_memory_reserved()
    assert stats["active_bytes.all.current"] == torch.cuda.memory_allocated()
    nested = torch.cuda.memory_stats_as_nested_dict()
    assert nested["reserved_bytes"]["all"]["peak"] == torch.cuda.max_memory_reserved()
    text = torch.cuda.memory_summary()
    assert torch.cuda.get_device_name() in text and "80 MiB" in text
    assert len({len(line.rstrip()) for line in text.splitlines() if line[0] in "|="}) == 1
    assert torch.cuda.memory_summary(0, abbreviated=True) == text
    assert x.nbytes == 80 * MB


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (10239, "10239 B"), (10240, "10 KiB"),
                                         (80 * MB, "80 MiB"), (5 << 30, "5120 MiB"),
                                         (141 << 30, "141 GiB")])
def test_sizes_in_words(n: int, text: str) -> None:
    assert memory._readable(n) == text


def test_limits() -> None:
    assert torch.cuda.get_per_process_memory_fraction() == 1.0
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    try:
        torch.cuda.set_per_process_memory_fraction(0.5)
        assert torch.cuda.get_per_process_memory_fraction() == pytest.approx(0.5)
        with pytest.raises(torch.cuda.OutOfMemoryError, match="Out of memory allocating"):
            torch.empty(int(0.6 * total), dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(0.0)
    with pytest.raises(TypeError, match="must be `float`"):
        torch.cuda.set_per_process_memory_fraction(1)
    with pytest.raises(ValueError, match="Allowed range: 0~1"):
        torch.cuda.set_per_process_memory_fraction(1.5)
    torch.cuda.ipc_collect()


def test_devices_that_are_not_there() -> None:
    n = torch.cuda.device_count()
    for f in (torch.cuda.memory_allocated, torch.cuda.max_memory_allocated,
              torch.cuda.memory_reserved, torch.cuda.memory_stats):
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            f(n)
        with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
            f("cpu")
