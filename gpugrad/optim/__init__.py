"""torch.optim: the optimizers, and schedules of their learning rates."""
from __future__ import annotations

from gpugrad.optim import lr_scheduler as lr_scheduler
from gpugrad.optim import swa_utils as swa_utils
from gpugrad.optim.adadelta import Adadelta as Adadelta
from gpugrad.optim.adafactor import Adafactor as Adafactor
from gpugrad.optim.adagrad import Adagrad as Adagrad
from gpugrad.optim.adam import Adam as Adam
from gpugrad.optim.adamax import Adamax as Adamax
from gpugrad.optim.adamw import AdamW as AdamW
from gpugrad.optim.asgd import ASGD as ASGD
from gpugrad.optim.lbfgs import LBFGS as LBFGS
from gpugrad.optim.muon import Muon as Muon
from gpugrad.optim.nadam import NAdam as NAdam
from gpugrad.optim.optimizer import Optimizer as Optimizer
from gpugrad.optim.radam import RAdam as RAdam
from gpugrad.optim.rmsprop import RMSprop as RMSprop
from gpugrad.optim.rprop import Rprop as Rprop
from gpugrad.optim.sgd import SGD as SGD
