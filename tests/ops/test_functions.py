"""The torch namespace and Tensor methods: indexing, views, promotion, numbers and errors."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad as torch

pytestmark = pytest.mark.usefixtures("on_each_device")


def seq(*shape: int, dtype: Any = None, requires_grad: bool = False) -> torch.Tensor:
    """0., 1., 2., ... in a shape."""
    x = torch.arange(math.prod(shape), dtype=dtype or torch.float32).reshape(shape).clone()
    return x.requires_grad_(requires_grad)


# Reading with brackets ---------------------------------------------------------------------------

@pytest.mark.parametrize("key, want", [
    (1, [4, 5, 6, 7]), (-1, [8, 9, 10, 11]), ((1, 2), 6), ((slice(None), 1), [1, 5, 9]),
    ((Ellipsis, -1), [3, 7, 11]), (slice(1, None), [[4, 5, 6, 7], [8, 9, 10, 11]]),
    ((slice(None, None, 2), slice(1, 3)), [[1, 2], [9, 10]]), ((0, None), [[0, 1, 2, 3]]),
    ([0, 2], [[0, 1, 2, 3], [8, 9, 10, 11]]), (([0, 2], [1, -1]), [1, 11]),
    ((slice(None), [3, 0]), [[3, 0], [7, 4], [11, 8]]), (([[0], [2]], [1, 2]), [[1, 2], [9, 10]]),
    ([True, False, True], [[0, 1, 2, 3], [8, 9, 10, 11]]),
    (np.array([2, 0]), [[8, 9, 10, 11], [0, 1, 2, 3]]),
    ((np.int64(1), 0), 4), (range(1), [[0, 1, 2, 3]])])
def test_keys(key: Any, want: Any) -> None:
    assert seq(3, 4)[key].tolist() == want


def test_index_tensors_and_masks() -> None:
    x = seq(3, 4)
    assert x[torch.tensor([2, 0]), 1].tolist() == [9, 1]
    assert x[x > 8].tolist() == [9, 10, 11]
    assert x[torch.tensor([True, False, True]), :2].tolist() == [[0, 1], [8, 9]]
    assert x[torch.tensor(1)].tolist() == [4, 5, 6, 7]
    assert x[torch.tensor(True)].shape == (1, 3, 4) and x[torch.tensor(False)].shape == (0, 3, 4)
    assert x[:, None, torch.tensor([1, 1])].shape == (3, 1, 2)
    assert seq(2, 3, 4)[torch.tensor([0, 1]), :, torch.tensor([1, 2])].shape == (2, 3)
    assert x[[]].shape == (0, 4)


def test_a_view_or_a_copy() -> None:
    x = seq(3, 4)
    for view in (x[1], x[:, 1:], x[None], x[...], x[0, 1], x[:]):
        assert view._base is x
    for copy in (x[[0]], x[torch.tensor([0])], x[x > 0]):
        assert copy._base is None


def test_deprecated_keys_warn_as_in_pytorch() -> None:
    x = seq(3, 4)
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        assert x[[[0, 1], [1, 2]]].tolist() == [1, 6]
    with pytest.warns(UserWarning, match=r"torch\.uint8 is now deprecated"):
        assert x[torch.tensor([0, 1, 0], dtype=torch.uint8)].tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize("key, error, text", [
    (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    ((0, -5), IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    ((0, 0, 0), IndexError, "too many indices for tensor of dimension 2"),
    ([0, 3], IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    (([0, 1], [0, 1, 2]), IndexError, "could not be broadcast together with shapes [2], [3]"),
    ([True, False], IndexError, "The shape of the mask [2] at index 0 does not match"),
    (1.0, IndexError, "only integers, slices"),
    (slice(None, None, -1), ValueError, "step must be greater than zero"),
    (torch.tensor([0.5]), IndexError, "tensors used as indices must be long, int, byte or bool"),
    ((Ellipsis, Ellipsis, 0), IndexError, "single ellipsis")])
@pytest.mark.cpu_only
def test_bad_keys(key: Any, error: type[Exception], text: str) -> None:
    for use in (lambda x: x[key], lambda x: x.__setitem__(key, 0)):
        with pytest.raises(error) as raised:
            use(seq(3, 4))
        assert text in str(raised.value)


# Writing with brackets ---------------------------------------------------------------------------

def test_writes() -> None:
    x = torch.zeros(2, 3)
    x[0] = 1
    x[:, 2] = torch.tensor([5.0, 6.0])
    x[1, [0, 1]] = torch.tensor([7, 8.0])
    x[x == 1] = -1
    assert x.tolist() == [[-1, -1, 5], [7, 8, 6]]
    x[:] = torch.tensor([1, 2, 3])               # other dtypes are converted
    assert x.tolist() == [[1, 2, 3], [1, 2, 3]]
    x[0][1] = 9
    assert x[0, 1].item() == 9
    x[...] = 0
    x[torch.tensor([0, 0])] = 4
    assert x.tolist() == [[4, 4, 4], [0, 0, 0]]


def test_a_write_has_a_gradient() -> None:
    x, v = seq(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    y = x * 1
    y[0] = v * 2
    y[:, 1] *= 3
    (y * seq(2, 3)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0, 0, 0], [3, 12, 5]]
    assert v.grad is not None and v.grad.tolist() == [0, 6, 4]


@pytest.mark.parametrize("key, value, error, text", [
    (0, torch.ones(2), RuntimeError, "(3) must match the existing size (2)"),
    (0, torch.ones(2, 3), RuntimeError, "the number of sizes provided (1) must be greater or"),
    ([0, 1], torch.ones(2), RuntimeError, "cannot be broadcast to indexing result of shape [2, 3]"),
    ([0], torch.arange(3), RuntimeError, "Index put requires the source and destination dtypes"),
    (0, [1, 2, 3], TypeError, "can't assign a list to a torch.FloatTensor"),
    (0, "a", TypeError, "can't assign a str")])
@pytest.mark.cpu_only
def test_bad_writes_leave_the_tensor_alone(key: Any, value: Any, error: type[Exception],
                                           text: str) -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(error) as raised:
        x[key] = value
    assert text in str(raised.value) and not x.any()


def test_writes_into_leaves() -> None:
    x = seq(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[0] = 1
    with torch.no_grad():
        x[0] = 1
    assert x.tolist() == [1, 1]


# Views -------------------------------------------------------------------------------------------

def test_views_share_memory() -> None:
    x = seq(2, 3)
    views = [x.view(6), x.reshape(3, 2), x.t(), x.T, x.permute(1, 0), x.unsqueeze(0),
             x[None].squeeze(0),
             x.flatten(), x.expand(2, 2, 3), x.narrow(1, 0, 2), x.diagonal(), x.unbind()[0],
             x.split(1)[0],
             x.chunk(2, 1)[0], x.detach(), x.view_as(x)]
    x[0, 0] = 42
    for v in views:
        assert v.reshape(-1)[0].item() == 42


def test_reshape_copies_only_where_it_must() -> None:
    x = seq(2, 3)
    assert x.reshape(3, 2)._base is x and x.t().reshape(3, 1, 2)._base is x
    assert x.t().reshape(6)._base is not x
    assert x.t().reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert x.contiguous() is x and x.t().contiguous() is not x
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.t().view(6)


def test_inferred_sizes() -> None:
    x = seq(2, 6)
    assert x.view(-1, 3).shape == (4, 3) and x.reshape(-1).shape == (12,)
    assert x.unflatten(1, (2, -1)).shape == (2, 2, 3)
    for sizes, text in (((-1, 5), "shape '[-1, 5]' is invalid for input of size 12"),
                        ((-1, -1), "only one dimension can be inferred"),
                        ((5,), "shape '[5]' is invalid for input of size 12"),
                        ((-2, 6), "invalid shape dimension -2")):
        with pytest.raises(RuntimeError) as raised:
            x.view(*sizes)
        assert text in str(raised.value)
    with pytest.raises(RuntimeError, match="ambiguous"):
        torch.empty(0, 3).reshape(0, -1)


def test_clones_keep_the_order_of_the_dims() -> None:
    x = seq(2, 3, 4).permute(2, 0, 1)
    assert x.clone().stride() == x.stride() and x.contiguous().stride() == (6, 3, 1)
    assert seq(3, 1).expand(3, 4).clone().is_contiguous()
    images = seq(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert images.stride() == images.clone().stride() == (60, 1, 15, 3)


def test_joins() -> None:
    x, empty = seq(2, 2), torch.empty(0)
    assert torch.cat([x, empty, x]).shape == (4, 2)
    assert torch.cat([x, torch.tensor([[1, 2]])]).dtype is torch.float32
    assert torch.cat([x, x], axis=1).shape == (2, 4)
    assert torch.stack([x, x], -1).shape == (2, 2, 2)
    assert [t.tolist() for t in torch.arange(5).split(2)] == [[0, 1], [2, 3], [4]]
    assert [len(t) for t in torch.arange(7).chunk(3)] == [3, 3, 1]
    for wrong, error in (([], ValueError), ([x, seq(2)], RuntimeError),
                         ([x, seq(3, 3)], RuntimeError), (x, TypeError)):
        with pytest.raises(error):
            torch.cat(wrong)


# Numbers -----------------------------------------------------------------------------------------

def test_promotion() -> None:
    names = ("int64", "float32", "float64", "bool", "uint8", "int8")
    i, f, d, b, u, s = (torch.ones(2, dtype=getattr(torch, n)) for n in names)
    for got, want in (
            (i + f, "float32"), (f + d, "float64"), (b + b, "bool"), (i + 1.5, "float32"),
            (f + d[0], "float32"), (i / 2, "float32"), (i // 2, "int64"), (b + 1, "int64"),
            (u + s, "int16"), (i.sum(), "int64"), (b.sum(), "int64"), (f.half().mean(), "float16")):
        assert got.dtype is getattr(torch, want)
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output "
                                           "type Long"):
        i += 0.5
    f += d
    assert f.dtype is torch.float32


def test_division_and_remainder_have_python_signs() -> None:
    a = torch.tensor([7, -7, 7, -7])
    b = torch.tensor([2, 2, -2, -2])
    pairs = list(zip(a.tolist(), b.tolist()))
    assert (a // b).tolist() == [x // y for x, y in pairs]
    assert (a % b).tolist() == [x % y for x, y in pairs]
    assert torch.fmod(a, b).tolist() == [1, -1, 1, -1]
    assert torch.div(a, b, rounding_mode="trunc").tolist() == [3, -3, -3, 3]
    for f in (lambda: a // 0, lambda: a % 0, lambda: torch.fmod(a, 0),
              lambda: a.div(0, rounding_mode="floor")):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            f()


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_powers() -> None:
    assert (torch.zeros(1) ** 0).item() == 1
    assert (torch.tensor([-2.0]) ** 3).item() == -8 and (torch.tensor([-2.0]) ** 0.5).isnan().all()
    assert (torch.tensor([2, 1, -1]) ** torch.tensor([-1, -2, -3])).tolist() == [0, 1, -1]
    assert (2 ** torch.tensor([3, -1])).tolist() == [8, 0]
    with pytest.raises(RuntimeError, match="Integers to negative integer powers"):
        torch.tensor([2]) ** -1
    x = torch.zeros(1, requires_grad=True)
    (x ** 0).backward()
    assert x.grad is not None and x.grad.item() == 0


@pytest.mark.cpu_only
def test_extremes_and_their_ties() -> None:
    x = torch.tensor([[1.0, 3, 3], [2, 2, 0]], requires_grad=True)
    values, indices = x.max(1)
    assert values.tolist() == [3, 2] and indices.tolist() == [1, 0]
    assert repr(x.detach().max(dim=1)) == (
        "torch.return_types.max(\nvalues=tensor([3., 2.]),\nindices=tensor([1, 0]))")
    losses = x.max(1).values.sum(), x.amax(1).sum(), x.max()
    grads = [torch.autograd.grad(loss, x)[0].tolist() for loss in losses]
    assert grads[0] == [[0, 1, 0], [1, 0, 0]] and grads[1] == [[0, 0.5, 0.5], [0.5, 0.5, 0]]
    assert grads[2] == [[0, 0.5, 0.5], [0, 0, 0]]
    nan = torch.tensor([1, math.nan, 3])
    assert nan.max().isnan() and nan.argmax().item() == 1
    for f in (torch.max, torch.amax, torch.argmin):
        with pytest.raises((RuntimeError, IndexError), match="Expected reduction dim"):
            f(torch.empty(0, 3))


def test_where_and_clamp() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    assert torch.where(x > 0, x, 0).dtype is torch.float32
    assert torch.where(x > 0, 1, 2).dtype is torch.int64
    assert x.where(x > 0, -5).tolist() == [-5, 0.5, 2]
    x.clamp(torch.tensor(0.0), torch.tensor(1.0)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 0]
    with pytest.raises(RuntimeError, match="At least one of 'min' or 'max'"):
        x.clamp()
    with pytest.raises(TypeError, match="both be numbers or both be tensors"):
        x.clamp(0, torch.tensor(1.0))


@pytest.mark.parametrize("f, text", [
    (lambda x: x.fill_(300), "uint8_t"), (lambda x: x.clamp(max=300), "uint8_t"),
    (lambda x: x.masked_fill(x > 0, 300), "uint8_t"), (lambda x: x.__setitem__(0, 300), "uint8_t"),
    (lambda x: x.int().fill_(math.inf), "int"), (lambda x: x.float().fill_(1e300), "float")])
def test_numbers_that_a_dtype_does_not_hold(f: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=f"value cannot be converted to type {text} without "
                                           "overflow"):
        f(torch.ones(2, dtype=torch.uint8))


def test_integers_have_no_history() -> None:
    x = torch.ones(2, requires_grad=True)
    for y in (x.long(), x.bool(), x.to(torch.int32), x.sum(dtype=torch.int64), x > 0, x.argmax()):
        assert not y.requires_grad and y.grad_fn is None
    target = torch.zeros(2, dtype=torch.int64)
    target.copy_(x)
    assert not target.requires_grad


def test_reductions() -> None:
    x = seq(2, 3)
    assert x.sum(axis=0, keepdims=True).tolist() == [[3, 5, 7]]
    assert x.var(1).tolist() == [1, 1]
    assert x.var(1, unbiased=False)[0].item() == pytest.approx(2 / 3)
    assert x.std(0, correction=0).tolist() == [1.5, 1.5, 1.5]
    assert torch.empty(0).sum().item() == 0 and torch.empty(0).prod().item() == 1
    assert torch.logsumexp(torch.empty(0, 2), 0).tolist() == [-math.inf, -math.inf]
    assert x.norm(p=math.inf).item() == 5 and x.norm(0).item() == 5
    assert x.norm(1, dim=1).tolist() == [3, 12]
    y = torch.zeros(3, requires_grad=True)
    y.norm(3).backward()
    assert y.grad is not None and y.grad.tolist() == [0, 0, 0]
    z = torch.tensor([0.0, 2.0, 3.0, 4.0], requires_grad=True)
    z.prod().backward()
    assert z.grad is not None and z.grad.tolist() == [24, 0, 0, 0]


# Wrong arguments ---------------------------------------------------------------------------------

X = torch.ones(2, 3)
SIZES = "The size of tensor a (3) must match the size of tensor b (2) at non-singleton dimension 1"


@pytest.mark.parametrize("f, error, text", [
    (lambda: X + torch.ones(2), RuntimeError, SIZES),
    (lambda: X.clone().mul_(torch.ones(2)), RuntimeError, SIZES),
    (lambda: torch.where(X > 0, X, torch.ones(2)), RuntimeError, SIZES),
    (lambda: X + "a", TypeError, "unsupported operand"),
    (lambda: X.add("a"), TypeError, "'other' (position 2) must be Tensor, not str"),
    (lambda: X.clone().mul_(None), TypeError, "'other' (position 1) must be Tensor, not NoneType"),
    (lambda: torch.eq(X, None), TypeError, "'other' (position 2) must be Tensor, not NoneType"),
    (lambda: torch.matmul(X, [1]), TypeError, "'other' (position 2) must be Tensor, not list"),
    (lambda: torch.sum([1.0]), TypeError, "'input' (position 1) must be Tensor, not list"),
    (lambda: torch.gather(X, 0, [0]), TypeError, "'index' (position 3) must be Tensor, not list"),
    (lambda: X @ X, RuntimeError, "shapes cannot be multiplied (2x3 and 2x3)"),
    (lambda: X @ torch.ones(2), RuntimeError, "size mismatch"),
    (lambda: X @ torch.ones(3, 2).double(), RuntimeError, "but got Float and Double"),
    (lambda: X.sum(2), IndexError, "(expected to be in range of [-2, 1], but got 2)"),
    (lambda: X.sum((0, 0)), RuntimeError, "dim 0 appears multiple times in the list of dims"),
    (lambda: X.sum("a"), TypeError, "must be tuple of ints"),
    (lambda: X.reshape("a"), TypeError, "must be tuple of ints"),
    (lambda: X.long().mean(), RuntimeError, "could not infer output dtype"),
    (lambda: X.expand(3, 3), RuntimeError, "(3) must match the existing size (2)"),
    (lambda: X.transpose(0, 2), IndexError, "Dimension out of range"),
    (lambda: X.permute(0, 0), RuntimeError, "duplicate dims are not allowed"),
    (lambda: torch.stack([X, X.T]), RuntimeError, "stack expects each tensor to be equal size"),
    (lambda: -(X > 0), RuntimeError, "Negation, the `-` operator, on a bool tensor"),
    (lambda: 1 - (X > 0), RuntimeError, "Subtraction, the `-` operator, with a bool tensor"),
    (lambda: X.gather(0, torch.tensor([[5]])), RuntimeError, "index 5 is out of bounds"),
    (lambda: X.clone().copy_(torch.ones(4, 2, 3)), RuntimeError, "the broadcast shape [4, 2, 3]"),
    (lambda: X.masked_fill(X, 0), RuntimeError, "only supports boolean masks"),
    (lambda: None in X, RuntimeError, "only supports Tensor or scalar")])
@pytest.mark.cpu_only
def test_errors(f: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        f()
    assert text in str(raised.value)


def test_getting_an_element_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seq(3)[1:][0].item() == 1
