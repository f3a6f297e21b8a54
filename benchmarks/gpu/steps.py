"""Training steps: forward, loss, backward, clipping, optimizer; on batches that take turns."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cpu_suite import networks
from gpu import counts
from gpu.libraries import Library
from gpu.rows import CHANNELS_LAST, CONTIGUOUS, Case, row, size_of

ALL = ("gpugrad", "gpugrad-graph", "torch", "torch-plain", "torch-graph", "compile", "compile-max",
       "jax")
NOT_COMPILED = (*ALL[:5], "jax")    # torch.compile takes a minute for each network
CHECKED = 6             # steps whose losses must agree: some eager, some replayed
BATCHES = 3


# Networks, for a module that is gpugrad or torch --------------------------------------------------

def mlp(torch: Any, sizes: tuple[int, ...]) -> Any:
    nn, layers = torch.nn, []
    for k, out in pairwise(sizes):
        layers += [nn.Linear(k, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def resnet50(torch: Any, widths: tuple[int, ...], blocks: tuple[int, ...], classes: int) -> Any:
    """He and others' network of bottlenecks, with the stride in their convolutions of 3x3."""
    nn, F = torch.nn, torch.nn.functional

    def conv(c: int, k: int, size: int, stride: int = 1) -> Any:
        return nn.Conv2d(c, k, size, stride, padding=size // 2, bias=False)

    class Bottleneck(nn.Module):  # type: ignore[name-defined]
        def __init__(self, c: int, width: int, stride: int, first: bool) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(c, width, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
            self.shortcut = nn.Sequential(
                conv(c, 4 * width, 1, stride), nn.BatchNorm2d(4 * width)) if first \
                else nn.Sequential()

        def forward(self, x: Any) -> Any:
            y = F.relu(self.bn1(self.conv1(x)))
            y = F.relu(self.bn2(self.conv2(y)))
            return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))

    c = widths[0]
    layers = [conv(3, c, 7, 2), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for stage, (width, number) in enumerate(zip(widths, blocks)):
        for block in range(number):
            stride = 2 if block == 0 and stage else 1
            layers.append(Bottleneck(c, width, stride, block == 0))
            c = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))


def gpt(torch: Any, **sizes: int) -> Any:
    """GPT-2, whose last layer's weights are the embedding's."""
    net = networks.gpt(torch, **sizes)
    net.head.weight = net.tokens.weight
    return net


def lstm(torch: Any, layers: int, width: int, words: int) -> Any:
    """A language model: embedding, LSTM, and a layer to the words; (n, length) to logits."""
    nn = torch.nn

    class Model(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(words, width), nn.Linear(width, words)
            self.lstm = nn.LSTM(width, width, layers, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.words(x))[0]).flatten(0, 1)

    return Model()


# Workloads ----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Workload:
    """What is trained, on what, and how. The sizes of a dry run replace those of ``sizes``."""

    name: str                               # in the reports
    kind: str                               # in networks_jax
    batch: int
    build: Callable[..., Any]               # (torch, **sizes)
    sizes: dict[str, Any]
    dry: dict[str, Any]
    shape: Callable[..., tuple[tuple[int, ...], tuple[int, int]]]
    """(batch, **sizes) to: the shape of images, or () for words; (targets a sample, classes)"""
    work: Callable[..., counts.Step]        # (batch, **sizes)
    optimizer: tuple[str, dict[str, Any]] = ("SGD", {"lr": 0.002, "momentum": 0.9})
    clip: float = 0.0
    worth: int = 5
    layouts: tuple[str, ...] = (CONTIGUOUS,)
    columns: tuple[str, ...] = ALL
    dry_batch: int = 2
    dry_parts: int = 1

    def sized(self, dry: bool) -> tuple[int, dict[str, Any]]:
        return (self.dry_batch, self.dry) if dry else (self.batch, self.sizes)

    def batches(self, lib: Library, dry: bool) -> list[tuple[Any, Any]]:
        """Pairs of NumPy's arrays: what goes in, and the targets."""
        n, sizes = self.sized(dry)
        shape, (targets, classes) = self.shape(**sizes)
        if shape:
            return [(lib.array(n, *shape), lib.indices(classes, n)) for _ in range(BATCHES)]
        texts = [lib.indices(classes, n, targets + 1) for _ in range(BATCHES)]
        return [(t[:, :-1].copy(), t[:, 1:].reshape(-1).copy()) for t in texts]


# An eps so large that the sign of a gradient that is almost 0 doesn't decide: losses stay alike.
ADAM: tuple[str, dict[str, Any]] = ("Adam", {"lr": 1e-3, "eps": 1e-3})
ADAMW = "AdamW", ADAM[1]
MLP = (1024, 4096, 4096, 1024, 10)
WORKLOADS = [
    *[Workload(f"LeNet, batch {n}", "lenet", n, lambda torch: networks.lenet(torch, 5), {}, {},
               lambda: ((1, 32, 32), (1, 10)), lambda n: counts.lenet(n), ADAM,
               worth=9 if n == 64 else 7, columns=ALL if n == 64 else NOT_COMPILED,
               dry_parts=int(n == 64), dry_batch=8)
      for n in (64, 512)],
    Workload("MLP 1024-4096-4096-1024-10, batch 1024", "mlp", 1024, mlp, {"sizes": MLP},
             {"sizes": (24, 40, 16, 10)}, lambda sizes: ((sizes[0],), (1, sizes[-1])),
             counts.mlp, ADAM, worth=8, columns=NOT_COMPILED, dry_batch=8),
    Workload("ResNet-18 for CIFAR, batch 128", "resnet18", 128, networks.resnet18, {"width": 64},
             {"width": 2}, lambda width: ((3, 32, 32) if width > 2 else (3, 8, 8), (1, 10)),
             lambda n, **_: counts.resnet18(n), worth=8, layouts=(CHANNELS_LAST, CONTIGUOUS),
             columns=NOT_COMPILED, dry_batch=16, dry_parts=0),
    Workload("ResNet-50, batch 64", "resnet50", 64, resnet50,
             {"widths": (64, 128, 256, 512), "blocks": (3, 4, 6, 3), "classes": 1000},
             {"widths": (8, 12), "blocks": (2, 1), "classes": 10},
             lambda widths, blocks, classes: (
                 (3, 224, 224) if classes == 1000 else (3, 32, 32), (1, classes)),
             lambda n, **_: counts.resnet50(n), worth=8, layouts=(CHANNELS_LAST, CONTIGUOUS)),
    Workload("GPT-2 124M, batch 8 of 1024 words", "gpt", 8, gpt,
             {"layers": 12, "width": 768, "heads": 12, "length": 1024, "words": 50304},
             {"layers": 2, "width": 32, "heads": 2, "length": 16, "words": 50},
             lambda layers, width, heads, length, words: ((), (length, words)),
             lambda n, heads, **sizes: counts.gpt(n, **sizes), ADAMW, 1.0, worth=8,
             dry_parts=2),
    Workload("LSTM, 2 layers of 1024, batch 64 of 64 words", "lstm", 64, lstm,
             {"layers": 2, "width": 1024, "words": 10000}, {"layers": 2, "width": 16, "words": 50},
             lambda layers, width, words: ((), (64 if width > 16 else 5, words)),
             lambda n, **sizes: counts.lstm(n, 64, **sizes), ADAM, 1.0, worth=6,
             columns=NOT_COMPILED)]


def initial(net: Any, lib: Library) -> dict[str, Any]:
    """The same numbers in every framework, by the names and shapes of the parameters.

    Matrices are normal by their inputs' number; a norm's factors are 1, other vectors 0.
    """
    found = {}
    for name, p in net.named_parameters():
        shape = tuple(p.shape)
        if len(shape) > 1:
            inputs = int(lib.np.prod(shape[1:]))
            found[name] = lib.array(*shape) / lib.np.float32(inputs) ** lib.np.float32(0.5)
        else:
            ones = name.endswith("weight")
            found[name] = lib.np.full(shape, float(ones), lib.np.float32)
    return found


# The step of each column --------------------------------------------------------------------------

def step_case(lib: Library, dry: bool, w: Workload) -> Case:
    batches = w.batches(lib, dry)
    n, sizes = w.sized(dry)
    work = w.work(n, **sizes).work(size_of(lib), counts.SGD if w.optimizer[0] == "SGD"
                                   else counts.ADAM)
    if lib.torch is None:
        import gpugrad
        from gpu import networks_jax

        start = initial(w.build(gpugrad, **sizes), lib)
        call = networks_jax.step(lib, w, sizes, start)
        if lib.layout == CHANNELS_LAST:
            batches = [(x.transpose(0, 2, 3, 1), y) for x, y in batches]
        put = lib.jax.numpy.asarray
        return numbered(call, [(put(x), put(y)) for x, y in batches], work)

    torch = lib.torch
    net = w.build(torch, **sizes)
    with torch.no_grad():
        for (_, p), start in zip(net.named_parameters(), initial(net, lib).values()):
            p.copy_(torch.from_numpy(start))
    how: dict[str, Any] = {"device": lib.device}
    if lib.column == "reference":
        how["dtype"] = torch.float64
    if lib.layout == CHANNELS_LAST:
        how["memory_format"] = torch.channels_last
    net = net.to(**how)
    optimizer = make_optimizer(lib, w, net)
    loss_of = torch.nn.functional.cross_entropy

    def forward(x: Any, y: Any) -> Any:
        with lib.autocast():
            return loss_of(net(x), y)

    if lib.column.startswith("compile"):
        forward = torch.compile(forward, mode="max-autotune-no-cudagraphs"
                                if lib.column == "compile-max" else "default")

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        if w.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), w.clip)
        optimizer.step()
        return loss.detach()

    ready = [(lib.put(x), lib.put(y)) for x, y in batches]
    if lib.column == "torch-graph":
        return captured(lib, step, ready, work)
    if lib.column == "gpugrad-graph":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                 # note() tells it
            recorded = torch.graph_step(step)
        case = numbered(recorded, ready, work)
        case.note = lambda: "" if recorded.replays and not recorded.reason else \
            f"runs eagerly: {recorded.reason or 'never replayed'}"
        return case
    return numbered(step, ready, work)


def make_optimizer(lib: Library, w: Workload, net: Any) -> Any:
    """As fast as the framework has it; a graph needs the number of steps on the device."""
    kind, options = w.optimizer
    if lib.name == "torch" and lib.device == "cuda" and lib.column not in (
            "torch-plain", "reference"):
        options = {**options, "fused": True}
        if lib.column == "torch-graph" and kind != "SGD":
            options["capturable"] = True
    return getattr(lib.torch.optim, kind)(net.parameters(), **options)


def numbered(step: Callable[..., Any], batches: list[Any], work: Any) -> Case:
    """Its first losses are those of the batches in turn."""
    calls = [lambda batch=batch: step(*batch) for batch in batches]
    return Case(calls, lambda: [float(calls[i % BATCHES]()) for i in range(CHECKED)], work)


def captured(lib: Library, step: Callable[..., Any], batches: list[Any], work: Any) -> Case:
    """PyTorch's recipe: three steps, then a graph of one with inputs of its own.

    The current stream must be one that can be captured.
    """
    x, y = (t.clone() for t in batches[0])
    losses = []
    for i in range(BATCHES):
        losses.append(float(step(*batches[i])))
    replay, loss = lib.captured(lib.torch.cuda.current_stream(), lambda: step(x, y))

    def call(batch: Any) -> Any:
        x.copy_(batch[0])
        y.copy_(batch[1])
        replay()
        return loss

    calls = [lambda batch=batch: call(batch) for batch in batches]
    return Case(calls, lambda: losses + [float(calls[i % BATCHES]())
                                         for i in range(CHECKED - BATCHES)], work, keep=step)


for w in WORKLOADS:
    row("steps", w.name.partition(",")[0].partition(" 1024")[0], w.name, columns=w.columns,
        precisions=("tf32", "amp", "float32"), layouts=w.layouts, worth=w.worth, dry=w.dry_parts)(
        lambda lib, dry, w=w: step_case(lib, dry, w))
