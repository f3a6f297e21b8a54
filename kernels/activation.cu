// Activations y = f(x) and their backwards, gx = g f'(x).
//
// All arrays have one shape in C order, but for glu; map.cuh says which thread takes what;
// calculated in Acc. Where PyTorch's backward takes the result, so does ours: relu, sigmoid, tanh.
// A NaN stays one.
#include "gelu.cuh"
#include "map.cuh"

__device__ __forceinline__ Acc logistic(Acc v) { return 1 / (1 + exp(-v)); }

// log(1 + exp(v)), where exp(v) may be too large
__device__ __forceinline__ Acc log1p_exp(Acc v) {
    return (v > 0 ? v : 0) + log1p(exp(-fabs(v)));
}

extern "C" __global__ void relu(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return v < 0 ? 0 : v; });
}

// y is relu's result or argument; or threshold's argument.
extern "C" __global__ void threshold_backward(In g, In y, Out gx, long long n, Acc threshold) {
    map(g, y, gx, n, [=](Acc g, Acc v) { return v <= threshold ? 0 : g; });
}

extern "C" __global__ void threshold(In x, Out y, long long n, Acc threshold, Acc value) {
    map(x, y, n, [=](Acc v) { return v <= threshold ? value : v; });
}

extern "C" __global__ void sigmoid(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return logistic(v); });
}

extern "C" __global__ void sigmoid_backward(In g, In y, Out gx, long long n) {
    map(g, y, gx, n, [](Acc g, Acc s) { return g * s * (1 - s); });
}

extern "C" __global__ void tanh_backward(In g, In y, Out gx, long long n) {
    map(g, y, gx, n, [](Acc g, Acc t) { return g * (1 - t * t); });
}

extern "C" __global__ void silu(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return v / (1 + exp(-v)); });
}

extern "C" __global__ void silu_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) {
        Acc s = logistic(v);
        return g * s * (1 + v * (1 - s));
    });
}

extern "C" __global__ void log_sigmoid(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return -log1p_exp(-v); });
}

extern "C" __global__ void log_sigmoid_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) { return g * logistic(-v); });
}

extern "C" __global__ void softplus(In x, Out y, long long n, Acc beta, Acc threshold) {
    map(x, y, n, [=](Acc v) {
        return v * beta > threshold ? v : log1p_exp(v * beta) / beta;
    });
}

extern "C" __global__ void softplus_backward(In g, In x, Out gx, long long n, Acc beta,
                                             Acc threshold) {
    map(g, x, gx, n, [=](Acc g, Acc v) {
        return v * beta > threshold ? g : g * logistic(v * beta);
    });
}

extern "C" __global__ void leaky_relu(In x, Out y, long long n, Acc slope) {
    map(x, y, n, [=](Acc v) { return v > 0 ? v : v * slope; });
}

extern "C" __global__ void leaky_relu_backward(In g, In x, Out gx, long long n, Acc slope) {
    map(g, x, gx, n, [=](Acc g, Acc v) { return v > 0 ? g : g * slope; });
}

// low = scale * alpha
extern "C" __global__ void elu(In x, Out y, long long n, Acc scale, Acc low, Acc input_scale) {
    map(x, y, n, [=](Acc v) { return v > 0 ? v * scale : expm1(v * input_scale) * low; });
}

// low = scale * alpha * input_scale
extern "C" __global__ void elu_backward(In g, In x, Out gx, long long n, Acc scale, Acc low,
                                        Acc input_scale) {
    map(g, x, gx, n, [=](Acc g, Acc v) {
        return v <= 0 ? g * (exp(v * input_scale) * low) : g * scale;
    });
}

extern "C" __global__ void hardtanh(In x, Out y, long long n, Acc low, Acc high) {
    map(x, y, n, [=](Acc v) { return v < low ? low : v > high ? high : v; });
}

extern "C" __global__ void hardtanh_backward(In g, In x, Out gx, long long n, Acc low, Acc high) {
    map(g, x, gx, n, [=](Acc g, Acc v) { return v <= low || v >= high ? 0 : g; });
}

// relu6(v + 3)
__device__ __forceinline__ Acc ramp(Acc v) {
    v += 3;
    return v < 0 ? 0 : v > 6 ? 6 : v;
}

extern "C" __global__ void hardsigmoid(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return ramp(v) / 6; });
}

extern "C" __global__ void hardsigmoid_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) { return v > -3 && v < 3 ? g / 6 : 0; });
}

extern "C" __global__ void hardswish(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return v * ramp(v) / 6; });
}

extern "C" __global__ void hardswish_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) {
        return v <= -3 ? 0 : v < 3 ? g * (v / 3 + (Acc) 0.5) : g;
    });
}

extern "C" __global__ void hardshrink(In x, Out y, long long n, Acc bound) {
    map(x, y, n, [=](Acc v) { return v >= -bound && v <= bound ? 0 : v; });
}

extern "C" __global__ void softshrink(In x, Out y, long long n, Acc bound) {
    map(x, y, n, [=](Acc v) { return v > bound ? v - bound : v < -bound ? v + bound : v * 0; });
}

// Of hardshrink and softshrink.
extern "C" __global__ void shrink_backward(In g, In x, Out gx, long long n, Acc bound) {
    map(g, x, gx, n, [=](Acc g, Acc v) { return v >= -bound && v <= bound ? 0 : g; });
}

// tanh(softplus(v)) is t = u / (u + 2), where u = e (e + 2) and e = exp(v); 1 - t^2 is
// 4 (u + 1) / (u + 2)^2. Beyond 20 the exponential makes no difference, and overflows.
__device__ __forceinline__ Acc mish_exp(Acc v) { return exp(v < 20 ? v : 20); }

extern "C" __global__ void mish(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) {
        Acc e = mish_exp(v), u = e * (e + 2);
        return v * (u / (u + 2));
    });
}

extern "C" __global__ void mish_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) {
        Acc e = mish_exp(v), u = e * (e + 2), t = u / (u + 2), rest = 2 / (u + 2);
        return g * (t + v * (e / (e + 1)) * rest * (1 + t));
    });
}

extern "C" __global__ void gelu(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return v * normal_cdf(v); });
}

extern "C" __global__ void gelu_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) { return g * gelu_slope(v); });
}

extern "C" __global__ void gelu_tanh(In x, Out y, long long n) {
    map(x, y, n, [](Acc v) { return v * nearly_cdf(v); });
}

extern "C" __global__ void gelu_tanh_backward(In g, In x, Out gx, long long n) {
    map(g, x, gx, n, [](Acc g, Acc v) { return g * gelu_tanh_slope(v); });
}

// glu: x and gx are (outer, 2, half), the rest (outer, half), C order: half is what is behind the dim's
// middle. A thread per element of y.
extern "C" __global__ void glu(In x, Out y, long long n, long long half) {
    EACH(i, n) {
        Index a = i + i / (Index) half * half;
        y[i] = narrow(widen(x[a]) / (1 + exp(-widen(x[a + half]))));
    }
}

extern "C" __global__ void glu_backward(In g, In x, Out gx, long long n, long long half) {
    EACH(i, n) {
        Index a = i + i / (Index) half * half;
        Acc slope = widen(g[i]), s = 1 / (1 + exp(-widen(x[a + half])));
        gx[a] = narrow(slope * s);
        gx[a + half] = narrow(slope * widen(x[a]) * s * (1 - s));
    }
}
