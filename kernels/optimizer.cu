// Steps of optimizers, for all parameters of a group together.
//
// Column 0 has the parameters, 1 their gradients, 2 and on the state, all T; many.cuh says which
// block takes what. A thread per element, arithmetic in Acc, in the order of the Python texts in
// gpugrad/optim. The numbers of a step come by value; or, if the step count or the learning rate is
// known to the device alone, from memory, a struct for each tensor, which the kernel <name>_numbers
// has written just before.
#include "many.cuh"

// A gradient scaler's: gradients are divided by *scale and written back; nothing happens if
// *found_inf is 1. Null if there is none.
struct Scaler {
    const float *scale, *found_inf;
};

__device__ __forceinline__ bool skipped(const float* found_inf) {
    return found_inf && *found_inf == 1;
}

// p and g of element i, with what all algorithms do first. decay: which share of p is added to g;
// shrink: what decoupled decay multiplies p by; climb: the gradient's sign is turned.
struct Start {
    Acc p, g;
};

__device__ __forceinline__ Start start(const Tensors& t, int k, long long i, Acc decay, Acc shrink,
                                       int climb, Acc scale) {
    T* gradient = (T*) t.at[1][k] + i;
    Acc p = widen(((const T*) t.at[0][k])[i]) * shrink, g = widen(*gradient);
    if (scale != 1) {
        T unscaled = narrow(g / scale);
        *gradient = unscaled;
        g = widen(unscaled);
    }
    if (climb) g = -g;
    if (decay != 0) g += p * decay;
    return {p, g};
}

__device__ __forceinline__ Acc scale_of(Scaler scaler) {
    return scaler.scale ? (Acc) *scaler.scale : (Acc) 1;
}

// What a step needs, by value; or at rows, one for each tensor, if rows isn't null.
template <class N> struct Numbers {
    N value;
    const N* rows;

    __device__ __forceinline__ N of(int k) const { return rows ? rows[k] : value; }
};

// SGD ------------------------------------------------------------------------------------------------

// share: of the gradient in the momentum; look: momentum once more (Nesterov), or 0.
struct Sgd {
    Acc decay, shrink, lr, momentum, share, look;
};

// Column 2, where with_momentum, has the momentum.
extern "C" __global__ void sgd(Tensors t, Numbers<Sgd> numbers,
                               Scaler scaler, int climb, int with_momentum) {
    if (skipped(scaler.found_inf)) return;
    Chunk chunk = chunk_of_block(t);
    Sgd n = numbers.of(chunk.k);
    Acc scale = scale_of(scaler);
    EACH_OF_CHUNK(i, chunk) {
        Start s = start(t, chunk.k, i, n.decay, n.shrink, climb, scale);
        Acc g = s.g;
        if (with_momentum) {
            T* momentum = (T*) t.at[2][chunk.k] + i;
            Acc v = widen(*momentum) * n.momentum + g * n.share;
            *momentum = narrow(v);
            g = n.look != 0 ? g + v * n.look : v;
        }
        ((T*) t.at[0][chunk.k])[i] = narrow(s.p - g * n.lr);
    }
}

// Adam -----------------------------------------------------------------------------------------------

// rest1 is 1 - beta1; eps and rate have the bias correction in them.
struct Adam {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate;
};

// Columns 2 and 3 have the means of g and g * g; 4, where amsgrad, the largest mean of g * g.
extern "C" __global__ void adam(Tensors t, Numbers<Adam> numbers,
                                Scaler scaler, int climb, int amsgrad) {
    if (skipped(scaler.found_inf)) return;
    Chunk chunk = chunk_of_block(t);
    Adam n = numbers.of(chunk.k);
    Acc scale = scale_of(scaler);
    EACH_OF_CHUNK(i, chunk) {
        Start s = start(t, chunk.k, i, n.decay, n.shrink, climb, scale);
        T *mean = (T*) t.at[2][chunk.k] + i, *square = (T*) t.at[3][chunk.k] + i;
        Acc m = widen(*mean) * n.beta1 + s.g * n.rest1;
        Acc v = widen(*square) * n.beta2 + s.g * n.rest2 * s.g;
        *mean = narrow(m);
        *square = narrow(v);
        if (amsgrad) {
            T* largest = (T*) t.at[4][chunk.k] + i;
            Acc old = widen(*largest);
            v = old > v || old != old ? old : v;
            *largest = narrow(v);
        }
        ((T*) t.at[0][chunk.k])[i] = narrow(s.p - m / (sqrt(v) + n.eps) * n.rate);
    }
}

// RMSprop --------------------------------------------------------------------------------------------

// rest is 1 - alpha.
struct Rmsprop {
    Acc decay, shrink, lr, alpha, rest, eps, momentum;
};

// Column 2 has the mean of g * g; then come the momentum, where with_momentum, and the mean of g,
// where centered.
extern "C" __global__ void rmsprop(Tensors t, Numbers<Rmsprop> numbers, Scaler scaler, int climb, int with_momentum,
                                   int centered) {
    if (skipped(scaler.found_inf)) return;
    Chunk chunk = chunk_of_block(t);
    Rmsprop n = numbers.of(chunk.k);
    Acc scale = scale_of(scaler);
    EACH_OF_CHUNK(i, chunk) {
        Start s = start(t, chunk.k, i, n.decay, n.shrink, climb, scale);
        T* square = (T*) t.at[2][chunk.k] + i;
        Acc v = widen(*square) * n.alpha + s.g * n.rest * s.g;
        *square = narrow(v);
        if (centered) {
            T* mean = (T*) t.at[with_momentum ? 4 : 3][chunk.k] + i;
            Acc m = widen(*mean) * n.alpha + s.g * n.rest;
            *mean = narrow(m);
            v -= m * m;
            v = v < 0 ? (Acc) 0 : v;            // rounding may take the variance below 0
        }
        Acc u = s.g / (sqrt(v) + n.eps);
        if (with_momentum) {
            T* momentum = (T*) t.at[3][chunk.k] + i;
            u = widen(*momentum) * n.momentum + u;
            *momentum = narrow(u);
        }
        ((T*) t.at[0][chunk.k])[i] = narrow(s.p - u * n.lr);
    }
}

// Numbers that the device works out ------------------------------------------------------------------

// The options of a group. lr_at, if it isn't null, is where the learning rate is. extra: SGD's
// dampening, or 0 in the first step; RMSprop's alpha. momentum, look: as above. rows: where the
// numbers go.
struct Options {
    double lr, weight_decay, beta1, beta2, eps, momentum, extra, look;
    const double* lr_at;
    const float* found_inf;
    void* rows;
    long long decoupled;
};

// In all three a thread per tensor, and column 0 has the step counts, float, which go up by 1 unless
// the step is going to be skipped.

__device__ __forceinline__ double counted(const Tensors& t, int k, const float* found_inf) {
    float* step = (float*) t.at[0][k];
    if (!skipped(found_inf)) *step += 1;
    return *step;
}

__device__ __forceinline__ double rate_of(const Options& o) { return o.lr_at ? *o.lr_at : o.lr; }

// SGD counts no steps: column 0 isn't read.
extern "C" __global__ void sgd_numbers(Tensors t, Options o) {
    Sgd* rows = (Sgd*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count)
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) lr, (Acc) o.momentum, (Acc) (1 - o.extra),
                   (Acc) o.look};
}

extern "C" __global__ void adam_numbers(Tensors t, Options o) {
    Adam* rows = (Adam*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf);
        double root = sqrt(1 - pow(o.beta2, step));
        rows[k] = {(Acc) (o.decoupled ? 0 : o.weight_decay),
                   (Acc) (o.decoupled ? 1 - lr * o.weight_decay : 1),
                   (Acc) o.beta1, (Acc) (1 - o.beta1), (Acc) o.beta2, (Acc) (1 - o.beta2),
                   (Acc) (o.eps * root), (Acc) (lr * root / (1 - pow(o.beta1, step)))};
    }
}

extern "C" __global__ void rmsprop_numbers(Tensors t, Options o) {
    Rmsprop* rows = (Rmsprop*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) lr, (Acc) o.extra, (Acc) (1 - o.extra),
                   (Acc) o.eps, (Acc) o.momentum};
    }
}
