"""A program written for torch and torchvision, run by ``python -m gpugrad run``."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from vision_files import cifar_batches, cifar_files, put_mnist

from gpugrad import hub
from gpugrad.vision import datasets, models

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torchvision.transforms.functional as TF
from torch.optim.lr_scheduler import StepLR
from torchvision import datasets, transforms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(4 * 13 * 13, 10)

    def forward(self, x):
        x = self.dropout(F.relu(self.conv(x)))
        return F.log_softmax(self.fc(torch.flatten(x, 1)), dim=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", default="../data")
    args = parser.parse_args()
    torch.manual_seed(1)
    transform = transforms.Compose([
        transforms.RandomCrop(28, padding=1),
        transforms.ToTensor(),
        transforms.Normalize((0.1307,), (0.3081,)),
    ])
    train = datasets.MNIST(args.data, train=True, download=True, transform=transform)
    loader = torch.utils.data.DataLoader(train, batch_size=16, shuffle=True)
    model = Net().to(torch.device("cpu"))
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for data, target in loader:
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(data)
        scheduler.step()
        print(epoch, total / len(train))
    print(train)
    print(TF.hflip(torch.arange(4.0).reshape(1, 2, 2)).tolist())


if __name__ == "__main__":
    main()
"""


def test_a_program_of_torchvision(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    images, labels = np.zeros((48, 28, 28), np.uint8), (np.arange(48) % 10).astype(np.uint8)
    for image, label in zip(images, labels):
        image[:, 2 * label + 2:2 * label + 6] = 255
    put_mnist(tmp_path / "MNIST" / "raw", [images, labels, images, labels])
    run = subprocess.run(
        [sys.executable, "-m", "gpugrad", "run", "--force", tmp_path / "program.py", "--epochs",
         "6", "--data", tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    losses = [float(line.split()[1]) for line in lines[:6]]
    assert losses[-1] < losses[0] / 2
    assert lines[6:8] == ["Dataset MNIST", "    Number of datapoints: 48"]
    assert lines[-1] == "[[[1.0, 0.0], [3.0, 2.0]]]"


def test_the_example_of_the_page(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "vision.md").read_text()
    code, networks = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)
    batches = cifar_batches([f"data_batch_{i}" for i in range(1, 6)])
    (tmp_path / "data").mkdir()
    for name, content in cifar_files(batches, "batches.meta", {"label_names": ["a"]}).items():
        (tmp_path / "data" / name).write_bytes(content)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, None] for name in batches])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": None})
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)
    assert found["images"].shape == found["x"].shape == (20, 3, 32, 32)
    assert found["x"].min() < -1 and found["y"].shape == (20,)
    monkeypatch.setattr(hub, "load_state_dict_from_url",
                        lambda *args, **kw: models.resnet18().state_dict())
    exec(networks, found)
    assert found["net"].fc.out_features == 10 and found["trained"].fc.out_features == 1000


def test_vision_is_imported_when_asked_for():
    code = ("import sys, gpugrad; assert 'gpugrad.vision' not in sys.modules; "
            "gpugrad.vision.datasets; "
            "assert 'PIL' not in sys.modules and 'sklearn' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
