"""Users' transformers step by step beside PyTorch: losses, and parameters afterwards."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")
NAMES = ("gpt", "llama", "mixture_of_experts", "vision", "translation", "linear_biases")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "nn"))
    from transformer_programs import train
    (ours, mine), (theirs, wanted) = (train(lib, name, "cpu", 5) for lib in (gpugrad, torch))
    np.testing.assert_allclose(mine, wanted, rtol=1e-4)
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    for k, t in b.items():
        # Adam's first steps have size lr whatever the gradient: rounding shows where it is near 0
        if not t.is_floating_point():
            continue
        apart = np.abs(np.nan_to_num(a[k].numpy()) - np.nan_to_num(t.numpy()))
        assert np.median(apart) < 1e-5 and apart.max() < 0.03, k
