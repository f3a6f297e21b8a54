"""Optimizer: parameter groups, state, hooks, and the step that every algorithm shares.

Arguments that all algorithms take: ``params`` (parameters, ``(name, parameter)`` pairs, or dicts
with ``"params"`` and options of their own), ``lr`` (a number or a one-element Tensor),
``weight_decay``, ``maximize`` (climb instead of descend). ``foreach`` is accepted as a hint.
``fused`` and ``capturable`` keep the step count on the parameter's device (see fused.py), and
change nothing on the CPU. ``differentiable`` records the step in the graph (see recorded.py).
"""
from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from gpugrad._hooks import HookTable, RemovableHandle
from gpugrad._tensor import Tensor, bump, wrap
from gpugrad.autograd.grad_mode import enable_grad
from gpugrad.autograd.listening import update
from gpugrad.autograd.transfer import to_backend
from gpugrad.backend import cpu
from gpugrad.dtypes import float32, get_default_dtype
from gpugrad.optim import helped, in_stretches, recorded
from gpugrad.optim.fused import counts_on_device, step_together
from gpugrad.optim.options import (
    check_fused,
    check_hints,
    decay_of,
    number,
    split_names,
    typename,
)

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]

_global_pre, _global_post = HookTable(), HookTable()
_HOOK_TABLES = ("_step_pre", "_step_post", "_state_dict_pre", "_state_dict_post", "_load_pre",
                "_load_post")


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


# The default of an option that every group must give.
required = _Required()


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` with its optimizer's hooks, and those of all optimizers, before and after it."""
    @functools.wraps(step)
    def hooked(self: Any, *args: Any, **kw: Any) -> Any:
        self._stepped = True
        pre, post = self._step_pre, self._step_post
        if self._in_step or not (pre or post or _global_pre or _global_post):
            return step(self, *args, **kw)
        self._in_step = True            # a step that calls super().step() runs its hooks once
        try:
            args = (self, *args)
            for hook in [*_global_pre.values(), *pre.values()]:
                new = hook(self, args, kw)
                if new is not None:
                    if not (isinstance(new, tuple) and len(new) == 2):
                        raise RuntimeError(f"{step} must return None or a tuple of "
                                           f"(new_args, new_kwargs), but got {new}.")
                    args, kw = new
            result = step(*args, **kw)
            for hook in [*post.values(), *_global_post.values()]:
                hook(self, args, kw)
            return result
        finally:
            self._in_step = False
    return update(hooked)


class Optimizer:
    """Base of all optimizers.

    An algorithm of gpugrad's own says in three short methods what it is: ``_state_names``, the
    arrays kept for a parameter (made as zeros, or as ``_initial`` says); ``_numbers``, the
    constants of a step; and ``_update``, the arithmetic on one stretch of a parameter, in place.
    ``_kernel`` names its kernel, of kernels/<_file>.cu and kernels/cpu/optimizer.c, which gets the
    same numbers, ``_neutral`` where one is None, and ``_flags``; or it makes the numbers from
    ``_device_options``. ``_scalars`` are numbers that change with the steps and belong to the
    state; ``_numbers`` gets them as they were before the step, ``_advanced`` says what they are
    after it. Optimizers of users override ``step``.

    A gradient scaler sets ``grad_scale`` and ``found_inf``, one-element Tensors: gradients are
    divided by the one, and the step is left out if the other is 1.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None
    _file = "optimizer"
    _kernel = ""
    _neutral: tuple[float, ...] = ()
    _scalars: tuple[str, ...] = ()

    _counts_steps = False          # the state of a parameter holds "step", a float32 Tensor
    _options: dict[str, Any] = {}  # options that older checkpoints lack, with their values
    _in_step = False
    _stepped = False
    _watched: Any = None           # the function behind ``step`` when the first schedule came
    state: defaultdict[Any, Any]
    param_groups: list[dict[str, Any]]
    _step_pre: HookTable
    _step_post: HookTable
    _state_dict_pre: HookTable
    _state_dict_post: HookTable
    _load_pre: HookTable
    _load_post: HookTable

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of "
                            f"Tensors or dicts, but got {typename(params)}")
        check_hints(defaults)
        self.defaults = defaults
        self._make_hook_tables()
        self.state, self.param_groups = defaultdict(dict), []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)  # type: ignore[method-assign]

    # Groups --------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options of their own where ``param_group`` has them."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        split_names(param_group)
        params = param_group["params"]
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is "
                                + typename(p))
            if not (p.is_leaf or getattr(p, "retains_grad", False)
                    or self.defaults.get("differentiable")):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError("parameter group didn't specify a value of required optimization "
                                 f"parameter {name}")
            param_group.setdefault(name, default)
        if len(set(params)) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in "
                          "future, this will cause an error; see "
                          "github.com/pytorch/pytorch/issues/40967 for more information",
                          stacklevel=4)
        named = "param_names" in param_group
        for group in self.param_groups:
            if ("param_names" in group) != named:
                raise ValueError("all optimizer param groups should be with/without names. cannot "
                                 f"add param group {'with' if named else 'without'} names to the "
                                 "optimizer")
        taken = {p for group in self.param_groups for p in group["params"]}
        if not taken.isdisjoint(params):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        kept = []
        for group in self.param_groups:
            for p in group["params"]:
                if getattr(p, "_grad", None) is None:
                    continue
                if set_to_none:
                    p._grad = None
                else:
                    if p.grad.grad_fn is not None:
                        p.grad.detach_()
                    else:
                        p.grad.requires_grad_(False)
                    kept.append(p.grad)
        if kept:
            from gpugrad.functions.gradients import zero_

            zero_(kept)

    # The step ------------------------------------------------------------------------------------

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        raise NotImplementedError

    def _initial(self, name: str, group: dict[str, Any]) -> float:
        """What a state array, or a scalar, is filled with when it is made."""
        return 0.0

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        """What ``_update`` gets as ``n``, for a parameter's step number t.

        Without ``_counts_steps``, t is 1 when the state has just been made and 2 later.
        """
        raise NotImplementedError

    def _advanced(self, group: dict[str, Any], t: float, *scalars: float) -> tuple[float, ...]:
        """The scalars of the state after step t."""
        return scalars

    def _begins_otherwise(self, group: dict[str, Any]) -> bool:
        """Is a first step, which the state alone tells, computed otherwise than the later ones?"""
        return False

    def _values(self, group: dict[str, Any], t: float,
                *scalars: float) -> tuple[float | None, ...]:
        """All constants of a step: those of weight decay, then the algorithm's own."""
        return *decay_of(group), *self._numbers(group, t, *scalars)

    def _flags(self, group: dict[str, Any]) -> tuple[bool, ...]:
        """What the kernel must know besides numbers."""
        return ()

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        """Fields of the kernels' struct Options; a learning rate on a device isn't read."""
        lr = group["lr"]
        return {"lr": 0.0 if isinstance(lr, Tensor) and lr._be.index else number(lr),
                "weight_decay": number(group.get("weight_decay", 0)),
                "decoupled": bool(group.get("decoupled_weight_decay"))}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        """Change p and its state in place; g is not to be written to, u is scratch of its shape.

        Weight decay and ``maximize`` are in g already; decoupled decay has been applied to p.
        """
        raise NotImplementedError

    @_with_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient.

        ``closure`` computes the loss and its gradients first, with recording on; its result is
        returned.
        """
        if type(self)._update is Optimizer._update:
            raise NotImplementedError(f"{type(self).__name__} doesn't define step()")
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if getattr(p, "_grad", None) is not None]
        if group.get("fused"):
            check_fused(params)
        if group.get("differentiable"):
            with np.errstate(all="ignore"):
                recorded.step(self, group, params)
            return
        for be in dict.fromkeys([p._be for p in params if p._be.index]):
            be.guard(self._step_there)(group, be, [p for p in params if p._be is be])
            params = [p for p in params if p._be is not be]
        self._step_each(group, params)

    def _step_there(self, group: dict[str, Any], be: Any, params: list[Tensor]) -> None:
        """Step the parameters of one GPU: by kernels together, the others one by one."""
        if self.found_inf is not None and self._begins_otherwise(group) and any(
                [name not in self.state.get(p, {}) for p in params
                 for name in self._state_names(group)]) and self.found_inf.item():
            return                      # to be left out, and no state is to be made
        self._step_each(group, step_together(self, group, be, params))

    def _step_each(self, group: dict[str, Any], params: list[Tensor]) -> None:
        if self.found_inf is not None and params and self.found_inf.item():
            return
        names = self._state_names(group)
        stateless = not names and not self._counts_steps
        sets: dict[Any, list[list[Any]]] = {}    # with the same numbers
        if stateless and self.grad_scale is None:
            for p in params:
                bump(p)
            pairs: Any = [(p, p._grad) for p in params]
            sets = {(be, 1, ()): [[p._a, g._a] for p, g in pairs if p._be is be]
                    for be in {p._be for p in params}}
            params = []
        for p in params:
            g: Any = p._grad
            be = p._be
            if self.grad_scale is not None:
                scale = to_backend(self.grad_scale, be)._a.reshape(())
                g._a[...] = (g._a / scale).astype(g._a.dtype)
                bump(g)
            t, arrays = (1, []) if stateless else self._state_of(p, group, names)
            scalars = self._advance(p, group, t) if self._scalars else ()
            sets.setdefault((be, t, scalars), []).append([p._a, g._a, *arrays])
            bump(p)
        for (be, t, scalars), rows in sets.items():
            values = self._values(group, t, *scalars)
            if not be.index:
                rows = helped.step_together(self, group, values, rows)
            if rows:
                with np.errstate(all="ignore"):  # infinities and NaN spread without a warning
                    in_stretches.step(self._update, be, group["maximize"], values, rows)

    def _advance(self, p: Tensor, group: dict[str, Any], t: float) -> tuple[float, ...]:
        """The scalars of a parameter's state as they were before step t; now they are advanced."""
        if not self._scalars:
            return ()
        held = [self.state[p][name] for name in self._scalars]
        before = tuple([x.item() for x in held])
        for x, after in zip(held, self._advanced(group, t, *before)):
            x._a[...] = after
            bump(x)
        return before

    def _state_of(self, p: Tensor, group: dict[str, Any], names: tuple[str, ...],
                  on_device: bool = False) -> tuple[float, list[Any]]:
        """A parameter's step number and the arrays of its state, made where they are missing.

        on_device: the step count is for the device to advance and to know; 0 is returned for it.
        """
        if not names and not self._counts_steps:
            return 1, []
        state = self.state[p]
        t, arrays = 2.0, []
        if self._counts_steps:
            count = state.get("step")
            if count is None:
                count = state["step"] = _step_tensor(0.0)
            if on_device:
                t, state["step"] = 0.0, count.to(p.device, float32)
            else:
                t = count.item() + 1
                count._a[...] = t
            bump(state["step"])
        for name in self._scalars:
            if name not in state:
                state[name] = _step_tensor(self._initial(name, group))
            if on_device:
                state[name] = state[name].to(p.device, float32)
        for name in names:
            held = state.get(name)
            if held is None:
                held = state[name] = self._made(name, p, group)
                if not self._counts_steps:
                    t = 1.0
            if held._a.shape != p._a.shape:
                raise RuntimeError(f"{type(self).__name__}.step(): the state {name!r} has shape "
                                   f"{list(held._a.shape)}, its parameter {list(p._a.shape)}: the "
                                   "state that was loaded belongs to another model")
            arrays.append(held._a)
        return t, arrays

    def _first_step(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """A step count of 0, where a parameter's is kept."""
        count = _step_tensor(0.0)
        return count.to(p.device, float32) if counts_on_device(group) else count

    def _made(self, name: str, p: Tensor, group: dict[str, Any]) -> Tensor:
        """A new state array."""
        value = self._initial(name, group)
        like = p._be.xp.zeros_like if value == 0 else p._be.xp.empty_like
        a = like(p._a)
        if value != 0:
            a[...] = complex(value, value) if a.dtype.kind == "c" else value
        return wrap(a, p._be)

    # What gradient scalers and schedules of learning rates ask ------------------------------------

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Does ``step`` look at ``grad_scale`` and ``found_inf`` itself? A user's may say so."""
        said: bool | None = self.__dict__.get("_looks_at_scaler")
        if said is None:
            return type(self).step is Optimizer.step and not self.defaults.get("differentiable")
        return said

    @_step_supports_amp_scaling.setter
    def _step_supports_amp_scaling(self, value: bool) -> None:
        self._looks_at_scaler = value

    @property
    def _unscales_itself(self) -> bool:
        """Is it ``step`` that divides gradients by the scale, rather than the scaler before it?"""
        return bool(self.defaults.get("fused")) or "_looks_at_scaler" in self.__dict__

    def _watch_steps(self) -> None:
        """From now on a schedule wants to know whether steps are made."""
        if self._watched is None:
            self._watched, self._stepped = getattr(self.step, "__func__", self.step), False

    def _stepped_since_watched(self) -> bool | None:
        """Has there been a step? None if ``step`` has been replaced, so that nobody knows."""
        now = getattr(self.step, "__func__", self.step)
        if now is not self._watched:
            return None
        return self._stepped or "step" in self.__dict__

    # State ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": ..., "param_groups": ...}`` with parameters replaced by their position.

        The tensors are the optimizer's own, not copies.
        """
        for hook in self._state_dict_pre.values():
            hook(self)
        place: dict[Any, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                place.setdefault(p, len(place))
        groups = [{**{k: v for k, v in group.items() if k != "params"},
                   "params": [place[p] for p in group["params"]]} for group in self.param_groups]
        state = {place[k] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        out: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post.values():
            new = hook(self, out)
            out = out if new is None else new
        return out

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict()`` returned, here or in PyTorch.

        Parameters are matched by position. Their state is moved to their dtype and device; tensors
        that fit already are taken over without a copy.
        """
        state_dict = state_dict.copy()
        for hook in self._load_pre.values():
            new = hook(self, state_dict)
            state_dict = state_dict if new is None else new
        groups, saved = self.param_groups, state_dict["param_groups"]
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the "
                             "size of optimizer's group")
        params: dict[Any, Tensor] = {}
        beside = set()                  # parameters whose step count is kept on their device
        loaded = []
        for group, old in zip(groups, saved):
            params.update(zip(old["params"], group["params"]))
            if counts_on_device(old):
                beside.update(old["params"])
            options = {k: copy.deepcopy(v) for k, v in old.items()}
            options["params"] = group["params"]
            if "param_names" in group:
                options.setdefault("param_names", group["param_names"])
            loaded.append(options)
        state: defaultdict[Any, Any] = defaultdict(dict)
        for k, v in state_dict["state"].items():
            if k in params:
                state[params[k]] = _fitted(v, params[k], k in beside, ("step", *self._scalars))
            else:
                state[k] = v
        self.__setstate__({"state": state, "param_groups": loaded})
        for hook in self._load_post.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_step_pre" not in self.__dict__:
            self._make_hook_tables()
        for group in self.param_groups:
            for name, value in self._options.items():
                group.setdefault(name, value)
        if self._counts_steps:
            for held in self.state.values():
                if isinstance(held, dict) and isinstance(held.get("step"), int | float):
                    held["step"] = _step_tensor(held["step"])

    # Hooks ---------------------------------------------------------------------------------------

    def _make_hook_tables(self) -> None:
        for name in _HOOK_TABLES:
            setattr(self, name, HookTable())

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new ones."""
        return self._step_pre.register(hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._step_post.register(hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any],
                                     prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before the state is collected."""
        return _register(self._state_dict_pre, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any],
                                      prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` on the collected state; it may return another."""
        return _register(self._state_dict_post, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any],
                                          prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before loading; it may return another state."""
        return _register(self._load_pre, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any],
                                           prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after loading."""
        return _register(self._load_post, hook, prepend)

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {k}: {group[k]}\n" for k in sorted(group) if k != "params")
        return text + ")"


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before each step of any optimizer."""
    return _global_pre.register(hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after each step of any optimizer."""
    return _global_post.register(hook)


def _step_tensor(count: float) -> Tensor:
    dtype = np.float64 if get_default_dtype().itemsize == 8 else np.float32
    return wrap(np.array(count, dtype), cpu)


# Parts of the bookkeeping -------------------------------------------------------------------------

def _register(table: HookTable, hook: Callable[..., Any], prepend: bool) -> RemovableHandle:
    others = dict(table) if prepend else {}
    for key in others:
        del table[key]
    handle = table.register(hook)
    table.update(others)
    return handle


def _fitted(value: Any, p: Tensor, beside: bool, scalars: tuple[str, ...], key: Any = None) -> Any:
    """State of a parameter with its tensors in the parameter's dtype, on its device.

    beside: so are its step count and scalars, which else are read by the host at each step.
    """
    if isinstance(value, Tensor):
        if key in scalars and beside:
            return value.to(p.device, float32)
        if key in scalars:
            return value.to("cpu") if key == "step" else value.to("cpu", p.dtype)
        return value.to(p.device, p.dtype) if p.is_floating_point() else value.to(p.device)
    if isinstance(value, dict):
        return {k: _fitted(v, p, beside, scalars, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fitted(v, p, beside, scalars) for v in value)
    return value
