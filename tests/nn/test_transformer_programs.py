"""GPT, Llama, experts, ViT, translation: users' transformers train, and decode with a cache."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch

sys.path.insert(0, str(Path(__file__).parent))
from transformer_programs import NAMES, programs, train


@pytest.mark.parametrize("name", NAMES)
def test_losses_fall(name: str, device: str) -> None:
    net, losses = train(torch, name, device, 8 if device == "cpu" else 3)
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.device.type == device.split(":")[0]
               for n, p in net.named_parameters() if ".experts." not in n)


def decode(net: Any, ids: Any, device: str) -> list[Any]:
    """The logits of each position, by one token at a time and the cache."""
    for layer in net.attention:
        layer.cache = [torch.full((2, 16, 2, 4), float("nan"), device=device) for _ in range(2)]
    parts = [net(ids[:, :3])]
    parts += [net(ids[:, i:i + 1], i) for i in range(3, ids.size(1))]
    for layer in net.attention:
        layer.cache = None
    return parts


def test_decoding_with_a_cache_is_decoding_at_once(device: str) -> None:
    net, _ = train(torch, "llama", device, 1)
    ids = torch.tensor([[1, 5, 2, 7, 3, 3], [4, 4, 9, 1, 2, 8]], device=device)
    with torch.inference_mode():
        whole = net(ids)
        found = torch.cat(decode(net, ids, device), 1)
    np.testing.assert_allclose(found.cpu().numpy(), whole.cpu().numpy(), rtol=1e-4, atol=1e-5)


def test_training_in_half_precision(device: str) -> None:
    torch.manual_seed(0)
    net, loss_of = programs(torch)["llama"](device)
    for p in net.parameters():                   # the buffers of angles stay complex
        p.data = p.data.to(torch.bfloat16)
    opt = torch.optim.SGD(net.parameters(), 0.5)
    losses = []
    for _ in range(4):
        opt.zero_grad()
        loss = loss_of()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
