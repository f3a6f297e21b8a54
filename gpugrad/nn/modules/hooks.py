"""Hooks of modules: their tables, the call that runs them, and the hooks of all modules at once."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from gpugrad._hooks import HookTable, RemovableHandle
from gpugrad._tensor import Tensor
from gpugrad.autograd.function import Function
from gpugrad.autograd.grad_mode import is_grad_enabled


class _NoHooks(dict[int, Any]):
    """What an object without hooks has: nothing comes in but by register_*, which makes a table."""

    def __setitem__(self, *args: Any, **kw: Any) -> Any:
        raise TypeError("hooks are added by the register_*hook() methods of the module")

    update = setdefault = __ior__ = __setitem__

    def __reduce__(self) -> str:
        return "NO_HOOKS"


NO_HOOKS = _NoHooks()

# Hooks of all modules, and what is true of some of them by id.
_forward_pre: HookTable = HookTable()
_forward: HookTable = HookTable()
_backward_pre: HookTable = HookTable()
_backward: HookTable = HookTable()
_with_kwargs: HookTable = HookTable()
_always: HookTable = HookTable()
_backward_kind: list[bool | None] = [None]     # are the hooks in _backward full ones?

parameter_registration: HookTable = HookTable()
buffer_registration: HookTable = HookTable()
module_registration: HookTable = HookTable()

_MIXED = ("Cannot use both regular backward hooks and full backward hooks on a single Module. "
          "Please use only one of them.")
_MIXED_GLOBAL = ("Cannot use both regular backward hooks and full backward hooks as a global "
                 "Module hook. Please use only one of them.")


class Hookable:
    """The part of a module that keeps hooks and calls ``forward`` with them.

    ``_hooked`` is the one flag that a call reads. It is set on the object by its first hook, and on
    this class by the first global hook.
    """

    _hooked = False
    _forward_pre_hooks: dict[int, Any] = NO_HOOKS
    _forward_pre_hooks_with_kwargs: dict[int, Any] = NO_HOOKS
    _forward_hooks: dict[int, Any] = NO_HOOKS
    _forward_hooks_with_kwargs: dict[int, Any] = NO_HOOKS
    _forward_hooks_always_called: dict[int, Any] = NO_HOOKS
    _backward_pre_hooks: dict[int, Any] = NO_HOOKS
    _backward_hooks: dict[int, Any] = NO_HOOKS
    _is_full_backward_hook: bool | None = None

    forward: Callable[..., Any]

    def _add_hook(self, name: str, hook: Any, prepend: bool = False,
                  **marks: bool) -> RemovableHandle:
        """Put a hook into the table ``name``, and its id into the tables of the true ``marks``."""
        mine = self.__dict__
        table = mine.setdefault(name, HookTable())
        flags = [mine.setdefault(mark, HookTable()) for mark, on in marks.items() if on]
        handle = RemovableHandle(table, extra_dict=flags)
        for flag in flags:
            flag[handle.id] = True
        add(table, handle.id, hook, prepend)
        return handle

    def _forget_empty_tables(self) -> None:
        """After hooks were removed: a module without any is called as one that never had one."""
        mine = self.__dict__
        if not any([mine.get(name) for name in (
                "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")]):
            mine.pop("_hooked", None)

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the arguments.

        With ``with_kwargs``: ``hook(module, args, kwargs)``, returning None or (args, kwargs).
        """
        self.__dict__["_hooked"] = True
        return self._add_hook("_forward_pre_hooks", hook, prepend,
                              _forward_pre_hooks_with_kwargs=with_kwargs)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                              with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after forward; what it returns replaces the output.

        With ``with_kwargs``: ``hook(module, args, kwargs, output)``. With ``always_call`` it is
        called even if forward raises.
        """
        self.__dict__["_hooked"] = True
        return self._add_hook("_forward_hooks", hook, prepend,
                              _forward_hooks_with_kwargs=with_kwargs,
                              _forward_hooks_always_called=always_call)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any],
                                        prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are known.

        A tuple that it returns replaces them.
        """
        self.__dict__["_hooked"] = True
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any],
                                    prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the inputs' gradients are known.

        A tuple that it returns replaces grad_input. Keyword arguments of forward have no place in
        grad_input.
        """
        return self._register_backward(hook, prepend, full=True)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The old form, which sees the last operation of forward only: use the full one."""
        return self._register_backward(hook, False, full=False)

    def _register_backward(self, hook: Any, prepend: bool, full: bool) -> RemovableHandle:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(_MIXED)
        self.__dict__["_hooked"] = True
        self._is_full_backward_hook = full
        return self._add_hook("_backward_hooks", hook, prepend)

    def _call_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """forward with the hooks around it: pre-hooks, forward, hooks; global ones first."""
        result = None
        called: set[int] = set()
        try:
            args, kwargs = self._run_pre_hooks(args, kwargs)
            bracket = self._bracket()
            if bracket is not None:
                args = bracket.enter(args)
            result = self.forward(*args, **kwargs)
            for i, hook, with_kwargs in self._after_forward():
                called.add(i)
                new = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
                if new is not None:
                    result = new
            if bracket is not None:
                result = bracket.leave(result)
            self._hook_last_node(result)
            return result
        except Exception:
            self._run_always_called(called, args, kwargs, result)
            raise

    def _run_pre_hooks(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        own, with_kwargs = self._forward_pre_hooks, self._forward_pre_hooks_with_kwargs
        for i, hook in [*_forward_pre.items(), *own.items()]:
            if i in with_kwargs:
                new = hook(self, args, kwargs)
                if new is not None:
                    if not isinstance(new, tuple) or len(new) != 2:
                        raise RuntimeError("forward pre-hook must return None or a tuple of "
                                           f"(new_args, new_kwargs), but got {new}.")
                    args, kwargs = new
            else:
                new = hook(self, args)
                if new is not None:
                    args = new if isinstance(new, tuple) else (new,)
        return args, kwargs

    def _after_forward(self) -> list[tuple[int, Any, bool]]:
        """The forward hooks: id, hook, does it want the keyword arguments."""
        return ([(i, h, i in _with_kwargs) for i, h in _forward.items()]
                + [(i, h, i in self._forward_hooks_with_kwargs)
                   for i, h in self._forward_hooks.items()])

    def _run_always_called(self, called: set[int], args: Any, kwargs: Any, result: Any) -> None:
        """After an error: the hooks that were promised a call, results unused."""
        for i, hook, with_kwargs in self._after_forward():
            where = "global module" if i in _always else "module"
            if i in called or not (i in _always or i in self._forward_hooks_always_called):
                continue
            try:
                if with_kwargs:
                    hook(self, args, kwargs, result)
                else:
                    hook(self, args, result)
            except Exception as e:
                warnings.warn(f"{where} forward hook with ``always_call=True`` raised an exception "
                              f"that was silenced as another error was raised in forward: {e}",
                              stacklevel=4)

    # Backward hooks ------------------------------------------------------------------------------

    def _backward_tables(self, full: bool) -> list[Any]:
        hooks: list[Any] = []
        if _backward_kind[0] is full:
            hooks += _backward.values()
        if self._is_full_backward_hook is full:
            hooks += self._backward_hooks.values()
        return hooks

    def _bracket(self) -> _Bracket | None:
        pre = [*_backward_pre.values(), *self._backward_pre_hooks.values()]
        hooks = self._backward_tables(full=True)
        return _Bracket(self, hooks, pre) if hooks or pre else None

    def _hook_last_node(self, result: Any) -> None:
        """Old-style backward hooks go onto the node of the first output."""
        hooks = self._backward_tables(full=False)
        if not hooks:
            return
        while not isinstance(result, Tensor):
            result = (next(v for v in result.values() if isinstance(v, Tensor))
                      if isinstance(result, dict) else result[0])
        if result.grad_fn is not None:
            for hook in hooks:
                result.grad_fn.register_hook(
                    lambda grad_in, grad_out, hook=hook: hook(self, grad_in, grad_out))


class BackwardHookFunction(Function):
    """The identity: its node marks where the gradients enter and leave a module."""

    @staticmethod
    def forward(ctx: Any, *xs: Any) -> Any:
        ctx.mark_non_differentiable(*[x for x in xs if not x.requires_grad])
        return xs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads


class _Bracket:
    """Full backward hooks of one call: keeps the gradients of the outputs until those of the inputs
    are there, and calls the hooks with both."""

    def __init__(self, module: Any, hooks: list[Any], pre_hooks: list[Any]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.inputs: list[int] | None = None      # the places of tensors among the arguments
        self.outputs: list[int] = []
        self.n_inputs = self.n_outputs = 0
        self.grad_outputs: tuple[Any, ...] | None = None

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.n_inputs = len(args)
        args, self.inputs, node = _mark(args)
        if node is not None:
            node.register_hook(self.at_inputs)
        return args

    def leave(self, result: Any) -> Any:
        if not isinstance(result, Tensor | tuple):
            warnings.warn("For backward hooks to be called, module output should be a Tensor or a "
                          f"tuple of Tensors but received {type(result)}", stacklevel=4)
            return result
        results = result if isinstance(result, tuple) else (result,)
        self.n_outputs = len(results)
        results, places, node = _mark(results)
        if node is not None:
            self.outputs = places or []
            node.register_hook(self.at_outputs)
        return results if isinstance(result, tuple) else results[0]

    def at_outputs(self, _: Any, grads: tuple[Any, ...]) -> Any:
        self.grad_outputs = _spread(grads, self.outputs, self.n_outputs)
        for hook in self.pre_hooks:
            new = hook(self.module, self.grad_outputs)
            if new is not None:
                self.grad_outputs = _same_number(new, self.n_outputs,
                                                 "Backward pre hook", "grad_output")
        grad_outputs = self.grad_outputs
        if self.inputs is None:
            self._without_inputs(grad_outputs)
        return tuple(grad_outputs[i] for i in self.outputs)

    def at_inputs(self, grads: tuple[Any, ...], _: Any) -> Any:
        if self.grad_outputs is None:     # this gradient came along a way round the outputs
            return None
        assert self.inputs is not None
        grad_inputs = _spread(grads, self.inputs, self.n_inputs)
        for hook in self.hooks:
            new = hook(self.module, grad_inputs, self.grad_outputs)
            if new is not None:
                grad_inputs = _same_number(new, self.n_inputs, "Backward hook", "grad_input")
        self.grad_outputs = None
        return tuple(grad_inputs[i] for i in self.inputs)

    def _without_inputs(self, grad_outputs: tuple[Any, ...]) -> None:
        """No input requires a gradient: the hooks are called at once, with None for each."""
        warnings.warn("Full backward hook is firing when gradients are computed with respect to "
                      "module outputs since no inputs require gradients.", stacklevel=2)
        nothing = (None,) * self.n_inputs
        for hook in self.hooks:
            new = hook(self.module, nothing, grad_outputs)
            if new is not None and not (isinstance(new, tuple) and all(g is None for g in new)):
                raise RuntimeError("Backward hook for Modules where no input requires gradient "
                                   "should always return None or None for all gradients.")
        self.grad_outputs = None


def _mark(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int] | None, Any]:
    """Send the tensors of a tuple through the identity: new tuple, their places, the node.

    Without a gradient to come, nothing is done: places and node are None.
    """
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    if not is_grad_enabled() or not any(values[i].requires_grad for i in places):
        return values, None, None
    marked = BackwardHookFunction.apply(*[values[i] for i in places])
    new = list(values)
    for i, t in zip(places, marked):
        new[i] = t
    node = next(t.grad_fn for t in marked if t.grad_fn is not None)
    return tuple(new) if type(values) is tuple else type(values)(*new), places, node


def _spread(values: tuple[Any, ...], places: list[int], n: int) -> tuple[Any, ...]:
    out: list[Any] = [None] * n
    for i, v in zip(places, values):
        out[i] = v
    return tuple(out)


def _same_number(new: Any, n: int, who: str, what: str) -> Any:
    if not isinstance(new, tuple):
        new = (new,)
    if len(new) != n:
        raise RuntimeError(f"{who} returned an invalid number of {what}, got {len(new)}, "
                           f"but expected {n}")
    return new


def has_hooks(module: Hookable) -> bool:
    """Does anything but forward run when the module is called? _hooked says that it may."""
    return any([module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks,
                module._backward_hooks, _forward_pre, _forward, _backward_pre, _backward])


# Hooks of all modules ----------------------------------------------------------------------------

def add(table: HookTable, i: int, hook: Any, prepend: bool = False) -> None:
    """Enter a hook at the end of a table, or at its beginning."""
    others = dict(table) if prepend else {}
    if prepend:
        table.clear()
    table[i] = hook
    table.update(others)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module."""
    Hookable._hooked = True
    return _forward_pre.register(hook)


def register_module_forward_hook(hook: Callable[..., Any], *, with_kwargs: bool = False,
                                 always_call: bool = False) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module."""
    Hookable._hooked = True
    flags = [t for t, on in ((_with_kwargs, with_kwargs), (_always, always_call)) if on]
    handle = RemovableHandle(_forward, extra_dict=flags)
    _forward[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    return handle


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` in the backward of every module."""
    Hookable._hooked = True
    return _backward_pre.register(hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` in the backward of every module."""
    return _register_global_backward(hook, full=True)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The old form of register_module_full_backward_hook."""
    return _register_global_backward(hook, full=False)


def _register_global_backward(hook: Any, full: bool) -> RemovableHandle:
    if _backward_kind[0] is (not full):
        raise RuntimeError(_MIXED_GLOBAL)
    Hookable._hooked = True
    _backward_kind[0] = full
    return _backward.register(hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, name, parameter)`` at each registration; it may return another one."""
    return parameter_registration.register(hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` at each registration; it may return another one."""
    return buffer_registration.register(hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` at each registration; it may return another one."""
    return module_registration.register(hook)
