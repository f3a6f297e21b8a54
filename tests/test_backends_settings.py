"""torch.backends and the precision of products: what scripts ask and set at their top."""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import gpugrad as torch
import gpugrad.backends.cudnn as cudnn
from gpugrad.backend import precision


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    products, cudnns = dict(vars(precision.matmul)), dict(cudnn._values)
    yield
    vars(precision.matmul).clear()
    vars(precision.matmul).update(products)
    cudnn._values.update(cudnns)


def seen() -> tuple[Any, ...]:
    m = torch.backends.cuda.matmul
    return torch.get_float32_matmul_precision(), m.allow_tf32, m.fp32_precision


def test_float32_products() -> None:
    m = torch.backends.cuda.matmul
    assert seen() == ("highest", False, "none")
    m.allow_tf32 = True
    assert seen() == ("high", True, "tf32")
    m.allow_tf32 = False
    assert seen() == ("highest", False, "ieee")
    for level, on in (("medium", True), ("high", True), ("highest", False)):
        torch.set_float32_matmul_precision(level)
        assert seen() == (level, on, "tf32" if on else "ieee")
    m.fp32_precision = "tf32"
    assert seen() == ("high", True, "tf32")
    m.fp32_precision = "none"
    assert seen() == ("highest", False, "none")


def test_wrong_settings_of_products() -> None:
    m = torch.backends.cuda.matmul
    with pytest.warns(UserWarning, match="x is not one of 'highest', 'high', or 'medium'"):
        torch.set_float32_matmul_precision("x")
    with pytest.raises(RuntimeError, match="expects a str, but got int"):
        torch.set_float32_matmul_precision(3)                       # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="set_allow_tf32_cublas expects a bool, but got str"):
        m.allow_tf32 = "x"
    with pytest.raises(RuntimeError, match="Invalid precision"):
        m.fp32_precision = "half"
    with pytest.raises(AttributeError, match="Unknown attribute foo"):
        m.foo = 1
    with pytest.raises(AttributeError, match="Unknown attribute foo"):
        m.foo                                                       # noqa: B018
    with pytest.raises(NotImplementedError, match="always summed in float32"):
        m.allow_fp16_accumulation = True
    m.allow_fp16_accumulation = False
    assert m.allow_fp16_accumulation is False and seen() == ("highest", False, "none")


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_reductions_of_16_bits(name: str) -> None:
    m, full = torch.backends.cuda.matmul, f"allow_{name}_reduced_precision_reduction"
    assert getattr(m, full) is True
    for value, result in ((False, False), (True, True), ((False, True), False), ([True], True)):
        setattr(m, full, value)
        assert getattr(m, full) is result
    for wrong in ("x", 3, (), (True, True, True), (1,)):
        with pytest.raises(TypeError, match=full):
            setattr(m, full, wrong)


def test_cudnn() -> None:
    assert torch.backends.cudnn is cudnn
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == \
        (True, False, False, True)
    assert cudnn.is_available() is (cudnn.version() is not None)
    assert not cudnn.is_acceptable(torch.ones(1))
    assert cudnn.conv.fp32_precision == "tf32"
    cudnn.conv.fp32_precision = "ieee"
    assert not cudnn.allow_tf32 and not precision.convolution.allow_tf32
    cudnn.allow_tf32 = True
    assert cudnn.conv.fp32_precision == "tf32"
    with pytest.raises(RuntimeError, match="Unknown precision: x"):
        cudnn.conv.fp32_precision = "x"
    cudnn.benchmark = True
    torch.backends.cudnn.deterministic = True
    assert cudnn.benchmark and cudnn.deterministic
    with pytest.raises(RuntimeError, match="set_enabled_cudnn expects a bool, but got int"):
        cudnn.enabled = 1
    with cudnn.flags(enabled=False, allow_tf32=False):
        assert (cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32) == (False, False, False)
        assert cudnn.benchmark_limit == 10
    assert (cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32) == (True, True, True)
    assert cudnn.benchmark_limit is None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cudnn.nothing                                               # noqa: B018


def test_what_there_is_not() -> None:
    for name in ("mkl", "mkldnn", "mps", "openmp"):
        assert getattr(torch.backends, name).is_available() is False
    assert torch.backends.mps.is_built() is False and "mps" in repr(torch.backends.mps)
    assert torch.backends.cuda.is_built() is True


@pytest.mark.parametrize("name", ["flash", "mem_efficient", "math", "cudnn"])
def test_switches_of_attention(name: str) -> None:
    b = torch.backends.cuda
    enable, enabled = getattr(b, f"enable_{name}_sdp"), getattr(b, f"{name}_sdp_enabled")
    assert enabled() is True
    enable(False)
    assert enabled() is False
    enable(True)


def test_backends_are_imported_when_they_are_first_used() -> None:
    code = ("import sys, gpugrad; assert 'gpugrad.backends' not in sys.modules; "
            "gpugrad.backends.cudnn.benchmark = True; "
            "import gpugrad.backends.cudnn as c; assert c.benchmark")
    subprocess.run([sys.executable, "-c", code], check=True)
