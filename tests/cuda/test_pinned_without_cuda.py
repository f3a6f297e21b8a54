"""Without CUDA there is no pinned memory: PyTorch's errors, and its warning for loaders."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("no_cuda")


def test_pinning_says_why_it_can_not() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    x = torch.ones(2)
    assert not x.is_pinned()
    with pytest.raises(RuntimeError, match="Cannot access accelerator device when none is"):
        x.pin_memory()
    with pytest.raises(RuntimeError, match="pin_memory=True requires a CUDA or other accelerator"):
        torch.empty(2, pin_memory=True)
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert len(list(DataLoader([1, 2], pin_memory=True))) == 2


def test_what_needs_no_device() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == 0
    assert torch.cuda.max_memory_reserved() == 0 and torch.cuda.memory_stats() == {}
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.empty_cache()
    assert "CUDA memory of device 0" in torch.cuda.memory_summary()
    assert not torch.cuda.is_current_stream_capturing()
    assert issubclass(torch.cuda.OutOfMemoryError, RuntimeError)
    with pytest.raises(RuntimeError, match="NVTX functions not installed"):
        torch.cuda.nvtx.range_push("x")
    for make in (torch.cuda.CUDAGraph, torch.cuda.graph_pool_handle, torch.cuda.Stream,
                 torch.cuda.Event):
        with pytest.raises(RuntimeError, match="CUDA is not available"):
            make()
