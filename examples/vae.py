"""Train a variational autoencoder on scikit-learn's handwritten digits, and let it write its own.

    python examples/vae.py
    python examples/vae.py --resume runs/vae/checkpoint.pt --epochs 200

The encoder makes a normal distribution of each image, the decoder an image of a draw from it; what
is maximized is the evidence lower bound (Kingma and Welling, 2014). Leaves a checkpoint and a
picture in --out. With ``import torch`` in place of gpugrad it runs as well.
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
from gpugrad.distributions import Bernoulli, Independent, Normal, kl_divergence
from gpugrad.utils.data import DataLoader, TensorDataset
from program import fail
from progress import Bar

FORMAT = "gpugrad vae 1"
SIZE = 16                        # of the images, which the data set has enlarged to 32
DEFAULTS = {"epochs": 120, "seed": 1, "latent": 10, "batch_size": 64, "lr": 0.002, "smoke": False}


class VAE(nn.Module):
    """Images (n, SIZE * SIZE) to distributions of latent vectors, and back."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        pixels = SIZE * SIZE
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(pixels, 256), nn.ReLU(), nn.Linear(256, 128),
                                     nn.ReLU(), nn.Linear(128, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 256),
                                     nn.ReLU(), nn.Linear(256, pixels))

    def encode(self, images: Any) -> Normal:
        mean, log_scale = self.encoder(images).chunk(2, -1)
        return Normal(mean, log_scale.exp())

    def decode(self, z: Any) -> Independent:
        """Grey levels count as the probabilities of ink."""
        return Independent(Bernoulli(logits=self.decoder(z), validate_args=False), 1)

    def bound(self, images: Any) -> tuple[Any, Any]:
        """The two parts of the bound, in nats an image: log likelihood and divergence."""
        posterior = self.encode(images)
        likelihood = self.decode(posterior.rsample()).log_prob(images)
        prior = Normal(torch.zeros_like(posterior.loc), 1.0)
        return likelihood.mean(), kl_divergence(posterior, prior).sum(-1).mean()


def flat(images: np.ndarray) -> Any:
    """(n, 1, 32, 32) to (n, SIZE * SIZE), each pixel the mean of four."""
    small = images.reshape(len(images), SIZE, 2, SIZE, 2).mean((2, 4))
    return torch.from_numpy(np.ascontiguousarray(small.reshape(len(images), -1), np.float32))


class Run:
    """A training run, between two epochs."""

    def __init__(self, settings: dict[str, Any], data: Any, device: Any) -> None:
        self.settings, self.device = settings, device
        torch.manual_seed(settings["seed"])
        self.net = VAE(settings["latent"]).to(device)
        self.optimizer = optim.Adam(self.net.parameters(), lr=settings["lr"])
        self.history: list[dict[str, float]] = []
        self.test_images = flat(data.test_images).to(device)
        self.loader: Any = DataLoader(TensorDataset(flat(data.train_images)), shuffle=True,
                                      batch_size=settings["batch_size"])

    def train_epoch(self) -> None:
        epoch, epochs = len(self.history) + 1, self.settings["epochs"]
        bar = Bar(f"epoch {epoch:{len(str(epochs))}d}/{epochs}", len(self.loader))
        total, seen = torch.zeros((), device=self.device), 0

        def describe() -> str:
            return f"bound {total.item() / seen:.2f} nats"

        for images, in self.loader:
            images = images.to(self.device)
            likelihood, divergence = self.net.bound(images)
            self.optimizer.zero_grad()
            (divergence - likelihood).backward()
            self.optimizer.step()
            total += (likelihood - divergence).detach() * len(images)
            seen += len(images)
            bar.advance(describe)
        with torch.no_grad():
            likelihood, divergence = (part.item() for part in self.net.bound(self.test_images))
        self.history.append({"train": total.item() / seen, "test": likelihood - divergence,
                             "divergence": divergence})
        bar.close(f"{describe()}  test "
                  f"{self.history[-1]['test']:.2f}, of it divergence {-divergence:.2f}")

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings, "history": self.history,
                "model": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state()}

    def load(self, path: Path, state: dict[str, Any]) -> None:
        try:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = state["history"]
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Images (rows, columns, SIZE, SIZE): what it makes of test images, and by itself."""
        torch.manual_seed(0)
        net, originals = self.net, self.test_images[:12]
        z = net.encode(originals).mean
        drawn = Normal(torch.zeros(48, net.latent, device=self.device), 1.0).sample()
        way = torch.linspace(0, 1, 12, device=self.device).reshape(-1, 1)
        ways = [net.decode(a + (b - a) * way).mean for a, b in zip(z[:8:2], z[1:8:2])]
        found = {"originals": torch.stack([originals, net.decode(z).mean]),
                 "samples": net.decode(drawn).mean.reshape(4, 12, -1), "ways": torch.stack(ways)}
        return {name: x.reshape(*x.shape[:2], SIZE, SIZE).cpu().numpy()
                for name, x in found.items()}


def draw(path: Path, history: list[dict[str, float]], images: dict[str, np.ndarray]) -> None:
    """Write the picture of a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 6.6), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.15])
    axes = halves[0].subplots()
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, [h["train"] for h in history], label="training images")
    axes.plot(epochs, [h["test"] for h in history], label="held-out images")
    axes.set(title="Evidence lower bound", xlabel="epoch", ylabel="nats an image")
    if len(history) > 5:                 # the first epochs are far below the others
        worst, best = history[2]["test"], max(h["train"] for h in history)
        axes.set_ylim(worst - 1, best + 1)
    axes.grid(alpha=0.3)
    axes.legend()
    parts: Any = halves[1].subfigures(3, 1, height_ratios=[2, 4, 4])
    titles = {"originals": "Held-out images, and below what is left of them after coding",
              "samples": "Digits it made up", "ways": "On the way from one digit to another"}
    for part, (name, title) in zip(parts, titles.items()):
        rows = np.pad(images[name], ((0, 0), (0, 0), (1, 1), (1, 1)))
        axes = part.subplots()
        axes.imshow(np.concatenate([np.concatenate(list(row), 1) for row in rows]), cmap="gray_r",
                    vmin=0, vmax=1)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    made = program.parser("Train a variational autoencoder on handwritten digits.", "runs/vae")
    made.add_argument("--latent", type=program.positive(int), help="size of the code (default: 10)")
    made.add_argument("--batch-size", type=program.positive(int), help="default: 64")
    made.add_argument("--lr", type=program.positive(float), help="Adam's (default: 0.002)")
    options = made.parse_args(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    defaults = {**DEFAULTS, "epochs": 3} if options.smoke else DEFAULTS
    settings = program.settings_for(options, defaults, state, ("epochs", "lr"))
    program.needed("matplotlib", "matplotlib")
    program.needed("sklearn", "scikit-learn")
    data = digits_data.scikit_learn_digits()
    run = Run(settings, data.shortened(512, 128) if settings["smoke"] else data, device)
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/vae")
    checkpoint = out / "checkpoint.pt"

    print(f"{data.title}: {len(run.loader.dataset):,} images of {SIZE}x{SIZE} to learn from, "
          f"{len(run.test_images):,} held out")
    print(f"VAE with {sum(p.numel() for p in run.net.parameters()):,} parameters and codes of "
          f"{settings['latent']} numbers, on {device}", flush=True)
    with program.Stop() as stop:
        while len(run.history) < settings["epochs"] and not stop.asked:
            run.train_epoch()
            program.save_checkpoint(checkpoint, run.state())
    if len(run.history) < settings["epochs"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options)}")
        return 130
    draw(out / "vae.png", run.history, run.pictures())
    print(f"checkpoint {checkpoint}, picture {out / 'vae.png'}")
    print(f"test bound: {run.history[-1]['test']:.2f} nats an image")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
