"""Anomaly detection beside PyTorch's: errors, warnings, the lines they show, parents."""
from __future__ import annotations

import re
import warnings
from typing import Any

import pytest

import gpugrad
from gpugrad.utils.checkpoint import checkpoint as our_checkpoint

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def own_lines(text: str) -> str:
    """A warning without the frames of the libraries, and without PyTorch's last line."""
    text = re.sub(r"\n? ?\(Triggered internally at .*\)\Z", "", text)
    frame = re.compile(r'  File "([^"]*)", line \d+, in \S+\n(?:    .*\n?)*')
    return frame.sub(lambda m: m[0] if m[1] == __file__ else "", text).rstrip()


def outcome(t: Any, case: Any) -> Any:
    """What a case returned or raised, and what it warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        try:
            result = case(t)
        except Exception as e:
            result = type(e), str(e)
    return result, [own_lines(str(w.message)) for w in seen if w.category is UserWarning]


def root_of(x: Any) -> Any:
    return x.sqrt()


def negative_root(t: Any) -> Any:
    with t.autograd.detect_anomaly():
        x = t.tensor([0.0, -1.0], requires_grad=True)
        (root_of(x) * 2).sum().backward()


def no_forward_information(t: Any) -> Any:
    y = root_of(t.tensor([-1.0], requires_grad=True))
    with t.autograd.set_detect_anomaly(True):
        y.backward()


def without_check(t: Any) -> Any:
    with t.autograd.detect_anomaly(check_nan=False):
        x = t.tensor([-1.0], requires_grad=True)
        root_of(x).backward()
        return str(x.grad)


def second_factor(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        a, b = t.tensor([1.0], requires_grad=True), t.tensor([float("nan")], requires_grad=True)
        (b * a).backward()


def only_one_asked_for(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        a, b = t.tensor([1.0], requires_grad=True), t.tensor([float("nan")], requires_grad=True)
        return t.autograd.grad(a * b, b)[0].item()


def nan_from_outside(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([1.0], requires_grad=True)
        x.exp().backward(t.tensor([float("nan")]))


def nan_for_a_leaf(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([1.0], requires_grad=True)
        x.backward(t.tensor([float("nan")]))
        return str(x.grad)


def changed_in_place(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([1.0, -1.0], requires_grad=True)
        y = x.exp()
        y.add_(1)
        y.sum().backward()


def changed_in_place_unwatched(t: Any) -> Any:
    x = t.tensor([1.0, -1.0], requires_grad=True)
    y = x.exp()
    y.add_(1)
    y.sum().backward()


def function_that_fails(t: Any) -> Any:
    class Failing(t.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise ValueError("by hand")

    with t.autograd.set_detect_anomaly(True):
        Failing.apply(t.ones(2, requires_grad=True)).sum().backward()


def failing(g: Any) -> None:
    raise KeyError("hook")


def hook_that_fails(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        y = t.ones(2, requires_grad=True).exp()
        y.register_hook(failing)
        (y * 2).sum().backward()


def hook_of_a_leaf_that_fails(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.ones(2, requires_grad=True)
        x.register_hook(failing)
        (x * 2).sum().backward()


def hook_that_mends(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([-1.0], requires_grad=True)
        y = root_of(x)
        y.grad_fn.register_hook(lambda gi, go: (t.ones(1),))
        y.backward()
        return x.grad.item()


def hook_that_spoils(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        y = t.ones(1, requires_grad=True).exp()
        y.grad_fn.register_hook(lambda gi, go: (gi[0] * float("nan"),))
        y.backward()


def parents(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([0.0, 1.0], requires_grad=True)
        (g,) = t.autograd.grad((x ** 1.5).sum(), x, create_graph=True)
        parent = g.grad_fn.metadata["parent_"]
        return g.grad_fn.name(), parent.name(), sorted(g.grad_fn.metadata), sorted(parent.metadata)


def double_backward(t: Any) -> Any:
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([2.0], requires_grad=True)
        (g,) = t.autograd.grad(x.log(), x, create_graph=True)
        t.autograd.grad(g, x, t.tensor([float("nan")]))


def checkpointed(t: Any) -> Any:
    checkpoint = our_checkpoint
    if t is torch:
        from torch.utils.checkpoint import checkpoint
    with t.autograd.set_detect_anomaly(True):
        x = t.tensor([-1.0], requires_grad=True)
        checkpoint(root_of, x, use_reentrant=True).backward()


def switches(t: Any) -> Any:
    def now() -> Any:
        return t.is_anomaly_enabled(), t.is_anomaly_check_nan_enabled()

    seen = [now()]
    t.autograd.set_detect_anomaly(True, False)
    seen.append(now())
    with t.autograd.detect_anomaly():
        seen.append(now())
        with t.autograd.anomaly_mode.set_detect_anomaly(False):
            seen.append(now())
        seen.append(now())
    seen.append(now())
    t.autograd.set_detect_anomaly(False)
    t.set_anomaly_enabled(False, True)
    return [*seen, now()]


@pytest.mark.parametrize("case", [
    negative_root, no_forward_information, without_check, second_factor, only_one_asked_for,
    nan_from_outside, nan_for_a_leaf, changed_in_place, changed_in_place_unwatched,
    function_that_fails, hook_that_fails, hook_of_a_leaf_that_fails, hook_that_mends,
    hook_that_spoils, parents, double_backward, checkpointed, switches],
    ids=lambda case: case.__name__)
def test_the_same(case: Any) -> None:
    assert outcome(gpugrad, case) == outcome(torch, case)
