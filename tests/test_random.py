"""Random numbers: PyTorch's CPU streams against recorded values, states, Philox, in-place fills."""
from __future__ import annotations

import copy
import hashlib
import math
import pickle
import types

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.backend.random import CPUGenerator, PhiloxGenerator, philox4x32

# What PyTorch yields for an expression after manual_seed(2024).
RECORDED = {
    "torch.rand(4)": [0.5317158699035645, 0.8312679529190063, 0.9718379974365234,
                      0.11930084228515625],
    "torch.rand(3, dtype=torch.float64)": [0.25372732026738665, 0.7747043317543358,
                                           0.33521823650125215],
    "torch.rand(4, dtype=torch.float16)": [0.53173828125, 0.8310546875, 0.9716796875,
                                           0.11932373046875],
    "torch.empty(4).uniform_(-0.1, 0.1)": [0.006343174260109663, 0.06625359505414963,
                                           0.0943676009774208, -0.07613983005285263],
    "torch.empty(3, dtype=torch.float64).uniform_(-0.3, 0.7)": [
        -0.04627267973261334, 0.47470433175433585, 0.035218236501252165],
    "torch.randn(3)": [-0.040429167449474335, 1.7259920835494995, -0.8140387535095215],
    "torch.randint(10, (8,))": [2, 0, 4, 0, 3, 0, 0, 1],
    "torch.randint(-2**40, 2**40, (3,))": [-512144126470, -684021872000, -980991511004],
    "torch.randint(2**28, (2,))": [30723578, 220105344],            # two words a number from here
    "torch.randint(2**28 - 1, (2,))": [109584017, 30723590],        # and one up to here
    "torch.randperm(10)": [2, 3, 0, 8, 7, 5, 1, 9, 4, 6],
    "torch.bernoulli(torch.full((8,), 0.5)).int()": [0, 0, 0, 1, 1, 1, 1, 0],
    "torch.empty(8).bernoulli_(0.5).int()": [1, 0, 1, 0, 0, 1, 1, 1],
    "torch.empty(3, dtype=torch.int64).random_()": [1623581238383398394, 3672908012959206016,
                                                    3470791090525271588],
    "torch.empty(3).random_()": [8920562.0, 13946169.0, 16304558.0],
    "torch.empty(3, dtype=torch.int32).random_()": [378019464, 1104465402, 855165536],
    "torch.empty(3).exponential_()": [0.29266422986984253, 1.4903416633605957,
                                      0.40829646587371826],
    "torch.multinomial(torch.arange(1., 9), 4)": [5, 7, 6, 2],
    "torch.multinomial(torch.arange(1., 9), 6, True)": [3, 6, 4, 6, 7, 3],
    "torch.normal(torch.arange(4.), 2.)": [-0.08085833489894867, 4.451984405517578,
                                           0.37192249298095703, 5.744333267211914],
    # An odd number of normal numbers leaves one for the next call.
    "torch.cat([torch.randn(3), torch.rand(2), torch.randn(4)])": [
        -0.040429167449474335, 1.7259920835494995, -0.8140387535095215, 0.4848504662513733,
        0.7492141127586365, 1.372166633605957, 0.2053595781326294, 0.9691402316093445,
        -0.9116809964179993],
    # Numbers are put into a tensor in its order in memory.
    "torch.empty(2, 2, 3).permute(2, 0, 1).uniform_().flatten()": [
        0.5317158699035645, 0.11930084228515625, 0.21499240398406982, 0.7492141127586365,
        0.8312679529190063, 0.16690224409103394, 0.6201280951499939, 0.15209585428237915,
        0.9718379974365234, 0.3494589328765869, 0.4848504662513733, 0.562518835067749],
    "torch.empty(4, 2)[:, 0].normal_()": [-0.040429167449474335, 1.7259920835494995,
                                          -0.8140387535095215, 1.372166633605957],
}


@pytest.mark.parametrize("expression", RECORDED)
def test_recorded_streams(expression):
    torch.manual_seed(2024)
    assert eval(expression).tolist() == RECORDED[expression]


@pytest.mark.parametrize("expression, values", [
    ("torch.randn(18)[[0, 1, 2, 15, 16, 17]]", [
        -1.2262355089187622, -0.009314819239079952, 0.3699551522731781, 0.6343358159065247,
        -0.07764512300491333, -1.1175426244735718]),
    ("torch.randn(16, dtype=torch.float64)[:4]", [
        -0.7040247420378066, 1.3312587303505539, 0.6143000993844849, -0.6918590645004565]),
])
def test_recorded_normal_blocks(expression, values):
    torch.manual_seed(2024)
    assert eval(expression).tolist() == pytest.approx(values, abs=3e-7)


def test_large_shuffle_is_fisher_yates():
    n = 1000
    words = np.random.RandomState(3).randint(0, 2**32, n - 1, np.uint32).tolist()
    order = list(range(n))
    for i, word in enumerate(words):
        j = i + word % (n - i)
        order[i], order[j] = order[j], order[i]
    assert CPUGenerator(3).randperm(n, "i8").tolist() == order


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_permutations(n):
    assert sorted(torch.randperm(n).tolist()) == list(range(n))


# Seeds and states --------------------------------------------------------------------------------

def digest(state):
    return hashlib.sha256(state.numpy().tobytes()).hexdigest()


def test_state_has_pytorch_bytes():
    torch.manual_seed(-1)
    assert digest(torch.get_rng_state()).startswith("74c65bce05a4fcdd46c9ffe85389eae8")
    torch.manual_seed(5)
    torch.rand(624)                     # the state's words are used up, but not yet renewed
    assert digest(torch.get_rng_state()).startswith("7447755f70b7c1784d39e5cfca8fb9d7")
    torch.manual_seed(123)
    torch.rand(5)
    torch.randn(3)                      # with a normal number left over
    assert digest(torch.get_rng_state()).startswith("539fb26115120c698719e2f37ea89e30")


@pytest.mark.parametrize("before", [
    lambda: None, lambda: torch.rand(3), lambda: torch.randn(3), lambda: torch.rand(624)])
def test_state_round_trip(before):
    torch.manual_seed(9)
    before()
    state = torch.get_rng_state()
    first = torch.randn(5).tolist(), torch.rand(700).tolist()
    torch.set_rng_state(state)
    assert (torch.randn(5).tolist(), torch.rand(700).tolist()) == first


def test_generators_are_independent():
    a, b = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    x = torch.rand(4, generator=a)
    assert torch.rand(4).tolist() == x.tolist() == torch.rand(4, generator=b).tolist()
    assert torch.rand(4, generator=a).tolist() != x.tolist()


def test_generator_copies_go_on_from_its_place():
    g = torch.Generator().manual_seed(1)
    torch.randn(3, generator=g)
    others = [pickle.loads(pickle.dumps(g)), copy.deepcopy(g), g.clone_state()]
    want = torch.randn(4, generator=g).tolist()
    assert all(torch.randn(4, generator=other).tolist() == want for other in others)


def test_seeds():
    assert torch.Generator().initial_seed() == 67280421310721
    assert torch.manual_seed(-1) is torch.default_generator
    assert torch.initial_seed() == 2**64 - 1
    assert torch.manual_seed(2**40 + 3).initial_seed() == 2**40 + 3
    x = torch.rand(3)
    torch.manual_seed(3)                # only the low 32 bits count
    assert torch.rand(3).tolist() == x.tolist()
    assert torch.seed() == torch.initial_seed()
    with pytest.raises(ValueError, match="Overflow when unpacking"):
        torch.manual_seed(2**64)
    with pytest.raises(RuntimeError, match="manual_seed expected a long, but got float"):
        torch.Generator().manual_seed(1.5)
    with pytest.raises(RuntimeError, match="does not use offset"):
        torch.Generator().get_offset()


def test_bad_states():
    with pytest.raises(TypeError, match="RNG state must be a torch"):
        torch.set_rng_state(torch.zeros(5056))
    with pytest.raises(TypeError, match=r"expected a torch\.ByteTensor, but got list"):
        torch.set_rng_state([1])
    with pytest.raises(RuntimeError, match="size 5056 but found the input RNG state size to be 3"):
        torch.set_rng_state(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"):
        torch.set_rng_state(torch.zeros(5056, dtype=torch.uint8))


def test_fork_rng():
    torch.manual_seed(0)
    with torch.random.fork_rng():
        inside = torch.rand(2).tolist()
    assert torch.rand(2).tolist() == inside
    with torch.random.fork_rng(enabled=False):
        torch.rand(2)
    torch.manual_seed(0)
    torch.rand(4)
    after = torch.rand(2).tolist()
    torch.manual_seed(0)
    torch.rand(2)
    with torch.random.fork_rng(enabled=False):
        torch.rand(2)
    assert torch.rand(2).tolist() == after


# Philox ------------------------------------------------------------------------------------------

def philox(seed=0):
    return PhiloxGenerator(types.SimpleNamespace(xp=np), seed)


@pytest.mark.parametrize("counter, key, words", [        # Random123's known answers
    ([0] * 4, [0] * 2, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
    ([0xffffffff] * 4, [0xffffffff] * 2, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
    ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0],
     [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]),
])
def test_philox_known_answers(counter, key, words):
    lanes = philox4x32(tuple(np.full(2, c, np.uint64) for c in counter), tuple(key))
    assert [int(lane[1]) for lane in lanes] == words


def test_philox_is_indexed_by_element():
    g = philox(7)
    words = g.words(10)
    assert words.dtype == np.uint32 and g.offset == 3
    g.manual_seed(7)
    assert g.words(2).tolist() == words[:2].tolist()          # however many are asked for
    assert g.offset == 1
    assert g.words(4).tolist() == words[4:8].tolist()         # counter 1 gives words 4 to 7
    wide = philox(7).words64(2).tolist()
    assert wide == [int(words[0]) << 32 | int(words[1]), int(words[2]) << 32 | int(words[3])]


def test_philox_seed_uses_64_bits():
    assert philox(1).words(4).tolist() != philox(1 + 2**40).words(4).tolist()
    g = philox(-1)
    g.words(8)
    state = g.get_state()
    assert g.initial_seed() == 2**64 - 1 and state.size == 16
    want = g.uniform(5, "f4").tolist()
    other = philox()
    other.set_state(state)
    assert other.uniform(5, "f4").tolist() == want
    assert g.clone_state().words(3).tolist() == g.words(3).tolist()
    with pytest.raises(RuntimeError, match="16 bytes"):
        g.set_state(np.zeros(5, np.uint8))


# Distributions, of both generators ---------------------------------------------------------------

@pytest.fixture(params=["mt19937", "philox"])
def stream(request):
    return CPUGenerator(11) if request.param == "mt19937" else philox(11)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floating_distributions(stream, dtype):
    n = 20000
    u = stream.uniform((n,), dtype, -1.0, 3.0).astype("f8")
    assert (-1 <= u).all() and (u < 3).all()
    assert u.mean() == pytest.approx(1, abs=0.05) and u.var() == pytest.approx(4 / 3, abs=0.05)
    z = stream.normal((n + 1,), dtype, 1.0, 2.0).astype("f8")
    assert z.mean() == pytest.approx(1, abs=0.06) and z.std() == pytest.approx(2, abs=0.06)
    assert ((z - 1) ** 4).mean() / 16 == pytest.approx(3, abs=0.3)
    e = stream.exponential((n,), dtype, 2.0).astype("f8")
    assert (e >= 0).all() and e.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3), (5, 4, 3)])
def test_results_are_contiguous_arrays_of_the_shape(stream, shape):
    for a in (stream.uniform(shape, "f4"), stream.normal(shape, "f4"), stream.random(shape, "i8"),
              stream.randint(-3, 9, shape, "i4"), stream.exponential(shape, "f8")):
        assert type(a) is np.ndarray and a.shape == shape and a.flags.c_contiguous
        assert a.flags.writeable


@pytest.mark.parametrize("low, high", [(0, 10), (-5, 5), (2, 3), (-2**40, 2**41), (-2**63, 2**63)])
def test_integers_fill_their_range(stream, low, high):
    x = stream.randint(low, high, 20000, "i8")
    assert low <= x.min() and x.max() < high
    if high - low <= 10:
        assert sorted(set(x.tolist())) == list(range(low, high))
    else:
        assert abs(float(x.astype("f8").mean()) - (low + high) / 2) < (high - low) / 50


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_bernoulli(stream, p):
    x = stream.bernoulli(p, (20000,))
    assert x.dtype == np.bool_ and x.mean() == pytest.approx(p, abs=0.02)
    y = stream.bernoulli_of(np.full((4, 5000), p, "f4"))
    assert y.shape == (4, 5000) and y.mean() == pytest.approx(p, abs=0.02)


def test_multinomial(stream):
    weights = np.array([[1, 0, 3], [0, 0, 2]], "f4")
    x = stream.multinomial(weights, 20000, True)
    assert x.shape == (2, 20000) and x.dtype == np.int64 and (x[1] == 2).all()
    assert np.bincount(x[0], minlength=3)[1] == 0
    assert (x[0] == 2).mean() == pytest.approx(0.75, abs=0.02)
    for _ in range(20):
        assert set(stream.multinomial(weights[0], 2, False).tolist()) == {0, 2}


def test_permutation(stream):
    x = stream.randperm(1000, "i8")
    assert sorted(x.tolist()) == list(range(1000)) and x.tolist() != list(range(1000))


# The functions and methods -----------------------------------------------------------------------

@pytest.mark.usefixtures("on_each_device")
def test_like_functions_take_the_order_in_memory():
    x = torch.zeros(3, 20).t()
    torch.manual_seed(1)
    y = torch.rand_like(x)
    torch.manual_seed(1)
    assert y.stride() == (1, 20) and y.t().tolist() == torch.rand(3, 20).tolist()
    assert torch.randn_like(x, dtype=torch.float64).dtype is torch.float64
    assert torch.randint_like(x, 3, 4).tolist() == torch.full_like(x, 3).tolist()


@pytest.mark.usefixtures("on_each_device")
def test_fill_of_a_leaf():
    x = torch.zeros(3, requires_grad=True)
    for fill in (x.uniform_, x.normal_, x.bernoulli_, x.random_, x.exponential_):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used"):
            fill()
    assert x.tolist() == [0, 0, 0]
    with torch.no_grad():
        assert x.uniform_(2, 3) is x
    assert x._version == 1 and x.requires_grad and 2 <= x.min().item() < 3


@pytest.mark.parametrize("fill, node", [
    (lambda x: x.uniform_(), "UniformBackward0"),
    (lambda x: x.normal_(), "NormalBackward0"),
    (lambda x: x.exponential_(), "ExponentialBackward0"),
    (lambda x: x.bernoulli_(0.3), "BernoulliBackward2"),
    (lambda x: x.random_(), "RandomBackward2"),
    (lambda x: x.random_(4), "RandomBackward1"),
    (lambda x: x.random_(2, 4), "RandomBackward0"),
])
@pytest.mark.usefixtures("on_each_device")
def test_fill_of_a_result_forgets_its_history(fill, node):
    x = torch.ones(3, requires_grad=True)
    y = fill(x * 2)
    assert y.grad_fn.name() == node and y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    (y * 5).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


@pytest.mark.usefixtures("on_each_device")
def test_fill_of_a_part_keeps_the_gradient_of_the_rest():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y[:2].normal_()
    (y * 5).sum().backward()
    assert x.grad.tolist() == [0, 0, 10]


@pytest.mark.usefixtures("on_each_device")
def test_parameters_of_a_distribution_get_zero_gradients():
    mean, std = torch.zeros(2, 1, requires_grad=True), torch.ones(3, requires_grad=True)
    y = torch.normal(mean, std)
    assert y.shape == (2, 3) and y.grad_fn.name() == "NormalBackward3"
    y.sum().backward()
    assert mean.grad.tolist() == [[0], [0]] and std.grad.tolist() == [0, 0, 0]
    p = torch.full((2,), 0.5, requires_grad=True)
    assert torch.bernoulli(p).grad_fn.name() == "BernoulliBackward0"


@pytest.mark.usefixtures("on_each_device")
def test_bernoulli_with_probabilities():
    p = torch.tensor([0.0, 1.0, 0.0])
    assert torch.bernoulli(p).tolist() == p.tolist()
    assert torch.ones(2, 3).t().bernoulli_(p.view(3, 1)).tolist() == [[0, 0], [1, 1], [0, 0]]
    assert torch.bernoulli(torch.ones(3), 0.0).tolist() == [0, 0, 0]
    assert torch.ones(3, dtype=torch.int64).bernoulli_(1.0).dtype is torch.int64


@pytest.mark.usefixtures("on_each_device")
def test_normal_of_numbers_and_tensors():
    assert torch.normal(2.0, 0.0, (2, 2)).tolist() == [[2, 2], [2, 2]]
    assert torch.normal(torch.tensor([1.0, 5.0]), 0.0).tolist() == [1, 5]
    assert torch.normal(3.0, torch.zeros(2)).tolist() == [3, 3]
    assert torch.normal(0.0, 1.0, size=(3,), dtype=torch.float64).dtype is torch.float64


@pytest.mark.parametrize("call, error, text", [
    (lambda x: x.expand(2, 3).uniform_(), RuntimeError, "more than one element of the written-to"),
    (lambda x: x.uniform_(2, 1), RuntimeError, "found from=2 > to=1"),
    (lambda x: x.uniform_(-1e39, 0), RuntimeError, "from is out of bounds for float"),
    (lambda x: x.uniform_(-3e38, 3e38), RuntimeError, "exceed the limit"),
    (lambda x: x.uniform_(wrong=1), TypeError, "unexpected keyword argument 'wrong'"),
    (lambda x: x.uniform_("a"), TypeError, "must be float, not str"),
    (lambda x: x.long().uniform_(), NotImplementedError, "not implemented for 'Long'"),
    (lambda x: x.normal_(0, -1), RuntimeError, "normal expects std >= 0.0, but found std -1"),
    (lambda x: x.normal_(0, math.nan), RuntimeError, "found std nan"),
    (lambda x: x.exponential_(0), RuntimeError, "expects lambda > 0.0, but found lambda=0"),
    (lambda x: x.long().exponential_(), RuntimeError, "continuous probability distribution"),
    (lambda x: x.bernoulli_(1.5), RuntimeError, r"expects p to be in \[0, 1\], but got p=1.5"),
    (lambda x: x.bernoulli_(torch.zeros(2)), RuntimeError, "expanded size of the tensor"),
    (lambda x: x.random_(5, 3), RuntimeError, "less than 'to', but got from=5 >= to=3"),
    (lambda x: x.byte().random_(300), RuntimeError, "to - 1 is out of bounds for unsigned char"),
    (lambda x: x.random_(2**25, None), RuntimeError, "from=33554432 > to_inc=16777216"),
    (lambda x: x.random_(1.5), TypeError, "must be int, not float"),
    (lambda x: x.random_(1, 2, 3), TypeError, "invalid combination of arguments"),
    (lambda x: x.normal_(generator=3), TypeError, "must be torch.Generator, not int"),
    (lambda x: torch.rand(3, dtype=torch.int64), NotImplementedError, "not implemented for 'Long'"),
    (lambda x: torch.rand(2, -1), RuntimeError, r"negative dimension -1: \[2, -1\]"),
    (lambda x: torch.randint(3), TypeError, "argument 'size'"),
    (lambda x: torch.randint(1.5, (2,)), TypeError, "must be int, not float"),
    (lambda x: torch.randint(5, 5, (2,)), RuntimeError, "from=5 >= to=5"),
    (lambda x: torch.randint(3, (2,), requires_grad=True), RuntimeError, "floating point"),
    (lambda x: torch.randperm(-1), RuntimeError, "negative dimension -1"),
    (lambda x: torch.randperm(3, dtype=torch.bool), NotImplementedError, "for 'Bool'"),
    (lambda x: torch.randperm(3000, dtype=torch.float16), RuntimeError, "greater than 2049"),
    (lambda x: torch.normal(0.0, 1.0), TypeError, "needs a size"),
    (lambda x: torch.normal(x, -x - 1), RuntimeError, "all elements of std >= 0.0"),
    (lambda x: torch.normal(x, torch.ones(2)), RuntimeError, "at non-singleton dimension 0"),
    (lambda x: torch.bernoulli(x + 2), RuntimeError, "Expected p_in >= 0 && p_in <= 1"),
    (lambda x: torch.bernoulli(x.long()), NotImplementedError, "for 'Long'"),
    (lambda x: torch.multinomial(x, 1), RuntimeError, "sum of probabilities <= 0"),
    (lambda x: torch.multinomial(x + 1, 4), RuntimeError, "without replacement"),
    (lambda x: torch.multinomial(x + 1, 0), RuntimeError, "n_sample <= 0"),
    (lambda x: torch.multinomial(x - 1, 2, True), RuntimeError, "invalid multinomial distribution"),
    (lambda x: torch.multinomial(x - 1, 2), RuntimeError, "`inf`, `nan` or element < 0"),
    (lambda x: torch.multinomial(x.expand(2, 2, 3), 1), RuntimeError, "must be 1 or 2 dim"),
    (lambda x: torch.multinomial(x.long(), 1), RuntimeError, "got: Long"),
])
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call(torch.zeros(3))


def test_integers_that_a_float_cannot_hold_are_announced():
    with pytest.warns(UserWarning, match=r"to - 1 is out of bounds \[-\(2\^24\), 2\^24\]"):
        x = torch.empty(1000).random_(0, 2**26)
    assert x.max().item() < 2**26
