// Steps of SGD, ASGD and Rprop; optimizer.cuh says how.
#include "optimizer.cuh"

// SGD ------------------------------------------------------------------------------------------------

extern "C" __global__ void sgd(Tensors t, Numbers<Sgd> numbers, Scaler scaler, int climb,
                               int with_momentum) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Sgd& n) {
        return sgd_step(p, g, t, k, i, n, with_momentum);
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

extern "C" __global__ void asgd(Tensors t, Numbers<Asgd> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Asgd& n) {
        return asgd_step(p, g, t, k, i, n);
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

extern "C" __global__ void rprop(Tensors t, Numbers<Rprop> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Rprop& n) {
        return rprop_step(p, g, t, k, i, n);
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
