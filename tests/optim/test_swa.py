"""Averaged weights."""
from __future__ import annotations

import copy

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.optim import SGD
from gpugrad.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn


def test_the_mean_of_the_path(device):
    net = nn.Linear(2, 1).to(device)
    average = AveragedModel(net, device=device)
    path = []
    for i in range(5):
        with torch.no_grad():
            net.weight.fill_(i * 1.0)
        average.update_parameters(net)
        path.append(i)
    assert average.module.weight.tolist() == [[2.0, 2.0]]
    assert average.n_averaged.item() == 5 and average.n_averaged.device.type == device
    again = AveragedModel(nn.Linear(2, 1).to(device), device=device)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    assert again.module.weight.tolist() == [[2.0, 2.0]]


def test_the_exponential_mean():
    net = nn.Linear(1, 1, bias=False)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    for value in (0.0, 1.0, 1.0):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx(1 - 0.75 ** 2)


def test_batch_norms_are_measured_anew():
    net = nn.Sequential(nn.BatchNorm1d(2))
    data = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    update_bn([data, data + 2], net)
    assert net[0].running_mean.tolist() == [3.0, 21.0]
    assert net[0].momentum == 0.1 and net.training


def test_the_rate_goes_over():
    opt = SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = SWALR(opt, swa_lr=0.1, anneal_epochs=3, anneal_strategy="linear")
    rates = []
    for _ in range(5):
        opt.step()
        schedule.step()
        rates += schedule.get_last_lr()
    assert rates == pytest.approx([0.7, 0.4, 0.1, 0.1, 0.1])
