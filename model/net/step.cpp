// Element-wise parts of a training step, between the matrix products (model/net/fused.py calls them).
//
// Forward: the integer rules of docs/numerics.md, in float32 or int32 where every value is exact. Backward: the
// straight-through derivatives of model/net/functional.py; gradients of accumulators leave as bfloat16, the format of
// the products that follow. Rows are (time, stream) pairs, stream fastest; every function works on rows or streams
// [begin, end), so that threads can share one call.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef uint16_t bf16;

static inline bf16 narrow(float x) {  // round to nearest even; no NaN comes here
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline float widen(bf16 x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
}

static inline float half_up(float x) { return floorf(x + 0.5f); }

static inline float sat(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

static inline float sat8(float x) { return sat(x, -128.0f, 127.0f); }

static inline float sat16(float x) { return sat(x, -32768.0f, 32767.0f); }

// Straight-through gradient of a product that was rounded to the code z: none where it saturated.
static inline float through(float grad, int8_t z, float scale) { return z > -127 && z < 127 ? grad * scale : 0.0f; }

// Type of sums, and largest value, of the type of a memory's rows, and of what is written and read.
template <typename E>
struct Wide {
    typedef int32_t type;
};

template <>
struct Wide<int8_t> {
    typedef int16_t type;
};

static inline int32_t top(int8_t) { return 127; }

static inline int32_t top(int16_t) { return 32767; }

static inline int32_t clip(int32_t x, int32_t most) { return x < -most - 1 ? -most - 1 : (x > most ? most : x); }

// A window of writes and reads, of streams [begin, end), see model/net/memory.py: before token t is read, the rows of
// token t - 1 are corrected by what was read there. n, heads, rows and o of the last token before the window: `last`
// and `before`. Elements of a row are independent, so the loops over j are vectors. writes [time, streams]: whether
// token t corrects rows at all; null: every one does.
template <typename E>
static void delta(const E *v, const int32_t *at, const int32_t *last, const E *before, const uint8_t *writes,
                  int64_t rate, int64_t time, int64_t streams, int64_t heads, int64_t rows, int64_t n, E *memory, E *o,
                  int64_t begin, int64_t end) {
    typedef typename Wide<E>::type W;  // holds sums of up to 256 rows
    const int mean = __builtin_ctzll((unsigned long long)heads), shift = (int)rate;
    const int32_t most = top(E()), half = (1 << shift) >> 1;
    const W half_mean = (W)((1 << mean) >> 1);
    std::vector<W> error(n), sum(n);
    W *e = error.data(), *total = sum.data();
    for (int64_t b = begin; b < end; b++) {
        E *m = memory + b * rows * n;
        const int32_t *to = last + b * heads;
        const E *read = before + b * n;
        for (int64_t t = 0; t < time; t++) {
            const int64_t row = t * streams + b;
            const E *value = v + row * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) e[j] = (W)((clip(read[j] - value[j], 32767) + half) >> shift);
            for (int64_t k = 0; k < (writes && !writes[row] ? 0 : heads); k++) {
                E *cell = m + to[k] * n;
#pragma omp simd
                for (int64_t j = 0; j < n; j++) {
                    W now = (W)((W)cell[j] - e[j]);
                    now = now < (W)(-most - 1) ? (W)(-most - 1) : now;
                    cell[j] = (E)(now > (W)most ? (W)most : now);
                }
            }
            to = at + row * heads;
            for (int64_t j = 0; j < n; j++) total[j] = half_mean;
            for (int64_t k = 0; k < heads; k++) {
                const E *cell = m + to[k] * n;
#pragma omp simd
                for (int64_t j = 0; j < n; j++) total[j] = (W)(total[j] + cell[j]);
            }
            E *out = o + row * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) out[j] = (E)(total[j] >> mean);
            read = out;
        }
    }
}

extern "C" {

// The address of every token: acc [tokens, width] begins with heads x 2^bits scores of digit a, then those of b. Digit:
// the first of a head's largest scores, saturated to 16 bits. at [tokens, heads]: row numbers.
void memory_rows(const int32_t *acc, int64_t width, int64_t heads, int64_t bits, int32_t *at, int64_t begin,
                 int64_t end) {
    const int64_t slots = (int64_t)1 << bits;
    for (int64_t token = begin; token < end; token++) {
        for (int64_t k = 0; k < heads; k++) {
            int32_t row = (int32_t)k;
            for (int64_t digit = 0; digit < 2; digit++) {
                const int32_t *score = acc + token * width + (digit * heads + k) * slots;
                int32_t best = INT32_MIN;  // score and, in the low ten bits, how early it stands
#pragma omp simd reduction(max : best)
                for (int32_t j = 0; j < (int32_t)slots; j++) {
                    int32_t key = clip(score[j], 32767) * 1024 + (1023 - j);
                    best = key > best ? key : best;
                }
                row = row << bits | (1023 - (best & 1023));
            }
            at[token * heads + k] = row;
        }
    }
}

void delta_forward_i8(const int8_t *v, const int32_t *at, const int32_t *last, const int8_t *before,
                      const uint8_t *writes, int64_t rate, int64_t time, int64_t streams, int64_t heads, int64_t rows,
                      int64_t n, int8_t *memory, int8_t *o, int64_t begin, int64_t end) {
    delta(v, at, last, before, writes, rate, time, streams, heads, rows, n, memory, o, begin, end);
}

void delta_forward_i16(const int16_t *v, const int32_t *at, const int32_t *last, const int16_t *before,
                      const uint8_t *writes, int64_t rate, int64_t time, int64_t streams, int64_t heads, int64_t rows,
                      int64_t n, int16_t *memory, int16_t *o, int64_t begin, int64_t end) {
    delta(v, at, last, before, writes, rate, time, streams, heads, rows, n, memory, o, begin, end);
}

// The adjoint of the map v -> o, streams [begin, end). d_rows [streams, rows, n]: zeros.
void delta_backward(const float *d_o, const int32_t *at, const int32_t *last, const uint8_t *writes, int64_t rate,
                    int64_t time, int64_t streams, int64_t heads, int64_t rows, int64_t n, float *d_rows, float *d_v,
                    int64_t begin, int64_t end) {
    const float mean = 1.0f / (float)heads, step = ldexpf(1.0f, -(int)rate);
    std::vector<float> each(n), pending(n);
    float *part = each.data(), *later = pending.data();
    for (int64_t b = begin; b < end; b++) {
        float *m = d_rows + b * rows * n;
        for (int64_t j = 0; j < n; j++) later[j] = 0.0f;
        for (int64_t t = time - 1; t >= 0; t--) {
            const int64_t row = t * streams + b;
            const int32_t *from = at + row * heads, *to = t ? from - streams * heads : last + b * heads;
            const float *grad = d_o + row * n;
            float *out = d_v + row * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                part[j] = (grad[j] + later[j]) * mean;
                later[j] = 0.0f;
            }
            for (int64_t k = 0; k < heads; k++) {
                float *cell = m + from[k] * n;
#pragma omp simd
                for (int64_t j = 0; j < n; j++) cell[j] += part[j];
            }
            for (int64_t k = 0; k < (writes && !writes[row] ? 0 : heads); k++) {
                const float *cell = m + to[k] * n;
#pragma omp simd
                for (int64_t j = 0; j < n; j++) later[j] += cell[j];
            }
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                out[j] = later[j] * step;
                later[j] = -out[j];
            }
        }
    }
}

// Between the scan and the products around it. acc [tokens, width] ends with n sums of the values, then n of the gates;
// scales: of both requantizations, then of o * g.
void memory_values(const int32_t *acc, int64_t width, float scale, int64_t n, int8_t *v, int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++) {
        const int32_t *a = acc + (token + 1) * width - 2 * n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) v[token * n + j] = (int8_t)sat8(half_up((float)a[j] * scale));
    }
}

void memory_gate(const int32_t *acc, int64_t width, const float *table, float scale, float mul, int64_t n,
                 const int8_t *o, int8_t *codes, int8_t *z, int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++) {
        const int32_t *a = acc + (token + 1) * width - n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            int8_t code = (int8_t)sat8(half_up((float)a[j] * scale));
            codes[token * n + j] = code;
            z[token * n + j] = (int8_t)sat8(half_up((float)o[token * n + j] * table[code + 128] * mul));
        }
    }
}

// dz of o * g -> d_o [tokens, n], and the gate's half of dacc [tokens, 2 n]. slope: requantization included.
void memory_gate_backward(const bf16 *dz, const int8_t *z, const int8_t *o, const int8_t *codes, const float *table,
                          const float *slope, float mul, int64_t n, float *d_o, bf16 *dacc, int64_t begin,
                          int64_t end) {
    for (int64_t token = begin; token < end; token++) {
        const int64_t at = token * n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float g = through(widen(dz[at + j]), z[at + j], mul);
            d_o[at + j] = g * table[codes[at + j] + 128];
            dacc[2 * at + n + j] = narrow(g * (float)o[at + j] * slope[codes[at + j] + 128]);
        }
    }
}

// The values' half of dacc [tokens, 2 n].
void memory_values_backward(const float *d_v, const int8_t *v, float scale, int64_t n, bf16 *dacc, int64_t begin,
                            int64_t end) {
    for (int64_t token = begin; token < end; token++) {
        const int64_t at = token * n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dacc[2 * at + j] = narrow(through(d_v[at + j], v[at + j], scale));
    }
}

// x [rows, n] -> codes y and the scale of each row. table: float[256].
void norm_forward(const float *x, const float *table, float pre, int64_t post, int64_t n, int8_t *y, float *scale,
                  int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const float *a = x + row * n;
        int32_t ss = 0;
#pragma omp simd reduction(+ : ss)
        for (int64_t j = 0; j < n; j++) {
            int32_t q = (int32_t)sat8(half_up(a[j] * pre));
            ss += q * q;
        }
        int e = ss > 0 ? (31 - __builtin_clz((uint32_t)ss)) / 2 : 0;
        int32_t index = e <= 3 ? ss << (6 - 2 * e) : ss >> (2 * e - 6);
        float s = ldexpf(table[index], -(e + (int)post));
        scale[row] = s;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[row * n + j] = (int8_t)sat8(half_up(a[j] * s));
    }
}

// dx = past + gradient of the norm for dy.
void norm_backward(const bf16 *dy, const float *x, const int8_t *y, const float *scale, const float *past, int64_t n,
                   float *dx, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        float gx = 0.0f, xx = 0.0f;
#pragma omp simd reduction(+ : gx, xx)
        for (int64_t j = 0; j < n; j++) {
            gx += through(widen(dy[at + j]), y[at + j], 1.0f) * x[at + j];
            xx += x[at + j] * x[at + j];
        }
        float along = gx / (xx < 1.0f ? 1.0f : xx), s = scale[row];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float g = through(widen(dy[at + j]), y[at + j], 1.0f);
            dx[at + j] = past[at + j] + (g - along * x[at + j]) * s;
        }
    }
}

// y = sat16(r + sat16(round(acc * scale * keep))); keep [streams, n] or null.
void add_forward(const float *r, const int32_t *acc, float scale, const float *keep, int64_t streams, int64_t n,
                 float *y, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float *k = keep ? keep + row % streams * n : nullptr;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float v = (float)acc[at + j] * scale;
            y[at + j] = sat16(r[at + j] + sat16(half_up(k ? v * k[j] : v)));
        }
    }
}

void add_backward(const float *dy, float scale, const float *keep, int64_t streams, int64_t n, bf16 *dacc,
                  int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * n;
        const float *k = keep ? keep + row % streams * n : nullptr;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dacc[at + j] = narrow(k ? dy[at + j] * scale * k[j] : dy[at + j] * scale);
    }
}

// The MLGRU between its products. acc [time, streams, 3 n] holds forget, gate and candidate; tables: float[3][256]
// in that order; scales: of the three requantizations, then of h * g. values [time, streams, 3 n]: what the tables
// gave; h: i16 states, z: i8 products.
void mlgru_forward(const int32_t *acc, const float *tables, const float *scales, const float *h0, int64_t time,
                   int64_t streams, int64_t n, int8_t *codes, int16_t *values, int16_t *h, int8_t *z, int64_t begin,
                   int64_t end) {
    const float *sigmoid = tables, *gate = tables + 256, *candidate = tables + 512;
    const float sf = scales[0], sg = scales[1], sc = scales[2], sz = scales[3];
    for (int64_t t = 0; t < time; t++) {
        for (int64_t b = begin; b < end; b++) {
            const int64_t row = t * streams + b;
            const int32_t *a = acc + row * 3 * n;
            int8_t *code = codes + row * 3 * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) code[j] = (int8_t)sat8(half_up((float)a[j] * sf));
#pragma omp simd
            for (int64_t j = n; j < 2 * n; j++) code[j] = (int8_t)sat8(half_up((float)a[j] * sg));
#pragma omp simd
            for (int64_t j = 2 * n; j < 3 * n; j++) code[j] = (int8_t)sat8(half_up((float)a[j] * sc));
            int16_t *value = values + row * 3 * n;
            int16_t *to = h + row * n;
            const int16_t *from = to - streams * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                float before = t ? (float)from[j] : h0[b * n + j];
                float f256 = sigmoid[code[j] + 128], g = gate[code[n + j] + 128], c = candidate[code[2 * n + j] + 128];
                float f = f256 * (1.0f / 256.0f);
                value[j] = (int16_t)f256;
                value[n + j] = (int16_t)g;
                value[2 * n + j] = (int16_t)c;
                float now = floorf((before - c) * f + 0.5f) + c;
                to[j] = (int16_t)now;
                z[row * n + j] = (int8_t)sat8(half_up(now * g * sz));
            }
        }
    }
}

// dz of h * g -> dacc [time, streams, 3 n]. slopes: float[3][256], requantization included. carry [streams, n]: zeros.
void mlgru_backward(const bf16 *dz, const int8_t *z, const int8_t *codes, const int16_t *values, const int16_t *h,
                    const float *h0, const float *slopes, float mul, int64_t time, int64_t streams, int64_t n,
                    float *carry, bf16 *dacc, int64_t begin, int64_t end) {
    for (int64_t t = time - 1; t >= 0; t--) {
        for (int64_t b = begin; b < end; b++) {
            const int64_t row = t * streams + b, at = row * n;
            const int8_t *cf = codes + row * 3 * n, *cg = cf + n, *cc = cg + n;
            const int16_t *vf = values + row * 3 * n, *vg = vf + n, *vc = vg + n;
            const int16_t *from = h + at - streams * n;
            const float *start = h0 + b * n;
            float *later = carry + b * n;
            bf16 *out = dacc + row * 3 * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                float before = t ? (float)from[j] : start[j];
                float g = through(widen(dz[at + j]), z[at + j], mul);
                float f = (float)vf[j] * (1.0f / 256.0f), c = (float)vc[j];
                float total = g * (float)vg[j] + later[j];
                later[j] = total * f;
                out[j] = narrow((before - c) * total * (1.0f / 256.0f) * slopes[cf[j] + 128]);
                out[n + j] = narrow(g * (float)h[at + j] * slopes[256 + cg[j] + 128]);
                out[2 * n + j] = narrow((total - total * f) * slopes[512 + cc[j] + 128]);
            }
        }
    }
}

// The GLU between its products. acc [rows, 2 m] holds gate and up; scales: of both, then of their product.
// codes [rows, 2 m]: of the gate's table, and the up projection; gates [rows, m]: what the table gave.
void glu_forward(const int32_t *acc, const float *table, const float *scales, int64_t m, int8_t *codes, int16_t *gates,
                 int8_t *z, int64_t begin, int64_t end) {
    const float sa = scales[0], su = scales[1], sz = scales[2];
    for (int64_t row = begin; row < end; row++) {
        const int32_t *a = acc + row * 2 * m;
        int8_t *code = codes + row * 2 * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++) code[j] = (int8_t)sat8(half_up((float)a[j] * sa));
#pragma omp simd
        for (int64_t j = m; j < 2 * m; j++) code[j] = (int8_t)sat8(half_up((float)a[j] * su));
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            float gate = table[code[j] + 128];
            gates[row * m + j] = (int16_t)gate;
            z[row * m + j] = (int8_t)sat8(half_up((float)code[m + j] * gate * sz));
        }
    }
}

// slope: float[256], requantization included; up: scale of the up projection.
void glu_backward(const bf16 *dz, const int8_t *z, const int8_t *codes, const int16_t *gates, const float *slope,
                  float up, float mul, int64_t m, bf16 *dacc, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const int8_t *a = codes + row * 2 * m, *u = a + m;
        bf16 *out = dacc + row * 2 * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            float g = through(widen(dz[row * m + j]), z[row * m + j], mul);
            out[j] = narrow(g * (float)u[j] * slope[a[j] + 128]);
            bool inside = u[j] > -128 && u[j] < 127;
            out[m + j] = narrow(inside ? g * (float)gates[row * m + j] * up : 0.0f);
        }
    }
}

// Logits, in codes, of the head's accumulators.
void head_forward(const int32_t *acc, float scale, int64_t n, float *y, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t j = begin * n; j < end * n; j++) y[j] = sat16(half_up((float)acc[j] * scale));
}

void head_backward(const float *dy, const float *y, float scale, int64_t n, bf16 *dacc, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t j = begin * n; j < end * n; j++)
        dacc[j] = narrow(y[j] > -32768.0f && y[j] < 32767.0f ? dy[j] * scale : 0.0f);
}

// The recurrence alone: f (256ths), c and out [time, streams, n], h0 [streams, n]; streams [begin, end).
void lerp_forward(const float *f, const float *c, const float *h0, int64_t time, int64_t streams, int64_t n,
                  float *out, int64_t begin, int64_t end) {
    for (int64_t t = 0; t < time; t++) {
        for (int64_t b = begin; b < end; b++) {
            const int64_t at = (t * streams + b) * n;
            const float *before = t ? out + at - streams * n : h0 + b * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                out[at + j] = half_up((before[j] - c[at + j]) * (f[at + j] * (1.0f / 256.0f))) + c[at + j];
        }
    }
}

// carry [streams, n]: zeros, and then the gradient of h0.
void lerp_backward(const float *grad, const float *f, const float *c, const float *h0, const float *out, int64_t time,
                   int64_t streams, int64_t n, float *carry, float *df, float *dc, int64_t begin, int64_t end) {
    for (int64_t t = time - 1; t >= 0; t--) {
        for (int64_t b = begin; b < end; b++) {
            const int64_t at = (t * streams + b) * n;
            const float *before = t ? out + at - streams * n : h0 + b * n;
            float *later = carry + b * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                float total = grad[at + j] + later[j], gate = f[at + j] * (1.0f / 256.0f);
                df[at + j] = (before[j] - c[at + j]) * total * (1.0f / 256.0f);
                dc[at + j] = total - total * gate;
                later[j] = total * gate;
            }
        }
    }
}

// Neurons in groups, of which the winners alone are active (model/net/neurons.py). Active neurons are kept as lists:
// w [tokens, groups], the place of the winner in its group of `size`; codes by the same shape.

// The winner of each group, the first of equals, and its score as a code: acc [tokens, groups * size].
void neurons_winners(const int32_t *acc, int64_t groups, int64_t size, float scale, int32_t *w, int8_t *x,
                     int64_t begin, int64_t end) {
    for (int64_t at = begin * groups; at < end * groups; at++) {
        const int32_t *score = acc + at * size;
        int32_t best = score[0], place = 0;
        for (int64_t j = 1; j < size; j++) {
            if (score[j] > best) best = score[j], place = (int32_t)j;
        }
        w[at] = place;
        x[at] = (int8_t)sat8(half_up((float)best * scale));
    }
}

// z = relu(x) * relu(y) of the active neurons, y = Dy u, and acc = E z. dy and e: trits [neurons, n], e transposed.
void neurons_forward(const int32_t *w, const int8_t *x, const int8_t *u, const int8_t *dy, const int8_t *e,
                     float scale, float mul, int64_t groups, int64_t size, int64_t n, int8_t *y, int8_t *z,
                     float *acc, int64_t begin, int64_t end) {
    std::vector<int32_t> sums(n);
    int32_t *sum = sums.data();
    for (int64_t token = begin; token < end; token++) {
        const int8_t *in = u + token * n;
        for (int64_t j = 0; j < n; j++) sum[j] = 0;
        for (int64_t k = 0; k < groups; k++) {
            const int64_t at = token * groups + k, row = (k * size + w[at]) * n;
            int32_t dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t j = 0; j < n; j++) dot += (int32_t)((int16_t)in[j] * (int16_t)dy[row + j]);
            y[at] = (int8_t)sat8(half_up((float)dot * scale));
            const int32_t product = (x[at] > 0 ? x[at] : 0) * (y[at] > 0 ? y[at] : 0);
            const int16_t value = (int16_t)sat8(half_up((float)product * mul));
            z[at] = (int8_t)value;
            if (value == 0) continue;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) sum[j] += (int32_t)(value * (int16_t)e[row + j]);
        }
        for (int64_t j = 0; j < n; j++) acc[token * n + j] = (float)sum[j];
    }
}

// Gradients of the winners' accumulators, cx and cy [tokens, groups], and of h and u [tokens, n], from that of acc.
void neurons_backward(const float *grad, const int32_t *w, const int8_t *x, const int8_t *y, const int8_t *z,
                      const int8_t *dx, const int8_t *dy, const int8_t *e, float scale_x, float scale_y, float mul,
                      int64_t groups, int64_t size, int64_t n, float *cx, float *cy, float *dh, float *du,
                      int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++) {
        const float *g = grad + token * n;
        float *to_h = dh + token * n, *to_u = du + token * n;
        for (int64_t j = 0; j < n; j++) to_h[j] = to_u[j] = 0.0f;
        for (int64_t k = 0; k < groups; k++) {
            const int64_t at = token * groups + k, row = (k * size + w[at]) * n;
            cx[at] = cy[at] = 0.0f;
            if (x[at] < 0 || y[at] < 0 || z[at] == 127) continue;  // where either is below 0, both stay
            float dz = 0.0f;
#pragma omp simd reduction(+ : dz)
            for (int64_t j = 0; j < n; j++) dz += g[j] * (float)e[row + j];
            dz *= mul;
            const float to_x = x[at] < 127 ? dz * (float)y[at] * scale_x : 0.0f;
            const float to_y = y[at] < 127 ? dz * (float)x[at] * scale_y : 0.0f;
            cx[at] = to_x;
            cy[at] = to_y;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                to_h[j] += to_x * (float)dx[row + j];
                to_u[j] += to_y * (float)dy[row + j];
            }
        }
    }
}

// Where each neuron is active: first [neurons + 1], and items, places of w, each neuron's together. One row.
void neurons_order(const int32_t *w, int64_t tokens, int64_t groups, int64_t size, int32_t *first, int32_t *items,
                   int64_t begin, int64_t end) {
    const int64_t neurons = groups * size, count = tokens * groups;
    if (begin >= end) return;
    std::vector<int32_t> next(neurons + 1);
    for (int64_t at = 0; at < count; at++) next[at % groups * size + w[at] + 1]++;
    for (int64_t j = 0; j < neurons; j++) next[j + 1] += next[j];
    for (int64_t j = 0; j <= neurons; j++) first[j] = next[j];
    for (int64_t at = 0; at < count; at++) items[next[at % groups * size + w[at]]++] = (int32_t)at;
}

// Gradients of trits [neurons, n], transposed in the case of E, for neurons [begin, end).
void neurons_weights(const int32_t *first, const int32_t *items, const float *cx, const float *cy, const int8_t *z,
                     const int8_t *h, const int8_t *u, const float *grad, int64_t groups, int64_t n, float *dx,
                     float *dy, float *e, int64_t begin, int64_t end) {
    for (int64_t neuron = begin; neuron < end; neuron++) {
        float *to_x = dx + neuron * n, *to_y = dy + neuron * n, *to_e = e + neuron * n;
        for (int64_t j = 0; j < n; j++) to_x[j] = to_y[j] = to_e[j] = 0.0f;
        for (int64_t i = first[neuron]; i < first[neuron + 1]; i++) {
            const int64_t at = items[i], token = at / groups * n;
            const float a = cx[at], b = cy[at], c = (float)z[at];
            if (a == 0.0f && b == 0.0f && c == 0.0f) continue;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                to_x[j] += a * (float)h[token + j];
                to_y[j] += b * (float)u[token + j];
                to_e[j] += c * grad[token + j];
            }
        }
    }
}

}  // extern "C"
