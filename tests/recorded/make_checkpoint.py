"""Writes checkpoint.pt and, in the format before 1.6, checkpoint_legacy.pt: files as PyTorch has
them, for the tests of machines without it."""
from __future__ import annotations

import collections
from pathlib import Path

import torch


def contents():
    base = torch.arange(12.0)
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(3.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parameter = torch.nn.Parameter(torch.tensor([1.5]))
    parameter.note = "kept"
    return collections.OrderedDict(
        base=base, view=base[2:8].view(2, 3).t(), model=model.state_dict(),
        optimizer=optimizer.state_dict(), parameter=parameter,
        half=torch.tensor([1.0, -2.0], dtype=torch.float16), ints=torch.tensor([1, -2]),
        flag=torch.tensor(True), u16=torch.tensor([65535], dtype=torch.uint16),
        empty=torch.zeros(0, 3), wide=torch.ones(1).expand(2, 4), size=torch.Size([2, 3]),
        device=torch.device("cuda", 1), dtype=torch.float16,
        rest=[1, 2**40, -1.5, None, "é", b"\xff", {1, 2}, (3, (4,)), 1j])


if __name__ == "__main__":
    torch.save(contents(), Path(__file__).with_name("checkpoint.pt"))
    torch.save(contents(), Path(__file__).with_name("checkpoint_legacy.pt"),
               _use_new_zipfile_serialization=False)
