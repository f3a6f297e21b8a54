"""torch.cuda's and torch.backends' names and parameters, compared with PyTorch's own."""
from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

import gpugrad
import gpugrad.backends
import gpugrad.cuda

torch = pytest.importorskip("torch")

# What only gpugrad has.
OWN = {"unavailable_reason", "simulate", "sim", "is_simulated"}
ASKED_FOR = """is_available device_count current_device set_device device get_device_name
    get_device_properties get_device_capability synchronize Stream Event stream current_stream
    default_stream memory_allocated max_memory_allocated reset_peak_memory_stats memory_reserved
    max_memory_reserved memory_stats memory_summary empty_cache mem_get_info manual_seed
    manual_seed_all get_rng_state set_rng_state CUDAGraph graph graph_pool_handle
    is_current_stream_capturing make_graphed_callables nvtx OutOfMemoryError seed seed_all
    initial_seed ExternalStream StreamContext can_device_access_peer""".split()
METHODS = {
    "Stream": "wait_event wait_stream record_event query synchronize priority_range",
    "Event": "record wait query elapsed_time synchronize",
    "CUDAGraph": "capture_begin capture_end replay reset pool instantiate enable_debug_mode "
                 "debug_dump raw_cuda_graph raw_cuda_graph_exec",
    "graph": "__init__", "StreamContext": "__init__", "device": "__init__",
}


def public(module: Any) -> list[str]:
    return [n for n, v in vars(module).items()
            if n[0] != "_" and n not in ("annotations", "Any") and not isinstance(v, ModuleType)]


def parameters(f: Any) -> list[str] | None:
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        return None
    return [n for n in names if n not in ("self", "cls")]


def test_all_that_was_asked_for_is_there() -> None:
    assert not [n for n in ASKED_FOR if not hasattr(gpugrad.cuda, n)]


def test_every_name_is_pytorchs() -> None:
    unknown = [n for n in public(gpugrad.cuda) if n not in OWN and not hasattr(torch.cuda, n)]
    assert not unknown
    for ours, theirs in ((gpugrad.cuda.nvtx, torch.cuda.nvtx),
                         (gpugrad.backends.cuda, torch.backends.cuda)):
        assert not [n for n in public(ours) if inspect.isfunction(getattr(ours, n))
                    and getattr(ours, n).__module__ == ours.__name__ and not hasattr(theirs, n)]


@pytest.mark.parametrize("name", [n for n in public(gpugrad.cuda) if n not in OWN])
def test_functions_have_pytorchs_parameters(name: str) -> None:
    ours, theirs = getattr(gpugrad.cuda, name), getattr(torch.cuda, name)
    if inspect.isclass(ours) or inspect.isclass(theirs):
        return
    want, got = parameters(theirs), parameters(ours)
    if want is not None and "args" not in want:
        assert got == want


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_pytorchs_parameters(name: str) -> None:
    ours, theirs = getattr(gpugrad.cuda, name), getattr(torch.cuda, name)
    for method in METHODS[name].split():
        want, got = parameters(getattr(theirs, method, None)), parameters(getattr(ours, method))
        if want is not None and "args" not in want:
            assert got == want, method


def test_settings_start_as_pytorchs() -> None:
    for path in ("cuda.matmul.allow_tf32", "cuda.matmul.allow_fp16_reduced_precision_reduction",
                 "cuda.matmul.allow_bf16_reduced_precision_reduction", "cudnn.enabled",
                 "cudnn.benchmark", "cudnn.deterministic", "cudnn.allow_tf32",
                 "cuda.matmul.fp32_precision", "cuda.matmul.allow_fp16_accumulation"):
        ours: Any = gpugrad.backends
        theirs: Any = torch.backends
        for part in path.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        assert ours == theirs, path
    assert gpugrad.get_float32_matmul_precision() == torch.get_float32_matmul_precision()
