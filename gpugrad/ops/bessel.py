"""Bessel functions J and Y of the orders 0 and 1, the spherical one, and Airy's function."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.series import chebyshev, in_double, polynomial

# On [0, 8], in x * x / 32 - 1: J0(x), J1(x) / x, and what is left of Y0(x) and of Y1(x) / x when
# (2 / pi) log(x / 2) J(x) is taken away, and -2 / (pi x) from Y1.
J0_NEAR = (
    0.15772797147489012, -0.008723442352852221, 0.2651786132033368, -0.37009499387264977,
    0.15806710233209725, -0.034893769411408884, 0.004819180069467605, -0.00046062616620627504,
    3.246032882100508e-05, -1.7619469077621507e-06, 7.608163592418782e-08, -2.679253530557673e-09,
    7.848696314479465e-11, -1.9438346867370164e-12, 4.125320595634374e-14, -7.588508125447546e-16,
)

J1_NEAR = (
    0.08104484632565812, -0.1489751450676521, 0.1609992623572097, -0.08268049176681791,
    0.022213639654966037, -0.003646940600769276, 0.0004050337728354822, -3.255554866857259e-05,
    1.9858774049915165e-06, -9.521984756750436e-08, 3.687133759097148e-09, -1.178026622695885e-10,
    3.160154580348003e-12, -7.221755239651773e-14, 1.4232144003513942e-15,
    -2.4441972916190464e-17,
)

Y0_NEAR = (
    0.03645469809116044, -0.2783237094075825, 0.2960499990207148, 0.09825508408187864,
    -0.10755155280627783, 0.031799074084414514, -0.005161397105810715, 0.0005498525320039012,
    -4.1996983149420134e-05, 2.4290361107923793e-06, -1.1049969793472957e-07,
    4.06651736597911e-09, -1.2374148898289854e-10, 3.1685725528945945e-12, -6.926956032431002e-14,
    1.3086308625876684e-15, -2.1586201986914482e-17,
)

Y1_NEAR = (
    0.038300769852423776, -0.08182561412732826, -0.0248677076121964, 0.047967452752746984,
    -0.01852588451089802, 0.003680607687823511, -0.0004627254060293369, 4.06940026958087e-05,
    -2.6617695125295625e-06, 1.350602691325434e-07, -5.483524110336276e-09,
    1.8245086841229007e-10, -5.070666636591129e-12, 1.1956162517587948e-13,
    -2.423162442712473e-15, 4.268126513072962e-17,
)

# From 8 on, in 128 / (x * x) - 1: P and x Q of Hankel's expansions,
# J + iY = sqrt(2 / (pi x)) (P + iQ) exp(i (x - (2n + 1) pi / 4)).
P0 = (
    0.9994603493475187, -0.0005365220468132117, 3.0751847875194745e-06, -5.1705945376060975e-08,
    1.6306464635151382e-09, -7.86409137723707e-11, 5.168262387349193e-12, -4.3045788699253914e-13,
    4.3265957431549404e-14, -5.069034095935236e-15, 6.748072215733873e-16,
    -1.0011513723467786e-16, 1.6305919233744186e-17,
)

Q0 = (
    -0.12444683684269607, 0.0005470815954089319, -5.9315987288485175e-06, 1.4377965798375193e-07,
    -5.817532749493056e-09, 3.376097523734991e-10, -2.565397936797308e-11, 2.404916100281365e-12,
    -2.6690625482579414e-13, 3.4041800321963686e-14, -4.87994410531204e-15, 7.729703176242605e-16,
    -1.3348852171502517e-16, 2.4865952389390515e-17,
)

P1 = (
    1.0009030408600137, 0.0008989898330859408, -3.987284300488908e-06, 6.177633960644299e-08,
    -1.8718907491063067e-09, 8.816898659582339e-11, -5.704863640395645e-12, 4.699195515230542e-13,
    -4.6842237839904895e-14, 5.452674896044717e-15, -7.221180842274018e-16,
    1.0667689114335412e-16, -1.7312313216116335e-17,
)

Q1 = (
    0.3742222965562826, -0.0007702178839325664, 7.3108922063643636e-06, -1.676782510726674e-07,
    6.583354662120443e-09, -3.749090950541556e-10, 2.8121750359748866e-11, -2.61145253946232e-12,
    2.8774212663332235e-13, -3.649001916061838e-14, 5.206626366226707e-15, -8.215318025458595e-16,
    1.4141084390211833e-16, -2.626761589838529e-17,
)

# Ai(x) in (x + 1) / 2.5 on [-3.5, 1.5]. Beyond, with z = 2/3 |x| ** 1.5: above it
# Ai(x) 2 sqrt(pi) x ** 0.25 exp(z) in 2 MOST / z - 1; below it, in 2 (LEAST / z) ** 2 - 1, P and
# z Q of Ai(x) = (sin(z + pi / 4) P - cos(z + pi / 4) Q) / (sqrt(pi) |x| ** 0.25).
AIRY_NEAR = (
    0.07215904974264523, 0.2644499753828674, -0.33875352077134163, -0.0016771230243147362,
    0.12148464101437972, -0.04701971760374646, -0.005195399786606718, 0.008214530963492922,
    -0.001802527552953992, -0.0002973355479796079, 0.00022271556131737158, -3.182762581423139e-05,
    -6.832569744378756e-06, 3.2459285690591923e-06, -3.174836322352784e-07,
    -8.658953163883579e-08, 2.9487021995409973e-08, -1.988053711350446e-09, -6.99815464758313e-10,
    1.827305860312348e-10, -8.237899283506327e-12, -3.931054890740182e-12, 8.2100452023434e-13,
    -2.2643078495608752e-14, -1.6257691216362462e-14, 2.7946199345973473e-15,
    -3.676413427081629e-17, -5.160041459123717e-17, 7.450032776768194e-18,
)

AIRY_FAR = (
    0.9775538508558448, -0.020862474405707418, 0.0014022222549226902, -0.00015445535442993937,
    2.223027857676703e-05, -3.814039707573835e-06, 7.432694286651159e-07, -1.5978444018868888e-07,
    3.71670649926353e-08, -9.228212412678121e-09, 2.4214253709501665e-09, -6.663623292302786e-10,
    1.9118037464979788e-10, -5.6910431087836814e-11, 1.7508908330772233e-11,
    -5.549279906384467e-12, 1.8069244818591271e-12, -6.030606978495685e-13, 2.05888857337351e-13,
    -7.177997941402771e-14, 2.551612130924603e-14, -9.23607275842995e-15, 3.400224741055721e-15,
    -1.271795632653484e-15, 4.828427626993385e-16, -1.8591002635202005e-16, 7.253937490810165e-17,
    -2.8662533411515464e-17,
)

AIRY_P = (
    0.9990757846029962, -0.0009088014680765195, 1.4722440996654612e-05, -6.384761003370134e-07,
    4.7285219042111087e-08, -4.9396307409457675e-09, 6.575510389677463e-10,
    -1.0494407172608755e-10, 1.9300240645058445e-11, -3.979878159039664e-12,
    9.022234015857857e-13, -2.2156166281663235e-13, 5.82757882197514e-14, -1.6271113505612838e-14,
    4.788139655894569e-15, -1.4763567887107358e-15, 4.746576111490689e-16, -1.584755477354815e-16,
    5.475609369126e-17, -1.952096957413354e-17,
)

AIRY_Q = (
    0.06854151342122303, -0.0008750054630342732, 2.6170175974312327e-05, -1.587116306986846e-06,
    1.4686044837293669e-07, -1.806544739578133e-08, 2.7322681166524754e-09,
    -4.838887553801798e-10, 9.712859905829415e-11, -2.1594896512752106e-11, 5.229304281703566e-12,
    -1.3617226632242387e-12, 3.775562488834525e-13, -1.1058681937524867e-13,
    3.400054673704489e-14, -1.091573640207876e-14, 3.6434016966827575e-15,
    -1.2596409137901541e-15, 4.496834252841417e-16, -1.653150657076422e-16, 6.243724914827762e-17,
    -2.417738826609761e-17, 9.581304665629604e-18,
)
# J0(x) and J1(x) / x by powers of -x * x / 4.
J0_POWERS = [1 / math.factorial(k) ** 2 for k in range(9)]
J1_POWERS = [0.5 / (math.factorial(k) * math.factorial(k + 1)) for k in range(9)]
MOST, LEAST = 1.224744871391589, 4.365266951236265


def waves(xp: Any, x: Any, order: int) -> Any:
    """(J, Y) for x >= 8."""
    t = 128 / (x * x) - 1
    p = chebyshev(P1 if order else P0, t)
    q = chebyshev(Q1 if order else Q0, t) / x
    size = 1 / xp.sqrt(math.pi * x)              # with sin and cos of x +- pi / 4, times sqrt(2)
    sine, cosine = xp.sin(x), xp.cos(x)
    c, s = cosine + sine, sine - cosine          # of x - pi / 4
    if order:                                    # x - 3 pi / 4: a quarter turn less
        c, s = s, -c
    return size * (p * c - q * s), size * (p * s + q * c)


def near(xp: Any, x: Any, order: int) -> Any:
    """J for 0 <= x <= 8; below 1 by its power series."""
    square = x * x
    t = square / 32 - 1
    series = polynomial(J1_POWERS if order else J0_POWERS, -square / 4)
    out = xp.where(x < 1, series, chebyshev(J1_NEAR if order else J0_NEAR, t))
    return x * out if order else out


def j_of(order: int) -> Any:
    def j(xp: Any, x: Any) -> Any:
        size = xp.absolute(x)
        inner = near(xp, xp.minimum(size, 8.0), order)
        outer = waves(xp, xp.maximum(size, 8.0), order)[0]
        out = xp.where(size <= 8, inner, xp.where(size == math.inf, 0.0, outer))
        return xp.where(x < 0, -out, out) if order else out
    j.__name__ = f"bessel_j{order}"
    return j


def y_of(order: int) -> Any:
    def y(xp: Any, x: Any) -> Any:
        small = xp.minimum(x, 8.0)
        inner = 2 / math.pi * xp.log(0.5 * small) * near(xp, small, order)
        t = small * small / 32 - 1
        if order:
            inner = inner + (small * chebyshev(Y1_NEAR, t) - 2 / math.pi / small)
        else:
            inner = inner + chebyshev(Y0_NEAR, t)
        outer = waves(xp, xp.maximum(x, 8.0), order)[1]
        out = xp.where(x <= 8, inner, xp.where(x == math.inf, 0.0, outer))
        return xp.where(x == 0, -math.inf, xp.where(x < 0, math.nan, out))
    y.__name__ = f"bessel_y{order}"
    return y


J0, J1, Y0, Y1 = j_of(0), j_of(1), y_of(0), y_of(1)


def airy_ai_of(xp: Any, x: Any) -> Any:
    inner = chebyshev(AIRY_NEAR, (xp.minimum(xp.maximum(x, -3.5), 1.5) + 1) / 2.5)
    large = xp.minimum(xp.maximum(x, 1.5), 1e3)
    z = large * xp.sqrt(large) * 2 / 3
    root = xp.sqrt(math.pi * xp.sqrt(large))
    above = 0.5 * chebyshev(AIRY_FAR, 2 * MOST / z - 1) * xp.exp(-z) / root
    large = xp.maximum(-x, 3.5)
    z = large * xp.sqrt(large) * 2 / 3
    t = 2 * (LEAST / z) ** 2 - 1
    p, q = chebyshev(AIRY_P, t), chebyshev(AIRY_Q, t) / z
    sine, cosine = xp.sin(z), xp.cos(z)
    root = xp.sqrt(2 * math.pi * xp.sqrt(large))
    below = ((sine + cosine) * p - (cosine - sine) * q) / root
    return xp.where(x > 1.5, above, xp.where(x < -3.5, below, inner))


def spherical_bessel_j0_of(xp: Any, x: Any) -> Any:
    zero = x == 0
    out = xp.where(zero, 1.0, xp.sin(x) / xp.where(zero, 1.0, x))
    return xp.where(xp.absolute(x) == math.inf, 0.0, out)


@op(promote="float")
class bessel_j0:
    """The Bessel function of the first kind, of order 0."""
    def forward(be, x):
        return in_double(be, J0, x)


@op(promote="float")
class bessel_j1:
    """The Bessel function of the first kind, of order 1."""
    def forward(be, x):
        return in_double(be, J1, x)


@op(promote="float")
class bessel_y0:
    """The Bessel function of the second kind, of order 0."""
    def forward(be, x):
        return in_double(be, Y0, x)


@op(promote="float")
class bessel_y1:
    """The Bessel function of the second kind, of order 1."""
    def forward(be, x):
        return in_double(be, Y1, x)


@op(promote="float")
class spherical_bessel_j0:
    """sin(x) / x"""
    def forward(be, x):
        return in_double(be, spherical_bessel_j0_of, x)


@op(promote="float")
class airy_ai:
    """Airy's function Ai."""
    def forward(be, x):
        return in_double(be, airy_ai_of, x)
