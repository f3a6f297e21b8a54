"""The stand-in's cupy.cuda: devices, streams, events, graphs, memory pools, pinned memory."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import cupy as cp
from gpugrad.cudasim import cupyx, state

Error = cp.cuda.runtime.CUDARuntimeError


@pytest.fixture(autouse=True)
def counts() -> Iterator[Any]:
    state.reset()
    yield state.counts
    assert state.switches.captures == 0 and cp.cuda.get_current_stream() == cp.cuda.Stream.null


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(state.switches, "devices", 2)
    state.switches.update()
    yield
    monkeypatch.undo()
    state.switches.update()
    state.thread.device = 0


# Devices -----------------------------------------------------------------------------------------

def test_what_the_device_is() -> None:
    d = cp.cuda.Device()
    p = cp.cuda.runtime.getDeviceProperties(0)
    assert b"simulated" in p["name"] and f"{p['major']}{p['minor']}" == d.compute_capability
    free, total = d.mem_info
    assert 0 < free <= total == p["totalGlobalMem"] and cp.cuda.runtime.memGetInfo()[1] == total
    assert d.attributes["WarpSize"] == 32 and cp.cuda.runtime.getDeviceCount() == 1
    assert cp.cuda.is_available() and cp.cuda.nvrtc.getVersion() and cp.is_available()
    with pytest.raises(Error, match="cudaErrorInvalidDevice"):
        cp.cuda.Device(1).use()


@pytest.mark.usefixtures("two_devices")
def test_two_devices(counts: Any) -> None:
    x = cp.ones(3)
    with cp.cuda.Device(1):
        y = cp.ones(3)
        assert cp.cuda.runtime.getDevice() == 1 and y.device == cp.cuda.Device(1)
        assert (y + y).data.device_id == 1
        z = cp.array(x)
        assert z.device.id == 1 and counts.d2d == 1
        for f in (lambda: x + x, lambda: cp.sum(x), lambda: x[0:2] * y[:2],
                  lambda: y.__setitem__(0, x[0])):
            with pytest.raises(ValueError, match=r"resides \(0\) is different from the current "
                               r"device \(1\)"):
                f()
    assert cp.cuda.runtime.getDevice() == 0
    with pytest.raises(ValueError, match="different from the current device"):
        cp.concatenate([x, y])
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cp.cuda.runtime.getDevice()))
    cp.cuda.runtime.setDevice(1)
    thread.start()
    thread.join()
    assert seen == [0]                          # the current device is each thread's own


@pytest.mark.usefixtures("two_devices")
def test_a_stream_belongs_to_its_device() -> None:
    s = cp.cuda.Stream()
    with cp.cuda.Device(1), pytest.raises(RuntimeError, match="not created on the current device"):
        s.use()


# Streams and events ------------------------------------------------------------------------------

def test_the_current_stream(counts: Any) -> None:
    null, s = cp.cuda.Stream.null, cp.cuda.Stream(non_blocking=True, priority=-1)
    assert null.ptr == 0 and s.ptr and s.is_non_blocking and s.priority == -1 and s != null
    with s:
        assert cp.cuda.get_current_stream() is s
        with null:
            assert cp.cuda.get_current_stream() == null
        assert cp.cuda.get_current_stream() is s
    s.use()
    assert cp.cuda.get_current_stream() is s and s.done
    null.use()
    s.synchronize()
    assert counts.syncs == 1


def test_events(counts: Any) -> None:
    start, end = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    cp.ones(1000).sum()
    end.record(cp.cuda.Stream.null)
    assert end.done and 0 < cp.cuda.get_elapsed_time(start, end) < 5000
    end.synchronize()
    assert counts.syncs == 1
    for wrong in (cp.cuda.Event(), cp.cuda.Event(disable_timing=True)):
        with pytest.raises(Error, match="not recorded"):
            cp.cuda.get_elapsed_time(start, wrong)


# Graphs ------------------------------------------------------------------------------------------

@pytest.fixture
def stream() -> Iterator[Any]:
    s = cp.cuda.Stream(non_blocking=True)
    with s:
        yield s
        if s.is_capturing():
            s.end_capture()


def test_nothing_is_computed_before_the_replay(stream: Any) -> None:
    a, b = cp.ones((2, 2)), cp.zeros((2, 2))
    stream.begin_capture()
    assert stream.is_capturing()
    b += a
    c = b * 2
    total = c.sum()
    view = c[0]
    filled = cp.full(3, 7.0)
    b[0, 0] = 5
    stacked = cp.stack([a, b])
    graph = stream.end_capture()
    assert b.get().tolist() == [[0, 0], [0, 0]] and np.isnan(c.get()).all()
    graph.launch()
    assert b.get().tolist() == [[5, 1], [1, 1]] and c.get().tolist() == [[2, 2], [2, 2]]
    assert total.item() == 8 and view.get().tolist() == [2, 2] and filled[1].item() == 7
    a[...] = 10
    graph.launch(stream)
    assert b.get().tolist() == [[5, 11], [11, 11]] and c[1, 1].item() == 22
    assert stacked[0, 0, 0].item() == 10
    b[...] = 0
    assert c[0, 0].item() == 30                 # 5 + 10, doubled


READS = {
    ".item()": lambda x: x.item(), ".get()": lambda x: x.get(), "float()": lambda x: float(x),
    "reading by a mask": lambda x: x[x > 0], "nonzero()": lambda x: x.nonzero(),
    "Device.synchronize()": lambda x: cp.cuda.Device().synchronize(),
    "Stream.synchronize()": lambda x: cp.cuda.get_current_stream().synchronize(),
    ".set()": lambda x: x.set(np.ones(1)), "a copy from the host": lambda x: cp.array([1]),
    "a list": lambda x: x[[0]], "a[mask] = ...": lambda x: x.__setitem__(x > 0, 1),
    "bincount()": lambda x: cp.bincount(x.astype(int)), "putmask()": lambda x: cp.putmask(x, x, x),
    "sort()": lambda x: cp.sort(x), "concatenate() of 9 arrays": lambda x: cp.concatenate([x] * 9),
}


@pytest.mark.parametrize("what", READS)
def test_what_cannot_be_captured_says_so(stream: Any, what: str) -> None:
    x = cp.ones(1)
    stream.begin_capture()
    with pytest.raises(Error, match="cudaErrorStreamCaptureUnsupported") as e:
        READS[what](x)
    assert what in str(e.value) and "test_standin_cuda.py:" in str(e.value)
    stream.end_capture()
    READS[what](x)


def test_other_streams_go_on(stream: Any) -> None:
    x = cp.ones(2)
    stream.begin_capture()
    with cp.cuda.Stream(non_blocking=True):
        assert (x + 1).sum().item() == 4
    graph = stream.end_capture()
    assert graph._nodes == []


def test_a_capture_forks_and_joins(stream: Any) -> None:
    x = cp.ones(2)
    side, fork, join = cp.cuda.Stream(), cp.cuda.Event(), cp.cuda.Event()
    stream.begin_capture()
    fork.record()
    side.wait_event(fork)
    with side:
        y = x * 3
        join.record()
    stream.wait_event(join)
    z = y + 1
    graph = stream.end_capture()
    assert not side.is_capturing()
    graph.launch()
    assert z.tolist() == [4, 4]


def test_memory_that_was_freed_since(stream: Any) -> None:
    x, y = cp.ones(2), cp.zeros(2)
    stream.begin_capture()
    y += x
    graph = stream.end_capture()
    graph.launch()
    del x
    with pytest.raises(RuntimeError, match="memory that was freed since"):
        graph.launch()


def test_errors_come_at_the_capture(stream: Any) -> None:
    x = cp.ones(2)
    stream.begin_capture()
    with pytest.raises(ValueError):
        x + cp.ones(3)
    with pytest.raises(ValueError):
        x += cp.ones(3)
    with pytest.raises(IndexError):
        x[5] = 1
    with pytest.raises(RuntimeError, match="default"):
        cp.cuda.Stream.null.begin_capture()
    with pytest.raises(Error, match="already"):
        stream.begin_capture()
    stream.end_capture()
    with pytest.raises(Error, match="without begin_capture"):
        stream.end_capture()


def test_pinned_memory_can_be_captured(stream: Any) -> None:
    source, target = cupyx.zeros_pinned(3, "f4"), cupyx.empty_pinned((3,), "f4")
    x, copy = cp.zeros(3, "f4"), cp.cuda.runtime.memcpyAsync
    stream.begin_capture()
    for refused in (lambda: x.set(source), lambda: x.get(out=target, blocking=False),
                    lambda: cp.asarray(source)):
        with pytest.raises(Error, match="cudaErrorStreamCaptureUnsupported"):
            refused()                               # as CuPy does
    copy(x.data.ptr, source.ctypes.data, 12, cp.cuda.runtime.memcpyHostToDevice, stream.ptr)
    x *= 2
    copy(target.ctypes.data, x.data.ptr, 12, cp.cuda.runtime.memcpyDeviceToHost, stream.ptr)
    graph = stream.end_capture()
    for value in (1.0, 4.0):
        source[...] = value
        graph.launch()
        assert target.tolist() == [2 * value] * 3


# Memory ------------------------------------------------------------------------------------------

def test_figures_of_the_pool() -> None:
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    used, total = pool.used_bytes(), pool.total_bytes()
    assert used == total
    x = cp.zeros(1000, "f4")
    y = x + 1
    v = x[10:]
    assert pool.used_bytes() - used == 2 * 4096
    del x
    assert pool.used_bytes() - used == 2 * 4096         # the view holds it
    del v
    assert pool.used_bytes() - used == 4096 == pool.free_bytes()
    assert pool.total_bytes() - total == 2 * 4096
    x = cp.ones(800, "f4")
    assert pool.free_bytes() == 512 and pool.total_bytes() - total == 2 * 4096
    del x, y
    pool.free_all_blocks()
    assert (pool.used_bytes(), pool.total_bytes()) == (used, total)


def test_limits() -> None:
    pool = cp.cuda.MemoryPool()
    pool.set_limit(size=10_000)
    with cp.cuda.using_allocator(pool.malloc):
        x = cp.zeros(2000, "u1")
        with pytest.raises(cp.cuda.memory.OutOfMemoryError, match=r"Out of memory allocating "
                           r"8,192 bytes \(allocated so far: 2,048 bytes, limit set to: 10,000"):
            cp.zeros(8000, "u1")
        assert pool.used_bytes() == 2048 and pool.get_limit() == 10_000
        y = x + 1
        assert pool.used_bytes() == 4096
    assert (y + 1).sum().item() == 4000 and pool.used_bytes() == 4096
    del x, y
    assert pool.used_bytes() == 0 and pool.total_bytes() == 4096
    with pytest.raises(MemoryError):
        cp.cuda.alloc(1 << 35)


def test_other_allocators() -> None:
    asked = []

    def malloc(size: int) -> Any:
        asked.append(size)
        return cp.get_default_memory_pool().malloc(size)

    cp.cuda.set_allocator(malloc)
    try:
        x = cp.ones(3) + 1
    finally:
        cp.cuda.set_allocator()
    assert x.tolist() == [2, 2, 2] and asked == [24, 24]
    assert cp.cuda.get_allocator() == cp.get_default_memory_pool().malloc


def test_pointers() -> None:
    x = cp.arange(6, dtype="i4")
    p = x[2:].data
    assert p.ptr == x.data.ptr + 8 and p.device_id == 0 and int(p + 4) == p.ptr + 4
    y = cp.ndarray((2, 2), "i4", p)
    y += 10
    assert x.tolist() == [0, 1, 12, 13, 14, 15]
    p.memset_async(0, 8)
    assert x.tolist() == [0, 1, 0, 0, 14, 15]
    x.data.copy_from_device(p, 8)
    assert x.tolist() == [0, 0, 0, 0, 14, 15]
    with pytest.raises(ValueError, match="not inside a block of 24 bytes"):
        p.memset(0, 20)
    host = np.arange(4, dtype="f4")
    memory = cp.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host)
    z = cp.ndarray((4,), "f4", cp.cuda.MemoryPointer(memory, 0))
    z *= 2
    assert host.tolist() == [0, 2, 4, 6] and cp.cuda.alloc(100).mem.size == 512


def test_pinned_memory() -> None:
    memory = cp.cuda.alloc_pinned_memory(64)
    a = np.frombuffer(memory, np.float32, 16)
    assert a.ctypes.data == memory.ptr and a.flags.writeable and memory.size() == 64
    a = cupyx.empty_like_pinned(np.ones((2, 3), "f4"))
    assert a.shape == (2, 3) and a.flags.c_contiguous
    x = cp.asarray(a)
    a[...] = 5
    x.set(a)
    assert (x.get() == 5).all()


def test_ranges() -> None:
    cp.cuda.nvtx.RangePush("step")
    cp.cuda.nvtx.RangePop()
    cp.cuda.nvtx.RangePop()
