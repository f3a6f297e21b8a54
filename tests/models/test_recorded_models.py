"""Programs of the zoo as recorded steps: the same losses and states, bit for bit."""
from __future__ import annotations

from typing import Any

import model_files
import pytest

import gpugrad as torch

# Among those whose steps read no value.
RECORDED = ("siamese", "convnext_v2", "sagan_parametrized", "densenet", "maml",
            "poisson_equation", "dqn", "resnet_bottleneck", "seq2seq", "swin", "vit")


def bits(x: Any) -> Any:
    """Nested tensors as bytes."""
    if isinstance(x, torch.Tensor):
        return x.detach().numpy().tobytes()
    if isinstance(x, dict):
        return [(k, bits(v)) for k, v in x.items()]
    return [bits(v) for v in x] if isinstance(x, list | tuple) else repr(x)


@pytest.mark.parametrize("file, name", [pair for pair in model_files.NAMES if pair[1] in RECORDED])
def test_replays_are_eager_steps(file, name, monkeypatch):
    # their steps return loss.item(), and read nothing else
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item",
                        lambda self: self if self.requires_grad else item(self))
    found = []
    for recorded in (False, True):
        torch.manual_seed(0)
        training = model_files.program("gpugrad", file, name)("cpu")
        step = torch.graph_step(training.step) if recorded else training.step
        found.append([(bits(step()), bits(training.state_dict())) for _ in range(5)])
    assert found[0] == found[1]
    assert step.replays == 2 and not step.reason
