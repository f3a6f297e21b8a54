"""How the networks of this folder are trained: steps, groups, averages, schedules, Lamb."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Training:
    """A network, a batch, and what is done with them in a step.

    criterion(outputs) gives the loss. A program with another order of things, such as two players,
    is a subclass with its own loss and step.
    """

    def __init__(self, net: nn.Module, inputs: Iterable[Any],
                 criterion: Callable[[Any], Tensor] | None = None,
                 optimizer: Optimizer | None = None, scheduler: Any = None,
                 clip: float | None = None) -> None:
        self.net, self.inputs, self.criterion = net, tuple(inputs), criterion
        self.optimizers = [] if optimizer is None else [optimizer]
        self.schedulers = [] if scheduler is None else [scheduler]
        self.clip = clip

    def outputs(self) -> Any:
        return self.net(*self.inputs)

    def loss(self) -> Tensor:
        return self.criterion(self.outputs())

    def step(self) -> float:
        self.net.train()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        for one in self.optimizers + self.schedulers:
            one.step()
        self.after_step()
        return loss.item()

    def after_step(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.net.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
                "rng": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["model"], strict=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"]):
            scheduler.load_state_dict(saved)
        torch.set_rng_state(state["rng"].cpu())


def images(device: str, n: int = 4, size: int = 16, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, size, size).to(device)


def labels(device: str, *shape: int, top: int = 5) -> Tensor:
    return torch.randint(top, shape).to(device)


def without_decay(model: nn.Module, weight_decay: float, skip: Iterable[str] = ()) -> list[dict]:
    """Two groups: matrices and kernels decay, and vectors and what the model names do not."""
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        if param.ndim <= 1 or name.endswith(".bias") or name in skip:
            no_decay.append(param)
        else:
            decay.append(param)
    return [{"params": no_decay, "weight_decay": 0.0},
            {"params": decay, "weight_decay": weight_decay}]


class ModelEma(nn.Module):
    """A twin of a model whose every number trails behind: of each step it takes a small share."""

    def __init__(self, model: nn.Module, decay: float = 0.9999) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(model).requires_grad_(False).eval()

    def update(self, model: nn.Module) -> None:
        newest = dict(model.state_dict())
        for name, mine in self.module.state_dict().items():
            if torch.is_floating_point(mine):
                mine += (1 - self.decay) * (newest[name] - mine)
            else:                                    # counters
                mine.fill_(newest[name].item())


def warmup_cosine(warmup: int, total: int, lowest: float = 0.01) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return max(lowest, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return factor


class Lamb(Optimizer):
    """Steps in Adam's direction, as long as the tensor itself times lr; You et al., 2020."""

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-6, weight_decay: float = 0.0, longest: float = 10.0) -> None:
        if lr < 0:
            raise ValueError(f"lr is {lr}, and must not be negative")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps,
                                  "weight_decay": weight_decay, "longest": longest})

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                for weight in filter(lambda w: w.grad is not None, group["params"]):
                    direction = self.adam(weight, group) + group["weight_decay"] * weight
                    ratio = torch.linalg.vector_norm(weight) / torch.linalg.vector_norm(direction)
                    ratio = ratio.nan_to_num(1.0, posinf=1.0).clamp(max=group["longest"])
                    weight -= group["lr"] * torch.where(ratio > 0, ratio, 1.0) * direction
        return loss

    def adam(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """The direction of Adam, whose means this brings up to date."""
        held = self.state[weight]
        if not held:
            held.update(steps=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        held["steps"] += 1
        corrected = []
        for name, new, keep in (("mean", weight.grad, group["betas"][0]),
                                ("square", weight.grad ** 2, group["betas"][1])):
            held[name].mul_(keep).add_(new, alpha=1 - keep)
            corrected.append(held[name] / (1 - keep ** held["steps"]))
        return corrected[0] / (corrected[1].sqrt() + group["eps"])
