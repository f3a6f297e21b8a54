"""Files of models, as they stand for PyTorch, beside PyTorch: construction, training, files."""
from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from model_files import NAMES, program

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For tensors as small as these, starting PyTorch's threads is most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(file: str, name: str, seed: int = 0) -> tuple[Any, Any]:
    """The program with gpugrad and with torch, from the same seed."""
    found = []
    for lib in (gpugrad, torch):
        lib.manual_seed(seed)
        found.append(program(lib.__name__, file, name)("cpu"))
    return found[0], found[1]


def both(ours: Any, theirs: Any, what: str, seed: int = 1) -> tuple[Any, Any]:
    """What a method of both gives, from the same seed."""
    found = []
    for lib, training in ((gpugrad, ours), (torch, theirs)):
        lib.manual_seed(seed)
        found.append(getattr(training, what)())
    return found[0], found[1]


def leaves(v: Any, at: str = "") -> dict[str, Any]:
    """The tensors and numbers in nested containers, by the way to them."""
    if isinstance(v, dict):
        return {k: t for key, u in v.items() for k, t in leaves(u, f"{at}.{key}").items()}
    if isinstance(v, tuple | list):
        return {k: t for i, u in enumerate(v) for k, t in leaves(u, f"{at}.{i}").items()}
    return {at: v}


def close(a: Any, b: Any, what: str, rtol: float = 1e-4, noise: Any = None) -> None:
    """Equal but for rounding, relative to the largest element.

    noise: after steps of Adam, which has 0.05 between elements here and there, and where it says.
    """
    a, b = leaves(a), leaves(b)
    assert list(a) == list(b), what
    for k, t in b.items():
        u, name = a[k], f"{what} {k}"
        if not isinstance(t, torch.Tensor):
            assert type(u) is type(t) or callable(t), name
            assert callable(t) or u == pytest.approx(t, rel=rtol), name
            continue
        assert str(u.dtype) == str(t.dtype) and tuple(u.shape) == tuple(t.shape), name
        u, t = u.detach().cpu().numpy(), t.detach().numpy()
        size = max(1e-3, float(np.abs(t[np.isfinite(t)]).max(initial=0)))
        tolerance = rtol * size
        if noise is not None and k in noise:
            tolerance = np.where(noise[k], 0.05, tolerance)
        apart = np.where(u == t, 0, np.abs(u.astype("f8") - t))
        apart = np.where(np.isnan(u) & np.isnan(t), 0, apart)
        least = 1 if noise is None else 0.9
        assert np.mean(apart <= tolerance) >= least, f"{name}: {apart.max()} of {size}"
        assert apart.max(initial=0) <= np.max(tolerance, initial=0.05), name


def noise(net: Any) -> dict[str, Any]:
    """Where gradients are nothing but rounding: Adam takes whole steps there, either way."""
    grads = {k: p.grad.numpy() for k, p in net.named_parameters() if p.grad is not None}
    largest = max(float(np.abs(g).max(initial=0)) for g in grads.values())
    return {f".{k}": np.abs(g) < 1e-5 * largest for k, g in grads.items()}


def pickled(ours: Any, theirs: Any) -> list[Any]:
    """A copy by pickle; none where PyTorch refuses it, as for parametrized modules."""
    try:
        pickle.dumps(theirs)
    except Exception as e:
        with pytest.raises(type(e)):
            pickle.dumps(ours)
        return []
    return [pickle.loads(pickle.dumps(ours))]


@pytest.mark.parametrize(("file", "name"), NAMES, ids=[name for _, name in NAMES])
def test_model(file: str, name: str, tmp_path: Path) -> None:
    ours, theirs = made(file, name)

    # construction
    mine, wanted = ours.net.state_dict(), theirs.net.state_dict()
    assert list(mine) == list(wanted)
    close(dict(mine), dict(wanted), "initial", 1e-6)
    assert repr(ours.net) == repr(theirs.net)
    assert [(k, p.requires_grad) for k, p in ours.net.named_parameters()] == [
        (k, p.requires_grad) for k, p in theirs.net.named_parameters()]
    assert [k for k, _ in ours.net.named_modules()] == [k for k, _ in theirs.net.named_modules()]

    # outputs and gradients
    for mode in (False, True):
        ours.net.train(mode), theirs.net.train(mode)
        close(*both(ours, theirs, "outputs"), f"outputs, training={mode}")
    a, b = both(ours, theirs, "loss")
    close(a, b, "loss")
    a.backward(), b.backward()
    grads = [{k: p.grad for k, p in one.net.named_parameters() if p.grad is not None}
             for one in (ours, theirs)]
    close(*grads, "gradient", 1e-3)
    quiet = noise(theirs.net)

    # steps, and a step of each from the other's file
    for _ in range(2):
        a, b = both(ours, theirs, "step")
        assert a == pytest.approx(b, rel=1e-3)
    gpugrad.save(ours.state_dict(), tmp_path / "ours.pt")
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    other_ours, other_theirs = made(file, name, seed=0)
    other_ours.load_state_dict(gpugrad.load(tmp_path / "theirs.pt"))
    other_theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))
    ends = [both(ours, theirs, "step"), both(other_ours, other_theirs, "step")]
    assert np.ravel(ends) == pytest.approx(np.full(4, ends[0][1]), rel=1e-3)
    for one in (ours, other_ours, other_theirs):
        close(dict(one.net.state_dict()), dict(theirs.net.state_dict()), "after three steps", 1e-3,
              quiet)

    # copies
    ours.net.eval()
    with gpugrad.no_grad():
        gpugrad.manual_seed(2)
        wanted = ours.outputs()
        for net in (copy.deepcopy(ours.net), *pickled(ours.net, theirs.net)):
            assert repr(net) == repr(ours.net) and list(net.state_dict()) == list(mine)
            ours.net = net
            gpugrad.manual_seed(2)
            for k, t in leaves(ours.outputs()).items():
                np.testing.assert_array_equal(t.numpy(), leaves(wanted)[k].numpy())
