"""Random generators: PyTorch's CPU streams on the Mersenne Twister, and Philox for every device."""
from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from gpugrad import dtypes

DEFAULT_SEED = 67280421310721

# PyTorch takes one 32-bit word a number for ranges below this and two from there on.
_WIDE_RANGE = 1 << 28
_U24 = np.float32(2.0**-24)
_U53 = 2.0**-53
_LOW53 = (1 << 53) - 1
_MASK53 = np.uint64(_LOW53)


def unsigned_seed(seed: int) -> int:
    """A seed as an unsigned 64-bit number; negative ones wrap around, others are a ValueError."""
    if not -(1 << 63) <= seed < 1 << 64:
        raise ValueError(f"Overflow when unpacking long long: a seed must be in "
                         f"[-2**63, 2**64 - 1], got {seed}")
    return seed % (1 << 64)


def fresh_seed() -> int:
    """A seed from the operating system's entropy."""
    return int.from_bytes(os.urandom(8), "little")


def largest_integer(dtype: np.dtype[Any]) -> int:
    """The largest n such that the dtype holds every integer from 0 to n."""
    if dtype.kind in dtypes.FLOATING:
        return int(2 / dtypes.finfo(dtypes.OF[dtype]).eps)
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _held_bounds(low: int, high: int, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Bounds moved inwards to integers that a floating dtype holds, so that no draw rounds out."""
    if dtype.kind not in dtypes.FLOATING:
        return low, high
    exact = largest_integer(dtype)
    if abs(low) > exact and int(dtype.type(low + 1)) < low:
        low = int(dtype.type(low + 1)) + _spacing(low + 1, exact)
    if abs(high) > exact and int(dtype.type(high - 1)) >= high:
        high = int(dtype.type(high - 1)) - _spacing(high - 1, exact)
    return low, high


def _spacing(n: int, exact: int) -> int:
    """The distance of neighbouring numbers around n, in a dtype exact up to a power of two."""
    return 1 << (abs(n).bit_length() - exact.bit_length() + 1)


def _count(shape: Any) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)


class _Generator:
    """What both generators do alike, on top of their own words and distributions."""

    _seed: int

    def initial_seed(self) -> int:
        """The seed last set."""
        return self._seed

    def manual_seed(self, seed: int) -> None:
        raise NotImplementedError

    def get_state(self) -> Any:
        raise NotImplementedError

    def set_state(self, state: Any) -> None:
        raise NotImplementedError

    def randint(self, low: int, high: int, shape: Any, dtype: Any) -> Any:
        raise NotImplementedError

    def fresh(self) -> Any:
        """A new generator of this kind, for the same device, with the default seed."""
        raise NotImplementedError

    def seed(self) -> int:
        """Seed from the operating system's entropy; returns the seed."""
        self.manual_seed(fresh_seed())
        return self._seed

    def clone_state(self) -> Any:
        """A generator of its own that goes on from here."""
        other = self.fresh()
        other.set_state(self.get_state())
        return other

    def random(self, shape: Any, dtype: Any) -> Any:
        """Tensor.random_() without bounds: every value the dtype holds exactly, from 0 up."""
        return self.randint(0, largest_integer(np.dtype(dtype)) + 1, shape, dtype)


class CPUGenerator(_Generator):
    """PyTorch's CPU generator: the same seed yields the same numbers.

    The words are those of MT19937, seeded with the low 32 bits of the seed. A method takes a shape
    (or a length) and a NumPy dtype and returns a new array in C order.
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._seed = unsigned_seed(seed)
        self._bits: Any = None               # made at first use: numpy.random is slow to import
        self._wide: Any = None
        self._spare: float | None = None     # the second half of the last Box-Muller pair

    # Seed and state ------------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> None:
        """Start the stream of ``seed``, a 64-bit number, signed or not."""
        self._seed = unsigned_seed(seed)
        self._bits = self._wide = self._spare = None

    def _start(self) -> Any:
        from numpy.random import MT19937, RandomState

        self._bits = MT19937()
        self._bits.state = RandomState(self._seed & 0xFFFFFFFF).get_state(legacy=False)
        self._wide = RandomState(self._bits)     # another view of the same state
        return self._bits

    def get_state(self) -> np.ndarray[Any, Any]:
        """The state in the 5056 bytes of torch.get_rng_state()."""
        held = (self._bits or self._start()).state["state"]
        state = np.zeros((), _STATE)
        state["seed"], state["seeded"] = self._seed, 1
        state["key"] = held["key"]
        # PyTorch marks a freshly seeded twister with next = 0, a used-up one with next = 624.
        fresh = held["pos"] == 624 and int(held["key"][0]) == self._seed & 0xFFFFFFFF
        state["next"] = 0 if fresh else held["pos"]
        state["left"] = 1 if fresh else 625 - held["pos"]
        if self._spare is not None:
            state["spare"], state["has_spare"] = self._spare, 1
        return np.frombuffer(state.tobytes(), np.uint8).copy()

    def set_state(self, state: np.ndarray[Any, Any]) -> None:
        """Go on from a state that get_state() or PyTorch returned."""
        if state.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if state.size != _STATE.itemsize:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {_STATE.itemsize} but "
                               f"found the input RNG state size to be {state.size}")
        s = np.frombuffer(state.tobytes(), _STATE)[0]
        if not (s["seeded"] and 1 <= s["left"] <= 624 and s["next"] <= 624):
            raise RuntimeError("Invalid mt19937 state")
        self._start().state = {"bit_generator": "MT19937", "state": {
            "key": s["key"].astype(np.uint32), "pos": 624 if s["left"] == 1 else int(s["next"])}}
        self._seed = int(s["seed"])
        self._spare = float(s["spare"]) if s["has_spare"] else None

    def fresh(self) -> CPUGenerator:
        return CPUGenerator()

    # Words ---------------------------------------------------------------------------------------

    def words(self, n: int) -> Any:
        """The next n 32-bit words, each in a uint64."""
        return (self._bits or self._start()).random_raw(n)

    def words64(self, n: int) -> Any:
        """The next n pairs of words, each pair a uint64 with its first word on top."""
        if self._bits is None:
            self._start()
        return self._wide.randint(0, 1 << 64, n, np.uint64)

    def _unit32(self, n: int) -> Any:
        w = self.words(n).astype(np.int32)       # from int32 the conversion to float32 is fastest
        w &= 0xFFFFFF
        x = w.astype(np.float32)
        x *= _U24
        return x

    def _unit64(self, n: int) -> Any:
        w = self.words64(n)
        w &= _MASK53
        x = w.view(np.int64).astype(np.float64)
        x *= _U53
        return x

    # Distributions -------------------------------------------------------------------------------

    def uniform(self, shape: Any, dtype: Any, low: float = 0.0, high: float = 1.0) -> Any:
        """Uniform in [low, high)."""
        dtype = np.dtype(dtype)
        n = _count(shape)
        x = self._unit64(n) if dtype == np.float64 else self._unit32(n)
        if low != 0.0 or high != 1.0:
            number = x.dtype.type
            x = scale_shift(x, number(high) - number(low), number(low))
        if low != 0.0 or high != 1.0 or dtype != x.dtype:
            x = x.astype(dtype, copy=False)
            x[x == dtype.type(high)] = low       # what rounding has carried up to high
        return x.reshape(shape)

    def normal(self, shape: Any, dtype: Any, mean: float = 0.0, std: float = 1.0,
               blocked: bool = True) -> Any:
        """Normal; ``blocked=False`` draws in pairs, as PyTorch fills memory that isn't dense.

        Blocks of float32 are within a unit in the last place or two of PyTorch's, whose vector
        functions differ from NumPy's.
        """
        dtype = np.dtype(dtype)
        n = _count(shape)
        x = self._normal_blocks(n, dtype) if blocked and n >= 16 else self._normal_pairs(n)
        if std != 1.0 or mean != 0.0:
            x = scale_shift(x, x.dtype.type(std), x.dtype.type(mean))
        return x.astype(dtype, copy=False).reshape(shape)

    def _normal_pairs(self, n: int) -> Any:
        """Box-Muller in float64, two words64 a pair; an odd number leaves one for the next call."""
        out = np.empty(n)
        if n == 0:
            return out
        start = 0
        if self._spare is not None:
            out[0], self._spare, start = self._spare, None, 1
        pairs = (n - start + 1) // 2
        both: Any = []
        if pairs <= 8:
            # The C library's functions one by one: the last bit is then PyTorch's.
            words = iter(self.words(4 * pairs).tolist())
            for a, b, c, d in zip(words, words, words, words):
                both += _box_muller(a << 32 | b, c << 32 | d)
        else:
            u = self._unit64(2 * pairs).reshape(pairs, 2)
            r, t = np.sqrt(-2.0 * np.log1p(-u[:, 1])), 2.0 * np.pi * u[:, 0]
            both = np.stack([r * np.cos(t), r * np.sin(t)], 1).ravel()
        out[start:] = both[:n - start]
        if (n - start) % 2:
            self._spare = float(both[-1])
        return out

    def _normal_blocks(self, n: int, dtype: Any) -> Any:
        """Box-Muller on blocks of 16: the first 8 give the radius, the last 8 the angle."""
        unit = self._unit64 if dtype == np.float64 else self._unit32
        rest = n % 16
        if rest == 0:
            x = unit(n)
            _transform_blocks(x)
            return x
        # The last 16 are drawn anew; only the dtypes of 16 bits don't draw the rest before.
        drawn = unit((n - rest if dtype in dtypes.HALF else n) + 16)
        x = np.concatenate([drawn[:n - rest], drawn[-16:]])
        _transform_blocks(x)
        return np.concatenate([x[:n - 16], x[-16:]])

    def random(self, shape: Any, dtype: Any) -> Any:
        """Tensor.random_() without bounds: one word a number, two for dtypes of 64 bits."""
        dtype = np.dtype(dtype)
        x = self._below(largest_integer(dtype) + 1, dtype.itemsize == 8, _count(shape))
        return x.astype(dtype, copy=False).reshape(shape)

    def randint(self, low: int, high: int, shape: Any, dtype: Any) -> Any:
        """Integers in [low, high)."""
        low, high = _held_bounds(low, high, np.dtype(dtype))
        x = self._below(high - low, high - low >= _WIDE_RANGE, _count(shape))
        if low and high - low < 1 << 64:         # 64 random bits are any integer as they are
            x += low
        return x.astype(dtype, copy=False).reshape(shape)

    def _below(self, bound: int, wide: bool, n: int) -> Any:
        w = self.words64(n) if wide else self.words(n)
        if bound < 1 << 64:
            w %= np.uint64(bound)
        return w.view(np.int64)

    def randperm(self, n: int, dtype: Any) -> Any:
        """The numbers 0 to n - 1 in random order: Fisher and Yates's shuffle."""
        swap = np.arange(n)
        if n > 1:
            swap[:-1] += (self.words(n - 1) % np.arange(n, 1, -1, dtype=np.uint64)).view(np.int64)
        return _swapped(swap).astype(dtype, copy=False)

    def bernoulli(self, p: float, shape: Any) -> Any:
        """True with probability p."""
        w = self.words64(_count(shape))
        w &= _MASK53
        # u * 2**-53 < p, asked of the integers u
        return (w < np.uint64(math.ceil(p * (1 << 53)))).reshape(shape)

    def bernoulli_of(self, probs: Any) -> Any:
        """True with the probability that each element of ``probs`` holds."""
        u = self._unit64(probs.size) if probs.dtype == np.float64 else self._unit32(probs.size)
        return u.reshape(probs.shape) < probs

    def exponential(self, shape: Any, dtype: Any, lambd: float = 1.0) -> Any:
        """Exponential with rate ``lambd``."""
        x = self._unit64(_count(shape))
        x *= -1.0
        np.log1p(x, out=x)
        x *= -1.0 / lambd
        return x.astype(dtype, copy=False).reshape(shape)

    def multinomial(self, weights: Any, n: int, replacement: bool) -> Any:
        """Indices drawn in proportion to the weights of the last dim; int64, (..., n)."""
        if not replacement or n == 1:
            return _race(weights, self._clocks(weights), n)
        # 16 bits are summed in float32, the others in their own dtype, one after the other
        cumulative = np.cumsum(weights, -1, dtype=dtypes.wide(weights.dtype))
        cumulative /= cumulative[..., -1:].copy()
        cumulative[..., -1] = 1.0
        rows = cumulative.reshape(-1, weights.shape[-1])
        u = self._unit64(len(rows) * n).reshape(-1, n)
        picks = [np.searchsorted(row, x) for row, x in zip(rows, u)]
        return np.array(picks, np.int64).reshape(weights.shape[:-1] + (n,))


    def _clocks(self, weights: Any) -> Any:
        """Exponential numbers, one for each weight, drawn in the order of the weights in memory."""
        if weights.flags.f_contiguous:
            return self.exponential(weights.shape[::-1], weights.dtype).T
        return self.exponential(weights.shape, weights.dtype)


# The bytes of torch.get_rng_state(): a struct of C with its padding.
_STATE = np.dtype({
    "names": ["seed", "left", "seeded", "next", "key", "spare", "has_spare"],
    "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", 624), "<f8", "<i4"],
    "offsets": [0, 8, 12, 16, 24, 5024, 5040], "itemsize": 5056})


def _box_muller(a: int, b: int) -> tuple[float, float]:
    """Two normal numbers from two words64: the first gives the angle, the second the radius."""
    t = 2.0 * math.pi * ((a & _LOW53) * _U53)
    r = math.sqrt(-2.0 * math.log1p(-(b & _LOW53) * _U53))
    return r * math.cos(t), r * math.sin(t)


def _transform_blocks(x: Any) -> None:
    """In place, from uniform numbers to normal ones, in float32 or float64."""
    number = x.dtype.type
    blocks = x.reshape(-1, 2, 8)
    u1, u2 = blocks[:, 0], blocks[:, 1]
    r = np.sqrt(number(-2) * np.log(number(1) - u1))
    t = number(2 * np.pi) * u2
    np.multiply(r, np.cos(t), out=u1)
    np.multiply(r, np.sin(t), out=u2)


def _swapped(swap: Any) -> Any:
    """p = [0, 1, ..., n - 1] after swapping p[i] with p[swap[i]], swap[i] >= i, for each i in turn.

    Without a loop over i. Step i puts what stood in place i into place swap[i], and that was put
    there by the last step before it which had swapped with i: a chain to be followed to its start.
    """
    n = len(swap)
    places, steps = np.divmod(np.sort(swap * n + np.arange(n)), max(n, 1))
    again = places[1:] == places[:-1]
    earlier = np.full(n, -1)                     # the step before i that swapped with swap[i], too
    earlier[steps[1:][again]] = steps[:-1][again]
    last = np.append(~again, np.ones(min(n, 1), np.bool_))
    place, step = places[last], steps[last]
    step = np.where(step == place, earlier[place], step)
    start = np.arange(n)
    start[place] = np.where(step < 0, place, step)
    while True:                                  # each round halves what is left of the chains
        further = start[start]
        if np.array_equal(further, start):
            return np.where(earlier < 0, swap, start[earlier])
        start = further


def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
    """x * scale + shift, rounded once, as the fused instruction in PyTorch's kernels does it."""
    if x.dtype in dtypes.HALF:                   # their arithmetic rounds after every step
        return x * scale + shift
    if x.dtype == np.float32:
        wide = x.astype(np.float64)              # holds the product of two float32 exactly
        wide *= float(scale)
        wide += float(shift)
        return wide.astype(np.float32)
    # In float64 the parts that rounding loses are computed too (Dekker 1971, Knuth's two-sum).
    product = x * scale
    x_high, scale_high = _upper_half(x), _upper_half(scale)
    x_low, scale_low = x - x_high, scale - scale_high
    lost = x_low * scale_low - (((product - x_high * scale_high) - x_low * scale_high)
                                - x_high * scale_low)
    total = product + shift
    back = total - product
    lost += (product - (total - back)) + (shift - back)
    return total + lost


def _upper_half(x: Any) -> Any:
    """The upper 26 bits of float64 numbers."""
    shifted = x * 134217729.0                    # 2**27 + 1
    return shifted - (shifted - x)


def _race(weights: Any, times: Any, n: int, xp: Any = np) -> Any:
    """The n categories whose exponential clocks, running at rate ``weights``, ring first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        score = weights / times
    if n == 1:
        return xp.argmax(score, -1, keepdims=True)
    return xp.argsort(-score, -1)[..., :n].copy()


# Philox ------------------------------------------------------------------------------------------

_LOW32 = np.uint64(0xFFFFFFFF)
_TOP = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, ...]:
    """Philox4x32-10: four 32-bit words for each counter of four words, all held in uint64 arrays.

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = ((q >> _TOP) ^ b ^ np.uint64(k0), q & _LOW32,
                      (p >> _TOP) ^ d ^ np.uint64(k1), p & _LOW32)
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return a, b, c, d


def philox_words(xp: Any, key: int, first: int, n: int) -> Any:
    """n words, uint32, four from each counter from ``first`` on."""
    counter = xp.arange(-(-n // 4), dtype=np.uint64) + np.uint64(first)
    zero = xp.zeros(counter.size, np.uint64)
    lanes = philox4x32((counter & _LOW32, counter >> _TOP, zero, zero),
                       (key & 0xFFFFFFFF, key >> 32))
    return xp.stack(lanes, 1).astype(np.uint32).reshape(-1)[:n]


def below(p: float) -> int:
    """What a word is below with probability p; up to 2**32."""
    return math.ceil(p * (1 << 32))


class PhiloxGenerator(_Generator):
    """A generator indexed by element: the same seed yields the same words on every device.

    The state is (seed, offset). Word i of a call is lane i % 4 of Philox4x32-10 with the counter
    offset + i // 4 and the seed as key; the call then moves the offset on by the counters it used.
    Numbers of 32 bits take one word an element, those of 64 bits the words 2 i (the upper half) and
    2 i + 1. However many threads a kernel runs, element i gets the same number.
    """

    def __init__(self, be: Any, seed: int = DEFAULT_SEED) -> None:
        self.be, self.xp = be, be.xp
        self._seed, self.offset = unsigned_seed(seed), 0

    def manual_seed(self, seed: int) -> None:
        """Start the stream of ``seed``, a 64-bit number, signed or not."""
        self._seed, self.offset = unsigned_seed(seed), 0

    def get_state(self) -> np.ndarray[Any, Any]:
        """Seed and offset in 16 bytes."""
        return np.array([self._seed, self.offset], "<u8").view(np.uint8)

    def set_state(self, state: np.ndarray[Any, Any]) -> None:
        """Go on from a state that get_state() returned."""
        if state.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if state.size != 16:
            raise RuntimeError(f"RNG state is wrong size: expected 16 bytes, got {state.size}")
        self._seed, self.offset = (int(v) for v in np.frombuffer(state.tobytes(), "<u8"))

    def fresh(self) -> PhiloxGenerator:
        return type(self)(self.be)

    # Words ---------------------------------------------------------------------------------------

    def words(self, n: int) -> Any:
        """The next n words, uint32. The one place where numbers come from: a device may have its
        own kernel for it."""
        words = philox_words(self.xp, self._seed, self.offset, n)
        self._use(n)
        return words

    def reserve(self, words: int) -> tuple[Any, np.uint64]:
        """(state, offset) for an op that draws so many words itself; they are then used up.

        state: uint64, (key, first). Word i is lane i % 4 of the counter first + offset + i // 4.
        """
        state, offset = self.be.from_host(np.array([self._seed, 0], np.uint64)), self.offset
        self._use(words)
        return state, np.uint64(offset)

    def _use(self, words: int) -> None:
        self.offset = (self.offset + -(-words // 4)) % (1 << 64)

    def words64(self, n: int) -> Any:
        """The next n pairs of words as uint64, the first word of a pair on top."""
        w = self.words(2 * n).astype(np.uint64)
        return (w[::2] << _TOP) | w[1::2]

    def _unit(self, n: int, dtype: np.dtype[Any]) -> Any:
        """Uniform in [0, 1): the upper 53 bits of two words, or the upper 24 of one."""
        if dtype == np.float64:
            return (self.words64(n) >> np.uint64(11)).astype(np.float64) * _U53
        return (self.words(n) >> np.uint32(8)).astype(np.float32) * _U24

    # Distributions -------------------------------------------------------------------------------

    def uniform(self, shape: Any, dtype: Any, low: float = 0.0, high: float = 1.0) -> Any:
        """Uniform in [low, high)."""
        dtype = np.dtype(dtype)
        x = self._unit(_count(shape), dtype)
        if low != 0.0 or high != 1.0:
            number = x.dtype.type
            x = x * (number(high) - number(low)) + number(low)
        if low != 0.0 or high != 1.0 or dtype != x.dtype:
            x = x.astype(dtype, copy=False)
            x = self.xp.where(x == dtype.type(high), dtype.type(low), x)
        return x.reshape(shape)

    def normal(self, shape: Any, dtype: Any, mean: float = 0.0, std: float = 1.0,
               blocked: bool = True) -> Any:
        """Normal: Box-Muller on the uniform numbers 2 i (radius) and 2 i + 1 (angle)."""
        dtype, xp = np.dtype(dtype), self.xp
        n = _count(shape)
        u = self._unit(n + n % 2, dtype)
        number = u.dtype.type
        r = xp.sqrt(number(-2) * xp.log(number(1) - u[::2]))
        t = number(2 * math.pi) * u[1::2]
        x = xp.stack([r * xp.cos(t), r * xp.sin(t)], 1).reshape(-1)[:n]
        if std != 1.0 or mean != 0.0:
            x = x * number(std) + number(mean)
        return x.astype(dtype, copy=False).reshape(shape)

    def randint(self, low: int, high: int, shape: Any, dtype: Any) -> Any:
        """Integers in [low, high)."""
        low, high = _held_bounds(low, high, np.dtype(dtype))
        n, span = _count(shape), high - low
        w = self.words64(n) if span >= _WIDE_RANGE else self.words(n).astype(np.uint64)
        if span < 1 << 64:
            w = w % np.uint64(span)
        x = w.view(np.int64)
        if low and span < 1 << 64:
            x = x + np.int64(low)
        return x.astype(dtype, copy=False).reshape(shape)

    def randperm(self, n: int, dtype: Any) -> Any:
        """The numbers 0 to n - 1 in random order: the order of n random 64-bit keys."""
        return self.xp.argsort(self.words64(n)).astype(dtype, copy=False)

    def bernoulli(self, p: float, shape: Any) -> Any:
        """True with probability p: word < p * 2**32."""
        w = self.words(_count(shape)).astype(np.uint64)
        return (w < np.uint64(below(p))).reshape(shape)

    def bernoulli_of(self, probs: Any) -> Any:
        """True with the probability that each element of ``probs`` holds."""
        return self._unit(probs.size, probs.dtype).reshape(probs.shape) < probs

    def exponential(self, shape: Any, dtype: Any, lambd: float = 1.0) -> Any:
        """Exponential with rate ``lambd``, never 0."""
        dtype, xp = np.dtype(dtype), self.xp
        u = self._unit(_count(shape), dtype)
        number = u.dtype.type
        x = xp.log1p(-u) * number(-1.0 / lambd)
        x = xp.maximum(x, number(dtypes.finfo(dtypes.OF[dtype]).tiny))
        return x.astype(dtype, copy=False).reshape(shape)

    def multinomial(self, weights: Any, n: int, replacement: bool) -> Any:
        """Indices drawn in proportion to the weights of the last dim; int64, (..., n)."""
        xp = self.xp
        if not replacement or n == 1:
            return _race(weights, self.exponential(weights.shape, weights.dtype), n, xp)
        cumulative = xp.cumsum(weights, -1, dtype=dtypes.wide(weights.dtype))
        rows = cumulative.reshape(-1, weights.shape[-1])
        u = self._unit(len(rows) * n, rows.dtype).reshape(-1, n) * rows[:, -1:]
        picks = [xp.searchsorted(row, x, side="right") for row, x in zip(rows, u)]
        return xp.stack(picks).astype(np.int64).reshape(weights.shape[:-1] + (n,))
