"""Settings of the process, torch.cpu, and control flow as functions."""
from __future__ import annotations

import os
import sys
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import settings
from gpugrad.backend import compiled, threads


def test_threads() -> None:
    before = torch.get_num_threads()
    assert before >= 1
    if threads.blas() is None:
        torch.set_num_threads(1)
    else:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(before)
    for wrong in ("a", 1.0, True, None):
        with pytest.raises(RuntimeError, match="set_num_threads expects an int"):
            torch.set_num_threads(wrong)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="positive integer"):
        torch.set_num_threads(0)


def test_another_blas(monkeypatch: Any) -> None:
    monkeypatch.setattr(threads, "blas", lambda: None)
    monkeypatch.setattr(threads, "_chosen", [])
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.warns(UserWarning, match="OMP_NUM_THREADS"):
        torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(threads, "_chosen", [])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert torch.get_num_threads() == 3 or "OPENBLAS_NUM_THREADS" in os.environ
    monkeypatch.undo()
    compiled.set_threads(threads.get())


def test_interop_threads_are_set_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "_interop", None)
    assert torch.get_num_interop_threads() >= 1
    torch.set_num_interop_threads(3)
    assert torch.get_num_interop_threads() == 3
    with pytest.raises(RuntimeError, match="cannot set number of interop threads"):
        torch.set_num_interop_threads(2)


def test_determinism(monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "_mode", 0)
    for mode, number in (("default", 0), ("warn", 1), ("error", 2), (1, 1), (0, 0)):
        torch.set_deterministic_debug_mode(mode)
        assert torch.get_deterministic_debug_mode() == number
        assert torch.are_deterministic_algorithms_enabled() is (number > 0)
        assert torch.is_deterministic_algorithms_warn_only_enabled() is (number == 1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.get_deterministic_debug_mode() == 1
    torch.use_deterministic_algorithms(True)
    assert torch.get_deterministic_debug_mode() == 2
    for mode, error in (("some", RuntimeError), (3, RuntimeError), (None, TypeError)):
        with pytest.raises(error):
            torch.set_deterministic_debug_mode(mode)
    with pytest.raises(TypeError):
        torch.use_deterministic_algorithms(1)  # type: ignore[arg-type]


def test_others(monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "_warn_always", False)
    assert not torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    assert torch.is_warn_always_enabled()
    assert torch.set_flush_denormal(False) and not torch.set_flush_denormal(True)
    for setter in (torch.set_warn_always, torch.set_flush_denormal):
        with pytest.raises(RuntimeError, match="expects a bool"):
            setter(1)
    assert torch.compiled_with_cxx11_abi() and torch.thread_safe_generator() is None
    assert issubclass(torch.AcceleratorError, RuntimeError)
    with torch.inference_mode():
        assert torch.is_inference(torch.ones(2))
    assert not torch.is_inference(torch.ones(2))
    with pytest.raises(TypeError, match="must be Tensor"):
        torch.is_inference(2)


def test_modules_of_devices() -> None:
    assert torch.get_device_module("cpu") is torch.cpu
    assert torch.get_device_module(torch.device("cuda")) is torch.cuda
    assert torch.get_device_module() in (torch.cpu, torch.cuda)
    with pytest.raises(RuntimeError, match="Invalid value of device"):
        torch.get_device_module(3)
    with pytest.raises(RuntimeError, match="does not have a corresponding module"):
        torch.get_device_module("meta")
    assert torch.cpu.is_available() and torch.cpu.is_initialized()
    assert torch.cpu.device_count() == 1 and torch.cpu.current_device() == "cpu"
    torch.cpu.set_device("cpu")
    torch.cpu.synchronize()
    assert torch.Stream is torch.cuda.Stream and torch.Event is torch.cuda.Event
    assert torch.OutOfMemoryError is torch.cuda.OutOfMemoryError


def test_cond(device: str) -> None:
    x = torch.ones(3, device=device, requires_grad=True)
    for pred, want in ((True, 2.0), (x.sum() < 0, 0.0), (0, 0.0), (x[:1] > 0, 2.0)):
        y = torch.cond(pred, lambda a: a + 1, lambda a: a - 1, (x,))
        assert y.tolist() == [want] * 3 and y.requires_grad
    for args, error in (((x > 0, abs, abs, (x,)), RuntimeError),
                        (("a", abs, abs, (x,)), RuntimeError),
                        ((True, 3, abs, (x,)), TypeError), ((True, abs, abs, x), RuntimeError)):
        with pytest.raises(error):
            torch.cond(*args)


def test_while_loop() -> None:
    def less(n: Any, a: Any) -> Any:
        return n < 3

    n, a = torch.while_loop(less, lambda n, a: [n + 1, a * 2], (torch.tensor(0), torch.ones(2)))
    assert n.item() == 3 and a.tolist() == [8.0, 8.0]
    for args in ((3, less, (n, a)), (less, less, n), (lambda n, a: True, lambda n, a: n, (n, a))):
        with pytest.raises(RuntimeError):
            torch.while_loop(*args)


@pytest.mark.parametrize("name", ["eig", "lstsq", "solve", "symeig"])
def test_what_pytorch_has_removed(name: str) -> None:
    x = torch.eye(2)
    for call in (lambda: getattr(torch, name)(x, x), lambda: getattr(x, name)(x)):
        with pytest.raises(RuntimeError, match="is now removed"):
            call()


@pytest.mark.parametrize("name", ["sparse_coo_tensor", "crow_indices_copy", "smm",
                                  "quantize_per_tensor", "dequantize"])
def test_what_is_left_out_says_so(name: str) -> None:
    with pytest.raises(AttributeError, match="tensors are not supported"):
        getattr(torch, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        _ = torch.nothing_of_the_kind
