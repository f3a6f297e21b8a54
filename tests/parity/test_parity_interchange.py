"""Memory shared with PyTorch, both ways, and what crosses as it does between its own tensors."""
from __future__ import annotations

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gpugrad  # noqa: E402

DTYPES = ("bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 "
          "float64 complex64 complex128").split()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.t(), lambda x: x[:, ::2],
                                  lambda x: x[0, 1], lambda x: x[:0]], ids=range(5))
def test_zero_copies(dtype, view):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    numbers = [[0, 1, 2], [3, 4, 5]]
    ours = view(gpugrad.tensor(numbers).to(getattr(gpugrad, dtype)))
    theirs = view(torch.tensor(numbers).to(getattr(torch, dtype)))
    for there, back, x, y in ((torch.from_dlpack, gpugrad.from_dlpack, ours, theirs),
                              (gpugrad.from_dlpack, torch.from_dlpack, theirs, ours)):
        t = there(x)
        assert str(t.dtype) == str(x.dtype) and t.tolist() == x.tolist() == y.tolist()
        assert tuple(t.shape) == tuple(x.shape)
        if t.numel():
            assert t.data_ptr() == x.data_ptr() == back(t).data_ptr()
            assert tuple(t.stride()) == tuple(x.stride())
    if ours.numel():
        capsule = torch.utils.dlpack.to_dlpack(theirs)
        assert gpugrad.from_dlpack(capsule).data_ptr() == theirs.data_ptr()
        capsule = gpugrad.utils.dlpack.to_dlpack(ours)
        assert torch.from_dlpack(capsule).data_ptr() == ours.data_ptr()


def test_writes_are_seen():
    ours, theirs = gpugrad.zeros(3), torch.zeros(3)
    torch.from_dlpack(ours)[0] = 5
    gpugrad.from_dlpack(theirs)[1] = 6
    np.from_dlpack(ours)[2] = 7
    assert ours.tolist() == [5, 0, 7] and theirs.tolist() == [0, 6, 0]


@pytest.mark.parametrize("ask", [
    lambda t: t.ones(2, requires_grad=True).__dlpack__(), lambda t: t.ones(2).__dlpack__(stream=1),
    lambda t: t.from_dlpack(t.ones(2, requires_grad=True)), lambda t: t.from_dlpack(3),
    lambda t: t.ones(2).__cuda_array_interface__])
def test_refusals(ask):
    kinds = []
    for t in (torch, gpugrad):
        with pytest.raises(Exception) as caught:
            ask(t)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1] or issubclass(kinds[1], kinds[0])


def test_the_device_of_a_capsule():
    assert tuple(gpugrad.ones(1).__dlpack_device__()) == tuple(torch.ones(1).__dlpack_device__())


def test_arguments_of_onnx_export():
    """Each argument of PyTorch's export is known, and has the same default where it has a name."""
    theirs = inspect.signature(torch.onnx.export).parameters
    ours = inspect.signature(gpugrad.onnx.export).parameters
    for name, p in theirs.items():
        assert name in ours or name in gpugrad.onnx._WITHOUT_EFFECT, name
        if name in ours and name != "training":
            assert ours[name].default == p.default and ours[name].kind == p.kind, name
    assert [m.name for m in gpugrad.onnx.TrainingMode] == ["EVAL", "PRESERVE", "TRAINING"]
