"""state_dict and load_state_dict: what a module remembers, and how it takes it back."""
from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gpugrad._hooks import RemovableHandle
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.nn.modules.hooks import NO_HOOKS
from gpugrad.nn.parameter import Parameter, is_lazy

EXTRA_STATE = "_extra_state"


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class _IncompatibleKeys(_Keys):
    """What load_state_dict returns: the keys that found no partner."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()


class Stateful:
    """The part of a module that saves and loads its state."""

    # Classes raise it when the names or meaning of what they save change; saved as metadata.
    _version: int = 1

    _state_dict_pre_hooks: dict[int, Any] = NO_HOOKS
    _state_dict_hooks: dict[int, Any] = NO_HOOKS
    _public_state_dict_hooks: dict[int, Any] = NO_HOOKS
    _load_state_dict_pre_hooks: dict[int, Any] = NO_HOOKS
    _load_pre_hooks_with_module: dict[int, Any] = NO_HOOKS
    _load_state_dict_post_hooks: dict[int, Any] = NO_HOOKS

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _add_hook: Callable[..., RemovableHandle]

    # Saving --------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "",
                   keep_vars: bool = False) -> Any:
        """Parameters and persistent buffers by name, detached unless ``keep_vars``; not copied."""
        if args:
            warnings.warn("Positional args are being deprecated, use kwargs instead. Refer to "
                          "https://pytorch.org/docs/main/generated/torch.nn.Module.html"
                          "#torch.nn.Module.state_dict for details.", FutureWarning, stacklevel=2)
            given = dict(zip(("destination", "prefix", "keep_vars"), args))
            destination = given.get("destination", destination)
            prefix, keep_vars = given.get("prefix", prefix), given.get("keep_vars", keep_vars)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.",
                                  keep_vars=keep_vars)
        for i, hook in self._state_dict_hooks.items():
            new = hook(self, destination, prefix, local_metadata)
            if new is not None:
                if i in self._public_state_dict_hooks:
                    raise RuntimeError("state_dict post-hook must return None")
                destination = new
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put this module's own state, without its children's, into ``destination``."""
        for name, t in self._own_state():
            destination[prefix + name] = t if keep_vars else t.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        for name, p in self._parameters.items():
            if p is not None:
                yield name, p
        for name, b in self._buffers.items():
            if b is not None and name not in self._non_persistent_buffers_set:
                yield name, b

    def get_extra_state(self) -> Any:
        """What else to save in ``state_dict``: anything that can be pickled. For subclasses."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be "
                           "called: define it in the subclass together with set_extra_state().")

    def set_extra_state(self, state: Any) -> None:
        """Take back what ``get_extra_state`` gave. For subclasses."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be "
                           "called: define it in the subclass together with get_extra_state().")

    # Loading -------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> _IncompatibleKeys:
        """Copy parameters and buffers from ``state_dict`` into this module and its children.

        With ``strict``, keys must match exactly. With ``assign`` the tensors themselves are taken,
        with their dtype and device. Raises RuntimeError with every mismatch found.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        metadata = getattr(state_dict, "_metadata", None) or {}
        state = OrderedDict(state_dict)
        if hasattr(state_dict, "_metadata"):
            state._metadata = metadata      # type: ignore[attr-defined]

        def load(module: Any, local: Any, prefix: str) -> None:
            local_metadata = metadata.get(prefix[:-1], {})
            if assign:
                local_metadata = {**local_metadata, "assign_to_params_buffers": True}
            module._load_from_state_dict(local, prefix, local_metadata, True, missing, unexpected,
                                         errors)
            for name, child in module._modules.items():
                if child is not None:
                    start = f"{prefix}{name}."
                    load(child, {k: v for k, v in local.items() if k.startswith(start)}, start)
            keys = _IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise AssertionError("Hooks registered with "
                                         "``register_load_state_dict_post_hook`` are not expected "
                                         "to return new values, if incompatible_keys need to be "
                                         "modified, it should be done inplace.")

        load(self, state, "")
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            raise RuntimeError("Error(s) in loading state_dict for {}:\n\t{}".format(
                type(self).__name__, "\n\t".join(errors)))
        return _IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str],
                              error_msgs: list[str]) -> None:
        """Load this module's own state, without its children's, and report what didn't fit."""
        for i, hook in self._load_state_dict_pre_hooks.items():
            module = (self,) if i in self._load_pre_hooks_with_module else ()
            hook(*module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                 error_msgs)
        own = dict(self._own_state())
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, t in own.items():
            key = prefix + name
            if key in state_dict:
                error = self._load_tensor(name, key, t, state_dict[key], assign)
                if error:
                    error_msgs.append(error)
            elif strict:
                missing_keys.append(key)

        extra = prefix + EXTRA_STATE
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)

        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    name, dot, _ = key[len(prefix):].partition(".")
                    if name not in (self._modules if dot else own):
                        unexpected_keys.append(key)

    def _load_tensor(self, name: str, key: str, mine: Any, new: Any, assign: bool) -> str | None:
        """Take over one tensor; the text of what is wrong with it, if anything."""
        if not isinstance(new, Tensor):
            return (f'While copying the parameter named "{key}", expected torch.Tensor or '
                    f"Tensor-like object from checkpoint but received {type(new)}")
        if is_lazy(mine):
            if assign:
                setattr(self, name, new)
            return None
        if mine.ndim == 0 and new.ndim == 1 and len(new) == 1:
            new = new[0]              # what PyTorch 0.3 saved in place of numbers
        if mine.is_meta and not new.is_meta and not assign:
            warnings.warn(f"for {key}: copying from a non-meta parameter in the checkpoint to a "
                          "meta parameter in the current model, which is a no-op. (Did you mean to "
                          "pass `assign=True` to assign items in the state dictionary to their "
                          "corresponding key in the module instead of copying them in place?)",
                          stacklevel=2)
        if new.shape != mine.shape:
            return (f"size mismatch for {key}: copying a param with shape {new.shape} from "
                    f"checkpoint, the shape in current model is {mine.shape}.")
        try:
            with no_grad():
                if not assign:
                    mine.copy_(new)
                elif not isinstance(mine, Parameter):
                    setattr(self, name, new)
                elif isinstance(new, Parameter):
                    setattr(self, name, new.requires_grad_(mine.requires_grad))
                else:
                    setattr(self, name, Parameter(new, requires_grad=mine.requires_grad))
        except Exception as e:
            return (f'While copying the parameter named "{key}", whose dimensions in the model are '
                    f"{mine.size()} and whose dimensions in the checkpoint are {new.size()}, "
                    f"an exception occurred : {e.args}.")
        return None

    # Hooks ---------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before state_dict collects."""
        return self._add_hook("_state_dict_pre_hooks", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after; it may change the dict.
        """
        return self._add_hook("_state_dict_hooks", hook, _public_state_dict_hooks=True)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As the post-hook, but what it returns takes the dict's place."""
        return self._add_hook("_state_dict_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` before a module loads."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., None],
                                           with_module: bool = False) -> RemovableHandle:
        return self._add_hook("_load_state_dict_pre_hooks", hook,
                              _load_pre_hooks_with_module=with_module)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after a module loaded; it may change them."""
        return self._add_hook("_load_state_dict_post_hooks", hook)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{k}"' for k in keys)
