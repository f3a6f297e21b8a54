"""Automatic differentiation: backward, grad, Function, hooks, gradcheck."""
from __future__ import annotations

from typing import Any

from gpugrad.autograd import graph as graph
from gpugrad.autograd.engine import backward as backward
from gpugrad.autograd.engine import grad as grad
from gpugrad.autograd.function import Function as Function
from gpugrad.autograd.grad_mode import enable_grad as enable_grad
from gpugrad.autograd.grad_mode import inference_mode as inference_mode
from gpugrad.autograd.grad_mode import no_grad as no_grad
from gpugrad.autograd.grad_mode import set_grad_enabled as set_grad_enabled


def __getattr__(name: str) -> Any:
    # for tests: not imported until used
    if name in ("gradcheck", "gradgradcheck", "GradcheckError"):
        from gpugrad.autograd import _gradcheck
        return getattr(_gradcheck, name)
    if name in ("detect_anomaly", "set_detect_anomaly"):
        from gpugrad.autograd import anomaly_mode
        return getattr(anomaly_mode, name)
    if name in ("anomaly_mode", "functional", "forward_ad", "profiler"):
        from importlib import import_module
        return import_module("gpugrad.autograd." + name)
    if name == "Variable":
        from gpugrad.autograd.variable import Variable
        return Variable
    raise AttributeError(f"module 'gpugrad.autograd' has no attribute '{name}'")
