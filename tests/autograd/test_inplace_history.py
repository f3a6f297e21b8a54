"""In-place writes: what is refused, versions, and histories of bases and views after a write."""

from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import grad, gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("on_each_device")


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def matrix():
    return torch.arange(6.0).reshape(2, 3).requires_grad_()


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.mul_(x),
        lambda x: x.zero_(),
        lambda x: x.fill_(2),
        lambda x: x.exp_(),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: x.add_(leaf()),
        lambda x: x.__iadd__(1),
        lambda x: x.__setitem__(torch.tensor([0, 2]), 1.0),
    ],
)
def test_leaves_are_not_written(write):
    x = leaf()
    with pytest.raises(
        RuntimeError,
        match=r"^a leaf Variable that requires grad is being used in an in-place operation",
    ):
        write(x)
    assert x.tolist() == [1, 2, 3] and x._version == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[:2].mul_(2),
        lambda x: x.view(3, 1)[0].add_(1),
        lambda x: x[0].fill_(3),
        lambda x: x.unsqueeze(0).exp_(),
    ],
)
def test_views_of_leaves_are_not_written(write):
    x = leaf()
    with pytest.raises(
        RuntimeError,
        match=r"^a view of a leaf Variable that requires grad is being used in an in-place",
    ):
        write(x)
    assert x.tolist() == [1, 2, 3]


def test_views_that_are_leaves_themselves():
    base = torch.zeros(3)
    view = base[:2].requires_grad_()
    for write in (lambda: view.add_(1), lambda: view[:1].add_(1)):
        with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
            write()
    (view[:1] * 2).sum().backward()
    assert view.grad.tolist() == [2, 0]
    before = torch.zeros(3)
    early = before[:2]
    before.requires_grad_()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        early.add_(1)


def test_leaves_are_written_around_autograd():
    x = leaf()
    x.detach().add_(1)
    assert x.tolist() == [2, 3, 4] and x._version == 1
    x.data.add_(1)
    assert x.tolist() == [3, 4, 5] and x._version == 1


def test_views_made_in_no_grad_are_not_written_outside():
    for base in (leaf() * 1, leaf()):
        with torch.no_grad():
            view = base[:2]
        with pytest.raises(
            RuntimeError,
            match=r"^A view was created in no_grad mode and is being modified inplace with "
            r"grad mode enabled. Given that this use case is ambiguous",
        ):
            view.add_(1)
        with pytest.raises(
            RuntimeError, match="was created in no_grad mode and is being modified inplace"
        ):
            view[:1].add_(1)
    plain = torch.zeros(3)
    with torch.no_grad():
        view = plain[:2]
    view.add_(1)  # nothing to record
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        view.add_(leaf(1.0, 2.0))


def test_views_made_in_no_grad_are_written_inside():
    x = leaf() * 1
    with torch.no_grad():
        view = x[:2]
        view.add_(1)
    assert x.tolist() == [2, 3, 3] and x.grad_fn.name() == "MulBackward0" and x._version == 1


@pytest.mark.parametrize(
    "split, name",
    [
        (lambda x: x.unbind(), "Unbind"),
        (lambda x: x.split(1), "Split"),
        (lambda x: x.chunk(2), "Split"),
        (lambda x: list(x), "Unbind"),
    ],
)
def test_several_views_at_once_are_not_written(split, name):
    x = matrix() * 1
    parts = split(x)
    with pytest.raises(
        RuntimeError,
        match=f"^Output 1 of {name} is a view and is being modified inplace. This view is "
        "the output of a function that returns multiple views. Such functions do "
        "not allow the output views to be modified inplace",
    ):
        parts[1].add_(1)
    with pytest.raises(RuntimeError, match="the output of a function that returns multiple views"):
        parts[0][0:1].add_(1)
    plain = torch.zeros(2, 3)
    split(plain)[0].add_(1)
    assert plain[0].tolist() == [1, 1, 1]


def test_repeated_elements_are_not_written():
    expanded = torch.ones(1).expand(3)
    for write in (
        lambda: expanded.add_(1),
        lambda: expanded.copy_(torch.ones(3)),
        lambda: (leaf(2.0) * 1).expand(3).mul_(2),
    ):
        with pytest.raises(
            RuntimeError,
            match=r"unsupported operation: more than one element of the written-to tensor "
            r"refers to a single memory location. Please clone",
        ):
            write()
    x = torch.ones(3)
    x.add_(expanded)
    assert x.tolist() == [2, 2, 2]


def test_results_that_do_not_fit():
    with pytest.raises(
        RuntimeError, match=r"output with shape \[3\] doesn't match the broadcast shape \[2, 3\]"
    ):
        torch.ones(3).add_(torch.ones(2, 3))
    with pytest.raises(
        RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(2\)"
    ):
        torch.ones(3).add_(torch.ones(2))
    with pytest.raises(
        RuntimeError, match="result type Float can't be cast to the desired output type Long"
    ):
        torch.tensor([1, 2]).add_(1.5)
    with pytest.raises(
        RuntimeError, match="result type Float can't be cast to the desired output type Long"
    ):
        torch.tensor([1, 2]).div_(2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["neg_", "abs_", "exp_", "sqrt_", "relu_", "tanh_", "reciprocal_"])
def test_elements_far_apart(name, dtype):
    """np.negative(x, out=x) is wrong for some strides (NumPy 2.4)."""
    for step in range(1, 18):
        x = torch.arange(1, 150, dtype=getattr(torch, dtype))
        part, rest = x[::step], x.clone()
        expected = getattr(part.clone(), name)()
        getattr(part, name)()
        assert torch.equal(part, expected)
        rest[::step] = expected
        assert torch.equal(x, rest)


# Versions ----------------------------------------------------------------------------------------


def test_versions_count_writes():
    x = torch.ones(3)
    counts = [x._version]
    for write in (
        lambda: x.add_(1),
        lambda: x.__setitem__(0, 5.0),
        lambda: x.zero_(),
        lambda: x[:2].mul_(2),
        lambda: x.copy_(torch.ones(3)),
    ):
        write()
        counts.append(x._version)
    assert counts == [0, 1, 2, 3, 4, 5]


def test_views_and_detached_tensors_share_versions_and_data_does_not():
    x = torch.ones(4)
    view, detached, data = x[1:], x.detach(), x.data
    view.add_(1)
    detached[0] = 7.0
    assert (
        x._version == view._version == detached._version == detached[:2]._version == 2
        and data._version == 0
    )
    data.add_(1)
    assert x._version == 2 and data._version == 1 and x.tolist() == [8, 3, 3, 3]


def test_a_failed_write_counts_nothing():
    x = torch.ones(3)
    with pytest.raises(RuntimeError):
        x.add_(torch.ones(2))
    assert x._version == 0


@pytest.mark.cpu_only
def test_a_saved_tensor_that_was_written():
    x = leaf()
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    y[0] = 3.0
    with pytest.raises(RuntimeError) as error:
        z.backward()
    text = str(error.value)
    assert text.startswith(
        "one of the variables needed for gradient computation has been modified by an inplace "
        "operation: [torch.FloatTensor [3]], which is output 0 of "
    )
    assert "is at version 2; expected version 0 instead. Hint: " in text


@pytest.mark.cpu_only
def test_a_saved_leaf_or_result_that_was_written():
    w = torch.ones(2, 2, dtype=torch.float64)
    y = (torch.ones(2, 2, dtype=torch.float64, requires_grad=True) * w).sum()
    w.mul_(2)
    with pytest.raises(
        RuntimeError, match=r"\[torch.DoubleTensor \[2, 2\]\] is at version 1; expected version 0"
    ):
        y.backward()
    y = leaf().exp()
    y.add_(1)
    with pytest.raises(
        RuntimeError, match="which is output 0 of Exp, is at version 1; expected version 0 instead"
    ):
        y.sum().backward()


@pytest.mark.parametrize(
    "write", [lambda y: y.detach().add_(1), lambda y: y[2:].add_(1), lambda y: y.view(3, 1).zero_()]
)
def test_writes_through_other_tensors_are_seen(write):
    y = leaf() * 1
    z = (y[:2] * y[:2]).sum()
    write(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_writes_through_data_are_not_seen():
    x = leaf()
    y = x * 1
    z = (y * y).sum()
    y.data.add_(1)
    z.backward()
    assert x.grad.tolist() == [4, 6, 8]


def test_writes_to_what_no_gradient_needs_do_not_matter():
    x, w = leaf(), torch.ones(3)
    h = x * 1
    y = h * w
    h.add_(1)  # d(h * w)/dh needs w alone
    z = x + 1
    z.add_(1)
    (y + z).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_writes_are_seen_at_second_order():
    for power in (lambda h: h**3, lambda h: h * h * h):
        h = leaf() * 1
        (g,) = grad(power(h).sum(), h, create_graph=True)
        h.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            g.sum().backward()


def test_writes_are_seen_under_create_graph():
    x = leaf()
    h = x * 1
    z = (h * h).sum()
    h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(z, x, create_graph=True)


# Histories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write, slope",
    [
        (lambda y: y.add_(1), [1, 1, 1]),
        (lambda y: y.mul_(3), [3, 3, 3]),
        (lambda y: y.exp_(), None),
        (lambda y: y.pow_(2), [2, 4, 6]),
        (lambda y: y.zero_(), [0, 0, 0]),
        (lambda y: y.fill_(3), [0, 0, 0]),
        (lambda y: y.neg_(), [-1, -1, -1]),
        (lambda y: y.div_(2), [0.5, 0.5, 0.5]),
        (lambda y: y.relu_(), [1, 1, 1]),
        (lambda y: y.clamp_(0, 2), [1, 1, 0]),
        (lambda y: y.copy_(torch.ones(3)), [0, 0, 0]),
    ],
)
def test_a_write_to_a_tensor_between(write, slope):
    x = leaf()
    y = x * 1
    assert write(y) is y
    y.sum().backward()
    assert x.grad.tolist() == (slope or y.tolist())


def test_the_new_node_follows_the_old_one():
    x = leaf()
    y = x * 1
    first = y.grad_fn
    y.add_(1)
    assert y.grad_fn.name() == "AddBackward0" and y.grad_fn.next_functions[0][0] is first


def test_operators_in_place_keep_the_object():
    y = z = leaf() * 1
    y += 1
    y *= 2
    y -= 1
    y /= 3
    assert y is z and z.tolist() == [1, pytest.approx(5 / 3), pytest.approx(7 / 3)]


def test_a_tensor_as_its_own_operand():
    x = leaf()
    y = x * 1
    y.add_(y)
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    y = x * 1
    y.mul_(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_write_with_operands_that_require_grad():
    x, w, s = leaf(), leaf(4.0, 5.0, 6.0), torch.tensor(2.0, requires_grad=True)
    y = x * 1
    y.mul_(w)
    y.add_(s)
    (y * y).sum().backward()
    total = [a * b + 2 for a, b in zip((1, 2, 3), (4, 5, 6))]
    assert x.grad.tolist() == [2 * t * b for t, b in zip(total, (4, 5, 6))]
    assert w.grad.tolist() == [2 * t * a for t, a in zip(total, (1, 2, 3))]
    assert s.grad.item() == 2 * sum(total)


def test_a_plain_tensor_becomes_part_of_the_graph():
    w = leaf()
    buffer = torch.zeros(3)
    buffer += w
    buffer *= w
    assert not buffer.is_leaf and buffer.requires_grad
    buffer.sum().backward()
    assert w.grad.tolist() == [2, 4, 6]


def test_dtypes_in_place():
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    y = torch.ones(3)
    y.mul_(w * 2)
    y.sum().backward()
    assert (
        y.dtype is torch.float32 and w.grad.dtype is torch.float64 and w.grad.tolist() == [2, 2, 2]
    )


def test_rows_of_a_fresh_buffer():
    w = leaf()
    buffer = torch.zeros(4, 3)
    for i in range(4):
        buffer[i] = w * i
    (buffer * buffer).sum().backward()
    assert w.grad.tolist() == [28, 56, 84]


def test_views_of_a_fresh_buffer_follow():
    w = leaf()
    buffer = torch.zeros(2, 3)
    early = buffer[0]
    buffer[0] = w
    assert early.requires_grad and grad((early * early).sum(), w)[0].tolist() == [2, 4, 6]


def test_a_write_to_a_view_changes_the_base():
    x = matrix()
    y = x * 1
    view = y[0]
    view.mul_(3)
    assert (
        type(y.grad_fn).__name__ == "CopySlices"
        and y.grad_fn.name() == "torch::autograd::CopySlices"
    )
    assert (
        view.grad_fn.name() == "AsStridedBackward0"
        and view.grad_fn.next_functions[0][0] is y.grad_fn
    )
    assert grad((y * y).sum(), x)[0].tolist() == [[0, 18, 36], [6, 8, 10]]


def test_a_write_to_a_view_of_a_view():
    x = matrix()
    y = x * 1
    view = y[0][1:]
    view.mul_(3)
    view.add_(1)
    assert y.tolist() == [[0, 4, 7], [3, 4, 5]] and view.tolist() == [4, 7]
    assert grad((y * y).sum() + view.sum(), x)[0].tolist() == [[0, 27, 45], [6, 8, 10]]


def test_a_write_to_the_base_changes_earlier_views():
    x = matrix()
    y = x * 1
    view = y[0]
    y.mul_(2)
    assert view.tolist() == [0, 2, 4] and grad(view.sum(), x)[0].tolist() == [[2, 2, 2], [0, 0, 0]]


def test_a_write_to_a_view_changes_other_views():
    x = matrix()
    y = x * 1
    row, flat, column = y[0], y.view(-1), y[:, 1]
    row.mul_(3)
    assert grad((flat * flat).sum() + column.sum(), x)[0].tolist() == [[0, 21, 36], [6, 9, 10]]


@pytest.mark.parametrize(
    "view, slope",
    [
        (lambda y: y.t()[0], [[5, 1, 1], [5, 1, 1]]),
        (lambda y: y[:, ::2], [[5, 1, 5], [5, 1, 5]]),
        (lambda y: y.view(3, 2)[1], [[1, 1, 5], [5, 1, 1]]),
        (lambda y: y.unsqueeze(0)[:, 1], [[1, 1, 1], [5, 5, 5]]),
        (lambda y: y.permute(1, 0)[1:], [[1, 5, 5], [1, 5, 5]]),
        (lambda y: y.flatten()[-1], [[1, 1, 1], [1, 1, 5]]),
        (lambda y: y.diagonal(), [[5, 1, 1], [1, 5, 1]]),
        (lambda y: y.narrow(1, 1, 2), [[1, 5, 5], [1, 5, 5]]),
        (lambda y: y.select(0, 1)[None], [[1, 1, 1], [5, 5, 5]]),
        (lambda y: y[...], [[5, 5, 5], [5, 5, 5]]),
    ],
)
def test_writes_through_every_kind_of_view(view, slope):
    x = matrix()
    y = x * 1
    view(y).mul_(5)
    assert grad(y.sum(), x)[0].tolist() == slope
    assert y.tolist() == [[a * b for a, b in zip(row, k)] for row, k in zip(x.tolist(), slope)]


def test_assignment_by_index():
    x, w, s = matrix(), leaf(7.0), torch.tensor(4.0, requires_grad=True)
    y = x * 1
    y[0, 1] = s
    y[:, 2:] = w
    y[1, :2] = 0.0
    y[0] += 1
    y.sum().backward()
    assert y.tolist() == [[1, 5, 8], [0, 0, 7]]
    assert (
        x.grad.tolist() == [[1, 0, 0], [0, 0, 0]] and w.grad.tolist() == [2] and s.grad.item() == 1
    )


def test_assignment_by_tensors_and_masks():
    x, w = leaf(), leaf(7.0, 8.0)
    y = x * 1
    y[torch.tensor([0, 2])] = w * 2
    y[y > 15] = 0.0
    y.sum().backward()
    assert y.tolist() == [14, 2, 0] and x.grad.tolist() == [0, 1, 0] and w.grad.tolist() == [2, 0]


def test_copies_are_not_views():
    x = matrix()
    y = x * 1
    copy = y.t().reshape(6)
    copy[2] = 7.0
    assert y.tolist() == x.tolist() and y.grad_fn.name() == "MulBackward0"
    same = y.contiguous()
    assert same is y
    clone = x.clone()
    clone[0] = 1.0
    assert grad(clone.sum(), x)[0].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_views_know_their_base():
    x = torch.ones(2, 3)
    view = x[0][1:]
    assert view._base is x and view._is_view() and x._base is None and not x._is_view()
    assert not x.detach()._is_view() and x.detach()._base is None and x.clone()._base is None


def test_a_view_of_a_leaf_follows_writes_in_no_grad():
    x = leaf()
    view = x[:2]
    with torch.no_grad():
        x.add_(1)
    assert view.tolist() == [2, 3] and grad(view.sum(), x)[0].tolist() == [1, 1, 0]


# detach_ -----------------------------------------------------------------------------------------


def test_detach_in_place():
    y = leaf() * 2
    assert y.detach_() is y and not y.requires_grad and y.is_leaf
    with pytest.raises(RuntimeError, match=r"Can't detach views in-place. Use detach\(\) instead"):
        (leaf() * 2)[0].detach_()


# Gradients of every order ------------------------------------------------------------------------


def chain(x, w):
    """Every kind of write after another."""
    a = x * 1
    a.mul_(w)
    a.relu_()
    b = a * 2
    b[0] = w
    b[1:, 1:3].mul_(w[:2])
    b[torch.tensor([2, 0]), torch.tensor([0, 2])] = w[:2] * 3
    row, flat = b[1], b.view(9)
    row.mul_(w)
    b.mul_(0.5)
    buffer = torch.zeros(2, 3, dtype=torch.float64)
    early = buffer[1]
    buffer[1] = w + row
    c = b.t()
    c[1:].exp_()
    return flat * 1, early.exp(), buffer, b, row


def chain_inputs():
    x = torch.tensor(
        [[0.3, 0.7, 0.2], [0.9, 0.4, 0.6], [0.5, 0.8, 0.1]], dtype=torch.float64, requires_grad=True
    )
    w = torch.tensor([0.7, 0.9, 0.4], dtype=torch.float64, requires_grad=True)
    return x, w


def test_gradients_through_writes():
    assert gradcheck(chain, chain_inputs())


def test_second_derivatives_through_writes():
    assert gradgradcheck(chain, chain_inputs())


def test_gradients_through_writes_are_the_same_at_both_levels():
    x, w = chain_inputs()
    totals = [out.sum() for out in chain(x, w)]
    plain = grad(totals, [x, w], retain_graph=True)
    recorded = grad(totals, [x, w], create_graph=True)
    assert [g.tolist() for g in plain] == [g.tolist() for g in recorded]


@pytest.mark.parametrize("write", [
    lambda p: p[:2].exp_(), lambda p: p[:2][1:].sigmoid_(), lambda p: p.view(3, 1).tanh_(),
])
def test_a_saved_result_of_a_written_view_has_its_second_derivative(write):
    def f(x):
        p = x * 1
        part = write(p)
        return p * part.sum()
    x = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    assert gradcheck(f, (x,)) and gradgradcheck(f, (x,))
