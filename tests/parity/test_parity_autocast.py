"""Autocast on the CPU against PyTorch's: the dtype of every listed function's result, gradients."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

LIBRARIES = (gpugrad, torch)

# t: the library; F: its nn.functional; f: float32 tensors; x: of float32, then of bfloat16; ids:
# class numbers. A line that ends in #! gives another dtype, or an error in one of the two.
LINES = """
t.mm(x(2, 2), f(2, 2))
x(2, 3) @ f(3, 2)
t.bmm(x(1, 2, 2), f(1, 2, 2))
t.mv(x(2, 2), x(2))
t.dot(x(2), x(2))
t.addmm(f(2, 2), x(2, 2), f(2, 2))
t.baddbmm(f(1, 2, 2), x(1, 2, 2), f(1, 2, 2))
t.addbmm(f(2, 2), x(1, 2, 2), f(1, 2, 2))
t.addmv(x(2), x(2, 2), x(2))
t.addr(x(2, 2), x(2), x(2))
F.linear(x(2, 3), f(4, 3), f(4))
F.linear(x(3), f(4, 3))
F.linear(x(2, 2, 3), f(4, 3), f(4))
F.conv1d(x(1, 1, 4), f(1, 1, 2))
F.conv2d(x(1, 1, 4, 4), f(1, 1, 2, 2), f(1))
F.conv3d(x(1, 1, 4, 4, 4), f(1, 1, 2, 2, 2))
F.conv_transpose2d(x(1, 1, 4, 4), f(1, 1, 2, 2))
F.scaled_dot_product_attention(x(1, 1, 2, 4), f(1, 1, 2, 4), f(1, 1, 2, 4))
t.einsum("ij, jk->ik", x(2, 2), f(2, 2))
t.tensordot(x(2, 2), f(2, 2), 1)  #!
F.prelu(x(2, 2), f(1))
x(2).exp()
x(2).log()
x(2, 2).softmax(1)
F.log_softmax(x(2, 2), 1)
x(2).sum()
x(2).prod()
x(2).mean()
x(2).norm()
x(2) ** 2
x(2).cumsum(0)
F.layer_norm(x(2, 2), (2, ))
F.group_norm(x(2, 2), 1)
F.batch_norm(x(2, 2), None, None, training=True)
F.gelu(x(2))
x(2).relu()
x(2) + f(2)
x(2) * x(2)
F.mse_loss(x(2), f(2))
F.l1_loss(x(2), x(2))
F.smooth_l1_loss(x(2), x(2))
F.huber_loss(x(2), x(2))
F.cross_entropy(x(2, 3), ids)
F.nll_loss(x(2, 3), ids)
F.kl_div(x(2), x(2))
F.binary_cross_entropy(x(2), x(2))
F.binary_cross_entropy_with_logits(x(2), f(2))
F.soft_margin_loss(x(2), x(2))
F.hinge_embedding_loss(x(2), x(2))
F.poisson_nll_loss(x(2), x(2))
F.margin_ranking_loss(x(2), x(2), x(2))
F.triplet_margin_loss(x(2, 2), x(2, 2), x(2, 2))
F.cosine_embedding_loss(x(2, 2), x(2, 2), f(2))
F.multi_margin_loss(x(2, 3), ids)
F.multilabel_margin_loss(x(2, 3), t.tensor([[0, -1, -1], [1, -1, -1]]))
F.cosine_similarity(x(2, 2), x(2, 2))
t.cdist(x(2, 2), x(2, 2))
t.dist(x(2), x(2))
t.cat([x(2), f(2)])
t.stack([x(2), f(2)])
F.avg_pool3d(x(1, 1, 2, 2, 2), 2)
F.max_pool3d(x(1, 1, 2, 2, 2), 2)
F.avg_pool2d(x(1, 1, 2, 2), 2)
F.max_pool2d(x(1, 1, 2, 2), 2)
F.adaptive_avg_pool3d(x(1, 1, 2, 2, 2), 1)
F.grid_sample(x(1, 1, 2, 2), x(1, 1, 1, 2))
x(2, 2).trace()
(x(2, 2)+x(2, 2).tril()).inverse()
x(2, 2).pinverse()
t.linalg.cholesky(t.eye(2)+x(2, 2))
t.linalg.svdvals(x(2, 2))
t.linalg.qr(x(2, 2))[0]
t.linalg.det(x(2, 2))
t.fft.fft(x(2))
t.fft.rfft(x(2))
F.pad(x(1, 2, 2, 2), (1, 1), mode="reflect")
F.pad(x(1, 2, 2), (1, 1), mode="replicate")  #!
F.pad(x(1, 2, 2), (1, 1), mode="circular")
x(2).quantile(0.5)
x(2).nanquantile(0.5)
t.stft(x(16), 4, return_complex=True)
t.polar(x(2), x(2))
t.linalg.multi_dot([x(2, 2), f(2, 2), f(2, 2)])  #!
t.linalg.vecdot(x(2), x(2))  #!
f(3).index_copy(0, ids, x(2))  #!
F.ctc_loss(F.log_softmax(x(4, 1, 3), 2), t.tensor([[1, 2]]), t.tensor([4]), t.tensor([2]))
F.embedding(ids, x(3, 2))
F.interpolate(x(1, 1, 2, 2), scale_factor=2, mode="bilinear")
x(2).var()
F.rms_norm(x(2, 2), (2, ))
F.softplus(x(2))
t.nn.LSTM(2, 2)(x(1, 1, 2))[0]
t.nn.GRU(2, 2)(x(1, 1, 2))[0]
t.nn.LSTMCell(2, 2)(x(1, 2))[0]  #!
t.nn.MultiheadAttention(2, 1)(x(1, 1, 2), x(1, 1, 2), x(1, 1, 2))[0]
F.bilinear(x(1, 2), x(1, 2), x(1, 2, 2))  #!
x(2, 2).logsumexp(1)
t.pdist(x(3, 2))  #!
x(2, 2).renorm(2, 0, 1.)
F.normalize(x(2, 2))
t.slogdet(x(2, 2))[0]
t.linalg.solve(t.eye(2)+x(2, 2), x(2, 2))
t.matrix_exp(x(2, 2))
t.linalg.eigh(x(2, 2))[0]
t.linalg.lu_factor(x(2, 2))[0]  #!
t.linalg.matrix_norm(x(2, 2))
t.linalg.vector_norm(x(2, 2))
"""
CASES = LINES.strip().splitlines()


def outcome(lib: Any, line: str, low: bool) -> str:
    def full(*shape: int) -> Any:
        return lib.ones(*shape) / 3

    def given(*shape: int) -> Any:
        return full(*shape).to(lib.bfloat16) if low else full(*shape)

    lib.manual_seed(0)
    scope = {"t": lib, "F": lib.nn.functional, "f": full, "x": given, "ids": lib.tensor([0, 1])}
    try:
        with lib.autocast("cpu"):
            return str(eval(line, scope).dtype)
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as e:
        return type(e).__name__


@pytest.mark.parametrize("line", CASES)
def test_dtypes(line):
    line, mark, _ = line.partition("  #!")
    same = [outcome(gpugrad, line, low) == outcome(torch, line, low) for low in (False, True)]
    assert all(same) != bool(mark), f"{line}: {same}"


def net(lib: Any) -> Any:
    lib.manual_seed(0)
    nn = lib.nn
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(4 * 36, 10), nn.LayerNorm(10), nn.GELU(), nn.Linear(10, 3))


def test_training_steps():
    runs = []
    for lib in LIBRARIES:
        model = net(lib)
        opt = lib.optim.SGD(model.parameters(), lr=0.1)
        rng = np.random.default_rng(0)
        x = lib.from_numpy(rng.standard_normal((8, 1, 8, 8)).astype(np.float32))
        y = lib.arange(8) % 3
        losses = []
        for _ in range(5):
            opt.zero_grad()
            with lib.autocast("cpu", dtype=lib.bfloat16):
                scores = model(x)
                loss = lib.nn.functional.cross_entropy(scores, y)
            assert str(scores.dtype) == "torch.bfloat16" and str(loss.dtype) == "torch.float32"
            loss.backward()
            assert all(str(p.grad.dtype) == "torch.float32" for p in model.parameters())
            opt.step()
            losses.append(loss.item())
        runs.append(losses)
    assert runs[0] == pytest.approx(runs[1], rel=0.03)
    assert runs[0][-1] < runs[0][0]


def switches(lib: Any) -> list[Any]:
    return [lib.is_autocast_enabled("cpu"), str(lib.get_autocast_dtype("cpu")),
            lib.is_autocast_cache_enabled(), lib.is_autocast_enabled("cuda"),
            str(lib.get_autocast_dtype("cuda")), lib.is_autocast_cpu_enabled()]


def test_switches_and_nesting():
    seen = []
    for lib in LIBRARIES:
        found = [switches(lib)]
        with lib.autocast("cpu", dtype=lib.float16, cache_enabled=False):
            found.append(switches(lib))
            with lib.autocast("cpu", enabled=False):
                found.append(switches(lib))
                found.append(str((lib.ones(2, 2) @ lib.ones(2, 2)).dtype))
            with lib.autocast("cpu"):
                found.append(switches(lib))
            found.append(str((lib.ones(2, 2) @ lib.ones(2, 2)).dtype))
        found.append(switches(lib))
        lib.set_autocast_enabled("cpu", True)
        found.append(str((lib.ones(2, 2) @ lib.ones(2, 2)).dtype))
        lib.set_autocast_enabled("cpu", False)
        found.append(switches(lib))
        seen.append(found)
    assert seen[0] == seen[1]


def test_errors_and_warnings():
    for act in (lambda lib: lib.autocast("tpu"), lambda lib: lib.autocast(3),
                lambda lib: lib.amp.custom_fwd(lambda c: c, device_type=1)):
        found = []
        for lib in LIBRARIES:
            with pytest.raises((RuntimeError, ValueError, TypeError)) as e:
                act(lib)
            found.append(e.type)
        assert found[0] is found[1]
    for lib in LIBRARIES:
        with pytest.warns(UserWarning, match="In CPU autocast, but the target dtype is not suppor"):
            assert not lib.autocast("cpu", dtype=lib.float32)._enabled


def test_names():
    for name in ("autocast", "GradScaler", "custom_fwd", "custom_bwd", "is_autocast_available"):
        assert hasattr(gpugrad.amp, name)
    for name in (n for n in dir(torch) if "autocast" in n and not n.startswith("_")):
        if name in ("autocast_increment_nesting", "autocast_decrement_nesting") or "xla" in name \
                or "ipu" in name:
            continue
        assert hasattr(gpugrad, name), name
