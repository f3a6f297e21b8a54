"""What operations cost that compute next to nothing: single ones, a chain, the step of an MLP."""
from __future__ import annotations

from typing import Any

from cpu_suite.networks import mlp
from cpu_suite.rows import OPS, Case, Library, row, training

# What a user writes, and the call of NumPy that it comes to.
STATEMENTS = {"add": ("a + b", "add(a, b)"), "mul": ("a * b", "multiply(a, b)"),
              "relu": ("torch.relu(a)", "maximum(a, zero)"), "matmul": ("a @ b", "dot(a, b)"),
              "sum": ("a.sum()", "reduce(a, None)")}


def one_op(lib: Library, name: str, grad: bool) -> Case:
    np, (statement, bare) = lib.np, STATEMENTS[name]
    grad = grad and lib.column != "bare"
    a, b = lib.normal(8, 8, grad=grad), lib.normal(8, 8, grad=grad)
    names = {"torch": lib.torch, "a": a, "b": b}
    if lib.column == "bare":
        statement = bare
        names = {"a": a.numpy(), "b": b.numpy(), "zero": np.asarray(0, np.float32),
                 "reduce": np.add.reduce,
                 **{f: getattr(np, f) for f in ("add", "multiply", "maximum", "dot")}}
    return Case(statement, lambda: [eval(statement, dict(names))], names)


def chain(lib: Library, backward: bool) -> Case:
    """Nine operations and a sum."""
    a, b = lib.normal(8, 8, grad=True), lib.normal(8, 8, grad=True)

    @lib.record
    def run() -> Any:
        a.grad = b.grad = None
        x = (a * b + a).relu()
        x = (x * b + a).relu()
        x = (x * b + a).relu()
        x = x.sum()
        if backward:
            x.backward()
        return x

    return Case(run, lambda: [*[run() for _ in range(5)],
                              *([a.grad, b.grad] if backward else [])])


for op in STATEMENTS:
    for grad in False, True:
        row("overhead", f"{op}, grad" if grad else op, columns=OPS)(
            lambda lib, size, op=op, grad=grad: one_op(lib, op, grad))

row("overhead", "10 ops, forward", columns=("torch", "gpugrad"))(
    lambda lib, size: chain(lib, False))
row("overhead", "10 ops, with backward", columns=("torch", "gpugrad", "recorded"),
    aims={"gpugrad": 2.0, "recorded": 3.0})(lambda lib, size: chain(lib, True))


@row("overhead", "MLP 64-64-10, batch 16, SGD step", columns=("torch", "gpugrad", "recorded"),
     aims={"gpugrad": 1.5, "recorded": 3.0})
def mlp_step(lib: Library, size: int) -> Case:
    net = mlp(lib.torch)
    return training(lib, net, lib.torch.optim.SGD(net.parameters(), lr=0.01),
                    [lib.normal(16, 64), lib.integers(10, 16)])
