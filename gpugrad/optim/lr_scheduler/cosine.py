"""Schedules along a cosine. Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
Restarts", 2017."""
from __future__ import annotations

import math

from gpugrad.autograd.listening import update
from gpugrad.optim.lr_scheduler.base import LRScheduler, Rate, values
from gpugrad.optim.optimizer import Optimizer


class _Cosine(LRScheduler):
    """Half a wave of a cosine, from the initial rate to ``eta_min``."""

    eta_min: float

    def _at(self, share: float) -> list[Rate]:
        """The rates after a share of the wave."""
        height = 1 + math.cos(share)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]


class CosineAnnealingLR(_Cosine):
    """Down to ``eta_min`` in ``T_max`` epochs, and up again in as many.

    Each rate comes from the last one, so that other schedules may change it as well.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0,
                 last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        self._warn_outside_step()
        rates, epoch, low = values(self.optimizer, "lr"), self.last_epoch, self.eta_min
        if self._is_initial:
            return rates
        if self._step_count == 1 and epoch > 0:                  # it begins in the middle
            return self._at(epoch * math.pi / self.T_max)
        if (epoch - 1 - self.T_max) % (2 * self.T_max) == 0:     # the last rate was the lowest
            step = 1 - math.cos(math.pi / self.T_max)
            return [rate + (base - low) * step / 2 for rate, base in zip(rates, self.base_lrs)]
        height = 1 + math.cos(math.pi * epoch / self.T_max)
        before = 1 + math.cos(math.pi * (epoch - 1) / self.T_max)
        return [height / before * (rate - low) + low for rate in rates]

    def _get_closed_form_lr(self) -> list[Rate]:
        return self._at(math.pi * self.last_epoch / self.T_max)


class CosineAnnealingWarmRestarts(_Cosine):
    """Down to ``eta_min`` in ``T_0`` epochs, then from the start in ``T_mult`` times as many.

    ``step(epoch)`` takes fractions of epochs, for steps between them.
    """

    T_cur: float

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0,
                 last_epoch: int = -1) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, float | int):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type "
                             f"{type(eta_min)}")
        self.T_0 = self.T_i = T_0
        self.T_mult, self.eta_min, self.T_cur = T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        self._warn_outside_step()
        return self._at(math.pi * self.T_cur / self.T_i)

    @update
    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch, or to any, whole or not."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        else:
            self._restart(epoch)
        self.last_epoch = math.floor(epoch)
        self._get_lr_called_within_step = True
        try:
            self._set(self.get_lr())
        finally:
            self._get_lr_called_within_step = False

    def _restart(self, epoch: float) -> None:
        """Which wave an epoch lies in, and where."""
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            self.T_cur = epoch - self.T_0 * (self.T_mult ** n - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult ** n
