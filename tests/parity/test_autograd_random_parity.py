"""Random programs against PyTorch: values, histories, errors and gradients agree step by step."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")

from test_autograd_parity import attempt  # noqa: E402

# PyTorch won't look at some views after a write to their base; ours follow it.
REFUSED = "its base or another view of its base has been modified inplace"


class Random:
    """One random program, run by both libraries step by step.

    A step picks tensors from the pool, a pair (ours, theirs) each, and puts its result there. Both
    must raise or neither; all values, flags and versions in the pool must agree after every step.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.log = []
        self.pool = []
        self.leaves = [self.new((3, 4), True), self.new((4,), True), self.new((3, 1), True)]
        self.new((3, 4), False)
        self.new((2, 3, 4), False)

    def new(self, shape, requires_grad):
        a = self.rng.uniform(0.2, 1.2, shape)
        pair = tuple(
            lib.tensor(a, dtype=lib.float64).requires_grad_(requires_grad)
            for lib in (gpugrad, torch)
        )
        self.pool.append(pair)
        return pair

    def pick(self):
        return self.pool[self.rng.integers(len(self.pool))]

    def choose(self, *options):
        return options[self.rng.integers(len(options))]

    def run(self, steps):
        for _ in range(steps):
            kind = self.choose(
                self.result,
                self.combined,
                self.combined,
                self.view,
                self.view,
                self.write,
                self.write,
                self.assign,
                self.without_grad,
                self.function,
                self.hook,
                self.gradient,
            )
            name, step, *operands = kind()
            self.step(name, step, *operands)

    def step(self, name, step, *operands):
        """step(lib, *tensors) in both libraries."""
        self.log.append(name)
        results = []
        for i, lib in enumerate((gpugrad, torch)):
            try:
                results.append(step(lib, *[pair[i] for pair in operands]))
            except Exception as error:
                results.append(error)
        if isinstance(results[0], Exception) or isinstance(results[1], Exception):
            assert type(results[0]) is type(results[1]), (*results, self.log)
        elif results[0] is not None and results[0].numel():
            self.pool.append(tuple(results))
        self.forget_what_torch_refuses()
        self.compare()

    def forget_what_torch_refuses(self):
        def fine(theirs):
            try:
                return theirs.grad_fn is None or True
            except RuntimeError as error:
                assert REFUSED in str(error)
                return False

        self.pool = [pair for pair in self.pool if fine(pair[1])]

    def compare(self):
        for ours, theirs in self.pool:
            assert tuple(ours.shape) == tuple(theirs.shape), self.log
            assert ours.requires_grad == theirs.requires_grad and ours.is_leaf == theirs.is_leaf, (
                self.log
            )
            assert ours._version == theirs._version, self.log
            np.testing.assert_allclose(
                ours.detach().numpy(), theirs.detach().numpy(), 1e-9, 1e-9, err_msg=str(self.log)
            )

    # Kinds of steps: (name, function of the library and its operands, operands)

    def result(self):
        x = self.pick()
        name = self.choose(
            "tanh", "sigmoid", "exp", "relu", "neg", "sin", "clone", "detach", "square", "abs"
        )
        if name == "exp":
            return "exp(tanh)", lambda lib, a: a.tanh().exp(), x
        return name, lambda lib, a: getattr(a, name)(), x

    def combined(self):
        x, y = self.pick(), self.pick()
        name = self.choose("add", "sub", "mul", "div", "matmul", "cat", "where", "sum", "mean")
        if name == "div":
            return name, lambda lib, a, b: a / (b * b + 1), x, y
        if name == "cat":
            return name, lambda lib, a, b: lib.cat([a.reshape(-1), b.reshape(-1)])[:12], x, y
        if name == "where":
            return name, lambda lib, a, b: lib.where(a.detach() > 0.5, a, b), x, y
        if name in ("sum", "mean"):
            dim = int(self.rng.integers(-2, 2))
            keep = bool(self.rng.integers(2))
            return f"{name}({dim})", lambda lib, a: getattr(a, name)(dim, keepdim=keep), x
        if name == "matmul":
            flat = (
                x[0].dim() != 2 or y[0].dim() != 2
            )  # otherwise PyTorch may copy operands before it saves them
            return (
                name,
                lambda lib, a, b: (a.flatten()[:3] @ b.flatten()[:3] if flat else a @ b).tanh(),
                x,
                y,
            )
        return (
            name,
            lambda lib, a, b: (
                getattr(lib, name)(a, b).tanh() if name == "mul" else getattr(lib, name)(a, b)
            ),
            x,
            y,
        )

    def view(self):
        x = self.pick()
        n = x[0].dim()
        name = self.choose(
            "select",
            "slice",
            "transpose",
            "flat",
            "unsqueeze",
            "squeeze",
            "step",
            "last",
            "unbind",
            "split",
            "diagonal",
            "expand",
            "reshape",
            "permute",
        )
        i = int(self.rng.integers(-2, 2))
        steps = {
            "select": lambda lib, a: a[i],
            "slice": lambda lib, a: a[:, 1:3] if n > 1 else a[1:],
            "transpose": lambda lib, a: a.transpose(0, -1),
            "flat": lambda lib, a: a.view(-1),
            "unsqueeze": lambda lib, a: a.unsqueeze(i),
            "squeeze": lambda lib, a: a.squeeze(),
            "step": lambda lib, a: a[::2],
            "last": lambda lib, a: a[..., -1],
            "unbind": lambda lib, a: a.unbind()[0],
            "split": lambda lib, a: a.split(2)[0],
            "diagonal": lambda lib, a: a.diagonal(),
            "expand": lambda lib, a: a.unsqueeze(0).expand(2, *a.shape) * 1,
            "reshape": lambda lib, a: a.reshape(2, -1),
            "permute": lambda lib, a: a.permute(*range(n)[::-1]),
        }
        return name, steps[name], x

    def write(self):
        x, y = self.pick(), self.apart(self.pick())
        name = self.choose(
            "add_",
            "sub_",
            "mul_",
            "copy_",
            "tanh_",
            "neg_",
            "exp_",
            "zero_",
            "fill_",
            "relu_",
            "mul_number",
            "add_number",
            "div_number",
        )
        if name in ("add_", "sub_", "mul_", "copy_"):
            return (
                name,
                lambda lib, a, b: void(getattr(a, name)(b.tanh() if name == "mul_" else b)),
                x,
                y,
            )
        if name == "exp_":
            return name, lambda lib, a: void(a.tanh_().exp_()), x
        numbers = {
            "fill_": ("fill_", 0.7),
            "mul_number": ("mul_", 0.5),
            "add_number": ("add_", 0.3),
            "div_number": ("div_", 2),
        }
        if name in numbers:
            method, number = numbers[name]
            return name, lambda lib, a: void(getattr(a, method)(number)), x
        return name, lambda lib, a: void(getattr(a, name)()), x

    def assign(self):
        x, y = self.pick(), self.apart(self.pick())
        i = int(self.rng.integers(-2, 2))
        where = np.array([0, 2]) % max(x[0].shape[0], 1) if x[0].dim() else np.array([0, 0])
        keys = {
            "row": lambda lib, a: i,
            "part": lambda lib, a: slice(1, 3),
            "column": lambda lib, a: (..., -1),
            "mask": lambda lib, a: a.detach() > 0.6,
            "list": lambda lib, a: lib.tensor(where),
        }
        name = self.choose(*keys)
        key = keys[name]
        if self.rng.integers(3) == 0 or name == "mask":
            return f"[{name}] = 0.4", lambda lib, a: a.__setitem__(key(lib, a), 0.4), x
        return f"[{name}] =", lambda lib, a, b: a.__setitem__(key(lib, a), b), x, y

    def function(self):
        """An autograd.Function: plain, with two results, one that writes, one that gives back."""
        x, y = self.pick(), self.pick()
        name = self.choose("Mul", "Both", "Double", "Same")
        if name in ("Mul", "Both"):
            return (
                name,
                lambda lib, a, b: first(
                    FUNCTIONS[lib][name].apply(a, b.detach().mean() + a * 0 + b.sum() / 9)
                ),
                x,
                y,
            )
        if name == "Double":
            return name, lambda lib, a: void(FUNCTIONS[lib][name].apply(a)), x
        return name, lambda lib, a: FUNCTIONS[lib][name].apply(a), x

    def hook(self):
        x = self.pick()
        if x[0]._is_view():  # PyTorch's lose their hooks by writes in no_grad
            return "nothing", lambda lib: None
        if self.rng.integers(2):
            return "retain_grad", lambda lib, a: void(a.retain_grad()), x
        return (
            "hook",
            lambda lib, a: void(a.register_hook(lambda g: None if g is None else g * 1.5)),
            x,
        )

    def gradient(self):
        """A gradient that is part of the graph."""
        x = self.pick()
        i = int(self.rng.integers(len(self.leaves)))

        def step(lib, a, to):
            (g,) = lib.autograd.grad((a * a).sum(), to, create_graph=True, allow_unused=True)
            return None if g is None else g.tanh()

        return f"gradient {i}", step, x, self.leaves[i]

    def without_grad(self):
        """A write, or a result that is no view, in no_grad."""
        name, step, *operands = self.choose(self.write, self.assign, self.combined)()

        def quiet(lib, *tensors):
            with lib.no_grad():
                return step(lib, *tensors)

        return f"no_grad: {name}", quiet, *operands

    def apart(self, pair):
        """A copy, so that nothing is written while it is read: PyTorch refuses that."""
        return tuple(t.clone() for t in pair)

    # The end

    def check_gradients(self):
        good = []
        for n, pair in enumerate(self.pool):
            if pair[0].requires_grad:
                found = self.both(self.gradients, [pair])
                self.same(found, f"output {n}")
                if not isinstance(found[0], str):
                    good.append(pair)
        if good:
            self.same(self.both(self.second, good), "second order")
            self.same(self.both(self.accumulated, good), "accumulated")

    def both(self, fn, pairs):
        """fn in each library."""
        return [
            attempt(fn, i, lib, [pair[i] for pair in pairs])
            for i, lib in enumerate((gpugrad, torch))
        ]

    def gradients(self, i, lib, outputs, create_graph=False):
        return lib.autograd.grad(
            [t.sum() for t in outputs],
            [pair[i] for pair in self.leaves],
            retain_graph=True,
            allow_unused=True,
            create_graph=create_graph,
        )

    def second(self, i, lib, outputs):
        found = self.gradients(i, lib, [t * t for t in outputs], create_graph=True)
        squares = [g * g for g in found if g is not None and g.requires_grad]
        return self.gradients(i, lib, squares) if squares else ()

    def accumulated(self, i, lib, outputs):
        """All .grad after two runs, of leaves and of what retains its gradient."""
        for pair in self.pool:
            pair[i].grad = None
        for _ in range(2):
            lib.autograd.backward([t.sum() for t in outputs], retain_graph=True)
        return [pair[i].grad for pair in self.pool]

    def same(self, found, what):
        ours, theirs = found
        if isinstance(ours, str) or isinstance(theirs, str):
            agree = ours == theirs or (isinstance(ours, str) and REFUSED in theirs)
            assert agree, (ours, theirs, what, self.log)
            return
        for a, b in zip(ours, theirs, strict=True):
            a, b = (np.zeros(()) if g is None else g.numpy(force=True) for g in (a, b))
            np.testing.assert_allclose(a, b, 1e-7, 1e-7, err_msg=f"{what}: {self.log}")


def void(x):
    """In-place operations return a tensor that the pool has already."""


def first(x):
    return x[0] if isinstance(x, tuple) else x


def functions_of(lib):
    class Mul(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            return g * b, g * a

    class Both(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            y = (a * b).tanh()
            ctx.save_for_backward(a, b, y)
            return y, a + b

        @staticmethod
        def backward(ctx, g, h):
            a, b, y = ctx.saved_tensors
            g = g * (1 - y * y)
            return g * b + h, g * a + h

    class Double(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.mark_dirty(a)
            return a.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    class Same(lib.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a

        @staticmethod
        def backward(ctx, g):
            return g * 3

    return {c.__name__: c for c in (Mul, Both, Double, Same)}


FUNCTIONS = {lib: functions_of(lib) for lib in (gpugrad, torch)}


@pytest.mark.parametrize("block", range(10))
def test_random_programs(block):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(25 * block, 25 * block + 25):
            random = Random(seed)
            random.run(14)
            random.check_gradients()
