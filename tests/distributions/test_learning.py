"""Distributions where they are used: variational autoencoders and policies."""
from __future__ import annotations

from typing import Any

import pytest

import gpugrad as torch
from gpugrad import distributions as D
from gpugrad import nn
from gpugrad.distributions import transforms as T

pytestmark = pytest.mark.usefixtures("on_each_device")


def test_a_variational_autoencoder_learns() -> None:
    """The loss falls, and the evidence bound's two parts have gradients."""
    torch.manual_seed(0)
    x = (torch.rand(16, 6) > torch.linspace(0.1, 0.9, 6)).float()
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.05)

    def loss() -> Any:
        mean, log_scale = encoder(x).chunk(2, -1)
        posterior = D.Normal(mean, log_scale.exp())
        z = posterior.rsample()
        likelihood = D.Independent(D.Bernoulli(logits=decoder(z)), 1).log_prob(x)
        prior = D.Normal(torch.zeros_like(mean), 1.0)
        return (D.kl_divergence(posterior, prior).sum(-1) - likelihood).mean()

    first = loss().item()
    for _ in range(15):
        optimizer.zero_grad()
        bound = loss()
        bound.backward()
        assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
        optimizer.step()
    assert bound.item() < first - 0.5


def test_reinforce_finds_the_best_arm() -> None:
    torch.manual_seed(1)
    logits = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([logits], lr=0.5)
    reward = torch.tensor([0.0, 1.0, 0.2])
    for _ in range(25):
        policy = D.Categorical(logits=logits)
        action = policy.sample((16,))
        advantage = reward[action] - reward[action].mean()
        optimizer.zero_grad()
        (-(policy.log_prob(action) * advantage).mean()).backward()
        optimizer.step()
    assert D.Categorical(logits=logits).probs.argmax() == 1
    assert D.Categorical(logits=logits).probs[1] > 0.7


def test_a_squashed_gaussian_policy() -> None:
    """Actions in (-1, 1), their densities finite even at the ends, and gradients through them."""
    torch.manual_seed(2)
    mean = nn.Parameter(torch.tensor([0.0, 12.0]))
    policy = D.Independent(D.TransformedDistribution(
        D.Normal(mean, 1.0), [T.TanhTransform(cache_size=1)]), 1)
    policy.base_dist._validate_args = False
    action = policy.rsample((64,))
    log_prob = policy.log_prob(action)
    assert action.abs().max() <= 1 and torch.isfinite(log_prob).all()
    (0.1 * log_prob.mean() - (1 - (action[:, 0] - 0.5) ** 2).mean()).backward()
    assert torch.isfinite(mean.grad).all() and mean.grad[0] < 0      # towards 0.5
