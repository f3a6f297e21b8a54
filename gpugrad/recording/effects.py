"""What a step does besides calls on arrays, and a replay would not do: then it isn't recorded.

It changes numbers that it reads, draws from Python's or NumPy's own random generators, or keeps
tensors for later. (An optimizer's options are watched by the recorder.)
"""
from __future__ import annotations

import gc
import random
import re
import types
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.autograd.node import AccumulateGrad
from gpugrad.recording import guards
from gpugrad.recording.holders import referrers
from gpugrad.recording.recorder import Recorder


class Effects:
    """Taken before a call; ``found`` says afterwards what the call did.

    checks: those of guards.py on what the call is known to read.
    """

    def __init__(self, checks: list[guards.Check]) -> None:
        self.checks = checks
        self.draws = _random_states()

    def found(self, recorder: Recorder, result: list[Tensor]) -> str:
        """Why a replay would not do the same; "" if it would. result: the tensors returned."""
        if _random_states() != self.draws:
            return ("Python's or NumPy's random numbers are drawn in the step, which a replay "
                    "wouldn't do: draw them outside, or use torch.rand()")
        for check in self.checks:
            if not _holds(check):
                return f"the step itself changes {_name(check)}, which a replay wouldn't do"
        return _kept(recorder, result)


def _random_states() -> Any:
    state: Any = np.random.get_state(legacy=False)
    return (random.getstate(), state["state"]["pos"], state["state"]["key"].tobytes(),
            state["has_gauss"])


def _holds(check: guards.Check) -> bool:
    text, *constants = check
    names = [f"c{i}" for i in range(len(constants))]
    try:
        return bool(eval(text.format(*names), {}, dict(zip(names, constants))))
    except guards.GONE:
        return False


def _name(check: guards.Check) -> str:
    """What a check is about, as a reader of the program would call it."""
    words = re.findall(r"'(\w+)'|\.([\w.]+)", check[0])
    found = [a or b for a, b in words]
    return found[0] if found and found[0] != "cell_contents" else "a name of an outer function"


def _is_held(t: Tensor, found: list[Tensor], result: list[Tensor]) -> bool:
    """By more than the graph of a result, whose edges hold leaves, a leaf whose gradient it is, and
    a result that is a view of it.

    found: those that are looked at, in a list that doesn't count.
    """
    ours = {id(x) for x in found} | {id(x._view) for x in result}
    return any([h is not found and id(h) not in ours and not isinstance(h, types.FrameType)
                and not (type(h) is tuple and h and type(h[0]) is AccumulateGrad)
                for h in referrers(t)])


def _kept(recorder: Recorder, result: list[Tensor]) -> str:
    """Tensors that the call has made, and that somebody still has."""
    made = {id(v.a) for v in recorder.values if v.call is not None}
    known = {id(t) for t in result} | {id(g) for _, g in recorder.grads.values()}
    found = [t for t in recorder.young if id(t._a) in made and id(t) not in known]
    recorder.young = []
    if found:
        gc.collect()                             # those that are only waiting for it don't count
    for t in found:
        if _is_held(t, found, result):
            return (f"the step keeps a tensor of shape {list(t.shape)} that it has made, in an "
                    "attribute, a list or a name from outside, which a replay wouldn't do: return "
                    "it")
    return ""
