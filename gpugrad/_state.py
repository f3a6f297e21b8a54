"""What a thread carries: whether a graph is recorded, inference mode, the device of new tensors."""
from __future__ import annotations

import threading
from typing import Any


class _State(threading.local):
    grad = True
    inference = False
    recording = True        # grad and not inference: whether ops make nodes
    device: Any = None      # the device of tensors made without one; None means cpu


state = _State()

# How many threads have recording switched off, or inference mode on. While it is 0 no op reads its
# thread's own flags, which would cost 70 ns a call.
off = [0]

# Whether gradients may be complex: see autograd/conjugate.py.
complex_gradients = [False]
_lock = threading.Lock()


def switch(grad: bool, inference: bool) -> tuple[bool, bool]:
    """Set this thread's flags; returns what they were."""
    before = state.grad, state.inference
    was_off, is_off = before != (True, False), not grad or inference
    if was_off != is_off:
        with _lock:
            off[0] += 1 if is_off else -1
    state.grad, state.inference, state.recording = grad, inference, grad and not inference
    return before
