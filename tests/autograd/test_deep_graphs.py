"""Long graphs don't recurse; graphs die with their last reference, without the collector."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

import gpugrad as torch
from gpugrad.autograd import grad

pytestmark = [pytest.mark.filterwarnings("ignore:Using backward.. with create_graph"),
              pytest.mark.usefixtures("on_each_device")]


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


# Depth -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10_000, 100_000])
def test_a_long_chain(n):
    x = leaf()
    y = x
    for _ in range(n):
        y = y * 1.0
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        y.sum().backward(retain_graph=True)
        assert x.grad.tolist() == [1, 1, 1]
        assert grad(y.sum(), x)[0].tolist() == [1, 1, 1]
        del y
    finally:
        sys.setrecursionlimit(limit)


def test_a_long_chain_of_views_writes_and_functions():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a * 0.5

        @staticmethod
        def backward(ctx, g):
            return g * 0.5

    x = leaf(1.0, 2.0)
    y = x
    for _ in range(2_000):
        y = Half.apply(y) * 2.0
        y[0] = y[1] * 1.0
        y = y.view(2, 1).t().reshape(2)
    y.sum().backward()
    assert x.grad.tolist() == [0, 2]
    del y


def test_a_long_chain_at_second_order():
    x = leaf(1.0, 2.0)
    y = x * x
    for _ in range(3_000):
        y = y + 0.0
    (g,) = grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_a_wide_graph_of_diamonds_is_visited_once():
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2 ** 60 paths
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.tolist() == [1]


# Death by reference count ------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def network(x, w, v):
    """Convolution, pooling and a linear layer: the shape of LeNet."""
    F = torch.nn.functional
    h = F.max_pool2d(F.relu(F.conv2d(x, w)), 2)
    return F.cross_entropy(F.linear(h.flatten(1), v), torch.tensor([1, 0]))


def convolutional():
    x, w, v = (
        torch.ones(2, 1, 6, 6),
        torch.ones(3, 1, 3, 3).requires_grad_(),
        torch.ones(2, 12).requires_grad_(),
    )
    return network(x, w, v)


def views():
    y = leaf() * 1
    a = y[:2]
    return (a.view(2, 1).t() * y[1:]).sum()


def writes():
    y = leaf() * 1
    early = y[:2]
    y[0] = y[1] * 2
    early.mul_(3)
    y.add_(y.exp())
    return (y * early[0]).sum()


def hooks():
    y = leaf() * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.grad_fn.register_prehook(lambda g: None)
    y.grad_fn.register_hook(lambda i, o: None)
    return (y * y).sum()


def function():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            y = a**3
            ctx.save_for_backward(a, y)
            return y, a

        @staticmethod
        def backward(ctx, g, k):
            a, _ = ctx.saved_tensors
            return 3 * a * a * g + k

    a, b = Cube.apply(leaf() * 1)
    return (a + b).sum()


def second_order():
    x = leaf()
    (g,) = grad((x**3).sum(), x, create_graph=True)
    return (g * g).sum()


def results():
    x = leaf()
    return (x.exp() * x.sigmoid() + x.tanh() / x.sqrt()).sum()


GRAPHS = [convolutional, views, writes, hooks, function, second_order, results]


@pytest.mark.parametrize("make", GRAPHS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("after_backward", [False, True])
def test_graphs_are_freed_without_the_collector(no_collector, make, after_backward):
    y = make()
    nodes, stack = [], [y.grad_fn]
    while stack:
        node = stack.pop()
        nodes.append(weakref.ref(node))
        stack += [n for n, _ in node.next_functions if n is not None]
    node = None
    assert len(nodes) > 2
    if after_backward:
        y.backward()
    del y
    assert [ref().name() for ref in nodes if ref() is not None] == []


def test_saved_memory_is_freed_by_backward(no_collector):
    x = leaf()
    y = x.exp()
    z = (y * y).sum()
    memory = weakref.ref(y)
    del y
    z.backward()
    assert memory() is None


def test_gradients_with_history_are_freed_with_their_leaf(no_collector):
    x = leaf()
    (x**3).sum().backward(create_graph=True)
    g = weakref.ref(x.grad)
    x.grad = None  # as PyTorch warns, .grad and the leaf hold each other
    assert g() is None


def test_a_tensor_dies_before_its_graph(no_collector):
    x = leaf()
    h = x * 2
    h.retain_grad()
    y = (h * 3).sum()
    gone = weakref.ref(h)
    del h
    assert gone() is None
    y.backward()
    assert x.grad.tolist() == [6, 6, 6]


def test_a_leaf_lives_as_long_as_its_graph(no_collector):
    x = leaf()
    y = (x * 2).sum()
    ref = weakref.ref(x)
    del x
    assert ref() is not None
    y.backward()
    assert ref().grad.tolist() == [2, 2, 2]
    del y
    assert ref() is None


def test_an_error_in_backward_leaves_nothing_behind(no_collector):
    def fail(g):
        raise ValueError("mine")

    x = leaf()
    h = x * 2
    h.register_hook(fail)
    y = (h * h).sum()
    node = weakref.ref(h.grad_fn)
    with pytest.raises(ValueError, match="mine"):
        y.backward()
    del h, y
    assert node() is None and torch.is_grad_enabled()


def test_views_do_not_pile_up(no_collector):
    base = torch.zeros(4)
    for _ in range(1000):
        base[0]
    kept = [base[i % 4] for i in range(100)]
    for _ in range(1000):
        base[0]
    w = leaf(5.0)
    base[2] = w[0]  # the views that are alive still follow
    assert kept[2].requires_grad and grad(kept[2], w)[0].tolist() == [1]
    if hasattr(base, "_ver"):
        assert len(base._ver) < 600
