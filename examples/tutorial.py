"""The two classic tutorials on neural networks, one after the other: python examples/tutorial.py

The first is PyTorch's, with 3x3 convolutions; the second is torch.rb's, with 5x5 ones, put into
Python. Each defines LeNet, runs it, takes the gradients of a loss and makes a step against them.
"""
from __future__ import annotations

import argparse
from typing import Any

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim


class Net(nn.Module):
    """LeNet with 3x3 convolutions: (n, 1, 32, 32) to (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        # Parameters are whatever modules are assigned here: the layers register themselves.
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        # 32 -> 30 -> 15 -> 13 -> 6: what the convolutions and the pooling leave of 32 pixels.
        self.fc1 = nn.Linear(16 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)      # 2 is short for (2, 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x

    def num_flat_features(self, x: Any) -> int:
        size = x.size()[1:]
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


class MyNet(nn.Module):
    """LeNet with 5x5 convolutions: (n, 1, 32, 32) to (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)                         # all dims but that of the batch
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def tutorial(net: Any, device: Any, walk: bool) -> None:
    """What both tutorials do with their net and print; the first one also walks the graph."""
    net = net.to(device)
    print(net)

    params = list(net.parameters())
    print(len(params))
    print(params[0].size())                             # the weight of conv1

    input = torch.randn(1, 1, 32, 32, device=device)
    out = net(input)
    print(out)

    # backward takes the gradient of the output: any numbers will do to try it.
    net.zero_grad()
    out.backward(torch.randn(1, 10, device=device))

    # A loss is one number, and its gradient needs no such argument.
    output = net(input)
    target = torch.randn(10, device=device)
    target = target.view(1, -1)
    criterion = nn.MSELoss()
    loss = criterion(output, target)
    print(loss)

    # The graph that backward will walk can be walked by hand: the loss, fc3, and fc3's bias.
    if walk:
        print(loss.grad_fn)
        print(loss.grad_fn.next_functions[0][0])
        print(loss.grad_fn.next_functions[0][0].next_functions[0][0])

    net.zero_grad()
    print("conv1.bias.grad before backward")
    print(net.conv1.bias.grad)
    loss.backward()
    print("conv1.bias.grad after backward")
    print(net.conv1.bias.grad)

    # Gradient descent, spelled out...
    learning_rate = 0.01
    for f in net.parameters():
        f.data.sub_(f.grad.data * learning_rate)

    # ...and with an optimizer.
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    optimizer.zero_grad()
    output = net(input)
    loss = criterion(output, target)
    loss.backward()
    optimizer.step()


def main() -> None:
    """Both tutorials on the device that was asked for."""
    parser = argparse.ArgumentParser(description="Two tutorials on neural networks.")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:N")
    parser.add_argument("--smoke", action="store_true", help="the same: it takes a second anyway")
    device = torch.device(parser.parse_args().device)

    torch.manual_seed(0)
    tutorial(Net(), device, walk=True)
    print()
    tutorial(MyNet(), device, walk=False)


if __name__ == "__main__":
    main()
