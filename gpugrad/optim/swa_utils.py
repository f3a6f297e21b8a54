"""torch.optim.swa_utils: weights averaged along the path of training."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeAlias

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.listening import update
from gpugrad.creation import tensor
from gpugrad.dtypes import int64
from gpugrad.nn.modules.batchnorm import _BatchNorm
from gpugrad.nn.modules.module import Module
from gpugrad.optim.lr_scheduler.base import LRScheduler, Rate, for_each_group, values
from gpugrad.optim.optimizer import Optimizer

Average: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]
Averages: TypeAlias = Callable[[list[Tensor], list[Tensor], Any], None]


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """Of lists, in place: each step keeps the share ``decay`` of the average."""
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param_list: list[Tensor], current_param_list: list[Tensor],
                   num_averaged: Any) -> None:
        for mean, new in zip(ema_param_list, current_param_list, strict=True):
            if mean.is_floating_point() or mean.is_complex():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(mean * decay + new * (1 - decay))
    return ema_update


def get_swa_multi_avg_fn() -> Averages:
    """Of lists, in place: all steps count the same."""
    @no_grad()
    def swa_update(averaged_param_list: list[Tensor], current_param_list: list[Tensor],
                   num_averaged: Any) -> None:
        for mean, new in zip(averaged_param_list, current_param_list, strict=True):
            mean.copy_(mean + (new - mean) / (num_averaged + 1))
    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """Of one tensor: each step keeps the share ``decay`` of the average."""
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param
    return ema_update


def get_swa_avg_fn() -> Average:
    """Of one tensor: all steps count the same."""
    @no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)
    return swa_update


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] "
                         "range.")


class AveragedModel(Module):
    """A copy of a model with the average of its parameters, brought up to date after steps.

    ``avg_fn(average, new, n)`` returns, ``multi_avg_fn(averages, new ones, n)`` writes, the new
    average after n updates; by default all count the same. Buffers are copied, or with
    ``use_buffers`` averaged as parameters are. ``n_averaged``, a buffer, counts the updates.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018;
    Polyak averaging for ``get_ema_avg_fn``.
    """

    n_averaged: Tensor

    def __init__(self, model: Module, device: Any = None, avg_fn: Average | None = None,
                 multi_avg_fn: Averages | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @update
    def update_parameters(self, model: Module) -> None:
        """Take the parameters of ``model`` into the average; the first time they are copied."""
        means, news = self._averaged(self.module), self._averaged(model)
        pairs = [(a.detach(), b.detach().to(a.device)) for a, b in zip(means, news)]
        if self.n_averaged == 0:
            for mean, new in pairs:
                mean.copy_(new)
        elif self.avg_fn is not None:
            for mean, new in pairs:
                mean.copy_(self.avg_fn(mean, new, self.n_averaged.to(mean.device)))
        else:
            average: Any = self.multi_avg_fn or get_swa_multi_avg_fn()
            for group in _alike(pairs):
                averages, latest = zip(*group)
                average(list(averages), list(latest), self.n_averaged.to(averages[0].device))
        if not self.use_buffers:
            for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                mine.detach().copy_(theirs.detach().to(mine.device))
        self.n_averaged += 1

    def _averaged(self, model: Module) -> Iterable[Tensor]:
        if self.use_buffers:
            return chain(model.parameters(), model.buffers())
        return model.parameters()


def _alike(pairs: list[tuple[Tensor, Tensor]]) -> list[list[tuple[Tensor, Tensor]]]:
    """Pairs of one device and dtype together, as users' functions on lists expect."""
    groups: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for pair in pairs:
        groups.setdefault((pair[0].device, pair[0].dtype), []).append(pair)
    return list(groups.values())


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Make the running statistics of all batch norms anew, by one pass over the data.

    loader: batches, or tuples that begin with them; device: where they are moved to.
    """
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not momenta:
        return
    for norm in momenta:
        norm.reset_running_stats()
        norm.momentum = None                     # a mean over all batches
    training = model.training
    model.train()
    for batch in loader:
        x = batch[0] if isinstance(batch, list | tuple) else batch
        model(x if device is None else x.to(device))
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """From any learning rate to ``swa_lr`` in ``anneal_epochs``, and there it stays.

    ``anneal_strategy``: "cos" or "linear"; ``swa_lr``: one for all, or one for each group.
    """

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10,
                 anneal_strategy: str = "cos", last_epoch: int = -1) -> None:
        for rate, group in zip(for_each_group("swa_lr", optimizer, swa_lr),
                               optimizer.param_groups):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError("anneal_strategy must be one of 'cos' or 'linear', instead got "
                             f"{anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: float) -> float:
        """The share of ``swa_lr`` after a number of steps."""
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[Rate]:
        self._warn_outside_step()
        step = max(1, self._step_count - 1) if self.anneal_epochs == 0 else self._step_count - 1
        before, now = self._share(step - 1), self._share(step)
        out = []
        for group, rate in zip(self.optimizer.param_groups, values(self.optimizer, "lr")):
            last = group["swa_lr"]
            other = last if before == 1 else (rate - before * last) / (1 - before)
            out.append(last * now + other * (1 - now))
        return out
