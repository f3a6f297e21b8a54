// The arithmetic of optimizers' steps on one element: one text for the kernels of optimizer*.cu and for
// cpu/optimizer.c, in the order of the Python texts in gpugrad/optim.
//
// A function gets a parameter and its gradient, as decay left them, and the numbers of the step; it
// returns the parameter. Who includes this file says what an element's STATE is: OLD(j) reads its part j,
// in the order of _state_names, and NEW(j, value) writes it.
#ifndef GPUGRAD_OPTIMIZER_STEPS_CUH
#define GPUGRAD_OPTIMIZER_STEPS_CUH

// The numbers of all algorithms begin with these two. decay: which share of p is added to g; shrink: what
// decoupled decay multiplies p by. climb: the gradient's sign is turned.
STEP with_decay(Acc p, Acc g, Acc decay, int climb) {
    if (climb) g = -g;
    if (decay != 0) g += p * decay;
    return g;
}

// share: of the gradient in the momentum; look: momentum once more (Nesterov), or 0.
typedef struct {
    Acc decay, shrink, lr, momentum, share, look;
} Sgd;

// State 0, where with_momentum: the momentum.
STEP sgd_step(Acc p, Acc g, STATE, OF(Sgd) n, int with_momentum) {
    if (with_momentum) {
        Acc v = OLD(0) * n.momentum + g * n.share;
        NEW(0, v);
        g = n.look != 0 ? g + v * n.look : v;
    }
    return p - g * n.lr;
}

// keep: what lambd leaves of p; mu: the share of p in its mean.
typedef struct {
    Acc decay, shrink, keep, eta, mu;
} Asgd;

// State 0: the mean of p.
STEP asgd_step(Acc before, Acc g, STATE, OF(Asgd) n) {
    Acc p = before * n.keep - g * n.eta, mean = OLD(0);
    NEW(0, n.mu == 1 ? p : mean + (p - mean) * n.mu);
    return p;
}

typedef struct {
    Acc decay, shrink, turned, kept, least, most;
} Rprop;

// States 0 and 1: the last gradient and the size of the step.
STEP rprop_step(Acc p, Acc now, STATE, OF(Rprop) n) {
    Acc both = now * OLD(0), size = OLD(1);
    if (both > 0) size *= n.kept;
    else if (both < 0) size *= n.turned;
    else if (both != both) size = both;                          // NaN
    size = size < n.least ? n.least : size;
    size = size > n.most ? n.most : size;
    Acc g = both < 0 ? (Acc) 0 : now;
    NEW(0, g);
    NEW(1, size);
    Acc sign = g > 0 ? (Acc) 1 : g < 0 ? (Acc) -1 : g;           // 0 and NaN are themselves
    return p - sign * size;
}

// rest1 is 1 - beta1; eps and rate have the bias correction in them.
typedef struct {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate;
} Adam;

// States 0 and 1: the means of g and g * g; 2, where amsgrad: the largest mean of g * g.
STEP adam_step(Acc p, Acc g, STATE, OF(Adam) n, int amsgrad) {
    Acc m = OLD(0) * n.beta1 + g * n.rest1;
    NEW(0, m);
    Acc v = OLD(1) * n.beta2 + g * n.rest2 * g;
    NEW(1, v);
    if (amsgrad) {
        Acc old = OLD(2);
        v = old > v || old != old ? old : v;
        NEW(2, v);
    }
    return p - m / (sqrt(v) + n.eps) * n.rate;
}

typedef struct {
    Acc decay, shrink, beta1, rest1, beta2, eps, rate;
} Adamax;

// States 0 and 1: the mean of g and the largest fading abs(g).
STEP adamax_step(Acc p, Acc g, STATE, OF(Adamax) n) {
    Acc m = OLD(0) * n.beta1 + g * n.rest1;
    NEW(0, m);
    Acc old = OLD(1) * n.beta2, now = (g < 0 ? -g : g) + n.eps;
    Acc largest = old > now || old != old ? old : now;
    NEW(1, largest);
    return p - m / largest * n.rate;
}

// rate: of the gradient; ahead: of its mean. eps and both have the bias correction in them.
typedef struct {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate, ahead;
} Nadam;

// States 0 and 1: the means of g and g * g.
STEP nadam_step(Acc p, Acc g, STATE, OF(Nadam) n) {
    Acc m = OLD(0) * n.beta1 + g * n.rest1;
    NEW(0, m);
    Acc v = OLD(1) * n.beta2 + g * n.rest2 * g;
    NEW(1, v);
    return p - (g * n.rate + m * n.ahead) / (sqrt(v) + n.eps);
}

// eps is below 0 while the mean square can't be relied on.
typedef struct {
    Acc decay, shrink, beta1, rest1, beta2, rest2, eps, rate;
} Radam;

// States 0 and 1: the means of g and g * g.
STEP radam_step(Acc p, Acc g, STATE, OF(Radam) n) {
    Acc m = OLD(0) * n.beta1 + g * n.rest1;
    NEW(0, m);
    Acc v = OLD(1) * n.beta2 + g * n.rest2 * g;
    NEW(1, v);
    Acc u = n.eps < 0 ? m : m / (sqrt(v) + n.eps);
    return p - u * n.rate;
}

// rest is 1 - alpha.
typedef struct {
    Acc decay, shrink, lr, alpha, rest, eps, momentum;
} Rmsprop;

// State 0: the mean of g * g; then come the momentum, where with_momentum, and the mean of g, where
// centered.
STEP rmsprop_step(Acc p, Acc g, STATE, OF(Rmsprop) n, int with_momentum, int centered) {
    Acc v = OLD(0) * n.alpha + g * n.rest * g;
    NEW(0, v);
    if (centered) {
        Acc m = OLD(with_momentum ? 2 : 1) * n.alpha + g * n.rest;
        NEW(with_momentum ? 2 : 1, m);
        v -= m * m;
        v = v < 0 ? (Acc) 0 : v;                // rounding may take the variance below 0
    }
    Acc u = g / (sqrt(v) + n.eps);
    if (with_momentum) {
        u = OLD(1) * n.momentum + u;
        NEW(1, u);
    }
    return p - u * n.lr;
}

typedef struct {
    Acc decay, shrink, eps, rate;
} Adagrad;

// State 0: the sum of g * g.
STEP adagrad_step(Acc p, Acc g, STATE, OF(Adagrad) n) {
    Acc sum = OLD(0) + g * g;
    NEW(0, sum);
    return p - g / (sqrt(sum) + n.eps) * n.rate;
}

// rest is 1 - rho.
typedef struct {
    Acc decay, shrink, lr, rho, rest, eps;
} Adadelta;

// States 0 and 1: the means of g * g and of the squared steps.
STEP adadelta_step(Acc p, Acc g, STATE, OF(Adadelta) n) {
    Acc v = OLD(0) * n.rho + g * n.rest * g, before = OLD(1);
    NEW(0, v);
    Acc step = sqrt((before + n.eps) / (v + n.eps)) * g;
    NEW(1, before * n.rho + step * n.rest * step);
    return p - step * n.lr;
}

#endif
