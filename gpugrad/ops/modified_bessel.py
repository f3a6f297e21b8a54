"""Modified Bessel functions: I and K of the orders 0 and 1, plain and scaled."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.series import chebyshev, in_double

# exp(-x) I0(x) and exp(-x) I1(x) / x in x / 4 - 1 on [0, 8]; times sqrt(x), in 16 / x - 1 beyond.
I0_NEAR = (
    0.33839763720473803, -0.3046826723431984, 0.17162090152220877, -0.09490109704804764,
    0.04930528423967071, -0.02373741480589947, 0.010546460394594998, -0.004324309995050576,
    0.0016394756169413357, -0.0005763755745385824, 0.00018850288509584165, -5.754195010082104e-05,
    1.6448448070728896e-05, -4.4167383584587505e-06, 1.1173875391201037e-06,
    -2.670793853940612e-07, 6.046995022541919e-08, -1.300025009986248e-08, 2.6598237246823866e-09,
    -5.189795601635263e-10, 9.675809035373237e-11, -1.726826291441556e-11, 2.95505266312964e-12,
    -4.856446783111929e-13, 7.676185498604936e-14, -1.1685332877993451e-14, 1.715391285555133e-15,
    -2.431279846547955e-16, 3.3307945188222384e-17, -4.4153416464793395e-18,
)

I0_FAR = (
    0.4022452055070544, 0.0033691164782556943, 6.889758346916825e-05, 2.8913705208347567e-06,
    2.0489185894690638e-07, 2.266668990498178e-08, 3.3962320257083865e-09, 4.94060238822497e-10,
    1.1889147107846439e-11, -3.1499165279632416e-11, -1.3215811840447713e-11,
    -1.7941785315068062e-12, 7.180124451383666e-13, 3.8527783827421426e-13, 1.54008621752141e-14,
    -4.150569347287222e-14, -9.554846698828307e-15, 3.8116806693526224e-15,
    1.7725601330565263e-15, -3.425485619677219e-16, -2.8276239805165836e-16,
    3.461222867697461e-17, 4.46562142029676e-17, -4.830504485944182e-18,
)

I1_NEAR = (
    0.12629359322181682, -0.17641651835783406, 0.1026436586898471, -0.05294598120809499,
    0.024726449030626516, -0.010564084894626197, 0.004156422944312888, -0.0015135724506312532,
    0.0005122859561685758, -0.00016176081582589674, 4.781565107550054e-05,
    -1.3273163656039436e-05, 3.4702513081376785e-06, -8.568720264695455e-07,
    2.0032947535521353e-07, -4.445059128796328e-08, 9.381537386495773e-09,
    -1.8872497517228294e-09, 3.625590281552117e-10, -6.663489723502027e-11,
    1.1736186298890901e-11, -1.9839743977649436e-12, 3.223793365945575e-13,
    -5.042185504727912e-14, 7.600684294735408e-15, -1.1055969477353862e-15,
    1.5536319577362005e-16, -2.111421214358166e-17, 2.7779141127610464e-18,
)

I1_FAR = (
    0.38928811750914005, -0.009761097491361469, -0.00011058893876262371, -3.882564808877691e-06,
    -2.512236237870209e-07, -2.6314688468895196e-08, -3.835380385964237e-09,
    -5.589743462196584e-10, -1.8974958123505413e-11, 3.2526035830154884e-11,
    1.4125807436613782e-11, 2.0356285441470896e-12, -7.198551776245908e-13,
    -4.0835511110921974e-13, -2.1015418427726643e-14, 4.272440016711951e-14,
    1.0420276984128802e-14, -3.8144030724370075e-15, -1.8803547755107825e-15,
    3.3082023109209285e-16, 2.96262899764595e-16, -3.209525921993424e-17, -4.6503053684893586e-17,
    4.414348323071708e-18,
)

# K0(x) + log(x / 2) I0(x) and x (K1(x) - log(x / 2) I1(x)) in x * x / 2 - 1 on [0, 2].
K0_NEAR = (
    -0.2676636966169514, 0.3442898999246285, 0.0359799365153615, 0.001264615411446926,
    2.286212103119452e-05, 2.5347910790261494e-07, 1.904516377220209e-09, 1.0349695257633625e-11,
    4.2598161427910826e-14, 1.3744654358807508e-16,
)

K1_NEAR = (
    0.7626501136694739, -0.3531559607765449, -0.12261118082265715, -0.006975723859639864,
    -0.0001730288957513052, -2.4334061415659684e-06, -2.213387630734726e-08,
    -1.4114883926335278e-10, -6.666901694199329e-13, -2.427449850519366e-15,
)

# exp(x) sqrt(x) K(x) in 4 / x - 1 from 2 on.
K0_FAR = (
    1.2201515410329777, -0.0314481013119645, 0.0015698838857300533, -0.00012849549581627802,
    1.39498137188765e-05, -1.8317555227191195e-06, 2.766813639445015e-07, -4.660489897687948e-08,
    8.574034017414225e-09, -1.6975345093890614e-09, 3.5773972814003283e-10,
    -7.957489244477396e-11, 1.8559491149549264e-11, -4.514597883374519e-12,
    1.1403405882073441e-12, -2.9800969231481784e-13, 8.032890775068375e-14,
    -2.2275133267462965e-14, 6.340076476276646e-15, -1.848593377920907e-15,
    5.5120559994043335e-16, -1.6782311257549006e-16, 5.2103917776435543e-17,
)

K1_FAR = (
    1.3603130952422213, 0.10392373657681724, -0.002857816859622779, 0.00019521551847135162,
    -1.936197974166083e-05, 2.406484947837217e-06, -3.5019606030878126e-07,
    5.7410841254500495e-08, -1.0345762465678097e-08, 2.0150497551970347e-09,
    -4.1903547593419254e-10, 9.218315187605315e-11, -2.129967838427791e-11, 5.139639673482343e-12,
    -1.2891739609498229e-12, 3.348419666052243e-13, -8.976705182010146e-14,
    2.4771544242195988e-14, -7.0198370892147685e-15, 2.038703166239861e-15,
    -6.057047270643018e-16, 1.8380935752430455e-16, -5.689462849193648e-17,
)


def scaled_i(xp: Any, x: Any, near: Any, far: Any) -> Any:
    """exp(-x) I0(x), or exp(-x) I1(x) / x below 8 and exp(-x) I1(x) above, for x >= 0."""
    inner = chebyshev(near, xp.minimum(x, 8.0) / 4 - 1)
    large = xp.maximum(x, 8.0)
    return xp.where(x <= 8, inner, chebyshev(far, 16 / large - 1) / xp.sqrt(large))


def i0e_of(xp: Any, x: Any) -> Any:
    return scaled_i(xp, xp.absolute(x), I0_NEAR, I0_FAR)


def i1e_of(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    return scaled_i(xp, size, I1_NEAR, I1_FAR) * xp.where(size <= 8, x, xp.sign(x))


def grown(xp: Any, scaled: Any, x: Any) -> Any:
    """scaled * exp(|x|), in two steps since exp(|x|) may overflow first."""
    half = xp.exp(0.5 * xp.minimum(xp.absolute(x), 1500.0))
    return scaled * half * half


def i0_of(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    return xp.where(size == math.inf, size, grown(xp, i0e_of(xp, x), x))


def i1_of(xp: Any, x: Any) -> Any:
    return xp.where(xp.absolute(x) == math.inf, x, grown(xp, i1e_of(xp, x), x))


def k_near(xp: Any, x: Any, order: int) -> Any:
    """K0(x) or K1(x) for 0 < x <= 2."""
    x = xp.minimum(x, 2.0)
    t, logarithm = 0.5 * x * x - 1, xp.log(0.5 * x)
    if order:
        return chebyshev(K1_NEAR, t) / x + logarithm * i1_of(xp, x)
    return chebyshev(K0_NEAR, t) - logarithm * i0_of(xp, x)


def k_far(xp: Any, x: Any, order: int) -> Any:
    """exp(x) K(x) for x >= 2."""
    x = xp.maximum(x, 2.0)
    return chebyshev(K1_FAR if order else K0_FAR, 4 / x - 1) / xp.sqrt(x)


def k_of(order: int, scaled: bool) -> Any:
    """K0 or K1, times exp(x) if scaled, as a function of arrays."""
    def k(xp: Any, x: Any) -> Any:
        near, far = k_near(xp, x, order), k_far(xp, x, order)
        if scaled:
            near = near * xp.exp(xp.minimum(x, 2.0))
        else:
            far = far * xp.exp(-x)
        out = xp.where(x <= 2, near, far)
        return xp.where(x == 0, math.inf, xp.where(x < 0, math.nan, out))
    k.__name__ = f"{'scaled_' * scaled}modified_bessel_k{order}"
    return k


K0, K1, K0E, K1E = k_of(0, False), k_of(1, False), k_of(0, True), k_of(1, True)


@op("I0Backward0", promote="float", inplace=True)
class i0:
    """The modified Bessel function of the first kind, of order 0."""
    def forward(be, x):
        return in_double(be, i0_of, x)
    def grad_x(o, g, x):
        return o.mul(g, o.i1(x))


@op("SpecialI0EBackward0", promote="float")
class i0e:
    """exp(-|x|) i0(x)"""
    def forward(be, x):
        return in_double(be, i0e_of, x)
    def grad_x(o, g, x, result):
        return o.mul(g, o.sub(o.i1e(x), o.mul(o.sign(x), result)))


@op("SpecialI1Backward0", promote="float")
class i1:
    """The modified Bessel function of the first kind, of order 1."""
    def forward(be, x):
        return in_double(be, i1_of, x)
    def grad_x(o, g, x, result):
        return o.mul(g, o.sub(o.i0(x), o.ratio_at_zero(result, x)))


@op("SpecialI1EBackward0", promote="float")
class i1e:
    """exp(-|x|) i1(x)"""
    def forward(be, x):
        return in_double(be, i1e_of, x)
    def grad_x(o, g, x, result):
        slope = o.sub(o.i0e(x), o.ratio_at_zero(result, x))
        return o.mul(g, o.sub(slope, o.mul(o.sign(x), result)))


@op("DivBackward0", fit=True)
class ratio_at_zero:
    """y / x, and 1/2 where x is 0: what i1(x) / x tends to."""
    def forward(be, y, x):
        n = be.number
        zero = x == 0
        return be.xp.where(zero, n[0.5, x.dtype], y / be.xp.where(zero, n[1, x.dtype], x))
    def grad_y(o, g, x):
        return o.drop_where(o.div(g, x), o.eq(x, 0))
    def grad_x(o, g, x, result):
        return o.drop_where(o.neg(o.mul(g, o.div(result, x))), o.eq(x, 0))


@op(promote="float")
class modified_bessel_k0:
    """The modified Bessel function of the second kind, of order 0."""
    def forward(be, x):
        return in_double(be, K0, x)


@op(promote="float")
class modified_bessel_k1:
    """The modified Bessel function of the second kind, of order 1."""
    def forward(be, x):
        return in_double(be, K1, x)


@op(promote="float")
class scaled_modified_bessel_k0:
    """exp(x) K0(x)"""
    def forward(be, x):
        return in_double(be, K0E, x)


@op(promote="float")
class scaled_modified_bessel_k1:
    """exp(x) K1(x)"""
    def forward(be, x):
        return in_double(be, K1E, x)


@op(promote="float")
class modified_bessel_i0:
    """i0 without a gradient, as PyTorch has it."""
    def forward(be, x):
        return in_double(be, i0_of, x)


@op(promote="float")
class modified_bessel_i1:
    """i1 without a gradient, as PyTorch has it."""
    def forward(be, x):
        return in_double(be, i1_of, x)
