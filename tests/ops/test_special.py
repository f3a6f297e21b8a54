"""Special functions against exact values (computed in 40 digits), and at their edges."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import special
from gpugrad.autograd import gradcheck, gradgradcheck

NAN, INF = math.nan, math.inf

# How many units in the last place a result may be off; where a function crosses 0, as Bessel's J
# does, of its scale there.
ULPS = {"bessel_j0": 12, "bessel_j1": 12, "bessel_y0": 12, "bessel_y1": 12, "airy_ai": 100,
        "digamma": 12, "gammainc": 70, "gammaincc": 70, "polygamma": 20,
        "zeta": 40}
SCALE = {"bessel_j0": 0.1, "bessel_j1": 0.1, "bessel_y0": 0.1, "bessel_y1": 0.1, "airy_ai": 0.1}

EXACT: dict[str, list[tuple[float, float]]] = {
    "erfc": [(-3.0, 1.9999779095030015), (-0.3, 1.3286267594591274), (0.25, 0.7236736098317631),
        (0.49, 0.4883317388114769), (0.51, 0.4707563801588296), (1.5, 0.033894853524689274),
        (4.0, 1.541725790028002e-08), (10.0, 2.088487583762545e-45), (26.0,
        5.663192408856143e-296)],
    "erfcx": [(-5.0, 144009798674.66104), (-0.3, 1.4537492328427655), (0.1, 0.8964569799691267),
        (0.7, 0.525930337349441), (3.0, 0.17900115118138996), (25.0, 0.02254957243264136),
        (1000.0, 0.0005641893014533876)],
    "erfinv": [(-0.99, -1.8213863677184494), (-0.4, -0.37080715859355795), (1e-10,
        8.862269254527581e-11), (0.3, 0.2724627147267543), (0.85, 1.0179024648320276), (0.999,
        2.3267537655135246), (0.9999999999990905, 5.05125408524939)],
    "ndtr": [(-37.0, 5.725571222524577e-300), (-10.0, 7.619853024160525e-24), (-1.0,
        0.15865525393145705), (-0.2, 0.42074029056089696), (0.6, 0.7257468822499265), (3.0,
        0.9986501019683699)],
    "log_ndtr": [(-100.0, -5005.524208694205), (-5.0, -15.064998393988725), (-1.0,
        -1.8410216450092636), (-0.5, -1.1759117615936185), (0.3, -0.4814101615884812), (4.0,
        -3.167174337748927e-05)],
    "ndtri": [(1e-12, -7.034483825301132), (0.01, -2.326347874040841), (0.3,
        -0.5244005127080408), (0.499, -0.002506630899571766), (0.9, 1.2815515655446006),
        (0.9999, 3.7190164854557084)],
    "gammaln": [(1e-20, 46.051701859880914), (0.3, 1.0957979948180756), (0.999,
        0.0005780385328913802), (1.001, -0.0005763935982833062), (1.5, -0.12078223763524522),
        (1.9999, -4.227520877215346e-05), (2.001, 0.000423106734800117), (3.7,
        1.428072326665388), (9.9, 12.57717990421988), (10.1, 13.027526738633236), (150.0,
        600.0094705553274), (10000000000.0, 220258509288.81058)],
    "digamma": [(0.01, -100.56088545786868), (0.9, -0.7549269499470513), (1.46,
        -0.0015805619870834522), (1.47, 0.008066489011364869), (3.3, 1.0348224890596216), (9.99,
        2.250700372831201), (10.5, 2.3030010342976865), (1000000.0, 13.815510057964191), (-0.7,
        -2.073952793628704), (-5.3, 4.041590845410028)],
    "i0": [(0.1, 1.0025015629340956), (-3.0, 4.8807925858650245), (7.9, 389.406283282158), (8.1,
        469.5006067101215), (50.0, 2.9325537838493362e+20)],
    "i0e": [(0.1, 0.9071009257823011), (-3.0, 0.2430003541618254), (7.9, 0.14436986414104191),
        (8.1, 0.14251180948829528), (50.0, 0.05656162664745419), (1000.0,
        0.012617240455891257)],
    "i1": [(1e-08, 5e-09), (0.1, 0.050062526047092694), (-3.0, -3.9533702174026093), (7.9,
        363.8539440845084), (8.1, 439.48430891035844), (50.0, 2.903078590103557e+20)],
    "i1e": [(0.1, 0.045298446808809324), (-3.0, -0.19682671329730086), (7.9,
        0.13489649943989376), (8.1, 0.13340068832583662), (50.0, 0.0559931238928954), (1000.0,
        0.012610930256928629)],
    "bessel_j0": [(1e-09, 1.0), (0.5, 0.9384698072408129), (3.0, -0.26005195490193345), (-7.0,
        0.3000792705195556), (7.9, 0.19436184484127825), (8.1, 0.14751745404437766), (15.5,
        -0.10923065090005017), (100.0, 0.019985850304223122)],
    "bessel_j1": [(1e-09, 5e-10), (0.5, 0.2422684576748739), (3.0, 0.3390589585259365), (-6.0,
        0.27668385812756563), (7.9, 0.2191793999217512), (8.1, 0.24760776698159287), (15.5,
        0.16721318035174715), (100.0, -0.07714535201411216)],
    "bessel_y0": [(1e-09, -13.266645074938387), (0.5, -0.44451873350670656), (3.0,
        0.3768500100127904), (7.9, 0.20652094814437577), (8.1, 0.23809132870223482), (15.5,
        0.17064491122943462), (100.0, -0.07724431336508315)],
    "bessel_y1": [(1e-09, -636619772.3675814), (0.5, -1.471472392670243), (3.0,
        0.3246744247918), (7.9, -0.18172107728057313), (8.1, -0.13314879595249593), (15.5,
        0.11478614251334232), (100.0, -0.020372312002759792)],
    "modified_bessel_k0": [(1e-09, 20.839197352604824), (0.5, 0.9244190712276659), (1.9,
        0.1288459792760475), (2.1, 0.10078374088996693), (15.0, 9.819536482396435e-08), (200.0,
        1.2256819797765334e-88)],
    "modified_bessel_k1": [(1e-09, 999999999.9999999), (0.5, 1.656441120003301), (1.9,
        0.15966015303266762), (2.1, 0.12274641153350789), (15.0, 1.0141729369762092e-07),
        (200.0, 1.2287423734729859e-88)],
    "scaled_modified_bessel_k0": [(0.5, 1.5241093857739094), (1.9, 0.8614506167517558), (2.1,
        0.8230171525316621), (1500.0, 0.03235773618383394)],
    "scaled_modified_bessel_k1": [(0.5, 2.731009708211786), (1.9, 1.0674709298145701), (2.1,
        1.0023680527405792), (1500.0, 0.032368520299440394)],
    "airy_ai": [(-30.0, -0.08796818845684216), (-9.5, 0.3191032477191282), (-3.6,
        -0.33477747747482184), (-3.4, -0.40319048424589976), (-1.0, 0.5355608832923521), (0.7,
        0.18916240039815008), (1.4, 0.08203804980761069), (1.6, 0.06253690796893195), (5.0,
        0.00010834442813607442), (20.0, 1.6916728686705404e-27)],
    "entr": [(1e-300, 6.9077552789821376e-298), (0.3, 0.3611918412977808), (2.0,
        -1.3862943611198906), (10000000000.0, -230258509299.40457)],
}

PAIRS: dict[str, list[tuple[float, float, float]]] = {
    "gammainc": [(0.5, 0.1, 0.345279153981423), (0.5, 3.0, 0.9856941215645704), (1e-06, 0.5,
        0.9999994402261119), (1e-06, 4.0, 0.9999999962206395), (5.0, 1.0,
        0.0036598468273437122), (5.0, 5.0, 0.5595067149347875), (5.0, 20.0, 0.9999830552560699),
        (11.9, 12.0, 0.5499982779125185), (12.1, 12.0, 0.526807728171432), (20.0, 5.0,
        3.45213582091446e-07), (20.0, 60.0, 0.9999999993648082), (100.0, 99.0,
        0.473304330399461), (1000.0, 1030.0, 0.828911903882394), (100000.0, 100000.0,
        0.5004205221103651), (3.0, 200.0, 1.0)],
    "gammaincc": [(0.5, 0.1, 0.654720846018577), (0.5, 3.0, 0.01430587843542964), (1e-06, 0.5,
        5.597738881556345e-07), (1e-06, 4.0, 3.7793605053135595e-09), (5.0, 1.0,
        0.9963401531726563), (5.0, 5.0, 0.4404932850652124), (5.0, 20.0,
        1.6944743930067385e-05), (11.9, 12.0, 0.4500017220874815), (12.1, 12.0,
        0.473192271828568), (20.0, 5.0, 0.999999654786418), (20.0, 60.0, 6.351918340378976e-10),
        (100.0, 99.0, 0.526695669600539), (1000.0, 1030.0, 0.17108809611760603), (100000.0,
        100000.0, 0.4995794778896348), (3.0, 200.0, 2.7956093736608836e-83)],
    "zeta": [(1.01, 0.5, 101.97709317748227), (2.0, 1.0, 1.6449340668482264), (2.5, 0.001,
        31622777.94035882), (3.0, -1.5, 0.1181020258208637), (4.0, -7.25, 259.75686586723407),
        (20.0, 30.0, 6.1203509830114665e-30), (50.0, 2.0, 8.881784210930816e-16), (300.0, 1.0,
        1.0)],
    "polygamma": [(1.0, 0.5, 4.934802200544679), (1.0, 30.0, 0.033895060357739946), (1.0, -0.25,
        18.541879647671607), (2.0, 0.5, -16.82879664423432), (2.0, -1.75, -124.21382135423057),
        (3.0, 2.0, 0.49393940226682914), (4.0, -0.3, 9731.83495623352), (10.0, 5.0,
        -0.08675107579196581)],
}


def close(name: str, got: Any, want: Any) -> None:
    scale = np.abs(want)
    if name in SCALE:
        scale = np.where(scale > 1e-3, np.maximum(scale, SCALE[name]), scale)
    off = np.abs(got - want) / np.spacing(scale)
    assert off.max() <= ULPS.get(name, 8), (name, off)


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(name: str) -> None:
    x, want = np.array(EXACT[name]).T
    close(name, getattr(special, name)(torch.from_numpy(x)).numpy(), want)


@pytest.mark.parametrize("name", PAIRS)
def test_exact_values_of_two_operands(name: str) -> None:
    a, x, want = np.array(PAIRS[name]).T
    if name == "polygamma":
        got = np.array([special.polygamma(int(n), torch.tensor(v, dtype=torch.float64)).item()
                        for n, v in zip(a, x)])
    else:
        got = getattr(special, name)(torch.from_numpy(a), torch.from_numpy(x)).numpy()
    close(name, got, want)


@pytest.mark.parametrize("name, x, want", [
    ("erfc", [INF, -INF, NAN, 0], [0, 2, NAN, 1]), ("erfcx", [INF, -INF, NAN, 0], [0, INF, NAN, 1]),
    ("erfinv", [1, -1, 0, 1.5, NAN], [INF, -INF, 0, NAN, NAN]),
    ("ndtr", [INF, -INF, NAN], [1, 0, NAN]), ("log_ndtr", [INF, -INF, NAN], [0, -INF, NAN]),
    ("ndtri", [0, 1, 0.5, -1, 2], [-INF, INF, 0, NAN, NAN]),
    ("gammaln", [0, -0.0, -1, INF, -INF, 1, 2, NAN], [INF, INF, INF, INF, INF, 0, 0, NAN]),
    ("digamma", [0, -0.0, -1, INF, -INF, NAN], [-INF, INF, NAN, INF, NAN, NAN]),
    ("i0", [0, INF, -INF, NAN], [1, INF, INF, NAN]), ("i1", [0, INF, -INF], [0, INF, -INF]),
    ("i0e", [0, INF, -INF], [1, 0, 0]), ("i1e", [0, INF, -INF], [0, 0, 0]),
    ("bessel_j0", [0, INF, -INF, NAN], [1, 0, 0, NAN]), ("bessel_j1", [0, INF], [0, 0]),
    ("bessel_y0", [0, INF, -1], [-INF, 0, NAN]), ("bessel_y1", [0, INF, -1], [-INF, 0, NAN]),
    ("modified_bessel_k0", [0, INF, -1], [INF, 0, NAN]),
    ("modified_bessel_k1", [0, INF, -1], [INF, 0, NAN]),
    ("spherical_bessel_j0", [0, INF, -INF], [1, 0, 0]), ("airy_ai", [INF, NAN], [0, NAN]),
    ("entr", [0, -1, INF], [0, -INF, -INF]), ("sinc", [0, 1], [1, 0])])
def test_edges(name: str, x: list[float], want: list[float]) -> None:
    got = getattr(special, name)(torch.tensor(x, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(got, want, atol=1e-16)


def test_i0_is_finite_as_far_as_it_can_be() -> None:
    x = torch.tensor(713.0, dtype=torch.float64)
    assert 0 < special.i0(x).item() < INF


def of_second(f: Callable[..., Any], a: float) -> Callable[[Any], Any]:
    return lambda x: f(torch.full_like(x, a, requires_grad=False), x)


@pytest.mark.parametrize("f", [torch.igamma, torch.igammac, special.zeta])
def test_gradients_of_the_second_operand(f: Callable[..., Any]) -> None:
    for a in (1.5, 3.0, 14.0):
        x = torch.tensor([0.7, 2.0, 13.5], dtype=torch.float64, requires_grad=True)
        assert gradcheck(of_second(f, a), (x,))
        assert gradgradcheck(of_second(f, a), (x,))


@pytest.mark.parametrize("f", [torch.igamma, torch.igammac, special.zeta])
def test_gradients_of_the_first_operand_are_refused(f: Callable[..., Any]) -> None:
    x = torch.tensor([1.5], requires_grad=True)
    with pytest.raises(NotImplementedError, match="the derivative for"):
        f(x, torch.ones(1)).backward()


def test_backward_through_heaviside_is_an_error() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="derivative for aten::heaviside is not implemented"):
        torch.heaviside(x, torch.ones(2)).sum().backward()


def test_degrees_of_polynomials() -> None:
    x = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert special.legendre_polynomial_p(x, 2.9).tolist() == special.legendre_polynomial_p(
        x, 2).tolist()
    assert special.hermite_polynomial_h(x, -1).tolist() == [0, 0]
    assert special.chebyshev_polynomial_t(2, torch.tensor([0, 1, 5])).tolist() == [1, 2, 362]
    assert special.laguerre_polynomial_l(x, torch.tensor([NAN, INF])).tolist() == [0, 0]
    with pytest.raises(TypeError, match="special_laguerre_polynomial_l"):
        special.laguerre_polynomial_l(2, 3)
