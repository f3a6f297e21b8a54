"""The Tensor class itself: requires_grad, grad, data, numpy(), conversions, sizes."""

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest

import gpugrad as torch


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


# requires_grad -----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[1, 2], [True, False]])
def test_only_floating_tensors_require_grad(values):
    x = torch.tensor(values)
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        x.requires_grad_()
    with pytest.raises(
        RuntimeError, match="only Tensors of floating point and complex dtype can require gradients"
    ):
        x.requires_grad = True
    with pytest.raises(
        RuntimeError, match="nly Tensors of floating point and complex dtype can require gradients"
    ):
        torch.tensor(values, requires_grad=True)
    assert x.requires_grad_(False) is x and not x.requires_grad


def test_requires_grad_of_results_is_not_changed():
    y = leaf() * 2
    for change in (lambda: y.requires_grad_(False), lambda: setattr(y, "requires_grad", False)):
        with pytest.raises(
            RuntimeError,
            match=r"you can only change requires_grad flags of leaf variables. If you want "
            r"to use a computed variable in a subgraph that doesn't require "
            r"differentiation use var_no_grad = var.detach().",
        ):
            change()
    assert y.requires_grad_(True) is y


def test_requires_grad_is_a_bool():
    x = torch.ones(2)
    for value in ("yes", 1, None):
        with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
            x.requires_grad = value


def test_requires_grad_off():
    x = leaf()
    x.sum().backward()
    x.requires_grad = False
    assert not (x * 2).requires_grad and x.grad.tolist() == [1, 1, 1]
    with pytest.raises(AttributeError):
        x.is_leaf = True
    with pytest.raises(AttributeError):
        x.grad_fn = None


# grad --------------------------------------------------------------------------------------------


def test_grad_is_assigned():
    x, g = leaf(), torch.ones(3)
    x.grad = g
    assert x.grad is g
    x.grad = None
    assert x.grad is None
    x.grad = g
    del x.grad
    assert x.grad is None
    plain = torch.ones(3)
    plain.grad = g
    assert plain.grad is g


@pytest.mark.parametrize(
    "g, error, text",
    [
        (
            lambda x: torch.ones(2),
            RuntimeError,
            "attempting to assign a gradient of size '\\[2\\]' to a tensor of size "
            "'\\[3\\]'. Please ensure that the gradient and the tensor are the same size",
        ),
        (
            lambda x: torch.ones(3, dtype=torch.float64),
            RuntimeError,
            "attempting to assign a gradient with dtype",
        ),
        (
            lambda x: 3,
            TypeError,
            "assigned grad expected to be a Tensor or None but got grad of type",
        ),
        (lambda x: [1.0, 2.0, 3.0], TypeError, "assigned grad expected to be a Tensor or None"),
        (lambda x: x, RuntimeError, "can't assign Variable as its own grad"),
    ],
)
def test_grads_that_do_not_fit(g, error, text):
    x = leaf()
    with pytest.raises(error, match=text):
        x.grad = g(x)
    assert x.grad is None


def test_looking_for_the_gradient_of_a_result_warns():
    y = leaf() * 2
    with pytest.warns(
        UserWarning,
        match="The .grad attribute of a Tensor that is not a leaf Tensor is being accessed",
    ):
        assert y.grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y.retain_grad()
        assert y.grad is None and leaf().grad is None and torch.ones(2).grad is None


# data and detach ---------------------------------------------------------------------------------


def test_data_is_replaced():
    x = leaf()
    x.data = torch.ones(2, 2) * 7
    assert x.tolist() == [[7, 7], [7, 7]] and x.requires_grad and x.is_leaf and x._version == 0
    x.data = torch.ones(3, dtype=torch.float64)
    assert x.dtype is torch.float64
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2] and x.grad.dtype is torch.float64


def test_data_that_does_not_fit():
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got list"):
        leaf().data = [1, 2]
    with pytest.raises(
        RuntimeError,
        match="data set to a tensor that requires gradients must be floating point or "
        "complex dtype",
    ):
        leaf().data = torch.ones(3, dtype=torch.int64)
    plain = torch.ones(3)
    plain.data = torch.ones(3, dtype=torch.int64)
    assert plain.dtype is torch.int64


def test_data_and_detach_share_memory():
    x = leaf() * 2
    for y in (x.data, x.detach()):
        assert (
            not y.requires_grad and y.is_leaf and y.grad_fn is None and y.data_ptr() == x.data_ptr()
        )


# NumPy -------------------------------------------------------------------------------------------


def test_numpy_shares_memory():
    x = torch.ones(3)
    a = x.numpy()
    a[0] = 5
    assert x.tolist() == [5, 1, 1] and a.dtype == np.float32


@pytest.mark.parametrize("make", [leaf, lambda: leaf() * 2])
def test_numpy_of_what_requires_grad(make):
    with pytest.raises(
        RuntimeError,
        match=r"Can't call numpy\(\) on Tensor that requires grad. Use "
        r"tensor.detach\(\).numpy\(\) instead.",
    ):
        make().numpy()
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\)"):
        np.asarray(make())
    assert make().numpy(force=True).tolist() == make().tolist()


def test_numpy_reads_tensors():
    x = torch.ones(3)
    assert np.asarray(x).tolist() == [1, 1, 1] and np.asarray(x, np.float64).dtype == np.float64
    a = np.array(x)
    a[0] = 5
    assert x.tolist() == [1, 1, 1]


# Numbers -----------------------------------------------------------------------------------------


def test_item_and_tolist():
    assert (
        torch.tensor(2.5).item() == 2.5
        and torch.tensor([[3]]).item() == 3
        and leaf(2.0).item() == 2
    )
    assert [type(torch.tensor(v).item()) for v in (2.5, 3, True)] == [float, int, bool]
    assert torch.ones(2, 2).tolist() == [[1, 1], [1, 1]] and torch.tensor(3).tolist() == 3
    for n in (0, 3):
        with pytest.raises(
            RuntimeError, match=f"a Tensor with {n} elements cannot be converted to Scalar"
        ):
            torch.ones(n).item()


def test_bool():
    assert not torch.tensor(0.0) and torch.tensor([2]) and not torch.tensor([[False]])
    with pytest.raises(
        RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"
    ):
        bool(torch.ones(2))
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with no values is ambiguous"):
        bool(torch.ones(0))


def test_float_int_complex():
    assert (
        float(torch.tensor(2.5)) == 2.5
        and int(torch.tensor(2.7)) == 2
        and float(torch.tensor([3])) == 3
    )
    assert complex(torch.tensor(2.0)) == 2 and int(leaf(2.0)) == 2
    for convert in (float, int, complex):
        with pytest.raises(
            ValueError, match="only one element tensors can be converted to Python scalars"
        ):
            convert(torch.ones(2))


def test_index():
    assert [10, 20, 30][torch.tensor(1)] == 20 and list(range(torch.tensor(3))) == [0, 1, 2]
    assert [1, 2][torch.tensor([1])] == 2 and [1, 2][torch.tensor(True)] == 2
    for bad in (torch.tensor(1.0), torch.tensor([1, 0])):
        with pytest.raises(
            TypeError, match="only integer tensors of a single element can be converted to an index"
        ):
            _ = [1, 2][bad]


def test_len_and_iteration():
    assert len(torch.ones(3, 2)) == 3 and len(torch.ones(0)) == 0
    assert [v.item() for v in torch.arange(3)] == [0, 1, 2] and [
        v.tolist() for v in torch.ones(2, 2)
    ] == [[1, 1]] * 2
    a, _, _ = leaf()
    assert a.grad_fn.name() == "UnbindBackward0"
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d tensor"):
        len(torch.tensor(1.0))
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(torch.tensor(1.0))


def test_hash_is_identity():
    x = torch.ones(2)
    assert hash(x) == id(x) and len({x, x, torch.ones(2)}) == 2


def test_format():
    assert f"{torch.tensor(2.5):.3f}" == "2.500" and f"{torch.tensor(3):d}" == "3"
    assert f"{torch.tensor(2.5, requires_grad=True):.2f}" == "2.50"
    assert f"{torch.ones(2)}" == "tensor([1., 1.])"
    with pytest.raises(TypeError):
        f"{torch.ones(2):.3f}"


# Shape and memory --------------------------------------------------------------------------------


def test_size_is_a_tuple_with_a_name():
    x = torch.ones(2, 3)
    assert (
        repr(x.shape) == "torch.Size([2, 3])" == repr(x.size())
        and x.shape == (2, 3)
        and isinstance(x.shape, tuple)
    )
    assert x.size(0) == 2 and x.size(-1) == 3 and x.size(dim=1) == 3 and x.shape.numel() == 6
    rows, columns = x.shape
    assert (rows, columns) == (2, 3) and type(x.shape[0]) is int and hash(x.shape) == hash((2, 3))
    assert (
        repr(x.shape[1:]) == "torch.Size([3])" and repr(x.shape + (1,)) == "torch.Size([2, 3, 1])"
    )
    assert (
        repr(torch.Size([2]) + torch.Size([3])) == "torch.Size([2, 3])"
        and repr(x.shape * 2) == "torch.Size([2, 3, 2, 3])"
    )
    assert torch.Size([]).numel() == 1 and repr((1, *x.shape)) == "(1, 2, 3)"
    for dim in (2, -3):
        with pytest.raises(
            IndexError,
            match=f"Dimension out of range .expected to be in range of .-2, 1., but got {dim}",
        ):
            x.size(dim)
    with pytest.raises(IndexError, match="Dimension specified as 0 but tensor has no dimensions"):
        torch.tensor(1.0).size(0)


def test_strides_and_offsets():
    x = torch.ones(4, 3)
    assert (
        x.stride() == (3, 1) and x.t().stride() == (1, 3) and x.stride(0) == 3 and x.stride(-1) == 1
    )
    assert torch.ones(1).expand(3).stride() == (0,) and torch.tensor(1.0).stride() == ()
    assert x.storage_offset() == 0 and x[1].storage_offset() == 3 and x[1:, 2].storage_offset() == 5
    assert x.is_contiguous() and not x.t().is_contiguous() and not x[:, 0].is_contiguous()
    with pytest.raises(IndexError, match="Dimension out of range"):
        x.stride(2)


def test_metadata():
    x = torch.ones(2, 3)
    assert (x.numel(), x.nelement(), x.dim(), x.ndim, x.ndimension()) == (6, 6, 2, 2, 2)
    assert (x.element_size(), x.itemsize, x.nbytes) == (4, 4, 24)
    assert (
        x.is_floating_point()
        and x.is_signed()
        and not x.is_complex()
        and not x.is_cuda
        and x.is_cpu
    )
    assert not (x.is_sparse or x.is_quantized or x.is_meta) and x.get_device() == -1
    assert not any(getattr(x, f"is_{kind}") for kind in (
        "ipu", "maia", "mkldnn", "mps", "mtia", "nested", "sparse_csr", "vulkan", "xla", "xpu"))
    assert str(x.device) == "cpu" and x.device == torch.device("cpu") and x.dtype is torch.float32


def test_the_legacy_constructor():
    assert torch.Tensor([1, 2]).tolist() == [1, 2] and torch.Tensor([1, 2]).dtype is torch.float32
    assert (
        torch.Tensor(2, 3).shape == (2, 3)
        and torch.Tensor().shape == (0,)
        and torch.Tensor(torch.Size([2])).shape == (2,)
    )
    assert (
        torch.Tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
        and torch.Tensor(np.ones(2)).dtype is torch.float32
    )
    x = torch.ones(2)
    y = torch.Tensor(x)
    assert y is not x and y.data_ptr() == x.data_ptr()
    for bad in (2.5, "text"):
        with pytest.raises(TypeError, match=r"new\(\): "):
            torch.Tensor(bad)


def test_attributes_and_references():
    x = torch.ones(2)
    x.note = "mine"
    assert x.note == "mine" and weakref.ref(x)() is x
    with pytest.raises(AttributeError):
        _ = x.missing
    with pytest.raises(AttributeError):
        x.shape = (1, 2)


def test_tensors_die_by_reference_count():
    gc.disable()
    try:
        x = torch.ones(3)
        ref = weakref.ref(x.view(3, 1)), weakref.ref(x)
        del x
        assert ref[0]() is None and ref[1]() is None
    finally:
        gc.enable()
