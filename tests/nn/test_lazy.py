"""Lazy modules and parameters: before and after the first call."""
from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn.modules.lazy import LazyModuleMixin
from gpugrad.nn.parameter import is_lazy

CASES: list[Any] = [
    (nn.LazyLinear, (3,), {}, nn.Linear, (4, 3), (2, 4),
     "LazyLinear(in_features=0, out_features=3, bias=True)"),
    (nn.LazyConv1d, (4, 3), {"stride": 2}, nn.Conv1d, (5, 4, 3), (2, 5, 9),
     "LazyConv1d(0, 4, kernel_size=(3,), stride=(2,))"),
    (nn.LazyConv2d, (4, 3), {"groups": 2, "bias": False}, nn.Conv2d, (6, 4, 3), (2, 6, 5, 5),
     "LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1), groups=2, bias=False)"),
    (nn.LazyConv3d, (2, 2), {}, nn.Conv3d, (3, 2, 2), (1, 3, 3, 3, 3),
     "LazyConv3d(0, 2, kernel_size=(2, 2, 2), stride=(1, 1, 1))"),
    (nn.LazyConvTranspose1d, (4, 3), {}, nn.ConvTranspose1d, (2, 4, 3), (2, 2, 5),
     "LazyConvTranspose1d(0, 4, kernel_size=(3,), stride=(1,))"),
    (nn.LazyConvTranspose2d, (4, 3), {"groups": 2}, nn.ConvTranspose2d, (6, 4, 3), (2, 6, 3, 3),
     "LazyConvTranspose2d(0, 4, kernel_size=(3, 3), stride=(1, 1), groups=2)"),
    (nn.LazyConvTranspose3d, (2, 2), {}, nn.ConvTranspose3d, (3, 2, 2), (1, 3, 2, 2, 2),
     "LazyConvTranspose3d(0, 2, kernel_size=(2, 2, 2), stride=(1, 1, 1))"),
    *[(getattr(nn, f"Lazy{kind}{n}d"), (), {}, getattr(nn, f"{kind}{n}d"), (3,),
       (2, 3, *[4] * n),
       f"Lazy{kind}{n}d(0, eps=1e-05, momentum=0.1, affine=True, bias=True, "
       "track_running_stats=True)") for kind in ("BatchNorm", "InstanceNorm") for n in (1, 2, 3)],
]


@pytest.mark.parametrize("lazy, args, kw, cls, full, shape, text", CASES,
                         ids=[c[0].__name__ for c in CASES])
def test_becomes_the_module_that_it_would_have_been(device, lazy, args, kw, cls, full, shape, text):
    m = lazy(*args, **kw, device=device)
    assert repr(m) == text and m.has_uninitialized_params() and m.cls_to_become is cls
    names = list(m.state_dict())
    assert all(is_lazy(p) and p.device.type == device for p in m.parameters())
    x = torch.linspace(-1, 1, 400, device=device)[:torch.Size(shape).numel()].reshape(shape)
    torch.manual_seed(7)
    y = m(x)
    torch.manual_seed(7)
    same = cls(*full, **kw, device=device)
    if "Instance" in text:                       # which lazy are not the same by default
        same = cls(*full, affine=True, track_running_stats=True, device=device)
    assert type(m) is cls and repr(m) == repr(same) and names == list(m.state_dict())
    assert torch.equal(y, same(x)) and m.__dict__.keys() >= same.__dict__.keys()
    for (k, a), (j, b) in zip(m.state_dict().items(), same.state_dict().items()):
        assert k == j and torch.equal(a, b)
    assert all(type(p) is nn.Parameter for p in m.parameters())
    assert all(type(b) is torch.Tensor for b in m.buffers())
    assert not m._forward_pre_hooks and not {"_hooked", "_initialize_hook"} & vars(m).keys()


def test_numbers():
    torch.manual_seed(0)
    m = nn.LazyLinear(3)
    m(torch.ones(2, 4))
    assert torch.allclose(m.weight[0], torch.tensor([-0.0037, 0.2682, -0.4115, -0.3680]), atol=1e-4)


@pytest.mark.parametrize("use, error, text", [
    (lambda: nn.LazyConv2d(4, 3)(torch.ones(2)), RuntimeError,
     r"Expected 3D \(unbatched\) or 4D \(batched\) input to LazyConv2d, but got input of size"),
    (lambda: nn.LazyConv2d(4, 3, groups=2)(torch.ones(1, 3, 4, 4)), ValueError,
     "in_channels must be divisible by groups"),
    (lambda: nn.LazyBatchNorm2d()(torch.ones(1, 3, 4)), ValueError, "expected 4D input"),
    (lambda: nn.LazyLinear(3).weight + 1, ValueError, "Attempted to use an uninitialized"),
    (lambda: torch.sum(nn.LazyLinear(3).weight), ValueError, "`LazyModule`"),
    (lambda: nn.LazyLinear(3).weight.numel(), ValueError, "Call `forward` with a dummy batch"),
    (lambda: nn.LazyLinear(3).weight.shape, RuntimeError, "Can't access the shape of an uninit"),
    (lambda: nn.LazyLinear(3).weight.share_memory_(), RuntimeError, "Can't share memory"),
    (lambda: nn.LazyLinear(3).load_state_dict({"weight": torch.ones(3, 2)}), RuntimeError,
     'Missing key.*"bias"'),
    (lambda: nn.Linear(2, 3).load_state_dict(nn.LazyLinear(3).state_dict()), RuntimeError,
     "Can't access the shape of an uninitialized parameter"),
    (lambda: nn.LazyLinear(3)._replicate_for_data_parallel(), RuntimeError, "DataParallel"),
    (lambda: LazyModuleMixin(), AttributeError, "_register_load_state_dict_pre_hook"),
])
def test_errors(use, error, text):
    with pytest.raises(error, match=text):
        use()


def test_states_go_both_ways():
    m = nn.LazyLinear(3)
    assert repr(m.state_dict()["weight"]) == "<UninitializedParameter>"
    m.load_state_dict(nn.LazyLinear(3).state_dict())
    assert m.has_uninitialized_params()
    full = nn.Linear(5, 3)
    m.load_state_dict(full.state_dict())
    assert torch.equal(m.weight, full.weight) and repr(m).startswith("LazyLinear(in_features=0")
    assert torch.equal(m(torch.ones(1, 5)), full(torch.ones(1, 5))) and repr(m) == repr(full)
    other = nn.LazyLinear(3)
    other.load_state_dict(full.state_dict())
    with pytest.raises(AssertionError, match="inferred from input: 4 is not equal"):
        other(torch.ones(1, 4))


def test_casts_wait_with_the_shape():
    m = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()).double()
    assert m[0].has_uninitialized_params() and m[1].has_uninitialized_params()
    assert m(torch.ones(2, 4).double()).dtype is torch.float64
    assert all(b.dtype is torch.float64 for b in (m[0].weight, m[1].running_var))


def test_copies():
    m = nn.Sequential(nn.LazyConv1d(2, 3), nn.LazyBatchNorm1d())
    for c in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert c(torch.ones(2, 3, 5)).shape == (2, 2, 3)
        assert type(c[0]) is nn.Conv1d and type(m[0]) is nn.LazyConv1d


def test_on_meta_and_back():
    with torch.device("meta"):
        m = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    m.to_empty(device="cpu")
    assert m(torch.ones(3, 4)).is_cpu and m[1].running_mean.is_cpu
    n = nn.LazyLinear(2, device="meta")
    assert n(torch.ones(1, 3, device="meta")).is_meta and n.in_features == 3


def test_optimizers_take_lazy_parameters():
    m = nn.LazyLinear(1, bias=False)
    optimizer = torch.optim.SGD(m.parameters(), lr=1.0)
    m(torch.ones(1, 2)).sum().backward()
    before = m.weight.detach().clone()
    optimizer.step()
    assert torch.allclose(m.weight, before - 1)


def test_a_mixin_of_ones_own():
    class Scale(LazyModuleMixin, nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.UninitializedParameter()
            self.b = nn.UninitializedBuffer(persistent=False)

        def initialize_parameters(self, x: Any, fill: float = 1.0) -> None:
            self.w.materialize(x.shape[-1:])
            if fill:
                self.b.materialize((1,))
                with torch.no_grad():
                    self.w.fill_(fill)

        def forward(self, x: Any, fill: float = 1.0) -> Any:
            return x * self.w
    m = Scale()
    assert list(m.state_dict()) == ["w"]
    assert m(torch.ones(2), fill=3.0).tolist() == [3.0, 3.0] and type(m) is Scale
    with pytest.raises(RuntimeError, match="module Scale has not been fully initialized"):
        Scale()(torch.ones(2), fill=0.0)

    class Nothing(LazyModuleMixin, nn.Module):
        pass
    with pytest.raises(NotImplementedError, match="is not implemented for Nothing"):
        Nothing()(1)
