"""Runs a function with torch and with gpugrad, and compares all that comes of it: values, texts,
warnings, errors."""
from __future__ import annotations

import warnings
from typing import Any

import pytest

import gpugrad

torch = pytest.importorskip("torch")


def plain(v: Any) -> Any:
    """A result as something that compares: tensors as lists, classes by name."""
    if isinstance(v, gpugrad.Tensor | torch.Tensor):
        kind = type(v).__name__
        if v.device.type == "meta":
            return kind, "meta", tuple(v.shape), str(v.dtype), v.requires_grad
        return kind, v.detach().tolist(), str(v.dtype), v.requires_grad
    if isinstance(v, dict):
        return [(k, plain(u)) for k, u in v.items()]
    if isinstance(v, tuple | list):
        return [plain(u) for u in v]
    if isinstance(v, set | frozenset):
        return sorted(map(plain, v))
    if v is None or isinstance(v, str | int | float | bool):
        return v
    if isinstance(v, type):
        return v.__name__
    return type(v).__name__, repr(v)


def outcome(fn: Any, lib: Any) -> Any:
    lib.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = plain(fn(lib))
        except Exception as e:
            # where a class is named by its module, the packages' names differ
            return type(e).__name__, str(e).replace("gpugrad.", "torch.")
    return result, [(w.category.__name__, str(w.message).replace("gpugrad.", "torch."))
                    for w in caught if "TypedStorage" not in str(w.message)]


def errors(t: Any, *uses: Any) -> list[Any]:
    """What each use raises."""
    said = []
    for use in uses:
        try:
            said.append(plain(use()))
        except Exception as e:
            said.append((type(e).__name__, str(e).replace("gpugrad.", "torch.")))
    return said


def alike(a: Any, b: Any, texts: bool) -> bool:
    """Equal, but for the last places of floats, and, unless ``texts``, for long texts."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(alike(x, y, texts) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return bool(a == pytest.approx(b, rel=1e-4, abs=1e-5))
    if isinstance(a, str) and isinstance(b, str) and not texts and len(b) > 20:
        return True
    return type(a) is type(b) and bool(a == b)


def check(fn: Any, texts: bool = True) -> None:
    """The same comes of a function with both."""
    ours, theirs = outcome(fn, gpugrad), outcome(fn, torch)
    assert alike(ours, theirs, texts), f"\n{ours}\n{theirs}"


def net(t: Any) -> Any:
    """A network with parameters, buffers of both kinds, and places for nothing."""
    class Block(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = t.nn.Conv2d(1, 2, 3)
            self.norm = t.nn.BatchNorm2d(2)

        def forward(self, x: Any) -> Any:
            return self.norm(self.conv(x))

    class Net(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Block(), t.nn.Sequential(Block(), t.nn.ReLU())
            self.scale = t.nn.Parameter(t.ones(2))
            self.register_buffer("kept", t.zeros(1))
            self.register_buffer("lost", t.zeros(2), persistent=False)
            self.nothing = None
            self.register_parameter("none", None)
            self.register_module("gone", None)

        def forward(self, x: Any) -> Any:
            return self.second[0](x) + self.first(x)
    return Net()
