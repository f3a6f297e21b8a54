"""What a thread carries: whether a graph is recorded, inference mode, the device of new tensors."""
from __future__ import annotations

import threading
from typing import Any


class _State(threading.local):
    grad: bool
    inference: bool
    recording: bool         # grad and not inference: whether ops make nodes
    device: Any = None      # the device of tensors made without one; None means cpu
    devices_before: Any = None              # those that ``with device`` blocks restore, as pairs
    saving: Any = None      # (pack hook, unpack hook) of saved tensors: see autograd/saved.py
    saving_disabled: str | None = None      # the error for who sets such hooks
    autocast: Any = None    # its switches: see amp/autocast_mode.py
    casting: Any = None     # autocast's conversions: see autograd/casting.py
    sweep: Any = None       # the backward under way: see autograd/engine.py

    def __init__(self) -> None:             # in each thread, at its first look
        self.grad, self.inference, self.recording = True, False, True


state = _State()

# How many threads have recording off, or inference mode, autocast or hooks on saved tensors on;
# anomaly detection counts as one more. While it is 0 no op reads its thread's own flags, which
# would cost 70 ns a call.
off = [0]

# Whether gradients may be complex: see autograd/conjugate.py.
complex_gradients = [False]

# What anomaly detection does with new nodes, None while it is off: see autograd/anomaly_mode.py.
anomaly: list[Any] = [None]

# Who is told of arrays that entries convert or write to outside of ops: see onnx/trace.py.
listening: list[Any] = [None]
_lock = threading.Lock()


def count_off(by: int) -> None:
    """One thread more, or less, whose flags must be read."""
    with _lock:
        off[0] += by


def switch(grad: bool, inference: bool) -> tuple[bool, bool]:
    """Set this thread's flags; returns what they were."""
    own = state.__dict__                    # reading state.grad takes twice as long
    before = own["grad"], own["inference"]
    is_off = not grad or inference
    if is_off is own["recording"]:
        count_off(1 if is_off else -1)
    own["grad"], own["inference"], own["recording"] = grad, inference, not is_off
    return before


def in_backward(fn: Any, *args: Any) -> Any:
    """fn(*args), something that a user wrote, recorded only if the backward under way is."""
    own = state.__dict__
    was = switch(own["sweep"].graph if own.get("sweep") else own["grad"], own["inference"])
    try:
        return fn(*args)
    finally:
        switch(*was)
