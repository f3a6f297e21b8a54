"""Finding the operation behind a NaN or an error in backward: detect_anomaly, set_detect_anomaly.

While it is on, in all threads, each new node of the graph keeps the lines of the program that made
it, as ``metadata["traceback_"]``, and the node that was running, if it was made in a backward, as
``metadata["parent_"]``. The switch counts in ``_state.off``: while it is off, no operation and no
backward looks.
"""
from __future__ import annotations

import os
import traceback
import warnings
from typing import Any

from gpugrad import _state
from gpugrad._state import count_off, state, switch
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import conjugate

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Whose lines say where in a model an operation stands; those of the rest of gpugrad are left out.
_SHOWN = tuple(_HERE + part for part in ("nn", "optim", "utils"))
_check_nan = [True]


def is_anomaly_enabled() -> bool:
    """Is anomaly detection on?"""
    return _state.anomaly[0] is not None


def is_anomaly_check_nan_enabled() -> bool:
    """Does it look for NaN, too?"""
    return _check_nan[0]


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Switch anomaly detection, for all threads."""
    if enabled != is_anomaly_enabled():
        count_off(1 if enabled else -1)
        _state.anomaly[0] = Watch if enabled else None
    _check_nan[0] = check_nan


class detect_anomaly:
    """Anomaly detection inside the ``with`` block: the warning beside an error in backward shows
    where the forward operation was called, and a gradient that is NaN raises an error.

    check_nan: look for NaN. All of it takes time: for debugging only.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.prev, self.prev_check_nan = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        self.check_nan = check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and "
                      "should only be enabled for debugging.", stacklevel=2)

    def __enter__(self) -> None:
        set_anomaly_enabled(True, self.check_nan)

    def __exit__(self, *exc: object) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)


class set_detect_anomaly:
    """Switch anomaly detection on or off: at once, and until the end of a ``with`` block, if it is
    used as one."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.prev, self.prev_check_nan = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)


class Watch:
    """What is done with nodes while anomaly detection is on; ``_state.anomaly`` holds it."""

    @staticmethod
    def made(node: Any) -> None:
        """Note where a node was made, and in the run of which other one."""
        frames = [frame for frame in traceback.extract_stack()
                  if not frame.filename.startswith(_HERE) or frame.filename.startswith(_SHOWN)]
        node.metadata["traceback_"] = traceback.format_list(frames)
        parent = None if state.sweep is None else state.sweep.node
        if parent is not None:
            node.metadata["parent_"] = parent

    @staticmethod
    def popping(pop: Any) -> Any:
        """``pop`` of a sweep's pending nodes, which also notes which one is running."""
        def popped(key: int) -> Any:
            slot = pop(key)
            state.sweep.node = slot[0]
            return slot
        return popped

    @staticmethod
    def run(node: Any, o: Any, g: Any, edges: Any) -> Any:
        """node.run(o, g, edges), with a look at its results."""
        out = conjugate.run(node, o, g, edges)
        if node.hooks is None or not node.hooks.post:   # else when they have run
            Watch.check(node, out, edges)
        return out

    @staticmethod
    def check(node: Any, out: Any, edges: Any) -> None:
        """Raise if a gradient is NaN."""
        if not _check_nan[0]:
            return
        was = switch(False, state.inference)
        try:
            for i, (e, r) in enumerate(zip(edges, out)):
                if e is None or r is None:
                    continue
                t: Any = r if isinstance(r, Tensor) else wrap(r, e[0].be)
                if not t.is_meta and t.isnan().any().item():
                    raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th "
                                       "output.")
        finally:
            switch(*was)

    @staticmethod
    def failed() -> None:
        """Warn of the node that was running when an error came: where it was made, and where the
        nodes were in whose runs it was."""
        node = state.sweep.node
        if node is None:
            return
        lines = node.metadata.get("traceback_")
        if lines is None:
            _warn(f"Error detected in {node.name()}. No forward pass information available. Enable "
                  "detect anomaly during forward pass for more information.")
        else:
            _warn(f"Error detected in {node.name()}. Traceback of forward call that caused the "
                  "error:\n" + "".join(lines))
        while (node := node.metadata.get("parent_")) is not None:
            lines = node.metadata.get("traceback_")
            if lines is None:
                _warn(f"Error detected in {node.name()}. No forward pass information available. "
                      "Enable detect anomaly during forward pass for more information.")
            else:
                _warn(f"\n\nPrevious calculation was induced by {node.name()}. Traceback of "
                      "forward call that induced the previous calculation:\n" + "".join(lines))


def _warn(text: str) -> None:
    """A warning at the line that called backward."""
    level, frames = 1, traceback.extract_stack()[:-1]
    for frame in reversed(frames):
        level += 1
        if not frame.filename.startswith(_HERE):
            break
    warnings.warn(text, stacklevel=level)
