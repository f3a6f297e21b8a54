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
    """An average over the steps of a model's parameters and buffers, in eval mode."""

    def __init__(self, model: nn.Module, decay: float = 0.9999, device: Any = None) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay, self.device = decay, device
        if self.device is not None:
            self.module.to(device=device)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if self.device is not None:
                model_v = model_v.to(device=self.device)
            if ema_v.is_floating_point():
                ema_v.copy_(self.decay * ema_v + (1.0 - self.decay) * model_v)
            else:
                ema_v.copy_(model_v)


def warmup_cosine(warmup: int, total: int, lowest: float = 0.01) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return max(lowest, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return factor


class Lamb(Optimizer):
    """Adam whose update of each tensor is as long as the tensor, times lr."""

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-6, weight_decay: float = 0.0) -> None:
        if not 0.0 <= lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError("Lamb does not take sparse gradients")
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["step"] += 1
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.lerp_(p.grad, 1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                m_hat = m / (1 - beta1 ** state["step"])
                v_hat = v / (1 - beta2 ** state["step"])
                update = m_hat.div_(v_hat.sqrt().add_(group["eps"]))
                if group["weight_decay"] != 0:
                    update.add_(p, alpha=group["weight_decay"])
                length, change = p.norm(2.0), update.norm(2.0)
                one = torch.tensor(1.0, device=p.device)
                trust = torch.where(length > 0, torch.where(change > 0, length / change, one), one)
                p.add_(update * trust.clamp_(max=10.0), alpha=-group["lr"])
        return loss
