// Steps of Adam and its kin; optimizer.cuh says how.
#include "optimizer.cuh"

// Adam -----------------------------------------------------------------------------------------------

extern "C" __global__ void adam(Tensors t, Numbers<Adam> numbers, Scaler scaler, int climb,
                                int amsgrad) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Adam& n) {
        return adam_step(p, g, t, k, i, n, amsgrad);
    });
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

// Adamax ---------------------------------------------------------------------------------------------

extern "C" __global__ void adamax(Tensors t, Numbers<Adamax> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Adamax& n) {
        return adamax_step(p, g, t, k, i, n);
    });
}

extern "C" __global__ void adamax_numbers(Tensors t, Options o) {
    Adamax* rows = (Adamax*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf);
        rows[k] = {(Acc) o.weight_decay, (Acc) 1, (Acc) o.beta1, (Acc) (1 - o.beta1), (Acc) o.beta2,
                   (Acc) o.eps, (Acc) (lr / (1 - pow(o.beta1, step)))};
    }
}

// NAdam ----------------------------------------------------------------------------------------------

extern "C" __global__ void nadam(Tensors t, Numbers<Nadam> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Nadam& n) {
        return nadam_step(p, g, t, k, i, n);
    });
}

// Column 1 has the product of all shares of the mean; momentum: their decay.
extern "C" __global__ void nadam_numbers(Tensors t, Options o) {
    Nadam* rows = (Nadam*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf);
        double share = o.beta1 * (1 - 0.5 * pow(0.96, step * o.momentum));
        double next = o.beta1 * (1 - 0.5 * pow(0.96, (step + 1) * o.momentum));
        double product = (float) (scalar(t, 1, (int) k) * share);
        double rate = lr * sqrt(1 - pow(o.beta2, step));
        rows[k] = {(Acc) (o.decoupled ? 0 : o.weight_decay),
                   (Acc) (o.decoupled ? 1 - lr * o.weight_decay : 1),
                   (Acc) o.beta1, (Acc) (1 - o.beta1), (Acc) o.beta2, (Acc) (1 - o.beta2),
                   (Acc) (o.eps * sqrt(1 - pow(o.beta2, step))),
                   (Acc) (rate * (1 - share) / (1 - product)),
                   (Acc) (rate * next / (1 - product * next))};
        advance(t, 1, (int) k, product, o.found_inf);
    }
}

// RAdam ----------------------------------------------------------------------------------------------

extern "C" __global__ void radam(Tensors t, Numbers<Radam> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Acc p, Acc g, int k, long long i, const Radam& n) {
        return radam_step(p, g, t, k, i, n);
    });
}

extern "C" __global__ void radam_numbers(Tensors t, Options o) {
    Radam* rows = (Radam*) o.rows;
    double lr = rate_of(o);
    EACH(k, t.count) {
        double step = counted(t, (int) k, o.found_inf), power = pow(o.beta2, step);
        double limit = 2 / (1 - o.beta2) - 1, known = limit - 2 * step * power / (1 - power);
        double rate = lr / (1 - pow(o.beta1, step)), eps = -1;
        if (known > 5) {
            rate *= sqrt((known - 4) * (known - 2) * limit / ((limit - 4) * (limit - 2) * known))
                * sqrt(1 - power);
            eps = o.eps;
        }
        rows[k] = {(Acc) (o.decoupled ? 0 : o.weight_decay),
                   (Acc) (o.decoupled ? 1 - lr * o.weight_decay : 1),
                   (Acc) o.beta1, (Acc) (1 - o.beta1), (Acc) o.beta2, (Acc) (1 - o.beta2), (Acc) eps,
                   (Acc) rate};
    }
}
