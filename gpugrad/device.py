"""torch.device: what kind of device a tensor is on, and which one of that kind."""
from __future__ import annotations

from typing import Any

from gpugrad._state import state

_KINDS = ("cpu", "cuda", "meta")
_KNOWN = ("cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, "
          "vulkan, mps, meta, hpu, mtia, privateuseone")


class device:
    """A device: ``device("cuda:1")``, ``device("cuda", 1)``, ``device(1)`` or ``device("cpu")``.

    As a context manager it is the device of tensors that are made without one.
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __new__(cls, type: Any, index: int | None = None) -> device:
        self = object.__new__(cls)
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
        elif isinstance(type, int) and not isinstance(type, bool):
            if type < 0:
                raise RuntimeError(f"Device index must not be negative, got {type}")
            self.type, self.index = "cuda", type
        elif isinstance(type, str):
            self.type, self.index = _parse(type, index)
        else:
            raise TypeError(f"device(): argument 'type' must be str, int or torch.device, "
                            f"not {type.__class__.__name__}")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type, self.index)

    def __enter__(self) -> device:
        # One object may be entered twice, and by several threads: each thread keeps its own list.
        state.devices_before = (state.device, state.devices_before)
        state.device = self
        return self

    def __exit__(self, *exc: object) -> None:
        state.device, state.devices_before = state.devices_before


def _parse(text: str, index: int | None) -> tuple[str, int | None]:
    kind, colon, number = text.partition(":")
    if colon:
        if index is not None:
            raise RuntimeError(f"type (string) must not include an index because index was passed "
                               f"explicitly: {text}")
        if not number.isdigit() or (len(number) > 1 and number[0] == "0"):
            raise RuntimeError(f"Invalid device string: '{text}'")
        index = int(number)
    if kind not in _KINDS:
        if kind in _KNOWN.split(", "):
            raise NotImplementedError(f"device type '{kind}' is not supported: gpugrad runs on "
                                      f"'cpu' and on 'cuda'")
        raise RuntimeError(f"Expected one of {_KNOWN} device type at start of device string: "
                           f"{text}")
    if index is not None and index < 0:
        raise RuntimeError(f"Device index must not be negative, got {index}")
    return kind, index


def set_default_device(d: Any) -> None:
    """Make ``d`` this thread's device of tensors that are made without one; None means cpu."""
    state.device = None if d is None else device(d)


def get_default_device() -> device:
    """The device of tensors that are made without one."""
    return device("cpu") if state.device is None else state.device
