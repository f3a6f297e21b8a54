"""autograd.Function: operations with a gradient written by the user."""

from __future__ import annotations

import gc
import weakref

import pytest

import gpugrad as torch
from gpugrad.autograd import Function, grad, gradcheck, gradgradcheck
from gpugrad.autograd.function import once_differentiable

pytestmark = pytest.mark.usefixtures("on_each_device")


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def exact(*values):
    return torch.tensor(values or (0.5, 1.5, 2.5), dtype=torch.float64, requires_grad=True)


def make(forward, backward, **more):
    """A Function of these two."""
    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Made", (Function,), {**body, **{k: staticmethod(v) for k, v in more.items()}})


class Mul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * b, g * a


class Exp(Function):
    @staticmethod
    def forward(ctx, a):
        y = a.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


# The plain case ----------------------------------------------------------------------------------


@pytest.mark.cpu_only
def test_values_and_gradients():
    x, w = leaf(), leaf(4.0, 5.0, 6.0)
    y = Mul.apply(x, w)
    assert y.tolist() == [4, 10, 18] and y.grad_fn.name() == "MulBackward" and not y.is_leaf
    assert type(y.grad_fn).__name__ == "MulBackward" and isinstance(
        y.grad_fn, torch.autograd.graph.Node
    )
    assert repr(y) == "tensor([ 4., 10., 18.], grad_fn=<MulBackward>)"
    y.sum().backward()
    assert x.grad.tolist() == [4, 5, 6] and w.grad.tolist() == [1, 2, 3]


def test_the_same_input_twice():
    x = leaf()
    Mul.apply(x, x).sum().backward()
    assert x.grad.tolist() == [2, 4, 6]


@pytest.mark.parametrize("fn, n", [(Mul.apply, 2), (Exp.apply, 1)])
def test_first_and_second_derivatives(fn, n):
    inputs = tuple(exact() for _ in range(n))
    assert gradcheck(fn, inputs) and gradgradcheck(fn, inputs)


def test_third_derivatives():
    x = leaf(1.0)
    y = Mul.apply(Mul.apply(x, x), x)
    for expected in (3, 6, 6):
        (y,) = grad(y.sum(), x, create_graph=True)
        assert y.item() == expected


def test_a_function_inside_a_function():
    class Cube(Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return Mul.apply(Mul.apply(a, a), a)

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return 3 * Mul.apply(g, Mul.apply(a, a))

    assert gradcheck(Cube.apply, exact()) and gradgradcheck(Cube.apply, exact())


def test_nothing_is_recorded_without_need():
    x = leaf()
    with torch.no_grad():
        y = Mul.apply(x, x)
    assert not y.requires_grad and y.grad_fn is None
    assert not Mul.apply(torch.ones(3), torch.ones(3)).requires_grad


def test_recording_is_off_in_forward_and_in_plain_backward():
    seen = []
    fn = make(
        lambda ctx, a: (seen.append(torch.is_grad_enabled()), a * 2)[1],
        lambda ctx, g: (seen.append(torch.is_grad_enabled()), g * 2)[1],
    )
    x = leaf()
    y = fn.apply(x).sum()
    y.backward(retain_graph=True)
    grad(y, x, create_graph=True)
    assert seen == [False, False, True]


def test_an_inner_graph():
    class Inner(Function):
        @staticmethod
        def forward(ctx, a):
            ctx.a = a.detach().requires_grad_()
            with torch.enable_grad():
                ctx.y = (ctx.a**2).sum()
            return ctx.y.detach()

        @staticmethod
        def backward(ctx, g):
            return grad(ctx.y, ctx.a, g)[0]

    x = leaf()
    (Inner.apply(x) * 2).backward()
    assert x.grad.tolist() == [4, 8, 12]


def test_subclasses():
    class Again(Mul):
        pass

    x = leaf()
    y = Again.apply(x, x)
    y.sum().backward()
    assert y.grad_fn.name() == "AgainBackward" and x.grad.tolist() == [2, 4, 6]


# Saving ------------------------------------------------------------------------------------------


def test_what_may_be_saved():
    got = []

    def forward(ctx, a):
        y = a * 2
        ctx.save_for_backward(a, None, y, a[:2], a * 5)
        return y

    def backward(ctx, g):
        got.extend(ctx.saved_tensors)
        return g

    x = leaf()
    y = make(forward, backward).apply(x)
    saved = y.grad_fn.saved_tensors
    assert saved[0] is x and saved[2].grad_fn is y.grad_fn
    y.sum().backward()
    assert got[1] is None and [t.tolist() for t in (got[0], *got[2:])] == [
        [1, 2, 3],
        [2, 4, 6],
        [1, 2],
        [5, 10, 15],
    ]


def test_only_tensors_are_saved():
    fn = make(lambda ctx, a: (ctx.save_for_backward(a, 3), a)[1], lambda ctx, g: g)
    with pytest.raises(
        TypeError, match="save_for_backward can only save variables, but argument 1 is of type int"
    ):
        fn.apply(leaf())


def test_the_last_save_counts():
    fn = make(
        lambda ctx, a: (ctx.save_for_backward(a), ctx.save_for_backward(a * 2), a * 2)[2],
        lambda ctx, g: g * ctx.saved_tensors[0],
    )
    x = leaf()
    fn.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_saved_tensors_are_freed():
    x = leaf()
    y = Mul.apply(x, x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="directly access saved tensors"):
        _ = y.grad_fn.saved_tensors
    y = Mul.apply(x, x)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert x.grad.tolist() == [6, 12, 18]


def test_a_function_that_saved_nothing_runs_again():
    x = leaf()
    y = make(lambda ctx, a: a * 2, lambda ctx, g: g * 2).apply(x)
    y.sum().backward()
    y.sum().backward()
    assert x.grad.tolist() == [4, 4, 4]


def test_saved_tensors_that_were_written():
    x, w = leaf(), leaf()
    h = w * 1
    y = Mul.apply(x, h)
    h.add_(1)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace op.* is at version 1; expected version 0"
    ):
        y.sum().backward()
    y = Exp.apply(x)
    y.add_(1)
    with pytest.raises(
        RuntimeError, match="which is output 0 of Exp, is at version 1; expected version 0"
    ):
        y.sum().backward()


def test_other_things_are_kept_on_ctx():
    fn = make(lambda ctx, a, k: (setattr(ctx, "k", k), a * k)[1], lambda ctx, g: (g * ctx.k, None))
    x = leaf()
    y = fn.apply(x, 5)
    y.sum().backward()
    assert x.grad.tolist() == [5, 5, 5] and y.grad_fn.k == 5


# setup_context -----------------------------------------------------------------------------------


def test_setup_context():
    def setup(ctx, inputs, output):
        a, ctx.k = inputs
        ctx.save_for_backward(a, output)

    def backward(ctx, g):
        a, y = ctx.saved_tensors
        return g * y * ctx.k / a, None

    fn = make(lambda a, k: a**k, backward, setup_context=setup)
    x = leaf()
    fn.apply(x, 3).sum().backward()
    assert x.grad.tolist() == pytest.approx([3, 12, 27])
    assert gradcheck(lambda a: fn.apply(a, 3.0), exact()) and gradgradcheck(
        lambda a: fn.apply(a, 3.0), exact()
    )


def test_setup_context_sees_defaults():
    def setup(ctx, inputs, output):
        ctx.n = len(inputs)

    fn = make(lambda a, k=2.0: a * k, lambda ctx, g: (g * ctx.n, None), setup_context=setup)
    x = leaf()
    fn.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_keyword_arguments():
    x, w = leaf(), leaf(4.0, 5.0, 6.0)
    Mul.apply(x, b=w).sum().backward()
    assert x.grad.tolist() == [4, 5, 6] and w.grad.tolist() == [1, 2, 3]


# Several inputs and outputs ----------------------------------------------------------------------


def test_needs_input_grad():
    seen = []

    def forward(ctx, *args):
        seen.append(ctx.needs_input_grad)
        return args[0] * args[2]

    fn = make(forward, lambda ctx, g: (seen.append(ctx.needs_input_grad), g, None, None)[1:])
    fn.apply(leaf(), 2, torch.ones(3)).sum().backward()
    fn.apply(torch.ones(3), "text", torch.ones(3))
    assert seen == [(True, False, False)] * 2 + [(False, False, False)]


def test_needs_input_grad_saves_work():
    def forward(ctx, a, b):
        ctx.save_for_backward(
            a if ctx.needs_input_grad[1] else None, b if ctx.needs_input_grad[0] else None
        )
        return a * b

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return (g * b if ctx.needs_input_grad[0] else None), (
            g * a if ctx.needs_input_grad[1] else None
        )

    x = leaf()
    y = make(forward, backward).apply(x, torch.ones(3))
    assert y.grad_fn.saved_tensors[0] is None
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


class Both(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b, a + b

    @staticmethod
    def backward(ctx, g1, g2):
        a, b = ctx.saved_tensors
        return g1 * b + g2, g1 * a + g2


def test_several_outputs():
    x, w = leaf(), leaf(4.0, 5.0, 6.0)
    p, q = Both.apply(x, w)
    assert p.grad_fn is q.grad_fn and (p.output_nr, q.output_nr) == (0, 1)
    p.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [4, 5, 6]
    (p * 2 + q).sum().backward()
    assert x.grad.tolist() == [13, 16, 19] and w.grad.tolist() == [4, 7, 10]
    assert gradcheck(Both.apply, (exact(), exact(1.0, 2.0, 3.0)))
    assert gradgradcheck(Both.apply, (exact(), exact(1.0, 2.0, 3.0)))


def test_missing_gradients_are_zeros():
    seen = []
    fn = make(
        lambda ctx, a: (a * 1, a[:2] * 2),
        lambda ctx, g, k: (seen.append((g.tolist(), k.tolist())), g)[1],
    )
    fn.apply(leaf())[0].sum().backward()
    fn.apply(leaf())[1].sum().backward()
    assert seen == [([1, 1, 1], [0, 0]), ([0, 0, 0], [1, 1])]


def test_missing_gradients_are_none_when_asked():
    seen = []

    def forward(ctx, a):
        ctx.set_materialize_grads(False)
        return a * 1, a * 2

    fn = make(forward, lambda ctx, g, k: (seen.append((g is None, k is None)), k)[1])
    x = leaf()
    fn.apply(x)[1].sum().backward()
    assert seen == [(True, False)] and x.grad.tolist() == [1, 1, 1]


def test_one_tuple_stays_a_tuple():
    y = make(lambda ctx, a: (a * 2,), lambda ctx, g: g).apply(leaf())
    assert type(y) is tuple and y[0].requires_grad


def test_outputs_that_are_no_tensors():
    fn = make(lambda ctx, a: (a * 2, 5, "text", None), lambda ctx, g, *rest: g * 2)
    x = leaf()
    y = fn.apply(x)
    assert y[1:] == (5, "text", None)
    y[0].sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert make(lambda ctx, a: 5, lambda ctx, g: g).apply(x) == 5


def test_outputs_without_a_gradient():
    seen = []

    def forward(ctx, a):
        values, where = a.max(0)
        mask = (a > 1).to(a.dtype)
        ctx.mark_non_differentiable(where, mask)
        return values, where, mask

    fn = make(
        forward, lambda ctx, g, h, k: (seen.append((h.tolist(), k.tolist())), g * torch.ones(3))[1]
    )
    x = leaf()
    values, where, mask = fn.apply(x)
    assert values.requires_grad and not where.requires_grad and not mask.requires_grad
    values.backward()
    assert seen == [(0, [0, 0, 0])] and x.grad.tolist() == [1, 1, 1]


def test_integers_need_no_marking():
    values, where = make(lambda ctx, a: tuple(a.max(0)), lambda ctx, g, k: g * torch.ones(3)).apply(
        leaf()
    )
    assert values.requires_grad and not where.requires_grad


def test_arguments_inside_lists_are_not_seen():
    fn = make(lambda ctx, items: items[0] * 2, lambda ctx, g: None)
    assert not fn.apply([leaf()]).requires_grad


# What backward returns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backward, text",
    [
        (
            lambda ctx, g: g,
            r"MadeBackward returned an incorrect number of gradients \(expected 2, got 1\)",
        ),
        (
            lambda ctx, g: (g, g, g),
            r"MadeBackward returned an incorrect number of gradients \(expected 2, got 3\)",
        ),
        (
            lambda ctx, g: (torch.ones(7), g),
            r"Function MadeBackward returned an invalid gradient at index 0 - got \[7\] but "
            r"expected shape compatible with \[3\]",
        ),
        (
            lambda ctx, g: (torch.ones(1), g),
            r"Function MadeBackward returned an invalid gradient at index 0 - got \[1\]",
        ),
        (lambda ctx, g: (3.0, g), r"expected Variable or None \(got float\)"),
        (lambda ctx, g: [g, g], r"incorrect number of gradients \(expected 2, got 1\)"),
    ],
)
def test_gradients_that_are_refused(backward, text):
    y = make(lambda ctx, a, b: a + b, backward).apply(leaf(), leaf())
    with pytest.raises(RuntimeError, match=text):
        y.sum().backward()


def test_a_gradient_for_something_else_is_refused():
    y = make(lambda ctx, a, k: a * k, lambda ctx, g: (g, g)).apply(leaf(), 2)
    with pytest.raises(
        RuntimeError,
        match="function MadeBackward returned a gradient different than None at position 2, "
        "but the corresponding forward input was not a Variable",
    ):
        y.sum().backward()


def test_gradients_that_are_accepted():
    x, w = leaf(), torch.ones(3)
    make(lambda ctx, a: a * 2, lambda ctx, g: (g, None, None)).apply(
        x
    ).sum().backward()  # Nones too many
    make(lambda ctx, a, b: a * b, lambda ctx, g: (g, g)).apply(
        x, w
    ).sum().backward()  # one without need
    make(lambda ctx, a: a * 2, lambda ctx, g: torch.ones(4, 3)).apply(
        x
    ).sum().backward()  # summed to the shape
    make(lambda ctx, a: a * 2, lambda ctx, g: g.double()).apply(
        x
    ).sum().backward()  # of another dtype
    make(lambda ctx, a: a * 2, lambda ctx, g: None).apply(x).sum().backward()
    assert x.grad.tolist() == [7, 7, 7] and x.grad.dtype is torch.float32 and w.grad is None


def test_a_gradient_of_none_is_unused():
    x = leaf()
    y = make(lambda ctx, a: a * 2, lambda ctx, g: None).apply(x)
    assert grad(y.sum(), x, allow_unused=True) == (None,)


def test_a_returned_gradient_may_be_expanded():
    x = leaf()
    make(lambda ctx, a: a.sum(), lambda ctx, g: g.expand(3)).apply(x).backward()
    x.grad.add_(1)
    assert x.grad.tolist() == [2, 2, 2]


def test_errors_pass_through():
    def fail(ctx, *args):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        make(fail, fail).apply(leaf())
    with pytest.raises(KeyError, match="mine"):
        make(lambda ctx, a: a * 2, fail).apply(leaf()).sum().backward()
    assert torch.is_grad_enabled()


def test_what_is_missing():
    class Nothing(Function):
        pass

    class Half(Function):
        @staticmethod
        def forward(ctx, a):
            return a * 2

    with pytest.raises(
        NotImplementedError,
        match=r"You must implement the forward function for custom autograd.Function",
    ):
        Nothing.apply(leaf())
    with pytest.raises(
        NotImplementedError, match="You must implement either the backward or vjp method"
    ):
        Half.apply(leaf()).sum().backward()


def test_vjp_is_another_name_of_backward():
    class Twice(Function):
        @staticmethod
        def forward(ctx, a):
            return a * 2

        @staticmethod
        def vjp(ctx, g):
            return g * 2

    x = leaf()
    Twice.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


# once_differentiable -----------------------------------------------------------------------------


class Once(Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * a

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        assert not torch.is_grad_enabled()
        return 2 * g * ctx.saved_tensors[0]


def test_once_differentiable():
    x = leaf()
    Once.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 4, 6]
    y = Once.apply(x)
    (g,) = grad((y * y).sum(), x, create_graph=True)
    assert g.requires_grad and g.tolist() == [4, 32, 108]
    with pytest.raises(
        RuntimeError,
        match="trying to differentiate twice a function that was marked with @once_differentiable",
    ):
        g.sum().backward()


# Hooks, life and death ---------------------------------------------------------------------------


def test_hooks_on_a_function():
    x, log = leaf(), []
    y = Mul.apply(x, x)
    y.register_hook(lambda g: g * 2)
    y.grad_fn.register_prehook(lambda outputs: log.append([g.tolist() for g in outputs]))
    y.grad_fn.register_hook(lambda inputs, outputs: log.append([g.tolist() for g in inputs]))
    y.retain_grad()
    y.sum().backward()
    assert log == [[[2, 2, 2]], [[2, 4, 6], [2, 4, 6]]]
    assert x.grad.tolist() == [4, 8, 12] and y.grad.tolist() == [2, 2, 2]


def test_functions_are_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        for make_output in (
            lambda x: Exp.apply(x),
            lambda x: Both.apply(x, x)[0],
            lambda x: Once.apply(x),
        ):
            x = leaf()
            y = make_output(x)
            ctx = weakref.ref(y)
            memory = weakref.ref(x)
            del y, x
            assert ctx() is None and memory() is None
    finally:
        gc.enable()


def test_a_function_is_not_instantiated():
    with pytest.raises(RuntimeError):
        Mul(leaf(), leaf())(leaf())
