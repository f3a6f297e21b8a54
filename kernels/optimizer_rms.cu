// Steps of RMSprop, Adagrad and Adadelta, scaled by squared gradients; optimizer.cuh says how.
#include "optimizer.cuh"

// RMSprop --------------------------------------------------------------------------------------------

// rest is 1 - alpha.
struct Rmsprop {
    Acc decay, shrink, lr, alpha, rest, eps, momentum;
};

// Column 2 has the mean of g * g; then come the momentum, where with_momentum, and the mean of g,
// where centered.
extern "C" __global__ void rmsprop(Tensors t, Numbers<Rmsprop> numbers, Scaler scaler, int climb,
                                   int with_momentum, int centered) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Rmsprop& n, int k, long long i) {
        T* square = (T*) t.at[2][k] + i;
        Acc v = widen(*square) * n.alpha + s.g * n.rest * s.g;
        *square = narrow(v);
        if (centered) {
            T* mean = (T*) t.at[with_momentum ? 4 : 3][k] + i;
            Acc m = widen(*mean) * n.alpha + s.g * n.rest;
            *mean = narrow(m);
            v -= m * m;
            v = v < 0 ? (Acc) 0 : v;            // rounding may take the variance below 0
        }
        Acc u = s.g / (sqrt(v) + n.eps);
        if (with_momentum) {
            T* momentum = (T*) t.at[3][k] + i;
            u = widen(*momentum) * n.momentum + u;
            *momentum = narrow(u);
        }
        return s.p - u * n.lr;
    });
}

// extra: alpha.
extern "C" __global__ void rmsprop_numbers(Tensors t, Options o) {
    Rmsprop* rows = (Rmsprop*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) lr, (Acc) o.extra, (Acc) (1 - o.extra),
                   (Acc) o.eps, (Acc) o.momentum};
    }
}

// Adagrad --------------------------------------------------------------------------------------------

struct Adagrad {
    Acc decay, shrink, eps, rate;
};

// Column 2 has the sum of g * g.
extern "C" __global__ void adagrad(Tensors t, Numbers<Adagrad> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Adagrad& n, int k, long long i) {
        T* squares = (T*) t.at[2][k] + i;
        Acc sum = widen(*squares) + s.g * s.g;
        *squares = narrow(sum);
        return s.p - s.g / (sqrt(sum) + n.eps) * n.rate;
    });
}

// extra: how fast the learning rate falls.
extern "C" __global__ void adagrad_numbers(Tensors t, Options o) {
    Adagrad* rows = (Adagrad*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) o.eps,
                   (Acc) (lr / (1 + (step - 1) * o.extra))};
    }
}

// Adadelta -------------------------------------------------------------------------------------------

// rest is 1 - rho.
struct Adadelta {
    Acc decay, shrink, lr, rho, rest, eps;
};

// Columns 2 and 3 have the means of g * g and of the squared steps.
extern "C" __global__ void adadelta(Tensors t, Numbers<Adadelta> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Adadelta& n, int k, long long i) {
        T *squares = (T*) t.at[2][k] + i, *steps = (T*) t.at[3][k] + i;
        Acc v = widen(*squares) * n.rho + s.g * n.rest * s.g, before = widen(*steps);
        *squares = narrow(v);
        Acc step = sqrt((before + n.eps) / (v + n.eps)) * s.g;
        *steps = narrow(before * n.rho + step * n.rest * step);
        return s.p - step * n.lr;
    });
}

// extra: rho.
extern "C" __global__ void adadelta_numbers(Tensors t, Options o) {
    Adadelta* rows = (Adadelta*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) lr, (Acc) o.extra, (Acc) (1 - o.extra),
                   (Acc) o.eps};
    }
}
