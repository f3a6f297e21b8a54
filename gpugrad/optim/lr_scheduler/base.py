"""LRScheduler: what every schedule of learning rates shares."""
from __future__ import annotations

import warnings
from typing import Any, TypeAlias

from gpugrad._tensor import Tensor
from gpugrad.autograd.listening import update
from gpugrad.optim.optimizer import Optimizer

Rate: TypeAlias = float | Tensor

ORDER = ("call `optimizer.step()` before `lr_scheduler.step()`. See "
         "https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate")
EPOCH_IS_DEPRECATED = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where "
    "possible. Please use `scheduler.step()` to step the scheduler. With an epoch the closed form "
    "of the schedule is used, where it has one.")


class LRScheduler:
    """Base of the schedules: sets the learning rate of each parameter group, an epoch at a time.

    A schedule defines ``get_lr()``, the rates for ``last_epoch`` given those of the epoch before;
    ``_get_closed_form_lr()``, if it has it, gives them from ``base_lrs`` and ``last_epoch`` alone.
    A rate that is a Tensor is written in place, so that a captured graph sees it.

    ``last_epoch`` is -1 at a fresh start; else each group must have its ``"initial_lr"``.
    """

    _is_initial = False                 # is this the step that the constructor makes?
    _get_lr_called_within_step = False

    optimizer: Optimizer
    last_epoch: int
    _last_lr: list[Rate]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when "
                               "resuming scheduler with last_epoch >= 0: load the optimizer's "
                               "state_dict first, or start with last_epoch=-1")
        self.base_lrs = values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        optimizer._watch_steps()
        self._initial_step()

    def _initial_step(self) -> None:
        """Set the rates of the first epoch."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule knows, but for the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict()`` returned, here or in PyTorch."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Rate]:
        """The rates that the last step set, one for each parameter group."""
        return self._last_lr

    def get_lr(self) -> list[Rate]:
        """The rates of ``last_epoch``, given that the groups have those of the epoch before."""
        raise NotImplementedError

    @update
    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch. Call it after the optimizer's step."""
        if self._step_count == 1:
            self._check_order()
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_IS_DEPRECATED, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _check_order(self) -> None:
        called = self.optimizer._stepped_since_watched()
        if called is None:
            warnings.warn("Seems like `optimizer.step()` has been overridden after learning rate "
                          f"scheduler initialization. Please, make sure to {ORDER}", UserWarning,
                          stacklevel=3)
        elif not called:
            warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`. In "
                          "PyTorch 1.1.0 and later, you should call them in the opposite order, or "
                          f"the first value of the schedule is skipped: {ORDER}", UserWarning,
                          stacklevel=3)

    def _update_lr(self, epoch: int | None = None) -> None:
        self._get_lr_called_within_step = True
        try:
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                rates = getattr(self, "_get_closed_form_lr", self.get_lr)()
        finally:
            self._get_lr_called_within_step = False
        self._set(rates)

    def _set(self, rates: list[Rate]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            put(group, "lr", rate)
        self._last_lr = values(self.optimizer, "lr")

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use "
                          "`get_last_lr()`.", UserWarning, stacklevel=3)


class _LRScheduler(LRScheduler):
    """The older name of LRScheduler."""


def check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def copied(rate: Rate) -> Rate:
    """A Tensor's clone, or the number."""
    return rate.clone() if isinstance(rate, Tensor) else rate


def values(optimizer: Optimizer, name: str) -> list[Any]:
    """Copies of an option, one for each parameter group."""
    return [copied(group[name]) for group in optimizer.param_groups]


def put(group: dict[str, Any], name: str, value: Rate) -> None:
    """Set an option of a group: a Tensor keeps its memory."""
    held = group[name]
    if not isinstance(held, Tensor):
        group[name] = value
    elif isinstance(value, Tensor):
        held.copy_(value.reshape(held.shape))
    else:
        held.fill_(value)


def for_each_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """An argument given once, or once for each parameter group, as a list of copies."""
    n = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        value = [value] * n
    elif len(value) != n:
        raise ValueError(f"{name} must have the same length as optimizer.param_groups. {name} has "
                         f"{len(value)} values, param_groups has {n}.")
    return [copied(v) for v in value]


def function_state(fn: Any) -> dict[str, Any] | None:
    """What a state_dict keeps of a user's function: the attributes of a callable object."""
    return None if hasattr(fn, "__code__") else vars(fn).copy()
