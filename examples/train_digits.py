"""Train LeNet on real handwritten digits: the 1,797 of scikit-learn, or MNIST.

    python examples/train_digits.py
    python examples/train_digits.py --resume runs/digits/checkpoint.pt
    python examples/train_digits.py --dataset mnist --data-dir data/mnist --device cuda

Leaves a checkpoint and a picture of the run in --out. The program is plain PyTorch but for its
imports: with ``import torch`` instead it runs as well, and on the same random numbers.
"""
from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import digits_data
import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim
import program
from digits_data import Digits
from gpugrad.utils.data import DataLoader, Dataset
from program import fail
from progress import Bar

FORMAT = "gpugrad train_digits 1"
EPOCHS = {"digits": 20, "mnist": 6}
MOST_SHIFT = 3          # training images are moved by up to so many of their 32 pixels


class Net(nn.Module):
    """LeNet: two convolutions, three linear layers; (n, 1, 32, 32) to (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Shifted(Dataset):
    """Images, each moved by a few pixels at random every time that it is asked for."""

    def __init__(self, images: Any, labels: Any, paper: float) -> None:
        border = ((0, 0), (0, 0), (MOST_SHIFT, MOST_SHIFT), (MOST_SHIFT, MOST_SHIFT))
        self.images = torch.from_numpy(np.pad(images, border, constant_values=paper))
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        top, left = torch.randint(0, 2 * MOST_SHIFT + 1, (2,)).tolist()
        size = digits_data.SIZE
        return self.images[index, :, top:top + size, left:left + size], self.labels[index]


class Run:
    """A training run, between two batches. All of it but the data goes into a checkpoint."""

    def __init__(self, settings: dict[str, Any], data: Digits, device: Any) -> None:
        self.settings, self.device = settings, device
        torch.manual_seed(settings["seed"])
        self.net = Net().to(device)
        self.optimizer = optim.Adam(self.net.parameters(), lr=settings["lr"])
        # float16 on a GPU needs scaled losses; bfloat16 on the CPU has float32's range.
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=settings["amp"] and device.type == "cuda")
        self.epoch = self.step = 0          # epochs done, and batches done of the one under way
        self.start_rng = torch.get_rng_state()      # the generator when this epoch began
        self.loss_sum = torch.zeros((), device=device)     # over the images of this epoch so far
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.history: list[dict[str, float]] = []

        mean, std = data.train_images.mean(), data.train_images.std()
        self.test_images = torch.from_numpy((data.test_images - mean) / std)
        self.test_labels = torch.from_numpy(data.test_labels)
        train = Shifted((data.train_images - mean) / std, data.train_labels, -mean / std)
        self.loader: Any = DataLoader(train, batch_size=settings["batch_size"], shuffle=True)

    def train_epoch(self, stop: Any) -> None:
        """Go through the training set, or what is left of it; ends early if a stop is asked for."""
        self.net.train()
        batches = self._batches()
        seen = shown = min(self.step * self.loader.batch_size, len(self.loader.dataset))
        began = time.perf_counter()
        epochs = str(self.settings["epochs"])
        bar = Bar(f"epoch {self.epoch + 1:{len(epochs)}d}/{epochs}", len(self.loader), self.step)

        def describe() -> str:
            speed = (seen - shown) / (time.perf_counter() - began)
            return (f"loss {self.loss_sum.item() / seen:.4f}  "
                    f"accuracy {100 * self.right.item() / seen:5.1f} %  {speed:,.0f} images/s")

        for images, labels in batches:
            images, labels = images.to(self.device), labels.to(self.device)
            self._set_learning_rate()
            self.optimizer.zero_grad()
            with torch.autocast(device_type=self.device.type, enabled=self.settings["amp"]):
                output = self.net(images)
                loss = F.cross_entropy(output, labels)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

            self.loss_sum += loss.detach() * len(labels)
            self.right += (output.argmax(1) == labels).sum()
            self.step += 1
            seen += len(labels)
            bar.advance(describe)
            if stop.asked and self.step < len(self.loader):
                bar.close(f"stopped after batch {self.step} of {len(self.loader)}")
                return

        text = describe()
        test_loss, test_accuracy, _ = self.test()
        self.history.append({"loss": self.loss_sum.item() / seen,
                             "accuracy": self.right.item() / seen,
                             "test_loss": test_loss, "test_accuracy": test_accuracy})
        bar.close(f"{text}  test {100 * test_accuracy:5.1f} %")
        self.epoch, self.step = self.epoch + 1, 0
        self.start_rng = torch.get_rng_state()
        self.loss_sum.zero_()
        self.right.zero_()

    def _batches(self) -> Any:
        """The batches that are left of this epoch."""
        now = torch.get_rng_state()
        torch.set_rng_state(self.start_rng)       # the epoch's order is drawn from here
        batches = iter(self.loader)
        for _ in range(self.step):
            next(batches)
        if self.step:
            torch.set_rng_state(now)
        return batches

    def _set_learning_rate(self) -> None:
        """Half a cosine, from --lr down to 0 over the whole run."""
        done = (self.epoch + self.step / len(self.loader)) / self.settings["epochs"]
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["lr"] * (1 + math.cos(math.pi * done)) / 2

    @torch.no_grad()
    def test(self) -> tuple[float, float, np.ndarray]:
        """Loss, accuracy and the probabilities (n, 10) on the held-out images."""
        self.net.eval()
        outputs = [self.net(self.test_images[i:i + 500].to(self.device)).cpu()
                   for i in range(0, len(self.test_images), 500)]
        output = torch.cat(outputs)
        loss = F.cross_entropy(output, self.test_labels).item()
        right = (output.argmax(1) == self.test_labels).sum().item()
        return loss, right / len(self.test_labels), F.softmax(output, 1).numpy()

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings,
                "model": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "epoch": self.epoch, "step": self.step,
                "history": self.history, "loss_sum": self.loss_sum, "right": self.right,
                "rng": torch.get_rng_state(), "start_rng": self.start_rng}

    def load(self, path: Path, state: dict[str, Any]) -> None:
        """Go back to the moment when ``state`` was saved."""
        try:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
            self.loss_sum = state["loss_sum"].to(self.device)
            self.right = state["right"].to(self.device)
            self.start_rng = state["start_rng"]
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    dataset = options.dataset or "digits"
    defaults = {"dataset": dataset, "epochs": 2 if options.smoke else EPOCHS[dataset],
                "batch_size": 32, "lr": 0.002, "seed": 1, "amp": False, "smoke": False}
    settings = program.settings_for(options, defaults, state, ("epochs", "lr"))
    picture = program.needed("digits_picture", "matplotlib")
    data = read_data(settings, options.data_dir or Path("data/mnist"))
    run = Run(settings, data, device)
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/digits")
    checkpoint = out / "checkpoint.pt"

    print(f"{data.title}: {len(data.train_labels):,} images to learn from, "
          f"{len(data.test_labels):,} held out for the test")
    print(f"LeNet with {sum(p.numel() for p in run.net.parameters()):,} parameters on {device}",
          flush=True)
    with program.Stop() as stop:
        while run.epoch < settings["epochs"] and not stop.asked:
            run.train_epoch(stop)
            program.save_checkpoint(checkpoint, run.state())
    if run.epoch < settings["epochs"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options, 'data_dir')}")
        return 130

    _, accuracy, probabilities = run.test()
    picture.draw(out / "digits.png", run.history, run.net.conv1.weight.detach().cpu().numpy(),
                 data, probabilities)
    print(f"checkpoint {checkpoint}, picture {out / 'digits.png'}")
    print(f"test accuracy: {100 * accuracy:.1f} %")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    made = program.parser("Train LeNet on real handwritten digits.", "runs/digits")
    option = made.add_argument
    option("--dataset", choices=sorted(EPOCHS), help="default: digits, those of scikit-learn")
    option("--data-dir", type=Path, metavar="D",
           help="where MNIST's files are or shall be (default: data/mnist)")
    option("--batch-size", type=program.positive(int), metavar="N", help="default: 32")
    option("--lr", type=program.positive(float),
           help="Adam's learning rate at the start (default: 0.002)")
    option("--amp", action="store_true",
           help="mixed precision: products in float16 on a GPU, in bfloat16 on the CPU")
    return made.parse_args(argv)


def read_data(settings: dict[str, Any], folder: Path) -> Digits:
    """The data set of a run; the program ends if it can't be had."""
    try:
        if settings["dataset"] == "mnist":
            data = digits_data.mnist(folder)
        else:
            program.needed("sklearn", "scikit-learn")
            data = digits_data.scikit_learn_digits()
    except program.DataError as problem:
        fail(str(problem))
    return data.shortened(512, 128) if settings["smoke"] else data


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
