"""Autograd against PyTorch: the same programs give the same values and errors."""

from __future__ import annotations

import re
import warnings

import pytest

import gpugrad

torch = pytest.importorskip("torch")


# Programs by hand: functions of the library, named by what they do -------------------------------


def outcome(program, lib):
    """What a program gives, or raises, as plain values that can be compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return plain(program(lib), lib)
        except Exception as error:
            return type(error).__name__, opening(str(error))
        finally:
            lib.set_grad_enabled(True)


def plain(v, lib):
    if isinstance(v, lib.Tensor):
        values = [f"{x:.5g}" for x in v.detach().reshape(-1).tolist()]
        return (
            tuple(v.shape),
            str(v.dtype),
            values,
            v.requires_grad,
            v.is_leaf,
            None if v.grad_fn is None else v.grad_fn.name(),
        )
    if isinstance(v, list | tuple):
        return [plain(x, lib) for x in v]
    return v if v is None or isinstance(v, int | float | str) else type(v).__name__


def opening(text):
    """What an error says first: gpugrad adds shapes and ways out."""
    return re.split(r"[:;,\n]| \(|\.( |$|See)| as ", text)[0]


def leaf(lib, *values):
    return lib.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def matrix(lib):
    return lib.arange(6.0).reshape(2, 3).requires_grad_()


def attempt(fn, *args):
    """fn(*args), or the beginning of its error."""
    try:
        return fn(*args)
    except Exception as error:
        return f"{type(error).__name__}: {opening(str(error))}"


PROGRAMS = {}


def program(fn):
    PROGRAMS[fn.__name__] = fn
    return fn


@program
def roots(lib):
    x = leaf(lib)
    return [
        attempt(lambda: (x * 2).backward()),
        attempt(lambda: lib.ones(2).sum().backward()),
        attempt(lambda: (x * 2).backward(lib.ones(2))),
        attempt(lambda: (x * 2).backward([1, 2, 3])),
        attempt(lambda: lib.autograd.backward([x.sum(), x.sum()], [lib.tensor(1.0)])),
        attempt(lambda: x.sum().backward(inputs=[])),
        attempt(lambda: x.sum().backward(inputs=[lib.ones(2)])),
        x.grad,
    ]


@program
def arguments_of_grad(lib):
    x, w, grad = leaf(lib), leaf(lib), lib.autograd.grad
    return [
        attempt(lambda: grad(x.sum(), w)),
        attempt(lambda: grad(x.sum(), [])),
        attempt(lambda: grad(x.sum(), lib.ones(3))),
        attempt(lambda: grad(x.sum(), [3.0])),
        grad(x.sum(), [x, w], allow_unused=True),
        grad(x.sum(), [x, w], materialize_grads=True),
        grad(x.sum(), [x, w], materialize_grads=True, create_graph=True),
        attempt(lambda: grad(x.sum(), w, materialize_grads=True, allow_unused=False)),
        attempt(lambda: grad(x * 1, x, lib.ones(2))),
    ]


@program
def second_backward(lib):
    found = []
    for op in (
        lambda x: x + 1,
        lambda x: x * 2,
        lambda x: x * x,
        lambda x: x.exp(),
        lambda x: x[1:],
        lambda x: x.sum(0),
        lambda x: x / 3,
        lambda x: -x,
        lambda x: x.view(3, 1),
        lambda x: x.tanh(),
        lambda x: x @ x,
    ):
        x = leaf(lib)
        y = op(x).sum()
        y.backward()
        found += [attempt(y.backward), x.grad]
    return found


@program
def partial_freeing(lib):
    x, w = leaf(lib), leaf(lib)
    a = x * x
    b = a * w
    y = b.exp().sum()
    first = lib.autograd.grad(y, b)
    return [first, attempt(y.backward), lib.autograd.grad(b.sum(), [x, w])]


@program
def all_hooks(lib):
    x, log = leaf(lib), []
    y = x.exp()
    y.grad_fn.register_hook(lambda i, o: log.append("node"))
    y.grad_fn.register_prehook(lambda o: log.append("pre"))
    y.register_hook(lambda g: log.append("tensor"))
    y.retain_grad()
    accumulator = y.grad_fn.next_functions[0][0]
    accumulator.register_hook(lambda i, o: log.append(("leaf node", len(i), len(o))))
    accumulator.register_prehook(lambda o: log.append("leaf pre"))
    x.register_post_accumulate_grad_hook(lambda p: log.append("accumulated"))
    x.register_hook(lambda g: g * 2)
    y.sum().backward()
    return [*map(str, log), x.grad, y.grad]


@program
def hooks_and_captures(lib):
    x = leaf(lib)
    h = x * 2
    x.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: g * 100)
    h.grad_fn.register_prehook(lambda o: (o[0] * 1000,))
    y = (h * h).sum()
    grad = lib.autograd.grad
    found = [grad(y, inputs, retain_graph=True) for inputs in (h, x, [h, x])]
    y.backward(inputs=[h, x])
    return [*found, h.grad, x.grad]


@program
def hooks_that_return_nonsense(lib):
    def tensor_hook(value):
        x = leaf(lib)
        x.register_hook(lambda g: value)
        return attempt(x.sum().backward)

    def node_hook(register, value):
        y = leaf(lib) * leaf(lib)
        getattr(y.grad_fn, register)(lambda *a: value)
        return attempt(y.sum().backward)

    ones = lib.ones(3)
    return [tensor_hook(v) for v in (3, lib.ones(2), ones.double(), (ones,))] + [
        node_hook(r, v)
        for r in ("register_hook", "register_prehook")
        for v in (ones, (ones,), (ones, ones, ones), (lib.ones(2), None), 3)
    ]


@program
def retained_through_writes(lib):
    x = leaf(lib)
    h = x * 1
    v = h[:2]
    h.retain_grad()
    v.retain_grad()
    v.mul_(2)
    h.mul_(3)
    ((h * h).sum() + v.sum()).backward()
    return [h.grad, v.grad, x.grad]


@program
def leaves_in_place(lib):
    x = leaf(lib)
    writes = [
        lambda: x.add_(1),
        lambda: x[:2].mul_(2),
        lambda: x.view(3, 1).zero_(),
        lambda: x.copy_(x * 2),
        lambda: x.detach().add_(1),
        lambda: x.data.add_(1),
    ]
    found = [str(attempt(w)) if isinstance(attempt(w), str) else "fine" for w in writes]
    with lib.no_grad():
        x.add_(1)
    return [*found, x, x._version]


@program
def stale_values(lib):
    found = []
    for make, write in (
        (lambda y: y * y, lambda y: y.add_(1)),
        (lambda y: y * y, lambda y: y[0].zero_()),
        (lambda y: y * y, lambda y: y.detach().add_(1)),
        (lambda y: y * y, lambda y: y.data.add_(1)),
        (lambda y: y + y, lambda y: y.add_(1)),
        (lambda y: y.exp(), lambda y: y.add_(1)),
        (lambda y: y * lib.ones(3), lambda y: y.add_(1)),
        (lambda y: y.sum() * y, lambda y: y.neg_()),
        (lambda y: y[:2] * 2, lambda y: y.mul_(2)),
        (lambda y: y.relu(), lambda y: y.add_(1)),
        (lambda y: y**3, lambda y: y.add_(1)),
        (lambda y: y.tanh(), lambda y: y.add_(1)),
    ):
        for create_graph in (False, True):
            x = leaf(lib)
            y = x * 1
            z = make(y)
            write(y)
            g = attempt(lib.autograd.grad, z.sum(), x, None, True, create_graph)
            found.append(g if isinstance(g, str) else g[0].detach())
    return found


@program
def stale_results(lib):
    found = []
    for op in ("exp", "tanh", "sigmoid", "relu", "sqrt", "log", "sin", "abs", "reciprocal", "neg"):
        x = leaf(lib)
        y = getattr(x, op)()
        y.add_(1)
        found.append(attempt(lib.autograd.grad, y.sum(), x))
    return found


@program
def unusual_views(lib):
    found = []
    with lib.no_grad():
        hidden = (leaf(lib) * 1)[:2]
    found.append(attempt(lambda: hidden.add_(1)))
    for split in (
        lambda x: x.unbind(),
        lambda x: x.split(1),
        lambda x: x.chunk(2),
        lambda x: list(x),
    ):
        part = split(matrix(lib) * 1)[0]
        found.append(attempt(part.add_, 1))
    with lib.inference_mode():
        inference = (leaf(lib) * 1)[:2]
    found.append(attempt(lambda: inference.add_(1)))
    found.append(attempt(lambda: lib.ones(1).expand(3).add_(1)))
    found.append(attempt(lambda: (leaf(lib) * 2)[0].detach_()))
    return found


@program
def inference(lib):
    x = leaf(lib)
    with lib.inference_mode():
        a, b, c, d = x * 2, lib.ones(3), x[0], lib.ones(3)[1:]
        a.add_(1)
    return [
        [t.is_inference() for t in (x, a, b, c, d, a[0], a.detach(), a.clone(), a + 1)],
        attempt(lambda: x * a),
        (x + a),
        attempt(lambda: a.add_(1)),
        attempt(lambda: a.requires_grad_()),
        attempt(lambda: a._version),
        attempt(lambda: (x * 1).mul_(a)),
    ]


@program
def functions(lib):
    class Cube(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a, k):
            y = a**3 * k
            ctx.save_for_backward(a, y)
            ctx.k = k
            return y, a

        @staticmethod
        def backward(ctx, g, h):
            a, _ = ctx.saved_tensors
            return 3 * a * a * g * ctx.k + h, None

    x = leaf(lib)
    y, same = Cube.apply(x, 2.0)
    (g,) = lib.autograd.grad((y + same).sum(), x, create_graph=True)
    return [
        y,
        same,
        g.detach(),
        lib.autograd.grad(g.sum(), x),
        attempt(lambda: same.add_(1)),
        attempt(lambda: y.add_(1).sum().backward()),
        x.grad,
    ]


@program
def functions_that_err(lib):
    def run(forward, backward, *inputs):
        body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        made = type(lib.autograd.Function)("Made", (lib.autograd.Function,), body)
        return attempt(lambda: made.apply(*inputs).sum().backward())

    def returning(value):
        return run(lambda ctx, a: a * 2, lambda ctx, g: value, x)

    x, w = leaf(lib), leaf(lib)
    ones = lib.ones(3)
    return [
        *map(returning, (lib.ones(7), (ones, ones), 3.0, [ones], lib.ones(1), "text")),
        run(lambda ctx, a, b: a * b, lambda ctx, g: g, x, w),
        run(lambda ctx, a, k: a * k, lambda ctx, g: (g, g), x, 2),
        run(lambda ctx, a: (ctx.save_for_backward(3), a * 2)[1], lambda ctx, g: g, x),
        run(lambda ctx, a: (ctx.mark_dirty(a), a * 2)[1], lambda ctx, g: g, x * 1),
        run(lambda ctx, a: (a.mul_(2), ctx.mark_dirty(a), a)[2], lambda ctx, g: g, x[:2]),
    ]


@program
def properties(lib):
    x, y, n = leaf(lib), leaf(lib) * 2, lib.tensor([1, 2])

    def assign(t, name, value):
        return attempt(lambda: setattr(t, name, value))

    return [
        assign(n, "requires_grad", True),
        assign(y, "requires_grad", False),
        assign(x, "grad", lib.ones(2)),
        assign(x, "grad", x),
        assign(x, "grad", 3),
        assign(x, "data", [1]),
        assign(x, "data", n),
        attempt(lambda: x.numpy()),
        attempt(lambda: float(x)),
        attempt(lambda: x.item()),
        attempt(lambda: bool(x)),
        attempt(lambda: len(lib.tensor(1.0))),
        attempt(lambda: [1][lib.tensor(0.5)]),
        attempt(lambda: x.size(3)),
        attempt(lambda: x.stride(3)),
        attempt(lambda: lib.Tensor(2.5)),
        attempt(lambda: n.retain_grad()),
        attempt(lambda: n.register_hook(print)),
        attempt(lambda: y.register_post_accumulate_grad_hook(print)),
        attempt(lambda: lib.set_grad_enabled(1)),
        attempt(lambda: list(lib.tensor(1.0))),
    ]


@program
def gradchecks(lib):
    check = lib.autograd.gradcheck
    x = lib.tensor([0.5, 1.5], dtype=lib.float64, requires_grad=True)

    class Wrong(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 2

        @staticmethod
        def backward(ctx, g):
            return g * 3

    return [
        check(lambda a: a * a, x),
        check(Wrong.apply, x, raise_exception=False),
        attempt(lambda: check(Wrong.apply, x)),
        attempt(lambda: check(lambda a: a * 2, lib.ones(2))),
        lib.autograd.gradgradcheck(lambda a: a**3, x),
        check(lambda a: a.detach() * 2, x, raise_exception=False),
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    assert outcome(PROGRAMS[name], gpugrad) == outcome(PROGRAMS[name], torch)
