"""Train a DCGAN on scikit-learn's handwritten digits: one net draws, another tells it from people.

    python examples/dcgan.py
    python examples/dcgan.py --resume runs/dcgan/checkpoint.pt --epochs 80

The nets are those of Radford, Metz and Chintala (2015), made small; what draws the digits that you
see is a moving average of the generator. Leaves a checkpoint and a picture in --out. With
``import torch`` in place of gpugrad it runs as well.
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import digits_data
import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.optim as optim
import program
from gpugrad.optim.swa_utils import AveragedModel
from gpugrad.utils.data import DataLoader, TensorDataset
from program import fail
from progress import Bar

FORMAT = "gpugrad dcgan 1"
DEFAULTS = {"epochs": 40, "seed": 1, "latent": 32, "width": 24, "batch_size": 32, "lr": 0.0005,
            "smoke": False}
SMOKE = {"epochs": 3, "width": 8, "smoke": True}
SLOWER = 0.4                # the discriminator learns, or it knows its few images by heart
SURE = 0.9                  # a discriminator that is taught 1 soon tells all apart for certain
WATCHED = 12                # draws of noise whose digits are kept after every epoch


class Generator(nn.Sequential):
    """Noise (n, latent, 1, 1) to images (n, 1, 32, 32) from -1 (paper) to 1 (ink)."""

    def __init__(self, latent: int, width: int) -> None:
        def up(channels: int, more: int, stride: int, padding: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(channels, more, 4, stride, padding, bias=False),
                    nn.BatchNorm2d(more), nn.ReLU()]
        super().__init__(*up(latent, 4 * width, 1, 0), *up(4 * width, 2 * width, 2, 1),
                         *up(2 * width, width, 2, 1),
                         nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())
        self.apply(small_weights)


class Discriminator(nn.Sequential):
    """Images (n, 1, 32, 32) to logits (n,): above 0 for a digit that somebody wrote."""

    def __init__(self, width: int) -> None:
        def down(channels: int, more: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, more, 4, 2, 1, bias=False), nn.BatchNorm2d(more),
                    nn.LeakyReLU(0.2)]
        super().__init__(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
                         *down(width, 2 * width), *down(2 * width, 4 * width),
                         nn.Conv2d(4 * width, 1, 4), nn.Flatten(0))
        self.apply(small_weights)


def small_weights(module: nn.Module) -> None:
    """What the paper starts from."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def moving_average(average: Any, new: Any, count: Any) -> Any:
    """Of the last 200 steps or so; at first, of fewer."""
    kept = ((count + 1) / (count + 10)).clamp(max=0.995)
    return kept * average + (1 - kept) * new


class Run:
    """A training run, between two epochs."""

    def __init__(self, settings: dict[str, Any], images: np.ndarray, device: Any) -> None:
        self.settings, self.device = settings, device
        torch.manual_seed(settings["seed"])
        self.generator = Generator(settings["latent"], settings["width"]).to(device)
        self.discriminator = Discriminator(settings["width"]).to(device)
        self.average = AveragedModel(self.generator, avg_fn=moving_average, use_buffers=True).eval()
        self.optimizers = [optim.Adam(net.parameters(), lr=rate * settings["lr"],
                                      betas=(0.5, 0.999))
                           for net, rate in ((self.generator, 1.0), (self.discriminator, SLOWER))]
        self.watched = self.noise(WATCHED)
        self.history: list[dict[str, Any]] = []
        self.loader: Any = DataLoader(TensorDataset(torch.from_numpy(2 * images - 1)), shuffle=True,
                                      batch_size=settings["batch_size"], drop_last=True)

    def noise(self, count: int) -> Any:
        """Drawn on the CPU, so that the course of a run doesn't depend on the device."""
        return torch.randn(count, self.settings["latent"], 1, 1).to(self.device)

    def train_epoch(self) -> None:
        epoch, epochs = len(self.history) + 1, self.settings["epochs"]
        bar = Bar(f"epoch {epoch:{len(str(epochs))}d}/{epochs}", len(self.loader))
        sums = torch.zeros(4, device=self.device)

        def describe() -> str:
            drawn, told, real, fake = (sums / bar.done).tolist()
            return (f"loss of the generator {drawn:.3f}, discriminator {told:.3f}  "
                    f"takes real for real {100 * real:.0f} %, fake for real {100 * fake:.0f} %")

        for images, in self.loader:
            sums += self.step(images.to(self.device))
            bar.advance(describe)
        drawn, told, real, fake = (sums / bar.done).tolist()
        self.history.append({"generator": drawn, "discriminator": told, "real": real, "fake": fake,
                             "samples": (255 * self.draw(self.watched)).round().to(torch.uint8)})
        bar.close(describe())

    def step(self, images: Any) -> Any:
        """One step of each net.

        Returns the two losses, and the shares of real and of drawn images taken for real ones.
        """
        draw, tell = self.optimizers
        fakes = self.generator(self.noise(len(images)))

        real, fake = self.discriminator(images), self.discriminator(fakes.detach())
        told = verdict(real, SURE) + verdict(fake, 0.0)
        tell.zero_grad()
        told.backward()
        tell.step()

        self.discriminator.requires_grad_(False)    # the generator's gradients pass through it
        drawn = verdict(self.discriminator(fakes), 1.0)
        draw.zero_grad()
        drawn.backward()
        draw.step()
        self.discriminator.requires_grad_(True)
        self.average.update_parameters(self.generator)
        shares = [(logits.detach() > 0).float().mean() for logits in (real, fake)]
        return torch.stack([drawn.detach(), told.detach(), *shares])

    @torch.no_grad()
    def draw(self, noise: Any) -> Any:
        """Images (n, 32, 32) from 0 to 1, on the CPU."""
        return ((self.average(noise) + 1) / 2)[:, 0].cpu()

    def nets(self) -> list[nn.Module]:
        return [self.generator, self.discriminator, self.average]

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings, "history": self.history,
                "nets": [net.state_dict() for net in self.nets()],
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "watched": self.watched, "rng": torch.get_rng_state()}

    def load(self, path: Path, state: dict[str, Any]) -> None:
        try:
            for net, saved in zip(self.nets(), state["nets"]):
                net.load_state_dict(saved)
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            self.history, self.watched = state["history"], state["watched"].to(self.device)
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")

    def pictures(self) -> dict[str, np.ndarray]:
        """Images (rows, columns, 32, 32): digits that it draws, and the ways between some."""
        torch.manual_seed(0)
        found = {"drawn": self.draw(self.noise(80)).reshape(8, 10, 32, 32)}
        ends, way = self.noise(8), torch.linspace(0, 1, WATCHED, device=self.device)
        between = [a + (b - a) * way.reshape(-1, 1, 1, 1) for a, b in zip(ends[::2], ends[1::2])]
        # Noise of the usual length: half-way between two draws it would be shorter.
        between = [x * (self.settings["latent"] / x.square().sum(1, keepdim=True)).sqrt()
                   for x in between]
        found["ways"] = torch.stack([self.draw(x) for x in between])
        return {name: images.numpy() for name, images in found.items()}


def verdict(logits: Any, truth: float) -> Any:
    """The binary cross entropy of logits (n,) if all of them should say ``truth``."""
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))


def milestones(epochs: int, most: int = 8) -> list[int]:
    """Up to so many epochs from 1 to the last, ever farther apart."""
    return sorted({round(epoch) for epoch in np.geomspace(1, epochs, most)})


def draw(path: Path, run: Run, real: np.ndarray) -> None:
    """Write the picture of a run; ``real`` (n, 32, 32) are images that it learned from."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    import pictures

    history, images = run.history, run.pictures()
    epochs = range(1, len(history) + 1)
    with matplotlib.rc_context(pictures.STYLE):
        figure = Figure(figsize=(12, 10.4), facecolor="white")
        pictures.heading(figure, "A DCGAN writes digits",
                         f"{len(history)} epochs, {len(run.loader.dataset):,} images to learn from")
        top = figure.add_gridspec(1, 2, left=0.055, right=0.965, top=0.885, bottom=0.695,
                                  width_ratios=[0.445, 0.415], wspace=0.116)
        for place, names, title in (
                (top[0], {"discriminator": "discriminator", "generator": "generator"}, "Loss"),
                (top[1], {"written by people": "real", "drawn": "fake"},
                 "Share of the digits that the discriminator takes for real")):
            axes = figure.add_subplot(place)
            pictures.curves(axes, epochs, {name: [entry[key] for entry in history]
                                           for name, key in names.items()}, title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))

        shown = milestones(len(history))
        grown = torch.stack([history[epoch - 1]["samples"] for epoch in shown]).numpy() / 255
        people = real[:30].reshape(3, 10, 32, 32)
        left = figure.add_gridspec(2, 1, left=0.055, right=0.5, top=0.61, bottom=0.02,
                                   height_ratios=[8, 4], hspace=0.13)
        right = figure.add_gridspec(2, 1, left=0.55, right=0.965, top=0.61, bottom=0.02,
                                    height_ratios=[8, 3], hspace=0.13)
        for place, what, title in (
                (right[0], images["drawn"], "Drawn: the first that came"),
                (right[1], people, "Written by people, and enlarged from 8x8"),
                (left[1], images["ways"], "On the way from one draw of noise to another"),
                (left[0], grown, "What the same noise became, from epoch to epoch")):
            axes = figure.add_subplot(place, anchor="N")
            pictures.mosaic(axes, what, title)
        axes.set_yticks([34 * i + 16 for i in range(len(shown))], [str(e) for e in shown])
        axes.tick_params(length=0)
        pictures.save(figure, path)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    defaults = {**DEFAULTS, **SMOKE} if options.smoke else DEFAULTS
    settings = program.settings_for(options, defaults, state, ("epochs",))
    program.needed("matplotlib", "matplotlib")
    program.needed("sklearn", "scikit-learn")
    data = digits_data.scikit_learn_digits()
    images = data.train_images[:512] if settings["smoke"] else data.train_images
    if len(images) < settings["batch_size"]:
        fail(f"--batch-size {settings['batch_size']} is more than the {len(images):,} images")
    run = Run(settings, images, device)
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/dcgan")
    checkpoint = out / "checkpoint.pt"

    sizes = [sum(p.numel() for p in net.parameters()) for net in (run.generator, run.discriminator)]
    print(f"{data.title}: {len(images):,} images of {digits_data.SIZE}x{digits_data.SIZE}")
    print(f"DCGAN with {sizes[0]:,} parameters that draw and {sizes[1]:,} that tell, on {device}",
          flush=True)
    with program.Stop() as stop:
        while len(run.history) < settings["epochs"] and not stop.asked:
            run.train_epoch()
            program.save_checkpoint(checkpoint, run.state())
    if len(run.history) < settings["epochs"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options)}")
        return 130
    draw(out / "dcgan.png", run, images[:, 0])
    print(f"checkpoint {checkpoint}, picture {out / 'dcgan.png'}")
    print(f"taken for real: {100 * run.history[-1]['fake']:.0f} % of its digits in the last epoch")
    return 0


def parse(argv: list[str] | None) -> Any:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    made = program.parser("Train a DCGAN on handwritten digits.", "runs/dcgan")
    option, count = made.add_argument, program.positive(int)
    option("--latent", type=count, metavar="N", help="numbers of noise for a digit (default: 32)")
    option("--width", type=count, metavar="N", help="channels at 16x16 (default: 24)")
    option("--batch-size", type=count, metavar="N", help="default: 32")
    option("--lr", type=program.positive(float), help="of the generator's Adam (default: 0.0005)")
    return made.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
