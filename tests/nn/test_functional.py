"""nn.functional: what it returns beyond the layers, and what it says about bad input."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F

pytestmark = pytest.mark.usefixtures("on_each_device")


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


IMAGE, KERNEL = ones(1, 3, 32, 32), ones(6, 3, 3, 3)
CLASSES = ones(4, dtype=torch.int64)

# call, error, text
BAD = [
    (lambda: F.linear(ones(1, 5), ones(3, 4), ones(3)), RuntimeError,
     "mat1 and mat2 shapes cannot be multiplied (1x5 and 4x3)"),
    (lambda: F.bilinear(ones(5, 3), ones(5, 4), ones(2, 3, 5)), RuntimeError,
     "bilinear(): inputs of size [5, 3] and [5, 4] don't fit a weight of size [2, 3, 5]"),
    (lambda: F.conv2d(IMAGE, ones(6, 1, 3, 3)), RuntimeError,
     "Given groups=1, weight of size [6, 1, 3, 3], expected input[1, 3, 32, 32] to have 1 "
     "channels, but got 3 channels instead"),
    (lambda: F.conv2d(ones(2, 2), KERNEL), RuntimeError,
     "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [2, 2]"),
    (lambda: F.conv2d(IMAGE, ones(6, 3, 3)), RuntimeError,
     "Expected 4D weight for conv2d, but got weight of size: [6, 3, 3]"),
    (lambda: F.conv2d(ones(1, 3, 2, 2), KERNEL), RuntimeError,
     "Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3). Kernel size can't "
     "be greater than actual input size"),
    (lambda: F.conv2d(IMAGE, KERNEL, ones(5)), RuntimeError,
     "Given weight of size [6, 3, 3, 3], expected bias to be 1-dimensional with 6 elements, but "
     "got bias of size [5] instead"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=0), RuntimeError, "non-positive stride"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=1.5), TypeError, "stride must be an int"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=(1, 1, 1)), RuntimeError,
     "expected stride to be a single integer value or a list of 2 values to match the convolution "
     "dimensions, but got stride=[1, 1, 1]"),
    (lambda: F.conv2d(IMAGE, KERNEL, padding=-1), RuntimeError, "negative padding"),
    (lambda: F.conv2d(IMAGE, KERNEL, padding="foo"), RuntimeError, "Invalid padding string: 'foo'"),
    (lambda: F.conv2d(IMAGE, KERNEL, padding="same", stride=2), RuntimeError,
     "padding='same' is not supported for strided convolutions"),
    (lambda: F.conv2d(IMAGE, KERNEL.double()), RuntimeError,
     "Input type (torch.FloatTensor) and weight type (torch.DoubleTensor) should be the same"),
    (lambda: F.conv1d(ones(1, 2, 8), ones(6, 3, 4)), RuntimeError,
     "expected input[1, 2, 8] to have 3 channels, but got 2 channels instead"),
    (lambda: F.max_pool2d(IMAGE, 2, 2, 2), RuntimeError,
     "pad should be at most half of effective kernel size, but got pad=2, kernel_size=2 and "
     "dilation=1"),
    (lambda: F.max_pool2d(ones(1, 3, 1, 1), 2), RuntimeError,
     "Given input size: (3x1x1). Calculated output size: (3x0x0). Output size is too small"),
    (lambda: F.max_pool2d(IMAGE, (2, 2, 2)), RuntimeError,
     "max_pool2d: kernel_size must either be a single int, or a tuple of two ints"),
    (lambda: F.max_pool2d(ones(2, 2), 2), RuntimeError, "but got input of size: [2, 2]"),
    (lambda: F.max_pool2d(IMAGE, 0, 1), RuntimeError, "kernel size should be greater than zero"),
    (lambda: F.avg_pool2d(IMAGE, 2, divisor_override=0), RuntimeError, "divisor must be not zero"),
    (lambda: F.adaptive_avg_pool2d(ones(2, 2), 2), RuntimeError,
     "adaptive_avg_pool2d(): Expected 3D or 4D tensor, but got [2, 2]"),
    (lambda: F.dropout(IMAGE, 1.5), ValueError,
     "dropout probability has to be between 0 and 1, but got 1.5"),
    (lambda: F.batch_norm(ones(2, 3), None, None), RuntimeError,
     "running_mean must be defined in evaluation mode"),
    (lambda: F.batch_norm(ones(2, 4), ones(3), ones(3)), RuntimeError,
     "running_mean should contain 4 elements not 3"),
    (lambda: F.layer_norm(ones(4, 3), (4,)), RuntimeError,
     "Given normalized_shape=[4], expected input with shape [*, 4], but got input of size[4, 3]"),
    (lambda: F.nll_loss(ones(4, 3), CLASSES[:3]), ValueError,
     "Expected input batch_size (4) to match target batch_size (3)."),
    (lambda: F.nll_loss(ones(4, 3), ones(4)), RuntimeError,
     "expected target dtype to be Long or Byte, but got Float: convert it by target.long()"),
    (lambda: F.cross_entropy(ones(4, 3), CLASSES * 3), IndexError, "Target 3 is out of bounds."),
    (lambda: F.cross_entropy(ones(4, 3), CLASSES - 3), IndexError, "Target -2 is out of bounds."),
    (lambda: F.cross_entropy(ones(4, 3), CLASSES, ones(4)), RuntimeError,
     "weight tensor should be defined either for all 3 classes or no classes but got weight tensor "
     "of shape: [4]"),
    (lambda: F.cross_entropy(ones(4, 3), CLASSES, reduction="foo"), ValueError,
     "foo is not a valid value for reduction"),
    (lambda: F.cross_entropy(ones(4, 3), CLASSES, label_smoothing=2.0), RuntimeError,
     "label_smoothing must be between 0.0 and 1.0. Got: 2"),
    (lambda: F.cross_entropy(ones(4, 3), ones(4, 3, dtype=torch.int64)), RuntimeError,
     "Expected floating point type for target with class probabilities, got Long"),
    (lambda: F.cross_entropy(ones(2, 3, 4), ones(2, 5, dtype=torch.int64)), RuntimeError,
     "Expected target size [2, 4], got [2, 5]"),
    (lambda: F.mse_loss(ones(3), ones(3), reduction="foo"), ValueError, "foo is not a valid value"),
    (lambda: F.smooth_l1_loss(ones(3), ones(3), beta=-1), RuntimeError,
     "smooth_l1_loss does not support negative values for beta."),
    (lambda: F.huber_loss(ones(3), ones(3), delta=0), RuntimeError,
     "huber_loss does not support non-positive values for delta."),
    (lambda: F.binary_cross_entropy(ones(4, 3), ones(4)), ValueError, "Using a target size"),
    (lambda: F.binary_cross_entropy_with_logits(ones(4, 3), ones(4)), ValueError,
     "Target size (torch.Size([4])) must be the same as input size (torch.Size([4, 3]))"),
    (lambda: F.pad(IMAGE, (1,)), RuntimeError, "Padding length must be divisible by 2"),
    (lambda: F.pad(ones(2), (1, 1, 1, 1)), RuntimeError,
     "Padding length should be less than or equal to two times the input dimension but got padding "
     "length 4 and input of dimension 1"),
    (lambda: F.pad(ones(2, 3, 4), (4, 0), "reflect"), RuntimeError,
     "Padding size should be less than the corresponding input dimension, but got: padding (4, 0) "
     "at dimension 2 of input [2, 3, 4]"),
    (lambda: F.pad(ones(2, 3, 4), (5, 0), "circular"), RuntimeError, "wrapping around more than "
                                                                     "once"),
    (lambda: F.pad(ones(2, 3, 0), (1, 0), "replicate"), RuntimeError, "no edge to replicate"),
    (lambda: F.pad(ones(2, 3, 4), (-3, -3)), RuntimeError,
     "The input size 4, plus negative padding -3 and -3, resulted in a negative output size"),
    (lambda: F.pad(ones(3), (1, 1), "reflect"), NotImplementedError,
     "Padding size 2 is not supported for 1D input tensor."),
    (lambda: F.pad(ones(3), (1, 1), "foo"), NotImplementedError, "Unrecognised padding mode foo"),
    (lambda: F.one_hot(ones(3)), RuntimeError,
     "one_hot is only applicable to index tensor of type LongTensor."),
    (lambda: F.one_hot(CLASSES * 5, 3), RuntimeError, "Class values must be smaller than "
                                                      "num_classes."),
    (lambda: F.embedding(ones(2), ones(5, 2)), RuntimeError, "but got torch.FloatTensor instead"),
    (lambda: F.embedding(CLASSES, ones(5, 2), sparse=True), NotImplementedError, "sparse"),
    (lambda: F.glu(ones(2, 3)), RuntimeError,
     "Halving dimension must be even, but dimension 1 is size 3"),
    (lambda: F.prelu(ones(2, 3), ones(2)), RuntimeError,
     "Mismatch of parameter numbers and input channel size. Found parameter numbers = 2 and "
     "channel size = 3."),
    (lambda: F.gelu(ones(2), approximate="foo"), RuntimeError,
     "approximate argument must be either none or tanh."),
    (lambda: F.softmax(ones(2, 3), 2), IndexError,
     "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
    (lambda: F.softmax(CLASSES, 0), NotImplementedError, "make the input floating-point"),
    (lambda: F.softshrink(ones(2), -1), RuntimeError, "lambda must be"),
    (lambda: F.normalize(ones(2, 2).requires_grad_(), out=ones(2, 2)), RuntimeError,
     "functions with out=... arguments don't support automatic differentiation"),
]


@pytest.mark.parametrize("call, kind, text", BAD, ids=range(len(BAD)))
@pytest.mark.cpu_only
def test_bad_input(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_inputs_are_left_alone():
    x = torch.tensor(np.linspace(-4, 4, 24, dtype=np.float32).reshape(2, 3, 4))
    before = x.clone()
    for fn in (F.relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.softplus, F.dropout,
               F.normalize, F.softshrink, F.hardshrink, F.glu, F.logsigmoid, F.selu, F.celu,
               F.leaky_relu):
        fn(x)
    F.pad(x, (0, 0)).fill_(1)
    F.pad(x, (1, 1), "reflect").fill_(1)
    F.batch_norm(x, None, None, training=True)
    assert torch.equal(x, before)


def test_inplace_functions():
    x = torch.tensor([-1.0, 2.0])
    assert F.relu_(x.clone()).tolist() == [0, 2]
    assert F.leaky_relu_(x.clone(), 0.5).tolist() == [-0.5, 2]
    assert F.hardtanh_(x.clone()).tolist() == [-1, 1]
    assert F.threshold_(x.clone(), 0.0, 9.0).tolist() == [9, 2]
    for fn in (F.elu_, F.celu_, F.selu_):
        y = x.clone()
        assert fn(y) is y and y[0].item() < 0


def test_softmax_dtype_and_implicit_dim():
    assert F.softmax(torch.tensor([1, 1]), 0, dtype=torch.float64).dtype is torch.float64
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax") as caught:
        y = F.softmax(ones(2, 4))
    assert y[0].tolist() == [0.25] * 4 and caught[0].filename == __file__


def test_old_reduction_arguments():
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert F.mse_loss(ones(3), ones(3) * 2, size_average=False).item() == 3
    with pytest.warns(UserWarning, match="please use reduction='none' instead"):
        assert F.mse_loss(ones(3), ones(3) * 2, reduce=False).tolist() == [1, 1, 1]
    with pytest.warns(UserWarning, match="Using a target size"):
        assert F.mse_loss(ones(2, 3), ones(3) * 2).item() == 1
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(ones(2, 3), ones(2, 3))


def test_weighted_regression_losses():
    x, y, w = torch.tensor([1.0, 3.0]), torch.zeros(2), torch.tensor([1.0, 3.0])
    assert F.mse_loss(x, y, weight=w).item() == 7 and F.l1_loss(x, y, weight=w).item() == 2.5
    assert F.huber_loss(x, y, weight=w).item() == 4
    assert F.l1_loss(x, y, weight=w, reduction="none").tolist() == [1, 9]
    with pytest.raises(ValueError, match="Weights and input must have the same size"):
        F.mse_loss(x, y, weight=ones(1))


def test_one_hot():
    assert F.one_hot(torch.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(torch.tensor([[1]]), 2).shape == (1, 1, 2)
    assert F.one_hot(torch.tensor([1])).dtype is torch.int64


def test_normalize():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = F.normalize(x)
    assert y.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    y[1].sum().backward()
    assert not x.grad.isnan().any()
    out = torch.empty(2, 2)
    assert F.normalize(x.detach(), out=out) is out and out.tolist() == y.tolist()


def test_pad():
    x = torch.arange(4.0).view(1, 4).requires_grad_()
    assert F.pad(x, (1, 2), "reflect").tolist() == [[1, 0, 1, 2, 3, 2, 1]]
    assert F.pad(x, (1, 2), "replicate").tolist() == [[0, 0, 1, 2, 3, 3, 3]]
    assert F.pad(x, (1, 2), "circular").tolist() == [[3, 0, 1, 2, 3, 0, 1]]
    assert F.pad(x, (-1, 1), value=7.0).tolist() == [[1, 2, 3, 7]]
    assert F.pad(x, (0, 0, 1, 0)).shape == (2, 4)
    F.pad(x, (1, 2), "reflect").sum().backward()
    assert x.grad.tolist() == [[1, 3, 2, 1]]


def test_double_backward_of_bce():
    x = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    (g,) = torch.autograd.grad(F.binary_cross_entropy(x, t, reduction="sum"), x, create_graph=True)
    assert g.tolist() == [pytest.approx(1 / 0.7), pytest.approx(-1 / 0.8)]
    (h,) = torch.autograd.grad(g.sum(), x)
    assert h.tolist() == [pytest.approx(1 / 0.7 ** 2), pytest.approx(1 / 0.8 ** 2)]


def test_huge_inputs_give_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.softplus(torch.tensor([1e4, -1e4]))
        F.elu(torch.tensor([1e4, -1e4]))
        F.mish(torch.tensor([1e4, -1e4]))
