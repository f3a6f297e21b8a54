// Steps of RMSprop, Adagrad and Adadelta, scaled by squared gradients; optimizer.cuh says how.
#include "optimizer.cuh"

// RMSprop --------------------------------------------------------------------------------------------

extern "C" __global__ void rmsprop(Tensors t, Numbers<Rmsprop> numbers, Scaler scaler, int climb,
                                   int with_momentum, int centered) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Rmsprop& n) {
        return rmsprop_step(p, g, t, k, i, n, with_momentum, centered);
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

extern "C" __global__ void adagrad(Tensors t, Numbers<Adagrad> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Adagrad& n) {
        return adagrad_step(p, g, t, k, i, n);
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

extern "C" __global__ void adadelta(Tensors t, Numbers<Adadelta> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Adadelta& n) {
        return adadelta_step(p, g, t, k, i, n);
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
