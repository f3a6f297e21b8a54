"""Losses against PyTorch: values, dtypes, gradients of both orders, graphs, errors, warnings."""
from __future__ import annotations

import inspect
import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import side_by_side
from side_by_side import check, lines

import gpugrad
from gpugrad import nn

torch = pytest.importorskip("torch")

# Names beside side_by_side's: F is nn.functional; z (3, 4); a, c in 0 .. 1; sign of 1 and -1;
# classes (3,), image (2, 3, 4, 5) and its classes of_image, labels (3, 4) for
# multilabel_margin_loss, one (3,) of 1 and -1; w4 (4,).
_r = np.random.default_rng(5)
MORE: dict[str, Any] = {
    "z": _r.standard_normal((3, 4)).astype(np.float32),
    "a": _r.uniform(0.05, 0.95, (3, 4)).astype(np.float32),
    "g": _r.uniform(0.05, 0.95, (3, 4)).astype(np.float32),
    "sign": np.where(_r.random((3, 4)) < 0.5, -1, 1), "one": np.array([1, -1, 1]),
    "classes": np.array([0, 3, 1]), "w4": np.array([1, 2, 3, 0.5], np.float64),
    "image": _r.standard_normal((2, 3, 4, 5)).astype(np.float32),
    "of_image": _r.integers(0, 3, (2, 4, 5)),
    "labels": np.array([[0, 1, -1, 2], [3, -1, 0, 0], [1, 1, 3, -1]])}


@pytest.fixture(autouse=True)
def more_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in MORE.items():
        monkeypatch.setitem(side_by_side.INPUTS, name, value)


def known_for(known: str, reduction: str) -> str:
    """Differences in the graph that only one reduction has: "none:grad_fn"."""
    return " ".join([k.rpartition(":")[2] for k in known.split()
                     if ":" not in k or k.startswith(reduction)])


def each(cases: str) -> list[Any]:
    """Every case with each reduction for R; F stands for nn.functional."""
    out = []
    for line in cases.strip().splitlines():
        code, _, known = line.partition("#!")
        for r in ("none", "mean", "sum") if "R" in code else ("",):
            out.append(code.replace("R", f"reduction={r!r}") + " #! " + known_for(known, r))
    text = "\n".join(out)
    return lines(text.replace("F.", "t.nn.functional."))


# After "#!" what is known to differ. A sample without a batch dim is one to PyTorch's kernels; it
# refuses gradients of mixed dtypes, and of nll_loss where a single class is in a list.
VALUES = each("""
F.l1_loss(x, y, R)
F.l1_loss(x, y.detach()[0], R)
F.l1_loss(x, y, weight=p.detach(), R)
F.mse_loss(x, y, R)
F.mse_loss(x, y.detach(), weight=p.detach(), R)
F.mse_loss(x.detach(), y.detach().double(), R)
F.mse_loss(x, x, R)
F.smooth_l1_loss(x, y, R)
F.smooth_l1_loss(x, y, R, beta=0.5)
F.smooth_l1_loss(x, y, R, beta=0)
F.smooth_l1_loss(x.detach(), y.detach().double(), R)
F.smooth_l1_loss(x, y[0], R)
F.huber_loss(x, y, R)
F.huber_loss(x, y, R, delta=0.3)
F.huber_loss(x.detach(), y.detach().double(), R)
F.huber_loss(x, i, R) #! error
F.huber_loss(x, y, weight=p.detach(), R)
F.soft_margin_loss(x, sign, R)
F.soft_margin_loss(x, sign[0], R)
F.soft_margin_loss(x, sign.double(), R)
F.binary_cross_entropy(a, g, R)
F.binary_cross_entropy(a, g, weight=p.detach(), R)
F.binary_cross_entropy(a, g.detach(), weight=p.detach()[0], R)
F.binary_cross_entropy(a, (g.detach() > 0.5).float(), R)
F.binary_cross_entropy(a.detach(), g.detach(), weight=p.detach().double(), R)
F.binary_cross_entropy(t.tensor([0.0, 1, 0, 1], requires_grad=True), t.tensor([0.0, 0, 1, 1]), R)
F.binary_cross_entropy_with_logits(x, g, R)
F.binary_cross_entropy_with_logits(x * 100, g, R)
F.binary_cross_entropy_with_logits(x, g, weight=p.detach(), pos_weight=p.detach()[0], R)
F.binary_cross_entropy_with_logits(x, g, pos_weight=w4.detach().float(), R)
F.binary_cross_entropy_with_logits(x, g.detach(), weight=p.detach()[:, :1], R)
F.binary_cross_entropy_with_logits(x.detach(), g.detach().double(), R)
F.kl_div(x, a, R)
F.kl_div(x, y, R, log_target=True)
F.kl_div(x, a, reduction="batchmean")
F.kl_div(x, t.tensor([0, 1, 0.5, 0.25]), R)
F.kl_div(x.detach(), y.detach(), R)
F.kl_div(x[0, 0], a[0, 0], reduction="batchmean")
F.poisson_nll_loss(x, j, R)
F.poisson_nll_loss(p, y, R, log_input=False)
F.poisson_nll_loss(x, j - 1, R, full=True)
F.gaussian_nll_loss(x, y, p, R)
F.gaussian_nll_loss(x, y, p, R, full=True)
F.gaussian_nll_loss(x, y, p * 0, R, eps=0.01)
F.gaussian_nll_loss(x, y, 0.5, R)
F.gaussian_nll_loss(x, y, p[:, 0], R)
F.gaussian_nll_loss(x, y, p[:, :1], R)
F.hinge_embedding_loss(x, sign, R)
F.hinge_embedding_loss(x, sign, margin=0.3, R)
F.hinge_embedding_loss(x, i, R)
F.cosine_embedding_loss(x, y, one, R)
F.cosine_embedding_loss(x, y, one, margin=-0.5, R)
F.cosine_embedding_loss(x[0], y[0], one[1], R)
F.cosine_embedding_loss(x, y * 0, one, R)
F.cosine_embedding_loss(x, y, one - 1, R)
F.margin_ranking_loss(x, y, sign, R)
F.margin_ranking_loss(x, y, sign[:1], margin=0.4, R)
F.margin_ranking_loss(i, j, sign, R)
F.triplet_margin_loss(x, y, z, R)
F.triplet_margin_loss(x, y, z, R, p=1, margin=2.5, swap=True)
F.triplet_margin_loss(x, y, z, R, p=3, eps=0.1)
F.triplet_margin_loss(x[0], y[0], z[0], R)
F.triplet_margin_with_distance_loss(x, y, z, R, swap=True)
F.triplet_margin_with_distance_loss(x, y, z, distance_function=t.dist, R)
F.multi_margin_loss(x, classes, R)
F.multi_margin_loss(x, classes, p=2, margin=0.5, R)
F.multi_margin_loss(x, classes, weight=w4.detach().float(), R)
F.multi_margin_loss(x[0], classes[0], R) #! none:grad_fn
F.multi_margin_loss(x[0], classes[:1], R)
F.multi_margin_loss(x[0, 0], k[0] * 0, R) #! none:grad_fn
F.multilabel_margin_loss(x, labels, R)
F.multilabel_margin_loss(x[1], labels[0], R) #! none:grad_fn
F.multilabel_margin_loss(x[0, 0], k[0] * 0, R) #! none:grad_fn
F.multilabel_soft_margin_loss(x, a.detach().round(), R)
F.multilabel_soft_margin_loss(x, a.detach().round(), weight=w4.detach().float(), R)
F.multilabel_soft_margin_loss(x[0], a[0], R)
F.nll_loss(x, classes, R)
F.nll_loss(x, classes, ignore_index=3, R)
F.nll_loss(x, classes, weight=w4.detach().float(), R)
F.nll_loss(x[0], classes[0], R) #! none:grad_fn
F.nll_loss(x[0], classes[:1], R) #! error
F.nll_loss(x, classes * 0 - 100, R)
F.nll_loss(A, k4 % 3, R)
F.nll_loss(image, of_image, R)
F.nll_loss(image[..., None].expand(2, 3, 4, 5, 2), of_image[..., None].expand(2, 4, 5, 2), R)
F.cross_entropy(x, classes, R)
F.cross_entropy(x, classes, weight=w4.detach().float(), ignore_index=1, R)
F.cross_entropy(x, classes.to(t.uint8), R)
F.cross_entropy(x, a.detach(), R) #! mean:grad_fn
F.cross_entropy(x, a, weight=w4.detach().float(), R) #! mean:grad_fn
F.cross_entropy(A, A.detach().softmax(1), label_smoothing=0.3, R) #! mean:grad_fn
F.cross_entropy(x[0], a.detach()[0], R) #! mean:grad_fn
F.cross_entropy(x[0], classes[0], R) #! none:grad_fn
F.linear_cross_entropy(x, y, classes - classes // 3, R)
F.linear_cross_entropy(x, y, classes - classes // 3, R, linear_bias=w, label_smoothing=0.1)
F.linear_cross_entropy(x[0], y, classes[2], R) #! none:grad_fn
F.linear_cross_entropy(x, y, a.detach()[:, :3], R) #! mean:grad_fn
F.linear_cross_entropy(x, t.stack([y, z], 1), (classes - classes // 3)[:, None].repeat(1, 2), R)
F.linear_cross_entropy(x, y, classes % 3, weight=w4.detach().float()[:3], ignore_index=1, R)
""")


@pytest.mark.parametrize("code, known", VALUES)
def test_values_gradients_and_graphs(code: str, known: list[str]) -> None:
    check(code, known)


# In a line after "#!" "text": only the exception's type is the same.
ERRORS = each("""
F.l1_loss(x, y, reduction="batchmean")
F.mse_loss(x, y[:, :2])
F.mse_loss(x, y, weight=w)
F.mse_loss(i, j) #! text
F.smooth_l1_loss(x, y, beta=-1)
F.smooth_l1_loss(i, j) #! text
F.huber_loss(x, y, delta=0)
F.huber_loss(i, i) #! text
F.kl_div(i, j)
F.soft_margin_loss(x, y[:, :2])
F.soft_margin_loss(i, j)
F.soft_margin_loss(x, y.clone().requires_grad_())
F.binary_cross_entropy(x, a)
F.binary_cross_entropy(a, x)
F.binary_cross_entropy(a, g[0])
F.binary_cross_entropy(a, g.double())
F.binary_cross_entropy(a, g, weight=p.clone().requires_grad_())
F.binary_cross_entropy(a, g, weight=p[:, :2]) #! text
F.binary_cross_entropy_with_logits(x, g[0])
F.binary_cross_entropy_with_logits(x, i)
F.binary_cross_entropy_with_logits(x, b) #! text
F.binary_cross_entropy_with_logits(x, g, pos_weight=p.clone().requires_grad_())
F.binary_cross_entropy_with_logits(x, g, weight=B[:, 0])  #! text
F.poisson_nll_loss(x, y, reduction="x")
F.gaussian_nll_loss(x, y, -p)
F.gaussian_nll_loss(x, y, -1.0)
F.gaussian_nll_loss(x, y, p[:2])
F.gaussian_nll_loss(x, y, 1) #! text
F.gaussian_nll_loss(x, y, p, reduction="x")
F.cosine_embedding_loss(x, y, one[0])
F.cosine_embedding_loss(x, y, one[None])
F.cosine_embedding_loss(x, y, one[:2])
F.cosine_embedding_loss(A, A, one)
F.margin_ranking_loss(x, y, sign[0])
F.margin_ranking_loss(x, y, sign[:2])
F.triplet_margin_loss(x, y, z[0])
F.triplet_margin_loss(x, y, z, margin=0)
F.triplet_margin_with_distance_loss(x, y, z, margin=0)
F.triplet_margin_with_distance_loss(x, y[0], z)
F.triplet_margin_with_distance_loss(x, y, z, reduction="x")
F.multi_margin_loss(x, classes + 1)
F.multi_margin_loss(x, classes - 1)
F.multi_margin_loss(x, classes[:2])
F.multi_margin_loss(x, classes.int())
F.multi_margin_loss(A, classes)
F.multi_margin_loss(x, classes, p=3)
F.multi_margin_loss(x, classes, weight=w)
F.multi_margin_loss(x, classes, weight=y)
F.multi_margin_loss(x, classes, weight=w4.double())
F.multi_margin_loss(i, classes) #! text
F.multilabel_margin_loss(x, labels + 1)
F.multilabel_margin_loss(x, labels[:, :2])
F.multilabel_margin_loss(x, labels.int())
F.multilabel_soft_margin_loss(x, a, reduction="x")
F.multilabel_soft_margin_loss(s, s)
F.nll_loss(s, classes[0])
F.nll_loss(x, classes + 1)
F.nll_loss(x, classes.int())
F.nll_loss(x, classes[:2])
F.nll_loss(x, classes[:, None])
F.nll_loss(A, k4[:, :3] * 0)
F.nll_loss(t.stack([A, A], 3), k4 * 0)
F.nll_loss(t.stack([A, A], 3), (k4 * 0)[:, :, None])
F.nll_loss(x, classes, weight=w)
F.nll_loss(x, classes, weight=w4.detach().double())
F.nll_loss(i, classes) #! text
F.cross_entropy(x, classes, label_smoothing=2)
F.cross_entropy(x, a, ignore_index=1)
F.cross_entropy(x, i)
F.cross_entropy(x[0], classes)
F.cross_entropy(x, classes, weight=w4.detach().float().requires_grad_())
F.linear_cross_entropy(A, y, classes)
F.linear_cross_entropy(x, y[0], classes)
F.linear_cross_entropy(x, y[:, :2], classes)
F.linear_cross_entropy(x, y, classes, linear_bias=w4)
F.linear_cross_entropy(x[0], t.stack([y, z], 1), classes[0])
F.linear_cross_entropy(x, y, a[:, :3], ignore_index=1)
""")


@pytest.mark.parametrize("code, known", ERRORS)
def test_bad_input(code: str, known: list[str]) -> None:
    """The error, and its text as far as PyTorch's goes."""
    import side_by_side as s

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = s.outcome(torch, code, False), s.outcome(gpugrad, code, False)
    assert "error" in theirs, theirs
    assert ours.get("error") == theirs["error"], (theirs, ours)
    if "text" not in known:
        assert ours["text"].startswith(theirs["text"].rstrip(". ")), (theirs["text"], ours["text"])


def leaf(lib: Any, a: Any, dtype: str = "float64") -> Any:
    t = lib.tensor(np.asarray(a).tolist(), dtype=getattr(lib, dtype))
    return t.requires_grad_() if a.dtype.kind == "f" else t


SECOND_ORDER = """
smooth_l1_loss(x, y, beta=0.7)
huber_loss(x, y, delta=0.7)
mse_loss(x, y)
l1_loss(x, y)
soft_margin_loss(x, sign)
binary_cross_entropy(a, g)
binary_cross_entropy(a, g, weight=p.detach())
binary_cross_entropy_with_logits(x, g)
binary_cross_entropy_with_logits(x, g, weight=p.detach(), pos_weight=p.detach()[0])
kl_div(x, a)
kl_div(x, y, log_target=True)
poisson_nll_loss(x, y)
gaussian_nll_loss(x, y, p)
cosine_embedding_loss(x, y, one)
triplet_margin_loss(x, y, z)
multilabel_soft_margin_loss(x, a)
nll_loss(x.log_softmax(1), classes)
cross_entropy(x, classes)
cross_entropy(x, a)
cross_entropy(x, classes, label_smoothing=0.2)
linear_cross_entropy(x, y, classes % 3)
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code, reduction", list(itertools.product(
    SECOND_ORDER.strip().splitlines(), ["none", "mean"])))
def test_gradients_of_gradients(code: str, reduction: str) -> None:
    found = []
    inputs = {**side_by_side.INPUTS, **MORE}
    for lib in (torch, gpugrad):
        scope = {n: leaf(lib, inputs[n]) if inputs[n].dtype.kind == "f" else
                 leaf(lib, inputs[n], "int64") for n in ("x", "y", "z", "a", "g", "p")}
        for name in ("sign", "one", "classes"):
            scope[name] = leaf(lib, inputs[name], "int64")
        functional = lib.nn.functional
        loss = eval(f"F.{code[:-1]}, reduction={reduction!r})", {"F": functional, **scope})
        leaves = [v for k, v in scope.items() if v.requires_grad and k in code]
        factor = lib.arange(1.0, loss.numel() + 1, dtype=lib.float64).reshape(loss.shape)
        first = lib.autograd.grad((loss * factor).sum(), leaves, create_graph=True,
                                  allow_unused=True)
        live = [(t * t).sum() for t in first if t is not None and t.requires_grad]
        second = lib.autograd.grad(sum(live), leaves, allow_unused=True) if live else []
        found.append([None if t is None else t.detach().clone().numpy()
                      for t in (*first, *second)])
    # where one library has no edge and the other zeros, both mean the same
    for theirs, ours in zip(*found):
        theirs, ours = (np.zeros(1) if t is None else t for t in (theirs, ours))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


HALF = """
l1_loss(x, y)
mse_loss(x, y)
smooth_l1_loss(x, y)
huber_loss(x, y, delta=0.5)
soft_margin_loss(x, sign)
binary_cross_entropy(a, g)
binary_cross_entropy_with_logits(x, g)
kl_div(x, a)
poisson_nll_loss(x, y)
gaussian_nll_loss(x, y, p)
hinge_embedding_loss(x, sign)
cosine_embedding_loss(x, y, one)
margin_ranking_loss(x, y, sign)
triplet_margin_loss(x, y, z)
multilabel_soft_margin_loss(x, a)
nll_loss(x, classes)
cross_entropy(x, classes)
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("code", HALF.strip().splitlines())
def test_16_bits(code: str, dtype: str) -> None:
    """As near to the exact result as PyTorch is, which rounds more often: within 4 roundings."""
    inputs = {**side_by_side.INPUTS, **MORE}
    found = []
    for lib, kind in ((torch, dtype), (gpugrad, dtype), (torch, "float64")):
        scope = {n: leaf(torch, inputs[n], dtype).detach() for n in ("x", "y", "z", "a", "g", "p")}
        scope = {n: leaf(lib, v.double().numpy(), kind) for n, v in scope.items()}
        for name in ("sign", "one", "classes"):
            scope[name] = leaf(lib, inputs[name], "int64")
        loss = eval(f"F.{code}", {"F": lib.nn.functional, **scope})
        loss.backward()
        assert str(loss.dtype) == f"torch.{kind}"
        assert str(scope["a" if "(a" in code else "x"].grad.dtype) == f"torch.{kind}"
        found.append([loss.item(), scope["a" if "(a" in code else "x"].grad.double().numpy()])
    eps = {"float16": 2 ** -11, "bfloat16": 2 ** -8}[dtype]
    for ours, exact in zip(found[1], found[2]):
        scale = max(1e-3, np.abs(exact).max())
        assert np.abs(ours - exact).max() <= 12 * eps * scale


# Connectionist temporal classification -----------------------------------------------------------


# No target is the blank, the last class: where PyTorch's gradient of the last time step then leaves
# out one of the two ways to say it.
def ctc_inputs(t: int, n: int, c: int, s: int, seed: int = 0) -> tuple[Any, ...]:
    r = np.random.default_rng(seed)
    x = r.standard_normal((t, n, c))
    targets = r.integers(0, c - 1, (n, s))
    return x, targets, r.integers(max(1, t - 5), t + 1, n), r.integers(0, s + 1, n)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("size", [(12, 3, 5, 4), (7, 4, 3, 5), (30, 2, 20, 1), (9, 2, 4, 0)])
@pytest.mark.parametrize("form", ["padded", "flat", "tensors"])
@pytest.mark.parametrize("zero", [False, True])
def test_ctc_loss(size: Any, form: str, reduction: str, dtype: str, zero: bool) -> None:
    x, targets, inputs, lengths = ctc_inputs(*size)
    found = []
    for lib in (torch, gpugrad):
        scores = leaf(lib, x, dtype)
        labels = lib.tensor(targets.tolist(), dtype=lib.int64).reshape(targets.shape)
        if form == "flat":
            labels = lib.cat([row[:k] for row, k in zip(labels, lengths.tolist())])
        times, counts = tuple(inputs.tolist()), tuple(lengths.tolist())
        if form == "tensors":
            times, counts = lib.tensor(times), lib.tensor(counts)
        log_probs = scores.log_softmax(2)
        log_probs.retain_grad()
        loss = lib.nn.functional.ctc_loss(log_probs, labels, times, counts, blank=size[2] - 1,
                                          reduction=reduction, zero_infinity=zero)
        factor = lib.arange(1, loss.numel() + 1, dtype=getattr(lib, dtype)).reshape(loss.shape)
        (loss * factor).sum().backward()
        found.append([v.detach().numpy() for v in (loss, log_probs.grad, scores.grad)])
    tight = {"float64": 1e-10, "float32": 2e-4}[dtype]
    for theirs, ours in zip(*found):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tight, atol=tight)


def test_ctc_loss_of_one_sequence() -> None:
    x, targets, *_ = ctc_inputs(6, 1, 4, 2)
    found = []
    for lib in (torch, gpugrad):
        scores = leaf(lib, x[:, 0])
        out = [lib.nn.functional.ctc_loss(scores.log_softmax(1), lib.tensor(targets[0].tolist()),
                                          times, counts, blank=3, reduction=r)
               for times, counts in ((lib.tensor(6), lib.tensor(2)), ((6,), (2,)))
               for r in ("none", "mean", "sum")]
        sum(out).backward()
        assert all(t.shape == () for t in out)
        found.append(np.array([*[t.item() for t in out], *scores.grad.numpy().ravel()]))
    np.testing.assert_allclose(*found)


CTC_ERRORS = ["(5, 6), (2, 2)", "(-1, 5), (2, 2)", "(5, 5), (-1, 2)", "(5, 5), (3, 2)",
              "(5,), (2, 2)", "(5, 5), (2,)", "(5, 5), t.tensor([2, 2])",
              "t.tensor([5.0, 5]), t.tensor([2, 2])", "t.tensor([5, 5]), t.tensor([2.0, 2])",
              "(5, 5), (2, 2), 4", "(5, 5), (2, 2), -1", "(5, 5), (2, 2), 0, 'x'"]


@pytest.mark.parametrize("rest", CTC_ERRORS)
def test_ctc_errors(rest: str) -> None:
    found = []
    for lib in (torch, gpugrad):
        x = lib.zeros(5, 2, 4)
        with pytest.raises(Exception) as error:
            eval(f"t.nn.functional.ctc_loss(x, t.ones(2, 2, dtype=t.int64), {rest})",
                 {"t": lib, "x": x})
        found.append(error)
    assert found[0].type is found[1].type
    head = str(found[0].value).partition(" (while")[0].partition(" received")[0]
    assert str(found[1].value).startswith(head), (str(found[0].value), str(found[1].value))


# Modules -----------------------------------------------------------------------------------------

LOSSES = sorted(n for n in dir(torch.nn) if n.endswith("Loss") or n == "NLLLoss2d")


@pytest.mark.parametrize("name", LOSSES)
def test_signatures(name: str) -> None:
    theirs = inspect.signature(getattr(torch.nn, name).__init__)
    ours = inspect.signature(getattr(nn, name).__init__)
    assert list(ours.parameters) == list(theirs.parameters)
    for k, v in theirs.parameters.items():
        assert (ours.parameters[k].default, ours.parameters[k].kind) == (v.default, v.kind), k


FUNCTIONS = [n for n in dir(torch.nn.functional) if n.endswith("_loss") and n[0] != "_"] + [
    "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div",
    "linear_cross_entropy"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_of_functions(name: str) -> None:
    theirs = inspect.signature(getattr(torch.nn.functional, name))
    ours = inspect.signature(getattr(gpugrad.nn.functional, name))
    assert list(ours.parameters) == list(theirs.parameters)
    for k, v in theirs.parameters.items():
        assert (ours.parameters[k].default, ours.parameters[k].kind) == (v.default, v.kind), k


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "size_average" in inspect.signature(
    getattr(torch.nn.functional, n)).parameters])
@pytest.mark.parametrize("old", [{"size_average": False}, {"reduce": False}, {"reduce": True},
                                 {"size_average": True, "reduce": False}])
def test_the_old_form_of_reductions(name: str, old: Any) -> None:
    """Value and warning, and the same from the module."""
    arguments = {"binary_cross_entropy": ("a", "g"), "cosine_embedding_loss": ("x", "y", "one"),
                 "margin_ranking_loss": ("x", "y", "sign"), "multi_margin_loss": ("x", "classes"),
                 "multilabel_margin_loss": ("x", "labels"), "nll_loss": ("x", "classes"),
                 "cross_entropy": ("x", "classes"), "soft_margin_loss": ("x", "sign"),
                 "hinge_embedding_loss": ("x", "sign"),
                 "triplet_margin_loss": ("x", "y", "z")}.get(name, ("x", "a"))
    inputs = {**side_by_side.INPUTS, **MORE}
    found = []
    for lib in (torch, gpugrad):
        tensors = [lib.tensor(inputs[n].tolist()) for n in arguments]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = getattr(lib.nn.functional, name)(*tensors, **old)
        found.append((out.shape, [str(w.message) for w in caught], [__file__ == w.filename
                                                                    for w in caught], out))
    assert tuple(found[0][0]) == tuple(found[1][0])
    assert found[0][1] == found[1][1]
    assert found[1][2] == [True]
    np.testing.assert_allclose(found[1][3].numpy(), found[0][3].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_the_warning_about_sizes(name: str) -> None:
    found = []
    for lib in (torch, gpugrad):
        with pytest.warns(UserWarning, match="Using a target size") as caught:
            getattr(lib.nn.functional, name)(lib.zeros(3, 4), lib.zeros(4))
        found.append([(str(w.message), w.filename) for w in caught])
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
@pytest.mark.parametrize("name", [
    "l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "kl_div",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "poisson_nll_loss",
    "hinge_embedding_loss"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_nothing(name: str, shape: Any, reduction: str) -> None:
    found = []
    for lib in (torch, gpugrad):
        x = lib.zeros(shape, requires_grad=True)
        loss = getattr(lib.nn.functional, name)(x, lib.zeros(shape), reduction=reduction)
        loss.sum().backward()
        found.append((loss.detach().numpy(), x.grad.numpy()))
    for theirs, ours in zip(*found):
        np.testing.assert_array_equal(ours, theirs, strict=True)


# AdaptiveLogSoftmaxWithLoss ----------------------------------------------------------------------

@pytest.mark.parametrize("bias", [False, True])
def test_adaptive_log_softmax(bias: bool) -> None:
    torch.manual_seed(3)
    gpugrad.manual_seed(3)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 20, [4, 10, 15], div_value=2.0, head_bias=bias)
    ours = nn.AdaptiveLogSoftmaxWithLoss(16, 20, [4, 10, 15], div_value=2.0, head_bias=bias)
    assert repr(ours) == repr(theirs)
    for (k, v), (name, w) in zip(theirs.state_dict().items(), ours.state_dict().items()):
        assert k == name
        np.testing.assert_array_equal(w.numpy(), v.numpy())
    x = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float32)
    target = [0, 3, 4, 19, 12, 15, 9]
    a, b = torch.tensor(x, requires_grad=True), gpugrad.tensor(x, requires_grad=True)
    their, our = theirs(a, torch.tensor(target)), ours(b, gpugrad.tensor(target))
    assert our._fields == their._fields
    their.loss.backward()
    our.loss.backward()
    pairs = [(their.output, our.output), (their.loss, our.loss), (a.grad, b.grad),
             (theirs.log_prob(a), ours.log_prob(b)), (theirs.predict(a), ours.predict(b))]
    pairs += [(p.grad, q.grad) for p, q in zip(theirs.parameters(), ours.parameters())]
    for p, q in pairs:
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-5, atol=1e-6)
    one, single = theirs(a[0], torch.tensor(19)), ours(b[0], gpugrad.tensor(19))
    assert single.output.shape == one.output.shape == ()
    np.testing.assert_allclose(single.output.item(), one.output.item(), rtol=1e-5)


@pytest.mark.parametrize("code", [
    "(8, 5, [])", "(8, 5, [3, 2])", "(8, 5, [5])", "(8, 5, [0])", "(8, 5, [2, 2])",
    "(8, 5, [2])(x, t.tensor([1, 2]))", "(8, 5, [2])(x, t.tensor([1, 5, 2]))",
    "(8, 5, [2])(x, t.tensor(1))", "(8, 5, [2])(x, t.ones(1, 1).long())",
    "(8, 5, [2])(x[None], t.tensor([1]))"])
def test_bad_input_of_adaptive_log_softmax(code: str) -> None:
    found = []
    for lib in (torch, gpugrad):
        with pytest.raises((ValueError, RuntimeError)) as error:
            eval(f"t.nn.AdaptiveLogSoftmaxWithLoss{code}", {"t": lib, "x": lib.zeros(3, 8)})
        found.append((error.type, str(error.value).strip()))
    assert found[0] == found[1]


# Cross entropy of a linear layer by chunks -------------------------------------------------------

@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_linear_cross_entropy_by_chunks(reduction: str, size: Any, dtype: str) -> None:
    r = np.random.default_rng(0)
    arrays = [r.standard_normal(s) for s in ((7, 5), (11, 5), (11,))]
    target, weight = r.integers(0, 11, 7), r.uniform(0.5, 2, 11)
    found = []
    for lib in (torch, gpugrad):
        x, w, b = [leaf(lib, a, dtype) for a in arrays]
        options = lib.nn.LinearCrossEntropyOptions(
            batch_chunk_size=size, acc_dtype=None if dtype != "bfloat16" else lib.float32)
        loss = lib.nn.functional.linear_cross_entropy(
            x, w, lib.tensor(target.tolist()), linear_bias=b, reduction=reduction, ignore_index=2,
            weight=lib.tensor(weight.tolist(), dtype=getattr(lib, dtype)), options=options)
        factor = lib.arange(1, loss.numel() + 1).to(loss.dtype).reshape(loss.shape)
        (loss * factor).sum().backward()
        found.append([v.detach().double().numpy() for v in (loss, x.grad, w.grad, b.grad)])
    tight = {"float32": 1e-4, "float64": 1e-9, "bfloat16": 0.06}[dtype]
    for theirs, ours in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=tight, atol=tight * max(1, abs(theirs).max()))


def test_options() -> None:
    for code in ("batch_chunk_size=0", "chunking_method='x'", "acc_policy='x'", "acc_dtype=t.int64",
                 "chunking_method='aspect_ratio:0'"):
        found = []
        for lib in (torch, gpugrad):
            with pytest.raises(ValueError) as error:
                eval(f"t.nn.LinearCrossEntropyOptions({code})", {"t": lib})
            found.append(str(error.value))
        assert found[0] == found[1]
    assert repr(nn.LinearCrossEntropyOptions()) == repr(torch.nn.LinearCrossEntropyOptions())
