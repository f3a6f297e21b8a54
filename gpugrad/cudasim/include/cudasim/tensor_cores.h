// What tensor cores do, and copies that run beside a thread, for kernels that hide their inline PTX
// behind #ifdef __GPUGRAD_CUDASIM__. Which lane holds what: PTX ISA, "Matrix Fragments".
#pragma once

struct __half;
struct __nv_bfloat16;
struct cs_tf32;

// A call that a whole warp makes. When all lanes have come, the runtime calls f once with what they
// brought, of which f itself is the first member; the lanes then go on.
template <class Lane> static __forceinline__ void cs_together(Lane& lane) {
    cs_warp(0xffffffffu, (unsigned long) &lane, CS_TOGETHER, 0, 32, 0);
}

// The lanes' variables are read and written for them: not checked.
#define CS_FOR_OTHERS static __attribute__((noinline, no_sanitize("thread", "undefined")))

// ---- mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32, .bf16., and m16n8k8 .tf32. -------------

template <class T> struct cs_operand {          // 16 bits: two in a word
    static constexpr int in_word = 2;
    static float of(unsigned word, int i) {
        return cs_bits<T>((unsigned short) (word >> 16 * i));
    }
};
template <> struct cs_operand<cs_tf32> {        // the bits below its mantissa are not looked at
    static constexpr int in_word = 1;
    static float of(unsigned word, int) { return cs_bits<float>(word & 0xffffe000u); }
};

struct cs_product {
    void (*f)(cs_product**);
    float* d;
    const unsigned *a, *b;
};

// Products are exact, and so is their sum but for doubles' rounding; it is rounded once.
template <class T> CS_FOR_OTHERS void cs_multiply(cs_product** lanes) {
    constexpr int n = cs_operand<T>::in_word, K = 8 * n;
    float a[16][K], b[8][K];
    for (int lane = 0; lane < 32; ++lane) {
        const cs_product& p = *lanes[lane];
        for (int i = 0; i < n; ++i) {
            int g = lane / 4, k = lane % 4 * n + i;
            for (int r = 0; r < 4; ++r)
                a[g + r % 2 * 8][k + r / 2 * 4 * n] = cs_operand<T>::of(p.a[r], i);
            for (int r = 0; r < 2; ++r) b[g][k + r * 4 * n] = cs_operand<T>::of(p.b[r], i);
        }
    }
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            double sum = lanes[lane]->d[i];
            for (int k = 0; k < K; ++k) sum += (double) a[row][k] * (double) b[column][k];
            lanes[lane]->d[i] = (float) sum;
        }
}

template <class T>
static __forceinline__ void cs_mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    cs_product p = {cs_multiply<T>, d, a, b};
    cs_together(p);
}

// cvt.rna.tf32.f32: to 10 bits of mantissa, ties away from 0.
static inline unsigned cs_to_tf32(float x) {
    unsigned bits = cs_bits<unsigned>(x);
    if (x != x) return 0x7fffffff;
    return (bits & 0x7fffffff) >= 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000u;
}

// ---- ldmatrix.sync.aligned.m8n8.x4.shared.b16, and .trans --------------------------------------

struct cs_rows {
    void (*f)(cs_rows**);
    unsigned* r;
    const unsigned short* row;
};

template <bool transposed> CS_FOR_OTHERS void cs_give_rows(cs_rows** lanes) {
    for (int lane = 0; lane < 32; ++lane)
        for (int j = 0; j < 4; ++j) {
            unsigned word = 0;
            for (int i = 0; i < 2; ++i) {
                int a = lane / 4, b = lane % 4 * 2 + i;
                unsigned v = transposed ? lanes[8 * j + b]->row[a] : lanes[8 * j + a]->row[b];
                word |= v << 16 * i;
            }
            lanes[lane]->r[j] = word;
        }
}

extern "C" void cs_read_row(const void* row);

// A row is read by the lane that gives its address.
template <bool transposed>
static __forceinline__ void cs_load_matrices(unsigned (&r)[4], const void* row) {
    cs_read_row(row);
    cs_rows rows = {cs_give_rows<transposed>, r, (const unsigned short*) row};
    cs_together(rows);
}
#undef CS_FOR_OTHERS

// ---- cp.async, cp.async.commit_group, cp.async.wait_group --------------------------------------

extern "C" {
void cs_begin_copy(void* to, const void* from, unsigned bytes, int valid);
void cs_commit_copies();
void cs_wait_for_copies(int groups);        // but for so many of the last ones
}
