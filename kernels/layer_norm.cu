// Layer norm and RMS norm over rows, the last dims of x; a row's threads as in reduce.cuh.
//
// x is (rows, length) in C order, weight and bias (length), mean and r = 1 / std (rows). Each thread
// keeps its first elements of a row in registers, so rows of up to 4096 elements (2048 of double)
// are read once. length is less than 2^31 - 8192. Parameters and statistics are in Acc, in which
// everything is calculated. affine: bit 0 if there is a weight, bit 1 if there is a bias; their
// arrays are not read otherwise.
//
// ADD: x is first added to another array, the sum, rounded as it is stored, being a result, too; or
// in backward gx is added to another gradient. The bits are those of an addition by itself.
#include "channels.cuh"
#include "rounded.cuh"

// How many elements of a row a thread keeps; kernels.py gives it about four.
#ifdef FLOAT64
#define KEPT 2
#else
#define KEPT 4
#endif

// Where a thread's kept element k is, and its first element beyond them.
#define KEPT_AT(k) ((int) (threadIdx.x + (k) * blockDim.x))
#define EACH_BEYOND(i, length) for (int i = KEPT_AT(KEPT); i < (length); i += blockDim.x)

__device__ __forceinline__ Acc scaled(Acc n, int i, const Acc* weight, const Acc* bias,
                                      int affine) {
    if (affine & 1) n *= weight[i];
    return affine & 2 ? n + bias[i] : n;
}

// CENTRED: layer norm, which subtracts the mean; RMS norm doesn't, and has no mean and no bias.
template <bool CENTRED, bool ADD = false>
__device__ __forceinline__ void forward(const T* x, const Acc* weight, const Acc* bias, T* y,
                                        Acc* means, Acc* rs, long long rows, int length, Acc eps,
                                        int affine, const T* more = nullptr, T* total = nullptr) {
    auto first = [=](Index i) {                 // what is normalised, when it is read first
        T v = x[i];
        if (ADD) total[i] = v = narrow(widen(v) + widen(more[i]));
        return widen(v);
    };
    auto again = [=](Index i) { return widen(ADD ? total[i] : x[i]); };
    EACH_ROW(row, rows) {
        const Index at = row * length;
        Acc v[KEPT], mean = 0, sum = 0;
#pragma unroll
        for (int k = 0; k < KEPT; ++k) v[k] = KEPT_AT(k) < length ? first(at + KEPT_AT(k)) : 0;
        if (CENTRED) {
#pragma unroll
            for (int k = 0; k < KEPT; ++k) sum += v[k];
            EACH_BEYOND(i, length) sum += first(at + i);
            mean = block_sum(sum) / (Acc) length;
            sum = 0;
        }
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            v[k] -= mean;
            if (KEPT_AT(k) < length) sum += v[k] * v[k];
        }
        EACH_BEYOND(i, length) {
            Acc d = (CENTRED ? again(at + i) : first(at + i)) - mean;
            sum += d * d;
        }
        Acc r = 1 / sqrt(block_sum(sum) / (Acc) length + eps);
#pragma unroll
        for (int k = 0; k < KEPT; ++k)
            if (KEPT_AT(k) < length)
                y[at + KEPT_AT(k)] = narrow(scaled(v[k] * r, KEPT_AT(k), weight, bias, affine));
        EACH_BEYOND(i, length)
            y[at + i] = narrow(scaled((again(at + i) - mean) * r, i, weight, bias, affine));
        if (threadIdx.x == 0) {
            if (CENTRED) means[row] = mean;
            rs[row] = r;
        }
    }
}

extern "C" __global__ void __launch_bounds__(1024) layer_norm(
        const T* __restrict__ x, const Acc* __restrict__ weight, const Acc* __restrict__ bias,
        T* __restrict__ y, Acc* __restrict__ mean, Acc* __restrict__ r, long long rows,
        long long length, Acc eps, int affine) {
    forward<true>(x, weight, bias, y, mean, r, rows, (int) length, eps, affine);
}

extern "C" __global__ void __launch_bounds__(1024) rms_norm(
        const T* __restrict__ x, const Acc* __restrict__ weight, T* __restrict__ y,
        Acc* __restrict__ r, long long rows, long long length, Acc eps, int affine) {
    forward<false>(x, weight, nullptr, y, nullptr, r, rows, (int) length, eps, affine & 1);
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) add_layer_norm(
        const T* __restrict__ x, const T* __restrict__ more, const Acc* __restrict__ weight,
        const Acc* __restrict__ bias, T* __restrict__ total, T* __restrict__ y,
        Acc* __restrict__ mean, Acc* __restrict__ r, long long rows, long long length, Acc eps,
        int affine) {
    forward<true, true>(x, weight, bias, y, mean, r, rows, (int) length, eps, affine, more, total);
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) add_rms_norm(
        const T* __restrict__ x, const T* __restrict__ more, const Acc* __restrict__ weight,
        T* __restrict__ total, T* __restrict__ y, Acc* __restrict__ r, long long rows,
        long long length, Acc eps, int affine) {
    forward<false, true>(x, weight, nullptr, y, nullptr, r, rows, (int) length, eps, affine & 1,
                         more, total);
}

// With h = g * weight and n = (x - mean) * r: gx = r * (h - avg(h) - n * avg(h * n)), and the sums
// over this row's team of g * n and g, in parts (teams, 2 * length) or for RMS norm (teams, length).
// A team is what takes one row at a time; it adds up its rows in order.
// adding: there is `more`, to which gx is added; it may be where gx is.
template <bool CENTRED>
__device__ __forceinline__ void backward(const T* g, const T* x, const Acc* weight,
                                         const Acc* means, const Acc* rs, const T* more, T* gx,
                                         Acc* parts, long long rows, int length, int affine,
                                         int adding) {
    Index team = (Index) blockIdx.x * blockDim.y + threadIdx.y;
    Acc *gw = parts + team * length * (CENTRED ? 2 : 1), *gb = gw + length;
    Acc w_sum[KEPT] = {}, b_sum[KEPT] = {};
    EACH_BEYOND(i, length) {
        gw[i] = 0;
        if (CENTRED) gb[i] = 0;
    }
    EACH_ROW(row, rows) {
        const T *slopes = g + row * length, *in = x + row * length;
        auto put = [=](int i, Acc v) {
            T slope = narrow(v);
            const Index at = row * length + i;
            gx[at] = adding ? narrow(plus(widen(more[at]), widen(slope))) : slope;
        };
        Acc mean = CENTRED ? means[row] : 0, r = rs[row], n[KEPT], h[KEPT];
        Two<Acc, Acc> sums = {0, 0};
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            int i = KEPT_AT(k);
            if (i >= length) continue;
            Acc slope = widen(slopes[i]);
            n[k] = (widen(in[i]) - mean) * r;
            h[k] = affine & 1 ? slope * weight[i] : slope;
            w_sum[k] += slope * n[k];
            b_sum[k] += slope;
            sums.a += h[k];
            sums.b += h[k] * n[k];
        }
        EACH_BEYOND(i, length) {
            Acc slope = widen(slopes[i]), normal = (widen(in[i]) - mean) * r;
            Acc weighted = affine & 1 ? slope * weight[i] : slope;
            gw[i] += slope * normal;
            if (CENTRED) gb[i] += slope;
            sums.a += weighted;
            sums.b += weighted * normal;
        }
        sums = block_sum(sums);
        Acc shift = CENTRED ? sums.a / (Acc) length : 0, tilt = sums.b / (Acc) length;
#pragma unroll
        for (int k = 0; k < KEPT; ++k)
            if (KEPT_AT(k) < length) put(KEPT_AT(k), r * (h[k] - shift - n[k] * tilt));
        EACH_BEYOND(i, length) {
            Acc slope = widen(slopes[i]), normal = (widen(in[i]) - mean) * r;
            Acc weighted = affine & 1 ? slope * weight[i] : slope;
            put(i, r * (weighted - shift - normal * tilt));
        }
    }
#pragma unroll
    for (int k = 0; k < KEPT; ++k) {
        if (KEPT_AT(k) >= length) continue;
        gw[KEPT_AT(k)] = w_sum[k];
        if (CENTRED) gb[KEPT_AT(k)] = b_sum[k];
    }
}

extern "C" __global__ void __launch_bounds__(1024) layer_norm_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ mean, const Acc* __restrict__ r, const T* more, T* gx,
        Acc* __restrict__ parts, long long rows, long long length, int affine, int adding) {
    backward<true>(g, x, weight, mean, r, more, gx, parts, rows, (int) length, affine, adding);
}

extern "C" __global__ void __launch_bounds__(1024) rms_norm_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ r, const T* more, T* gx, Acc* __restrict__ parts, long long rows,
        long long length, int affine, int adding) {
    backward<false>(g, x, weight, nullptr, r, more, gx, parts, rows, (int) length, affine, adding);
}

// The teams' sums put together: gw of the first `length` columns of parts, gb of those after them.
extern "C" __global__ void parameter_slopes(const Acc* __restrict__ parts, T* __restrict__ gw,
                                            T* __restrict__ gb, Channels a, long long length) {
    Stand s = stand(a);
    Acc sum = sum_of_parts(parts, a, s);
    if (s.lane || !s.inside) return;
    Index i = s.channel - (Index) length;
    if (i < 0) gw[s.channel] = narrow(sum);
    else gb[i] = narrow(sum);
}
