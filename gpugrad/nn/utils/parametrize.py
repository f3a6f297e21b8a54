"""Parametrizations: a parameter that is computed from others whenever it is read.

A module with parametrizations is of a class of its own, ``Parametrized<Name>``, in which the tensor
is a property; ``module.parametrizations.<tensor>`` holds what is trained instead.
"""
from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.nn.modules.container import ModuleDict, ModuleList
from gpugrad.nn.modules.module import Module
from gpugrad.nn.parameter import Parameter

_cached_depth = [0]
_cache: dict[tuple[int, str], Any] = {}


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inside, every parametrized tensor is computed once, at its first use, and kept."""
    _cached_depth[0] += 1
    try:
        yield
    finally:
        _cached_depth[0] -= 1
        if not _cached_depth[0]:
            _cache.clear()


def _register(module: Module, name: str, t: Any) -> None:
    if isinstance(t, Parameter):
        module.register_parameter(name, t)
    else:
        module.register_buffer(name, t)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in their order, and as ``original``, or ``original0``,
    ``original1`` and so on, what they compute it from.
    """

    original: Any
    unsafe: bool

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        new = self._inverted(original)
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            self._take_one(original, new)
        else:
            self._take_several(original, new)
        if not unsafe:
            _check(self(), shape, dtype)

    def _inverted(self, value: Any) -> Any:
        """What the tensors to train must be for the tensor to be ``value``, or nearly."""
        with no_grad():
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    with contextlib.suppress(NotImplementedError):
                        value = module.right_inverse(value)
        if not isinstance(value, Tensor | Sequence):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, "
                             f"tuple...). Got {type(value).__name__}")
        return value

    def _take_one(self, original: Tensor, new: Tensor) -> None:
        for what in ("dtype", "device"):
            if getattr(original, what) != getattr(new, what):
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the "
                                 f"{what}.\noriginal.{what}: {getattr(original, what)}\n"
                                 f"right_inverse(original).{what}: {getattr(new, what)}")
        if new is not original:
            original.data = new.data          # the same object: an optimizer may hold it
        _register(self, "original", original)

    def _take_several(self, original: Tensor, new: Sequence[Any]) -> None:
        for i, t in enumerate(new):
            if not isinstance(t, Tensor):
                raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors "
                                 f"(list, tuple...). Got element {i} of the sequence with type "
                                 f"{type(t).__name__}.")
            if isinstance(original, Parameter):
                t = Parameter(t, original.requires_grad)
            t.requires_grad_(original.requires_grad)
            _register(self, f"original{i}", t)

    def right_inverse(self, value: Tensor) -> None:
        """Set the tensors to train so that the parametrized tensor is ``value``."""
        with no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not "
                                       "implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, Tensor):
                    raise ValueError("`right_inverse` should return a tensor. Got "
                                     f"{type(value).__name__}")
                if value.dtype != self.original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype "
                                     f"{value.dtype} while `original` has dtype "
                                     f"{self.original.dtype}")
                self.original.data = value.data
            else:
                self._set_several(value)

    def _set_several(self, value: Any) -> None:
        if not isinstance(value, Sequence):
            raise ValueError("'right_inverse' must return a sequence of tensors. Got "
                             f"{type(value).__name__}.")
        if len(value) != self.ntensors:
            raise ValueError("'right_inverse' must return a sequence of tensors of length "
                             f"{self.ntensors}. Got a sequence of length {len(value)}.")
        for i, t in enumerate(value):
            mine = getattr(self, f"original{i}")
            if not isinstance(t, Tensor):
                raise ValueError("`right_inverse` must return a sequence of tensors. Got element "
                                 f"{i} of type {type(t).__name__}")
            if t.dtype != mine.dtype:
                raise ValueError(f"Tensor {i} returned by `right_inverse` has dtype {t.dtype} "
                                 f"while `original{i}` has dtype {mine.dtype}")
            mine.data = t.data

    def forward(self) -> Any:
        """The parametrized tensor."""
        first, *others = self
        if self.is_tensor:
            x = first(self.original)
        else:
            x = first(*[getattr(self, f"original{i}") for i in range(self.ntensors)])
        for module in others:
            x = module(x)
        return x


def _check(new: Any, shape: Any, dtype: Any) -> None:
    """Is what a parametrization gave of the kind that the tensor was?"""
    if not isinstance(new, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(new).__name__}.")
    for what, then, now in (("dtype", dtype, new.dtype), ("shape", shape, new.shape)):
        if then != now:
            raise ValueError(f"Registering a parametrization may not change the {what} of the "
                             "tensor, unless `unsafe` flag is enabled.\n"
                             f"unparametrized {what}: {then}\nparametrized {what}: {now}")


def _check_one_more(module: Module, name: str, parametrization: Module) -> None:
    """Does one more parametrization keep the tensor's kind, and its right_inverse, too?"""
    Y = getattr(module, name)
    X = parametrization(Y)
    if not isinstance(X, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(X).__name__}.")
    for what in ("dtype", "shape"):
        if getattr(X, what) != getattr(Y, what):
            raise ValueError(f"Registering a parametrization may not change the {what} of the "
                             "tensor, unless the `unsafe` flag is enabled.\n"
                             f"module.{name}.{what}: {getattr(Y, what)}\n"
                             f"parametrization(module.{name}).{what}: {getattr(X, what)}")
    if not hasattr(parametrization, "right_inverse"):
        return
    try:
        Z = parametrization.right_inverse(X)
    except NotImplementedError:
        return
    if not isinstance(Z, Tensor):
        raise ValueError("parametrization.right_inverse must return a tensor. Got: "
                         f"{type(Z).__name__}")
    for what in ("dtype", "shape"):
        if getattr(Z, what) != getattr(Y, what):
            raise ValueError("The tensor returned by parametrization.right_inverse must have the "
                             f"same {what} as module.{name}, unless the `unsafe` flag is enabled.\n"
                             f"module.{name}.{what}: {getattr(Y, what)}\n"
                             f"returned {what}: {getattr(Z, what)}")


# The class of a module with parametrizations -----------------------------------------------------

def _no_pickle(self: Any) -> Any:
    raise RuntimeError("Serialization of parametrized modules is only supported through "
                       "state_dict(): save module.state_dict(), and load it into a module that was "
                       "built and parametrized in the same way")


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    if id(self) not in memo:
        memo[id(self)] = replica = object.__new__(type(self))
        replica.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return memo[id(self)]


def _give_own_class(module: Module) -> None:
    cls = type(module)
    body: dict[str, Any] = {"__getstate__": _no_pickle, "__module__": __name__}
    if not hasattr(cls, "__deepcopy__"):
        body["__deepcopy__"] = _deepcopy        # the default would ask __getstate__
    module.__class__ = type("Parametrized" + cls.__name__, (cls,), body)


def _give_property(module: Module, name: str) -> None:
    def get(self: Any) -> Any:
        if not _cached_depth[0]:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def put(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


# What scripts call -------------------------------------------------------------------------------

def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *,
                             unsafe: bool = False) -> Module:
    """From now on ``module.<tensor_name>`` is ``parametrization(original)``, or, if it has
    parametrizations already, one more is applied to what they give.

    If it has a method ``right_inverse``, the tensor can be assigned to. unsafe: don't check that
    dtype and shape stay.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_one_more(module, tensor_name, parametrization)
        those: Any = module.parametrizations[tensor_name]
        those.append(parametrization)
        those.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        original = getattr(module, tensor_name)
        those = ParametrizationList([parametrization], original, unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _give_own_class(module)
            module.parametrizations = ModuleDict()
        _give_property(module, tensor_name)
        module.parametrizations[tensor_name] = those
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a "
                         f"parametrized element with name '{tensor_name}'")
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Has a module parametrizations; of this tensor?"""
    those = getattr(module, "parametrizations", None)
    if not isinstance(those, ModuleDict):
        return False
    return len(those) > 0 if tensor_name is None else tensor_name in those


def remove_parametrizations(module: Module, tensor_name: str,
                            leave_parametrized: bool = True) -> Module:
    """Make the tensor a parameter or a buffer again: of the value that it has now, or, with
    leave_parametrized=False, what it was computed from.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    those: Any = module.parametrizations[tensor_name]
    if those.is_tensor:
        original = those.original
        if leave_parametrized:
            with no_grad():
                original.data = getattr(module, tensor_name).data
    elif leave_parametrized:
        t = getattr(module, tensor_name)
        original = Parameter(t.detach()) if t.requires_grad else t
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that "
                         "is parametrized in terms of a sequence of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had without its parametrizations."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module,
                                         tensor_name: str | None = None) -> Module:
    """Give ``to_module`` the parametrizations of ``from_module``, or those of one tensor, and what
    they are computed from; both modules share them afterwards.
    """
    if not is_parametrized(from_module):
        return to_module
    names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        theirs: Any = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for parametrization in theirs:
            register_parametrization(to_module, name, parametrization)
        mine = to_module.parametrizations[name]
        for original in ("original", *[f"original{i}" for i in range(theirs.ntensors)]):
            if hasattr(theirs, original):
                setattr(mine, original, getattr(theirs, original))
    return to_module
