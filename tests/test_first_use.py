"""What is imported at its first use: ops, methods of Tensor, names of torch."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import gpugrad as torch
from gpugrad import methods, ops
from gpugrad.autograd.rules import Level, Waiting
from gpugrad.autograd.rules import tensors as T

ROOT = Path(__file__).resolve().parents[1]


def fresh(code: str) -> str:
    """What a new Python prints after ``import gpugrad as torch`` and ``code``."""
    run = subprocess.run([sys.executable, "-c", "import gpugrad as torch\n" + code],
                         capture_output=True, text=True, timeout=100,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def home(name: str) -> str | None:
    """The file in gpugrad/ops that declares what ``T.<name>`` is."""
    value = vars(T)[name]
    modules = [getattr(f, "__module__", None) or "" for f in (value, getattr(value, "func", None))]
    return next((m.rpartition(".")[2] for m in modules if m.startswith("gpugrad.ops.")), None)


def test_the_table_of_ops_is_what_the_files_declare():
    ops.load()
    declared: dict[str, set[str]] = {}
    for name in vars(T):
        file = home(name)
        if file is None:                         # the in-place form of another
            file = home(name[:-1])
        if not name.endswith("_") or name[:-1] not in vars(T):
            declared.setdefault(str(file), set()).add(name)
    written = {theme: set(names.split()) for theme, names in ops.THEMES.items()}
    assert written == declared


def test_every_file_of_ops_is_in_the_table_or_declares_nothing():
    ops.load()
    files = {path.stem for path in (ROOT / "gpugrad" / "ops").glob("*.py")} - {"__init__"}
    for file in sorted(files - set(ops.THEMES)):
        text = (ROOT / "gpugrad" / "ops" / f"{file}.py").read_text()
        assert "\n@op(" not in text and "\n@composite" not in text, f"{file} is not in THEMES"


def test_no_name_stands_twice():
    counts = Counter(name for names in ops.THEMES.values() for name in names.split())
    assert max(counts.values()) == 1, counts.most_common(3)
    with pytest.raises(ValueError, match="'add' stands twice"):
        methods.places({"functions.pointwise": "add", "functions.shape": "add"})


def test_once_read_an_op_is_a_plain_attribute():
    ops.load()
    for name in [name for name, value in vars(Level).items() if isinstance(value, Waiting)]:
        assert hasattr(T, name) or name.endswith("_")
    waiting = {name for name, value in vars(Level).items() if isinstance(value, Waiting)}
    assert all(name.endswith("_") and name not in vars(T) for name in waiting)


def test_an_op_that_its_file_does_not_declare():
    Level.wait_for("gpugrad.ops.softmax", "softest")
    try:
        with pytest.raises(AttributeError, match=r"gpugrad\.ops\.softmax declares no op softest"):
            _ = T.softest
    finally:
        Level.is_there("softest")


@pytest.mark.parametrize("name", [*methods.FUNCTIONS, *methods.TORCH_ONLY])
def test_every_function_is_found(name):
    assert getattr(torch, name) is getattr(torch, name)


@pytest.mark.parametrize("name", [*methods.FUNCTIONS, *methods.METHODS, *methods.PROPERTIES])
def test_every_method_is_found(name):
    found = getattr(torch.Tensor, name)
    assert found is getattr(torch.Tensor, name)
    assert not isinstance(vars(torch.Tensor)[name], methods.Method)


def test_a_start_imports_no_operation():
    loaded = json.loads(fresh("import json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert not [m for m in loaded if m.startswith(("gpugrad.ops.", "gpugrad.functions."))]


def test_the_first_use_of_a_property_may_be_writing_it():
    assert fresh("x = torch.zeros(2, dtype=torch.complex64)\n"
                 "x.real = torch.ones(2)\n"
                 "print(x.tolist())") == "[(1+0j), (1+0j)]"


def test_the_first_use_of_an_op_may_be_in_backward():
    assert fresh("x = torch.ones(3, requires_grad=True)\n"
                 "x.sum().backward()\n"
                 "print(x.grad.tolist())") == "[1.0, 1.0, 1.0]"


def test_a_subclass_that_calls_the_method_it_overrides():
    assert fresh("class Loud(torch.Tensor):\n"
                 "    def sum(self, *args):\n"
                 "        return super().sum(*args) + 1\n"
                 "print(torch.ones(3).as_subclass(Loud).sum().item())") == "4.0"


def test_threads_that_use_everything_first_at_once():
    assert fresh("import sys\n"
                 "from threading import Barrier, Thread\n"
                 "sys.setswitchinterval(1e-5)\n"
                 "together, out = Barrier(8), []\n"
                 "def work():\n"
                 "    together.wait()\n"
                 "    x = torch.arange(6.).requires_grad_()\n"
                 "    (torch.softmax(x.view(2, 3).tanh().cumsum(0), 1) ** 2).sum().backward()\n"
                 "    out.append([round(v, 6) for v in x.grad.tolist()])\n"
                 "threads = [Thread(target=work) for _ in range(8)]\n"
                 "[t.start() for t in threads]\n"
                 "[t.join() for t in threads]\n"
                 "print(len(out), all(o == out[0] for o in out))") == "8 True"


def test_names_can_be_listed_and_imported_with_a_star():
    assert fresh("names = dir(torch)\n"
                 "assert {'add', 'nn', 'randn', 'FloatTensor', 'save'} <= set(names)\n"
                 "from gpugrad import *\n"
                 "print(add(ones(2), zeros(2)).tolist(), FloatTensor.__name__)"
                 ) == "[1.0, 1.0] FloatTensor"
