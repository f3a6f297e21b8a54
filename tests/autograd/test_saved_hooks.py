"""Hooks on saved tensors: what they see, what they may return, and where they hold."""
from __future__ import annotations

import gc
import weakref

import pytest

import gpugrad as torch
from gpugrad._state import off, state
from gpugrad.autograd import graph

pytestmark = pytest.mark.usefixtures("on_each_device")


@pytest.fixture(autouse=True)
def switched_off_afterwards():
    before = off[0]
    yield
    assert off[0] == before and state.saving is None and state.saving_disabled is None


class Log:
    """Hooks that note what they get."""

    def __init__(self):
        self.packed, self.unpacked = [], 0

    def pack(self, t):
        self.packed.append(t)
        return t

    def unpack(self, t):
        self.unpacked += 1
        return t

    def hooks(self):
        return graph.saved_tensors_hooks(self.pack, self.unpack)


def leaf(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape).requires_grad_()


X, W = (2, 3), (4, 3)
CASES = {
    "product": (lambda x, w: x * x, 2), "number": (lambda x, w: x * 2, 0),
    "inverse": (lambda x, w: 2 / x, None), "exp": (lambda x, w: x.exp(), 1),
    "pow": (lambda x, w: x ** 3, 1), "mm": (lambda x, w: x @ w.t(), 2),
    "broadcast": (lambda x, w: x * w[0], 2), "softmax": (lambda x, w: x.softmax(-1), 1),
    "cat": (lambda x, w: torch.cat([x, x * x]), 2), "gelu": (torch.nn.functional.gelu, 1),
    "norm": (lambda x, w: torch.nn.functional.layer_norm(x, (3,)), 3),
    "max": (lambda x, w: x.max(1)[0], 1), "relu": (lambda x, w: x.relu(), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_stay_as_they_are(name):
    fn, n = CASES[name]
    if name == "gelu":
        fn = (lambda f: lambda x, w: f(x))(fn)
    want = [leaf(*X), leaf(*W)]
    fn(*want).square().sum().backward()
    got, log = [leaf(*X), leaf(*W)], Log()
    with log.hooks():
        y = fn(*got)
    if n is not None:
        assert len(log.packed) == n
    y.square().sum().backward()
    assert log.unpacked == len(log.packed)
    for a, b in zip(want, got):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)


def test_inputs_come_as_they_are_and_results_detached():
    p, log = torch.nn.Parameter(torch.ones(3)), Log()
    with log.hooks():
        y = p * p
        z = y.exp()
    assert log.packed[0] is p and log.packed[1] is p
    assert log.packed[2]._a is z._a and not log.packed[2].requires_grad
    node = weakref.ref(z.grad_fn)
    gc.disable()
    try:
        del y, z
        log.packed.clear()
        assert node() is None                   # no cycle: freed at once
    finally:
        gc.enable()


def test_in_place_operations_are_packed_after_their_write():
    x, log = leaf(3), Log()
    with log.hooks():
        y = x * 1
        y.exp_()
    assert torch.equal(log.packed[-1], x.detach().exp())
    y.sum().backward()
    assert torch.allclose(x.grad, x.detach().exp())
    a = leaf(3)
    with log.hooks():
        b = a * 1
        b.mul_(a)                               # keeps the old b, and a
    b.sum().backward()
    assert torch.equal(a.grad, 2 * a.detach())


def test_what_the_hooks_keep_is_what_backward_gets():
    x = leaf(3)
    with graph.saved_tensors_hooks(lambda t: t.detach() * 10, lambda t: t):
        y = x * x
    y.sum().backward()
    assert torch.equal(x.grad, 20 * x.detach())


def test_changes_of_what_was_packed_are_not_noticed_and_those_of_others_are():
    x, y = leaf(3), torch.ones(3)
    with graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        z = x * y
    y.zero_()
    z.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    z = x * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_second_backward_and_higher_orders():
    x, log = leaf(3), Log()
    with log.hooks():
        y = x.exp()
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
    with log.hooks():
        y = (x * x).exp()
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), x)
    v = x.detach()
    assert torch.allclose(h, (2 + 4 * v * v) * (v * v).exp())
    with log.hooks():
        y = x.exp()
    assert torch.equal(y.grad_fn._saved_result, y)


def test_the_innermost_hooks_count_and_they_are_of_one_thread():
    from threading import Thread

    outer, inner, x = Log(), Log(), leaf(3)
    with outer.hooks():
        x.exp()
        with inner.hooks():
            x.exp()
            thread = Thread(target=lambda: x.exp())
            thread.start()
            thread.join()
        x.exp()
    assert len(outer.packed) == 2 and len(inner.packed) == 1
    with torch.no_grad(), outer.hooks():
        x.exp()
    assert len(outer.packed) == 2


def test_functions_of_the_user():
    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            out = a * b
            ctx.save_for_backward(a, b, out, None)
            return out

        @staticmethod
        def backward(ctx, g):
            a, b, out, nothing = ctx.saved_tensors
            assert nothing is None and torch.equal(out, a * b)
            return g * b, g * a

    log, a, b = Log(), leaf(3), leaf(3)
    with log.hooks():
        y = Times.apply(a, b)
    assert log.packed[0] is a and len(log.packed) == 3
    y.sum().backward()
    assert torch.equal(a.grad, b.detach()) and log.unpacked == 3


@pytest.mark.gpu
@pytest.mark.parametrize("hooked", [False, True])
def test_functions_that_save_tensors_of_several_devices(hooked):
    class Pick(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, index):
            ctx.save_for_backward(x, index)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            x, index = ctx.saved_tensors
            assert x.device.type == "cuda" and index.device.type == "cpu"
            return g * 2, None

    x = torch.ones(3, device="cuda", requires_grad=True)
    log = Log()
    if hooked:
        with log.hooks():
            y = Pick.apply(x, torch.tensor([1], device="cpu"))
    else:
        y = Pick.apply(x, torch.tensor([1], device="cpu"))
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2] and log.unpacked == 2 * hooked


def test_wrong_hooks():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="pack hook is modifying its input in place"):
        with graph.saved_tensors_hooks(lambda t: t.add_(1), lambda t: t):
            (x * 1).exp()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = x.exp()
    with pytest.raises(TypeError, match="expected to be a Tensor but got result of type int"):
        y.sum().backward()


def test_disabled():
    with graph.disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match=r"^not here$"):
            with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                pass

    @graph.disable_saved_tensors_hooks("nor here")
    def fn():
        with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            pass

    with pytest.raises(RuntimeError, match=r"^nor here$"):
        fn()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        with pytest.raises(RuntimeError, match=r"^there are some$"):
            with graph.disable_saved_tensors_hooks("there are some"):
                pass


@pytest.mark.parametrize("pin", [False, True])
def test_save_on_cpu(pin):
    x, w = leaf(*X), leaf(*W)
    seen = []

    class Spy(graph.save_on_cpu):
        def __init__(self):
            super().__init__(pin_memory=pin)
            pack = self.pack_hook

            def spying(t):
                seen.append(pack(t)[1].device.type)
                return pack(t)
            self.pack_hook = spying

    with Spy():
        y = (x @ w.t()).exp()
    y.sum().backward()
    assert seen == ["cpu"] * 3
    want = leaf(*X)
    (want @ w.detach().t()).exp().sum().backward()
    assert torch.equal(x.grad, want.grad) and x.grad.device == x.device


def test_multi_grad_hooks():
    x, w, b = leaf(*X), leaf(*W), leaf(4)
    seen, first = [], []
    handle = graph.register_multi_grad_hook(
        [x, w, b], lambda gs: seen.append([None if g is None else tuple(g.shape) for g in gs]))
    any_ = graph.register_multi_grad_hook([x, w, b], lambda g: first.append(1), mode="any")
    linear = torch.nn.functional.linear
    linear(x, w, b).sum().backward()
    linear(x, w).sum().backward()
    (linear(x, w) + linear(x, w)).sum().backward()
    assert seen == [[X, W, (4,)], [X, W, None], [X, W, None]] and len(first) == 3
    torch.autograd.grad(linear(x, w, b).sum(), [b])
    assert seen[3:] == [[None, None, (4,)]]
    handle.remove()
    any_.remove()
    linear(x, w, b).sum().backward()
    assert len(seen) == 4 and len(first) == 4
    with pytest.raises(ValueError, match="Expects mode to be one of"):
        graph.register_multi_grad_hook([x], print, mode="some")


def test_increment_version():
    x = torch.ones(3)
    graph.increment_version(x)
    graph.increment_version([x, x])
    assert x._version == 3
