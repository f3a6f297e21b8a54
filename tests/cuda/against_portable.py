"""Runs an op's CUDA kernels and its portable text on the CPU in float64, and compares."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpugrad import backend, dtypes
from gpugrad.backend import cuda, kernels
from gpugrad.ops import load

SPECS = load()

DTYPES = ("float32", "float64", "float16", "bfloat16")
UNTIL = {"float32": 3e-5, "float64": 1e-11, "float16": 4e-3, "bfloat16": 3e-2}
launched: list[str] = []


@pytest.fixture(autouse=True)
def note_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = kernels.Kernels.launch

    def noted(self: Any, file: str, name: str, *rest: Any) -> None:
        launched.append(name)
        launch(self, file, name, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", noted)


@pytest.fixture(params=["forward", "reversed", 7])
def order(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every order in which the simulated device can run threads and blocks."""
    if not cuda.simulated():
        yield pytest.skip("a GPU chooses its order") if request.param != "forward" else "forward"
        return
    from gpugrad.cudasim.kernel import settings
    with settings.using(order=request.param):
        yield request.param


def array(a: Any, dtype: str) -> Any:
    """A float array of the host in a dtype, others as they are; rounded as the device has it."""
    found = getattr(dtypes, dtype).np
    return a.astype(found) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def run(name: str, args: Any, dtype: str, **kw: Any) -> tuple[Any, ...]:
    """The results on the GPU, on the host; an error unless kernels made them."""
    be = backend.get("cuda")
    launched.clear()
    out = getattr(be.raw, name)(*[a if a is None else be.from_host(array(a, dtype)) for a in args],
                                **kw)
    assert launched, f"{name} has no kernel for {dtype} {[getattr(a, 'shape', a) for a in args]}"
    return tuple([be.to_host(a) for a in (out if isinstance(out, tuple | list) else (out,))])


def agree(name: str, *args: Any, dtype: str, until: float | None = None, **kw: Any) -> Any:
    """Checks that kernels give what the portable text gives of the same rounded arguments."""
    got = run(name, args, dtype, **kw)
    exact = [array(a, dtype).astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f"
             else a for a in args]
    with np.errstate(all="ignore"):
        want = SPECS[name].forward(backend.cpu, *exact, **kw)
    want = want if isinstance(want, tuple | list) else (want,)
    assert len(got) == len(want)
    tolerance = UNTIL[dtype] if until is None else until
    for k, (a, b) in enumerate(zip(got, map(np.asarray, want))):
        assert a.shape == b.shape, f"{name}, result {k}"
        if b.dtype.kind != "f":
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=f"{name}, result {k}")
            continue
        own = array(np.zeros(0), dtype).dtype
        assert a.dtype in (own, dtypes.wide(own))
        size = max(1.0, np.abs(b[np.isfinite(b)]).max(initial=0))
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=tolerance, atol=tolerance * size,
                                   err_msg=f"{name}, result {k}")
    return got
