"""docs/differences.md is true: each of its rows has a check here, or the reason why it has none.

A check shows gpugrad's side of a row; tests/parity/test_differences_page_parity.py shows that the
two sides differ. A row is known by its first cell.
"""
from __future__ import annotations

import copy
import importlib
import io
import math
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import func, nn
from gpugrad.autograd import functional, grad

PAGE = Path(__file__).resolve().parents[1] / "docs" / "differences.md"


def rows() -> list[str]:
    """The first cells of the page's tables, without the heads."""
    cells = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines()
             if line.startswith("|")]
    return [c for c in cells if c and not c.startswith("---") and c != "PyTorch"]


CHECKS: dict[str, Callable[[], Any] | str] = {}
ON_CUDA: set[str] = set()


def row(text: str, cuda: bool = False) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(check: Callable[[], Any]) -> Callable[[], Any]:
        assert text not in CHECKS
        CHECKS[text] = check
        if cuda:
            ON_CUDA.add(text)
        return check
    return add


def refused(call: Callable[[], Any], text: str = "not supported") -> None:
    with pytest.raises(NotImplementedError, match=text):
        call()


def absent(*names: str) -> None:
    """AttributeError: what the last part of a name asks of the module before it."""
    for name in names:
        module, _, last = name.rpartition(".")
        with pytest.raises(AttributeError):
            getattr(importlib.import_module(module) if module else torch, last)


def leaf(*values: float) -> Any:
    return torch.tensor(values, requires_grad=True)


def second(f: Callable[[Any], Any], x: Any) -> Any:
    """The sum of the second derivatives."""
    (g,) = grad(f(x).sum(), x, create_graph=True)
    return grad(g.sum(), x, allow_unused=True)[0]


# Not here ----------------------------------------------------------------------------------------

@row("devices other than `cpu`, `cuda` and `meta` (`mps`, `xpu`, ...)")
def _() -> None:
    for name in ("mps", "xpu"):
        refused(lambda name=name: torch.ones(1, device=name))
    assert torch.ones(2, device="meta").shape == (2,)


CHECKS["`bfloat16` tensors"] = "tests/test_bfloat16.py runs with and without the package"


@row("tensors of `complex32` and `float8_...`, names to compare with; lazy conjugation")
def _() -> None:
    for dtype in (torch.complex32, torch.float8_e5m2):
        refused(lambda dtype=dtype: torch.ones(2, dtype=dtype))
    z = torch.tensor([1j])
    assert not z.conj().is_conj() and z.conj().data_ptr() != z.data_ptr()


@row("sparse, quantized, nested, named tensors")
def _() -> None:
    absent("gpugrad.sparse_coo_tensor", "gpugrad.quantize_per_tensor", "gpugrad.nested")
    refused(lambda: torch.ones(2).to_sparse())
    with pytest.raises(AttributeError):
        torch.ones(2).rename("a")
    with pytest.raises(TypeError):
        torch.ones(2, names=("a",))


@row("gradients that are sparse (`embedding(sparse=True)`, `gather(sparse_grad=True)`)")
def _() -> None:
    i = torch.tensor([0])
    refused(lambda: F.embedding(i, torch.ones(2, 2), sparse=True))
    refused(lambda: torch.ones(2).gather(0, i, sparse_grad=True))


@row("`torch.compile`, `torch.jit.script` and `trace`")
def _() -> None:
    def f(x: Any) -> Any:
        return x
    assert torch.compile(f) is f
    assert torch.jit.script(f) is f and torch.jit.trace(f, torch.ones(2)) is f


@row("`torch.fx.symbolic_trace`, `torch.export`, saved TorchScript programs")
def _() -> None:
    refused(lambda: torch.fx.symbolic_trace(nn.ReLU()))
    refused(lambda: torch.jit.load("none.pt"))
    absent("gpugrad.export")


@row("`torch.distributed`; several devices in `DataParallel`")
def _() -> None:
    assert not torch.distributed.is_available()
    assert nn.DataParallel(nn.Linear(2, 3))(torch.ones(1, 2)).shape == (1, 3)
    refused(lambda: torch.distributed.init_process_group("gloo"))


@row("forward-mode differentiation")
def _() -> None:
    refused(torch.autograd.forward_ad.dual_level)
    assert functional.jvp(torch.sin, torch.zeros(1), torch.ones(1))[1].item() == 1


@row("`share_memory_`, storages that change their size")
def _() -> None:
    refused(lambda: torch.ones(2).share_memory_())
    refused(lambda: torch.ones(2).untyped_storage().resize_(64), "can't be resized")


@row("functions that ask `__torch_function__`")
def _() -> None:
    class Asked:
        @classmethod
        def __torch_function__(cls, *args: Any) -> Any:
            raise AssertionError("asked")
    with pytest.raises(TypeError):
        torch.sin(Asked())


@row("`flex_attention`")
def _() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("gpugrad.nn.attention.flex_attention")


@row("selective checkpointing; `register_hooks` of one saved tensor")
def _() -> None:
    refused(lambda: torch.utils.checkpoint.create_selective_checkpoint_contexts([]))
    assert not hasattr(leaf(1.0).exp().grad_fn, "_raw_saved_result")


@row("`torch.hub` from GitHub")
def _() -> None:
    refused(lambda: torch.hub.load("owner/name", "net"), "GitHub")


@row("loading whole pickled modules")
def _() -> None:
    file = io.BytesIO()
    torch.save(nn.Linear(1, 1), file)
    file.seek(0)
    with pytest.raises(Exception, match="safe_globals"):
        torch.load(file)


@row("resizing `uint8` images by `bilinear` or `bicubic`")
def _() -> None:
    x = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    for mode in ("bilinear", "bicubic"):
        refused(lambda mode=mode: F.interpolate(x, (3, 3), mode=mode), "convert the input")
    assert F.interpolate(x, (3, 3)).dtype is torch.uint8


@row("`output_padding` of a transposed convolution as large as its stride")
def _() -> None:
    refused(lambda: F.conv_transpose1d(torch.ones(1, 1, 3), torch.ones(1, 1, 2), output_padding=1,
                                       dilation=2))


# Different ---------------------------------------------------------------------------------------

CHECKS["random numbers on the CPU"] = "tests/test_random.py has PyTorch's numbers"
CHECKS["random numbers on CUDA"] = "tests/cuda has what Philox gives"
CHECKS["rounding"] = "it depends on the libraries there are"
CHECKS["repeating a run"] = "tests/cuda runs kernels with threads in other orders"
CHECKS["TF32 in convolutions on CUDA"] = "only a GPU has it"
CHECKS["peak of CUDA memory"] = "tests/cuda has the figures"


@row("`torch.cuda.OutOfMemoryError`", cuda=True)
def _() -> None:
    assert issubclass(torch.cuda.OutOfMemoryError, MemoryError)


@row("half precision on the CPU")
def _() -> None:
    x = torch.full((4096,), 1.0, dtype=torch.float16)
    assert x.cumsum(0)[-1].item() == 4096 and (x * 16).mean().item() == 16


CHECKS["error texts"] = "tests/parity compares them all"


@row("settings of determinism, warnings and interop threads")
def _() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not before)
    assert torch.are_deterministic_algorithms_enabled() is not before
    torch.use_deterministic_algorithms(before)
    assert torch.set_flush_denormal(True) is False


@row("second order of batch norm, convolution and others")
def _() -> None:
    x = torch.arange(8.0).reshape(4, 2).requires_grad_()
    assert second(lambda t: F.batch_norm(t, None, None, training=True) ** 2, x).shape == (4, 2)


@row("memory order of factors (`linalg.inv`, `svd`, ...)")
def _() -> None:
    assert torch.linalg.inv(torch.eye(3)).is_contiguous()


@row("`linalg.ldl_*` on CUDA; `lobpcg`")
def _() -> None:
    refused(lambda: torch.lobpcg(torch.eye(6), k=1, tracker=print))


@row("`addmm`, `addmv`, `baddbmm`, `addbmm` of integers with a fractional `alpha` or `beta`")
def _() -> None:
    a = torch.ones(2, 2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="alpha"):
        torch.addmm(a, a, a, alpha=0.5)


@row("second order of `cdist`; gradients of `nan_to_num`, `silu` and `where` of complex numbers")
def _() -> None:
    x = torch.tensor([[0.0], [1.0]], requires_grad=True)
    assert second(lambda t: torch.cdist(t, torch.ones(1, 1) * 3) ** 2, x) is not None
    z = torch.tensor([1 + 1j], requires_grad=True)
    assert grad(z.nan_to_num().abs().sum(), z)[0].is_complex()


@row("`linalg.matrix_exp` in half precision")
def _() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, 1.5]])
    want = torch.linalg.matrix_exp(x)
    assert torch.allclose(torch.linalg.matrix_exp(x.half()).float(), want, 1e-2)


@row("`linalg.cond` with orders other than 2")
def _() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, 3.0]], requires_grad=True)
    assert grad(torch.linalg.cond(x, 1), x)[0].shape == (2, 2)


CHECKS["singular matrices on CUDA"] = "only a real GPU has cuSOLVER"


@row("gradients that depend on the phase of complex eigenvectors")
def _() -> None:
    x = torch.tensor([[1.0, -2.0], [1.5, 1.0]], requires_grad=True)
    with pytest.raises(RuntimeError, match="phi"):
        torch.linalg.eig(x)[1].sum().abs().backward()


@row("graphs and time")
def _() -> None:
    x, seen = leaf(1.0), []
    y = x * 2
    y.register_hook(lambda g: seen.append(threading.current_thread()))
    y.sum().backward()
    assert seen == [threading.current_thread()]


@row("`grad_fn` names")
def _() -> None:
    x = torch.ones(2, 3, 3, requires_grad=True)
    assert (x @ x).grad_fn.name() == "BmmBackward0"
    assert x.exp().grad_fn.name() == "ExpBackward0"


@row("indices out of range on CUDA", cuda=True)
def _() -> None:
    x, i = torch.ones(3, device="cuda"), torch.tensor([5], device="cuda")
    assert math.isnan(x[i].item()) and math.isnan(x.gather(0, i).item())
    x[i] = 9.0
    assert x.tolist() == [1, 1, 1]


@row("classes out of range in a loss, negative Poisson rates and variances, on CUDA", cuda=True)
def _() -> None:
    x = torch.ones(1, 3, device="cuda", requires_grad=True)
    loss = F.cross_entropy(x, torch.tensor([7], device="cuda"))
    assert math.isnan(loss.item())
    assert math.isnan(torch.poisson(torch.tensor([-1.0], device="cuda")).item())
    var = torch.tensor([-1.0], device="cuda")
    assert math.isfinite(F.gaussian_nll_loss(var, var, var).item())


@row("`cross_entropy`")
def _() -> None:
    node = F.cross_entropy(torch.ones(1, 3, requires_grad=True), torch.tensor([1])).grad_fn
    assert node.name() == "NllLossBackward0"
    assert node.next_functions[0][0].name() == "LogSoftmaxBackward0"


@row("dropout on CUDA", cuda=True)
def _() -> None:
    x = torch.ones(64, device="cuda")
    torch.manual_seed(1)
    a = F.dropout(x).tolist()
    torch.manual_seed(1)
    assert F.dropout(x).tolist() == a


@row("steps, and other numbers of NAdam and ASGD, that an optimizer keeps on the device", cuda=True)
def _() -> None:
    w = torch.ones(2, device="cuda", dtype=torch.float64, requires_grad=True)
    opt = torch.optim.Adam([w], capturable=True)
    w.sum().backward()
    opt.step()
    assert opt.state[w]["step"].dtype is torch.float32


CHECKS["`GradScaler.step` on CUDA"] = "tests/amp counts what the host waits for"
CHECKS["`Muon`"] = "a package decides"


@row("`autocast` on the CPU: `bilinear`, `linalg.vecdot`, `LSTMCell`, `pdist`, `F.pad` by "
     "replicating, `index_copy`")
def _() -> None:
    x = torch.ones(2, 3)
    with torch.autocast("cpu", torch.float16):
        assert F.bilinear(x, x, torch.ones(2, 3, 3)).dtype is torch.float16


@row("several values written to one place by `scatter`, `index_copy`, `put`")
def _() -> None:
    i, v = torch.tensor([0, 0]), torch.tensor([1.0, 2.0])
    for write in ("scatter", "index_copy"):
        assert getattr(torch.zeros(2), write)(0, i, v).tolist() == [2, 0]
    assert torch.zeros(2).put(i, v).tolist() == [2, 0]


@row("`masked_fill_`, `index_fill_`, `index_put_` on elements that share memory")
def _() -> None:
    i = torch.tensor([0])
    for write in (lambda x: x.masked_fill_(x > 0, 1), lambda x: x.index_fill_(0, i, 1),
                  lambda x: x.index_put_((i,), torch.tensor(1.0))):
        with pytest.raises(RuntimeError, match="single memory location"):
            write(torch.ones(1).expand(3))


@row("`resize_`, and `out=` of another shape")
def _() -> None:
    x = torch.zeros(6)
    view, _ = x[:2], x.resize_(12)
    x.fill_(1)
    assert view.tolist() == [0, 0]


@row("`bessel_*`, `airy_ai`, `i0` and kin at infinity; `polygamma` at its poles")
def _() -> None:
    far = torch.tensor(math.inf)
    assert torch.special.bessel_j0(far).item() == 0 == torch.special.airy_ai(far).item()
    assert torch.i0(far).item() == math.inf
    assert torch.polygamma(1, torch.tensor(-1.0)).item() == math.inf


@row("special functions")
def _() -> None:
    assert torch.special.bessel_j0(torch.zeros(1, dtype=torch.float16)).dtype is torch.float16


@row("second derivatives of `embedding(scale_grad_by_freq=True)`")
def _() -> None:
    w, i = torch.ones(2, 1, requires_grad=True), torch.tensor([0, 0])
    g = grad((F.embedding(i, w, scale_grad_by_freq=True) ** 2).sum(), w, create_graph=True)[0]
    assert grad(g.sum(), w)[0].tolist() == [[1], [0]]          # 4 / 2 / 2


@row("`eq_`, `lt_` and kin")
def _() -> None:
    x, y = leaf(1.0), leaf(2.0)
    z = (x * 1).eq_(y)
    assert z.grad_fn.name() == "CopyBackwards" and grad(z.sum(), y, allow_unused=True) == (None,)


@row("`vmap`")
def _() -> None:
    calls: list[Any] = []
    func.vmap(lambda x: calls.append(x.item()) or x)(torch.ones(3))
    assert calls == [1, 1, 1]


@row("gradients of `amax`, `amin`, `aminmax` where the extreme is NaN")
def _() -> None:
    x = leaf(math.nan, 1.0)
    assert grad(x.amax(), x)[0].tolist() == [1, 0]


@row("`dim=None` in `max`, `min`, `prod`, `median`, `nanmedian`")
def _() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    every = (torch.max, torch.min, torch.prod, torch.median, torch.nanmedian)
    assert [f(x, dim=None).item() for f in every] == [4, 1, 24, 2, 2]


@row("`out=` of `relu`, `broadcast_to` and others")
def _() -> None:
    out = torch.empty(2)
    assert torch.relu(torch.tensor([-1.0, 1.0]), out=out) is out and out.tolist() == [0, 1]


@row("attention with `is_causal` and a mask")
def _() -> None:
    q = torch.eye(2)[None, None]
    hide = torch.tensor([[True, True], [False, True]])
    assert F.scaled_dot_product_attention(q, q, q, hide, is_causal=True).tolist() == q.tolist()


@row("`sdpa_kernel`; `CausalBias`")
def _() -> None:
    from gpugrad.nn.attention import SDPBackend, bias, sdpa_kernel
    assert not isinstance(bias.causal_lower_right(2, 2), torch.Tensor)
    q = torch.ones(1, 1, 2, 3)
    with sdpa_kernel(SDPBackend.MATH):
        assert F.scaled_dot_product_attention(q, q, q).tolist() == q.tolist()


@row("`TransformerEncoder` in eval: sequences that are all padding; `mask_check=False`")
def _() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    net = nn.TransformerEncoder(layer, 1, mask_check=False).eval()
    with torch.no_grad():
        y = net(torch.ones(2, 3, 4), src_key_padding_mask=torch.tensor([[True] * 3,
                                                                        [True, False, False]]))
    assert not y[0].any() and not y[1, 0].any() and y[1, 1:].all()


@row("taps of weight 0 in a resize's gradient; NaN places in `grid_sample`")
def _() -> None:
    place = torch.full((1, 1, 1, 2), math.nan)
    assert F.grid_sample(torch.ones(1, 1, 2, 2), place, align_corners=False).item() == 0


@row("second derivatives of `grid_sample`, `pdist`, `embedding_bag`, attention")
def _() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    assert second(lambda t: F.pdist(t) ** 2, x) is not None
    q = torch.eye(2)[None, None].requires_grad_()
    assert second(lambda t: F.scaled_dot_product_attention(t, t, t), q) is not None


@row("views made under `no_grad`")
def _() -> None:
    x = leaf(1.0, 2.0)
    with torch.no_grad():
        assert not x[0].requires_grad


@row("`x[...] = ` a NumPy array or number")
def _() -> None:
    x = torch.zeros(2)
    x[...] = np.array([1.0, 2.0])
    x[0] = np.float32(3)
    assert x.tolist() == [3, 2]


@row("sizes and dims one by one in functions (`torch.reshape(x, 2, 3)`)")
def _() -> None:
    assert torch.reshape(torch.ones(6), 2, 3).shape == (2, 3)
    assert torch.permute(torch.ones(2, 3), 1, 0).shape == (3, 2)


@row("integers and bools in products, convolutions, `unfold`")
def _() -> None:
    b = torch.tensor([[True, False], [True, True]])
    assert (b @ b).tolist() == [[True, False], [True, True]]
    x = torch.arange(9).reshape(1, 1, 3, 3)
    assert F.unfold(x, 3).dtype is F.conv2d(x, x).dtype is torch.int64


@row("`channels_last` on the CPU")
def _() -> None:
    x = torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert (x * 2).is_contiguous(memory_format=torch.channels_last)
    assert F.max_pool2d(x, 2).is_contiguous()


@row("`channels_last` in group norm, `max_unpool2d`, `lp_pool2d`; in circular padding, "
     "`masked_fill`, the gradient of bicubic resizing")
def _() -> None:
    x = torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert F.group_norm(x, 1).is_contiguous() and F.lp_pool2d(x, 2, 2).is_contiguous()
    for y in (F.pad(x, (1, 1, 1, 1), mode="circular"), x.masked_fill(x > 0, 2)):
        assert y.is_contiguous(memory_format=torch.channels_last)


@row("strides of copies made from a transposed tensor (`x.t()[i]`, `index_fill`, `*_scatter`, "
     "`pad`, `tril`), and of operations on operands in several orders")
def _() -> None:
    x, i = torch.ones(3, 4).t(), torch.tensor([0, 1])
    assert (x + torch.ones(4, 3)).is_contiguous()
    assert x[i].is_contiguous() and x.index_fill(0, i, 0).is_contiguous()


@row("`grad_fn` of `fill_` and `zero_`; of one op for several names or dims (resizing, `pad`, "
     "samples without a batch)")
def _() -> None:
    x = leaf(1.0, 2.0)
    assert (x * 1).zero_().grad_fn.name() == "FillBackward0"
    image = torch.ones(1, 1, 2, 2, requires_grad=True)
    assert F.interpolate(image, (3, 3)).grad_fn.name() == "UpsampleBackward0"


@row("second order of norms, `normalize` and `cosine_similarity` at 0")
def _() -> None:
    x = torch.zeros(1, 2, requires_grad=True)
    assert second(F.normalize, x) is None or not second(F.normalize, x).isnan().any()


@row("`linalg.vector_norm` of order 0")
def _() -> None:
    x = leaf(1.0, 2.0)
    assert grad(torch.linalg.vector_norm(x, 0), x)[0].tolist() == [0, 0]


@row("`cat` with an empty vector among tensors of more dims")
def _() -> None:
    x, none = torch.ones(1, 2, requires_grad=True), torch.ones(0, requires_grad=True)
    assert grad(torch.cat([x, none]).sum(), none, allow_unused=True) == (None,)


@row("gradients of `std(dim=())`, `polar` of negative lengths, `atan2` of small integers, "
     "`ctc_loss` with the blank among its targets, `CrossMapLRN2d`")
def _() -> None:
    x = leaf(1.0, 2.0)
    assert grad(x.std(dim=()), x)[0].isfinite().all()
    small = torch.tensor([100, 200], dtype=torch.uint8)
    want = grad(torch.atan2(x, small.float()).sum(), x)[0]
    assert grad(torch.atan2(x, small).sum(), x)[0].tolist() == want.tolist()
    r = leaf(-2.0, -3.0)
    assert grad(torch.polar(r, torch.zeros(2)).real.sum(), r)[0].tolist() == [1, 1]


CHECKS["gradients of gamma, beta and Dirichlet samples"] = \
    "tests/op_db_implicit.py has them by integrals"


@row("`unique_consecutive(x, True)`")
def _() -> None:
    assert torch.unique_consecutive(torch.tensor([3, 3, 1]), True)[1].tolist() == [0, 0, 1]


@row("`Multinomial.entropy()` after `expand`; deep copies of an `UninitializedBuffer`; "
     "`orthogonal_` and margin losses in half precision")
def _() -> None:
    d = torch.distributions.Multinomial(3, torch.ones(2))
    assert d.expand((2,)).entropy().tolist() == [d.entropy().item()] * 2
    assert isinstance(copy.deepcopy(nn.UninitializedBuffer()), nn.UninitializedBuffer)
    x = nn.init.orthogonal_(torch.empty(2, 2, dtype=torch.float16))
    assert F.multi_margin_loss(x, torch.tensor([0, 1])).dtype is torch.float16


@row("`torch.save` of uninitialized parameters")
def _() -> None:
    with pytest.raises(ValueError, match="uninitialized"):
        torch.save(nn.LazyLinear(2).state_dict(), io.BytesIO())


@row("`soft_margin_loss` far from 0; `multi_margin_loss` of nothing")
def _() -> None:
    assert F.soft_margin_loss(torch.tensor(-1000.0), torch.tensor(1.0)).item() == 1000
    none = torch.ones(0, 3), torch.ones(0, dtype=torch.int64)
    assert math.isnan(F.multi_margin_loss(*none).item())
    assert F.multi_margin_loss(*none, reduction="sum").item() == 0


CHECKS["`acc_policy`, `allow_retain_graph` in the options of `linear_cross_entropy`"] = \
    "no value shows it"


@row("dims of `cummax` of nothing, too long lengths in `pack_padded_sequence`, labels of "
     "`ctc_loss` out of range")
def _() -> None:
    with pytest.raises(IndexError):
        torch.cummax(torch.ones(0, 3), 5)
    with pytest.raises(RuntimeError, match="length"):
        nn.utils.rnn.pack_padded_sequence(torch.ones(3, 1), [4])
    with pytest.raises(IndexError):
        F.ctc_loss(torch.zeros(2, 1, 3), torch.tensor([[7]]), [2], [1])


@row("transposed convolution with a result of size 0")
def _() -> None:
    with pytest.raises(RuntimeError, match="too small"):
        F.conv_transpose1d(torch.ones(1, 1, 1), torch.ones(1, 1, 2), padding=1)


@row("output of `GRU` and `RNN` changed in place before backward")
def _() -> None:
    y = nn.GRU(2, 2)(torch.ones(1, 1, 2))[0]
    with pytest.raises(RuntimeError, match="inplace"):
        y.mul_(2).sum().backward()


@row("`unpad_sequence`")
def _() -> None:
    x = torch.ones(3, 2)
    nn.utils.rnn.unpad_sequence(x, torch.tensor([3, 1]))
    assert x.shape == (3, 2)


@row("hooks on saved tensors")
def _() -> None:
    seen: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        leaf(1.0).exp()
    assert seen and seen[0].grad_fn is None


@row("a value of a checkpoint unpacked twice in one backward")
def _() -> None:
    calls: list[Any] = []
    y = torch.utils.checkpoint.checkpoint(lambda t: calls.append(t) or t.exp(), leaf(0.0),
                                          use_reentrant=False)
    y.register_hook(lambda g: y.grad_fn._saved_result and None)
    y.sum().backward()
    assert len(calls) == 3


@row("`remove_spectral_norm`")
def _() -> None:
    layer = nn.utils.spectral_norm(nn.Linear(2, 2))
    assert layer._load_state_dict_pre_hooks
    assert not nn.utils.remove_spectral_norm(layer)._load_state_dict_pre_hooks


@row("`torch.__version__`")
def _() -> None:
    assert torch.__version__ == importlib.import_module("gpugrad").__version__


@row("gradients of `cholesky_inverse` and `cholesky_solve`")
def _() -> None:
    x = torch.tensor([[2.0, 0.5], [1.0, 3.0]], requires_grad=True)
    assert grad(torch.cholesky_inverse(x).sum(), x)[0][0, 1].item() == 0


@row('`embedding_bag` with `include_last_offset` and "mean", or `scale_grad_by_freq`')
def _() -> None:
    w = torch.tensor([[1.0], [3.0], [9.0]])
    out = F.embedding_bag(torch.tensor([0, 1, 2]), w, torch.tensor([0, 2]), mode="mean",
                          include_last_offset=True)
    assert out.tolist() == [[2.0]]


@row("`vmap` and `jacrev` over no elements, second derivatives that are constant")
def _() -> None:
    x = torch.ones(0, 3, requires_grad=True)
    assert not func.vmap(lambda t: t * 2)(x).requires_grad


@row("convolution of no channels")
def _() -> None:
    y = F.conv1d(torch.ones(2, 0, 4), torch.ones(3, 0, 2), torch.ones(3))
    assert y.shape == (2, 3, 3) and y.sum().item() == 18


@row("unfolded views that overlap, written in place")
def _() -> None:
    x = torch.arange(4.0)
    x.unfold(0, 2, 1).mul_(2)
    assert x.tolist() == [0, 2, 4, 6]


# -------------------------------------------------------------------------------------------------

def test_each_row_has_a_check_or_a_reason() -> None:
    assert sorted(rows()) == sorted(CHECKS), "docs/differences.md and CHECKS name different rows"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", [
    pytest.param(text, marks=[pytest.mark.gpu] if text in ON_CUDA else [])
    for text, check in CHECKS.items() if callable(check)])
def test_the_row_is_true(text: str) -> None:
    check = CHECKS[text]
    assert callable(check)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()


def test_what_the_page_says_of_modules() -> None:
    """The sentence between the tables."""
    said = re.findall(r"`([\w.]+)` lacks ([^.;]*)[.;]", PAGE.read_text())
    assert said
    for module, names in said:
        for name in re.findall(r"`(\w+)`", names):
            absent(f"gpugrad.{module}.{name}")
