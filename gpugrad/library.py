"""torch.library: operations of a program's own, called by name; they run as their Python functions.

``custom_op`` and ``Library`` work on the device of the arguments, with gradients by
``register_autograd``. What is for compilers alone (fake implementations, vmap rules, tags) is
remembered or ignored, as the docstrings say.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from gpugrad import ops
from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd.function import Function

_DISPATCH = {"CPU": "cpu", "CUDA": "cuda"}          # the others are for all devices
_EVERYWHERE = ("", "CompositeExplicitAutograd", "CompositeImplicitAutograd", "Autograd")
_defined: dict[str, CustomOpDef] = {}


class Namespace:
    """The operations under ``torch.ops.<name>``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _defined.get(f"{self._name}::{name}")
        if found is None:
            raise AttributeError(f"'_OpNamespace' '{self._name}' object has no attribute '{name}'")
        return found


class CustomOpDef:
    """One operation: its kernels by device, and its gradient."""

    def __init__(self, qualname: str, mutates: Any = ()) -> None:
        self._qualname = qualname
        self._namespace, _, self._name = qualname.partition("::")
        self.__name__ = self._name
        self._kernels: dict[str | None, Callable[..., Any]] = {}
        self._fake: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self._mutates = mutates
        self._enabled = True
        _defined[qualname] = self
        if not hasattr(ops, self._namespace):
            setattr(ops, self._namespace, Namespace(self._namespace))

    @property
    def default(self) -> CustomOpDef:
        """The one overload that there is."""
        return self

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._backward is None:
            return self._run(args, kwargs)
        args = _positional(self._any_kernel(), args, kwargs)
        if state.recording and any([isinstance(x, Tensor) and x.requires_grad for x in args]):
            return _Recorded.apply(self, *args)
        return self._run(args, {})

    def _any_kernel(self) -> Callable[..., Any]:
        if not self._kernels:
            raise NotImplementedError(f"{self._qualname}: there is no implementation; register one "
                                      "by torch.library.impl or register_kernel")
        return next(iter(self._kernels.values()))

    def _run(self, args: Any, kwargs: Any) -> Any:
        self._any_kernel()
        found = next((t.device.type for t in _tensors_in([*args, *kwargs.values()])), "cpu")
        kernel = self._kernels.get(found) or self._kernels.get(None)
        if kernel is None:
            raise NotImplementedError(
                f"Could not run '{self._qualname}' with arguments from the '{found}' backend: "
                f"there are implementations for {sorted(k or '' for k in self._kernels)} only")
        return kernel(*args, **kwargs)

    def register_kernel(self, device_types: Any, fn: Any = None, /) -> Any:
        """The implementation for a kind of device, several, or None for all; also a decorator."""
        def register(f: Callable[..., Any]) -> Callable[..., Any]:
            for d in _device_types(device_types):
                self._kernels[d] = f
            return f
        return register if fn is None else register(fn)

    def register_fake(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Remember the implementation for tensors without memory; nothing calls it."""
        self._fake = fn
        return fn

    def register_autograd(self, backward: Callable[..., Any], /, *,
                          setup_context: Callable[..., Any] | None = None) -> None:
        """The gradient: ``backward(ctx, *grads)``, with what
        ``setup_context(ctx, inputs, output)`` kept in ctx."""
        self._backward, self._setup = backward, setup_context

    def register_vmap(self, func: Any = None) -> Any:
        """Nothing to do: vmap is a loop."""
        return (lambda f: f) if func is None else func

    def register_torch_dispatch(self, cls: Any, fn: Any = None, /) -> Any:
        raise NotImplementedError("register_torch_dispatch is not supported: there is no dispatch "
                                  "to other types")

    def set_kernel_enabled(self, device_type: str, enabled: bool = True) -> Any:
        raise NotImplementedError("set_kernel_enabled is not supported: register another kernel")


class _Recorded(Function):
    """A call of an operation that has a gradient."""

    @staticmethod
    def forward(ctx: Any, op: CustomOpDef, *args: Any) -> Any:
        out = op._run(args, {})
        ctx.op, ctx.n = op, len(args)
        if op._setup is not None:
            op._setup(ctx=ctx, inputs=args, output=out)
        return tuple(out) if isinstance(out, list) else out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        out = ctx.op._backward(ctx, *grads)
        return (None, *out) if isinstance(out, tuple | list) else (None, out)


def _tensors_in(args: Iterable[Any]) -> Iterable[Tensor]:
    for x in args:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors_in(x)


def _positional(fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, ...]:
    """All arguments by position, with the defaults of fn."""
    bound = inspect.signature(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    return (*bound.args, *bound.kwargs.values())


def _device_types(given: Any) -> list[str | None]:
    if given is None or given == "default":
        return [None]
    out: list[str | None] = []
    for d in [given] if isinstance(given, str) else given:
        if d in _EVERYWHERE:
            out.append(None)
        else:
            out.append(_DISPATCH.get(d, d))
    return out


def custom_op(name: str, fn: Any = None, /, *, mutates_args: Any, device_types: Any = None,
              schema: str | None = None, tags: Any = None) -> Any:
    """Make a function an operation ``"namespace::name"``, called as before, or as
    ``torch.ops.namespace.name``; also a decorator."""
    if "::" not in name:
        raise ValueError(f"Expected `name` to be of the form 'namespace::name', got {name!r}")

    def make(f: Callable[..., Any]) -> CustomOpDef:
        op = CustomOpDef(name, mutates_args)
        op.__doc__ = f.__doc__
        op.register_kernel(device_types, f)
        return op
    return make if fn is None else make(fn)


triton_op = custom_op


def _op(given: Any) -> CustomOpDef:
    if isinstance(given, CustomOpDef):
        return given
    if given not in _defined:
        raise RuntimeError(f"operator {given} does not exist: define it by torch.library.custom_op "
                           "or torch.library.define")
    return _defined[given]


def register_fake(op: Any, func: Any = None, /, *, lib: Any = None, _stacklevel: int = 1,
                  allow_override: bool = True) -> Any:
    """Remember the implementation for tensors without memory; also a decorator."""
    return (lambda f: _op(op).register_fake(f)) if func is None else _op(op).register_fake(func)


impl_abstract = register_fake


def register_kernel(op: Any, device_types: Any, func: Any = None, /, *, lib: Any = None) -> Any:
    """Register the implementation for some kinds of device; also a decorator."""
    return _op(op).register_kernel(device_types, func)


def register_autograd(op: Any, backward: Callable[..., Any], /, *, setup_context: Any = None,
                      lib: Any = None) -> None:
    """Register the gradient: see CustomOpDef.register_autograd."""
    _op(op).register_autograd(backward, setup_context=setup_context)


def register_vmap(op: Any, func: Any = None, /, *, lib: Any = None) -> Any:
    """Nothing to do: vmap is a loop; also a decorator."""
    return _op(op).register_vmap(func)


def define(qualname: str, schema: str, *, lib: Any = None, tags: Any = ()) -> None:
    """Declare an operation, which impl implements."""
    if qualname not in _defined:
        CustomOpDef(qualname)


def impl(qualname: str, types: Any, func: Any = None, *, lib: Any = None) -> Any:
    """Implement a declared operation for some kinds of device; also a decorator."""
    return _op(qualname).register_kernel(types, func)


class Library:
    """A namespace to define and implement operations in; kind: "DEF", "IMPL" or "FRAGMENT"."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        if kind not in ("DEF", "IMPL", "FRAGMENT"):
            raise ValueError(f"Unsupported kind: {kind}")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        """Declare an operation by its schema, as in "mul(Tensor a, Tensor b) -> Tensor"."""
        name = schema.partition("(")[0].strip()
        define(f"{self.ns}::{name}", schema)
        return name

    def impl(self, op_name: Any, fn: Any, dispatch_key: str = "", *, with_keyset: bool = False,
             allow_override: bool = False) -> None:
        """Implement an operation for a dispatch key: "CPU", "CUDA" or one for all devices."""
        name = op_name._qualname if isinstance(op_name, CustomOpDef) else op_name
        key = dispatch_key or self.dispatch_key
        if key == "Meta":
            _op(name if "::" in name else f"{self.ns}::{name}").register_fake(fn)
            return
        impl(name if "::" in name else f"{self.ns}::{name}", key, fn)


def infer_schema(prototype_function: Any, /, *, mutates_args: Any,
                 op_name: str | None = None) -> str:
    raise NotImplementedError("torch.library.infer_schema is not supported: there are no schemas")


def opcheck(op: Any, args: Any, kwargs: Any = None, **options: Any) -> dict[str, str]:
    raise NotImplementedError("torch.library.opcheck is not supported: compare the operation with "
                              "its formula, and its gradient by torch.autograd.gradcheck")


def get_ctx() -> Any:
    raise NotImplementedError("torch.library.get_ctx is not supported: fake implementations are "
                              "never called")
