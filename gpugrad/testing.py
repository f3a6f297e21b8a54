"""torch.testing: comparing what should be nearly equal, and tensors to try things on."""
from __future__ import annotations

import cmath
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.creation import as_tensor, empty
from gpugrad.functions.complex import view_as_real
from gpugrad.functions.types import promote_types
from gpugrad.sampling import randint

# (rtol, atol) by dtype; everything else must be equal.
_TOLERANCES = {
    dtypes.float16: (1e-3, 1e-5), dtypes.bfloat16: (1.6e-2, 1e-5), dtypes.float32: (1.3e-6, 1e-5),
    dtypes.float64: (1e-7, 1e-7), dtypes.complex64: (1.3e-6, 1e-5),
    dtypes.complex128: (1e-7, 1e-7)}
_NUMBERS = (int, float, complex, np.number)


class _Mismatch(Exception):
    """What is wrong, of which type the error is to be, and at which item of containers."""

    def __init__(self, kind: type[Exception], text: str, place: tuple[Any, ...]) -> None:
        super().__init__(text)
        self.kind, self.text, self.place = kind, text, place


class _Settings:
    """The arguments of assert_close that say what counts as equal."""

    def __init__(self, rtol: float | None, atol: float | None, equal_nan: bool,
                 **checks: bool) -> None:
        self.rtol, self.atol, self.equal_nan = rtol, atol, equal_nan
        self.checks = checks

    def tolerances(self, *found: Any) -> tuple[float, float]:
        """(rtol, atol): as given, else the widest of the dtypes."""
        if (self.rtol is None) != (self.atol is None):
            missing = "rtol" if self.rtol is None else "atol"
            raise ValueError("Both 'rtol' and 'atol' must be either specified or omitted, but got "
                             f"no {missing}.")
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        known = [_TOLERANCES.get(dtype, (0.0, 0.0)) for dtype in found]
        return max([r for r, _ in known]), max([a for _, a in known])


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True,
                 rtol: float | None = None, atol: float | None = None, equal_nan: bool = False,
                 check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
                 check_stride: bool = False,
                 msg: str | Callable[[str], str] | None = None) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Takes tensors, NumPy arrays, numbers, None, and sequences and mappings of these in each other.
    rtol, atol: by default those of the dtype, 0 for integers; give both or none. msg: the error's
    text, or a function of the text that would be.
    """
    settings = _Settings(rtol, atol, equal_nan, allow_subclasses=allow_subclasses,
                         device=check_device, dtype=check_dtype, layout=check_layout,
                         stride=check_stride)
    try:
        for compare in list(_pairs(actual, expected, settings, ())):
            compare()
    except _Mismatch as wrong:
        text = wrong.text
        if wrong.place:
            text += "\n\nThe failure occurred for item " + \
                "".join([f"[{item!r}]" for item in wrong.place])
        if msg is not None:
            text = msg(text) if callable(msg) else msg
        raise wrong.kind(text) from None


def _pairs(actual: Any, expected: Any, settings: _Settings,
           place: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    """The comparisons to make, for each pair of items of the containers."""
    def are(kind: Any) -> bool:
        return isinstance(actual, kind) and isinstance(expected, kind)

    if are(Sequence) and not isinstance(actual, str) and not isinstance(expected, str):
        if len(actual) != len(expected):
            raise _Mismatch(AssertionError, "The length of the sequences mismatch: "
                            f"{len(actual)} != {len(expected)}", place)
        for i in range(len(actual)):
            yield from _pairs(actual[i], expected[i], settings, (*place, i))
    elif are(Mapping):
        yield from _pairs_of_mappings(actual, expected, settings, place)
    elif actual is None or expected is None:
        yield lambda: _compare_none(actual, expected, place)
    elif are((bool, np.bool_)):
        yield lambda: _compare_bools(actual, expected, place)
    elif are(_NUMBERS):
        yield lambda: _compare_numbers(actual, expected, settings, place)
    else:
        a, b = _tensors(actual, expected, settings, place)
        yield lambda: _compare_tensors(a, b, settings, place)


def _pairs_of_mappings(actual: Any, expected: Any, settings: _Settings,
                       place: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    missing, more = set(expected) - set(actual), set(actual) - set(expected)
    if missing or more:
        raise _Mismatch(AssertionError, "The keys of the mappings do not match:\n"
                        f"Missing keys in the actual mapping: {_in_order(missing)}\n"
                        f"Additional keys in the actual mapping: {_in_order(more)}", place)
    for key in _in_order(actual):
        yield from _pairs(actual[key], expected[key], settings, (*place, key))


def _in_order(keys: Any) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return list(keys)


def _compare_none(actual: Any, expected: Any, place: tuple[Any, ...]) -> None:
    if actual is not expected:
        raise _Mismatch(AssertionError, f"None mismatch: {actual} is not {expected}", place)


def _compare_bools(actual: Any, expected: Any, place: tuple[Any, ...]) -> None:
    if bool(actual) is not bool(expected):
        raise _Mismatch(AssertionError, f"Booleans mismatch: {actual} is not {expected}", place)


def _compare_numbers(actual: Any, expected: Any, settings: _Settings,
                     place: tuple[Any, ...]) -> None:
    kinds = [type(v) for v in (actual, expected)]
    if settings.checks["dtype"] and kinds[0] is not kinds[1]:
        raise _Mismatch(AssertionError, f"The (d)types do not match: {kinds[0]} != {kinds[1]}.",
                        place)
    a, b = (v.item() if isinstance(v, np.number) else v for v in (actual, expected))
    rtol, atol = settings.tolerances(*[dtypes.int64 if isinstance(v, int) else
                                       dtypes.complex128 if isinstance(v, complex) else
                                       dtypes.float64 for v in (a, b)])
    if settings.equal_nan and cmath.isnan(a) and cmath.isnan(b):
        return
    distance = abs(a - b)
    if a == b or (cmath.isfinite(distance) and distance <= atol + rtol * abs(b)):
        return
    raise _Mismatch(AssertionError, _text_of_scalars(a, b, rtol, atol), place)


def _text_of_scalars(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    absolute = abs(actual - expected)
    relative = float("inf") if expected == 0 else absolute / abs(expected)
    equality = rtol == 0 and atol == 0
    up = [""] * 2 if equality else [f" (up to {v} allowed)" for v in (atol, rtol)]
    return (f"Scalars are not {'equal' if equality else 'close'}!\n\n"
            f"Expected {expected} but got {actual}.\n"
            f"Absolute difference: {absolute}{up[0]}\nRelative difference: {relative}{up[1]}")


def _tensors(actual: Any, expected: Any, settings: _Settings,
             place: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Both as tensors, if they are of related types; else raises."""
    kinds = type(actual), type(expected)
    related = isinstance(actual, kinds[1]) or isinstance(expected, kinds[0])
    if related and (settings.checks["allow_subclasses"] or kinds[0] is kinds[1]):
        try:
            return _as_tensor(actual), _as_tensor(expected)
        except (TypeError, ValueError, RuntimeError):
            pass
    raise _Mismatch(TypeError, "No comparison pair was able to handle inputs of type "
                    f"{kinds[0]} and {kinds[1]}.", place)


def _as_tensor(v: Any) -> Tensor:
    return v.detach() if isinstance(v, Tensor) else as_tensor(v)


def _compare_tensors(a: Tensor, b: Tensor, settings: _Settings, place: tuple[Any, ...]) -> None:
    _compare_attributes(a, b, settings, place)
    rtol, atol = settings.tolerances(a.dtype, b.dtype)
    if a.device != b.device:
        a, b = a.cpu(), b.cpu()
    if a.dtype != b.dtype:
        dtype = promote_types(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(dtype)
    if rtol == atol == 0 and not settings.equal_nan:         # exact for large integers, too
        matches = a == b
    else:
        matches = a.isclose(b, rtol=rtol, atol=atol, equal_nan=settings.equal_nan)
    if matches.all():
        return
    if a.ndim == 0:
        text = _text_of_scalars(a.item(), b.item(), rtol, atol)
    else:
        text = _text_of_tensors(a, b, matches, rtol, atol)
    raise _Mismatch(AssertionError, text, place)


def _compare_attributes(a: Tensor, b: Tensor, settings: _Settings, place: tuple[Any, ...]) -> None:
    checks = settings.checks
    found: list[tuple[str, Any, Any]] = [("shape", a.shape, b.shape)]
    if checks["layout"]:
        found.append(("layout", a.layout, b.layout))
    if checks["stride"]:
        found.append(("stride()", a.stride(), b.stride()))
    if checks["device"]:
        found.append(("device", a.device, b.device))
    if checks["dtype"]:
        found.append(("dtype", a.dtype, b.dtype))
    for name, one, other in found:
        if one != other:
            raise _Mismatch(AssertionError, f"The values for attribute '{name}' do not match: "
                            f"{one} != {other}.", place)


def _text_of_tensors(a: Tensor, b: Tensor, matches: Tensor, rtol: float, atol: float) -> str:
    n, right = matches.numel(), int(matches.sum().item())
    x, y, same = a.flatten(), b.flatten(), matches.flatten()
    if not (x.is_floating_point() or x.is_complex()):
        x, y = x.to(dtypes.int64), y.to(dtypes.int64)
    absolute = (x - y).abs().masked_fill(same, 0)
    relative = (absolute / y.abs()).masked_fill(same, 0)
    equality = rtol == 0 and atol == 0

    def greatest(what: str, differences: Tensor, allowed: float) -> str:
        value, at = differences.max(0)
        index = tuple([int(i) for i in np.unravel_index(int(at.item()), a.shape)])
        up = "" if equality else f" (up to {allowed} allowed)"
        return f"Greatest {what} difference: {value.item()} at index {index}{up}"

    return (f"Tensor-likes are not {'equal' if equality else 'close'}!\n\n"
            f"Mismatched elements: {n - right} / {n} ({(n - right) / n:.1%})\n"
            f"{greatest('absolute', absolute, atol)}\n{greatest('relative', relative, rtol)}")


def assert_allclose(actual: Any, expected: Any, rtol: float | None = None,
                    atol: float | None = None, equal_nan: bool = True, msg: str = "") -> None:
    """The older form of assert_close, which takes what ``torch.tensor`` does and ignores dtypes."""
    actual, expected = (v if isinstance(v, Tensor) else as_tensor(v) for v in (actual, expected))
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=True,
                 check_dtype=False, check_stride=False, msg=msg or None)


def make_tensor(*shape: Any, dtype: Any, device: Any, low: float | None = None,
                high: float | None = None, requires_grad: bool = False,
                noncontiguous: bool = False, exclude_zero: bool = False,
                memory_format: Any = None) -> Tensor:
    """A tensor of random numbers in [low, high): by default -9 to 9, 0 to 9 for uint8, any bool.

    noncontiguous: with gaps in its memory; exclude_zero: the smallest positive value, or 1, in
    place of 0.
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if noncontiguous and memory_format is not None:
        raise ValueError("The parameters `noncontiguous` and `memory_format` are mutually "
                         f"exclusive, but got {noncontiguous=} and {memory_format=}")
    if requires_grad and not (dtype.is_floating_point or dtype.is_complex):
        raise ValueError("`requires_grad=True` is not supported for boolean and integral dtypes, "
                         f"but got {dtype=}")
    if dtype.is_complex or dtype.is_floating_point:
        limits = -9.0, 9.0
    elif dtype is dtypes.bool:
        limits = 0, 2
    else:
        limits = (0 if dtype is dtypes.uint8 else -9), 10
    low, high = (limits[0] if low is None else low), (limits[1] if high is None else high)
    if low >= high:
        raise ValueError(f"`low` must be less than `high`, but got low={low} and high={high}")
    gaps = noncontiguous and prod(sizes) > 1
    if gaps:                                    # drawn, too: a reader of the gaps shall notice
        sizes = (*sizes[:-1], 2 * sizes[-1])
    if dtype.is_complex:
        t: Any = empty(sizes, dtype=dtype, device=device)
        view_as_real(t).uniform_(low, high)
    elif dtype.is_floating_point:
        t = empty(sizes, dtype=dtype, device=device).uniform_(low, high)
    else:
        t = randint(int(low), int(high), sizes, device=device, dtype=dtype)
    if gaps:
        t = t[..., 1::2]
    elif memory_format is not None:
        t = t.clone(memory_format=memory_format)
    if exclude_zero:
        least = dtypes.finfo(dtype).tiny if dtype.is_floating_point or dtype.is_complex else 1
        t[t == 0] = least
    return t.requires_grad_() if requires_grad else t
