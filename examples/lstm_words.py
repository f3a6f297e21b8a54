"""Train an LSTM to guess the next word of a text, and have it write some.

    python examples/lstm_words.py
    python examples/lstm_words.py --text novel.txt --device cuda --width 650 --epochs 30
    python examples/lstm_words.py --resume runs/lstm_words/checkpoint.pt --epochs 20

Without --text it reads the language reference that comes with Python. It reports perplexity: among
how many equally likely words it might as well guess. Leaves a checkpoint and a picture in --out.
With ``import torch`` in place of gpugrad it runs as well.
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

FORMAT = "gpugrad lstm_words 1"
DEFAULTS = {"epochs": 12, "seed": 1, "layers": 2, "width": 200, "length": 35, "batch_size": 20,
            "least": 3, "lr": 0.003, "dropout": 0.4, "smoke": False}
SMOKE = {"epochs": 3, "layers": 1, "width": 64, "length": 20, "batch_size": 10, "lr": 0.01,
         "dropout": 0.1}
SAMPLE = 60             # words of what it writes as it learns


class Model(nn.Module):
    """Numbers of words (length, n) to logits of the next ones (length, n, words), and a state."""

    def __init__(self, words: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.words = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout if layers > 1 else 0.0)
        self.head = nn.Linear(width, words)
        self.head.weight = self.words.weight        # one table for reading and for writing
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        x, state = self.lstm(self.dropout(self.words(x)), state)
        return self.head(self.dropout(x)), state


class Run:
    """A training run, between two batches. All of it but the text goes into a checkpoint."""

    def __init__(self, settings: dict[str, Any], text: text_data.Text, device: Any) -> None:
        self.settings, self.device = settings, device
        self.checksum = text.checksum
        most = len(text.content) * 9 // 10
        cut = max(text.content.find("\n", most), most)         # at the end of a line, if it has one
        self.words = text_data.Words.of(text.content[:cut], settings["least"])
        self.train = self._columns(text.content[:cut], settings["batch_size"])
        self.test = self._columns(text.content[cut:], 5)
        self.chunks = -(-(len(self.train) - 1) // settings["length"])
        torch.manual_seed(settings["seed"])
        self.net = Model(len(self.words), settings["width"], settings["layers"],
                         settings["dropout"]).to(device)
        self.optimizer = optim.Adam(self.net.parameters(), lr=settings["lr"])
        self.schedule = optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.4, patience=0)
        self.epoch = self.step = 0          # epochs done, and chunks done of the one under way
        self.memory: Any = None             # the LSTM's state after them
        self.loss_sum = torch.zeros((), device=device)      # over the words of this epoch so far
        self.history: list[dict[str, Any]] = []

    def _columns(self, text: str, n: int) -> Any:
        """The words of a text (length, n): it goes on down a column, then in the next one."""
        numbers = self.words.encode(text)
        length = len(numbers) // n
        if length < 2:
            raise program.DataError("the text is too short for columns of two words; give a "
                                      "longer one, or a smaller --batch-size")
        columns = numbers[:n * length].reshape(n, length).T
        return torch.from_numpy(np.ascontiguousarray(columns)).to(self.device)

    def train_epoch(self, stop: Any) -> None:
        """Go through the text, or what is left of it; ends early if a stop is asked for."""
        self.net.train()
        length, began, first = self.settings["length"], time.perf_counter(), self.step
        epochs = str(self.settings["epochs"])
        bar = Bar(f"epoch {self.epoch + 1:{len(epochs)}d}/{epochs}", self.chunks, self.step)

        def describe() -> str:
            done = min(self.step * length, len(self.train) - 1) * self.train.shape[1]
            speed = (self.step - first) * length * self.train.shape[1]
            return (f"perplexity {perplexity(self.loss_sum.item() / done):6.1f}  "
                    f"{speed / (time.perf_counter() - began):,.0f} words/s")

        while self.step < self.chunks:
            chunk = self.train[self.step * length:self.step * length + length + 1]
            output, memory = self.net(chunk[:-1], self.memory)
            loss = F.cross_entropy(output.flatten(0, 1), chunk[1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 0.5)
            self.optimizer.step()
            self.memory = tuple(part.detach() for part in memory)   # learns no farther back
            self.loss_sum += loss.detach() * chunk[1:].numel()
            self.step += 1
            bar.advance(describe)
            if stop.asked and self.step < self.chunks:
                bar.close(f"stopped after chunk {self.step} of {self.chunks}")
                return

        text, test = describe(), self.test_loss()
        self.history.append({"train": self.loss_sum.item() / self.train[1:].numel(), "test": test,
                             "lr": self.optimizer.param_groups[0]["lr"],
                             "sample": self.write(SAMPLE, seed=self.epoch)})
        self.schedule.step(test)
        self.epoch, self.step, self.memory = self.epoch + 1, 0, None
        self.loss_sum.zero_()
        bar.close(f"{text}  held out {perplexity(test):6.1f}")

    @torch.no_grad()
    def test_loss(self) -> float:
        """The mean over the text held out, in nats a word."""
        self.net.eval()
        total, memory = 0.0, None
        for chunk, following in zip(self.test[:-1].split(100), self.test[1:].split(100)):
            output, memory = self.net(chunk, memory)
            total += F.cross_entropy(output.flatten(0, 1), following.flatten(),
                                     reduction="sum").item()
        return total / self.test[1:].numel()

    @torch.no_grad()
    def write(self, length: int, temperature: float = 0.8, seed: int = 0) -> str:
        """New text, drawn one word after the other; words too rare to be known aren't drawn."""
        self.net.eval()
        generator = torch.Generator().manual_seed(seed)     # of its own: training goes on unmoved
        memory, written = None, [self.words.number[text_data.NEWLINE]]
        for _ in range(length):
            last = torch.tensor([[written[-1]]], device=self.device)
            output, memory = self.net(last, memory)
            chances = (output[0, 0].float().cpu() / temperature).softmax(-1)
            chances[0] = 0
            written.append(torch.multinomial(chances, 1, generator=generator).item())
        return self.words.decode(written[1:])

    @torch.no_grad()
    def read(self, length: int) -> tuple[list[str], np.ndarray]:
        """Words held out, and minus the log probability of each, given all before it."""
        self.net.eval()
        first = self.test[:length + 1, :1]
        output, _ = self.net(first[:-1])
        nats = F.cross_entropy(output[:, 0], first[1:, 0], reduction="none").cpu().numpy()
        return [self.words.symbols[i] for i in first[1:, 0].tolist()], nats

    @torch.no_grad()
    def neighbours(self, words: int, near: int) -> dict[str, list[tuple[str, float]]]:
        """Words that aren't the very commonest, and those whose vectors have the smallest angle."""
        vectors = F.normalize(self.net.words.weight, dim=1)
        common = [i for i, word in enumerate(self.words.symbols)
                  if len(word) > 4 and word.isalpha()]
        found = {}
        for i in common[:words]:
            cosines, order = (vectors @ vectors[i]).topk(min(near + 1, len(vectors)))
            found[self.words.symbols[i]] = [(self.words.symbols[j], cosine) for j, cosine in
                                            zip(order.tolist(), cosines.tolist()) if j != i]
        return found

    def state(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings, "text": self.checksum,
                "words": self.words.symbols, "model": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
                "epoch": self.epoch, "step": self.step, "memory": self.memory,
                "loss_sum": self.loss_sum, "history": self.history,
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
            self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
            self.memory = state["memory"] and tuple(x.to(self.device) for x in state["memory"])
            self.loss_sum = state["loss_sum"].to(self.device)
            program.set_random_state(state["random"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            fail(f"{path} doesn't fit this program: {problem}")


def perplexity(nats: float) -> float:
    return math.exp(min(nats, 50.0))


def draw(path: Path, run: Run, title: str) -> None:
    """The picture of a run: curves, what it wrote when, what surprises it, and words alike."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    import pictures
    import text_picture

    history = run.history
    words, nats = run.read(260)
    with matplotlib.rc_context(pictures.STYLE):
        figure: Any = Figure(figsize=(13, 9.5), facecolor="white")
        pictures.heading(figure, f"LSTM on {title}",
                         f"perplexity {perplexity(history[-1]['test']):.1f} on text held out, "
                         f"after {run.epoch} epoch{'s' * (run.epoch > 1)}; without a model "
                         f"{len(run.words):,}")
        axes = figure.add_axes([0.065, 0.58, 0.37, 0.29])
        pictures.curves(axes, range(1, len(history) + 1),
                        {name: [perplexity(entry[key]) for entry in history]
                         for name, key in (("training", "train"), ("held out", "test"))},
                        "Perplexity", log=True)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        shown = sorted({0, len(history) // 2, len(history) - 1})
        text_picture.progress(figure, [
            (f"after {i + 1} epoch{'s' * (i > 0)}", history[i]["sample"]) for i in shown])
        text_picture.surprise_panel(
            figure, "the darker, the less likely each word seemed",
            ["\n" if word == text_data.NEWLINE else f"{word} " for word in words], nats)
        neighbour_table(figure, run.neighbours(14, 3), [0.575, 0.06, 0.39, 0.38])
        pictures.save(figure, path)


def neighbour_table(figure: Any, neighbours: dict[str, list[tuple[str, float]]],
                    place: list[float]) -> None:
    """A line a word, with the words that it treats most alike on a ground as green as near."""
    import pictures
    import text_picture

    figure.text(place[0], 0.475, "What it takes for alike", size=10.5, weight="bold")
    figure.text(place[0], 0.453, "common words, and those with the nearest vectors; number: cosine",
                color=pictures.SOFT)
    axes = figure.add_axes(place)
    pictures.bare(axes)
    near = max((len(found) for found in neighbours.values()), default=1)
    cosines = np.full((len(neighbours), near + 1), np.nan)
    for row, (word, found) in enumerate(neighbours.items()):
        axes.text(0.05, row + 0.5, word, weight="bold", va="center")
        for column, (other, cosine) in enumerate(found, 1):
            cosines[row, column] = cosine
            axes.text(column + 0.05, row + 0.5, other, va="center", parse_math=False)
            axes.text(column + 0.96, row + 0.5, f"{cosine:.2f}", va="center", ha="right", size=7,
                      color=pictures.SOFT)
    axes.pcolormesh(cosines, cmap=text_picture.green(), vmin=0, vmax=1.6, edgecolors="white",
                    linewidth=1.5)
    axes.set(xlim=(0, near + 1), ylim=(max(len(neighbours), 1), 0))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = parse(argv)
    device = program.usable_device(options.device)
    state = program.read_checkpoint(options.resume, FORMAT) if options.resume else None
    defaults = {**DEFAULTS, **SMOKE} if options.smoke else DEFAULTS
    settings = program.settings_for(options, defaults, state, ("epochs",))
    program.needed("matplotlib", "matplotlib")
    try:
        text = text_data.read(options.text, least=2000)
        run = Run(settings, text.shortened(60_000) if settings["smoke"] else text, device)
    except program.DataError as problem:
        fail(str(problem))
    if state is not None:
        run.load(options.resume, state)
    out = program.result_folder(options, "runs/lstm_words")
    checkpoint = out / "checkpoint.pt"

    print(f"{text.title}: {run.train.numel():,} words to learn from, {run.test.numel():,} held "
          f"out, {len(run.words):,} different ones")
    print(f"LSTM with {sum(p.numel() for p in run.net.parameters()):,} parameters on {device}",
          flush=True)
    with program.Stop() as stop:
        while run.epoch < settings["epochs"] and not stop.asked:
            epoch = run.epoch
            run.train_epoch(stop)
            program.save_checkpoint(checkpoint, run.state())
            if run.epoch > epoch:
                print(text_data.indented(run.history[-1]["sample"]), flush=True)
    if run.epoch < settings["epochs"]:
        print(f"stopped; go on with\n  {program.resume_command(checkpoint, options, 'text')}")
        return 130
    draw(out / "lstm_words.png", run, text.title)
    print(f"checkpoint {checkpoint}, picture {out / 'lstm_words.png'}")
    print(f"held out: perplexity {perplexity(run.history[-1]['test']):.1f}")
    return 0


def parse(argv: list[str] | None) -> Any:
    """The command line; what isn't given is None, as a resumed run brings its own settings."""
    made = program.parser("Train an LSTM to guess the next word of a text.", "runs/lstm_words")
    option, count = made.add_argument, program.positive(int)
    option("--text", type=Path, metavar="FILE", help="in UTF-8 (default: Python's reference)")
    option("--layers", type=count, metavar="N", help="default: 2")
    option("--width", type=count, metavar="N", help="of a word's vector (default: 200)")
    option("--length", type=count, metavar="N", help="words that gradients go back (default: 35)")
    option("--least", type=count, metavar="N", help="how often a word must occur to be learned "
                                                    "(default: 3)")
    option("--batch-size", type=count, metavar="N", help="default: 20")
    option("--lr", type=program.positive(float), help="Adam's at the start (default: 0.003)")
    option("--dropout", type=program.share, help="default: 0.4")
    return made.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
