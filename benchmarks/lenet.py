"""A training step of the tutorials' LeNet, gpugrad beside PyTorch, on the CPU.

    python benchmarks/lenet.py [--threads 1] [--batch 1 16 64 256] [--rounds 31] [--json FILE]

Forward, cross entropy, backward and an SGD step on random 32x32 images. Each library runs in a
process of its own, so that their thread pools don't disturb each other, and they take turns: one
round is some steps of the one, then as many of the other. Printed are medians over the rounds.
Both start from the same seed, and their losses must agree.
"""
from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from measure import describe, installed, limit_threads, machine, summary, write

CHECKED_STEPS = 10           # of which the losses are compared
ROUND_SECONDS = 0.05         # one turn of a library takes about so long


def make_net(torch: Any, kernel: int) -> Any:
    """The tutorials' net, with convolutions of 3x3 or 5x5."""
    nn, F = torch.nn, torch.nn.functional
    left = {3: 6, 5: 5}[kernel]

    class Net(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, kernel)
            self.conv2 = nn.Conv2d(6, 16, kernel)
            self.fc1 = nn.Linear(16 * left * left, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    return Net()


class Training:
    """One library's net, optimizer and batch."""

    def __init__(self, library: str, kernel: int, batch: int) -> None:
        torch = importlib.import_module(library)
        torch.manual_seed(0)
        self.F = torch.nn.functional
        self.net = make_net(torch, kernel)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01)
        self.images = torch.randn(batch, 1, 32, 32)
        self.labels = torch.randint(0, 10, (batch,))

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.F.cross_entropy(self.net(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def seconds(self, steps: int) -> float:
        """The time of a step, from several."""
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        return (time.perf_counter() - began) / steps


def worker(pipe: Connection, library: str, threads: int, kernel: int) -> None:
    """Answers a batch size with the first losses, then numbers of steps with seconds a step."""
    limit_threads(threads)
    if library == "torch":
        importlib.import_module("torch").set_num_threads(threads)
    while True:
        training = Training(library, kernel, pipe.recv())
        pipe.send([training.step().item() for _ in range(CHECKED_STEPS)])
        while (steps := pipe.recv()) > 0:
            pipe.send(training.seconds(steps))


def measure(pipes: dict[str, Connection], batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a step by library."""
    losses = {library: ask(pipe, batch) for library, pipe in pipes.items()}
    for library, values in losses.items():
        for i, (value, expected) in enumerate(zip(values, losses["gpugrad"])):
            if abs(value - expected) > 1e-4 * max(1.0, abs(expected)):
                raise SystemExit(f"batch {batch}, step {i}: the loss is {expected:.6f} with "
                                 f"gpugrad and {value:.6f} with {library}")
    steps = {library: max(1, round(ROUND_SECONDS / ask(pipe, 3)))
             for library, pipe in pipes.items()}
    times: dict[str, list[float]] = {library: [] for library in pipes}
    for i in range(rounds + 2):
        for library, pipe in pipes.items():
            seconds = ask(pipe, steps[library])
            if i >= 2:                             # the first rounds warm up
                times[library].append(seconds)
    for pipe in pipes.values():
        pipe.send(0)
    return {library: summary(values) for library, values in times.items()}


def ask(pipe: Connection, message: Any) -> Any:
    pipe.send(message)
    return pipe.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description="LeNet training steps, gpugrad beside PyTorch.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--kernel", type=int, choices=[3, 5], default=3)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()

    libraries = ["gpugrad"] + ["torch"] * installed("torch")
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for library in libraries:
        pipes[library], far = context.Pipe()
        process = context.Process(target=worker, daemon=True,
                                  args=(far, library, options.threads, options.kernel))
        process.start()
        far.close()              # so that a worker's death ends our waiting for it
        workers.append(process)

    facts = machine(options.threads)
    print(describe(facts))
    print(f"LeNet {options.kernel}x{options.kernel}: forward, cross entropy, backward, SGD step\n")
    print("batch" + "".join(f"{library + ' ms':>22}" for library in libraries)
          + f"{'torch / gpugrad':>18}" * ("torch" in libraries))
    results = {}
    for batch in options.batch:
        results[batch] = row = measure(pipes, batch, options.rounds)
        cells = [f"{1e3 * value['median']:14.3f} +- {1e3 * value['spread']:5.3f}"
                 for value in row.values()]
        ratio = row["torch"]["median"] / row["gpugrad"]["median"] if "torch" in row else None
        print(f"{batch:5d}" + "".join(f"{cell:>22}" for cell in cells)
              + (f"{ratio:17.2f}x" if ratio else ""), flush=True)
    for process in workers:
        process.terminate()
    write(options.json, {"machine": facts, "kernel": options.kernel, "seconds": results})


if __name__ == "__main__":
    main()
