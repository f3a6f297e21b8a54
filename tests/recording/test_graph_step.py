"""graph_step: replays give what eager calls give, bit for bit; what can't be recorded says so. On
the CPU, and with CUDA graphs: more of these are in tests/cuda/test_graph_step_cuda.py."""
from __future__ import annotations

import copy
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn
from gpugrad._state import listening
from gpugrad.autograd import engine
from gpugrad.autograd.node import AccumulateGrad
from gpugrad.backend import get

pytestmark = pytest.mark.usefixtures("on_each_device")


@pytest.fixture(autouse=True)
def nothing_stays(on_each_device: None) -> Any:
    """After a test nobody listens, and all is in its own place again."""
    backends = {get("cpu"), get()}

    def places() -> Any:
        return [(be.xp, be.raw, be.generator) for be in backends], engine.run, engine.deliver, \
            AccumulateGrad.add
    before = places()
    yield
    assert listening == [None]
    assert before == places()
    assert not any("copy" in vars(be) for be in backends)


def generator(seed: int) -> Any:
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def random_state() -> Any:
    return torch.cuda if torch.get_default_device().type == "cuda" else torch


def same(a: Any, b: Any) -> bool:
    """Are two results the same, bit for bit?"""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and \
            a.detach().cpu().numpy().tobytes() == b.detach().cpu().numpy().tobytes()
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


class Program:
    """A model, what trains it, and a step."""

    def __init__(self, model: nn.Module, step: Callable[..., Any],
                 optimizer: Callable[..., Any] = lambda p: torch.optim.SGD(p, lr=0.1),
                 schedule: Any = None, scaler: Any = None) -> None:
        self.model, self.optimizer = model, optimizer(model.parameters())
        self.schedule = schedule(self.optimizer) if schedule else None
        self.scaler = scaler() if scaler else None
        self.step: Any = lambda *args: step(self, *args)

    def everything(self) -> Any:
        state = self.optimizer.state_dict()
        return ({k: v.clone() for k, v in self.model.state_dict().items()},
                [None if p.grad is None else p.grad.clone() for p in self.model.parameters()],
                {i: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in s.items()}
                 for i, s in state["state"].items()},
                [g["lr"] for g in state["param_groups"]],
                self.scaler.get_scale() if self.scaler else 0.0)


def compared(make: Callable[[], Program], batches: list[Any], replays: int | None = None) -> Any:
    """Train eagerly and by recorded steps, and compare everything after each step."""
    results = []
    for recorded in (False, True):
        torch.manual_seed(5)
        program = make()
        step = torch.graph_step(program.step) if recorded else program.step
        found = []
        for batch in batches:
            result = step(*batch)
            found.append((result, program.everything(), torch.rand(3)))
        results.append(found)
    for i, (eager, replayed) in enumerate(zip(*results)):
        assert same(eager, replayed), f"step {i} differs"
    assert step.reason == ""
    assert step.replays == (len(batches) - 3 if replays is None else replays)
    return step


def train(self: Program, x: Any, y: Any) -> Any:
    self.optimizer.zero_grad()
    loss = F.cross_entropy(self.model(x), y)
    loss.backward()
    self.optimizer.step()
    return loss


def images(n: int = 8, size: int = 3) -> list[Any]:
    r = generator(3)
    return [(torch.randn(size, 1, 12, 12, generator=r), torch.randint(10, (size,), generator=r))
            for _ in range(n)]


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Dropout(0.3), nn.Conv2d(4, 6, 3), nn.GELU(), nn.AvgPool2d(3),
                         nn.Flatten(), nn.Linear(6, 10))


# Programs ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("optimizer", [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    lambda p: torch.optim.Adam(p, lr=1e-2), lambda p: torch.optim.AdamW(p, amsgrad=True),
    lambda p: torch.optim.RMSprop(p, centered=True), lambda p: torch.optim.NAdam(p),
    lambda p: torch.optim.Adagrad(p), lambda p: torch.optim.Rprop(p)],
    ids="SGD Adam AdamW RMSprop NAdam Adagrad Rprop".split())
def test_a_convolutional_network(optimizer):
    compared(lambda: Program(convolutional(), train, optimizer), images())


@pytest.mark.parametrize("schedule", [
    lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3)])
def test_schedules_go_on(schedule):
    def step(self, x, y):
        loss = train(self, x, y)
        self.schedule.step()
        return loss
    compared(lambda: Program(convolutional(), step, schedule=schedule), images())


@pytest.mark.parametrize("clip", [
    lambda p: nn.utils.clip_grad_norm_(p, 0.05), lambda p: nn.utils.clip_grad_norm_(p, 0.1, 1.0),
    lambda p: nn.utils.clip_grad_value_(p, 0.01)])
def test_clipping(clip):
    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        norm = clip(self.model.parameters())
        self.optimizer.step()
        return {"loss": loss, "norm": norm}
    compared(lambda: Program(convolutional(), step), images())


def test_a_transformer():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(11, 8), nn.Embedding(5, 8)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
            self.head = nn.Linear(8, 11)

        def forward(self, x):
            h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.head(self.layer(h, src_mask=mask)).flatten(0, 1)

    r = generator(1)
    batches = [(torch.randint(11, (3, 5), generator=r), torch.randint(11, (15,), generator=r))
               for _ in range(7)]
    compared(lambda: Program(Model(), train, torch.optim.AdamW), batches)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(kind):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(3, 4, 2, batch_first=True), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    batches = [(torch.randn(2, 6, 3), torch.randint(5, (2,))) for _ in range(6)]
    compared(lambda: Program(Model(), train), batches)


def test_gradients_are_added_up():
    def step(self, x, y):
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        return loss
    compared(lambda: Program(convolutional(), step), images(10))


def test_gradients_set_to_zero_in_place():
    def step(self, x, y):
        self.optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
    compared(lambda: Program(convolutional(), step), images(10))


def test_two_backwards_and_shared_weights():
    def step(self, x, y):
        self.optimizer.zero_grad()
        for part, classes in zip(x.chunk(3), y.chunk(3)):
            h = self.model(part)
            loss = F.cross_entropy(h + self.model(part * 2) * h.sigmoid(), classes)
            loss.backward()
        self.optimizer.step()
        return loss
    compared(lambda: Program(nn.Sequential(nn.Flatten(), nn.Linear(144, 10)), step), images())


def test_autograd_grad_and_a_penalty():
    def step(self, x, y):
        self.optimizer.zero_grad()
        x = x.clone().requires_grad_()
        out = F.cross_entropy(self.model(x).sigmoid(), y)
        slope, = torch.autograd.grad(out, x, create_graph=True)
        (out + (slope ** 2).sum()).backward()
        self.optimizer.step()
        return out, slope.detach()
    compared(lambda: Program(nn.Sequential(nn.Flatten(), nn.Linear(144, 10)), step), images())


def test_autocast_with_a_scaler():
    def step(self, x, y):
        self.optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = F.cross_entropy(self.model(x), y)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss
    compared(lambda: Program(
        convolutional(), step, lambda p: torch.optim.SGD(p, lr=0.1),
        scaler=lambda: torch.amp.GradScaler(torch.get_default_device().type, init_scale=256.0,
                                            growth_interval=2)), images())


def test_random_numbers_made_in_the_step():
    def step(self, x, y):
        self.optimizer.zero_grad()
        noise = torch.randn(x.shape) * 0.1 + torch.rand(1)
        keep = torch.randint(2, x.shape)
        loss = F.cross_entropy(self.model(x + noise * keep), y)
        loss.backward()
        self.optimizer.step()
        return loss, noise
    compared(lambda: Program(nn.Sequential(nn.Flatten(), nn.Linear(144, 10)), step), images())


def test_writes_in_place_and_views():
    def step(self, x, y):
        h = torch.zeros(4, 6)
        h[1:3, ::2] = x[0, 0, :2, :3]
        h.add_(1).mul_(y[0])
        v = h.view(6, 4)
        v[0] += 2
        h[:, 1].relu_()
        total = torch.empty(()).fill_(3)
        total += h.sum()
        return h, v.t(), total
    compared(lambda: Program(nn.Linear(1, 1), step), images())


def test_arguments_are_written_to():
    @torch.graph_step
    def step(state, x):
        state.mul_(0.5).add_(x)
        return state.sum(), state

    state, plain = torch.zeros(3), torch.zeros(3)
    for i in range(6):
        x = torch.full((3,), float(i))
        total, back = step(state, x)
        plain.mul_(0.5).add_(x)
        assert back is state and same(state, plain) and same(total, plain.sum())
    assert step.replays == 3
    assert state._version == 12


def test_an_argument_that_requires_grad():
    step = torch.graph_step(lambda x, w: ((x * w).sum().backward(), x * 2)[1].detach())
    for i in range(6):
        x = torch.full((2,), float(i), requires_grad=True)
        w = torch.arange(2.0) + i
        assert same(step(x, w), (x * 2).detach())
        assert same(x.grad, w)
    assert step.replays == 3


def test_inference():
    model = convolutional().eval()
    step = torch.graph_step(torch.no_grad()(lambda x: model(x).softmax(1).max(1)))
    for x, _ in images():
        with torch.no_grad():
            want = model(x).softmax(1).max(1)
        got = step(x)
        assert same(tuple(got), tuple(want))
        assert type(got) is type(want) and same(got.values, want.values)
    assert step.replays == 5


def test_a_module_and_a_method():
    model = nn.Linear(3, 2).requires_grad_(False)
    step = torch.graph_step(model)

    class Agent:
        def __init__(self):
            self.w = torch.ones(3)

        @torch.graph_step
        def act(self, x):
            return x * self.w

    agent, other = Agent(), Agent()
    other.w = torch.full((3,), 7.0)
    for _ in range(6):
        x = torch.randn(4, 3)
        assert same(step(x), model(x))
        assert same(agent.act(x), x) and same(other.act(x), x * 7)
    assert step.replays == 3 and Agent.act.replays == 6


def test_nested_arguments_and_keywords():
    @torch.graph_step
    def step(batch, *, weights, scale=1.0):
        return {"sum": [(batch["x"] * w * scale).sum() for w in weights], "n": 3}

    for i in range(6):
        batch = {"x": torch.randn(3)}
        weights = torch.tensor(float(i)), torch.tensor(2.0)
        got = step(batch, weights=weights, scale=0.5)
        assert same(got, step.function(batch, weights=weights, scale=0.5))
    assert step.replays == 3


def test_a_step_in_a_step():
    inner = torch.graph_step(lambda x: x * 2)
    outer = torch.graph_step(lambda x: inner(x) + 1)
    for i in range(6):
        assert outer(torch.tensor(float(i))).item() == 2 * i + 1
    assert outer.replays == 3
    again = torch.graph_step(lambda x: inner(x) - 1)     # by now the inner one has a program
    for i in range(6):
        inner(torch.tensor(1.0))
        assert again(torch.tensor(float(i))).item() == 2 * i - 1
    assert again.replays == 3 and inner.replays > 2


# What may change between calls -------------------------------------------------------------------

def test_another_shape_or_dtype_is_recorded_anew():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    step = torch.graph_step(torch.no_grad()(lambda x: model(x) if x.dtype == torch.float32 else x))
    for _ in range(5):
        for x in (torch.randn(2, 1, 12, 12), torch.randn(5, 1, 12, 12),
                  torch.randn(5, 1, 12, 12).double(),
                  torch.randn(1, 12, 12, 2).permute(3, 0, 1, 2)):
            with torch.no_grad():
                assert same(step(x), step.function(x))
    assert step.replays == 2 * 4


def test_the_cache_is_bounded():
    step = torch.graph_step(lambda x: x + 1, cache_size=2)
    with pytest.warns(UserWarning, match="arguments of another kind"):
        for n in range(1, 30):
            step(torch.ones(n))
    assert len(step._entries) == 2 and "passed as tensors" in step.reason
    assert step.replays == 0
    step.clear()
    assert not step._entries


def test_training_and_evaluation():
    program = Program(convolutional(), train)
    step = torch.graph_step(program.step)
    predict = torch.graph_step(torch.no_grad()(lambda x: program.model(x)))
    for i, (x, y) in enumerate(images(24)):
        program.model.train(i % 8 < 6)
        if program.model.training:
            step(x, y)
        with torch.no_grad():
            state = random_state().get_rng_state()
            before = copy.deepcopy(program.model)
            want = before(x)
            random_state().set_rng_state(state)
            assert same(predict(x), want)
    assert step.replays == 15 and predict.replays > 15


@pytest.mark.parametrize("change", [
    lambda m: setattr(m, "weight", nn.Parameter(torch.ones(2, 3))),
    lambda m: setattr(m.weight, "data", torch.ones(2, 3)),
    lambda m: m.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}),
    lambda m: m.weight.data.fill_(1), lambda m: m.double().float(),
    lambda m: m.weight.requires_grad_(False),
    lambda m: setattr(m, "scale", 3.0)])
def test_changes_of_a_model_are_seen(change):
    class Model(nn.Linear):
        scale = 1.0

        def __init__(self):
            super().__init__(3, 2)
            self.scale = 2.0

        def forward(self, x):
            return super().forward(x) * self.scale

    model = Model()
    step = torch.graph_step(lambda x: model(x).sum().backward())
    for i in range(12):
        if i == 6:
            change(model)
        model.zero_grad()
        x = torch.randn(4, 3)
        twin = copy.deepcopy(model)
        step(x)
        twin(x).sum().backward()
        for p, q in zip(model.parameters(), twin.parameters()):
            assert (p.grad is None) == (q.grad is None)
            assert p.grad is None or same(p.grad, q.grad)
    assert step.replays >= 3 and step.reason == ""


RATE = 2.0


class Settings:
    rate = 1.0


SETTINGS = Settings()
SETTINGS.rate = 5.0


def test_numbers_under_names_are_seen():
    global RATE
    factor = 3.0

    def helper(x):
        return x * RATE

    step = torch.graph_step(lambda x: helper(x) * factor * SETTINGS.rate)
    x = torch.ones(1)
    try:
        for i in range(18):
            if i == 5:
                RATE = 4.0
            if i == 9:
                factor = 5.0
            if i == 13:
                SETTINGS.rate = 7.0
            assert step(x).item() == RATE * factor * SETTINGS.rate
    finally:
        RATE, SETTINGS.rate = 2.0, 5.0
    assert step.replays == 18 - 3 - 3 * 2


def test_a_tensor_under_a_name_is_replaced():
    w = torch.ones(2)
    step = torch.graph_step(lambda x: x * w)
    for i in range(9):
        if i == 5:
            w = torch.full((2,), 3.0)
        assert same(step(torch.ones(2)), w)
    assert step.replays == 2 + 2


def test_grad_mode_and_default_dtype_are_seen():
    w = torch.ones(2, requires_grad=True)
    step = torch.graph_step(lambda x: (x * w).detach() + torch.ones(2))
    for i in range(12):
        torch.set_default_dtype(torch.float64 if i >= 8 else torch.float32)
        try:
            with torch.set_grad_enabled(i % 2 == 0):
                got = step(torch.ones(2, dtype=torch.float32))
            assert got.dtype == (torch.float64 if i >= 8 else torch.float32)
        finally:
            torch.set_default_dtype(torch.float32)


def test_a_gradient_that_is_there_or_not():
    w = torch.ones(2, requires_grad=True)
    step = torch.graph_step(lambda x: (x * w).sum().backward())
    for i in range(24):
        if i % 3 == 0:
            w.grad = None
        step(torch.ones(2))
        assert same(w.grad, torch.full((2,), i % 3 + 1.0))
    assert step.replays >= 12


# What can't be recorded --------------------------------------------------------------------------

def refused(f: Callable[..., Any], match: str, arguments: Callable[[int], Any]) -> Any:
    """f runs eagerly from some call on, and gives the right results; the warning says why."""
    step = torch.graph_step(f)
    with pytest.warns(UserWarning, match=match) as caught:
        for i in range(6):
            assert same(step(*arguments(i)), f(*arguments(i)))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert step.replays == 0 and step.reason
    return step


def numbers(i: int) -> Any:
    return (torch.tensor([1.0, -2.0, 3.0]) * (i + 1 if i % 2 else -i - 1),)


@pytest.mark.parametrize("f, match", [
    (lambda x: x * x.max().item(), r"read by the host .* at test_graph_step.py:\d+"),
    (lambda x: x * 2 if x.sum() > 0 else x, "read by the host"),
    (lambda x: x * float(x[0]), "read by the host"),
    (lambda x: torch.tensor(x.cpu().numpy() * 2), "read by the host"),
    (lambda x: x[x > 0], "size depends on elements"),
    (lambda x: x.nonzero(), "size depends on elements"),
    (lambda x: torch.masked_select(x, x > 0), "size depends on elements"),
    (lambda x: torch.unique(x), "size depends on elements"),
    (lambda x: str(x), "read by the host"),
    (lambda x: (torch.manual_seed(3), x * torch.rand(3))[1], "state of a random generator"),
    (lambda x: torch.from_numpy(np.ones(3)).to(x.device) * x,
     "made in a way that recordings don't follow"),
])
def test_what_is_refused(f, match):
    refused(f, match, numbers)


def test_numbers_that_change_are_refused():
    calls = [0]

    def f(x):
        calls[0] += 1
        return x * float(calls[0])

    step = torch.graph_step(f)
    with pytest.warns(UserWarning, match=r"Python value that changes from call to call, .*at test_"
                                         r"graph_step.py:\d+: pass it to the step as a tensor"):
        for i in range(6):
            assert same(step(torch.ones(2)), torch.full((2,), i + 1.0))


def test_other_operations_each_time_are_refused():
    calls = [0]

    def f(x):
        calls[0] += 1
        return x.exp() if calls[0] % 2 else x.sin()

    step = torch.graph_step(f)
    with pytest.warns(UserWarning, match="other operations are called each time"):
        for i in range(6):
            x = torch.randn(2)
            assert same(step(x), x.sin() if i % 2 else x.exp())


def test_results_with_a_graph_are_refused():
    w = torch.ones(3, requires_grad=True)
    step = refused(lambda x: x * w, "whose graph is still there", numbers)
    step(*numbers(0)).sum().backward()
    assert w.grad is not None


def test_arguments_that_are_refused():
    w = torch.ones(3, requires_grad=True)
    refused(lambda x: x * 2, "an argument has a graph", lambda i: (w * 2,))
    refused(lambda x, y: x + y, "passed twice", lambda i: (w.detach(),) * 2)


def test_hooks_are_refused():
    seen = []
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda m, i, o: seen.append(o))
    step = torch.graph_step(torch.no_grad()(lambda x: model(x)))
    with pytest.warns(UserWarning, match="a Linear has hooks"):
        for _ in range(6):
            step(torch.ones(1, 3))
    assert len(seen) == 6
    w = torch.ones(2, requires_grad=True)
    w.register_hook(lambda g: seen.append(g))
    step = torch.graph_step(lambda x: (x * w).sum().backward())
    with pytest.warns(UserWarning, match="a parameter has hooks"):
        for _ in range(6):
            step(torch.ones(2))
    assert len(seen) == 12


def test_hooks_of_all_modules():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: seen.append(m))
    model = nn.Linear(3, 2)
    step = torch.graph_step(torch.no_grad()(lambda x: model(x)))
    with pytest.warns(UserWarning, match="a Linear has hooks"):
        step(torch.ones(1, 3)), step(torch.ones(1, 3))
    handle.remove()
    step = torch.graph_step(torch.no_grad()(lambda x: model(x)))
    for i in range(9):
        if i == 5:
            handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: seen.append(m))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(torch.ones(1, 3))
    handle.remove()
    assert step.replays == 2 and len(seen) == 2 + 4


def test_hooks_that_come_later_run():
    seen = []
    w = torch.ones(2, requires_grad=True)
    step = torch.graph_step(lambda x: (x * w).sum().backward())
    for i in range(10):
        w.grad = None
        if i == 6:
            w.register_hook(lambda g: seen.append(g))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(torch.ones(2))
    assert step.replays == 3 and len(seen) == 4


KEPT: list[Any] = []


class Loop:
    """Steps with effects beyond tensors."""

    def __init__(self):
        self.count, self.state = 0, torch.zeros(3)
        self.w = torch.ones(3, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.w], lr=0.5)

    def counts(self, x):
        self.count += 1
        return x * 2 if self.count < 5 else x

    def keeps(self, x):
        self.state = self.state * 0.5 + x
        return self.state.sum()

    def collects(self, x):
        KEPT.append(x * 2)
        return x * 3

    def draws(self, x):
        return x * 2 if random.random() < 2 else x

    def draws_by_numpy(self, x):
        return x * 2 if np.random.rand() < 2 else x

    def sets_the_rate(self, x):
        self.optimizer.zero_grad()
        (self.w * x).sum().backward()
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5
        self.optimizer.step()
        return self.w.detach().clone()


@pytest.mark.parametrize("method, match", [
    ("counts", "the step itself changes count"), ("keeps", "made in a way|keeps a tensor"),
    ("collects", "keeps a tensor of shape .3."), ("draws", "Python's or NumPy's random numbers"),
    ("draws_by_numpy", "Python's or NumPy's random numbers"),
    ("sets_the_rate", "such as its learning rate, is set in the step")])
def test_effects_beyond_tensors_are_refused(method, match):
    eager, loop = Loop(), Loop()
    step = torch.graph_step(getattr(loop, method))
    with pytest.warns(UserWarning, match=match):
        for i in range(8):
            x = torch.full((3,), float(i))
            assert same(step(x), getattr(eager, method)(x))
    assert step.replays == 0


def test_numbers_of_an_object_are_seen():
    class Agent:
        scale = 1.0

        @torch.graph_step
        def act(self, x):
            return x * self.scale

    agent = Agent()
    agent.scale = 2.0
    for i in range(10):
        if i == 6:
            agent.scale = 3.0
        assert agent.act(torch.ones(1)).item() == agent.scale
    assert Agent.act.replays == 3 + 2


# Errors, threads ---------------------------------------------------------------------------------

@pytest.mark.cpu_only
def test_errors_are_those_of_eager_calls():
    step = torch.graph_step(lambda x, y: F.cross_entropy(x, y))
    x, good, bad = torch.randn(2, 3), torch.tensor([0, 2]), torch.tensor([0, 5])
    for i in range(8):
        if i % 2:
            with pytest.raises(IndexError, match="Target 5 is out of bounds"):
                step(x, bad)
        else:
            assert same(step(x, good), F.cross_entropy(x, good))
    assert step.replays == 1


@pytest.mark.parametrize("f, kind", [(3, TypeError), (None, None)])
def test_wrong_use(f, kind):
    if kind:
        with pytest.raises(kind, match="expects a function or a module"):
            torch.graph_step(f)
    else:
        assert callable(torch.graph_step())
        with pytest.raises(ValueError, match="positive int"):
            torch.graph_step(len, cache_size=0)


def test_threads_have_results_of_their_own():
    w = torch.arange(4.0)
    step = torch.graph_step(lambda x: (x * w).exp().sum())
    wrong, times = [], 200 if w.is_cpu else 20

    def work(seed: int) -> None:
        r = torch.Generator(w.device).manual_seed(seed)
        for _ in range(times):
            x = torch.rand(4, generator=r, device=w.device)
            if step(x).item() != (x * w).exp().sum().item():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and not step.reason
    before = step.replays
    work(9)                                      # whoever had to wait for a recording ran eagerly
    assert not wrong and step.replays >= before + 0.9 * times
