/* Attention of bf16 rows with float32 sums, for processors with AVX-512 BF16 (vdpbf16ps).

   One call does one head: q (n, d), k and v (m, d), y (n, d), all bf16. Scores go by blocks of ROWS queries and KEYS keys
   that stay in the cache, with the running maximum and sum of online softmax (Milakov & Gimelshein 2018). A product's
   second factor is packed in pairs along the sum, as vdpbf16ps reads it: b[pair][column][2]. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;

enum { STRIP = 6, ROWS = 48, KEYS = 512, LANES = 16 };

/* c (rows of `columns` = 16 nz floats, `ldc` apart) += or = a (STRIP rows of pairs, `lda` pairs apart) b */
#define PRODUCT(NZ)                                                                                              \
    static void product##NZ(const uint32_t *a, long lda, const uint32_t *b, long ldb, long pairs, float *c, long ldc, \
                            int add) {                                                                           \
        __m512 sum[STRIP][NZ];                                                                                   \
        for (int i = 0; i < STRIP; i++)                                                                          \
            for (int j = 0; j < NZ; j++)                                                                         \
                sum[i][j] = add ? _mm512_loadu_ps(c + i * ldc + j * LANES) : _mm512_setzero_ps();                \
        for (long p = 0; p < pairs; p++) {                                                                       \
            __m512bh column[NZ];                                                                                 \
            for (int j = 0; j < NZ; j++) column[j] = (__m512bh)_mm512_loadu_si512(b + p * ldb + j * LANES);      \
            for (int i = 0; i < STRIP; i++) {                                                                    \
                __m512bh pair = (__m512bh)_mm512_set1_epi32((int)a[i * lda + p]);                                \
                for (int j = 0; j < NZ; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], pair, column[j]);           \
            }                                                                                                    \
        }                                                                                                        \
        for (int i = 0; i < STRIP; i++)                                                                          \
            for (int j = 0; j < NZ; j++) _mm512_storeu_ps(c + i * ldc + j * LANES, sum[i][j]);                   \
    }

PRODUCT(1)
PRODUCT(2)
PRODUCT(3)
PRODUCT(4)

static void product(const uint32_t *a, long lda, const uint32_t *b, long ldb, long pairs, float *c, long ldc,
                    long columns, int add) {
    for (long j = 0; j < columns; j += 4 * LANES) {
        long left = (columns - j) / LANES;
        if (left >= 4) product4(a, lda, b + j, ldb, pairs, c + j, ldc, add);
        else if (left == 3) product3(a, lda, b + j, ldb, pairs, c + j, ldc, add);
        else if (left == 2) product2(a, lda, b + j, ldb, pairs, c + j, ldc, add);
        else product1(a, lda, b + j, ldb, pairs, c + j, ldc, add);
    }
}

/* 2^x for x <= 0: the fraction by a polynomial of relative error 2e-7, the whole part into the exponent */
static inline __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(1.5403530e-4f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3333558e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, whole);
}

/* Bytes of scratch for one head; negative d or m are the caller's mistake. */
long attention_scratch(long m, long d) {
    long dp = (d + LANES - 1) / LANES * LANES, mp = (m + LANES - 1) / LANES * LANES;
    return 4 * (dp / 2 * mp        /* k, packed */
                + mp / 2 * dp      /* v, packed */
                + ROWS * (dp / 2)  /* queries */
                + ROWS * KEYS      /* scores */
                + ROWS * KEYS / 2  /* their exponentials */
                + ROWS * dp)       /* output */
           + 64;
}

/* Distances between rows are in elements. The scratch is packed for each call. */
void attention_head(const bf16 *q, long q_row, const bf16 *k, long k_row, const bf16 *v, long v_row, bf16 *y, long y_row,
                    long n, long m, long d, float scale, void *scratch) {
    long dp = (d + LANES - 1) / LANES * LANES, mp = (m + LANES - 1) / LANES * LANES, half = dp / 2;
    uint32_t *keys = (uint32_t *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    uint32_t *values = keys + half * mp;
    uint32_t *rows = values + mp / 2 * dp;
    float *scores = (float *)(rows + ROWS * half);
    uint32_t *weights = (uint32_t *)(scores + ROWS * KEYS);
    float *out = (float *)(weights + ROWS * KEYS / 2);
    float peak[ROWS], total[ROWS];

    memset(keys, 0, 4 * half * mp);
    memset(values, 0, 4 * (mp / 2) * dp);
    for (long j = 0; j < m; j++) {
        const bf16 *key = k + j * k_row;
        for (long p = 0; p < d / 2; p++) {
            uint32_t pair;
            memcpy(&pair, key + 2 * p, 4);
            keys[p * mp + j] = pair;
        }
        if (d & 1) keys[(d / 2) * mp + j] = key[d - 1];
        bf16 *value = (bf16 *)(values + (j / 2) * dp) + (j & 1);
        for (long c = 0; c < d; c++) value[2 * c] = v[j * v_row + c];
    }
    const __m512 factor = _mm512_set1_ps(scale * 1.44269504f); /* softmax in powers of two */
    for (long r = 0; r < n; r += ROWS) {
        long count = n - r < ROWS ? n - r : ROWS, strips = (count + STRIP - 1) / STRIP * STRIP;
        memset(rows, 0, 4 * ROWS * half);
        for (long i = 0; i < count; i++) memcpy(rows + i * half, q + (r + i) * q_row, 2 * d);
        memset(out, 0, 4 * ROWS * dp);
        for (long i = 0; i < ROWS; i++) peak[i] = -INFINITY, total[i] = 0;
        for (long b = 0; b < m; b += KEYS) {
            long here = m - b < KEYS ? m - b : KEYS, wide = (here + LANES - 1) / LANES * LANES;
            for (long i = 0; i < strips; i += STRIP)
                product(rows + i * half, half, keys + b, mp, half, scores + i * KEYS, KEYS, wide, 0);
            for (long i = 0; i < count; i++) {
                float *row = scores + i * KEYS;
                for (long j = here; j < wide; j++) row[j] = -INFINITY;
                __m512 most = _mm512_set1_ps(-INFINITY);
                for (long j = 0; j < wide; j += LANES) most = _mm512_max_ps(most, _mm512_loadu_ps(row + j));
                float high = _mm512_reduce_max_ps(most) * scale * 1.44269504f;
                float now = high > peak[i] ? high : peak[i];
                __m512 shift = _mm512_set1_ps(now), sum = _mm512_setzero_ps();
                for (long j = 0; j < wide; j += LANES) {
                    __m512 e = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(row + j), factor, shift));
                    if (j + LANES > here) e = _mm512_maskz_mov_ps((__mmask16)((1u << (here - j)) - 1), e);
                    __m256bh rounded = _mm512_cvtneps_pbh(e);
                    sum = _mm512_add_ps(sum, e);
                    _mm256_storeu_si256((__m256i *)(weights + (i * KEYS + j) / 2), (__m256i)rounded);
                }
                float keep = peak[i] == -INFINITY ? 0.0f : exp2f(peak[i] - now);
                total[i] = total[i] * keep + _mm512_reduce_add_ps(sum);
                peak[i] = now;
                if (keep != 1.0f)
                    for (long c = 0; c < dp; c += LANES)
                        _mm512_storeu_ps(out + i * dp + c,
                                         _mm512_mul_ps(_mm512_loadu_ps(out + i * dp + c), _mm512_set1_ps(keep)));
            }
            for (long i = 0; i < strips; i += STRIP)
                product(weights + i * KEYS / 2, KEYS / 2, values + b / 2 * dp, dp, wide / 2, out + i * dp, dp, dp, 1);
        }
        for (long i = 0; i < count; i++) {
            __m512 share = _mm512_set1_ps(1.0f / total[i]);
            for (long c = 0; c < d; c += LANES) {
                __m256bh rounded = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(out + i * dp + c), share));
                bf16 cell[LANES];
                memcpy(cell, &rounded, sizeof cell);
                memcpy(y + (r + i) * y_row + c, cell, 2 * (d - c < LANES ? d - c : LANES));
            }
        }
    }
}
