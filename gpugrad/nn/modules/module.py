"""Module: keeps parameters, buffers and submodules by name, moves, calls and prints them."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from gpugrad._hooks import RemovableHandle as RemovableHandle
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.creation import empty_like
from gpugrad.functions.conversion import parse_to
from gpugrad.layouts import preserve_format
from gpugrad.nn.modules import hooks
from gpugrad.nn.modules.hooks import (  # noqa: F401  PyTorch has register_* in this module
    Hookable,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from gpugrad.nn.modules.state import EXTRA_STATE as _EXTRA_STATE_KEY_SUFFIX  # noqa: F401
from gpugrad.nn.modules.state import Stateful, _IncompatibleKeys  # noqa: F401
from gpugrad.nn.modules.whereabouts import tell_where
from gpugrad.nn.parameter import Buffer, Parameter, is_lazy

if TYPE_CHECKING:
    from typing_extensions import Self

T_destination = TypeVar("T_destination", bound=dict[str, Any])

_NO_INIT = "cannot assign {} before Module.__init__() call"


class Module(Hookable, Stateful):
    """The base of all networks: assign layers and Parameters as attributes, and define ``forward``.

    ::

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)

            def forward(self, x):
                return self.fc(x).relu()
    """

    training: bool
    call_super_init: bool = False      # True: of several bases, all are initialised
    dump_patches: bool = False
    T_destination = T_destination

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            if kwargs:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword "
                                f"argument '{next(iter(kwargs))}'")
            if args:
                raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but "
                                f"{len(args) + 1} were given")
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _modules={},
                             _non_persistent_buffers_set=set())
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input: Any) -> Any:
        """What a call computes. Every subclass defines it."""
        raise NotImplementedError(f"Module [{type(self).__name__}] is missing the required "
                                  '"forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooked:
                return self._call_hooked(args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            tell_where(error, self, args)
            raise

    _call_impl = _wrapped_call_impl = __call__

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: there is no compiler; the module runs as it is."""

    # Attributes ----------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Python comes here when there is no ordinary attribute of that name. Every layer that a
        # network calls and every weight is read this way, so it is written out rather than looped.
        members = self.__dict__
        try:
            if name in members["_parameters"]:
                return members["_parameters"][name]
            if name in members["_modules"]:
                return members["_modules"][name]
            if name in members["_buffers"]:
                return members["_buffers"][name]
        except KeyError:
            pass                       # before Module.__init__()
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        members = self.__dict__
        if isinstance(value, Parameter):
            self._make_room(name, "parameters", "_buffers", "_modules")
            self.register_parameter(name, value)
        elif name in members.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as parameter '{name}' "
                                "(torch.nn.Parameter or None expected)")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            self._make_room(name, "module", "_parameters", "_buffers")
            members["_modules"][name] = _seen(hooks.module_registration, self, name, value)
        elif name in members.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as child module '{name}' "
                                "(torch.nn.Module or None expected)")
            members["_modules"][name] = _seen(hooks.module_registration, self, name, value)
        elif isinstance(value, Buffer):
            self.register_buffer(name, value, value.persistent)
        elif name in members.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{typename(value)}' as buffer '{name}' "
                                "(torch.nn.Buffer, torch.Tensor or None expected)")
            self.register_buffer(name, value, name not in self._non_persistent_buffers_set)
        else:
            object.__setattr__(self, name, value)

    def _make_room(self, name: str, what: str, *kinds: str) -> None:
        """The new member ``name`` takes the place of an attribute or a member of another kind."""
        members = self.__dict__
        if "_parameters" not in members:
            raise AttributeError(_NO_INIT.format(what))
        members.pop(name, None)
        for kind in kinds:
            members[kind].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name: str) -> None:
        for kind in (self._parameters, self._buffers, self._modules):
            if name in kind:
                del kind[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules,
                 *self._buffers]
        return sorted(n for n in names if not n[0].isdigit())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("_non_persistent_buffers_set", set())

    # Registration --------------------------------------------------------------------------------

    def _check_name(self, what: str, name: Any, kind: str) -> None:
        if kind not in self.__dict__:
            raise AttributeError(_NO_INIT.format(what))
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if "." in name:
            got = f", got: {name}" if what == "module" else ""
            raise KeyError(f'{what} name can\'t contain "."{got}')
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        if name not in self.__dict__[kind] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or the place for one that is None."""
        self._check_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{typename(param)}' object to parameter '{name}' "
                                "(torch.nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model "
                                 f"parameters must be created explicitly. To express '{name}' as a "
                                 "function of another Tensor, compute the value in the forward() "
                                 "method.")
            param = _seen(hooks.parameter_registration, self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves with the module but isn't trained; saved if ``persistent``."""
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{typename(tensor)}' object to buffer '{name}' "
                            "(torch Tensor or None required)")
        self._buffers[name] = _seen(hooks.buffer_registration, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, or the place for one that is None."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = _seen(hooks.module_registration, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Another name of ``add_module``."""
        self.add_module(name, module)

    # Looking up ----------------------------------------------------------------------------------

    def get_submodule(self, target: str) -> Module:
        """The submodule at a dotted path such as ``"layer1.0.conv"``; "" is the module itself."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module at a dotted path; with ``strict`` there must be one already."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if hasattr(parent, name):
            if not isinstance(getattr(parent, name), Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        elif strict:
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        param = self._get_member(target)
        if not isinstance(param, Parameter):
            raise AttributeError(f"`{target.rpartition('.')[2]}` is not an nn.Parameter")
        return param

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        buffer = self._get_member(target)
        path, _, name = target.rpartition(".")
        if name not in self.get_submodule(path)._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer

    def _get_member(self, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        return getattr(module, name)

    # Traversal -----------------------------------------------------------------------------------

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """All modules with their paths, this one ("") first, each once."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """All modules, this one first, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The immediate submodules with their names, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The immediate submodules, each once."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, members: Callable[[Any], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(path, tensor) of what ``members(module)`` lists in this module and those below it."""
        seen = set()
        modules = (self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
                   if recurse else [(prefix, self)])
        for path, module in modules:
            for name, t in members(module):
                if t is None or t in seen:
                    continue
                if remove_duplicate:
                    seen.add(t)
                yield f"{path}.{name}" if path else name, t

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths, each once."""
        return self._named_members(lambda m: m._parameters.items(), prefix, recurse,
                                   remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimizer is given."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their paths, each once."""
        return self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Call ``fn`` with every submodule, then with the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # Modes ---------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch training mode on or off: dropout and batch norm behave accordingly."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze the parameters with False, thaw them with True."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        kept = []
        for p in self.parameters():
            if p.grad is None:
                continue
            if set_to_none:
                p.grad = None
            else:
                if p.grad.grad_fn is not None:
                    p.grad.detach_()
                kept.append(p.grad.requires_grad_(False))
        if kept:
            from gpugrad.functions.gradients import zero_

            zero_(kept)

    # Devices and dtypes --------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the memory of every parameter and gradient, and every buffer, by ``fn`` of it."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        with no_grad():
            for p in self._parameters.values():
                if p is not None:
                    grad, p.grad = p.grad, None
                    p.data = fn(p.data)
                    if grad is not None:
                        grad.data = fn(grad.data)
                        p.grad = grad
            for name, b in self._buffers.items():
                if b is not None:
                    self._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """``to(device=None, dtype=None, non_blocking=False)``, ``to(dtype)`` or ``to(tensor)``.

        Moves and casts in place. The dtype, a floating or complex one, is for the tensors that are
        floating or complex themselves.
        """
        be, dtype, non_blocking, _, memory_format = parse_to(*args, **kwargs)
        device = None if be is None else be.device
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError("nn.Module.to only accepts floating point or complex dtypes, but got "
                            f"desired dtype={dtype}")

        def convert(t: Tensor) -> Tensor:
            cast = dtype if t.is_floating_point() or t.is_complex() else None
            order = memory_format if t.ndim in (4, 5) else preserve_format
            try:
                return t.to(device, cast, non_blocking, memory_format=order)
            except NotImplementedError as e:
                if str(e) != "Cannot copy out of meta tensor; no data!":
                    raise
                raise NotImplementedError(f"{e} Please use torch.nn.Module.to_empty() instead of "
                                          "torch.nn.Module.to() when moving module from meta to a "
                                          "different device.") from None

        return self._apply(convert)

    def cuda(self, device: Any = None) -> Self:
        """Move to a CUDA device, the current one by default."""
        return self._apply(lambda t: t.cuda(device))

    def ipu(self, device: Any = None) -> Self:
        """Not supported, as is any device but the CPU, CUDA and meta."""
        return self.to("ipu")

    def xpu(self, device: Any = None) -> Self:
        """Not supported, as is any device but the CPU, CUDA and meta."""
        return self.to("xpu")

    def mtia(self, device: Any = None) -> Self:
        """Not supported, as is any device but the CPU, CUDA and meta."""
        return self.to("mtia")

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self._apply(lambda t: t.cpu())

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers."""
        return self._apply(lambda t: t.type(dst_type))

    def _cast(self, name: str) -> Self:
        return self._apply(lambda t: getattr(t, name)() if t.is_floating_point() else t)

    def float(self) -> Self:
        """Cast floating-point parameters and buffers to float32."""
        return self._cast("float")

    def double(self) -> Self:
        """Cast floating-point parameters and buffers to float64."""
        return self._cast("double")

    def half(self) -> Self:
        """Cast floating-point parameters and buffers to float16."""
        return self._cast("half")

    def bfloat16(self) -> Self:
        """Cast floating-point parameters and buffers to bfloat16."""
        return self._cast("bfloat16")

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without copying: parameters and buffers aren't initialised there."""
        return self._apply(lambda t: t._emptied(device) if is_lazy(t) else
                           empty_like(t, device=device), recurse)

    def share_memory(self) -> Self:
        raise NotImplementedError("Module.share_memory is not supported: send the state_dict to "
                                  "the other process instead")

    # Printing ------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of the printed module. For subclasses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indent(repr(m))}" for name, m in self._modules.items()]
        return boxed(self._get_name(), lines, children)


def _addindent(s_: str, numSpaces: int) -> str:
    """All lines but the first that many spaces to the right: what model files import."""
    return s_.replace("\n", "\n" + " " * numSpaces)


def boxed(name: str, extra: list[str], children: list[str]) -> str:
    """``name(...)``: in one line if there are no children and one line of extra text at most."""
    if len(extra) <= 1 and not children:
        return f"{name}({''.join(extra)})"
    return name + "(\n  " + "\n  ".join(extra + children) + "\n)"


def indent(text: str) -> str:
    """All lines but the first two spaces to the right."""
    return text.replace("\n", "\n  ")


def _seen(table: Any, module: Module, name: str, value: Any) -> Any:
    """What the global registration hooks make of a new member."""
    for hook in table.values():
        new = hook(module, name, value)
        if new is not None:
            value = new
    return value


def typename(obj: Any) -> str:
    """The type as error messages have it: torch.FloatTensor, str, collections.OrderedDict."""
    if isinstance(obj, Tensor):
        return obj.type()
    cls = obj if isinstance(obj, type) else type(obj)
    module = "" if cls.__module__ == "builtins" else cls.__module__ + "."
    return module + cls.__qualname__
