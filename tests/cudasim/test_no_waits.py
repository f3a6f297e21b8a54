"""No operation makes the host wait for the device, unless its result's shape depends on data.

The simulated device counts. Every op of the records runs, forward and backward, and nothing may be
copied to the host or waited for. Operations that have to are listed, each with the reason; one that
no longer does must leave the list.
"""
from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.autograd.op import SPECS
from gpugrad.backend import cuda

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
import test_generic as generic

from op_db import RECORDS

# Ops that wait, and why.
SHAPE = "the result's shape depends on data"
DEGREE = "the largest degree says how many steps the recurrence takes"
WAITING = {
    "bincount": SHAPE, "masked_select": SHAPE, "unique": SHAPE, "unique_consecutive": SHAPE,
    "unique_dim": SHAPE,
    "matrix_exp": "the largest norm says how many times to square, in PyTorch, too",
    "ldl_factor": "made on the host: CuPy has no such factors", "ldl_solve": "as ldl_factor",
    "zeta": "the lowest q says how many terms to add below it",
    **dict.fromkeys([
        "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v",
        "chebyshev_polynomial_w", "hermite_polynomial_h", "hermite_polynomial_he",
        "laguerre_polynomial_l", "legendre_polynomial_p", "shifted_chebyshev_polynomial_t",
        "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
        "shifted_chebyshev_polynomial_w"], DEGREE),
}

# Functions that are not one op. Each takes a tensor (3, 4), a matrix (4, 4), indices below 3 (5,),
# a mask (3, 4).
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "x[i]": lambda x, m, i, b: x[i],
    "x[:, i, None]": lambda x, m, i, b: x[:, i, None],
    "x[i, i]": lambda x, m, i, b: x[i, i],
    "x[i] = 0": lambda x, m, i, b: (x * 1).__setitem__(i, 0),
    "x[i] = x": lambda x, m, i, b: (x * 1).__setitem__(i, x[:1]),
    "x[1:, ::2]": lambda x, m, i, b: x[1:, ::2] * 2,
    "index_add": lambda x, m, i, b: x.index_add(0, i, x[:1].expand(5, 4)),
    "index_copy": lambda x, m, i, b: x.index_copy(0, i, x[:1].expand(5, 4)),
    "index_fill": lambda x, m, i, b: x.index_fill(0, i, 1.0),
    "index_put": lambda x, m, i, b: x.index_put((i,), x[0], accumulate=True),
    "index_reduce": lambda x, m, i, b: x.index_reduce(0, i, x[:1].expand(5, 4), "amax"),
    "index_select": lambda x, m, i, b: x.index_select(0, i),
    "gather": lambda x, m, i, b: x.gather(0, i[:, None].expand(5, 4)),
    "scatter": lambda x, m, i, b: x.scatter(0, i[:3, None], 1.0),
    "scatter_add": lambda x, m, i, b: x.scatter_add(0, i[:3, None], x),
    "scatter_reduce": lambda x, m, i, b: x.scatter_reduce(0, i[:3, None], x, "mean"),
    "take": lambda x, m, i, b: x.take(i),
    "take_along_dim": lambda x, m, i, b: x.take_along_dim(i[:, None], 0),
    "put": lambda x, m, i, b: x.put(i, x.reshape(-1)[:5]),
    "masked_fill": lambda x, m, i, b: x.masked_fill(b, 1.0),
    "masked_scatter": lambda x, m, i, b: x.masked_scatter(b, x * 2),
    "where": lambda x, m, i, b: torch.where(b, x, 0.0),
    "nan_to_num": lambda x, m, i, b: x.nan_to_num(),
    "roll, flip, rot90": lambda x, m, i, b: x.roll(1, 0).flip(0).rot90(),
    "repeat_interleave": lambda x, m, i, b: x.repeat_interleave(2, 0),
    "unfold": lambda x, m, i, b: x.unfold(1, 2, 1) * 1,
    "as_strided": lambda x, m, i, b: x.as_strided((2, 2), (1, 2)) * 1,
    "diag_embed": lambda x, m, i, b: x.diag_embed(),
    "tril": lambda x, m, i, b: x.tril(),
    "cat, stack": lambda x, m, i, b: torch.cat([torch.stack([x, x]), x[None]]),
    "block_diag": lambda x, m, i, b: torch.block_diag(x, m),
    "matmul": lambda x, m, i, b: x @ m,
    "einsum": lambda x, m, i, b: torch.einsum("ij,jk,ik->i", x, m, x),
    "tensordot": lambda x, m, i, b: torch.tensordot(x, m, 1),
    "kron": lambda x, m, i, b: torch.kron(x, m),
    "cross": lambda x, m, i, b: torch.cross(x[:, :3], x[:, 1:], dim=1),
    "cdist": lambda x, m, i, b: torch.cdist(x, m),
    "norms": lambda x, m, i, b: x.norm() + x.norm(1) + x.norm(3) + x.norm(torch.inf),
    "sort, topk": lambda x, m, i, b: x.sort()[0][:, :2] + x.topk(2)[0],
    "median, mode": lambda x, m, i, b: x.median() + x.kthvalue(2)[0].sum(),
    "quantile": lambda x, m, i, b: x.quantile(0.5),
    "var, std": lambda x, m, i, b: x.var() + x.std(0).sum(),
    "cumsum": lambda x, m, i, b: x.cumsum(0).cummax(0)[0],
    "searchsorted": lambda x, m, i, b: torch.searchsorted(x.sort()[0], x),
    "bucketize": lambda x, m, i, b: torch.bucketize(x, x[0].sort()[0]),
    "clamp": lambda x, m, i, b: x.clamp(x[0], x[1]).clamp(0.2, 0.9),
    "pad": lambda x, m, i, b: F.pad(F.pad(x[None], (1, 1), mode="reflect"), (1, 2)),
    "unfold, fold": lambda x, m, i, b: F.fold(F.unfold(x[None], 2), (3, 4), 2),
    "interpolate": lambda x, m, i, b: F.interpolate(x[None, None], (5, 5), mode="bilinear"),
    "grid_sample": lambda x, m, i, b: F.grid_sample(
        x[None, None], x.reshape(1, 3, 2, 2), align_corners=False),
    "affine_grid": lambda x, m, i, b: F.affine_grid(x[None, :2, :3], [1, 1, 2, 2], False),
    "pixel_shuffle": lambda x, m, i, b: F.pixel_shuffle(m[:, :, None, None], 2),
    "one_hot": lambda x, m, i, b: F.one_hot(i, 3),
    "conv1d": lambda x, m, i, b: F.conv1d(x[None], x[:, :3, None].expand(3, 3, 2)),
    "conv3d": lambda x, m, i, b: F.conv3d(x[None, None, None], x[None, None, None, :2, :2]),
    "conv_transpose2d": lambda x, m, i, b: F.conv_transpose2d(
        x[None, None], m[None, None], stride=2),
    "max_pool2d": lambda x, m, i, b: F.max_pool2d(x[None, None], 2),
    "max_unpool2d": lambda x, m, i, b: F.max_unpool2d(
        *F.max_pool2d(m[None, None], 2, return_indices=True), 2),
    "fractional_max_pool2d": lambda x, m, i, b: F.fractional_max_pool2d(m[None, None], 2, 2),
    "adaptive_avg_pool2d": lambda x, m, i, b: F.adaptive_avg_pool2d(x[None, None], (2, 3)),
    "lp_pool2d": lambda x, m, i, b: F.lp_pool2d(x[None, None], 2, 2),
    "attention": lambda x, m, i, b: F.scaled_dot_product_attention(x, m, m, is_causal=True),
    "attention with a mask": lambda x, m, i, b: F.scaled_dot_product_attention(
        x, m, m, attn_mask=b),
    "bilinear": lambda x, m, i, b: F.bilinear(x, x, m[None]),
    "embedding": lambda x, m, i, b: F.embedding(i, x),
    "embedding with max_norm": lambda x, m, i, b: F.embedding(i, x.detach(), max_norm=1.0),
    "embedding_bag": lambda x, m, i, b: F.embedding_bag(i, x, i[:2] * 0),
    "embedding_bag, max": lambda x, m, i, b: F.embedding_bag(i[None], x, mode="max"),
    "cosine_similarity": lambda x, m, i, b: F.cosine_similarity(x, x * 2),
    "normalize": lambda x, m, i, b: F.normalize(x),
    "cross_entropy": lambda x, m, i, b: F.cross_entropy(x, i[:3]),
    "dropout": lambda x, m, i, b: F.dropout(x),
    "batch_norm": lambda x, m, i, b: F.batch_norm(x, None, None, training=True),
    "solve": lambda x, m, i, b: torch.linalg.solve_triangular(m, m, upper=True),
    "matrix_power": lambda x, m, i, b: torch.linalg.matrix_power(m, 3),
    "matrix_exp": lambda x, m, i, b: torch.linalg.matrix_exp(m),
    "rand": lambda x, m, i, b: torch.rand_like(x) + torch.randint(0, 3, (3, 4), device=x.device),
    "isclose": lambda x, m, i, b: torch.isclose(x, x),
    "fft": lambda x, m, i, b: torch.fft.rfft(x).abs(),
}

# Functions that wait, and why.
WAITING_FUNCTIONS = {"matrix_exp": WAITING["matrix_exp"]}

pytestmark = pytest.mark.gpu


@pytest.fixture
def be() -> Any:
    if not cuda.simulated():
        pytest.skip("a real GPU doesn't count")
    return backend.get("cuda")


def waited(work: Callable[[], Any]) -> tuple[int, int]:
    """How often the host waited, and how often it copied, in a second run of ``work``.

    What only a first run makes, such as tables, is there by then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work()
        torch.cuda.sim.reset()
        work()
    stats = torch.cuda.sim.stats()
    return stats.syncs, stats.d2h


@pytest.mark.parametrize("name", sorted(set(RECORDS) & set(SPECS)))
def test_no_op_waits(name: str, be: Any) -> None:
    found = []
    for case in RECORDS[name].samples()[:4]:
        tensors = generic.tensors_of(name, case, be, dtype="float32", leaf=True)
        gradients = name in generic.DIFFERENTIABLE and bool(generic.leaves(tensors))
        outs = generic.live(generic.call(name, tensors, case))
        slopes = generic.slopes(outs)

        def work(case: Any = case, tensors: Any = tensors, slopes: Any = slopes,
                 gradients: bool = gradients) -> None:
            outs = generic.live(generic.call(name, tensors, case))
            if gradients and outs:
                torch.autograd.grad(outs, generic.leaves(tensors), slopes, allow_unused=True)
        found.append(waited(work))
    if name in WAITING:
        assert any(f != (0, 0) for f in found), f"{name} no longer waits: take it from the list"
    else:
        assert found == [(0, 0)] * len(found)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_waits(name: str, be: Any) -> None:
    r = np.random.default_rng(0)

    def on_device(a: Any) -> Any:
        return torch.from_numpy(a).to("cuda")
    x, m = (on_device(r.uniform(0.1, 1, s).astype("f4")).requires_grad_() for s in ((3, 4), (4, 4)))
    i, b = on_device(np.array([2, 0, 1, 1, 0])), on_device(r.random((3, 4)) < 0.5)

    def work() -> None:
        out = FUNCTIONS[name](x, m, i, b)
        if isinstance(out, torch.Tensor) and out.requires_grad:
            out.sum().backward()
    found = waited(work)
    if name in WAITING_FUNCTIONS:
        assert found != (0, 0), f"{name} no longer waits: take it from the list"
    else:
        assert found == (0, 0)


@pytest.mark.parametrize("work", [
    lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: x.masked_select(x > 0),
    lambda x: x.unique(), lambda x: x.argwhere(), lambda x: x.item() if x.numel() == 1 else bool(
        x.any())])
def test_what_depends_on_data_waits(work: Callable[[Any], Any], be: Any) -> None:
    x = torch.ones(3, device="cuda")
    assert waited(lambda: work(x)) != (0, 0)
