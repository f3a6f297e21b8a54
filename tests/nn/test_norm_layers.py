"""RMSNorm, GroupNorm, InstanceNorm: formulas, representations, states and errors."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F


@pytest.fixture
def x(device: str) -> Any:
    a = np.random.default_rng(0).standard_normal((3, 4, 5)) * 2 + 1
    return torch.tensor(a, device=device)


def standard(a: Any, dims: Any, eps: float = 1e-5) -> Any:
    return (a - a.mean(dims, keepdims=True)) / np.sqrt(a.var(dims, keepdims=True) + eps)


def close(t: Any, a: Any) -> None:
    np.testing.assert_allclose(t.detach().cpu().numpy(), a, rtol=1e-10, atol=1e-12)


def test_group_norm_is_its_formula(x: Any) -> None:
    a = x.cpu().numpy()
    want = standard(a.reshape(3, 2, 10), 2).reshape(3, 4, 5)
    close(F.group_norm(x, 2), want)
    norm = nn.GroupNorm(2, 4, dtype=torch.float64).to(x.device)
    close(norm(x), want)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(4.0))
        norm.bias.fill_(2)
    close(norm(x), want * np.arange(4)[:, None] + 2)


def test_rms_norm_is_its_formula(x: Any) -> None:
    a = x.cpu().numpy()
    root = np.sqrt((a * a).mean(-1, keepdims=True) + np.finfo(np.float64).eps)
    close(F.rms_norm(x, (5,)), a / root)
    close(nn.RMSNorm(5, dtype=torch.float64).to(x.device)(x), a / root)
    close(F.rms_norm(x, (4, 5), torch.full((4, 5), 3.0, dtype=torch.float64, device=x.device), 0.1),
          3 * a / np.sqrt((a * a).mean((1, 2), keepdims=True) + 0.1))


def test_rms_norm_of_half_precision_is_computed_in_float32(device: str) -> None:
    x = torch.full((1, 4), 2.0**-11, dtype=torch.float16, device=device)
    r = 1 / np.sqrt(np.float32(2.0**-22 + 2.0**-23))                    # eps of float32 is 2 ** -23
    assert F.rms_norm(x, (4,)).tolist() == [[float(np.float16(2.0**-11 * r))] * 4]


def test_instance_norm_is_its_formula(x: Any) -> None:
    a = x.cpu().numpy()
    close(nn.InstanceNorm1d(4)(x), standard(a, 2))
    close(nn.InstanceNorm1d(4)(x[0]), standard(a, 2)[0])
    close(F.instance_norm(x, weight=torch.full((4,), 3.0, dtype=torch.float64, device=x.device)),
          3 * standard(a, 2))


def test_instance_norm_tracks_what_it_is_told_to(x: Any) -> None:
    norm = nn.InstanceNorm1d(4, track_running_stats=True, momentum=0.5,
                             dtype=torch.float64).to(x.device)
    a = x.cpu().numpy()
    norm(x)
    close(norm.running_mean, a.mean(2).mean(0) / 2)
    close(norm.running_var, 0.5 + a.var(2, ddof=1).mean(0) / 2)
    assert norm.num_batches_tracked.item() == 0
    mean, var = norm.running_mean.cpu().numpy()[:, None], norm.running_var.cpu().numpy()[:, None]
    close(norm.eval()(x), (a - mean) / np.sqrt(var + 1e-5))


@pytest.mark.parametrize("norm, text, keys", [
    (nn.RMSNorm((3, 4)), "RMSNorm((3, 4), eps=None, elementwise_affine=True)", ["weight"]),
    (nn.RMSNorm(4, 0.1, False), "RMSNorm((4,), eps=0.1, elementwise_affine=False)", []),
    (nn.GroupNorm(2, 4), "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)", ["weight", "bias"]),
    (nn.GroupNorm(2, 4, bias=False), "GroupNorm(2, 4, eps=1e-05, affine=True, bias=False)",
     ["weight"]),
    (nn.InstanceNorm2d(4), "InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=False, bias=False, "
                           "track_running_stats=False)", []),
    (nn.InstanceNorm3d(4, affine=True, track_running_stats=True),
     "InstanceNorm3d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, "
     "track_running_stats=True)",
     ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"])])
def test_representation_and_state(norm: Any, text: str, keys: list[str]) -> None:
    assert repr(norm) == text and list(norm.state_dict()) == keys


def test_old_statistics_are_refused_where_none_are_tracked() -> None:
    norm = nn.InstanceNorm1d(2)
    with pytest.raises(RuntimeError, match=r'"running_mean" and "running_var" for InstanceNorm1d'):
        norm.load_state_dict({"running_mean": torch.zeros(2), "running_var": torch.ones(2)})


@pytest.mark.parametrize("call, error, text", [
    (lambda: F.group_norm(torch.ones(2, 4, 3), 3), RuntimeError, "divisible by num_groups"),
    (lambda: F.group_norm(torch.ones(2, 4, 3), 2, torch.ones(3)), RuntimeError,
     "weight to be a vector of size equal"),
    (lambda: F.group_norm(torch.ones(1, 4), 4), ValueError, "more than 1 value per channel"),
    (lambda: nn.GroupNorm(3, 4), ValueError, "num_channels (4) must be divisible"),
    (lambda: F.rms_norm(torch.ones(2, 4), (3,)), RuntimeError, "expected input with shape [*3]"),
    (lambda: F.instance_norm(torch.ones(2, 3, 1)), ValueError, "more than 1 spatial element"),
    (lambda: nn.InstanceNorm2d(3)(torch.ones(2, 3)), ValueError, "expected 3D or 4D input"),
    (lambda: nn.InstanceNorm1d(3, affine=True)(torch.ones(5, 4)), ValueError,
     "to match num_features (3), but got: 5")])
def test_errors(call: Any, error: Any, text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_another_number_of_channels_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="does not match num_features"):
        nn.InstanceNorm1d(3)(torch.ones(5, 4))
