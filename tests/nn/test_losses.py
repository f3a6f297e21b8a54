"""Losses on both devices: values found by hand or by counting, modules, errors, what is exact."""
from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn

pytestmark = pytest.mark.usefixtures("on_each_device")

INF = math.inf
LOG2 = math.log(2)


def close(t: Any, want: Any, rtol: float = 1e-5) -> None:
    got = t.detach().cpu()
    np.testing.assert_allclose(got.numpy(), np.array(want), rtol=rtol, atol=1e-6)


X = [[1.0, -2.0], [0.5, 0.0]]
Y = [[1.0, 1.0], [-1.0, 1.0]]

# (module, inputs, the losses of elements or rows)
BY_HAND: list[tuple[Any, Any, Any]] = [
    (nn.L1Loss, [X, Y], [[0, 3], [1.5, 1]]),
    (nn.MSELoss, [X, Y], [[0, 9], [2.25, 1]]),
    (nn.SmoothL1Loss, [X, Y], [[0, 2.5], [1, 0.5]]),
    (lambda **kw: nn.SmoothL1Loss(beta=2.0, **kw), [X, Y], [[0, 2], [0.5625, 0.25]]),
    (lambda **kw: nn.SmoothL1Loss(beta=0.0, **kw), [X, Y], [[0, 3], [1.5, 1]]),
    (lambda **kw: nn.HuberLoss(delta=2.0, **kw), [X, Y], [[0, 4], [1.125, 0.5]]),
    (nn.SoftMarginLoss, [[0.0, 1000.0, -1000.0], [1.0, 1.0, 1.0]], [LOG2, 0, 1000]),
    (nn.BCELoss, [[0.0, 1.0, 0.5, 0.0], [0.0, 1.0, 1.0, 1.0]], [0, 0, LOG2, 100]),
    (nn.BCEWithLogitsLoss, [[0.0, 1000.0, -1000.0, 1000.0], [1.0, 1.0, 0.0, 0.0]],
     [LOG2, 0, 0, 1000]),
    (nn.KLDivLoss, [[0.0, -1.0, 2.0], [0.0, 1.0, 0.5]], [0, 1, 0.5 * (-LOG2 - 2)]),
    (lambda **kw: nn.KLDivLoss(log_target=True, **kw), [[0.0, -1.0], [0.0, -LOG2]],
     [0, 0.5 * (1 - LOG2)]),
    (nn.PoissonNLLLoss, [[0.0, 1.0], [2.0, 3.0]], [1, math.e - 3]),
    (lambda **kw: nn.PoissonNLLLoss(log_input=False, **kw), [[1.0, 2.0], [2.0, 0.0]], [1, 2]),
    (lambda **kw: nn.PoissonNLLLoss(full=True, **kw), [[0.0, 0.0], [1.0, 2.0]],
     [1, 1 + 2 * LOG2 - 2 + 0.5 * math.log(4 * math.pi)]),
    (nn.GaussianNLLLoss, [[1.0, 3.0], [2.0, 3.0], [1.0, 0.0]], [0.5, 0.5 * math.log(1e-6)]),
    (nn.HingeEmbeddingLoss, [[0.25, 0.25, 3.0], [1, -1, -1]], [0.25, 0.75, 0]),
    (nn.CosineEmbeddingLoss, [[[1.0, 0.0]] * 3, [[0.0, 2.0], [3.0, 0.0], [0.0, 1.0]], [1, -1, -1]],
     [1, 1, 0]),
    (nn.MarginRankingLoss, [[1.0, 1.0], [3.0, 3.0], [1, -1]], [2, 0]),
    (nn.TripletMarginLoss, [[[0.0, 0.0]] * 2, [[3.0, 4.0]] * 2, [[0.0, 1.0], [0.0, 9.0]]], [5, 0]),
    (lambda **kw: nn.TripletMarginLoss(swap=True, **kw),
     [[[0.0, 0.0]], [[0.0, 8.0]], [[0.0, 9.0]]], [8]),
    (nn.TripletMarginWithDistanceLoss, [[[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 1.0]]], [5]),
    (nn.MultiMarginLoss, [[[0.1, 0.2, 0.4, 0.8]] * 2, [3, 0]], [0.325, (1.1 + 1.3 + 1.7) / 4]),
    (lambda **kw: nn.MultiMarginLoss(p=2, margin=0.5, **kw), [[[0.1, 0.2, 0.4]], [2]],
     [(0.2 ** 2 + 0.3 ** 2) / 3]),
    (nn.MultiLabelMarginLoss, [[[0.1, 0.2, 0.4, 0.8]] * 2, [[3, 0, -1, 1], [-1, 0, 0, 0]]],
     [0.85, 0]),
    (nn.MultiLabelSoftMarginLoss, [[[0.0, 0.0]], [[1.0, 0.0]]], [LOG2]),
    (nn.NLLLoss, [[[-1.0, -2.0], [-3.0, -4.0]], [1, 0]], [2, 3]),
    (nn.CrossEntropyLoss, [[[0.0, 0.0], [1000.0, 0.0]], [1, 1]], [LOG2, 1000]),
]


@pytest.mark.parametrize("module, inputs, losses", BY_HAND)
def test_values(module: Any, inputs: Any, losses: Any) -> None:
    tensors = [torch.tensor(a) for a in inputs]
    losses = np.array(losses, float)
    close(module(reduction="none")(*tensors), losses, 1e-4)
    close(module(reduction="sum")(*tensors), losses.sum(), 1e-4)
    close(module()(*tensors), losses.mean(), 1e-4)


def test_weights() -> None:
    x, t = torch.tensor(X), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    w, p = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.5])
    plain = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    close(nn.BCEWithLogitsLoss(weight=w, reduction="none")(x, t), (plain * w).numpy(force=True))
    factor = np.array([[2, 1], [1, 0.5]])
    close(nn.BCEWithLogitsLoss(pos_weight=p, reduction="none")(x, t),
          plain.numpy(force=True) * factor)
    close(nn.BCELoss(weight=w)(x.sigmoid(), t), (plain * w).mean().item())
    scores, classes = torch.tensor([[0.1, 0.2], [0.4, 0.8]]), torch.tensor([0, 1])
    rows = F.multi_margin_loss(scores, classes, reduction="none")
    close(F.multi_margin_loss(scores, classes, weight=w, reduction="none"),
          (rows * w).numpy(force=True))


def test_modules_show_what_they_are() -> None:
    for name in ("CTCLoss", "CosineEmbeddingLoss", "GaussianNLLLoss", "HingeEmbeddingLoss",
                 "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss",
                 "MultiMarginLoss", "PoissonNLLLoss", "SoftMarginLoss", "TripletMarginLoss"):
        assert repr(getattr(nn, name)()) == f"{name}()"
    assert list(nn.MultiMarginLoss(weight=torch.ones(3)).state_dict()) == ["weight"]
    assert nn.CTCLoss(blank=2, zero_infinity=True).blank == 2
    assert repr(nn.TripletMarginWithDistanceLoss()) == \
        "TripletMarginWithDistanceLoss(\n  (distance_function): PairwiseDistance()\n)"


def test_each_is_one_node_where_it_is_one_operation() -> None:
    x, t = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3)
    for f, name in ((F.huber_loss, "HuberLoss"), (F.smooth_l1_loss, "SmoothL1Loss"),
                    (F.soft_margin_loss, "SoftMarginLoss"),
                    (F.binary_cross_entropy, "BinaryCrossEntropy"),
                    (F.binary_cross_entropy_with_logits, "BinaryCrossEntropyWithLogits"),
                    (F.mse_loss, "MseLoss")):
        loss = f(x, t)
        assert loss.grad_fn.name() == f"{name}Backward0"
        assert loss.grad_fn.next_functions[0][0].name().endswith("AccumulateGrad")


@pytest.mark.parametrize("f", [
    F.multi_margin_loss,
    lambda x, t: F.multilabel_margin_loss(x, torch.stack([t, t * 0 - 1, t], 1)),
    lambda x, t: F.ctc_loss(x[:, None], t[None], (2,), (1,))])
def test_no_second_order_where_pytorch_has_none(f: Any) -> None:
    x = torch.rand(2, 3, requires_grad=True)
    g, = torch.autograd.grad(f(x, torch.tensor([1, 2])), x, create_graph=True)
    assert g.requires_grad
    with pytest.raises(RuntimeError, match="is not implemented"):
        g.sum().backward()


@pytest.mark.cpu_only
def test_what_the_cpu_looks_at() -> None:
    x = torch.rand(2, 3)
    for f, error in (
            (lambda: F.multi_margin_loss(x, torch.tensor([0, 3])), RuntimeError),
            (lambda: F.multilabel_margin_loss(x, torch.full((2, 3), 3)), RuntimeError),
            (lambda: F.binary_cross_entropy(x + 1, x), RuntimeError),
            (lambda: F.gaussian_nll_loss(x, x, -x - 0.1), ValueError),
            (lambda: F.ctc_loss(x[:, None], torch.tensor([[3]]), (2,), (1,)), IndexError)):
        with pytest.raises(error):
            f()


@pytest.mark.gpu
def test_what_a_gpu_does_not_look_at_is_nan() -> None:
    """Reading a target would make the host wait: what comes of a wrong one can't be overlooked."""
    x = torch.rand(2, 3, device="cuda", requires_grad=True)
    for loss in (F.multi_margin_loss(x, torch.tensor([0, 3], device="cuda"), reduction="none"),
                 F.multilabel_margin_loss(x, torch.tensor([[0, -1, 0], [1, 7, -1]], device="cuda"),
                                          reduction="none"),
                 F.nll_loss(x, torch.tensor([0, 3], device="cuda"), reduction="none")):
        x.grad = None
        loss.sum().backward()
        assert loss.isnan().tolist() == [False, True]
        assert x.grad.isnan().any(1).tolist() == [False, True]


def test_halves_are_summed_in_float32() -> None:
    n = 5000
    for f in (F.huber_loss, F.smooth_l1_loss, F.mse_loss, F.soft_margin_loss):
        x = torch.full((n,), 2.0, dtype=torch.float16)
        y = torch.ones(n, dtype=torch.float16)
        close(f(x, y, reduction="mean").float(), f(x.float(), y.float()).item(), 1e-3)


# Connectionist temporal classification -----------------------------------------------------------


def by_counting(x: Any, labels: Any, blank: int) -> float:
    """-log of the sum over all paths that say the labels."""
    total = 0.0
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        if [c for c, _ in itertools.groupby(path) if c != blank] == list(labels):
            total += math.exp(sum([x[i, c] for i, c in enumerate(path)]))
    return -math.log(total) if total else INF


def scores(*shape: int) -> Any:
    x = np.random.default_rng(1).standard_normal(shape)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_ctc_by_counting_paths() -> None:
    x = scores(5, 3, 4)
    targets, inputs, lengths = [[1, 2, 0], [2, 2, 0], [0, 3, 3]], [5, 4, 5], [2, 2, 0]
    want = [by_counting(x[:t, k], targets[k][:s], 0)
            for k, (t, s) in enumerate(zip(inputs, lengths))]
    t = torch.tensor(x)
    padded = torch.tensor(targets)
    close(F.ctc_loss(t, padded, inputs, lengths, reduction="none"), want)
    close(F.ctc_loss(t, padded, tuple(inputs), tuple(lengths), reduction="sum"), sum(want))
    close(F.ctc_loss(t, padded, torch.tensor(inputs), torch.tensor(lengths)),
          np.mean(np.array(want) / [2, 2, 1]))
    flat = torch.tensor([1, 2, 2, 2])
    close(F.ctc_loss(t, flat, inputs, lengths, reduction="none"), want)
    close(F.ctc_loss(t, flat, torch.tensor(inputs), torch.tensor(lengths), reduction="none"), want)
    close(F.ctc_loss(t[:, 0], padded[0], (5,), (2,), reduction="none"), want[0])


def test_ctc_gradient_by_differences() -> None:
    x = torch.tensor(np.random.default_rng(3).standard_normal((6, 2, 4)), requires_grad=True)
    def loss(x: Any, targets: Any, blank: int) -> Any:
        return F.ctc_loss(x.log_softmax(2), targets, (6, 5), (3, 2), blank=blank)

    for blank, targets in ((0, [[1, 1, 3], [2, 3, 0]]), (2, [[1, 1, 3], [2, 0, 1]])):
        assert torch.autograd.gradcheck(loss, (x, torch.tensor(targets), blank))


def test_ctc_without_a_path() -> None:
    x = torch.tensor(scores(3, 2, 3), requires_grad=True)
    targets = torch.tensor([[1, 1], [1, 2]])
    for zero in (False, True):
        x.grad = None
        loss = F.ctc_loss(x, targets, (2, 3), (2, 2), reduction="none", zero_infinity=zero)
        assert loss[0].item() == (0 if zero else INF) and math.isfinite(loss[1].item())
        loss.sum().backward()
        assert x.grad[:2, 0].isnan().all().item() is not zero
        assert x.grad[2, 0].tolist() == [0, 0, 0]
        assert x.grad[:, 1].isfinite().all() and x.grad[:, 1].abs().sum() > 0
        if zero:
            assert not x.grad[:, 0].any()
    nothing = F.ctc_loss(x, targets, (0, 0), (0, 1), reduction="none")
    assert nothing.tolist() == [0, INF]


def test_ctc_of_certain_and_impossible_steps() -> None:
    """Probabilities of 0 on the way leave everything finite."""
    x = torch.tensor([[[0.0, -INF, -INF]], [[-INF, 0.0, -INF]], [[0.0, -INF, -INF]]],
                     requires_grad=True)
    loss = F.ctc_loss(x, torch.tensor([[1]]), (3,), (1,))
    assert loss.item() == 0
    loss.backward()
    assert not x.grad.any()


def test_ctc_gives_the_same_bits_again() -> None:
    x = torch.tensor(scores(40, 3, 30).astype(np.float32), requires_grad=True)
    targets = torch.tensor(np.random.default_rng(2).integers(1, 4, (3, 12)))
    found = []
    for _ in range(2):
        x.grad = None
        F.ctc_loss(x, targets, (40, 39, 33), (12, 5, 0)).backward()
        found.append(x.grad.cpu().numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.gpu
def test_ctc_on_a_gpu_is_ctc_on_the_cpu() -> None:
    """More states and classes than a warp or a block has threads; lengths where they may be."""
    for t, n, c, s in ((30, 2, 50, 20), (70, 2, 5, 33), (3, 1, 600, 1)):
        x = scores(t, n, c)
        r = np.random.default_rng(4)
        targets, lengths = r.integers(0, min(c, 6), (n, s)), r.integers(1, s + 1, n)
        inputs = r.integers(t // 2, t + 1, n)
        found = []
        for device in ("cpu", "cuda"):
            a = torch.tensor(x, device=device, requires_grad=True)
            labels, times, counts = [torch.tensor(v, device=device)
                                     for v in (targets, inputs, lengths)]
            loss = F.ctc_loss(a, labels, times, counts, blank=1, zero_infinity=True)
            loss.backward()
            found.append((loss.item(), a.grad.cpu().numpy()))
            mixed = F.ctc_loss(a, labels.cpu(), tuple(inputs.tolist()), tuple(lengths.tolist()),
                               blank=1, zero_infinity=True)
            assert mixed.item() == pytest.approx(loss.item(), rel=1e-12)
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
        np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-9, atol=1e-12)


@pytest.mark.gpu
def test_wrong_labels_and_lengths_on_a_gpu_are_nan() -> None:
    x = torch.tensor(scores(4, 4, 3), device="cuda", requires_grad=True)
    targets = torch.tensor([[1, 9], [1, 9], [1, 2], [1, 2]], device="cuda")
    inputs, lengths = [torch.tensor(v, device="cuda") for v in ([4, 4, 5, 4], [2, 1, 2, 3])]
    loss = F.ctc_loss(x, targets, inputs, lengths, reduction="none", zero_infinity=True)
    loss.sum().backward()
    assert loss.isnan().tolist() == [True, False, True, True]
    assert x.grad.isnan().any(2).any(0).tolist() == [True, False, True, True]


# Chunks, and clusters of classes -----------------------------------------------------------------

def test_linear_cross_entropy_by_chunks() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(9, 6), torch.randint(0, 20, (9,))
    for reduction in ("mean", "sum", "none"):
        found = []
        for options in (None, nn.LinearCrossEntropyOptions(batch_chunk_size=4),
                        nn.LinearCrossEntropyOptions()):
            torch.manual_seed(1)
            head = nn.LinearCrossEntropyLoss(6, 20, bias=True, reduction=reduction, options=options,
                                             ignore_index=3)
            a = x.clone().requires_grad_()
            loss = head(a, target)
            loss.sum().backward()
            found.append([loss, a.grad, head.linear.weight.grad, head.linear.bias.grad])
        for other in found[1:]:
            for one, two in zip(found[0], other):
                close(two, one.detach().cpu().numpy())
    with pytest.warns(UserWarning, match="``options`` ignored"):
        F.linear_cross_entropy(x, torch.ones(20, 6), target, label_smoothing=0.1,
                               options=nn.LinearCrossEntropyOptions())


def test_adaptive_log_softmax_adds_up() -> None:
    torch.manual_seed(0)
    m = nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0)
    x, target = torch.randn(12, 8), torch.arange(12)
    whole = m.log_prob(x)
    close(whole.exp().sum(1), np.ones(12))
    out, loss = m(x, target)
    close(out, whole.gather(1, target[:, None])[:, 0].detach().cpu().numpy())
    close(loss, -out.mean().item())
    assert m.predict(x).tolist() == whole.argmax(1).tolist()
    assert [tuple(p.shape) for p in m.parameters()] == [(5, 8), (4, 8), (4, 4), (2, 8), (5, 2)]
    m.reset_parameters()


# Layers of this file's neighbours that only wrap others ------------------------------------------

def test_sync_batch_norm_in_one_process() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4)))
    x = torch.randn(6, 4)
    want = net(x)
    net[1].reset_running_stats()
    net[2][0].reset_running_stats()
    sync = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert type(sync[1]) is type(sync[2][0]) is nn.SyncBatchNorm
    assert sync[1].weight is net[1].weight and sync is net
    close(sync(x), want.detach().cpu().numpy())
    assert sync[1].num_batches_tracked.item() == 1
    with pytest.raises(ValueError, match="at least 2D input"):
        sync[1](torch.zeros(4))
    with pytest.raises(ValueError, match="non-zero"):
        sync[1](torch.zeros(3, 0))


def test_data_parallel_passes_on() -> None:
    net = nn.DataParallel(nn.Linear(3, 2))
    assert [*net.state_dict()] == ["module.weight", "module.bias"]
    y = net(torch.ones(4, 3))
    weight, bias = [p.detach().cpu().numpy() for p in net.module.parameters()]
    close(y, np.tile(weight.sum(1) + bias, (4, 1)))


def test_container_and_factory_kwargs() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        box = nn.Container(a=nn.Linear(1, 1), b=nn.ReLU())
    assert [*dict(box.named_children())] == ["a", "b"]
    assert nn.factory_kwargs(None) == {}
    assert nn.factory_kwargs({"dtype": torch.float64, "factory_kwargs": {"device": "cpu"}}) == \
        {"device": "cpu", "dtype": torch.float64}
    with pytest.raises(TypeError, match="unexpected kwargs"):
        nn.factory_kwargs({"bias": True})
    with pytest.raises(TypeError, match="specified twice"):
        nn.factory_kwargs({"dtype": 1, "factory_kwargs": {"dtype": 2}})
