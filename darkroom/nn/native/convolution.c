/* 3×3 convolution of float32 maps (B, H, W, C) with padding 1, by minimal filtering F(4×4, 3×3) (Lavin & Gray 2016):
   a tile of 4×4 results takes 36 products per pair of channels instead of 144.

   The interpolation points 0, ±2/3, ±4/3 and infinity keep the rounding error near that of the plain convolution; the
   usual 0, ±1, ±2 lose two bits more. All tensors are dense; C is a multiple of 8, K (results) of 16. */

#include <stdint.h>
#include <string.h>

enum { LANES = 8, STRIP = 6, PANEL = 16, EDGE = 6, FREQUENCIES = 36, TILE = 4 };

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4))); /* the compiler maps it to what there is */

static const float A1 = 2.0f / 3, A2 = 4.0f / 9, A3 = 8.0f / 27;      /* the point a = 2/3 and its powers */
static const float B1 = 4.0f / 3, B2 = 16.0f / 9, B3 = 64.0f / 27;    /* b = 4/3 */
static const float SUM = 20.0f / 9, PRODUCT = 64.0f / 81;             /* a² + b², a² b² */

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec v) { *(vec *)p = v; }

/* One column of the transform of inputs: values of x⁴ … at the six points. */
static inline void points(const vec *d, long step, vec *r, long out) {
    vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    vec even_a = d4 - B2 * d2, odd_a = A1 * (d3 - B2 * d1), even_b = d4 - A2 * d2, odd_b = B1 * (d3 - A2 * d1);
    r[0] = PRODUCT * d0 - SUM * d2 + d4;
    r[out] = even_a + odd_a;
    r[2 * out] = even_a - odd_a;
    r[3 * out] = even_b + odd_b;
    r[4 * out] = even_b - odd_b;
    r[5 * out] = PRODUCT * d1 - SUM * d3 + d5;
}

/* One column of the transform of results: back from the six points to four neighbors. */
static inline void neighbors(const vec *m, long step, vec *r, long out) {
    vec sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
    vec sum_b = m[3 * step] + m[4 * step], difference_b = m[3 * step] - m[4 * step];
    r[0] = m[0] + sum_a + sum_b;
    r[out] = A1 * difference_a + B1 * difference_b;
    r[2 * out] = A2 * sum_a + B2 * sum_b;
    r[3 * out] = A3 * difference_a + B3 * difference_b + m[5 * step];
}

/* c (STRIP rows of PANEL, `ldc` apart) = a (STRIP rows, `lda` apart, `depth` long) b (depth rows of PANEL) */
static inline void product(const float *a, long lda, const float *b, long depth, float *c, long ldc) {
    vec sum[STRIP][2];
    for (int i = 0; i < STRIP; i++) sum[i][0] = sum[i][1] = (vec){0};
    for (long k = 0; k < depth; k++) {
        vec left = load(b + k * PANEL), right = load(b + k * PANEL + LANES);
#pragma GCC unroll 6
        for (int i = 0; i < STRIP; i++) {
            float factor = a[i * lda + k];
            sum[i][0] += factor * left;
            sum[i][1] += factor * right;
        }
    }
    for (int i = 0; i < STRIP; i++) store(c + i * ldc, sum[i][0]), store(c + i * ldc + LANES, sum[i][1]);
}

/* One column of the transform of kernels: three weights to their values at the six points, over the points' products. */
static inline void weights(const vec *g, long step, vec *r, long out) {
    const float none = 81.0f / 64, near = -27.0f / 32, far = 27.0f / 128; /* 1 / a² b², 1 / 2a² (a² − b²), … */
    vec even_a = near * (g[0] + A2 * g[2 * step]), odd_a = near * A1 * g[step];
    vec even_b = far * (g[0] + B2 * g[2 * step]), odd_b = far * B1 * g[step];
    r[0] = none * g[0];
    r[out] = even_a + odd_a;
    r[2 * out] = even_a - odd_a;
    r[3 * out] = even_b + odd_b;
    r[4 * out] = even_b - odd_b;
    r[5 * out] = g[2 * step];
}

/* Distance of frequencies in packed kernels: out of step, for sets of the cache hold few places at equal distances. */
static long frequency_step(long inputs, long outputs) { return inputs * outputs + 3 * PANEL; }

long convolution_packed(long inputs, long outputs) { return FREQUENCIES * frequency_step(inputs, outputs); }

/* Kernels w (K, C, 3, 3), panels [first, last) of 16 results, to `packed` [36][K / 16][C][16]. Inputs of w lie
   `w_input` floats apart, its nine weights `w_tap`. */
void convolution_pack(const float *w, long w_input, long w_tap, long outputs, long inputs, long first, long last,
                      float *packed) {
    long step = frequency_step(inputs, outputs);
    for (long k = first * PANEL; k < last * PANEL; k += PANEL)
        for (long c = 0; c < inputs; c++)
            for (long part = 0; part < PANEL; part += LANES) {
                vec g[9], half[EDGE * 3], r[FREQUENCIES];
                for (int i = 0; i < 9; i++)
                    for (int lane = 0; lane < LANES; lane++)
                        g[i][lane] = w[(k + part + lane) * inputs * 9 + c * w_input + i * w_tap];
                for (int j = 0; j < 3; j++) weights(g + j, 3, half + j, 3);
                for (int i = 0; i < EDGE; i++) weights(half + i * 3, 1, r + i * EDGE, 1);
                for (int i = 0; i < FREQUENCIES; i++) store(packed + i * step + k * inputs + c * PANEL + part, r[i]);
            }
}

/* Floats of scratch for `block` tiles (a multiple of STRIP) at a time. */
long convolution_scratch(long inputs, long outputs, long block) {
    return FREQUENCIES * block * (inputs + outputs) + inputs;
}

/* Tiles [first, last) of the B · ⌈H/4⌉ · ⌈W/4⌉ there are. */
void convolution_tiles(const float *x, long height, long width, long inputs, const float *packed, const float *bias,
                       long outputs, float *y, long first, long last, long block, float *scratch) {
    long step = frequency_step(inputs, outputs);
    long down = (height + TILE - 1) / TILE, across = (width + TILE - 1) / TILE;
    float *v = scratch, *m = v + FREQUENCIES * block * inputs, *zeros = m + FREQUENCIES * block * outputs;
    memset(zeros, 0, inputs * sizeof(float));
    for (long start = first; start < last; start += block) {
        long count = last - start < block ? last - start : block, rows = (count + STRIP - 1) / STRIP * STRIP;
        for (long t = 0; t < count; t++) {
            long tile = start + t, image = tile / (down * across);
            long top = tile / across % down * TILE - 1, left = tile % across * TILE - 1;
            const float *source[FREQUENCIES];
            for (int i = 0; i < EDGE; i++)
                for (int j = 0; j < EDGE; j++) {
                    long row = top + i, column = left + j;
                    int inside = row >= 0 && row < height && column >= 0 && column < width;
                    source[i * EDGE + j] = inside ? x + ((image * height + row) * width + column) * inputs : zeros;
                }
            for (long c = 0; c < inputs; c += LANES) {
                vec d[FREQUENCIES], half[FREQUENCIES], r[FREQUENCIES];
                for (int i = 0; i < FREQUENCIES; i++) d[i] = load(source[i] + c);
                for (int j = 0; j < EDGE; j++) points(d + j, EDGE, half + j, EDGE);
                for (int i = 0; i < EDGE; i++) points(half + i * EDGE, 1, r + i * EDGE, 1);
                for (int i = 0; i < FREQUENCIES; i++) store(v + (i * block + t) * inputs + c, r[i]);
            }
        }
        for (long t = count; t < rows; t++) /* what fills up the last strip must at least be finite */
            for (int i = 0; i < FREQUENCIES; i++) memset(v + (i * block + t) * inputs, 0, inputs * sizeof(float));
        for (int i = 0; i < FREQUENCIES; i++)
            for (long k = 0; k < outputs; k += PANEL)
                for (long t = 0; t < rows; t += STRIP)
                    product(v + (i * block + t) * inputs, inputs, packed + i * step + k * inputs, inputs,
                            m + (i * block + t) * outputs + k, outputs);
        for (long t = 0; t < count; t++) {
            long tile = start + t, image = tile / (down * across);
            long top = tile / across % down * TILE, left = tile % across * TILE;
            for (long k = 0; k < outputs; k += LANES) {
                vec d[FREQUENCIES], half[TILE * EDGE], r[TILE * TILE];
                for (int i = 0; i < FREQUENCIES; i++) d[i] = load(m + (i * block + t) * outputs + k);
                for (int j = 0; j < EDGE; j++) neighbors(d + j, EDGE, half + j, EDGE);
                for (int i = 0; i < TILE; i++) neighbors(half + i * EDGE, 1, r + i * TILE, 1);
                vec offset = bias ? load(bias + k) : (vec){0};
                for (int i = 0; i < TILE && top + i < height; i++)
                    for (int j = 0; j < TILE && left + j < width; j++)
                        store(y + ((image * height + top + i) * width + left + j) * outputs + k, r[i * TILE + j] + offset);
            }
        }
    }
}
