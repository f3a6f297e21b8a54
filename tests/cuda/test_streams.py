"""Streams, events and what a device tells of itself."""
from __future__ import annotations

import ctypes
from typing import Any

import pytest

import gpugrad as torch
from gpugrad.cuda import streams

pytestmark = pytest.mark.gpu


def test_a_stream_is_a_context_of_its_own() -> None:
    s = torch.cuda.Stream(priority=-1)
    default = torch.cuda.current_stream()
    with s as entered:
        assert entered is s and torch.cuda.current_stream() == s
        with s, torch.cuda.Stream() as inner:
            assert torch.cuda.current_stream() == inner != s
        assert torch.cuda.current_stream() == s
    assert torch.cuda.current_stream() == default
    low, high = torch.cuda.Stream.priority_range()
    assert low == 0 > high and s.priority == -1 and torch.cuda.Stream().priority == 0
    assert s.device_index == 0 and s.device == torch.device("cuda:0")
    assert isinstance(s._as_parameter_, ctypes.c_void_p)
    assert s.__cuda_stream__() == (0, s.cuda_stream) and hash(s) == hash(s)
    assert f"cuda_stream={s.cuda_stream:#x}" in repr(s)
    with torch.cuda.stream(None):
        assert torch.cuda.current_stream() == default


def test_set_stream() -> None:
    default, s = torch.cuda.current_stream(), torch.cuda.Stream()
    try:
        torch.cuda.set_stream(s)
        assert torch.cuda.current_stream() == s
        torch.cuda.set_stream(None)                                 # type: ignore[arg-type]
        assert torch.cuda.current_stream() == s
    finally:
        torch.cuda.set_stream(default)
    assert torch.cuda.current_stream() == torch.cuda.default_stream() == default


def test_streams_of_other_libraries() -> None:
    s = torch.cuda.Stream()
    other = torch.cuda.ExternalStream(s.cuda_stream)
    assert other == s and isinstance(other, torch.cuda.Stream)
    with torch.cuda.stream(other):
        x = torch.ones(3, device="cuda") * 2
    other.synchronize()
    assert x.tolist() == [2, 2, 2]


def test_events() -> None:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    assert start.cuda_event == 0 and start.device is None and start.query()
    with pytest.raises(ValueError, match="must be recorded before"):
        start.elapsed_time(end)
    start.record()
    torch.ones(100, device="cuda") * 2
    end.record(torch.cuda.current_stream())
    end.synchronize()
    assert start.elapsed_time(end) >= 0 and start.device == torch.device("cuda:0")
    assert start.cuda_event and isinstance(start._as_parameter_, ctypes.c_void_p)
    with pytest.raises(ValueError, match="enable_timing=True"):
        start.elapsed_time(torch.cuda.current_stream().record_event())
    side = torch.cuda.Stream()
    end.wait(side)
    side.wait_event(start)
    side.wait_event(torch.cuda.Event())                             # never recorded: no wait
    for wrong in ({"interprocess": True}, {"external": True}):
        with pytest.raises(NotImplementedError, match="plain ones in one process"):
            torch.cuda.Event(**wrong)


def test_properties() -> None:
    p: Any = torch.cuda.get_device_properties()
    assert p.warp_size == 32 and p.max_threads_per_block == 1024
    assert p.shared_memory_per_block_optin >= p.shared_memory_per_block >= 48 << 10
    assert p.shared_memory_per_multiprocessor >= p.shared_memory_per_block
    assert p.regs_per_multiprocessor >= 65536 and p.is_integrated in (0, 1)
    assert torch.cuda.get_device_capability() == (p.major, p.minor)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.cuda.can_device_access_peer(0, torch.cuda.device_count())
    assert torch.cuda.get_arch_list() == [] and streams.current_stream("cuda:0").device.index == 0
