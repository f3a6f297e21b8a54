"""DataLoader beside PyTorch's: how long a pass over a dataset takes, and its first batch.

    python benchmarks/loader.py [--rounds 7] [--only NAME ...] [--quick] [--json FILE] [--out FILE]

The datasets are NumPy arrays in memory, with a __getitem__ and a transform in Python that are the
same text for both libraries. Each library has a process of its own; in every round both make a
pass of every case, one after the other, the other way round in every second one. Before that their
batches must agree. Printed are the shortest times, since what else runs can only add to them, and
PyTorch's over gpugrad's: above 1 gpugrad is faster.

--json: the numbers; --out: the tables as Markdown.
"""
from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from measure import describe, installed, limit_threads, machine, summary, write


class Case(NamedTuple):
    """A row of the table."""

    data: str
    workers: int
    persistent: bool = False
    start: str = "fork"

    @property
    def name(self) -> str:
        return (f"{self.data}, {self.workers} workers" + ", kept" * self.persistent
                + ", spawn" * (self.start == "spawn"))


class Data(NamedTuple):
    """Samples of one kind: how many, how many in a batch, and of which shape."""

    samples: int
    batch: int
    shape: tuple[int, ...]
    text: str


DATA = {
    "small": Data(8192, 64, (28, 28), "28x28 float32 as they lie in the array"),
    "scaled": Data(2048, 64, (1, 28, 28), "28x28 uint8, scaled and shifted at random"),
    "images": Data(1024, 32, (3, 64, 64), "3x64x64 uint8, cropped, flipped, normalized"),
    "large": Data(192, 16, (3, 224, 224), "3x224x224 float32: 9.6 MB a batch"),
    "columns": Data(16384, 64, (32,), "TensorDataset of 32 float32 and a label"),
}
MEAN, STD = (np.array(v, np.float32)[:, None, None] for v in ((124, 116, 104), (58, 57, 57)))
CASES = [Case(data, workers, persistent) for data in DATA
         for workers, persistent in ((0, False), (2, False), (2, True))]
CASES.append(Case("small", 2, start="spawn"))


class Samples:
    """A dataset as programs write it."""

    def __init__(self, torch: Any, kind: str, quick: bool) -> None:
        rng, facts = np.random.default_rng(0), DATA[kind]
        n = facts.samples // (8 if quick else 1)
        self.from_numpy, self.kind = torch.from_numpy, kind
        self.x = rng.integers(0, 256, (n, *facts.shape)).astype(np.uint8)
        if kind in ("small", "large", "columns"):
            self.x = (self.x / np.float32(255)).astype(np.float32)
        self.y = rng.integers(0, 10, n)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.from_numpy(getattr(self, self.kind)(self.x[i], i)), int(self.y[i])

    def small(self, x: Any, i: int) -> Any:
        return x

    large = small

    def scaled(self, x: Any, i: int) -> Any:
        x = np.roll(x, (i % 5 - 2, i % 3 - 1), (1, 2))
        return (x.astype(np.float32) / 255 - np.float32(0.13)) / np.float32(0.31)

    def images(self, x: Any, i: int) -> Any:
        padded = np.pad(x, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        x = padded[:, i % 9:i % 9 + 64, i % 7:i % 7 + 64]
        x = x[:, :, ::-1] if i % 2 else x
        return (x - MEAN) / STD


class Library:
    """One library's loaders, in its process."""

    def __init__(self, name: str, quick: bool) -> None:
        self.torch = importlib.import_module(name)
        self.data = importlib.import_module(f"{name}.utils.data")
        self.quick = quick
        self.loaders: dict[Case, Any] = {}

    def loader(self, case: Case) -> Any:
        made = self.loaders.get(case)
        if made is None:
            samples: Any = Samples(self.torch, case.data, self.quick)
            if case.data == "columns":
                samples = self.data.TensorDataset(self.torch.from_numpy(samples.x),
                                                  self.torch.from_numpy(samples.y))
            context = case.start if case.workers else None
            made = self.data.DataLoader(
                samples, DATA[case.data].batch, shuffle=True, num_workers=case.workers,
                persistent_workers=case.persistent, multiprocessing_context=context)
            if case.persistent:                  # later passes find the workers waiting
                for _ in made:
                    pass
            self.loaders[case] = made
        return made

    def seconds(self, case: Case) -> dict[str, float]:
        """Of a pass, and of its first batch."""
        loader = self.loader(case)
        began = time.perf_counter()
        batches = iter(loader)
        next(batches)
        first = time.perf_counter() - began
        for _ in batches:
            pass
        del batches                              # workers that aren't kept end in here
        return {"first": first, "pass": time.perf_counter() - began}

    def sums(self, case: Case) -> list[tuple[Any, ...]]:
        """What tells batches apart, from a fixed seed."""
        self.torch.manual_seed(7)
        return [(tuple(x.shape), str(x.dtype).split(".")[-1], float(x.double().sum()), y.tolist())
                for x, y in self.loader(case)]


def serve(name: str, quick: bool, channel: Any) -> None:
    """Answer (method, case) until None comes."""
    warnings.filterwarnings("ignore")
    limit_threads(1)
    library = Library(name, quick)
    while (asked := channel.recv()) is not None:
        channel.send(getattr(library, asked[0])(asked[1]))
    library.loaders.clear()


class Process:
    """A library in a process of its own."""

    def __init__(self, name: str, quick: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.channel, other = context.Pipe()
        self.process = context.Process(target=serve, args=(name, quick, other))
        self.process.start()
        other.close()

    def ask(self, method: str, case: Case) -> Any:
        self.channel.send((method, case))
        return self.channel.recv()

    def end(self) -> None:
        self.channel.send(None)
        self.process.join()


def measure(cases: list[Case], rounds: int, quick: bool) -> list[dict[str, Any]]:
    names = ["gpugrad", *(["torch"] if installed("torch") else [])]
    libraries = {name: Process(name, quick) for name in names}
    rows = []
    for case in cases:
        sums = {name: library.ask("sums", case) for name, library in libraries.items()}
        if len(sums) == 2 and sums["gpugrad"] != sums["torch"]:
            raise SystemExit(f"{case.name}: the libraries' batches differ")
        times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for i in range(rounds):
            for name in names[::-1] if i % 2 else names:
                times[name].append(libraries[name].ask("seconds", case))
        rows.append({"case": case.name, "batches": len(sums["gpugrad"]),
                     **{name: {what: {"least": min(t[what] for t in found),
                                      **summary([t[what] for t in found])}
                               for what in ("first", "pass")} for name, found in times.items()}})
        print(line(rows[-1]), flush=True)
    for library in libraries.values():
        library.end()
    return rows


HEAD = ["dataset", "batches", "pass, ms", "PyTorch", "ratio", "first batch, ms", "PyTorch", "ratio"]


def cells(row: dict[str, Any]) -> list[str]:
    out = [row["case"], str(row["batches"])]
    for what in "pass", "first":
        ours = row["gpugrad"][what]["least"]
        out.append(f"{ours * 1e3:.1f}")
        theirs = row["torch"][what]["least"] if "torch" in row else None
        out += ["", ""] if theirs is None else [f"{theirs * 1e3:.1f}", f"{theirs / ours:.2f}"]
    return out


def line(row: dict[str, Any]) -> str:
    return "  ".join(f"{cell:<28}" if i == 0 else f"{cell:>9}" for i, cell in enumerate(cells(row)))


def page(results: dict[str, Any]) -> str:
    texts = "\n".join(f"- {name}: {data.text}; {data.batch} in a batch"
                      for name, data in DATA.items())
    table = "\n".join("| " + " | ".join(row) + " |" for row in
                      [HEAD, ["---"] * len(HEAD), *map(cells, results["rows"])])
    return (f"# DataLoader beside PyTorch's\n\n{describe(results['machine'])}.\n\n"
            f"Shortest of {results['rounds']} passes; the ratio is PyTorch's time over gpugrad's.\n"
            f"\n{table}\n\n{texts}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="DataLoader beside PyTorch's.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(DATA))
    parser.add_argument("--quick", action="store_true", help="small datasets and 2 rounds: a check")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a page of Markdown")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - DATA.keys():
        parser.error(f"--only: there is no {min(unknown)}; there are {', '.join(DATA)}")
    limit_threads(1)
    facts = machine(1)
    print(describe(facts))
    print("  ".join(f"{cell:<28}" if i == 0 else f"{cell:>9}" for i, cell in enumerate(HEAD)))
    rounds = 2 if options.quick else options.rounds
    rows = measure([case for case in CASES if not options.only or case.data in options.only],
                   rounds, options.quick)
    results = {"machine": facts, "rounds": rounds, "quick": options.quick, "rows": rows}
    write(options.json, results)
    if options.out is not None:
        options.out.write_text(page(results))


if __name__ == "__main__":
    main()
