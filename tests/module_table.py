"""A line for each way to make and call a module of torch.nn, for the tests of all modules."""
from __future__ import annotations

from typing import Any

import numpy as np

# A line: the constructor's call | the shapes of the inputs; i5 before a shape: integers below 5; s:
# 1 and -1; p: between 0 and 1. After "!" what is known to differ:
# values: PyTorch's CrossMapLRN2d never takes the first channel out of its sums; backward does.
# empty: PyTorch's backward fails, or only one of the two takes a size of 0.
# loose: PyTorch computes float64 with a constant of float32.
TABLE = """
Identity() | 2 3
Identity(54, unused=1) | 2 3
Linear(5, 3) | 4 5
Linear(5, 3, bias=False) | 2 4 5
Linear(5, 0) | 4 5
Bilinear(3, 4, 2) | 5 3, 5 4
Bilinear(3, 4, 2, bias=False) | 2 5 3, 2 5 4
Flatten() | 2 3 4
Flatten(0, -2) | 2 3 4
Unflatten(1, (2, 3)) | 2 6 4
Unflatten(-1, [2, -1]) | 2 3 4
Conv1d(3, 6, 3) | 2 3 9
Conv1d(4, 6, 2, stride=2, padding=1, dilation=2, groups=2, bias=False) | 4 9
Conv1d(3, 4, 3, padding="same", padding_mode="circular") | 2 3 9
Conv2d(3, 6, 3) | 2 3 8 7
Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)) | 2 3 8 7
Conv2d(4, 4, 3, padding=1, groups=4) | 2 4 6 5
Conv2d(3, 4, 1) | 3 8 7
Conv2d(3, 4, 3, padding=1, padding_mode="zeros") | 2 3 6 5
Conv2d(3, 4, 3, padding=1, padding_mode="reflect") | 2 3 6 5
Conv2d(3, 4, 3, padding=(2, 1), padding_mode="replicate") | 2 3 6 5
Conv2d(3, 4, 3, padding="same", padding_mode="circular") | 2 3 6 5
Conv2d(3, 4, (3, 2), padding="valid", bias=False) | 2 3 6 5
Conv3d(2, 3, 2) | 2 2 4 5 3
Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1), groups=2) | 2 4 5 4
Conv3d(2, 3, 2, padding=1, padding_mode="replicate", bias=False) | 1 2 3 4 3
ConvTranspose1d(3, 4, 3) | 2 3 6
ConvTranspose1d(4, 6, 2, stride=3, padding=1, output_padding=1, groups=2, dilation=2) | 2 4 6
ConvTranspose2d(3, 4, 3) | 2 3 5 4
ConvTranspose2d(3, 4, (3, 2), stride=2, padding=1, output_padding=(1, 0), bias=False) | 3 5 4
ConvTranspose2d(4, 4, 3, groups=2, dilation=(1, 2)) | 2 4 4 3
ConvTranspose3d(2, 3, 2, stride=2) | 1 2 3 2 3
ConvTranspose3d(2, 2, 3, padding=1, output_padding=1, stride=2, groups=2) | 1 2 3 2 3
Fold((4, 5), (2, 2)) | 2 12 12
Fold((4, 6), 2, stride=2) | 12 6
Unfold(2) | 2 3 4 5
Unfold((2, 3), dilation=1, padding=1, stride=2) | 2 3 4 5
MaxPool1d(3) | 2 3 10
MaxPool1d(3, 2, padding=1, dilation=1, ceil_mode=True) | 3 10
MaxPool1d(2, return_indices=True) | 2 3 9
MaxPool2d(2) | 2 3 8 7
MaxPool2d((3, 2), stride=1, padding=1, dilation=(1, 2), ceil_mode=True) | 2 3 8 7
MaxPool2d(3, 2, return_indices=True) | 3 8 8
MaxPool3d(2) | 2 2 4 5 4
MaxPool3d((2, 1, 2), stride=1, padding=(1, 0, 1), return_indices=True) | 2 4 5 4
AvgPool1d(3, 2, padding=1, ceil_mode=True) | 2 3 9
AvgPool1d(2, count_include_pad=False) | 3 9
AvgPool2d(3, 2, padding=1) | 2 3 8 7
AvgPool2d((3, 2), (2, 3), padding=1, count_include_pad=False, ceil_mode=True) | 2 3 8 7
AvgPool2d(2, divisor_override=3) | 3 8 7
AvgPool3d(2) | 2 2 4 5 4
AvgPool3d((2, 1, 2), stride=1, padding=(1, 0, 1), count_include_pad=False) | 2 2 4 5 4
LPPool1d(2, 3) | 2 3 9
LPPool1d(1.5, 2, stride=3, ceil_mode=True) | 3 9
LPPool2d(2, (2, 3)) | 2 3 6 7
LPPool3d(3, 2, stride=1) | 1 2 4 3 4
AdaptiveAvgPool1d(4) | 2 3 9
AdaptiveAvgPool2d((3, None)) | 2 3 8 7
AdaptiveAvgPool2d(1) | 3 8 7
AdaptiveAvgPool3d((2, 1, None)) | 2 2 4 5 3
AdaptiveMaxPool1d(4) | 2 3 9
AdaptiveMaxPool1d(2, return_indices=True) | 3 9 ! empty
AdaptiveMaxPool2d((3, None)) | 2 3 8 7
AdaptiveMaxPool3d((2, 1, 3)) | 2 2 4 5 3
ZeroPad1d(2) | 2 3 5
ZeroPad2d((-1, 2, 1, -2)) | 2 3 5 6
ZeroPad3d(1) | 2 3 2 3 2
ConstantPad1d((1, 2), 3.5) | 3 5
ConstantPad2d(1, -0.5) | 2 3 5 6
ConstantPad3d((1, 0, 2, 0, 0, 1), 0.1) | 2 3 2 3 2
ReflectionPad1d(2) | 2 3 5
ReflectionPad2d((1, 2, 0, 1)) | 2 3 5 6
ReflectionPad3d(1) | 2 3 2 3 2
ReplicationPad1d((2, 1)) | 3 5 ! empty
ReplicationPad2d(2) | 2 3 5 6
ReplicationPad3d(1) | 2 3 2 3 2
CircularPad1d(2) | 2 3 5
CircularPad2d((1, 2, 0, 1)) | 2 3 5 6
CircularPad3d(1) | 2 3 2 3 2
Upsample(scale_factor=2) | 2 3 4
Upsample(size=(5, 7), mode="bilinear") | 2 3 4 3
Upsample(scale_factor=(1.5, 2), mode="bicubic", align_corners=True) | 2 3 4 3
Upsample(scale_factor=2, mode="trilinear", recompute_scale_factor=True) | 1 2 2 3 2
Upsample(size=7, mode="linear", align_corners=False) | 2 3 4
UpsamplingNearest2d(scale_factor=2) | 2 3 4 3
UpsamplingBilinear2d(size=(6, 5)) | 2 3 4 3
PixelShuffle(2) | 2 8 3 2 ! empty
PixelUnshuffle(2) | 2 2 4 6 ! empty
ChannelShuffle(3) | 2 6 4 5
BatchNorm1d(4) | 5 4
BatchNorm1d(4, eps=1e-3, momentum=0.3, bias=False) | 5 4 3
BatchNorm2d(4, momentum=None) | 3 4 5 2
BatchNorm2d(4, affine=False) | 3 4 5 2
BatchNorm2d(4, track_running_stats=False) | 3 4 5 2
BatchNorm3d(2) | 2 2 3 2 2
SyncBatchNorm(4) | 3 4 5
SyncBatchNorm(4, momentum=None, affine=False, track_running_stats=False) | 3 4 2 2
InstanceNorm1d(4) | 3 4 5
InstanceNorm1d(4, affine=True, track_running_stats=True) | 4 5
InstanceNorm2d(4, affine=True, bias=False, eps=1e-2) | 2 4 3 2 ! empty
InstanceNorm2d(4, track_running_stats=True, momentum=None) | 2 4 3 2
InstanceNorm3d(2, affine=True) | 2 2 3 2 2 ! empty
LayerNorm(4) | 3 4
LayerNorm((3, 4), eps=1e-2, bias=False) | 2 3 4
LayerNorm([4], elementwise_affine=False) | 3 4
RMSNorm(4) | 3 4
RMSNorm((3, 4), eps=1e-2, elementwise_affine=False) | 2 3 4
GroupNorm(2, 4) | 3 4 5
GroupNorm(4, 4, eps=1e-2, bias=False) | 3 4 2 2
GroupNorm(1, 4, affine=False) | 3 4
LocalResponseNorm(3) | 2 5 4
LocalResponseNorm(2, alpha=0.01, beta=0.5, k=2.0) | 2 5 3 4
CrossMapLRN2d(3, alpha=0.1) | 2 5 3 4 ! values
Dropout() | 4 50
Dropout(0.2, inplace=True) | 4 5
Dropout(1.0) | 7
Dropout1d(0.4) | 4 5 3
Dropout2d(0.4) | 4 5 3 2
Dropout3d(0.4) | 4 5 3 2 2
AlphaDropout(0.4) | 4 5
FeatureAlphaDropout(0.4) | 4 5 3
Embedding(7, 3) | i7 2 4
Embedding(7, 3, padding_idx=-2, scale_grad_by_freq=True) | i7 2 4
Embedding(7, 3, max_norm=1.0, norm_type=1.0) | i7 2 4
EmbeddingBag(7, 3) | i7 2 4
EmbeddingBag(7, 3, mode="sum", padding_idx=1) | i7 2 4
EmbeddingBag(7, 3, mode="max") | i7 2 4
CosineSimilarity() | 3 4, 3 4
CosineSimilarity(dim=-1, eps=0.1) | 2 3 4, 2 3 4
PairwiseDistance() | 3 4, 3 4
PairwiseDistance(p=1.0, eps=0.1, keepdim=True) | 3 4, 3 4
ReLU() | 3 4
ReLU(inplace=True) | 3 4
ReLU6() | 3 4
RReLU() | 3 4
RReLU(0.1, 0.4) | 3 4
LeakyReLU(0.3) | 3 4
PReLU() | 3 4
PReLU(4, init=0.1) | 3 4 5
ELU(0.7) | 3 4
CELU(0.7) | 3 4 ! loose
SELU() | 3 4
GELU() | 3 4
GELU("tanh") | 3 4
SiLU() | 3 4
Mish() | 3 4
Hardsigmoid() | 3 4 ! loose
Hardswish() | 3 4
Hardtanh(-0.2, 0.5) | 3 4
Hardshrink(0.3) | 3 4
Softshrink(0.3) | 3 4
Tanhshrink() | 3 4
Threshold(0.1, 20.0) | 3 4
Sigmoid() | 3 4
Tanh() | 3 4
LogSigmoid() | 3 4
Softsign() | 3 4
Softplus(3.0, 1.0) | 3 4
GLU() | 3 4
GLU(0) | 4 3
Softmax(1) | 3 4
Softmax() | 3 4
Softmin(-1) | 3 4
LogSoftmax(0) | 3 4 2
Softmax2d() | 2 3 4 5
AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0) | 5 8, i12 5
L1Loss() | 3 4, 3 4
MSELoss(reduction="sum") | 3 4, 3 4
SmoothL1Loss(beta=0.5) | 3 4, 3 4
HuberLoss(reduction="none", delta=0.5) | 3 4, 3 4
NLLLoss() | 5 4, i4 5
NLLLoss(reduction="none", ignore_index=2) | 2 4 3, i4 2 3
NLLLoss2d() | 2 4 3 2, i4 2 3 2
CrossEntropyLoss(label_smoothing=0.1) | 5 4, i4 5
CrossEntropyLoss() | 5 4, p5 4
BCELoss() | p5 4, p5 4
BCEWithLogitsLoss() | 5 4, p5 4
KLDivLoss(reduction="batchmean") | 5 4, p5 4
KLDivLoss(log_target=True) | 5 4, 5 4
PoissonNLLLoss(full=True) | 5 4, i9 5 4 ! loose
GaussianNLLLoss(full=True, eps=1e-3) | 5 4, 5 4, p5 4
SoftMarginLoss() | 5 4, s5 4
MultiMarginLoss(p=2, margin=0.5) | 5 4, i4 5
MultiLabelMarginLoss() | 5 4, i4 5 4
MultiLabelSoftMarginLoss() | 5 4, p5 4
HingeEmbeddingLoss(margin=0.5) | 5 4, s5 4
CosineEmbeddingLoss(margin=0.1) | 5 4, 5 4, s5
MarginRankingLoss(margin=0.1) | 5, 5, s5
TripletMarginLoss(p=1.0, swap=True) | 5 4, 5 4, 5 4
TripletMarginWithDistanceLoss() | 5 4, 5 4, 5 4
LinearCrossEntropyLoss(4, 6, bias=True) | 5 4, i6 5
LinearCrossEntropyLoss(4, 6, out_features=(2,), label_smoothing=0.1) | 5 4, i6 5 2
Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) | 5 4
RNN(3, 4) | 5 2 3
RNN(3, 4, nonlinearity="relu", num_layers=2, bias=False) | 5 3
LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True) | 2 5 3
LSTM(3, 5, proj_size=2) | 5 2 3
GRU(3, 4, bidirectional=True) | 5 2 3
RNNCell(3, 4, nonlinearity="relu") | 2 3
LSTMCell(3, 4) | 2 3
GRUCell(3, 4, bias=False) | 3
MultiheadAttention(4, 2) | 3 2 4, 3 2 4, 3 2 4
TransformerEncoderLayer(4, 2, 8, 0.0) | 3 2 4
TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), 2) | 2 3 4
TransformerDecoderLayer(4, 2, 8, 0.0, norm_first=True) | 3 2 4, 5 2 4
TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, 0.0), 1) | 3 2 4, 5 2 4
Transformer(4, 2, 1, 1, 8, 0.0) | 3 2 4, 5 2 4
"""


class Line:
    """A line of the table."""

    def __init__(self, text: str) -> None:
        head, _, known = text.partition("!")
        self.code, _, inputs = (part.strip() for part in head.partition("|"))
        self.name = self.code.partition("(")[0]
        self.known = known.split()
        self.inputs: list[tuple[str, tuple[int, ...]]] = []
        for item in inputs.split(","):
            first, *rest = item.split()
            kind = first[0] if first[0] in "sp" else ""
            if first[0] == "i":
                kind, first = first, rest.pop(0)
            sizes = [first.lstrip("sp"), *rest]
            self.inputs.append((kind, tuple(int(v) for v in sizes)))

    def arrays(self, batch: int | None = None) -> list[Any]:
        """The inputs; ``batch`` replaces the first size."""
        r, out = np.random.default_rng(7), []
        for kind, shape in self.inputs:
            if batch is not None:
                shape = (batch, *shape[1:])
            if kind[:1] == "i":
                out.append(r.integers(0, int(kind[1:]), shape))
            elif kind == "s":
                out.append(np.where(r.random(shape) < 0.5, -1, 1))
            elif kind == "p":
                out.append(r.uniform(0.05, 0.95, shape).astype(np.float32))
            else:
                out.append(r.uniform(-3, 3, shape).astype(np.float32))
        return out

    def make(self, lib: Any) -> Any:
        lib.manual_seed(3)
        return eval(f"nn.{self.code}", {"nn": lib.nn, "torch": lib})


LINES = [Line(text) for text in TABLE.strip().splitlines()]


def leaves(lib: Any, arrays: list[Any], dtype: Any = None, device: str = "cpu") -> list[Any]:
    """Inputs as tensors; what is floating-point requires grad."""
    out = []
    for a in arrays:
        t = lib.tensor(a, device=device)
        if a.dtype.kind == "f":
            t = (t if dtype is None else t.to(dtype)).requires_grad_()
        out.append(t)
    return out


def call(m: Any, tensors: list[Any]) -> list[Any]:
    """A module's results; what works in place gets copies."""
    if getattr(m, "inplace", False):
        tensors = [t * 1 for t in tensors]
    return flat(m(*tensors))


def flat(result: Any) -> list[Any]:
    """The tensors in nested tuples."""
    return [t for r in result for t in flat(r)] if isinstance(result, tuple | list) else [result]


def backward(lib: Any, results: list[Any]) -> None:
    """Backward from all results, each with a gradient of its own."""
    r, total = np.random.default_rng(9), 0
    for t in results:
        slope = r.uniform(-1, 1, tuple(t.shape)).astype(np.float32)
        if t.requires_grad:
            total = total + (t.float() * lib.tensor(slope, device=t.device)).sum()
    if isinstance(total, lib.Tensor):
        total.backward()
