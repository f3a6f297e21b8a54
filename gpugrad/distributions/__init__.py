"""gpugrad.distributions: probability distributions, under the names of torch.distributions."""
from __future__ import annotations

from gpugrad.distributions import kl_mixed as _kl_mixed  # noqa: F401
from gpugrad.distributions import kl_pairs as _kl_pairs  # noqa: F401
from gpugrad.distributions import transforms as transforms
from gpugrad.distributions.bernoulli import Bernoulli
from gpugrad.distributions.beta import Beta
from gpugrad.distributions.binomial import Binomial
from gpugrad.distributions.categorical import Categorical
from gpugrad.distributions.cauchy import Cauchy
from gpugrad.distributions.chi2 import Chi2
from gpugrad.distributions.constraint_registry import biject_to, transform_to
from gpugrad.distributions.continuous_bernoulli import ContinuousBernoulli
from gpugrad.distributions.dirichlet import Dirichlet
from gpugrad.distributions.distribution import Distribution
from gpugrad.distributions.exp_family import ExponentialFamily
from gpugrad.distributions.exponential import Exponential
from gpugrad.distributions.fishersnedecor import FisherSnedecor
from gpugrad.distributions.gamma import Gamma
from gpugrad.distributions.generalized_pareto import GeneralizedPareto
from gpugrad.distributions.geometric import Geometric
from gpugrad.distributions.gumbel import Gumbel
from gpugrad.distributions.half_cauchy import HalfCauchy
from gpugrad.distributions.half_normal import HalfNormal
from gpugrad.distributions.independent import Independent
from gpugrad.distributions.inverse_gamma import InverseGamma
from gpugrad.distributions.kl import kl_divergence, register_kl
from gpugrad.distributions.kumaraswamy import Kumaraswamy
from gpugrad.distributions.laplace import Laplace
from gpugrad.distributions.lkj_cholesky import LKJCholesky
from gpugrad.distributions.log_normal import LogNormal
from gpugrad.distributions.logistic_normal import LogisticNormal
from gpugrad.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from gpugrad.distributions.mixture_same_family import MixtureSameFamily
from gpugrad.distributions.multinomial import Multinomial
from gpugrad.distributions.multivariate_normal import MultivariateNormal
from gpugrad.distributions.negative_binomial import NegativeBinomial
from gpugrad.distributions.normal import Normal
from gpugrad.distributions.one_hot_categorical import (
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from gpugrad.distributions.pareto import Pareto
from gpugrad.distributions.poisson import Poisson
from gpugrad.distributions.relaxed_bernoulli import RelaxedBernoulli
from gpugrad.distributions.relaxed_categorical import RelaxedOneHotCategorical
from gpugrad.distributions.studentT import StudentT
from gpugrad.distributions.transformed_distribution import TransformedDistribution
from gpugrad.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from gpugrad.distributions.uniform import Uniform
from gpugrad.distributions.von_mises import VonMises
from gpugrad.distributions.weibull import Weibull
from gpugrad.distributions.wishart import Wishart

__all__ = [
    "AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "CatTransform",
    "Categorical", "Cauchy", "Chi2", "ComposeTransform", "ContinuousBernoulli",
    "CorrCholeskyTransform", "CumulativeDistributionTransform", "Dirichlet", "Distribution",
    "ExpTransform", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma",
    "GeneralizedPareto", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent",
    "IndependentTransform", "InverseGamma", "Kumaraswamy", "LKJCholesky", "Laplace", "LogNormal",
    "LogisticNormal", "LowRankMultivariateNormal", "LowerCholeskyTransform", "MixtureSameFamily",
    "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "PositiveDefiniteTransform",
    "PowerTransform", "RelaxedBernoulli", "RelaxedOneHotCategorical", "ReshapeTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform",
    "StickBreakingTransform", "StudentT", "TanhTransform", "Transform", "TransformedDistribution",
    "Uniform", "VonMises", "Weibull", "Wishart", "biject_to", "identity_transform",
    "kl_divergence", "register_kl", "transform_to",
]
