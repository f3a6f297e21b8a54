"""A module called with other tensors in the places of its parameters and buffers."""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.nn.modules.module import Module, typename


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


@contextmanager
def _reparametrize_module(module: Module, parameters_and_buffers: dict[str, Tensor],
                          tie_weights: bool = False, strict: bool = False,
                          stack_weights: bool = False) -> Iterator[None]:
    """The module with other tensors in its places, for a while."""
    places, new = _places(module), parameters_and_buffers
    wanted = {name: v for name, v in new.items() if name in places}
    if tie_weights:
        same: dict[int, list[str]] = {}
        for name, (table, key) in places.items():
            same.setdefault(id(table[key]), []).append(name)
        for names in same.values():
            given = {id(new[name]): name for name in names if name in new}
            if len(given) > 1:
                clash = sorted(name for name in names if name in new)
                raise ValueError(f"functional_call got multiple values for keys {clash}, which are "
                                 "tied. Consider using tie_weights=False")
            wanted.update({name: new[first] for first in given.values() for name in names})
    if strict:
        _check_names(module, wanted, new, places)
    for v in wanted.values():
        if not isinstance(v, Tensor):
            raise TypeError(f"{v} is not an instance of torch.Tensor: its type is {typename(v)}")
    before = [(table, key, table[key]) for table, key in (places[name] for name in wanted)]
    try:
        for name, v in wanted.items():
            table, key = places[name]
            table[key] = v
        yield
    finally:
        for name, (table, key, v) in zip(wanted, before):
            # what the module put there itself stays with the dict of the caller
            if name in new and table[key] is not new[name]:
                new[name] = table[key]
            table[key] = v


def _check_names(module: Module, wanted: Any, new: Any, places: Any) -> None:
    unexpected, missing = sorted(set(new) - set(places)), sorted(set(places) - set(wanted))
    if missing or unexpected:
        said = [f"\n\t{what} key(s): {', '.join(map(repr, names))}." for what, names in
                (("Unexpected", unexpected), ("Missing", missing)) if names]
        raise RuntimeError(f"Error(s) in reparametrizing for {module._get_name()}:"
                           + "".join(said))


def _functional_call(module: Module, parameters_and_buffers: dict[str, Tensor], args: Any = None,
                     kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                     strict: bool = False) -> Any:
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _reparametrize_module(module, parameters_and_buffers, tie_weights, strict):
        return module(*args, **(kwargs or {}))


def functional_call(module: Module, parameters_and_buffers: dict[str, Tensor], args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:
    """Deprecated: ``torch.func.functional_call``, for one dict."""
    warnings.warn("`torch.nn.utils.stateless.functional_call` is deprecated as of PyTorch 2.0 and "
                  "will be removed in a future version of PyTorch. Please use "
                  "`torch.func.functional_call` instead which is a drop-in replacement.",
                  FutureWarning, stacklevel=2)
    return _functional_call(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights,
                            strict=strict)
