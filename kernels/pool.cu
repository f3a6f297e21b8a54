// Max and average pooling, of windows and adaptive, forward and backward.
//
// x is planes of h x w, y planes of oh x ow, both C order; or, with inner > 1, images of h x w and
// oh x ow pixels of `inner` channels. Forward: a thread per element of y. Backward: a thread per
// element of x, gathering from the windows that cover it, in a fixed order: no atomics, no zero
// fill, the same bits every time. Sums and comparisons in Acc.
#include "common.cuh"

// The first maximum in row-major order; a NaN wins, the last of several. Indices are positions in
// the plane of h * w. n = planes * oh * ow
extern "C" __global__ void max_pool2d(const T* __restrict__ x, T* __restrict__ y,
                                      int* __restrict__ indices, long long n, Windows win,
                                      int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.oh, win.ow, inner);
        int top = at.row * win.sh - win.ph, left = at.column * win.sw - win.pw;
        int bottom = min(top + (win.kh - 1) * win.dh + 1, win.h);
        int right = min(left + (win.kw - 1) * win.dw + 1, win.w);
        while (top < 0) top += win.dh;
        while (left < 0) left += win.dw;
        const T* in = x + at.plane * win.h * win.w * inner + at.channel;
        Acc best = -INFINITE;                       // the maximum of a window of padding
        int index = top * win.w + left;
        for (int r = top; r < bottom; r += win.dh)
            for (int c = left; c < right; c += win.dw) {
                Acc v = widen(in[(Index) (r * win.w + c) * inner]);
                if (v > best || v != v) {
                    best = v;
                    index = r * win.w + c;
                }
            }
        y[i] = narrow(best);
        indices[i] = index;
    }
}

// gy and indices are (planes, oh, ow); n = planes * h * w
extern "C" __global__ void max_pool2d_backward(const T* __restrict__ gy,
                                               const int* __restrict__ indices,
                                               T* __restrict__ gx, long long n, Windows win,
                                               int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, inner);
        int index = at.row * win.w + at.column;
        Range rows = covering(at.row + win.ph, win.kh, win.sh, win.dh, win.oh);
        Range columns = covering(at.column + win.pw, win.kw, win.sw, win.dw, win.ow);
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r)
            for (int c = columns.begin; c < columns.end; ++c) {
                Index o = ((at.plane * win.oh + r) * win.ow + c) * inner + at.channel;
                if (indices[o] == index) sum += widen(gy[o]);
            }
        gx[i] = narrow(sum);
    }
}

// One dimension of an average's window: its elements inside the plane, and its length, which
// counts padding but not what hangs over beyond the padding (ceil_mode).
struct Span {
    int begin, end, length;
};

__device__ __forceinline__ Span span(int o, int size, int kernel, int stride, int padding) {
    int begin = o * stride - padding, end = min(begin + kernel, size + padding);
    return {max(begin, 0), min(end, size), end - begin};
}

// What a window's sum is divided by; divisor 0 stands for none given.
__device__ __forceinline__ int divide_by(Span a, Span b, int count_include_pad, int divisor) {
    if (divisor) return divisor;
    return count_include_pad ? a.length * b.length : (a.end - a.begin) * (b.end - b.begin);
}

// n = planes * oh * ow
extern "C" __global__ void avg_pool2d(const T* __restrict__ x, T* __restrict__ y, long long n,
                                      Windows win, int inner, int count_include_pad, int divisor) {
    EACH(i, n) {
        Spot at = spot(i, win.oh, win.ow, inner);
        Span rows = span(at.row, win.h, win.kh, win.sh, win.ph);
        Span columns = span(at.column, win.w, win.kw, win.sw, win.pw);
        const T* in = x + at.plane * win.h * win.w * inner + at.channel;
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r)
            for (int c = columns.begin; c < columns.end; ++c)
                sum += widen(in[((Index) r * win.w + c) * inner]);
        bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
        y[i] = narrow(empty ? 0 : sum / divide_by(rows, columns, count_include_pad, divisor));
    }
}

// n = planes * h * w
extern "C" __global__ void avg_pool2d_backward(const T* __restrict__ gy, T* __restrict__ gx,
                                               long long n, Windows win, int inner,
                                               int count_include_pad, int divisor) {
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, inner);
        Range rows = covering(at.row + win.ph, win.kh, win.sh, 1, win.oh);
        Range columns = covering(at.column + win.pw, win.kw, win.sw, 1, win.ow);
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r) {
            Span a = span(r, win.h, win.kh, win.sh, win.ph);
            for (int c = columns.begin; c < columns.end; ++c) {
                Span b = span(c, win.w, win.kw, win.sw, win.pw);
                Acc g = widen(gy[((at.plane * win.oh + r) * win.ow + c) * inner + at.channel]);
                sum += g / divide_by(a, b, count_include_pad, divisor);
            }
        }
        gx[i] = narrow(sum);
    }
}

// What cell o of `cells` holds of `size` elements; cells may share elements.
__device__ __forceinline__ Range cell(int o, int size, int cells) {
    long long begin = (long long) o * size;
    return {(int) (begin / cells), (int) ((begin + size + cells - 1) / cells)};
}

// The first maximum in row-major order; a NaN wins, the last of several. n = planes * oh * ow
extern "C" __global__ void adaptive_max_pool2d(const T* __restrict__ x, T* __restrict__ y,
                                               int* __restrict__ indices, long long n,
                                               Windows win, int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.oh, win.ow, inner);
        Range rows = cell(at.row, win.h, win.oh), columns = cell(at.column, win.w, win.ow);
        const T* in = x + at.plane * win.h * win.w * inner + at.channel;
        Acc best = -INFINITE;
        int index = rows.begin * win.w + columns.begin;
        for (int r = rows.begin; r < rows.end; ++r)
            for (int c = columns.begin; c < columns.end; ++c) {
                Acc v = widen(in[(Index) (r * win.w + c) * inner]);
                if (v > best || v != v) {
                    best = v;
                    index = r * win.w + c;
                }
            }
        y[i] = narrow(best);
        indices[i] = index;
    }
}

// The cells that hold an element are a cell's range with the two sizes exchanged.
// n = planes * h * w
extern "C" __global__ void adaptive_max_pool2d_backward(const T* __restrict__ gy,
                                                        const int* __restrict__ indices,
                                                        T* __restrict__ gx, long long n,
                                                        Windows win, int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, inner);
        int index = at.row * win.w + at.column;
        Range rows = cell(at.row, win.oh, win.h), columns = cell(at.column, win.ow, win.w);
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r)
            for (int c = columns.begin; c < columns.end; ++c) {
                Index o = ((at.plane * win.oh + r) * win.ow + c) * inner + at.channel;
                if (indices[o] == index) sum += widen(gy[o]);
            }
        gx[i] = narrow(sum);
    }
}

// n = planes * oh * ow
extern "C" __global__ void adaptive_avg_pool2d(const T* __restrict__ x, T* __restrict__ y,
                                               long long n, Windows win, int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.oh, win.ow, inner);
        Range rows = cell(at.row, win.h, win.oh), columns = cell(at.column, win.w, win.ow);
        const T* in = x + at.plane * win.h * win.w * inner + at.channel;
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r)
            for (int c = columns.begin; c < columns.end; ++c)
                sum += widen(in[((Index) r * win.w + c) * inner]);
        y[i] = narrow(sum / (rows.end - rows.begin) / (columns.end - columns.begin));
    }
}

// n = planes * h * w
extern "C" __global__ void adaptive_avg_pool2d_backward(const T* __restrict__ gy,
                                                        T* __restrict__ gx, long long n,
                                                        Windows win, int inner) {
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, inner);
        Range rows = cell(at.row, win.oh, win.h), columns = cell(at.column, win.ow, win.w);
        Acc sum = 0;
        for (int r = rows.begin; r < rows.end; ++r) {
            Range a = cell(r, win.h, win.oh);
            for (int c = columns.begin; c < columns.end; ++c) {
                Range b = cell(c, win.w, win.ow);
                Acc g = widen(gy[((at.plane * win.oh + r) * win.ow + c) * inner + at.channel]);
                sum += g / (a.end - a.begin) / (b.end - b.begin);
            }
        }
        gx[i] = narrow(sum);
    }
}
