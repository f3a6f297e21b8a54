"""Modules as functions of their parameters and buffers."""
from __future__ import annotations

from collections import Counter
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.nn import BatchNorm1d, BatchNorm2d, Module
from gpugrad.nn.utils.stateless import _functional_call


def _given(dicts: Any) -> dict[str, Tensor]:
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, tuple | list):
        raise ValueError("Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of "
                         f"dicts, but got {type(dicts)}")
    if not all([isinstance(d, dict) for d in dicts]):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    count = Counter([name for d in dicts for name in d])
    twice = [name for name, n in count.items() if n > 1]
    if twice:
        raise ValueError(f"{twice} appeared in multiple dictionaries; behavior of functional call "
                         "is ambiguous")
    return {name: v for d in dicts for name, v in d.items()}


def functional_call(module: Module, parameter_and_buffer_dicts: Any, args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:
    """module(*args, **kwargs) with other tensors for its parameters and buffers.

    parameter_and_buffer_dicts: by full names; those that it lacks stay. tie_weights: a tensor that
    has several names is replaced under all of them. strict: it must have all names, and no others.
    """
    return _functional_call(module, _given(parameter_and_buffer_dicts), args, kwargs,
                            tie_weights=tie_weights, strict=strict)


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, buffers) of modules of one kind, stacked under their names."""
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    kind = type(models[0])
    if not all([m.training == models[0].training for m in models]):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval "
                           "mode.")
    if not all([type(m) is kind for m in models]):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    tables = [[dict(m.named_parameters()) for m in models], [dict(m.named_buffers())
                                                             for m in models]]
    params, buffers = ({name: T.stack(*[t[name] for t in table]) for name in table[0]}
                       for table in tables)
    return ({k: v.detach().requires_grad_(tables[0][0][k].requires_grad)
             for k, v in params.items()},
            {k: v.detach() for k, v in buffers.items()})


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Let all batch norms inside use the statistics of the batch, and keep none of their own."""
    for part in root.modules():
        if isinstance(part, BatchNorm1d | BatchNorm2d):
            part.running_mean = part.running_var = part.num_batches_tracked = None
            part.track_running_stats = False
    return root
