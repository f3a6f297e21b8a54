"""The lines of the two tutorials, run as they stand but for the import, and what they print."""
# ruff: noqa: UP008
from __future__ import annotations

import re
from itertools import pairwise

import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim

NUMBER = r"-?\d\.\d{4}(?:e[+-]\d\d)?"


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x

    def num_flat_features(self, x):
        size = x.size()[1:]
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


class MyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


# One after the other: the net, its repr, and the size of conv1's weight.
TUTORIALS = {
    "pytorch": (Net, """\
Net(
  (conv1): Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1))
  (conv2): Conv2d(6, 16, kernel_size=(3, 3), stride=(1, 1))
  (fc1): Linear(in_features=576, out_features=120, bias=True)
  (fc2): Linear(in_features=120, out_features=84, bias=True)
  (fc3): Linear(in_features=84, out_features=10, bias=True)
)""", (6, 1, 3, 3)),
    "torch.rb": (MyNet, """\
MyNet(
  (conv1): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))
  (conv2): Conv2d(6, 16, kernel_size=(5, 5), stride=(1, 1))
  (fc1): Linear(in_features=400, out_features=120, bias=True)
  (fc2): Linear(in_features=120, out_features=84, bias=True)
  (fc3): Linear(in_features=84, out_features=10, bias=True)
)""", (6, 1, 5, 5)),
}


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial(name):
    make, expected, conv1_size = TUTORIALS[name]
    torch.manual_seed(0)
    net = make()
    assert repr(net) == expected

    params = list(net.parameters())
    assert len(params) == 10
    assert params[0].size() == torch.Size(conv1_size)
    assert repr(params[0].size()) == f"torch.Size({list(conv1_size)})"

    input = torch.randn(1, 1, 32, 32)
    out = net(input)
    assert out.shape == (1, 10)
    # Eight numbers in the first line of the printed tensor, two in the second.
    assert re.fullmatch(r"tensor\(\[\[( ?NUMBER,\s+){9} ?NUMBER\]\], "
                        r"grad_fn=<AddmmBackward0>\)".replace("NUMBER", NUMBER), repr(out))

    net.zero_grad()
    out.backward(torch.randn(1, 10))
    assert all(p.grad is not None and p.grad.shape == p.shape for p in params)

    output = net(input)
    assert torch.equal(output, out)
    target = torch.randn(10)
    target = target.view(1, -1)
    criterion = nn.MSELoss()
    loss = criterion(output, target)
    assert loss.shape == ()
    assert re.fullmatch(rf"tensor\({NUMBER}, grad_fn=<MseLossBackward0>\)", repr(loss))

    linear = loss.grad_fn.next_functions[0][0]
    bias = linear.next_functions[0][0]
    for node, kind in (loss.grad_fn, "MseLoss"), (linear, "Addmm"):
        assert repr(node).startswith(f"<{kind}Backward0 object at 0x")
        assert node.name() == f"{kind}Backward0"
    assert repr(bias).startswith("<AccumulateGrad object at 0x")
    assert bias.variable is net.fc3.bias

    net.zero_grad()
    assert net.conv1.bias.grad is None          # zeros in the PyTorch of the first tutorial
    loss.backward()
    assert net.conv1.bias.grad.shape == (6,)
    assert net.conv1.bias.grad.abs().max() > 0

    learning_rate = 1e-2
    before = [p.detach().clone() for p in params]
    for f in net.parameters():
        f.data.sub_(f.grad.data * learning_rate)
    for p, old in zip(params, before):
        assert torch.equal(p, old - p.grad * learning_rate)
        assert p.requires_grad and p.is_leaf
    by_hand = loss.item()

    optimizer = optim.SGD(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        before = [p.detach().clone() for p in params]
        optimizer.zero_grad()
        output = net(input)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for p, old in zip(params, before):
        assert torch.allclose(p, old - 0.01 * p.grad, rtol=0, atol=1e-7)
    assert losses[0] < by_hand
    assert losses[-1] < 0.9 * losses[0]
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_the_program_prints_what_the_tutorials_print(run_example):
    run = run_example("tutorial.py", "--smoke")
    assert run.returncode == 0, run.stderr
    tensor = r"tensor\([^)]*\)"
    node = r"<{} object at 0x[0-9a-fA-F]+>"
    parts = []
    for _, text, size in TUTORIALS.values():
        parts += [re.escape(text), "10", re.escape(f"torch.Size({list(size)})"), tensor, tensor]
        if size[-1] == 3:
            parts += [node.format(kind) for kind in
                      ("MseLossBackward0", "AddmmBackward0", "AccumulateGrad")]
        parts += ["conv1.bias.grad before backward", "None",
                  "conv1.bias.grad after backward", tensor, ""]
    assert re.fullmatch("\n".join(parts), run.stdout), run.stdout
