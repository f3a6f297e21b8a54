"""torch.optim: the optimizers, and schedules of their learning rates."""
from __future__ import annotations

from gpugrad.optim import lr_scheduler as lr_scheduler
from gpugrad.optim.adam import Adam as Adam
from gpugrad.optim.adamw import AdamW as AdamW
from gpugrad.optim.optimizer import Optimizer as Optimizer
from gpugrad.optim.rmsprop import RMSprop as RMSprop
from gpugrad.optim.sgd import SGD as SGD
