"""Fused calls in recorded steps on CUDA: the bits of eager calls, from fewer launches."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn
from gpugrad.backend import cuda
from gpugrad.recording import fusion

pytestmark = pytest.mark.gpu


class Block(nn.Module):
    """A residual block, in place as in torchvision, or not."""

    def __init__(self, i: int, o: int, stride: int, inplace: bool) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.relu, self.inplace = nn.ReLU(inplace), inplace
        self.short = nn.Identity() if i == o else nn.Sequential(
            nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Any) -> Any:
        h = self.b2(self.c2(self.relu(self.b1(self.c1(x)))))
        if self.inplace:
            h += self.short(x)
        else:
            h = self.short(x) + h
        return self.relu(h)


def resnet(inplace: bool) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1, bias=False), nn.BatchNorm2d(3),
                         nn.ReLU(inplace), nn.MaxPool2d(2), Block(3, 3, 1, inplace),
                         Block(3, 4, 2, inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 5))


class Layer(nn.Module):
    """A transformer's layer without attention: norms, dropout and residuals."""

    def __init__(self, d: int, p: float, norm: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(d), norm(d)])
        self.parts = nn.ModuleList([nn.Linear(d, d), nn.Linear(d, d)])
        self.drop = nn.Dropout(p)

    def forward(self, x: Any) -> Any:
        for norm, part in zip(self.norms, self.parts):
            x = x + self.drop(F.gelu(part(norm(x))))
        return x


def language(p: float, norm: Any = nn.LayerNorm) -> nn.Sequential:
    return nn.Sequential(nn.Embedding(5, 8), nn.Dropout(p), Layer(8, p, norm), Layer(8, p, norm),
                         norm(8), nn.Linear(8, 5))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(5, 4), nn.LSTM(4, 4, batch_first=True)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(4, 5)

    def forward(self, x: Any) -> Any:
        return self.out(self.lstm(self.drop(self.embedding(x)))[0])


class Attention(nn.Module):
    """Two heads, whose queries, keys and values are made by one layer."""

    def __init__(self, split: bool) -> None:
        super().__init__()
        self.inputs, self.output, self.split = nn.Linear(8, 24), nn.Linear(8, 8), split

    def forward(self, x: Any) -> Any:
        n, t, _ = x.shape
        if self.split:
            parts = [a.view(n, t, 2, 4).transpose(1, 2) for a in self.inputs(x).split(8, 2)]
        else:
            parts = self.inputs(x).view(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(*parts, is_causal=True)
        return x + self.output(found.transpose(1, 2).reshape(n, t, 8))


def attentive(split: bool) -> nn.Module:
    return nn.Sequential(nn.Embedding(5, 8), Attention(split), nn.LayerNorm(8), nn.Linear(8, 5))


def images(**kw: Any) -> tuple[Any, Any]:
    return torch.randn(2, 3, 8, 8, device="cuda").to(**kw), torch.randint(5, (2,), device="cuda")


def words() -> tuple[Any, Any]:
    return (torch.randint(5, (2, 6), device="cuda"), torch.randint(5, (12,), device="cuda"))


def training(model: nn.Module, optimizer: Any) -> Callable[..., Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out.reshape(-1, 5), y)
        loss.backward()
        optimizer.step()
        return loss.detach(), out.detach()
    return step


def trained(make: Callable[[], nn.Module], data: Callable[[], Any], how: str,
            step_of: Callable[..., Any] = training) -> Any:
    """(all that four steps give, bit for bit; how much work a graph holds) of steps that are run
    "eager", as graphs, or as graphs with fused calls."""
    torch.manual_seed(1)
    model = make().to("cuda")
    batch = data()
    step = step_of(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    if how != "eager":
        step = torch.graph_step(step)
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as change:
        if how == "graph":
            change.setattr(fusion, "fuse", lambda *args: 0)
        for _ in range(4):
            result = step(*batch)
            found += [t.clone() for t in (result if isinstance(result, tuple) else (result,))]
    found += model.state_dict().values()
    found += [p.grad for p in model.parameters() if p.grad is not None]
    work = 0
    if how != "eager":
        assert step.reason == "" and step.replays
        work = work_of(step)
    # bfloat16 fits into float32
    return [t.detach().cpu().to(torch.float32 if t.dtype is torch.bfloat16 else t.dtype)
            .contiguous().numpy().tobytes() for t in found], work


def work_of(step: Any) -> int:
    """How many kernels, products, fills and copies the graphs of a step hold; 0 on a real GPU."""
    if not cuda.simulated():
        return 0
    return sum([len(part.graph._graph._nodes) for part in
                step._programs[0][1].launch.graphs.parts])


def compared(make: Callable[[], nn.Module], data: Callable[[], Any] = images,
             step_of: Callable[..., Any] = training) -> tuple[int, int]:
    """The work of graphs without and with fused calls, which give what eager calls give."""
    eager, _ = trained(make, data, "eager", step_of)
    plain, before = trained(make, data, "graph", step_of)
    fused, after = trained(make, data, "fused", step_of)
    assert plain == eager
    assert fused == eager
    return before, after


# What training steps take: a change that makes it more needs a reason.
@pytest.mark.parametrize("make, data, most", [
    (lambda: resnet(True), images, 55), (lambda: resnet(False), images, 55),
    (lambda: language(0.1), words, 55), (lambda: language(0.0), words, 44),
    (Recurrent, words, 57), (lambda: attentive(False), words, 22),
    (lambda: attentive(True), words, 22)],
    ids=["resnet_in_place", "resnet", "language", "language_without_dropout", "lstm", "attention",
         "attention_of_parts"])
def test_the_work_of_a_training_step(make: Any, data: Any, most: int) -> None:
    before, after = compared(make, data)
    assert after <= most
    assert after < before or not before


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(dtype: str) -> None:
    found = getattr(torch, dtype)
    before, after = compared(lambda: Norm(lambda m, h: torch.relu(h)).to(found),
                             lambda: images(dtype=found))
    assert after < before or not before
    before, after = compared(lambda: nn.Sequential(*language(0.1)[:2], *language(0.1)[3:]).to(
        found), words)
    assert after < before or not before


def test_autocast() -> None:
    def mixed(model: Any, optimizer: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = F.cross_entropy(model(x).reshape(-1, 5), y)
            loss.backward()
            optimizer.step()
            return loss.detach()
        return step
    before, after = compared(lambda: resnet(True), images, mixed)
    assert after < before or not before
    before, after = compared(lambda: language(0.1), words, mixed)
    assert after < before or not before


def test_channels_last() -> None:
    before, after = compared(lambda: resnet(False).to(memory_format=torch.channels_last),
                             lambda: images(memory_format=torch.channels_last))
    assert after < before or not before


def test_rms_norm() -> None:
    before, after = compared(lambda: language(0.0, nn.RMSNorm), words)
    assert after < before or not before


@pytest.mark.parametrize("inplace", [True, False])
def test_inference(inplace: bool) -> None:
    def evaluating(model: Any, optimizer: Any) -> Any:
        model.eval()
        for b in model.modules():
            if isinstance(b, nn.BatchNorm2d):
                b.running_var.fill_(2)

        @torch.no_grad()
        def step(x: Any, y: Any) -> Any:
            return model(x)
        return step
    before, after = compared(lambda: resnet(inplace), images, evaluating)
    assert after < before or not before


def test_frozen_statistics() -> None:
    def frozen(model: Any, optimizer: Any) -> Any:
        model.eval()
        return training(model, optimizer)
    compared(lambda: resnet(False), images, frozen)


# What must not be fused --------------------------------------------------------------------------

class Norm(nn.Module):
    """A batch norm between convolutions, and what a test does behind it."""

    def __init__(self, behind: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.last, self.behind = nn.Conv2d(4, 5, 8), behind

    def forward(self, x: Any) -> Any:
        return self.last(self.behind(self, self.norm(self.first(x)))).flatten(1)


def used_twice(m: Any, h: Any) -> Any:
    return torch.relu(h) + h.sigmoid()


def viewed_before(m: Any, h: Any) -> Any:
    seen = h.view(-1)
    return torch.relu(h) * seen.view(h.shape).exp()


def viewed_then_written(m: Any, h: Any) -> Any:
    seen = h.view(-1)
    h.relu_()
    return h + seen.view(h.shape)


def bias_written(m: Any, h: Any) -> Any:
    h = torch.relu(h)
    with torch.no_grad():
        m.norm.bias.add_(0.25)
    return h


def residual_written(m: Any, h: Any) -> Any:
    other = h.detach().exp()
    h = h + other
    other.mul_(0)
    return torch.relu(h) + other


def added_to_itself(m: Any, h: Any) -> Any:
    return torch.relu(h + h)


def of_another_shape(m: Any, h: Any) -> Any:
    return torch.relu(h + h.detach().mean((2, 3), keepdim=True))


def into_the_residual(m: Any, h: Any) -> Any:
    other = h.detach().exp()
    other += h
    return torch.relu(other)


def relu_twice(m: Any, h: Any) -> Any:
    return torch.relu(h).mul(torch.relu(h.neg()).add(1))


def in_place_twice(m: Any, h: Any) -> Any:
    return h.mul_(2).relu_().mul(3)


def statistics_read(m: Any, h: Any) -> Any:
    return torch.relu(h) + m.norm.running_mean.sum() + m.norm.num_batches_tracked


def statistics_read_before(m: Any, h: Any) -> Any:
    seen = m.norm.running_var.sum() + m.norm.num_batches_tracked
    return torch.relu(h) + seen


def statistics_written_before(m: Any, h: Any) -> Any:
    m.norm.running_mean.mul_(0.5)
    m.norm.num_batches_tracked.add_(2)
    return torch.relu(h)


@pytest.mark.parametrize("behind", [
    used_twice, viewed_before, viewed_then_written, bias_written, residual_written,
    added_to_itself, of_another_shape, into_the_residual, relu_twice, in_place_twice,
    statistics_read, statistics_read_before, statistics_written_before], ids=lambda f: f.__name__)
def test_what_somebody_else_needs_or_writes(behind: Any) -> None:
    compared(lambda: Norm(behind))


def test_results_before_relu_are_there() -> None:
    def returning(model: Any, optimizer: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            h = model.norm(model.first(x))
            z = torch.relu(h)
            z.sum().backward()
            optimizer.step()
            return h.detach(), z.detach(), model.norm.weight.grad
        return step
    compared(lambda: Norm(used_twice), images, returning)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_normalised_is_written_before_relu(training: bool) -> None:
    def writing(viewed: bool, model: Any, optimizer: Any) -> Any:
        model.train(training)

        @torch.no_grad()
        def step(x: Any, y: Any) -> Any:
            h = model.first(x)
            z = model.norm(h)
            h.mul_(0)
            v = z.view(-1) if viewed else z
            y = torch.relu(z) + h
            return (y, v + 1) if viewed else y
        return step
    for viewed in (True, False):
        compared(lambda: Norm(used_twice), images, functools.partial(writing, viewed))


def test_two_backwards_in_a_step() -> None:
    def twice(model: Any, optimizer: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            for k in (1, 2):
                F.cross_entropy(model(x * k), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            optimizer.step()
            loss.backward()
            return loss.detach()
        return step
    before, after = compared(lambda: Norm(lambda m, h: torch.relu(h)), images, twice)
    assert after < before or not before


def test_layer_norm_of_what_is_written_or_needed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm, self.out = nn.Embedding(5, 8), nn.LayerNorm(8), \
                nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            e = self.embedding(x)
            s = e + e.exp()
            with torch.no_grad():
                self.norm.bias.add_(0.5)
            a = self.norm(s)
            t = s.detach() + 1
            t.mul_(2)
            b = self.norm(t)
            u = e.sigmoid() + e
            return self.out(a + b + self.norm(u) * u)
    compared(Odd, words)
