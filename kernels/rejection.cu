// Gamma, Poisson and binomial numbers, which are drawn by rejection: how many uniform numbers an
// element takes depends on those it gets.
//
// All arrays have one shape in C order. A thread takes one element, and computes in double whatever
// the arrays hold: counts of millions need it. Element i draws under Philox's counter
// state[1] + offset + i, which is reserved for it, and counts its draws in the counter's upper half:
// see philox.cuh. So a number depends on its place and never on the threads.
#include "common.cuh"
#include "philox.cuh"

#define PI 3.14159265358979323846

// The draws of one element.
struct Draws {
    unsigned long long key, counter;
    unsigned count;
    double u, v;

    // Two new uniform numbers between 0 and 1, which are never reached.
    __device__ __forceinline__ void next() {
        Words w = philox4x32(key, counter, count++);
        u = unit(w.at[0], w.at[1]);
        v = unit(w.at[2], w.at[3]);
    }

    __device__ __forceinline__ double unit(unsigned high, unsigned low) {
        return ((high >> 6) * 67108864.0 + (low >> 6) + 0.5) * (1.0 / 4503599627370496.0);
    }
};

#define DRAWS(i) Draws d = {state[0], state[1] + offset + (i), 0, 0.0, 0.0}

// Marsaglia and Tsang, A simple method for generating gamma variables (2000).
__device__ double gamma_of(Draws& d, double shape) {
    if (!(shape > 0.0) || shape > 1e300) return shape;          // 0, NaN, infinity
    double scale = 1.0;
    if (shape < 1.0) {
        d.next();
        scale = pow(d.u, 1.0 / shape);
        shape += 1.0;
    }
    double a = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * a);
    while (true) {
        d.next();
        double s = (2.0 * d.u - 1.0) * (2.0 * d.u - 1.0) + (2.0 * d.v - 1.0) * (2.0 * d.v - 1.0);
        if (s >= 1.0) continue;
        double x = (2.0 * d.u - 1.0) * sqrt(-2.0 * log(s) / s), y = 1.0 + c * x;   // x is normal
        if (y <= 0.0) continue;
        d.next();
        double v = y * y * y;
        if (log(d.u) < 0.5 * x * x + a * (1.0 - v + log(v))) return scale * a * v;
    }
}

// y: gamma numbers of the shapes x and scale 1.
extern "C" __global__ void gamma(In x, Out y, long long n,
                                 const unsigned long long* __restrict__ state,
                                 unsigned long long offset) {
    EACH(i, n) {
        DRAWS(i);
        y[i] = narrow((Acc) gamma_of(d, widen(x[i])));
    }
}

// What both methods of Hoermann's share: a number k around `centre` by transformed rejection.
__device__ __forceinline__ double candidate(Draws& d, double a, double b, double centre,
                                            double* us) {
    d.next();
    double u = d.u - 0.5;
    *us = 0.5 - fabs(u);
    return floor((2.0 * a / *us + b) * u + centre);
}

// Hoermann, The transformed rejection method for generating Poisson random variables (1993).
__device__ double large_poisson(Draws& d, double rate) {
    double b = 0.931 + 2.53 * sqrt(rate), a = -0.059 + 0.02483 * b, log_rate = log(rate);
    double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), limit = 0.9277 - 3.6224 / (b - 2.0);
    while (true) {
        double us, k = candidate(d, a, b, rate + 0.43, &us);
        if (us >= 0.07 && d.v <= limit) return k;
        if (k < 0.0 || (us < 0.013 && d.v > us)) continue;
        if (log(d.v) + log(inverse_alpha) - log(a / (us * us) + b)
            <= -rate + k * log_rate - lgamma(k + 1.0)) return k;
    }
}

// Uniform numbers are multiplied until they fall below exp(-rate).
__device__ double small_poisson(Draws& d, double rate) {
    double product = 1.0, end = exp(-rate), count = 0.0;
    while (true) {
        d.next();
        product *= d.u;
        if (!(product > end)) return count;
        product *= d.v;
        if (!(product > end)) return count + 1.0;
        count += 2.0;
    }
}

// y: Poisson numbers of the rates x; NaN for a negative one.
extern "C" __global__ void poisson(In x, Out y, long long n,
                                   const unsigned long long* __restrict__ state,
                                   unsigned long long offset) {
    EACH(i, n) {
        DRAWS(i);
        double rate = widen(x[i]), k = rate < 0.0 ? (double) NOT_A_NUMBER : rate;
        if (rate >= 10.0 && rate < 1e300) k = large_poisson(d, rate);
        else if (rate > 0.0 && rate < 10.0) k = small_poisson(d, rate);
        y[i] = narrow((Acc) k);
    }
}

// Waiting times are added up until they exceed the number of trials.
__device__ double few_trials(Draws& d, double count, double p) {
    double log_failure = log1p(-p), total = 0.0, successes = 0.0;
    while (true) {
        d.next();
        total += ceil(log(d.u) / log_failure);
        if (total > count) return successes;
        successes += 1.0;
    }
}

// log(k!) less Stirling's approximation of it at k + 1.
__device__ double stirling_rest(double k) {
    double n = k + 1.0, square = n * n;
    if (k <= 9.0) return lgamma(n) - ((k + 0.5) * log(n) - n + 0.5 * log(2.0 * PI));
    return (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / n;
}

// Hoermann, The generation of binomial random variates (1993).
__device__ double many_trials(Draws& d, double count, double p) {
    double spread = sqrt(count * p * (1.0 - p)), b = 1.15 + 2.53 * spread;
    double a = -0.0873 + 0.0248 * b + 0.01 * p, limit = 0.92 - 4.2 / b;
    double odds = p / (1.0 - p), alpha = (2.83 + 5.1 / b) * spread, m = floor((count + 1.0) * p);
    while (true) {
        double us, k = candidate(d, a, b, count * p + 0.5, &us);
        if (k < 0.0 || k > count) continue;
        if (us >= 0.07 && d.v <= limit) return k;
        double bound = (m + 0.5) * log((m + 1.0) / (odds * (count - m + 1.0)))
            + (count + 1.0) * log((count - m + 1.0) / (count - k + 1.0))
            + (k + 0.5) * log(odds * (count - k + 1.0) / (k + 1.0))
            + stirling_rest(m) + stirling_rest(count - m)
            - stirling_rest(k) - stirling_rest(count - k);
        if (log(d.v * alpha / (a / (us * us) + b)) <= bound) return k;
    }
}

// y: how many of `counts` trials succeed, each with its probability.
extern "C" __global__ void binomial(In counts, In probs, Out y, long long n,
                                    const unsigned long long* __restrict__ state,
                                    unsigned long long offset) {
    EACH(i, n) {
        DRAWS(i);
        double count = widen(counts[i]), prob = widen(probs[i]), k = count + prob;   // NaN stays
        if (count <= 0.0 || prob <= 0.0) k = 0.0;
        else if (prob >= 1.0) k = count;
        else if (k == k && count < 1e300) {
            double p = prob <= 0.5 ? prob : 1.0 - prob;
            k = count * p >= 10.0 ? many_trials(d, count, p) : few_trials(d, count, p);
            if (prob > 0.5) k = count - k;
        }
        y[i] = narrow((Acc) k);
    }
}
