// Steps of Adam and its kin; optimizer.cuh says how.
#include "optimizer.cuh"

// The means of g and of g * g, in columns 2 and 3, brought up to date.
__device__ __forceinline__ Acc next_mean(const Tensors& t, int j, int k, long long i, Acc keep,
                                         Acc add) {
    T* at = (T*) t.at[j][k] + i;
    Acc mean = widen(*at) * keep + add;
    *at = narrow(mean);
    return mean;
}

// Adam -----------------------------------------------------------------------------------------------

// rest1 is 1 - beta1; eps and rate have the bias correction in them.
struct Adam {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate;
};

// Columns 2 and 3 have the means of g and g * g; 4, where amsgrad, the largest mean of g * g.
extern "C" __global__ void adam(Tensors t, Numbers<Adam> numbers,
                                Scaler scaler, int climb, int amsgrad) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Adam& n, int k, long long i) {
        Acc m = next_mean(t, 2, k, i, n.beta1, s.g * n.rest1);
        Acc v = next_mean(t, 3, k, i, n.beta2, s.g * n.rest2 * s.g);
        if (amsgrad) {
            T* largest = (T*) t.at[4][k] + i;
            Acc old = widen(*largest);
            v = old > v || old != old ? old : v;
            *largest = narrow(v);
        }
        return s.p - m / (sqrt(v) + n.eps) * n.rate;
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

struct Adamax {
    Acc decay, shrink, beta1, rest1, beta2, eps, rate;
};

// Columns 2 and 3 have the mean of g and the largest fading abs(g).
extern "C" __global__ void adamax(Tensors t, Numbers<Adamax> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Adamax& n, int k, long long i) {
        Acc m = next_mean(t, 2, k, i, n.beta1, s.g * n.rest1);
        T* most = (T*) t.at[3][k] + i;
        Acc old = widen(*most) * n.beta2, now = (s.g < 0 ? -s.g : s.g) + n.eps;
        Acc largest = old > now || old != old ? old : now;
        *most = narrow(largest);
        return s.p - m / largest * n.rate;
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

// rate: of the gradient; ahead: of its mean. eps and both have the bias correction in them.
struct Nadam {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate, ahead;
};

// Columns 2 and 3 have the means of g and g * g.
extern "C" __global__ void nadam(Tensors t, Numbers<Nadam> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Nadam& n, int k, long long i) {
        Acc m = next_mean(t, 2, k, i, n.beta1, s.g * n.rest1);
        Acc v = next_mean(t, 3, k, i, n.beta2, s.g * n.rest2 * s.g);
        return s.p - (s.g * n.rate + m * n.ahead) / (sqrt(v) + n.eps);
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

// eps is below 0 while the mean square can't be relied on.
struct Radam {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate;
};

// Columns 2 and 3 have the means of g and g * g.
extern "C" __global__ void radam(Tensors t, Numbers<Radam> numbers, Scaler scaler, int climb) {
    step_each(t, numbers, scaler, climb, [&](Start s, const Radam& n, int k, long long i) {
        Acc m = next_mean(t, 2, k, i, n.beta1, s.g * n.rest1);
        Acc v = next_mean(t, 3, k, i, n.beta2, s.g * n.rest2 * s.g);
        Acc u = n.eps < 0 ? m : m / (sqrt(v) + n.eps);
        return s.p - u * n.rate;
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
