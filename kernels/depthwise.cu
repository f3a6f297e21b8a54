// Depthwise convolution and its two gradients: every input channel has kernels of its own.
//
// x is (n, c, h, w), weight (c * each, 1, kh, kw), y and its gradient (n, c * each, oh, ow), all in C
// order; output channel k reads input channel k / each. Sums in Acc. Forward: a thread per element of
// y. For x: a thread per element of x, gathering from the windows that cover it. For weight: a row of
// threads per element of weight, summing over all images (reduce.cuh). No atomics, fixed order.
#include "reduce.cuh"

// bias (c * each) is added if with_bias; else it isn't read. n = size of y
extern "C" __global__ void depthwise(const T* __restrict__ x, const T* __restrict__ weight,
                                     const T* __restrict__ bias, T* __restrict__ y, long long n,
                                     Windows win, int channels, int each, int with_bias) {
    EACH(i, n) {
        Place at = place(i, win.oh, win.ow);
        Index image = at.plane / channels;
        int k = (int) (at.plane - image * channels);
        const T* in = x + (image * (channels / each) + k / each) * win.h * win.w;
        const T* by = weight + (Index) k * win.kh * win.kw;
        int top = at.row * win.sh - win.ph, left = at.column * win.sw - win.pw;
        Acc sum = with_bias ? widen(bias[k]) : (Acc) 0;
        for (int ky = 0; ky < win.kh; ++ky) {
            int row = top + ky * win.dh;
            if (row < 0 || row >= win.h) continue;
            for (int kx = 0; kx < win.kw; ++kx) {
                int column = left + kx * win.dw;
                if (column >= 0 && column < win.w)
                    sum += widen(in[(Index) row * win.w + column]) * widen(by[ky * win.kw + kx]);
            }
        }
        y[i] = narrow(sum);
    }
}

// n = size of gx
extern "C" __global__ void depthwise_grad_input(const T* __restrict__ gy,
                                                const T* __restrict__ weight,
                                                T* __restrict__ gx, long long n, Windows win,
                                                int channels, int each) {
    EACH(i, n) {
        Place at = place(i, win.h, win.w);
        Acc sum = 0;
        for (int m = 0; m < each; ++m) {
            Index plane = at.plane * each + m;
            const T* in = gy + plane * win.oh * win.ow;
            const T* by = weight + (plane % channels) * win.kh * win.kw;
            for (int ky = 0; ky < win.kh; ++ky) {
                int y = at.row + win.ph - ky * win.dh, r = y / win.sh;
                if (y < 0 || r * win.sh != y || r >= win.oh) continue;
                for (int kx = 0; kx < win.kw; ++kx) {
                    int x0 = at.column + win.pw - kx * win.dw, c = x0 / win.sw;
                    if (x0 >= 0 && c * win.sw == x0 && c < win.ow)
                        sum += widen(in[(Index) r * win.ow + c]) * widen(by[ky * win.kw + kx]);
                }
            }
        }
        gx[i] = narrow(sum);
    }
}

// rows = size of gw, length = images * oh * ow
extern "C" __global__ void __launch_bounds__(1024) depthwise_grad_weight(
        const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gw, long long rows,
        long long length, Windows win, int channels, int each) {
    EACH_ROW(row, rows) {
        Place at = place(row, win.kh, win.kw);
        int k = (int) at.plane;
        int top = at.row * win.dh - win.ph, left = at.column * win.dw - win.pw;
        Acc sum = 0;
        EACH_OF_ROW(i, length) {
            Place out = place(i, win.oh, win.ow);
            int y = out.row * win.sh + top, x0 = out.column * win.sw + left;
            if (y < 0 || y >= win.h || x0 < 0 || x0 >= win.w) continue;
            Index from = (out.plane * (channels / each) + k / each) * win.h + y;
            Index g = ((out.plane * channels + k) * win.oh + out.row) * win.ow + out.column;
            sum += widen(gy[g]) * widen(x[from * win.w + x0]);
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) gw[row] = narrow(sum);
    }
}
