"""Train a small GPT on a text, character by character, and watch it learn to write.

    python examples/char_gpt.py
    python examples/char_gpt.py --text shakespeare.txt --device cuda --layers 6 --width 384
    python examples/char_gpt.py --resume runs/char_gpt/checkpoint.pt --steps 5000

Without --text it reads the language reference that comes with Python. What it writes is printed
as it learns; it leaves a checkpoint and a picture in --out. With ``import torch`` in place of
gpugrad it runs as well.
"""
from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
import gpugrad.optim as optim
import program
import text_data
from program import fail
from progress import Bar

FORMAT = "gpugrad char_gpt 1"
DEFAULTS = {"steps": 2000, "every": 100, "seed": 1, "layers": 4, "heads": 4, "width": 128,
            "context": 128, "batch_size": 16, "lr": 0.002, "dropout": 0.0, "smoke": False}
SMOKE = {"steps": 200, "every": 50, "layers": 2, "heads": 2, "width": 32, "context": 64,
         "batch_size": 16, "lr": 0.01}
WARMUP = 0.05           # of all steps, in which the learning rate rises
SAMPLE = 240            # characters of what it writes as it learns


class Attention(nn.Module):
    """Each character looks at itself and those before it, in several ways at once."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def queries_keys_values(self, x: Any) -> Any:
        """Three tensors (n, heads, length, width / heads)."""
        n, length, width = x.shape
        parts = self.inputs(x).view(n, length, 3, self.heads, width // self.heads)
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Any) -> Any:
        q, k, v = self.queries_keys_values(x)
        found = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        return self.output(found.transpose(1, 2).reshape(x.shape))

    def weights(self, x: Any) -> Any:
        """How much each character (rows) looks at each (columns): (n, heads, length, length)."""
        q, k, _ = self.queries_keys_values(x)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(later, -math.inf).softmax(-1)


class Block(nn.Module):
    """Attention, then a small network for each character, each added to what was there."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"),
                                     nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.network(self.norm2(x))


class GPT(nn.Module):
    """Numbers of characters (n, length) to logits of the next ones (n, length, symbols)."""

    def __init__(self, symbols: int, settings: dict[str, Any]) -> None:
        super().__init__()
        width, layers, dropout = settings["width"], settings["layers"], settings["dropout"]
        self.context = settings["context"]
        self.tokens = nn.Embedding(symbols, width)
        self.places = nn.Embedding(self.context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, settings["heads"], dropout)
                                     for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)
        self.head.weight = self.tokens.weight       # one table for reading and for writing
        self.apply(self._start)
        for block in self.blocks:                   # what is added up starts the smaller
            for last in block.attention.output, block.network[2]:
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * layers))

    @staticmethod
    def _start(module: Any) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def embed(self, x: Any) -> Any:
        places = torch.arange(x.shape[1], device=x.device)
        return self.dropout(self.tokens(x) + self.places(places))

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def attention(self, x: Any) -> Any:
        """The attention weights of all layers: (layers, n, heads, length, length)."""
        x = self.embed(x)
        found = []
        for block in self.blocks:
            found.append(block.attention.weights(block.norm1(x)))
            x = block(x)
        return torch.stack(found)


def rate(step: int, steps: int) -> float:
    """The share of --lr at a step: up in a line, then down half a cosine to a tenth."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.55 + 0.45 * math.cos(math.pi * min(done, 1.0))


class Run:
    """A training run, between two steps. All of it but the text goes into a checkpoint."""

    def __init__(self, settings: dict[str, Any], text: text_data.Text, device: Any) -> None:
        self.settings, self.device = settings, device
        self.checksum = text.checksum
        self.symbols = text_data.Characters.of(text.content)
        numbers = torch.from_numpy(self.symbols.encode(text.content)).to(device)
        cut = len(numbers) * 9 // 10
        self.train, self.test = numbers[:cut], numbers[cut:]
        torch.manual_seed(settings["seed"])
        self.net = GPT(len(self.symbols), settings).to(device)
        self.optimizer = optim.AdamW(self._groups(), lr=settings["lr"], betas=(0.9, 0.99))
        self.schedule = optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate(step, settings["steps"]))
        self.step = 0
        self.loss_sum = torch.zeros((), device=device)      # of the steps since the last report
        self.history: list[dict[str, Any]] = []

    def _groups(self) -> list[dict[str, Any]]:
        """Matrices decay; biases and norms don't."""
        parameters = list(self.net.parameters())
        return [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]

    def windows(self, numbers: Any, starts: Any) -> tuple[Any, Any]:
        """Characters (n, context) from each start, and the characters that follow each."""
        reach = torch.arange(self.net.context + 1, device=self.device)
        found = numbers[starts.to(self.device)[:, None] + reach]
        return found[:, :-1], found[:, 1:]

    def loss(self, windows: tuple[Any, Any]) -> Any:
        return F.cross_entropy(self.net(windows[0]).flatten(0, 1), windows[1].flatten())

    def train_some(self, stop: Any) -> None:
        """The steps to the next report, or fewer if a stop is asked for."""
        self.net.train()
        settings = self.settings
        size, every = settings["batch_size"], settings["every"]
        goal = min(self.step // every * every + every, settings["steps"])
        first, done = self.history[-1]["step"] if self.history else 0, self.step
        bar = Bar(f"step {goal:{len(str(settings['steps']))}d}/{settings['steps']}", goal - first,
                  done - first)
        began = time.perf_counter()

        def describe() -> str:
            speed = (self.step - done) * size * self.net.context / (time.perf_counter() - began)
            loss = self.loss_sum.item() / (self.step - first)
            return f"loss {loss:.4f}  {speed:,.0f} characters/s"

        while self.step < goal:
            starts = torch.randint(len(self.train) - self.net.context, (size,))
            loss = self.loss(self.windows(self.train, starts))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.loss_sum += loss.detach()
            self.step += 1
            bar.advance(describe)
            if stop.asked and self.step < goal:
                bar.close(f"stopped after step {self.step}")
                return

        text = describe()
        self.history.append({"step": goal, "train": self.loss_sum.item() / (goal - first),
                             "test": self.test_loss(), "sample": self.write(SAMPLE, seed=goal)})
        self.loss_sum.zero_()
        bar.close(f"{text}  held out {self.history[-1]['test']:.4f}")

    @torch.no_grad()
    def test_loss(self) -> float:
        """The mean over windows that are spread evenly over the text held out."""
        self.net.eval()
        starts = torch.linspace(0, len(self.test) - self.net.context - 1, 64).long()
        losses = [self.loss(self.windows(self.test, some)).item() for some in starts.split(16)]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def write(self, length: int, temperature: float = 0.8, seed: int = 0) -> str:
        """New text, drawn one character after the other, as if after an empty line."""
        self.net.eval()
        generator = torch.Generator().manual_seed(seed)     # of its own: training goes on unmoved
        start = self.symbols.number.get("\n", 0)
        written = torch.tensor([[start]], device=self.device)
        for _ in range(length):
            logits = self.net(written[:, -self.net.context:])[:, -1].float().cpu()
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            written = torch.cat([written, chosen.to(self.device)], 1)
        return self.symbols.decode(written[0, 1:].tolist())

    @torch.no_grad()
    def read(self, length: int) -> tuple[str, np.ndarray]:
        """A text held out, from an empty line on, and minus the log probability of each letter.

        From the second window on, a letter is read with at least half a window before it.
        """
        self.net.eval()
        context, text = self.net.context, self.symbols.decode(self.test.tolist())
        start = max(text.find("\n\n", 0, len(text) // 2) + 1, 0)
        length = min(length, len(text) - start - context - 1)
        nats: list[float] = []
        for at in range(start, start + length, context // 2):
            x, y = self.windows(self.test, torch.tensor([min(at, len(text) - context - 1)]))
            losses = F.cross_entropy(self.net(x)[0], y[0], reduction="none").tolist()
            nats += losses[-(context // 2):] if nats else losses
        return text[start + 1:start + 1 + length], np.array(nats[:length])

    @torch.no_grad()
    def attention(self, text: str) -> np.ndarray:
        """Who looks at whom in a text: (layers, heads, length, length)."""
        self.net.eval()
        numbers = torch.from_numpy(self.symbols.encode(text)[None]).to(self.device)
        return self.net.attention(numbers)[:, 0].float().cpu().numpy()

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings, "text": self.checksum,
                "symbols": self.symbols.symbols, "model": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
                "step": self.step, "loss_sum": self.loss_sum, "history": self.history,
                "random": program.random_state(self.device)}

    def load(self, path: Path, state: dict[str, Any]) -> None:
        """Go back to the moment when ``state`` was saved."""
        try:
            if state["text"] != self.checksum:
                fail(f"the text is not the one that the run of {path} learns from; "
                     f"give the same --text FILE")
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.step, self.history = state["step"], state["history"]
            self.loss_sum = state["loss_sum"].to(self.device)
            program.set_random_state(state["random"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")


def draw(path: Path, run: Run, title: str) -> None:
    """The picture of a run: curve, attention, what it wrote when, and what surprises it."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    import pictures
    import text_picture

    history = run.history
    text, nats = run.read(1200)
    with matplotlib.rc_context(pictures.STYLE):
        figure: Any = Figure(figsize=(13, 9.5), facecolor="white")
        bits, plain = history[-1]["test"] / math.log(2), math.log2(len(run.symbols))
        pictures.heading(figure, f"GPT on {title}", f"{bits:.2f} bits a character on text held "
                         f"out, after {run.step:,} steps; without a model {plain:.2f}")
        axes = figure.add_axes([0.065, 0.58, 0.37, 0.29])
        pictures.curves(axes, [entry["step"] for entry in history],
                        {name: [entry[key] / math.log(2) for entry in history]
                         for name, key in (("training", "train"), ("held out", "test"))},
                        "Bits a character")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

        shown = sorted({0, len(history) // 3, len(history) - 1})
        text_picture.progress(figure, [
            (f"after {history[i]['step']:,} steps", history[i]["sample"]) for i in shown])
        text_picture.surprise_panel(
            figure, "the darker, the less likely each character seemed", list(text), nats)
        attention_maps(figure, run, text.lstrip()[:run.net.context][:26], [0.575, 0.06, 0.39, 0.38])
        pictures.save(figure, path)


def attention_maps(figure: Any, run: Run, text: str, place: list[float]) -> None:
    """Two heads of the first layer, and two of the last."""
    import pictures
    import text_picture

    left, bottom, width, height = place
    figure.text(left, 0.475, "Where it looks", size=10.5, weight="bold")
    figure.text(left, 0.453, "each character (rows) at those before it (columns)",
                color=pictures.SOFT)
    weights = run.attention(text)
    heads = weights.shape[1]
    signs = ["¶" if sign == "\n" else sign for sign in text]
    font = {"size": 6.5, "family": "monospace", "parse_math": False}
    for i in range(4):
        layer, head = (0, len(weights) - 1)[i // 2], i % 2 % heads
        corner = left + 0.01 + i % 2 * width / 2, bottom + (1 - i // 2) * height / 1.92
        axes = figure.add_axes([*corner, width / 2 - 0.015, height - height / 1.92 - 0.004])
        axes.imshow(weights[layer, head], cmap=text_picture.green(), vmin=0, vmax=0.8,
                    aspect="auto")
        pictures.bare(axes, pictures.FAINT)
        axes.set_xticks(range(len(text)), signs, **font)
        axes.set_yticks(range(len(text)), signs, **font)
        axes.tick_params(length=0, pad=1.5)
        axes.text(0.97, 0.93, f"layer {layer + 1}, head {head + 1}", transform=axes.transAxes,
                  ha="right", va="top", color=pictures.SOFT)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    defaults = {**DEFAULTS, **SMOKE} if options.smoke else DEFAULTS
    settings = program.settings_for(options, defaults, state, ("steps",))
    if settings["width"] % settings["heads"]:
        fail(f"--width {settings['width']} can't be divided among {settings['heads']} heads")
    program.needed("matplotlib", "matplotlib")
    try:
        text = text_data.read(options.text, least=40 * settings["context"])
    except program.DataError as problem:
        fail(str(problem))
    run = Run(settings, text.shortened(100_000) if settings["smoke"] else text, device)
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/char_gpt")
    checkpoint = out / "checkpoint.pt"

    print(f"{text.title}: {len(run.train):,} characters to learn from, {len(run.test):,} held out, "
          f"{len(run.symbols)} different ones")
    print(f"GPT with {sum(p.numel() for p in run.net.parameters()):,} parameters on {device}",
          flush=True)
    with program.Stop() as stop:
        while run.step < settings["steps"] and not stop.asked:
            reports = len(run.history)
            run.train_some(stop)
            program.save_checkpoint(checkpoint, run.state())
            if len(run.history) > reports:
                print(text_data.indented(run.history[-1]["sample"]), flush=True)
    if run.step < settings["steps"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options, 'text')}")
        return 130
    draw(out / "char_gpt.png", run, text.title)
    print(f"checkpoint {checkpoint}, picture {out / 'char_gpt.png'}")
    print(f"held out: {run.history[-1]['test'] / math.log(2):.3f} bits a character")
    return 0


def parse(argv: list[str] | None) -> Any:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    made = program.parser("Train a small GPT on a text, and watch it learn to write.",
                          "runs/char_gpt", length="steps")
    option, count = made.add_argument, program.positive(int)
    option("--text", type=Path, metavar="FILE", help="in UTF-8 (default: Python's reference)")
    option("--every", type=count, metavar="N", help="steps from report to report (default: 100)")
    option("--layers", type=count, metavar="N", help="default: 4")
    option("--heads", type=count, metavar="N", help="default: 4")
    option("--width", type=count, metavar="N", help="numbers for each letter (default: 128)")
    option("--context", type=count, metavar="N", help="letters that it looks back (default: 128)")
    option("--batch-size", type=count, metavar="N", help="default: 16")
    option("--lr", type=program.positive(float), help="AdamW's, at its highest (default: 0.002)")
    option("--dropout", type=program.share, help="default: 0")
    return made.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
