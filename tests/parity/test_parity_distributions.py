"""torch.distributions beside PyTorch's: samples by seed, densities, moments, errors, texts."""
from __future__ import annotations

import importlib
import itertools
import pkgutil
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.distributions as ours

torch = pytest.importorskip("torch")
theirs = torch.distributions


@pytest.fixture(autouse=True)
def arguments_are_checked() -> None:
    """As they are by default: PyTorch's compiler, which torch.cond starts, turns that off."""
    theirs.Distribution.set_default_validate_args(True)


# Lines of code that make a distribution: t is the library, D its distributions, p(...) a tensor
# whose gradients are compared.
FAMILIES = """
D.Normal(p([0., 1., -2.]), p([.5, 1., 3.]))
D.Normal(0., 2.)
D.Normal(p([[0.], [1.]]), 1)
D.Normal(p([0., 1.], 'float64'), p(2., 'float64'))
D.Bernoulli(p([.2, .5, .9]))
D.Bernoulli(logits=p([-1., 0., 30.]))
D.Bernoulli(.3)
D.Beta(p([.3, 1., 4.]), p([.6, 2., 3.]))
D.Beta(2., 3.)
D.Binomial(5, p([.2, .5, .9]))
D.Binomial(t.tensor([40., 40.]), logits=p([-1., 2.]))
D.Binomial(t.tensor([3., 40.]), p([.6, .4]))
D.Categorical(p([.2, .3, 1.]))
D.Categorical(logits=p([[0., 1., -2.], [3., 0., 1.]]))
D.Cauchy(p([0., 1.]), p([.5, 2.]))
D.Chi2(p([1., 3., .4]))
D.ContinuousBernoulli(p([.1, .5, .9]))
D.ContinuousBernoulli(logits=p([-2., 0.001, 1.]))
D.Dirichlet(p([.4, 2., 3.]))
D.Dirichlet(p([[.4, .2, .3], [5., 1., 2.]]))
D.Exponential(p([.5, 3.]))
D.FisherSnedecor(p([3., 5.]), p([2., 7.]))
D.Gamma(p([.3, 2., 15.]), p([1., .5, 3.]))
D.GeneralizedPareto(p([0., 1., 0.]), p([1., 2., 1.]), p([.2, 0., -.5]))
D.Geometric(p([.2, .9]))
D.Geometric(logits=p([-1., 1.]))
D.Gumbel(p([0., 1.]), p([1., 2.]))
D.HalfCauchy(p([1., 2.]))
D.HalfNormal(p([1., 2.]))
D.Independent(D.Normal(p([[0., 1.], [2., 3.]]), 1.), 1)
D.Independent(D.Bernoulli(p([.3, .6])), 0)
D.InverseGamma(p([.7, 1.5, 3.]), p([1., 2., 3.]))
D.Kumaraswamy(p([.5, 2.]), p([3., 1.5]))
D.LKJCholesky(3, p([.7, 2.]))
D.LKJCholesky(2)
D.Laplace(p([0., 1.]), p([1., 2.]))
D.LogNormal(p([0., 1.]), p([.5, 1.]))
D.LogisticNormal(p([0., 1.]), p([.5, 1.]))
D.LogisticNormal(0., 1.)
D.LowRankMultivariateNormal(p([1., 0., 2.]), p([[1.], [.5], [0.]]), p([1., 2., .5]))
D.LowRankMultivariateNormal(p([[1., 0.], [2., 3.]]), p([[1.], [.5]]), p([1., 2.]))
D.MixtureSameFamily(D.Categorical(p([.3, .7])), D.Normal(p([0., 4.]), p([1., .5])))
D.MixtureSameFamily(D.Categorical(p([[.3, .7]])), D.Independent(D.Normal(p([[[0.], [4.]]]), 1), 1))
D.Multinomial(6, p([.2, .3, .5]))
D.Multinomial(4, logits=p([[0., 1., -2.], [3., 0., 1.]]))
D.MultivariateNormal(p([1., 2.]), p([[2., .5], [.5, 1.]]))
D.MultivariateNormal(p([[1., 2.], [0., 0.]]), precision_matrix=p([[2., .5], [.5, 1.]]))
D.MultivariateNormal(p([1., 2.]), scale_tril=p([[[1., 0.], [.5, 2.]], [[2., 0.], [0., 1.]]]))
D.NegativeBinomial(p([3., 5.5]), p([.3, .6]))
D.NegativeBinomial(4, logits=p([0., 1.]))
D.OneHotCategorical(p([.2, .3, .5]))
D.OneHotCategorical(logits=p([[0., 1., -2.], [3., 0., 1.]]))
D.OneHotCategoricalStraightThrough(p([.2, .3, .5]))
D.Pareto(p([1., 2.]), p([.5, 3.]))
D.Poisson(p([.5, 3., 20.]))
D.RelaxedBernoulli(t.tensor([.7]), p([.2, .6]))
D.RelaxedBernoulli(t.tensor(.7), logits=p([0., 1.]))
D.RelaxedOneHotCategorical(t.tensor(.8), p([.2, .3, .5]))
D.RelaxedOneHotCategorical(t.tensor(.8), logits=p([0., 1., 2.]))
D.StudentT(p([.7, 1.5, 4.]), p([0., 1., 2.]), p([1., 2., 3.]))
D.StudentT(3.)
D.TransformedDistribution(D.Normal(p([0., 1.]), 1.), [D.AffineTransform(1., -2), D.TanhTransform()])
D.TransformedDistribution(D.Normal(p([0., 1.]), 1.), D.AffineTransform(1., p([2., 3.])))
D.TransformedDistribution(D.Normal(p([[0., 1.]]), 1.), D.ReshapeTransform((1, 2), (2,)))
D.Uniform(p([0., -1.]), p([1., 4.]))
D.VonMises(p([0., 1.]), p([.5, 4.]))
D.Weibull(p([1., 2.]), p([.7, 3.]))
D.Wishart(p(4.), p([[2., .5], [.5, 1.]]))
D.Wishart(p([3., 5.]), scale_tril=p([[1., 0.], [.5, 2.]]))
D.Wishart(4, precision_matrix=p([[2., .5], [.5, 1.]]))
""".strip().splitlines()

TOLERANCE = {"float32": 2e-5, "float64": 1e-9}


class Library:
    """One of the two libraries, for lines of code."""

    def __init__(self, library: Any) -> None:
        self.t, self.D = library, library.distributions
        self.leaves: list[Any] = []

    def p(self, data: Any, dtype: str = "float32") -> Any:
        leaf = self.t.tensor(data, dtype=getattr(self.t, dtype), requires_grad=True)
        self.leaves.append(leaf)
        return leaf

    def v(self, *values: float) -> Any:
        return self.t.tensor(values)

    def make(self, line: str) -> Any:
        self.leaves = []
        return self.run(line)

    def run(self, line: str, **names: Any) -> Any:
        return eval(line, {"t": self.t, "D": self.D, "p": self.p, "v": self.v,
                           "self": self, **names})


def both() -> tuple[Library, Library]:
    return Library(gpugrad), Library(torch)


def plain(v: Any) -> Any:
    """A value in NumPy's terms."""
    if isinstance(v, (gpugrad.Tensor, torch.Tensor)):
        return v.detach().cpu().numpy()
    if isinstance(v, (gpugrad.Size, torch.Size)):
        return tuple(v)
    if isinstance(v, list | tuple):
        return [plain(x) for x in v]
    return v


def outcome(library: Library, line: str, **names: Any) -> Any:
    """What a line yields, or the exception."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return plain(library.run(line, **names))
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError) as e:
        return e


def same(a: Any, b: Any, line: str, loose: float = 1.0) -> None:
    if isinstance(b, Exception):
        assert isinstance(a, type(b)), (line, a, b)
    elif isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray), (line, a)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (line, a.shape, b.shape, a.dtype, b.dtype)
        until = TOLERANCE.get(b.dtype.name, 0) * loose
        np.testing.assert_allclose(a, b, rtol=until, atol=until, err_msg=line)
    elif isinstance(b, list):
        assert len(a) == len(b), line
        for x, y in zip(a, b):
            same(x, y, line, loose)
    else:
        assert a == b, (line, a, b)


# Questions that can be asked of every distribution d.
QUESTIONS = """
repr(d)
d.batch_shape
d.event_shape
d.has_rsample
d.has_enumerate_support
repr(d.support)
d.support.event_dim
d.support.is_discrete
d.mean
d.mode
d.variance
d.stddev
d.entropy()
d.perplexity()
d.enumerate_support()
d.enumerate_support(expand=False)
d.expand((2,) + d.batch_shape).batch_shape
repr(d.expand((2,) + d.batch_shape))
d.expand((2,) + d.batch_shape).mean
sorted(d.arg_constraints)
d._natural_params
d.log_prob(1)
d.log_prob(t.full((7, 7), .5))
d.cdf(t.full((7, 7), .5))
d.sample((2.5,))
""".strip().splitlines()

# The shape of samples, and whether they are of the expanded distribution.
DRAWS = ["d.{}()", "d.{}((3,))", "d.{}((2, 3))", "d.expand((2,) + d.batch_shape).{}((3,))"]


@pytest.mark.parametrize("line", FAMILIES)
def test_questions(line: str) -> None:
    us, them = both()
    d, e = us.make(line), them.make(line)
    for question in QUESTIONS:
        same(outcome(us, question, d=d), outcome(them, question, d=e), question)


@pytest.mark.parametrize("line", FAMILIES)
def test_samples_by_seed(line: str) -> None:
    us, them = both()
    d, e = us.make(line), them.make(line)
    for draw, kind in itertools.product(DRAWS, ("sample", "rsample")):
        code = draw.format(kind)
        results = []
        for library, x in ((us, d), (them, e)):
            library.t.manual_seed(7)
            results.append([outcome(library, code, d=x), outcome(library, "t.rand(2)")])
        same(*results, code, 3)


@pytest.mark.parametrize("line", FAMILIES)
def test_densities(line: str) -> None:
    us, them = both()
    d, e = us.make(line), them.make(line)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = e.sample((4,)).numpy()
    names = [{"d": d, "x": gpugrad.tensor(x)}, {"d": e, "x": torch.tensor(x)}]
    for code in ("d.log_prob(x)", "d.cdf(x)", "d.icdf(t.full(d.batch_shape, .3) * 1.)",
                 "d.icdf(d.cdf(x))", "d.support.check(x)",
                 "t.autograd.grad(d.log_prob(x).sum(), self.leaves)",
                 "t.autograd.grad(d.entropy().sum(), self.leaves)",
                 "t.autograd.grad(d.variance.sum(), self.leaves, allow_unused=True)[0]"):
        for library, known in zip((us, them), names):
            known["d"] = library.make(line)
        loose = 20 if "grad" in code or "VonMises" in line or "icdf" in code else 3
        a, b = outcome(us, code, **names[0]), outcome(them, code, **names[1])
        if "scale_tril" in line and "grad(" in code and isinstance(b, list):
            # what lies above the diagonal of a factor isn't read; PyTorch has gradients there
            a, b = ([np.tril(g) if g.ndim > 1 else g for g in grads] for grads in (a, b))
        same(a, b, code, loose)


@pytest.mark.parametrize("line", FAMILIES)
def test_gradients_of_samples(line: str) -> None:
    """To 1e-3: PyTorch approximates those of gamma and Dirichlet numbers, gpugrad doesn't."""
    us, them = both()
    if not them.make(line).has_rsample or "Wishart" in line:     # PyTorch's raises in backward
        return
    found = []
    for library in (us, them):
        d = library.make(line)
        library.t.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = d.rsample((5,))
        weight = library.t.arange(1., x.numel() + 1, dtype=x.dtype).reshape(x.shape) / x.numel()
        found.append(plain(library.t.autograd.grad((x * weight).sum(), library.leaves,
                                                   allow_unused=True))
                     if x.requires_grad else None)
    if found[1] is None:
        assert found[0] is None
        return
    for a, b in zip(*found):
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("line", """
t._standard_gamma_grad(p([.3, 2., 15.]).detach(), p([.5, 1., 9.]).detach())
t._standard_gamma_grad(p([[.3], [2.]]).detach(), p([.5, 1., 9.]).detach())
t._standard_gamma_grad(p([.3, 2.], 'float64').detach(), p([.5, 1.], 'float64').detach()).float()
t._standard_gamma_grad(t.tensor([1]), t.tensor([2]))
t._standard_gamma_grad(p([2.]), p([1.])).sum().backward()
t._dirichlet_grad(p([.2, .7]).detach(), p([.5, 3.]).detach(), p([2., 4.]).detach())
t._dirichlet_grad(p([.2, .7]).detach(), p([[.5], [3.]]).detach(), p(4.).detach())
t._dirichlet_grad(p([.2]), p([.5]), p([2.])).sum().backward()
t._sample_dirichlet(p([[.4, 2., 3.], [1., 1., 1.]]).detach())
t._sample_dirichlet(p([.4, 2., 3.]).detach(), t.Generator().manual_seed(3))
t._sample_dirichlet(t.zeros(0, 3))
t._sample_dirichlet(t.tensor([1, 2]))
t._sample_dirichlet(p([.4, 2.])).sum().backward()
""".strip().splitlines())
def test_functions_below(line: str) -> None:
    """PyTorch's slopes are approximations, to a thousandth."""
    found = []
    for library in both():
        library.t.manual_seed(0)
        found.append(outcome(library, line))
    same(*found, line, 60.0)
    assert type(found[0]) is type(found[1])


# Divergences -------------------------------------------------------------------------------------

# Of each family two, the second within the first where that matters.
KL = {
    "Bernoulli": ("D.Bernoulli(v(.2, 0., 1., .5))", "D.Bernoulli(v(.3, .4, 0., 0.))"),
    "Beta": ("D.Beta(v(.3, 2.), 1.5)", "D.Beta(v(1., 3.), .7)"),
    "Binomial": ("D.Binomial(5, v(.2, .6))", "D.Binomial(v(5., 4.), v(.3, .1))"),
    "Categorical": (
        "D.Categorical(v(.2, .8, 0.))",
        "D.Categorical(t.tensor([[.5, .3, .2], [0., .5, .5]]))"),
    "Cauchy": ("D.Cauchy(v(0., 1.), 2.)", "D.Cauchy(1., v(1., 3.))"),
    "ContinuousBernoulli": ("D.ContinuousBernoulli(v(.2, .5))", "D.ContinuousBernoulli(v(.7, .3))"),
    "Dirichlet": (
        "D.Dirichlet(v(.5, 1., 3.))",
        "D.Dirichlet(t.tensor([[1., 1., 1.], [2., .4, 3.]]))"),
    "Exponential": ("D.Exponential(v(.5, 2.))", "D.Exponential(v(1., 3.))"),
    "Gamma": ("D.Gamma(v(.5, 2.), 2.)", "D.Gamma(v(1., 3.), .7)"),
    "Chi2": ("D.Chi2(v(.5, 2.))", "D.Chi2(v(1., 3.))"),
    "Geometric": ("D.Geometric(v(.5, .2))", "D.Geometric(v(.1, .9))"),
    "Gumbel": ("D.Gumbel(v(0., 1.), 2.)", "D.Gumbel(1., v(1., 3.))"),
    "HalfNormal": ("D.HalfNormal(v(1., 2.))", "D.HalfNormal(3.)"),
    "HalfCauchy": ("D.HalfCauchy(v(1., 2.))", "D.HalfCauchy(3.)"),
    "Independent": (
        "D.Independent(D.Normal(t.zeros(2, 3), 1.), 1)",
        "D.Independent(D.Normal(t.ones(2, 3), 2.), 1)"),
    "Independent2": (
        "D.Independent(D.Normal(t.zeros(2, 3), 1.), 2)",
        "D.Independent(D.Gamma(t.ones(2, 3), 2.), 2)"),
    "Laplace": ("D.Laplace(v(0., 1.), 2.)", "D.Laplace(1., v(1., 3.))"),
    "LogNormal": ("D.LogNormal(v(0., 1.), 2.)", "D.LogNormal(1., v(1., 3.))"),
    "LowRank": (
        "D.LowRankMultivariateNormal(v(1., 0.), t.tensor([[1.], [.5]]), v(1., 2.))",
        "D.LowRankMultivariateNormal(t.ones(3, 2), t.tensor([[1.], [-1.]]), v(.5, 3.))"),
    "MultivariateNormal": (
        "D.MultivariateNormal(v(1., 2.), t.tensor([[2., .5], [.5, 1.]]))",
        "D.MultivariateNormal(t.zeros(3, 2), scale_tril=t.tensor([[1., 0.], [.5, 2.]]))"),
    "MultivariateNormal3": (
        "D.MultivariateNormal(t.zeros(3), t.eye(3))",
        "D.MultivariateNormal(t.zeros(2, 1, 2), t.stack([t.eye(2), 2 * t.eye(2)])[:, None])"),
    "Normal": ("D.Normal(v(0., 1.), 2.)", "D.Normal(1., v(1., 3.))"),
    "OneHotCategorical": (
        "D.OneHotCategorical(v(.2, .8, 0.))",
        "D.OneHotCategorical(v(.5, 0., .5))"),
    "Pareto": ("D.Pareto(v(2., 1.), v(.5, 4.))", "D.Pareto(1.5, v(1., 3.))"),
    "Poisson": ("D.Poisson(v(.5, 4.))", "D.Poisson(v(1., 3.))"),
    "Uniform": ("D.Uniform(v(.5, -1.), v(.8, 1.5))", "D.Uniform(v(0., .2), 1.)"),
    "Transformed": (
        "D.TransformedDistribution(D.Normal(t.zeros(2), 1.), D.TanhTransform())",
        "D.TransformedDistribution(D.Normal(t.ones(2), 2.), D.TanhTransform())"),
    "Wishart": ("D.Wishart(t.tensor(4.), t.eye(2))", "D.Wishart(t.tensor(5.), 2 * t.eye(2))"),
    "StudentT": ("D.StudentT(3.)", "D.StudentT(v(4., 5.))"),
}


@pytest.mark.parametrize("p", KL)
def test_divergences(p: str) -> None:
    us, them = both()
    for q in KL:
        for first, second in ((KL[p][0], KL[q][1]), (KL[p][1], KL[q][0])):
            code = f"D.kl_divergence({first}, {second})"
            same(outcome(us, code), outcome(them, code), code, 20)


def test_the_same_pairs_are_registered() -> None:
    from torch.distributions.kl import _KL_REGISTRY as other

    from gpugrad.distributions.kl import _KL_REGISTRY as mine

    def names(registry: Any) -> Any:
        return {(p.__name__, q.__name__) for p, q in registry}
    assert names(mine) == names(other)


# Transforms and constraints ----------------------------------------------------------------------

TRANSFORMS = [  # a transform, and an x of its domain
    ("D.ExpTransform()", "t.tensor([-1., 2.])"), ("D.AbsTransform()", "t.tensor([-1., 2.])"),
    ("D.AffineTransform(1., -2.)", "t.tensor([-1., 2.])"),
    ("D.AffineTransform(t.tensor([1., 2.]), t.tensor([3., -1.]), 1)", "t.tensor([[-1., 2.]])"),
    ("D.AffineTransform(0, t.tensor([[3.], [-1.]]))", "t.tensor([-1., 2.])"),
    ("D.PowerTransform(t.tensor(2.))", "t.tensor([.5, 2.])"),
    ("D.PowerTransform(-1.5)", "t.tensor([.5, 2.])"),
    ("D.SigmoidTransform()", "t.tensor([-100., .5, 2., 100.])"),
    ("D.TanhTransform()", "t.tensor([-3., .5, 2.])"),
    ("D.SoftplusTransform()", "t.tensor([-3., .5, 2.])"),
    ("D.SoftmaxTransform()", "t.tensor([[-3., .5, 2.]])"),
    ("D.StickBreakingTransform()", "t.tensor([[-3., .5, 2.]])"),
    ("D.ReshapeTransform((2, 2), (4,))", "t.arange(8.).reshape(2, 2, 2)"),
    ("D.CorrCholeskyTransform()", "t.tensor([[-1., .5, 2., 1., 0., .3]])"),
    ("D.LowerCholeskyTransform()", "t.tensor([[-1., .5], [2., 1.]])"),
    ("D.PositiveDefiniteTransform()", "t.tensor([[-1., .5], [2., 1.]])"),
    ("D.CumulativeDistributionTransform(D.Normal(1., 2.))", "t.tensor([-1., .5])"),
    ("D.IndependentTransform(D.ExpTransform(), 1)", "t.tensor([[-1., .5]])"),
    ("D.ComposeTransform([D.ExpTransform(), D.AffineTransform(1., 2.)])", "t.tensor([-1., .5])"),
    ("D.ComposeTransform([D.ExpTransform(), D.StickBreakingTransform()])", "t.tensor([-1., .5])"),
    ("D.ComposeTransform([D.StickBreakingTransform(), D.ExpTransform()])", "t.tensor([-1., .5])"),
    ("D.CatTransform([D.ExpTransform(), D.TanhTransform()], 0, [2, 1])", "t.tensor([-1., .5, 1.])"),
    ("D.CatTransform([D.ExpTransform(), D.StickBreakingTransform()], -1, [1, 2])",
     "t.tensor([[-1., .5, 1.]])"),
    ("D.StackTransform([D.ExpTransform(), D.TanhTransform()], 1)", "t.tensor([[-1., .5]])"),
    ("D.identity_transform", "t.tensor([1., 2.])"),
    ("D.TanhTransform(cache_size=1)", "t.tensor([-30., 30.])"),
    ("D.ExpTransform().inv", "t.tensor([1., 2.])"),
]


@pytest.mark.parametrize(("line", "x"), TRANSFORMS)
def test_transforms(line: str, x: str) -> None:
    us, them = both()
    known = [{"f": lib.make(line), "x": lib.run(x)} for lib in (us, them)]
    for code in ("f(x)", "f.inv(f(x))", "f.log_abs_det_jacobian(x, f(x))", "f.sign", "f.bijective",
                 "f.event_dim", "f.domain.event_dim", "f.codomain.event_dim", "repr(f)",
                 "repr(f.inv)", "repr(f.domain)", "repr(f.codomain)", "f.forward_shape(x.shape)",
                 "f.inverse_shape(f(x).shape)", "f.inv.inv is f", "f == f", f"f == {line}",
                 "f != D.AffineTransform(0., 1.)", "f.with_cache(1)._cache_size",
                 "repr(f.with_cache(1))", "f.inv.log_abs_det_jacobian(f(x), x)", "f.inv.sign",
                 "f.codomain.check(f(x))", "f(t.tensor(1.))", "f.forward_shape(())",
                 "f.forward_shape((5, 5))", "f.inverse_shape((2, 5))"):
        same(outcome(us, code, **known[0]), outcome(them, code, **known[1]), code, 5)


CONSTRAINTS = """
C.boolean C.one_hot C.nonnegative_integer C.positive_integer C.integer_interval(-1,2) C.real
C.real_vector C.positive C.nonnegative C.greater_than(-1.) C.greater_than_eq(t.tensor(1.))
C.less_than(1) C.multinomial(3) C.unit_interval C.interval(-1,1.) C.half_open_interval(0.,1.)
C.simplex C.lower_triangular C.lower_cholesky C.corr_cholesky C.square C.symmetric
C.positive_semidefinite C.positive_definite C.independent(C.positive,2) C.dependent
C.dependent(is_discrete=True,event_dim=1) C.cat([C.positive,C.real],0,[1,1])
C.stack([C.positive,C.simplex],-2) C.stack([C.positive,C.real],0)
C.MixtureSameFamilyConstraint(C.positive) C.independent(C.real,-1) C.independent(3,1)
C.cat([1]) C.cat([C.real],0,[1,2]) C._IntegerLessThan(2)
""".split()
VALUES = ["t.tensor([[1., 0.], [0., 1.]])", "t.tensor([[2., 1.], [1., .5]])", "t.tensor([.5, .5])",
          "t.tensor([[1., 0.], [.6, .8]])", "t.tensor(float('nan'))", "t.tensor([3, -1])",
          "t.eye(3)[:2]", "t.tensor([[[2., 1.], [1., 5.]], [[1., 2.], [2., 1.]]])"]


@pytest.mark.parametrize("line", CONSTRAINTS)
def test_constraints(line: str) -> None:
    us, them = both()
    names = [{"C": importlib.import_module(f"{name}.distributions.constraints")}
             for name in ("gpugrad", "torch")]
    questions = ["repr(c)", "c.event_dim", "c.is_discrete", "C.is_dependent(c)",
                 *[f"c.check({v})" for v in VALUES], "repr(D.transform_to(c))",
                 "repr(D.biject_to(c))", "D.transform_to(c)(t.full((3, 3), .3))",
                 "D.biject_to(c)(t.full((3,), .3))"]
    for question in questions:
        # the lines of the constraint itself may be errors too
        code = question.replace("c.", f"({line}).").replace("(c)", f"({line})")
        same(outcome(us, code, **names[0]), outcome(them, code, **names[1]), code, 5)


# Errors, names, subclasses -----------------------------------------------------------------------

WRONG = """
D.Normal(0., -1.)
D.Normal(t.tensor([0., float('nan')]), 1.)
D.Normal('a', 1.)
D.Normal(t.zeros(2), t.ones(3))
D.Normal(0., 1.).log_prob(3)
D.Normal(t.zeros(2), 1.).log_prob(t.zeros(3))
D.Normal(0., 1.).log_prob(t.tensor(float('nan')))
D.Normal(0., -1., validate_args=False).scale
D.Bernoulli()
D.Bernoulli(.5, .5)
D.Bernoulli(1.5)
D.Bernoulli(.5).log_prob(t.tensor(.5))
D.Bernoulli(.5).rsample()
D.Bernoulli(.5).cdf(t.tensor(1.))
D.Beta(-1., 1.)
D.Beta(t.ones(2), 0)
D.Binomial(-1, t.tensor(.5))
D.Binomial(3, t.tensor(.5)).log_prob(t.tensor(4.))
D.Binomial(t.tensor([3., 4.]), t.tensor(.5)).entropy()
D.Binomial(t.tensor([3., 4.]), t.tensor(.5)).enumerate_support()
D.Categorical(t.tensor(.5))
D.Categorical(logits=t.tensor(.5))
D.Categorical(t.tensor([-1., 2.]))
D.Categorical(t.ones(3)).log_prob(t.tensor(3))
D.Categorical(t.ones(3)).log_prob(t.tensor(1.5))
D.Categorical()
D.Chi2(t.tensor(-1.))
D.ContinuousBernoulli(2., validate_args=True)
D.Dirichlet(t.tensor(1.))
D.Dirichlet(t.tensor([1., 0.]))
D.Dirichlet(t.ones(2)).log_prob(t.tensor([.5, .6]))
D.Dirichlet(t.ones(2)).log_prob(t.tensor([.5, .5, 0.]))
D.Exponential(0.)
D.Exponential(1.).log_prob(t.tensor(-1.))
D.Gamma(1., 0.)
D.Geometric(0.)
D.Geometric(t.tensor([.5, 0.]))
D.Geometric(1.5)
D.HalfNormal(-1.)
D.HalfNormal(1.).log_prob(t.tensor(-1.))
D.Independent(D.Normal(0., 1.), 1)
D.Independent(D.Bernoulli(t.ones(2) / 2), 1).enumerate_support()
D.LKJCholesky(1)
D.LKJCholesky(2, -1.)
D.LowRankMultivariateNormal(t.tensor(1.), t.ones(1, 1), t.ones(1))
D.LowRankMultivariateNormal(t.ones(2), t.ones(1), t.ones(2))
D.LowRankMultivariateNormal(t.ones(2), t.ones(3, 1), t.ones(2))
D.LowRankMultivariateNormal(t.ones(2), t.ones(2, 1), t.ones(3))
D.LowRankMultivariateNormal(t.ones(3, 2), t.ones(2, 2, 1), t.ones(2))
D.MixtureSameFamily(D.Normal(0., 1.), D.Normal(t.zeros(2), 1.))
D.MixtureSameFamily(D.Categorical(t.ones(2)), 3)
D.MixtureSameFamily(D.Categorical(t.ones(2)), D.Normal(t.zeros(3), 1.))
D.MixtureSameFamily(D.Categorical(t.ones(4, 2)), D.Normal(t.zeros(3, 2), 1.))
D.Multinomial(t.tensor(3), t.ones(2))
D.Multinomial(3, t.ones(2)).log_prob(t.tensor([2., 2.]))
D.MultivariateNormal(t.tensor(1.), t.eye(1))
D.MultivariateNormal(t.zeros(2))
D.MultivariateNormal(t.zeros(2), t.eye(2), t.eye(2))
D.MultivariateNormal(t.zeros(2), t.ones(2))
D.MultivariateNormal(t.zeros(2), precision_matrix=t.ones(2))
D.MultivariateNormal(t.zeros(2), scale_tril=t.ones(2))
D.MultivariateNormal(t.zeros(2), t.ones(2, 2))
D.MultivariateNormal(t.zeros(2), t.tensor([[1., 2.], [0., 1.]]))
D.MultivariateNormal(t.zeros(2), scale_tril=t.tensor([[1., 2.], [0., 1.]]))
D.NegativeBinomial(-1, t.tensor(.5))
D.OneHotCategorical(t.ones(2)).log_prob(t.tensor([1., 1.]))
D.Pareto(1., 2.).log_prob(t.tensor(.5))
D.Poisson(-1.)
D.Poisson(1.).log_prob(t.tensor(.5))
D.TransformedDistribution(D.Normal(0., 1.), 3)
D.TransformedDistribution(D.Normal(0., 1.), [3])
D.TransformedDistribution(D.Normal(0., 1.), D.StickBreakingTransform())
D.TransformedDistribution(D.Normal(0., 1.), D.AbsTransform()).log_prob(t.tensor(-1.))
D.Uniform(1., 0.)
D.Uniform(0., 1.).log_prob(t.tensor(2.))
D.VonMises(0., -1.)
D.Wishart(t.tensor(1.), t.eye(2))
D.Wishart(t.tensor(3.))
D.Wishart(t.tensor(3.), t.ones(2))
D.Wishart(t.tensor(3.), t.tensor([[1., 2.], [2., 1.]]))
D.Distribution.set_default_validate_args(3)
D.Distribution().mean
D.Distribution(validate_args=False).expand((2,))
D.Distribution(validate_args=False).mode
D.kl_divergence(D.Normal(0., 1.), D.Cauchy(0., 1.))
D.kl_divergence(D.Normal(0., 1.), D.Poisson(1.))
D.kl_divergence(D.Binomial(3, t.tensor(.5)), D.Binomial(4, t.tensor(.5)))
D.ExpTransform(cache_size=2)
D.ReshapeTransform((2,), (3,))
D.CatTransform([3])
D.CatTransform([D.ExpTransform()], 0, [1, 2])
D.CatTransform([D.ExpTransform()], 0, [2])(t.zeros(3))
D.CatTransform([D.ExpTransform()], 1, [2])(t.zeros(3))
D.StackTransform([D.ExpTransform()], 0)(t.zeros(3))
D.transform_to.register(3, lambda c: c)
D.transform_to(3)
""".strip().splitlines()


@pytest.mark.parametrize("line", WRONG)
def test_errors(line: str) -> None:
    a, b = (outcome(library, line) for library in both())
    same(a, b, line)
    if isinstance(b, ValueError | AssertionError | NotImplementedError) and str(b) \
            and "  " not in str(b):              # the spaces of PyTorch's source
        assert str(a).replace("gpugrad", "torch") == str(b)


def test_names_and_import_paths() -> None:
    assert set(ours.__all__) == set(theirs.__all__)
    for info in pkgutil.iter_modules(theirs.__path__):
        module = importlib.import_module(f"torch.distributions.{info.name}")
        mine = importlib.import_module(f"gpugrad.distributions.{info.name}")
        missing = [n for n in getattr(module, "__all__", []) if not hasattr(mine, n)]
        assert not missing, (info.name, missing)


def test_subclasses_and_caches() -> None:
    code = """
class Mine(D.Normal):
    def __init__(self, x):
        super().__init__(x, 1.)
class Good(Mine):
    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Good, _instance)
        return super().expand(batch_shape, new)
class Plain(D.Normal):
    pass
results = [outcome(lambda: Mine(t.zeros(2)).expand((3, 2))),
           type(Good(t.zeros(2)).expand((3, 2), Good.__new__(Good))).__name__,
           repr(Plain(0., 1.).expand((2,))),
           D.kl_divergence(Plain(0., 1.), Mine(t.ones(2))).tolist()]
f = D.TanhTransform(cache_size=1)
x = t.tensor([50.])
results += [f.inv(f(x)) is x, f.inv.inv is f]
"""
    found = []
    for library in (gpugrad, torch):
        def catch(f: Any) -> Any:
            try:
                return f()
            except NotImplementedError as e:
                return str(e)
        names: dict[str, Any] = {"t": library, "D": library.distributions, "outcome": catch}
        exec(code, names)
        found.append(names["results"])
    assert found[0] == found[1]
