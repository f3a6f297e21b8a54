"""The meta device beside PyTorch's: shapes, dtypes, strides, texts, errors."""
from __future__ import annotations

from typing import Any

import pytest
from outcomes import check

LINES = """
t.empty(2, 3, device=M)
t.tensor([[1, 2], [3, 4]], device=M)
t.tensor(2.5, device=M)
t.arange(0, 7, 2, device=M)
t.linspace(0, 1, 5, device=M, dtype=t.float64)
t.eye(3, device=M)
t.full((2,), 7, device=M)
t.zeros(3, dtype=t.bool, device=M)
t.rand(2, 3, device=M)
t.randint(0, 5, (2,), device=M)
t.randperm(4, device=M)
x + 1
x * 2.5
i * 2.5
i / 2
i // 2
x.half() + h
x == i
x > 0
~(x > 0)
-x
x.t()
x.t() + x.t()
x[0]
x[:, ::2]
x[..., None]
x[t.tensor([0, 1], device=M)]
x[:, i[0]]
x.sum()
x.sum(0)
x.sum(1, keepdim=True)
i.sum()
x.mean()
x.max()
x.max(1)
x.argmax(0)
x.var(0)
x.std()
x.cumsum(0)
x.sort(1)
x.topk(2)
x @ x.t()
t.einsum("ij,kj->ik", x, x)
t.bmm(b, b.transpose(1, 2))
t.cat([x, x], 1)
t.stack([x, x], 1)
x.chunk(2)
x.split(1)
x.reshape(6)
x.view(3, 2)
x.t().reshape(6)
x.t().contiguous()
x.expand(4, 2, 3)
x.permute(1, 0)
x.unsqueeze(0)
x.squeeze()
x.flatten()
x.repeat(2, 2)
x.roll(1, 0)
x.flip(0)
t.where(x > 0, x, 0.0)
t.clamp(x, 0, 1)
t.softmax(x, 1)
t.nn.functional.relu(x)
t.nn.functional.gelu(x)
t.nn.functional.linear(x, x)
t.nn.functional.conv2d(im, t.empty(4, 3, 3, 3, device=M), stride=2, padding=1)
t.nn.functional.max_pool2d(im, 2)
t.nn.functional.avg_pool2d(im, 3, 2)
t.nn.functional.adaptive_avg_pool2d(im, (2, 3))
t.nn.functional.interpolate(im, scale_factor=2)
t.nn.functional.pad(im, (1, 2))
t.nn.functional.embedding(i, t.empty(9, 4, device=M))
t.nn.functional.cross_entropy(x, i[:, 0])
t.nn.functional.mse_loss(x, x)
t.nn.functional.layer_norm(x, (3,))
t.nn.functional.dropout(x)
t.nn.functional.one_hot(i, 5)
t.nn.functional.scaled_dot_product_attention(b, b, b)
t.nn.Linear(3, 4, device=M)(x)
t.nn.BatchNorm1d(3, device=M)(x)
t.nn.Conv2d(3, 4, 3, device=M)(im)
t.nn.Embedding(5, 2, device=M)(i)
t.linalg.svd(x)
t.linalg.qr(x)
t.linalg.inv(x @ x.t())
t.fft.rfft(x)
x.to(t.float64)
x.double().to(t.int32)
x.to("meta") is x
x.type()
repr(x)
repr(x.requires_grad_() * 2)
repr(i)
x.is_meta, x.is_cpu, x.is_cuda, x.device.type, x.get_device()
x.data_ptr(), x[1:].data_ptr(), x[1:].storage_offset()
x.add_(1) is x
x.copy_(t.zeros(2, 3)) is x
x.zero_(), x.fill_(2), x.normal_(), x.uniform_()
x.new_zeros(2), t.zeros_like(x), t.ones_like(x, device="cpu")
x.tolist()
x.cpu()
x.item()
t.empty(1, device=M).item()
bool(t.empty(1, device=M))
x.numpy()
x.numpy(force=True)
t.zeros(2, 3).copy_(x)
x @ x
x + x.new_empty(4)
x[5]
x.view(4)
x.nonzero()
t.unique(x)
x[x > 0]
x.__dlpack__()
"""
# Ours have more to say.
TEXTS_DIFFER = ("x + x.new_empty(4)", "x @ x", "x[5]", "x.view(4)", "x.nonzero()", "t.unique(x)",
                "x[x > 0]")


def facts(v: Any, strides: bool) -> Any:
    if hasattr(v, "stride"):
        laid = v.stride() if strides and v.numel() else None
        return tuple(v.shape), laid, str(v.dtype), v.device.type
    return [facts(u, strides) for u in v] if isinstance(v, tuple | list) else v


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_same(line):
    def use(t: Any) -> Any:
        names = {"t": t, "M": "meta", "x": t.empty(2, 3, device="meta"),
                 "i": t.empty(2, 3, dtype=t.int64, device="meta"),
                 "h": t.empty(3, dtype=t.half, device="meta"),
                 "b": t.empty(2, 4, 5, device="meta"), "im": t.empty(2, 3, 8, 8, device="meta")}
        # matrices of LAPACK lie in memory by columns
        return facts(eval(line, names), "linalg" not in line)
    check(use, line not in TEXTS_DIFFER)


@pytest.mark.parametrize("line", [
    "t.zeros(1)", "t.tensor([1])", "t.arange(3)", "t.rand(2)", "t.Tensor(2)", "t.FloatTensor(2)",
    "t.zeros(1, device='cpu')", "t.zeros_like(t.ones(2, device='cpu'))",
    "t.nn.Linear(2, 2).weight",
    "t.nn.Parameter(t.ones(1))", "t.nn.Parameter()", "t.as_tensor([1.])", "t.asarray([1.])",
    "t.frombuffer(bytearray(8), dtype=t.float32)", "t.randperm(3)",
    "t.nn.BatchNorm1d(2).running_var",
    "t.empty(1).new_zeros(3)", "t.get_default_device()", "t.Generator().device", "t.full((2,), 1)"])
@pytest.mark.parametrize("how", ["with", "default", "nested"])
def test_default_devices(line, how):
    def use(t: Any) -> Any:
        if how == "default":
            t.set_default_device("meta")
            try:
                return str(getattr(eval(line), "device", eval(line)))
            finally:
                t.set_default_device(None)
        with t.device("cpu" if how == "nested" else "meta"), t.device("meta"):
            return str(getattr(eval(line), "device", eval(line)))
    check(use)
