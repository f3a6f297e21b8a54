"""Modules as functions of their parameters and buffers."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.nn import BatchNorm1d, BatchNorm2d, Module


def _places(module: Module) -> dict[str, tuple[dict[str, Any], str]]:
    """For each full name of a parameter or buffer the dict that holds it, and its key there."""
    out = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        start = prefix + "." if prefix else ""
        for table in (part._parameters, part._buffers):
            for key, value in table.items():
                if value is not None:
                    out[start + key] = table, key
    return out


def _given(dicts: Any) -> dict[str, Tensor]:
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, tuple | list) or not all([isinstance(d, dict) for d in dicts]):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries, "
                         f"not {type(dicts)}")
    names = [name for d in dicts for name in d]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice} appeared in multiple dictionaries; behavior of functional call "
                         "is ambiguous")
    return {name: v for d in dicts for name, v in d.items()}


@contextmanager
def _replaced(module: Module, new: dict[str, Tensor], tie: bool, strict: bool) -> Iterator[None]:
    """The module with other tensors in its places, for a while."""
    places = _places(module)
    if strict:
        _check_names(module, new, places)
    same: dict[int, list[str]] = {}
    for name, (table, key) in places.items():
        same.setdefault(id(table[key]), []).append(name)
    wanted = {name: v for name, v in new.items() if name in places}
    if tie:
        for name, v in list(wanted.items()):
            table, key = places[name]
            for other in same[id(table[key])]:
                if wanted.setdefault(other, v) is not v:
                    raise ValueError(f"functional_call got two values for tied weights: {name!r} "
                                     f"and {other!r}. Pass tie_weights=False to untie them")
    before = [(table, key, table[key]) for table, key in (places[name] for name in wanted)]
    try:
        for name, v in wanted.items():
            table, key = places[name]
            table[key] = v
        yield
    finally:
        for table, key, v in before:
            table[key] = v


def _check_names(module: Module, new: Any, places: Any) -> None:
    missing, unexpected = sorted(set(places) - set(new)), sorted(set(new) - set(places))
    if missing or unexpected:
        said = [f"\n\t{what} key(s): {', '.join(map(repr, names))}." for what, names in
                (("Missing", missing), ("Unexpected", unexpected)) if names]
        raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:"
                           + "".join(said))


def functional_call(module: Module, parameter_and_buffer_dicts: Any, args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:
    """module(*args, **kwargs) with other tensors for its parameters and buffers.

    parameter_and_buffer_dicts: by full names; those that it lacks stay. tie_weights: a tensor that
    has several names is replaced under all of them. strict: it must have all names, and no others.
    """
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    new = _given(parameter_and_buffer_dicts)
    with _replaced(module, new, tie_weights, strict):
        return module(*args, **(kwargs or {}))


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
