// im2col and its transpose col2im, the copies around a convolution's GEMM.
//
// x is (n, c, h, w), cols is (n, c * kh * kw, oh * ow), both C order; the n * c planes stand for
// themselves. im2col: a thread per window, writing its kh * kw elements; neighbouring threads write
// neighbouring columns. col2im: a thread per pixel, gathering from the windows that cover it, in a
// fixed order and summed in Acc: no atomics, the same bits every time.
//
// With channels last, x is (n, h, w, c) and rows (groups, n * oh * ow, kh * kw, c / groups), a row for
// each window: im2row and row2im, in which neighbouring threads have neighbouring channels.
#include "common.cuh"

// n = planes * oh * ow
extern "C" __global__ void im2col(const T* __restrict__ x, T* __restrict__ cols, long long n,
                                  Windows win) {
    const Index count = (Index) win.oh * win.ow;
    EACH(i, n) {
        Place at = place(i, win.oh, win.ow);
        int top = at.row * win.sh - win.ph, left = at.column * win.sw - win.pw;
        const T* in = x + at.plane * win.h * win.w;
        T* out = cols + i + at.plane * (win.kh * win.kw - 1) * count;
        for (int ky = 0; ky < win.kh; ++ky) {
            int row = top + ky * win.dh;
            for (int kx = 0; kx < win.kw; ++kx) {
                int column = left + kx * win.dw;
                bool inside = row >= 0 && row < win.h && column >= 0 && column < win.w;
                *out = inside ? in[(Index) row * win.w + column] : narrow(0);
                out += count;
            }
        }
    }
}

// Which of a window's elements lies `offset` behind its first; false if it falls between two.
__device__ __forceinline__ bool element(int offset, int dilation, int& k) {
    k = dilation == 1 ? offset : offset / dilation;
    return k * dilation == offset;
}

// n = planes * h * w
extern "C" __global__ void col2im(const T* __restrict__ cols, T* __restrict__ x, long long n,
                                  Windows win) {
    const Index count = (Index) win.oh * win.ow;
    EACH(i, n) {
        Place at = place(i, win.h, win.w);
        int y = at.row + win.ph, x0 = at.column + win.pw, ky, kx;
        Range rows = covering(y, win.kh, win.sh, win.dh, win.oh);
        Range columns = covering(x0, win.kw, win.sw, win.dw, win.ow);
        const T* in = cols + at.plane * win.kh * win.kw * count;
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r) {
            if (!element(y - r * win.sh, win.dh, ky)) continue;
            for (int c = columns.begin; c < columns.end; ++c)
                if (element(x0 - c * win.sw, win.dw, kx))
                    sum += widen(in[(ky * win.kw + kx) * count + (Index) r * win.ow + c]);
        }
        x[i] = narrow(sum);
    }
}

// n = windows * channels, of which a group has `own`
extern "C" __global__ void im2row(const T* __restrict__ x, T* __restrict__ rows, long long n,
                                  Windows win, int channels, int own) {
    const Index count = (Index) n / channels;
    EACH(i, n) {
        Index window = i / channels;
        int channel = (int) (i - window * channels), group = channel / own;
        Place at = place(window, win.oh, win.ow);
        int top = at.row * win.sh - win.ph, left = at.column * win.sw - win.pw;
        const T* in = x + at.plane * win.h * win.w * channels + channel;
        T* out = rows + (group * count + window) * (win.kh * win.kw) * own + channel - group * own;
        for (int ky = 0; ky < win.kh; ++ky) {
            int row = top + ky * win.dh;
            for (int kx = 0; kx < win.kw; ++kx, out += own) {
                int column = left + kx * win.dw;
                bool inside = row >= 0 && row < win.h && column >= 0 && column < win.w;
                *out = inside ? in[((Index) row * win.w + column) * channels] : narrow(0);
            }
        }
    }
}

// n = images * h * w * channels
extern "C" __global__ void row2im(const T* __restrict__ rows, T* __restrict__ x, long long n,
                                  Windows win, int channels, int own) {
    const Index count = (Index) n / channels / win.h / win.w * win.oh * win.ow;
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, channels);
        int group = at.channel / own, y = at.row + win.ph, x0 = at.column + win.pw, ky, kx;
        Range down = covering(y, win.kh, win.sh, win.dh, win.oh);
        Range across = covering(x0, win.kw, win.sw, win.dw, win.ow);
        const T* in = rows + at.channel - group * own;
        Acc sum = 0;
        for (int r = down.begin; r < down.end; ++r) {
            if (!element(y - r * win.sh, win.dh, ky)) continue;
            for (int c = across.begin; c < across.end; ++c) {
                if (!element(x0 - c * win.sw, win.dw, kx)) continue;
                Index window = group * count + (at.plane * win.oh + r) * win.ow + c;
                sum += widen(in[(window * (win.kh * win.kw) + ky * win.kw + kx) * own]);
            }
        }
        x[i] = narrow(sum);
    }
}
