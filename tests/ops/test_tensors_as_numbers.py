"""0-dim tensors in the place of Python numbers: what they hold now is what counts."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gpugrad as torch
from gpugrad.nn import functional as F

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "leaky_relu": F.leaky_relu, "elu": F.elu, "celu": F.celu, "softplus": F.softplus,
    "threshold": lambda x, s: F.threshold(x, s, s), "hardtanh": lambda x, s: F.hardtanh(x, -s, s),
    "huber_loss": lambda x, s: F.huber_loss(x, 4 * x, delta=s),
    "smooth_l1_loss": lambda x, s: F.smooth_l1_loss(x, 4 * x, beta=s),
    "add": lambda x, s: x.add(x, alpha=s), "sub": lambda x, s: torch.sub(x, x, alpha=s),
    "addcmul": lambda x, s: torch.addcmul(x, x, x, value=s),
    "addcdiv_": lambda x, s: x.clone().addcdiv_(x, x, value=s),
    "full": lambda x, s: torch.full((2,), s, device=x.device)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_tensor_is_read_at_each_call(name: str, device: str) -> None:
    f, x = FUNCTIONS[name], torch.tensor([-3.0, -1.0, 2.5], device=device)
    number = torch.tensor(2.0, device=device)
    first = f(x, number)
    number.fill_(3)
    torch.testing.assert_close(first, f(x, 2.0))
    torch.testing.assert_close(f(x, number), f(x, 3.0))
    assert not torch.equal(first, f(x, number))


def test_what_is_no_number(device: str) -> None:
    x = torch.ones(3, device=device)
    for alpha in (torch.ones(1, device=device), torch.tensor(2.0, requires_grad=True)):
        with pytest.raises(TypeError, match="must be Number, not Tensor"):
            x.add(x, alpha=alpha)
    with pytest.raises(RuntimeError, match="must not be a floating"):
        torch.arange(3, device=device).add(1, alpha=torch.tensor(2.0))
