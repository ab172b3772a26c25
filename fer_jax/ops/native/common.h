// What the kernels share: vectors, a deterministic parallel loop, geometry.
//
// Everything works on float32 NHWC arrays. Results must not depend on timing or
// on the number of threads: work is cut into chunks by shape alone, and partial
// sums are kept one per chunk and added in the order of the chunks.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace fer {

namespace ffi = xla::ffi;

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));

inline Vec Zero() { return Vec{}; }

inline Vec Load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

inline void Store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof(v)); }

// x - 0 is x for every x, so the subtraction vanishes; 0 + x would not.
inline Vec Splat(float value) { return value - Vec{}; }

// The first n lanes, zeros after them; n >= kLanes loads all.
inline Vec LoadPart(const float* p, int64_t n) {
  if (n >= kLanes) return Load(p);
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
  Vec v = Zero();
  __builtin_memcpy(&v, p, n * sizeof(float));
  return v;
#endif
}

inline void StorePart(float* p, Vec v, int64_t n) {
  if (n >= kLanes) {
    Store(p, v);
    return;
  }
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
  __builtin_memcpy(p, &v, n * sizeof(float));
#endif
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Cache-aligned floats, one set for each thread and slot, reused by every call.
inline float* Scratch(int slot, int64_t count) {
  struct Buffer {
    float* data = nullptr;
    int64_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffers[8];
  Buffer& buffer = buffers[slot];
  if (buffer.size < count) {
    std::free(buffer.data);
    buffer.size = RoundUp(count + count / 4 + 64, 64);
    buffer.data = static_cast<float*>(
        std::aligned_alloc(64, buffer.size * sizeof(float)));
  }
  return buffer.data;
}

// Runs body(0) ... body(count - 1) on the caller and on XLA's own threads.
//
// The caller takes chunks like everybody else and waits only for chunks that
// somebody has begun, so a busy pool cannot stall it. Helpers that come late
// find nothing to do; they own a share of the state, never the body.
template <typename Body>
void ParallelFor(ffi::ThreadPool& pool, int64_t count, const Body& body) {
  struct State {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
    int64_t count;
    const Body* body;
    std::mutex mutex;
    std::condition_variable finished;
  };
  const int64_t threads = count > 1 ? std::min(pool.num_threads(), count) : 1;
  if (threads <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  auto state = std::make_shared<State>();
  state->count = count;
  state->body = &body;
  auto work = [](State& s) {
    int64_t mine = 0;
    for (;;) {
      const int64_t i = s.next.fetch_add(1, std::memory_order_relaxed);
      if (i >= s.count) break;
      (*s.body)(i);
      ++mine;
    }
    if (mine &&
        s.done.fetch_add(mine, std::memory_order_acq_rel) + mine == s.count) {
      std::lock_guard<std::mutex> lock(s.mutex);
      s.finished.notify_all();
    }
  };
  for (int64_t i = 1; i < threads; ++i) {
    pool.Schedule([state, work] { work(*state); });
  }
  work(*state);
  for (int spin = 0; spin < 2000; ++spin) {
    if (state->done.load(std::memory_order_acquire) == count) return;
#if defined(__AVX__)
    _mm_pause();
#endif
  }
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] {
    return state->done.load(std::memory_order_acquire) == count;
  });
}

// Sizes of one convolution or pool over images [batch, h, w, c].
struct Geometry {
  int64_t batch, h, w, c;  // input
  int64_t oh, ow, oc;      // output
  int64_t kh, kw, stride;
  int64_t top, left;       // padding before; the rest follows from the sizes
};

// Copies one image into a frame of zeros: rows * cols pixels, pixel (y, x) of
// the image at (y * step + top, x * step + left). Negative offsets crop.
inline void Frame(const float* image, int64_t h, int64_t w, int64_t c,
                  int64_t rows, int64_t cols, int64_t top, int64_t left,
                  int64_t step, float* out) {
  const int64_t y0 = top >= 0 ? 0 : CeilDiv(-top, step);
  const int64_t x0 = left >= 0 ? 0 : CeilDiv(-left, step);
  const int64_t row = cols * c;
  int64_t filled = 0;
  for (int64_t y = y0; y < h; ++y) {
    const int64_t r = y * step + top;
    if (r >= rows) break;
    std::memset(out + filled * row, 0, (r - filled) * row * sizeof(float));
    filled = r + 1;
    float* line = out + r * row;
    const float* in = image + y * w * c;
    if (step == 1) {
      const int64_t first = x0 + left;
      const int64_t n = std::max<int64_t>(
          0, std::min(w - x0, cols - std::min(first, cols)));
      if (n == 0) {
        std::memset(line, 0, row * sizeof(float));
        continue;
      }
      std::memset(line, 0, first * c * sizeof(float));
      std::memcpy(line + first * c, in + x0 * c, n * c * sizeof(float));
      std::memset(line + (first + n) * c, 0,
                  (cols - first - n) * c * sizeof(float));
    } else {
      std::memset(line, 0, row * sizeof(float));
      for (int64_t x = x0; x < w; ++x) {
        const int64_t q = x * step + left;
        if (q >= cols) break;
        std::memcpy(line + q * c, in + x * c, c * sizeof(float));
      }
    }
  }
  std::memset(out + filled * row, 0, (rows - filled) * row * sizeof(float));
}

// Images a chunk: fixed by the shape, about 64 chunks at most.
inline int64_t ImagesPerChunk(int64_t batch) { return CeilDiv(batch, 64); }

// Leading dimensions before the last `rank` ones: members of a vmap.
template <typename Dims>
int64_t Members(const Dims& dims, size_t rank) {
  int64_t members = 1;
  for (size_t i = 0; i + rank < dims.size(); ++i) members *= dims[i];
  return members;
}

inline int64_t Product(const int64_t* first, const int64_t* last) {
  return std::accumulate(first, last, int64_t{1}, std::multiplies<>());
}

}  // namespace fer
