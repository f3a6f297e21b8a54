"""Train ResNet-18 on CIFAR-10: python examples/cifar_resnet.py --data-dir data/cifar10

    python examples/cifar_resnet.py --synthetic
    python examples/cifar_resnet.py --resume runs/cifar_resnet/checkpoint.pt

--data-dir has CIFAR-10's archive, or its files; --synthetic draws coloured shapes instead, which
a small net learns in minutes without a GPU. Leaves a checkpoint and a picture in --out. With
``import torch`` in place of gpugrad it runs as well.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cifar_data
import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim
import program
from cifar_data import Images
from program import fail
from progress import Bar

FORMAT = "gpugrad cifar_resnet 1"
DEFAULTS = {"epochs": 30, "seed": 1, "width": 64, "batch_size": 128, "lr": 0.1,
            "weight_decay": 0.0005, "synthetic": False, "smoke": False}
SYNTHETIC = {"synthetic": True, "epochs": 10, "width": 16, "batch_size": 64, "lr": 0.05}
SMOKE = {**SYNTHETIC, "epochs": 3, "width": 8, "batch_size": 32}
MOST_SHIFT = 4          # training images are moved by up to so many of their 32 pixels


class Block(nn.Module):
    """Two 3x3 convolutions, and a way around them; ``stride`` 2 halves height and width."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.way: Any = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.way = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                     nn.BatchNorm2d(outputs))

    def forward(self, x: Any) -> Any:
        found = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(found)) + self.way(x))


class ResNet18(nn.Module):
    """ResNet-18 as it is made for small images: (n, 3, 32, 32) to logits (n, 10)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage in range(4):
            outputs = width * 2 ** stage
            blocks += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Any) -> Any:
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def augmented(images: Any) -> Any:
    """Images (n, c, h, w), each moved by a few pixels and every second one mirrored, at random.

    The numbers are drawn on the CPU, so that they are the same for every device.
    """
    n, channels, height, width = images.shape
    top, left = torch.randint(0, 2 * MOST_SHIFT + 1, (2, n, 1))
    mirrored = torch.rand(n, 1) < 0.5
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = F.pad(images, (MOST_SHIFT,) * 4)
    image = torch.arange(n, device=images.device).view(n, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(channels, 1, 1)
    return padded[image, channel, rows.view(n, 1, height, 1), columns.view(n, 1, 1, width)]


class Run:
    """A training run, between two batches. All of it but the data goes into a checkpoint."""

    def __init__(self, settings: dict[str, Any], data: Images, device: Any) -> None:
        self.settings, self.device = settings, device
        self.train_images = torch.from_numpy(data.train_images).to(device)
        self.train_labels = torch.from_numpy(data.train_labels).to(device)
        self.test_images = torch.from_numpy(data.test_images).to(device)
        self.test_labels = torch.from_numpy(data.test_labels).to(device)
        channels = data.train_images.swapaxes(0, 1).reshape(3, -1)
        self.mean, self.std = (torch.tensor(numbers.tolist(), device=device).view(1, 3, 1, 1)
                               for numbers in (channels.mean(1), channels.std(1)))
        torch.manual_seed(settings["seed"])
        self.net = ResNet18(settings["width"]).to(device)
        self.optimizer = optim.SGD(self.net.parameters(), lr=settings["lr"], momentum=0.9,
                                   nesterov=True, weight_decay=settings["weight_decay"])
        self.batches = -(-len(self.train_labels) // settings["batch_size"])
        self.schedule = optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings["lr"], total_steps=settings["epochs"] * self.batches)
        self.epoch = self.step = 0          # epochs done, and batches done of the one under way
        self.order: Any = None              # of the images in it
        self.loss_sum = torch.zeros((), device=device)     # over the images of this epoch so far
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.history: list[dict[str, float]] = []

    def normal(self, images: Any) -> Any:
        """Bytes to numbers with mean 0 and variance 1 in each channel of the training set."""
        return (images.float() - self.mean) / self.std

    def train_epoch(self, stop: Any) -> None:
        """Go through the training set, or what is left of it; ends early if a stop is asked for."""
        self.net.train()
        size, count = self.settings["batch_size"], len(self.train_labels)
        if self.step == 0:
            self.order = torch.randperm(count)
        seen = shown = min(self.step * size, count)
        began = time.perf_counter()
        epochs = str(self.settings["epochs"])
        bar = Bar(f"epoch {self.epoch + 1:{len(epochs)}d}/{epochs}", self.batches, self.step)

        def describe() -> str:
            speed = (seen - shown) / (time.perf_counter() - began)
            return (f"loss {self.loss_sum.item() / seen:.4f}  "
                    f"accuracy {100 * self.right.item() / seen:5.1f} %  {speed:,.0f} images/s")

        for chosen in self.order.to(self.device).split(size)[self.step:]:
            labels = self.train_labels[chosen]
            output = self.net(augmented(self.normal(self.train_images[chosen])))
            loss = F.cross_entropy(output, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            rate = float(self.schedule.get_last_lr()[0])
            self.schedule.step()
            self.loss_sum += loss.detach() * len(labels)
            self.right += (output.argmax(1) == labels).sum()
            self.step += 1
            seen += len(labels)
            bar.advance(describe)
            if stop.asked and self.step < self.batches:
                bar.close(f"stopped after batch {self.step} of {self.batches}")
                return

        text = describe()
        output = self.test()
        right = (output.argmax(1) == self.test_labels).sum().item()
        self.history.append({"loss": self.loss_sum.item() / seen,
                             "accuracy": self.right.item() / seen,
                             "test_loss": F.cross_entropy(output, self.test_labels).item(),
                             "test_accuracy": right / len(self.test_labels),
                             "lr": rate})
        bar.close(f"{text}  test {100 * self.history[-1]['test_accuracy']:5.1f} %")
        self.epoch, self.step, self.order = self.epoch + 1, 0, None
        self.loss_sum.zero_()
        self.right.zero_()

    @torch.no_grad()
    def test(self) -> Any:
        """Logits (n, 10) of the held-out images."""
        self.net.eval()
        return torch.cat([self.net(self.normal(images)) for images in self.test_images.split(500)])

    def examples(self, images: int, times: int) -> list[Any]:
        """The first training images (images, 3, 32, 32), each of the times moved anew, as bytes."""
        torch.manual_seed(0)
        some = self.normal(self.train_images[:images])
        return [(augmented(some) * self.std + self.mean).round().cpu().numpy()
                for _ in range(times)]

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings, "model": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
                "epoch": self.epoch, "step": self.step, "order": self.order,
                "loss_sum": self.loss_sum, "right": self.right, "history": self.history,
                "random": program.random_state(self.device)}

    def load(self, path: Path, state: dict[str, Any]) -> None:
        """Go back to the moment when ``state`` was saved."""
        try:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
            self.order = state["order"]
            self.loss_sum = state["loss_sum"].to(self.device)
            self.right = state["right"].to(self.device)
            program.set_random_state(state["random"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    defaults = {**DEFAULTS, **(SMOKE if options.smoke else SYNTHETIC if options.synthetic else {})}
    settings = program.settings_for(options, defaults, state, ())
    picture = program.needed("cifar_picture", "matplotlib")
    data = read_data(settings, options.data_dir or Path("data/cifar10"))
    run = Run(settings, data, device)
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/cifar_resnet")
    checkpoint = out / "checkpoint.pt"

    print(f"{data.title}: {len(data.train_labels):,} images to learn from, "
          f"{len(data.test_labels):,} held out for the test")
    print(f"ResNet-18 with {sum(p.numel() for p in run.net.parameters()):,} parameters on {device}",
          flush=True)
    with program.Stop() as stop:
        while run.epoch < settings["epochs"] and not stop.asked:
            run.train_epoch(stop)
            program.save_checkpoint(checkpoint, run.state())
    if run.epoch < settings["epochs"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options, 'data_dir')}")
        return 130
    picture.draw(out / "cifar_resnet.png", run.history, data,
                 F.softmax(run.test(), 1).cpu().numpy(),
                 run.net.conv1.weight.detach().cpu().numpy(), run.examples(8, 4))
    print(f"checkpoint {checkpoint}, picture {out / 'cifar_resnet.png'}")
    print(f"test accuracy: {100 * run.history[-1]['test_accuracy']:.1f} %")
    return 0


def read_data(settings: dict[str, Any], folder: Path) -> Images:
    """The data set of a run; the program ends if it can't be had."""
    if settings["smoke"]:
        return cifar_data.shapes(800, 200)
    if settings["synthetic"]:
        return cifar_data.shapes(5000, 1000)
    try:
        return cifar_data.cifar10(folder)
    except program.DataError as problem:
        fail(str(problem))


def parse(argv: list[str] | None) -> Any:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    made = program.parser("Train ResNet-18 on CIFAR-10, or on coloured shapes.",
                          "runs/cifar_resnet")
    option, count = made.add_argument, program.positive(int)
    option("--data-dir", type=Path, metavar="D", help="where CIFAR-10's files are (default: "
                                                      "data/cifar10)")
    option("--synthetic", action="store_true", help="coloured shapes, which need no files")
    option("--width", type=count, metavar="N", help="channels of the first stage (default: 64, and "
                                                    "16 for --synthetic)")
    option("--batch-size", type=count, metavar="N", help="default: 128, and 64 for --synthetic")
    option("--lr", type=program.positive(float), help="SGD's, at its highest (default: 0.1, and "
                                                      "0.05 for --synthetic)")
    option("--weight-decay", type=program.share, help="default: 0.0005")
    return made.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
