"""The meta device: shapes, strides and dtypes without elements."""
from __future__ import annotations

import copy
import io
import pickle
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend, nn
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent / "ops"))
from test_generic import RECORDS, SPECS, call, tensors_of

META = torch.device("meta")


def meta(*shape: int, **kw: Any) -> Tensor:
    return torch.empty(*shape, device="meta", **kw)


def facts(t: Tensor) -> tuple[Any, ...]:
    return tuple(t.shape), t.dtype, t.stride()


# What a result depends on data for.
REFUSED = {"bincount", "masked_select", "unique", "unique_consecutive", "unique_dim"}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_op_gives_the_cpus_shape_dtype_and_strides(name):
    tried = 0
    for case in RECORDS[name].samples():
        for dtype in ("float64", "float32"):
            here = tensors_of(name, case, backend.cpu, dtype)
            there = [None if t is None else t.to("meta") for t in here]
            try:
                want = call(name, here, case)
            except Exception:
                continue
            if name in REFUSED:
                with pytest.raises(NotImplementedError):
                    call(name, there, case)
                return
            got = call(name, there, case)
            tried += 1
            laid_out = all(t is None or t.stride() == u.stride() for t, u in zip(here, there))
            for w, g in zip(want, got, strict=True):
                assert g.is_meta and (g.shape, g.dtype) == (w.shape, w.dtype)
                assert not laid_out or not w.numel() or g.stride() == w.stride()
    assert tried


@pytest.mark.parametrize("name", sorted(n for n in RECORDS if SPECS[n].diff and n not in REFUSED))
def test_gradients_have_their_shapes(name):
    for case in RECORDS[name].samples()[:4]:
        here = tensors_of(name, case, backend.cpu, leaf=True)
        there = [None if t is None else t.detach().to("meta").requires_grad_(t.requires_grad)
                 for t in here]
        try:
            want = _gradients(name, case, here)
        except (RuntimeError, NotImplementedError):      # it has no derivative
            continue
        for g, w in zip(_gradients(name, case, there), want, strict=True):
            assert (g is None) == (w is None)
            assert g is None or (g.shape, g.dtype, g.device) == (w.shape, w.dtype, META)


def _gradients(name: str, case: Any, tensors: list[Any]) -> Any:
    leaves = [t for t in tensors if t is not None and t.requires_grad]
    outs = [t for t in call(name, tensors, case) if t.requires_grad]
    if not outs:
        return []
    return torch.autograd.grad(outs, leaves, [torch.ones_like(t) for t in outs], allow_unused=True)


# What it is --------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, text", [
    (lambda: meta(2, 3), "tensor(..., device='meta', size=(2, 3))"),
    (lambda: meta(0), "tensor(..., device='meta', size=(0,))"),
    (lambda: torch.tensor(3, device="meta"),
     "tensor(..., device='meta', size=(), dtype=torch.int64)"),
    (lambda: meta(2, 3, requires_grad=True),
     "tensor(..., device='meta', size=(2, 3), requires_grad=True)"),
    (lambda: meta(3, 4, dtype=torch.half, requires_grad=True) * 1,
     "tensor(..., device='meta', size=(3, 4), dtype=torch.float16,\n"
     "       grad_fn=<MulBackward0>)"),
    (lambda: nn.Parameter(meta(2)),
     "Parameter containing:\ntensor(..., device='meta', size=(2,), requires_grad=True)"),
])
def test_text(make, text):
    assert repr(make()) == text


def test_properties():
    x = meta(2, 3, dtype=torch.float64)
    assert x.is_meta and not x.is_cpu and not x.is_cuda and x.get_device() == -1
    assert x.device == META and x.type() == "torch.meta.DoubleTensor"
    assert (x.data_ptr(), x[1:].data_ptr(), x[1:].storage_offset()) == (0, 24, 3)
    assert torch.empty(1, device="meta:3").device == META
    assert str(torch.device("meta", 0)) == "meta:0"
    assert repr(x.untyped_storage()) == \
        "...\n[torch.storage.UntypedStorage(device=meta) of size 48]"


@pytest.mark.parametrize("make", [
    lambda d: torch.zeros(2, 3, device=d), lambda d: torch.ones(2, dtype=torch.int32, device=d),
    lambda d: torch.full((2, 3), 7, device=d), lambda d: torch.arange(1, 9, 2, device=d),
    lambda d: torch.arange(0., 1., 0.3, device=d), lambda d: torch.linspace(0, 1, 5, device=d),
    lambda d: torch.logspace(0, 1, 5, device=d), lambda d: torch.eye(3, 4, device=d),
    lambda d: torch.tensor([[1., 2.]], device=d), lambda d: torch.as_tensor(np.ones(3), device=d),
    lambda d: torch.rand(2, 3, device=d), lambda d: torch.randn(4, device=d),
    lambda d: torch.randint(0, 9, (2,), device=d), lambda d: torch.randperm(5, device=d),
    lambda d: torch.bernoulli(torch.zeros(3, device=d)),
    lambda d: torch.multinomial(torch.zeros(3, device=d) + 1, 2),
    lambda d: torch.empty(2, 3, 4, 5, memory_format=torch.channels_last, device=d),
    lambda d: torch.empty_strided((2, 3), (1, 5), device=d),
    lambda d: torch.zeros(2, dtype=torch.complex64, device=d),
    lambda d: torch.tril_indices(3, 3, device=d), lambda d: torch.scalar_tensor(2, device=d),
    lambda d: torch.zeros(2, 3, device=d).t().contiguous(),
    lambda d: torch.empty_like(torch.zeros(2, 3, device=d).t()),
    lambda d: torch.zeros(2, device=d).new_ones(3, 2), lambda d: torch.hann_window(4, device=d),
    lambda d: torch.cartesian_prod(torch.zeros(2, device=d), torch.zeros(3, device=d)),
    lambda d: torch.randn_like(torch.zeros(2, 3, device=d).t()),
])
def test_creation(make):
    t = make("meta")
    assert t.is_meta and facts(t) == facts(make("cpu"))


def test_strides_of_results():
    x = meta(2, 3, 4, 5, memory_format=torch.channels_last)
    assert (x + 1).stride() == x.stride() == F.relu(x).stride()
    assert (x * meta(5)).stride() == x.stride()
    assert x.to(torch.half).stride() == x.stride()
    assert x[:, 1:].permute(0, 2, 3, 1)[..., ::2].stride() == (60, 15, 3, 2)


def test_views_share():
    x = meta(2, 6)
    v = x.view(3, 4)
    assert v._base is x and v._is_view() and x.t().reshape(12)._base is None
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.t().view(12)
    v.add_(1)
    assert x._version == 1


# What it takes data for --------------------------------------------------------------------------

@pytest.mark.parametrize("use, error, text", [
    (lambda: meta(1).item(), RuntimeError, r"Tensor.item\(\) cannot be called on meta tensors"),
    (lambda: float(meta(1)), RuntimeError, r"Tensor.item\(\) cannot be called on meta tensors"),
    (lambda: bool(meta(())), RuntimeError, r"Tensor.item\(\) cannot be called on meta tensors"),
    (lambda: meta(2).item(), RuntimeError, "with 2 elements cannot be converted to Scalar"),
    (lambda: meta(2).tolist(), NotImplementedError, "^Cannot copy out of meta tensor; no data!$"),
    (lambda: meta(2).cpu(), NotImplementedError, "^Cannot copy out of meta tensor; no data!$"),
    (lambda: meta(2).to("cpu"), NotImplementedError, "Cannot copy out of meta tensor; no data!"),
    (lambda: torch.zeros(2).copy_(meta(2)), NotImplementedError, "Cannot copy out of meta"),
    (lambda: meta(2).numpy(), TypeError, "can't convert meta device type tensor to numpy"),
    (lambda: np.asarray(meta(2)), TypeError, "can't convert meta device type tensor to numpy"),
    (lambda: meta(2).numpy(force=True), NotImplementedError, "Cannot copy out of meta tensor"),
    (lambda: f"{meta(()):.2f}", TypeError, "unsupported format string"),
    (lambda: meta(2) + torch.zeros(2), RuntimeError, "two devices, meta and cpu"),
    (lambda: torch.zeros(1) + meta(()), RuntimeError, "two devices, cpu and meta"),
    (lambda: meta(2).nonzero(), NotImplementedError, "depends on the data"),
    (lambda: torch.unique(meta(2)), NotImplementedError, "no data"),
    (lambda: meta(2)[meta(2) > 0], NotImplementedError, "data"),
    (lambda: torch.allclose(meta(2), meta(2)), RuntimeError, "meta tensors"),
    (lambda: meta(2).__dlpack__(), BufferError, "Cannot pack tensors on meta"),
    (lambda: torch.Generator(device="meta"), RuntimeError, "META device type not an accelerator"),
    (lambda: meta(2, 3) @ meta(2, 3), RuntimeError, "shapes"),
    (lambda: meta(2) + meta(3), RuntimeError, "must match the size"),
    (lambda: meta(2, 3)[2], IndexError, "out of bounds"),
    (lambda: F.conv2d(meta(1, 3, 8, 8), meta(4, 2, 3, 3)), RuntimeError, "channels"),
])
def test_refusals(use, error, text):
    with pytest.raises(error, match=text) as caught:
        use()
    assert type(caught.value) is error


def test_numbers_of_the_cpu_go_along():
    assert facts(meta(2) + torch.tensor(2.)) == facts(torch.zeros(2))
    assert facts(meta(2, dtype=torch.int32) * 2.5) == facts(torch.zeros(2))
    assert facts(meta(3)[torch.tensor([0, 2])]) == facts(torch.zeros(2))
    x = meta(2, 3)
    assert x.copy_(torch.zeros(2, 3)) is x and x.to("meta") is x


def test_masks():
    x = meta(3, 4)
    x[x > 0] = 1
    x[torch.tensor([True, False, True])] = torch.zeros(2, 4, device="meta")
    assert x._version == 2 and x[torch.tensor([True, False, True])].shape == (2, 4)
    w = meta(3, 4, requires_grad=True)
    y = w * 1
    y[y > 0] = torch.tensor(2.)
    y.sum().backward()
    assert facts(w.grad) == facts(w)
    with pytest.raises(IndexError, match=r"The shape of the mask \[5\]"):
        x[meta(5) > 0] = 1
    with pytest.raises(NotImplementedError, match="depends on the data"):
        x[x > 0] = meta(5)


def test_writes_to_expanded_tensors():
    x = meta(4).expand(3, 4)
    with pytest.raises(RuntimeError, match="single memory location"):
        x.add_(1)
    x[0] = 1


def test_counts():
    p = meta(3, 4)
    for t in (torch.poisson(p), torch.binomial(p, p), torch.bernoulli(p), torch._standard_gamma(p)):
        assert facts(t) == facts(p) and t.is_meta


def test_copies_and_files():
    x = meta(4, 3).t().requires_grad_()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.is_meta and facts(y) == facts(x) and y.requires_grad
    file = io.BytesIO()
    torch.save({"x": x, "p": nn.Parameter(meta(2), False)}, file)
    file.seek(0)
    back = torch.load(file, map_location="cpu")
    assert facts(back["x"]) == facts(x) and back["x"].is_meta and back["x"].requires_grad
    assert type(back["p"]) is nn.Parameter and not back["p"].requires_grad
    file = io.BytesIO()
    torch.save(torch.ones(2), file)
    file.seek(0)
    assert torch.load(file, map_location="meta").is_meta


# Modules -----------------------------------------------------------------------------------------

def test_a_trillion_parameters_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    big = nn.Linear(10 ** 6, 10 ** 6, device="meta")
    assert sum(p.numel() for p in big.parameters()) == 10 ** 12 + 10 ** 6
    y = big(meta(10 ** 6, 10 ** 6))
    y.square().mean().backward()
    assert big.weight.grad.shape == (10 ** 6, 10 ** 6) and big.weight.grad.is_meta
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.MaxPool2d(2), nn.Dropout(0.1), nn.Conv2d(8, 8, 3, groups=8),
                                  nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1),
                                  nn.Flatten())
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x):
        return F.log_softmax(self.head(self.norm(self.body(x))), 1)


def test_a_network_goes_through_a_training_step():
    with torch.device("meta"):
        net = Net()
    x = meta(5, 3, 16, 16)
    y = net(x)
    assert facts(y) == facts(Net()(torch.zeros(5, 3, 16, 16)))
    F.nll_loss(y, meta(5, dtype=torch.int64)).backward()
    assert all(p.grad.is_meta and p.grad.shape == p.shape for p in net.parameters())
    torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).step()


MODULES: list[Any] = [
    ("Linear", (4, 3), {}, [(2, 4)]), ("Bilinear", (3, 4, 5), {}, [(2, 3), (2, 4)]),
    ("Conv1d", (3, 4, 3), {"padding": "same"}, [(2, 3, 8)]),
    ("Conv3d", (3, 4, 2), {"padding_mode": "circular", "padding": 1}, [(2, 3, 4, 4, 4)]),
    ("ConvTranspose2d", (3, 4, 3), {"stride": 2, "output_padding": 1}, [(2, 3, 5, 5)]),
    ("LSTM", (4, 5, 2), {"bidirectional": True}, [(3, 2, 4)]), ("GRUCell", (4, 5), {}, [(2, 4)]),
    ("MultiheadAttention", (8, 2), {}, [(3, 2, 8)] * 3),
    ("TransformerEncoderLayer", (8, 2, 16), {}, [(3, 2, 8)]),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, [(2, 3, 4, 4)]),
    ("RMSNorm", (4,), {}, [(2, 4)]), ("LocalResponseNorm", (2,), {}, [(2, 3, 4, 4)]),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, [(2, 3, 4, 4)]),
    ("Fold", ((4, 5), (2, 2)), {}, [(1, 8, 12)]), ("Unfold", ((2, 2),), {}, [(1, 2, 4, 5)]),
    ("FractionalMaxPool2d", (2,), {"output_size": 3}, [(2, 3, 8, 8)]),
    ("AdaptiveMaxPool2d", (3,), {}, [(2, 3, 8, 8)]), ("LPPool2d", (2, 2), {}, [(2, 3, 4, 4)]),
    ("PReLU", (), {}, [(2, 3)]), ("Dropout2d", (), {}, [(2, 3, 4, 4)]), ("RReLU", (), {}, [(2, 3)]),
    ("TripletMarginLoss", (), {}, [(2, 3)] * 3), ("SmoothL1Loss", (), {}, [(2, 3)] * 2),
    ("BCEWithLogitsLoss", (), {}, [(2, 3)] * 2), ("CosineSimilarity", (), {}, [(2, 3)] * 2),
]


@pytest.mark.parametrize("name, args, kw, shapes", MODULES, ids=[m[0] for m in MODULES])
def test_modules(name, args, kw, shapes):
    here = getattr(nn, name)(*args, **kw)
    with torch.device("meta"):
        there = getattr(nn, name)(*args, **kw)
    want = here(*[torch.zeros(s) for s in shapes])
    inputs = [torch.zeros(s, device="meta", requires_grad=True) for s in shapes]
    got = there(*inputs)
    for w, g in zip(_flat(want), _flat(got), strict=True):
        assert facts(g) == facts(w) and g.is_meta
    _flat(got)[0].sum().backward()
    for t in (inputs[0], *there.parameters()):
        assert t.grad is None or (t.grad.is_meta and t.grad.shape == t.shape)
    assert inputs[0].grad is not None


def _flat(v: Any) -> list[Tensor]:
    return [v] if isinstance(v, Tensor) else [t for u in v for t in _flat(u)]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_optimizers(name):
    m = nn.Linear(3, 2, device="meta")
    m(meta(4, 3)).sum().backward()
    nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    optimizer = getattr(torch.optim, name)(m.parameters(), lr=0.1)
    optimizer.step()
    assert all(v.is_meta for s in optimizer.state.values() for k, v in s.items()
               if isinstance(v, Tensor) and k != "step")


def test_to_meta_and_back():
    net = Net()
    state = copy.deepcopy(net.state_dict())
    assert net.to("meta") is net and all(p.is_meta for p in net.parameters())
    with pytest.raises(NotImplementedError, match=r"torch\.nn\.Module\.to_empty"):
        net.to("cpu")
    kept = net.to_empty(device="cpu")
    assert kept is net and all(t.is_cpu for t in net.state_dict().values())
    net.load_state_dict(state)
    assert torch.equal(net.head.weight, state["head.weight"])


def test_a_state_is_assigned_to_a_module_without_data():
    state = Net().state_dict()
    with torch.device("meta"):
        net = Net()
    with pytest.warns(UserWarning, match="copying from a non-meta parameter"):
        net.load_state_dict(state)
    assert net.head.weight.is_meta
    net.load_state_dict(state, assign=True)
    assert net.head.weight.is_cpu and isinstance(net.head.weight, nn.Parameter)
    assert net.head.weight.requires_grad and net(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_random_numbers_on_meta_draw_nothing():
    torch.manual_seed(3)
    nn.Linear(4, 4, device="meta")
    torch.rand(5, device="meta")
    a = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(a, torch.rand(2))


@pytest.mark.gpu
def test_from_and_to_cuda(device):
    x = torch.zeros(2, 3, device=device)
    assert facts(x.t().to("meta")) == facts(x.t()) and torch.zeros_like(x, device="meta").is_meta
    assert torch.empty_like(meta(2), device=device).device.type == device
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        meta(2).to(device)


# torch.device as a context -----------------------------------------------------------------------

def test_device_as_context():
    with torch.device("meta") as d:
        assert d == META == torch.get_default_device()
        assert torch.zeros(2).is_meta and torch.tensor([1]).is_meta and torch.arange(3).is_meta
        assert nn.Linear(2, 2).weight.is_meta and nn.Parameter(torch.zeros(1)).is_meta
        assert torch.from_numpy(np.ones(1)).is_cpu and torch.Tensor(2).is_cpu
        assert torch.FloatTensor(2).is_cpu and torch.Generator().device.type == "cpu"
        assert torch.zeros(2, device="cpu").is_cpu
        assert torch.zeros_like(torch.zeros(2, device="cpu")).is_cpu
        with torch.device("cpu"):
            assert torch.zeros(1).is_cpu
        assert torch.zeros(1).is_meta
    assert torch.zeros(1).is_cpu


def test_one_device_object_may_be_entered_twice_and_by_threads():
    d = torch.device("meta")
    inside, seen = threading.Barrier(2), []
    with d:
        with d:
            assert torch.zeros(1).is_meta
        assert torch.zeros(1).is_meta

        def other() -> None:
            seen.append(torch.zeros(1).device.type)
            with d:
                inside.wait(10)
                seen.append(torch.zeros(1).device.type)
                inside.wait(10)
            seen.append(torch.zeros(1).device.type)
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(10)
    assert torch.zeros(1).is_cpu
    inside.wait(10)
    thread.join()
    assert seen == ["cpu", "meta", "cpu"] and torch.zeros(1).is_cpu


@pytest.mark.gpu
def test_cuda_as_context(device):
    with torch.device(device):
        assert torch.zeros(1).device.type == nn.Linear(1, 1).weight.device.type == device
        assert torch.rand(2).device.type == torch.tensor([1]).device.type == device
        with torch.device("meta"):
            assert torch.arange(3).is_meta
        assert torch.empty(1).device.type == device and torch.from_numpy(np.ones(1)).is_cpu
    assert torch.zeros(1).is_cpu


def test_the_context_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), torch.device("meta"):
        1 / 0      # noqa: B018
    assert torch.zeros(1).is_cpu


def test_default_device():
    torch.set_default_device("meta")
    try:
        assert torch.zeros(1).is_meta and torch.get_default_device() == META
        with torch.device("cpu"):
            assert torch.zeros(1).is_cpu
        assert torch.zeros(1).is_meta
    finally:
        torch.set_default_device(None)
    assert torch.zeros(1).is_cpu


def test_raw_arrays_have_no_elements():
    a = backend.get("meta").empty((2, 3), np.dtype(np.float32))
    assert len(a) == 2 and len(list(a)) == 2 and "MetaArray" in repr(a)
    for use in (lambda: np.asarray(a), lambda: a.item(), lambda: np.unwrap(a), a.tolist,
                lambda: a.nonzero(), lambda: a.__index__()):
        with pytest.raises(NotImplementedError):
            use()
    with pytest.raises(ValueError, match="broadcast"):
        a[0] = np.zeros(2)
    assert T.alias(wrap(a, backend.get("meta"))).is_meta
