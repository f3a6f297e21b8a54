"""Train LeNet on real handwritten digits: the 1,797 of scikit-learn, or MNIST.

    python examples/train_digits.py
    python examples/train_digits.py --resume runs/digits/checkpoint.pt
    python examples/train_digits.py --dataset mnist --data-dir data/mnist --device cuda

Leaves a checkpoint and a picture of the run in --out. The program is plain PyTorch but for its
imports: with ``import torch`` instead it runs as well, and on the same random numbers.
"""
from __future__ import annotations

import argparse
import importlib
import math
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import digits_data
import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim
from digits_data import Digits
from gpugrad.utils.data import DataLoader, Dataset
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

    def train_epoch(self, stop: Stop) -> None:
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
            output = self.net(images)
            loss = F.cross_entropy(output, labels)
            loss.backward()
            self.optimizer.step()

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

    def save(self, path: Path) -> None:
        """Write a checkpoint. Whatever goes wrong, an older one of that name stays whole."""
        part = path.with_name(path.name + ".part")
        try:
            with open(part, "wb") as file:
                torch.save({
                    "format": FORMAT, "settings": self.settings,
                    "model": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "epoch": self.epoch, "step": self.step, "history": self.history,
                    "loss_sum": self.loss_sum, "right": self.right,
                    "rng": torch.get_rng_state(), "start_rng": self.start_rng,
                }, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as problem:
            fail(f"the checkpoint {path} can't be written: {problem}")
        finally:
            part.unlink(missing_ok=True)

    def load(self, path: Path, state: dict[str, Any]) -> None:
        """Go back to the moment when ``state`` was saved."""
        try:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
            self.loss_sum = state["loss_sum"].to(self.device)
            self.right = state["right"].to(self.device)
            self.start_rng = state["start_rng"]
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")


class Stop:
    """Within this context the first Ctrl-C only asks for a stop; a second one interrupts."""

    asked = False

    def __enter__(self) -> Stop:
        self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _ask(self, *args: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before)



def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = usable_device(options.device)
    state = read_checkpoint(options.resume) if options.resume else None
    settings = settings_for(options, state)
    picture = needed("digits_picture", "matplotlib")
    data = read_data(settings, options.data_dir)
    run = Run(settings, data, device)
    if state is not None:
        run.load(options.resume, state)
    out = result_folder(options)
    checkpoint = out / "checkpoint.pt"

    print(f"{data.title}: {len(data.train_labels):,} images to learn from, "
          f"{len(data.test_labels):,} held out for the test")
    print(f"LeNet with {sum(p.numel() for p in run.net.parameters()):,} parameters on {device}",
          flush=True)
    with Stop() as stop:
        while run.epoch < settings["epochs"] and not stop.asked:
            run.train_epoch(stop)
            run.save(checkpoint)
    if run.epoch < settings["epochs"]:
        print(f"stopped; go on with\n  {resume_command(checkpoint, options)}")
        return 130

    _, accuracy, probabilities = run.test()
    picture.draw(out / "digits.png", run.history, run.net.conv1.weight.detach().cpu().numpy(),
                 data, probabilities)
    print(f"checkpoint {checkpoint}, picture {out / 'digits.png'}")
    print(f"test accuracy: {100 * accuracy:.1f} %")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    parser = argparse.ArgumentParser(description="Train LeNet on real handwritten digits.")
    option = parser.add_argument
    option("--dataset", choices=sorted(EPOCHS), help="default: digits, those of scikit-learn")
    option("--data-dir", type=Path, default=Path("data/mnist"), metavar="D",
           help="where MNIST's files are or shall be (default: %(default)s)")
    option("--device", default="auto", help="auto (the default), cpu, cuda or cuda:N")
    option("--epochs", type=positive(int), help="default: 20, and 6 for mnist")
    option("--batch-size", type=positive(int), help="default: 32")
    option("--lr", type=positive(float), help="Adam's learning rate at the start (default: 0.002)")
    option("--seed", type=int, help="default: 1")
    option("--resume", type=Path, metavar="CHECKPOINT", help="go on with an earlier run")
    option("--out", type=Path, metavar="DIR",
           help="where the checkpoint and the picture go (default: runs/digits, or the folder of "
                "the checkpoint that is resumed)")
    option("--smoke", action="store_true",
           help="the whole program in a few seconds: few images, two epochs, results in "
                "a temporary folder")
    return parser.parse_args(argv)


def positive(kind: type) -> Any:
    """A type for argparse: numbers above 0."""
    def convert(text: str) -> Any:
        number = kind(text)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return number
    convert.__name__ = kind.__name__
    return convert


def settings_for(options: argparse.Namespace, state: dict[str, Any] | None) -> dict[str, Any]:
    """What decides the course of a run: given options, else the checkpoint's, else defaults."""
    dataset = options.dataset or "digits"
    settings = {"dataset": dataset, "epochs": 2 if options.smoke else EPOCHS[dataset],
                "batch_size": 32, "lr": 0.002, "seed": 1, "smoke": options.smoke}
    if state is not None:
        settings = dict(state["settings"])
    for name in ("epochs", "lr"):
        settings[name] = getattr(options, name) or settings[name]
    for name in ("dataset", "batch_size", "seed"):
        given = getattr(options, name)
        if state is not None and given not in (None, settings[name]):
            fail(f"--{name.replace('_', '-')} {given} doesn't go with --resume: that run has "
                 f"{settings[name]}, and a run keeps it to its end")
        settings[name] = settings[name] if given is None else given
    return settings


def usable_device(name: str) -> Any:
    """The torch.device of that name; the program ends if it can't be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except RuntimeError as problem:
        fail(f"--device {name}: {problem}")


def read_data(settings: dict[str, Any], folder: Path) -> Digits:
    """The data set of a run; the program ends if it can't be had."""
    try:
        if settings["dataset"] == "mnist":
            data = digits_data.mnist(folder)
        else:
            needed("sklearn", "scikit-learn")
            data = digits_data.scikit_learn_digits()
    except digits_data.DataError as problem:
        fail(str(problem))
    return data.shortened(512, 128) if settings["smoke"] else data


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What was saved at ``path``; the program ends if it can't be read."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        fail(f"there is no checkpoint {path}")
    except Exception as problem:      # a damaged file can make the reader raise anything
        fail(f"{path} is damaged or not a checkpoint: {problem}")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        fail(f"{path} is not a checkpoint of this program (a run of it leaves checkpoint.pt)")
    return state


def needed(module: str, package: str) -> Any:
    """Import a module that gpugrad itself doesn't need."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        fail(f"this program needs {package} ({problem}); install it with\n"
             f"  pip install 'gpugrad[examples]'")


def resume_command(checkpoint: Path, options: argparse.Namespace) -> str:
    command = ["python", sys.argv[0], "--resume", str(checkpoint)]
    for name, default in ("--device", "auto"), ("--data-dir", Path("data/mnist")):
        given = getattr(options, name[2:].replace("-", "_"))
        if given != default:
            command += [name, str(given)]
    return shlex.join(command)


def result_folder(options: argparse.Namespace) -> Path:
    """--out, made if need be; the program ends if it can't be."""
    if options.out is None and options.resume is None and options.smoke:
        return Path(tempfile.mkdtemp(prefix="gpugrad-digits-"))
    out = options.out or (options.resume.parent if options.resume else Path("runs/digits"))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        fail(f"{out} can't be a folder for the results: {problem}")
    return out


def fail(message: str) -> NoReturn:
    """End the program with a message and exit status 1."""
    sys.exit(f"train_digits.py: {message}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
