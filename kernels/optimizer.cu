// Steps of SGD, ASGD and Rprop; optimizer.cuh says how.
#include "optimizer.cuh"

// SGD ------------------------------------------------------------------------------------------------

// share: of the gradient in the momentum; look: momentum once more (Nesterov), or 0.
struct Sgd {
    Acc decay, shrink, lr, momentum, share, look;
};

// Column 2, where with_momentum, has the momentum.
extern "C" __global__ void sgd(Tensors t, Numbers<Sgd> numbers,
                               Scaler scaler, int climb, int with_momentum) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Sgd& n, int k, long long i) {
        Acc g = s.g;
        if (with_momentum) {
            T* momentum = (T*) t.at[2][k] + i;
            Acc v = widen(*momentum) * n.momentum + g * n.share;
            *momentum = narrow(v);
            g = n.look != 0 ? g + v * n.look : v;
        }
        return s.p - g * n.lr;
    });
}

// SGD counts no steps: column 0 isn't read.
extern "C" __global__ void sgd_numbers(Tensors t, Options o) {
    Sgd* rows = (Sgd*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count)
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) lr, (Acc) o.momentum, (Acc) (1 - o.extra),
                   (Acc) o.look};
}

// ASGD -----------------------------------------------------------------------------------------------

// keep: what lambd leaves of p; mu: the share of p in its mean.
struct Asgd {
    Acc decay, shrink, keep, eta, mu;
};

// Column 2 has the mean of p.
extern "C" __global__ void asgd(Tensors t, Numbers<Asgd> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Asgd& n, int k, long long i) {
        Acc p = s.p * n.keep - s.g * n.eta;
        T* average = (T*) t.at[2][k] + i;
        Acc mean = widen(*average);
        *average = narrow(n.mu == 1 ? p : mean + (p - mean) * n.mu);
        return p;
    });
}

// Columns 1 and 2: eta and mu. extra: lambd, look: alpha, momentum: t0.
extern "C" __global__ void asgd_numbers(Tensors t, Options o) {
    Asgd* rows = (Asgd*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf);
        double eta = scalar(t, 1, (int) k), mu = scalar(t, 2, (int) k);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) (1 - o.extra * eta), (Acc) eta, (Acc) mu};
        advance(t, 1, (int) k, lr / pow(1 + o.extra * lr * step, o.look), o.found_inf);
        advance(t, 2, (int) k, 1 / fmax(1.0, step - o.momentum), o.found_inf);
    }
}

// Rprop ----------------------------------------------------------------------------------------------

struct Rprop {
    Acc decay, shrink, turned, kept, least, most;
};

// Columns 2 and 3 have the last gradient and the size of the step.
extern "C" __global__ void rprop(Tensors t, Numbers<Rprop> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Rprop& n, int k, long long i) {
        T *last = (T*) t.at[2][k] + i, *length = (T*) t.at[3][k] + i;
        Acc both = s.g * widen(*last), size = widen(*length);
        if (both > 0) size *= n.kept;
        else if (both < 0) size *= n.turned;
        else if (both != both) size = both;                      // NaN
        size = size < n.least ? n.least : size > n.most ? n.most : size;
        Acc g = both < 0 ? (Acc) 0 : s.g;
        *last = narrow(g);
        *length = narrow(size);
        Acc sign = g > 0 ? (Acc) 1 : g < 0 ? (Acc) -1 : g;       // 0 and NaN are themselves
        return s.p - sign * size;
    });
}

// extra and look: the etas; beta1 and beta2: the least and the greatest step.
extern "C" __global__ void rprop_numbers(Tensors t, Options o) {
    Rprop* rows = (Rprop*) o.rows;
    EACH(k, t.count) {
        counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) 0, (Acc) 1, (Acc) o.extra, (Acc) o.look, (Acc) o.beta1, (Acc) o.beta2};
    }
}
