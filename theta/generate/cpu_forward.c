// GPT-2's forward pass on a CPU, for any number of tokens at once; `cpu_compiled` calls it.
//
// Writing a token takes as long as reading the weights from memory, so they are kept in few bytes and in the order in
// which they are read: in panels of 32 columns, in which the weights of an input are side by side.
//
//     matrix [in, out]  ->  panels [out / 32][in][32], as float32, bfloat16 or 8 bits with a scale for each column
//
// Words of 32 bits hold column i and column i + 16 in bfloat16, or in 8 bits these two of an input and of the next one:
// shifts then take them apart, which every processor does quickly.
//
// Values are in float32 whatever the weights are in. Each sum runs over the inputs in their order, so that a token's
// result depends neither on the other tokens nor on the number of threads, to the bit.

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 32
#define LANES 16
#ifdef __AVX512F__
#define MOST_ROWS 8  // whose sums fit into the registers
#else
#define MOST_ROWS 4
#endif
#define FEW_PANELS 4  // of a single token, so that no sum waits for the one before
#define MOST_SUMS 8
#define PREFETCHED 1024  // bytes from the weights that are used to those that are asked for
#define SPINS 400  // some 20 microseconds, before a waiting thread lets others have its CPU

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

enum format { FLOAT32, BFLOAT16, INT8 };
enum activation { TANH_GELU, GELU, QUICK_GELU, RELU, SILU, TANH };

typedef struct {
    const void *panels;
    const float *scales;  // of the columns in 8 bits, filled up to whole panels
    const float *bias;    // may be NULL
    int64_t in, out, format;
} Matrix;

typedef struct {
    const float *norm_1[2], *norm_2[2];  // gain and shift
    Matrix qkv, out, up, down;
    float scale;  // of the attention scores
} Layer;

typedef struct {
    int64_t layers, heads, width, inner, positions, activation;
    float epsilon;
    const Layer *layer;
    const float *norm[2];
    Matrix head;
} Model;

// ---- Threads: all run the same code, and take the pieces of each phase in turn.

typedef struct {
    _Alignas(128) atomic_long next, done;
} Phase;

static long take(Phase *phase, long pieces) {
    long piece = atomic_fetch_add(&phase->next, 1);
    return piece < pieces ? piece : -1;
}

static void finish(Phase *phase) { atomic_fetch_add(&phase->done, 1); }

static void wait_for(Phase *phase, long pieces) {
    for (long spins = 0; atomic_load(&phase->done) < pieces; spins++) {
        if (spins >= SPINS) sched_yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }
}

#define IN_PIECES(phase, pieces, piece)                                                        \
    for (long piece; (piece = take(phase, pieces)) >= 0; finish(phase))

// The calling thread works too. Where the system gives no further thread, those that there are do all of the work.
static void in_threads(long threads, void *work(void *), void *of) {
    pthread_t others[threads];
    long started = 0;
    while (started < threads - 1 && !pthread_create(&others[started], NULL, work, of)) started++;
    work(of);
    while (started) pthread_join(others[--started], NULL);
}

// ---- Products

// The weights of input k in a panel, columns 0 to 15 and 16 to 31. `odd` is k % 2, known when this is compiled.
static inline void weights_of(const void *panel, enum format format, int64_t k, int odd, floats *left, floats *right) {
    if (format == FLOAT32) {
        *left = ((const floats *)panel)[2 * k];
        *right = ((const floats *)panel)[2 * k + 1];
    } else if (format == BFLOAT16) {  // bfloat16 is the upper half of a float32
        words both = ((const words *)panel)[k];
        *left = (floats)(both << 16);
        *right = (floats)(both & 0xffff0000);
    } else {
        words four = ((const words *)panel)[k / 2];
        *left = __builtin_convertvector((ints)(four << (odd ? 8 : 24)) >> 24, floats);
        *right = __builtin_convertvector((ints)(four << (odd ? 0 : 16)) >> 24, floats);
    }
}

// The bytes of a panel; an odd number of inputs is filled up.
static inline int64_t panel_bytes(int64_t in, enum format format) {
    return format == FLOAT32 ? in * PANEL * 4 : format == BFLOAT16 ? in * PANEL * 2 : (in + 1) / 2 * PANEL * 2;
}

#define INLINE static inline __attribute__((always_inline))

INLINE void add_input(
    const int rows, const int panels, const enum format format, const char *first, const float *x, int64_t in,
    int64_t k, int odd, floats sum[MOST_SUMS][2]) {
#pragma GCC unroll 8
    for (int panel = 0; panel < panels; panel++) {
        const char *weights = first + panel * panel_bytes(in, format);
        floats left, right;
        __builtin_prefetch(weights + panel_bytes(k, format) + PREFETCHED);
        weights_of(weights, format, k, odd, &left, &right);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            sum[row * panels + panel][0] += left * x[row * in + k];
            sum[row * panels + panel][1] += right * x[row * in + k];
        }
    }
}

// The sums of panels for some rows; all arguments but the pointers and `in` are constants where it is used.
INLINE void sums(
    const int rows, const int panels, const enum format format, const char *first, const float *x, int64_t in,
    float *result) {
    floats sum[MOST_SUMS][2] = {0};
    for (int64_t k = 0; k + 1 < in; k += 2) {
        add_input(rows, panels, format, first, x, in, k, 0, sum);
        add_input(rows, panels, format, first, x, in, k + 1, 1, sum);
    }
    if (in % 2) add_input(rows, panels, format, first, x, in, in - 1, 0, sum);
    for (int i = 0; i < rows * panels; i++) memcpy(result + i * PANEL, sum[i], sizeof sum[i]);
}

#define SUMS(rows, panels, format) sums(rows, panels, format, first, x, in, result)
#define BY_SIZE(format)                                                                                    \
    panels > 1 ? SUMS(1, FEW_PANELS, format) : rows == 8 ? SUMS(8, 1, format) : rows == 4 ? SUMS(4, 1, format) \
    : rows == 2 ? SUMS(2, 1, format) : SUMS(1, 1, format)

static void sums_of(
    int rows, int panels, enum format format, const char *first, const float *x, int64_t in, float *result) {
    if (format == FLOAT32) BY_SIZE(FLOAT32);
    else if (format == BFLOAT16) BY_SIZE(BFLOAT16);
    else BY_SIZE(INT8);
}

static int block(int64_t tokens) {  // how many of them have their sums in registers
    int rows = MOST_ROWS;
    while (rows > tokens) rows /= 2;
    return rows;
}

// Receives 32 columns of a token's result, or what is left of them.
typedef void Put(void *of, int64_t token, int64_t column, int64_t columns, const float *values);

static void finish_sums(const Matrix *m, int64_t column, float *values, int64_t token, Put *put, void *of) {
    int64_t columns = m->out - column < PANEL ? m->out - column : PANEL;
    for (int64_t i = 0; i < columns; i++) {
        if (m->scales) values[i] *= m->scales[column + i];
        if (m->bias) values[i] += m->bias[column + i];
    }
    put(of, token, column, columns, values);
}

// Multiply x [tokens, in] by a matrix. A single token has the sums of several panels computed at once.
static void product(Phase *phase, long threads, const Matrix *m, const float *x, int64_t tokens, Put *put, void *of) {
    int64_t panels = (m->out + PANEL - 1) / PANEL, each = panels / (8 * threads) + 1;
    if (tokens == 1) each = (each + FEW_PANELS - 1) / FEW_PANELS * FEW_PANELS;
    long pieces = (panels + each - 1) / each;
    IN_PIECES(phase, pieces, piece) {
        int64_t end = (piece + 1) * each < panels ? (piece + 1) * each : panels;
        for (int64_t p = piece * each, few; p < end; p += few) {
            const char *first = (const char *)m->panels + p * panel_bytes(m->in, m->format);
            few = tokens == 1 && p + FEW_PANELS <= end ? FEW_PANELS : 1;
            for (int64_t token = 0, rows; token < tokens; token += rows) {
                float result[MOST_SUMS * PANEL];
                rows = block(tokens - token);
                sums_of(rows, few, m->format, first, x + token * m->in, m->in, result);
                for (int64_t i = 0; i < rows * few; i++)
                    finish_sums(m, (p + i % few) * PANEL, result + i * PANEL, token + i / few, put, of);
            }
        }
    }
    wait_for(phase, pieces);
}

// ---- What is between the products

static inline float exponential(float x) {
    // 2 ** n times a polynomial (that of Cephes' expf), where the rest is at most log(2) / 2.
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t i; float f; } power = {.i = ((int32_t)n + 127) << 23};
    return (p * r * r + r + 1.0f) * power.f;
}

static void activate(float *x, int64_t count, enum activation activation) {
    switch (activation) {
        case TANH_GELU:  // x / (1 + exp(-2 u)) is x (1 + tanh(u)) / 2
            for (int64_t i = 0; i < count; i++)
                x[i] /= 1.0f + exponential(-1.5957691216057308f * (x[i] + 0.044715f * x[i] * x[i] * x[i]));
            break;
        case GELU: for (int64_t i = 0; i < count; i++) x[i] *= 0.5f * (1.0f + erff(x[i] * 0.70710678118654752f)); break;
        case QUICK_GELU: for (int64_t i = 0; i < count; i++) x[i] /= 1.0f + exponential(-1.702f * x[i]); break;
        case RELU: for (int64_t i = 0; i < count; i++) x[i] = x[i] > 0.0f ? x[i] : 0.0f; break;
        case SILU: for (int64_t i = 0; i < count; i++) x[i] /= 1.0f + exponential(-x[i]); break;
        case TANH: for (int64_t i = 0; i < count; i++) x[i] = tanhf(x[i]); break;
    }
}

static void layer_norm(const float *x, int64_t width, const float *const gain_shift[2], float epsilon, float *result) {
    float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf(squares / width + epsilon);
    for (int64_t i = 0; i < width; i++) result[i] = (x[i] - mean) * factor * gain_shift[0][i] + gain_shift[1][i];
}

// Attention of one query over keys and values [positions, head]; `weights` has room for the positions.
static void attend(
    const float *q, const float *keys, const float *values, int64_t positions, int64_t head, float scale,
    float *weights, float *result) {
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t p = 0; p < positions; p++) {
        float score = 0.0f;
#pragma omp simd reduction(+ : score)
        for (int64_t i = 0; i < head; i++) score += q[i] * keys[p * head + i];
        weights[p] = score * scale;
        largest = weights[p] > largest ? weights[p] : largest;
    }
    for (int64_t p = 0; p < positions; p++) weights[p] = exponential(weights[p] - largest);
#pragma omp simd reduction(+ : sum)
    for (int64_t p = 0; p < positions; p++) sum += weights[p];
    memset(result, 0, head * sizeof *result);
    for (int64_t p = 0; p < positions; p++)
        for (int64_t i = 0; i < head; i++) result[i] += weights[p] * values[p * head + i];
    for (int64_t i = 0; i < head; i++) result[i] /= sum;
}

// ---- The pass

typedef struct {
    const Model *model;
    long threads;
    int64_t tokens, wanted;
    const int64_t *places;       // position of each token
    float *const *caches;        // of each token [layers, 2, heads, positions, head]
    const int64_t *which;        // tokens whose logits are wanted
    float *x, *logits;           // [tokens, width], [wanted, vocabulary]
    float *qkv, *mixed, *inner;  // [tokens, 3 width], [tokens, width], [tokens, inner]
    float *scratch;              // of each thread [tokens, width] and [positions]
    atomic_long running;
    Phase *phases;
} Pass;

typedef struct {
    Pass *pass;
    int64_t layer;
} Place;

static float *cached(const Pass *pass, int64_t token, int64_t layer, int64_t part, int64_t head, int64_t position) {
    const Model *m = pass->model;
    int64_t row = ((layer * 2 + part) * m->heads + head) * m->positions + position;
    return pass->caches[token] + row * (m->width / m->heads);
}

static void put_qkv(void *of, int64_t token, int64_t column, int64_t columns, const float *values) {
    Pass *pass = ((Place *)of)->pass;
    int64_t layer = ((Place *)of)->layer, width = pass->model->width, head = width / pass->model->heads;
    memcpy(pass->qkv + token * 3 * width + column, values, columns * sizeof *values);
    for (int64_t i = 0; i < columns; i++) {
        int64_t part = (column + i) / width, inside = (column + i) % width;
        if (part) cached(pass, token, layer, part - 1, inside / head, pass->places[token])[inside % head] = values[i];
    }
}

static void add_to_x(void *of, int64_t token, int64_t column, int64_t columns, const float *values) {
    Pass *pass = ((Place *)of)->pass;
    float *x = pass->x + token * pass->model->width + column;
    for (int64_t i = 0; i < columns; i++) x[i] += values[i];
}

static void put_inner(void *of, int64_t token, int64_t column, int64_t columns, const float *values) {
    Pass *pass = ((Place *)of)->pass;
    float *inner = pass->inner + token * pass->model->inner + column;
    memcpy(inner, values, columns * sizeof *values);
    activate(inner, columns, pass->model->activation);
}

static void put_logits(void *of, int64_t token, int64_t column, int64_t columns, const float *values) {
    Pass *pass = ((Place *)of)->pass;
    memcpy(pass->logits + token * pass->model->head.out + column, values, columns * sizeof *values);
}

static void attention(Pass *pass, Phase *phase, int64_t layer, float *weights) {
    const Model *m = pass->model;
    int64_t head = m->width / m->heads;
    long pieces = pass->tokens * m->heads;
    IN_PIECES(phase, pieces, piece) {
        int64_t token = piece / m->heads, h = piece % m->heads;
        attend(
            pass->qkv + token * 3 * m->width + h * head, cached(pass, token, layer, 0, h, 0),
            cached(pass, token, layer, 1, h, 0), pass->places[token] + 1, head, m->layer[layer].scale, weights,
            pass->mixed + token * m->width + h * head);
    }
    wait_for(phase, pieces);
}

// Each thread computes the layer norms for itself, which is quicker than to share them.
static void norms(const Pass *pass, const float *const gain_shift[2], float *result) {
    int64_t width = pass->model->width;
    for (int64_t token = 0; token < pass->tokens; token++)
        layer_norm(pass->x + token * width, width, gain_shift, pass->model->epsilon, result + token * width);
}

static void *run(void *of) {
    Pass *pass = of;
    const Model *m = pass->model;
    float *normed = pass->scratch + atomic_fetch_add(&pass->running, 1) * (pass->tokens * m->width + m->positions);
    float *weights = normed + pass->tokens * m->width;
    Phase *phase = pass->phases;
    for (int64_t layer = 0; layer < m->layers; layer++) {
        const Layer *l = &m->layer[layer];
        Place place = {pass, layer};
        norms(pass, l->norm_1, normed);
        product(phase++, pass->threads, &l->qkv, normed, pass->tokens, put_qkv, &place);
        attention(pass, phase++, layer, weights);
        product(phase++, pass->threads, &l->out, pass->mixed, pass->tokens, add_to_x, &place);
        norms(pass, l->norm_2, normed);
        product(phase++, pass->threads, &l->up, normed, pass->tokens, put_inner, &place);
        product(phase++, pass->threads, &l->down, pass->inner, pass->tokens, add_to_x, &place);
    }
    for (int64_t i = 0; i < pass->wanted; i++)
        layer_norm(pass->x + pass->which[i] * m->width, m->width, m->norm, m->epsilon, normed + i * m->width);
    Place place = {pass, m->layers};
    if (pass->wanted) product(phase, pass->threads, &m->head, normed, pass->wanted, put_logits, &place);
    return NULL;
}

// Read tokens [tokens, width] into their caches, and write the logits of those that are wanted; 0 if memory lacks.
int theta_forward(
    const Model *model, int64_t tokens, float *x, const int64_t *places, float *const *caches, int64_t wanted,
    const int64_t *which, float *logits, int64_t threads) {
    int64_t shared = tokens * (4 * model->width + model->inner), own = tokens * model->width + model->positions;
    int64_t phases_bytes = (5 * model->layers + 1) * sizeof(Phase);
    float *values = malloc((shared + threads * own) * sizeof *values);
    Phase *phases = aligned_alloc(_Alignof(Phase), phases_bytes);
    int complete = values && phases;
    if (complete) {
        memset(phases, 0, phases_bytes);
        Pass pass = {
            .model = model, .threads = threads, .tokens = tokens, .wanted = wanted, .places = places,
            .caches = caches, .which = which, .x = x, .logits = logits, .qkv = values,
            .mixed = values + 3 * tokens * model->width, .inner = values + 4 * tokens * model->width,
            .scratch = values + shared, .phases = phases,
        };
        in_threads(threads, run, &pass);
    }
    free(values);
    free(phases);
    return complete;
}

// ---- Packing

typedef struct {
    const void *source;  // float32, or bfloat16
    int64_t in, out, transposed, from, to;
    char *panels;
    float *scales;
    Phase phase;
} Packing;

static inline float weight_at(const Packing *p, int64_t k, int64_t column) {
    int64_t at = p->transposed ? column * p->in + k : k * p->out + column;
    if (p->from == FLOAT32) return ((const float *)p->source)[at];
    union { uint32_t i; float f; } upper = {.i = (uint32_t)((const uint16_t *)p->source)[at] << 16};
    return upper.f;
}

static inline uint16_t rounded_to_16_bits(float weight) {  // to the nearest, of two the even one; NaN stays NaN
    union { float f; uint32_t i; } bits = {weight};
    if (weight != weight) return (bits.i >> 16) | 64;
    return (bits.i + 0x7fff + (bits.i >> 16 & 1)) >> 16;
}

// Copy inputs k to k + count of a panel to [count][PANEL].
static void copy_part(const Packing *p, int64_t k, int64_t count, int64_t column, int64_t columns, float *part) {
    if (p->transposed)
        for (int64_t i = 0; i < columns; i++)
            for (int64_t j = 0; j < count; j++) part[j * PANEL + i] = weight_at(p, k + j, column + i);
    else
        for (int64_t j = 0; j < count; j++)
            for (int64_t i = 0; i < columns; i++) part[j * PANEL + i] = weight_at(p, k + j, column + i);
}

#define PART 64

static void find_scales(const Packing *p, int64_t column, int64_t columns, float *scales) {
    float part[PART * PANEL] = {0}, largest[PANEL] = {0};
    for (int64_t k = 0; k < p->in; k += PART) {
        int64_t count = p->in - k < PART ? p->in - k : PART;
        copy_part(p, k, count, column, columns, part);
        for (int64_t j = 0; j < count; j++)
            for (int i = 0; i < PANEL; i++) {
                float size = fabsf(part[j * PANEL + i]);
                largest[i] = size > largest[i] || size != size ? size : largest[i];
            }
    }
    for (int i = 0; i < PANEL; i++) scales[i] = largest[i] / 127.0f;
}

static void put_16_bits(const float *part, int64_t count, uint32_t *words) {
    for (int64_t j = 0; j < count; j++)
        for (int i = 0; i < LANES; i++)
            words[j * LANES + i] = rounded_to_16_bits(part[j * PANEL + i]) |
                (uint32_t)rounded_to_16_bits(part[j * PANEL + LANES + i]) << 16;
}

static void put_8_bits(const float *part, int64_t count, const float *factors, uint32_t *words) {
    for (int64_t j = 0; j < count; j += 2)
        for (int i = 0; i < LANES; i++) {
            uint32_t word = 0;
            for (int64_t n = 0; n < 4 && j + n / 2 < count; n++) {
                int column = n % 2 * LANES + i;
                int32_t whole = (int32_t)__builtin_rintf(part[(j + n / 2) * PANEL + column] * factors[column]);
                word |= (uint32_t)(whole & 255) << (8 * n);
            }
            words[j / 2 * LANES + i] = word;
        }
}

static void *pack_panels(void *of) {
    Packing *p = of;
    long panels = (p->out + PANEL - 1) / PANEL;
    IN_PIECES(&p->phase, panels, panel) {
        int64_t column = panel * PANEL, columns = p->out - column < PANEL ? p->out - column : PANEL;
        float part[PART * PANEL] = {0}, factors[PANEL] = {0};
        if (p->to == INT8) {
            find_scales(p, column, columns, p->scales + column);
            for (int i = 0; i < PANEL; i++) factors[i] = p->scales[column + i] > 0 ? 1.0f / p->scales[column + i] : 0.0f;
        }
        for (int64_t k = 0; k < p->in; k += PART) {
            int64_t count = p->in - k < PART ? p->in - k : PART;
            copy_part(p, k, count, column, columns, part);
            char *to = p->panels + panel * panel_bytes(p->in, p->to) + panel_bytes(k, p->to);
            if (p->to == FLOAT32) memcpy(to, part, count * PANEL * sizeof *part);
            if (p->to == BFLOAT16) put_16_bits(part, count, (uint32_t *)to);
            if (p->to == INT8) put_8_bits(part, count, factors, (uint32_t *)to);
        }
    }
    return NULL;
}

// Pack a matrix [in, out], or [out, in] if it is transposed.
void theta_pack(
    const void *source, int64_t from, int64_t in, int64_t out, int64_t transposed, int64_t to, void *panels,
    float *scales, int64_t threads) {
    Packing packing = {
        .source = source, .in = in, .out = out, .transposed = transposed, .from = from, .to = to, .panels = panels,
        .scales = scales,
    };
    in_threads(threads, pack_panels, &packing);
}

// Whether bfloat16 holds all of these numbers.
int theta_fits_bfloat16(const float *numbers, int64_t count) {
    const uint32_t *bits = (const uint32_t *)numbers;
    for (int64_t start = 0; start < count; start += 1024) {
        uint32_t lower = 0;
        for (int64_t i = start; i < count && i < start + 1024; i++) lower |= bits[i] & 0xffff;
        if (lower) return 0;
    }
    return 1;
}
