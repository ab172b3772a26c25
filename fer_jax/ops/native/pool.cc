// Max pool. The forward pass of training remembers, one byte a value, which
// pixel of the window was taken; the gradient then needs no image.
//
// The rule is that of lax's select_and_scatter with `ge`: windows are read row
// by row, and the pixel held gives way unless it is >= the next one; so the
// first of equal pixels wins.
#include "common.h"

namespace fer {
namespace {

// One byte a lane, to and from integers: GCC's own conversion goes lane by lane.
inline IntVec LoadBytes(const uint8_t* p, int64_t n) {
  uint8_t bytes[kLanes] = {};
  if (n >= kLanes) {
    __builtin_memcpy(bytes, p, kLanes);
  } else {
    __builtin_memcpy(bytes, p, n);
  }
#if defined(__AVX512F__)
  return (IntVec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)bytes));
#elif defined(__AVX2__)
  return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)bytes));
#else
  IntVec v;
  for (int i = 0; i < kLanes; ++i) v[i] = bytes[i];
  return v;
#endif
}

inline void StoreBytes(uint8_t* p, IntVec v, int64_t n) {
#if defined(__AVX512F__)
  const __mmask16 lanes = n >= kLanes ? 0xffff : (__mmask16)((1u << n) - 1);
  _mm512_mask_cvtepi32_storeu_epi8(p, lanes, (__m512i)v);
#else
  for (int i = 0; i < std::min<int64_t>(n, kLanes); ++i) p[i] = v[i];
#endif
}

Geometry Make(const ffi::Span<const int64_t>& d,
              const ffi::Span<const int64_t>& out, int64_t window,
              int64_t stride, int64_t top, int64_t left) {
  const size_t n = d.size(), o = out.size();
  return Geometry{Product(d.begin(), d.begin() + (n - 3)),
                  d[n - 3],
                  d[n - 2],
                  d[n - 1],
                  out[o - 3],
                  out[o - 2],
                  d[n - 1],
                  window,
                  window,
                  stride,
                  top,
                  left};
}

// Interior windows of k pixels a side, all inside the image.
template <bool kIndex>
void Window(const float* image, const Geometry& g, int64_t y, int64_t x,
            float* out, uint8_t* index) {
  const int64_t iy = y * g.stride - g.top, ix = x * g.stride - g.left;
  const int64_t y0 = std::max<int64_t>(0, -iy);
  const int64_t x0 = std::max<int64_t>(0, -ix);
  const int64_t y1 = std::min(g.kh, g.h - iy);
  const int64_t x1 = std::min(g.kw, g.w - ix);
  const int64_t c = g.c;
  for (int64_t i = 0; i < c; i += kLanes) {
    const int64_t m = c - i;
    Vec top = Splat(-__builtin_inff());
    Vec held = top;
    IntVec at = IntVec{} + 255;
    bool first = true;
    for (int64_t ky = y0; ky < y1; ++ky) {
      const float* p = image + ((iy + ky) * g.w + ix) * c + i;
      for (int64_t kx = x0; kx < x1; ++kx) {
        const Vec v = LoadPart(p + kx * c, m);
        // A NaN on either side stays.
        top = (top >= v) | (top != top) ? top : v;
        if (kIndex) {
          const IntVec tap = IntVec{} + static_cast<int32_t>(ky * g.kw + kx);
          if (first) {
            held = v;
            at = tap;
            first = false;
          } else {
            const IntVec keep = held >= v;
            held = keep ? held : v;
            at = keep ? at : tap;
          }
        }
      }
    }
    StorePart(out + i, top, m);
    if (kIndex) {
      StoreBytes(index + i, at, m);
    }
  }
}

template <bool kIndex>
void Run(ffi::ThreadPool& pool, const float* in, const Geometry& g, float* out,
         uint8_t* index) {
  ParallelFor(pool, g.batch, [&](int64_t b) {
    const float* image = in + b * g.h * g.w * g.c;
    for (int64_t y = 0; y < g.oh; ++y) {
      for (int64_t x = 0; x < g.ow; ++x) {
        const int64_t at = ((b * g.oh + y) * g.ow + x) * g.c;
        Window<kIndex>(image, g, y, x, out + at, kIndex ? index + at : nullptr);
      }
    }
  });
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                   ffi::ResultBuffer<ffi::F32> y, int64_t window,
                   int64_t stride, int64_t top, int64_t left) {
  const Geometry g =
      Make(x.dimensions(), y->dimensions(), window, stride, top, left);
  Run<false>(pool, x.typed_data(), g, y->typed_data(), nullptr);
  return ffi::Error::Success();
}

ffi::Error ForwardIndex(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                        ffi::ResultBuffer<ffi::F32> y,
                        ffi::ResultBuffer<ffi::U8> index, int64_t window,
                        int64_t stride, int64_t top, int64_t left) {
  const Geometry g =
      Make(x.dimensions(), y->dimensions(), window, stride, top, left);
  Run<true>(pool, x.typed_data(), g, y->typed_data(), index->typed_data());
  return ffi::Error::Success();
}

struct Cover {
  int64_t first, last;
};

// Each pixel of the image sums the windows that took it.
template <bool kWhole>
void Gather(const float* d, const uint8_t* taken, const Geometry& g,
            const Cover* rows, const Cover* cols, float* out) {
  const int64_t c = g.c, window = g.kh, stride = g.stride;
  for (int64_t y = 0; y < g.h; ++y) {
    for (int64_t x = 0; x < g.w; ++x, out += c) {
      const Cover rx = cols[x], ry = rows[y];
      for (int64_t i = 0; i < c; i += kLanes) {
        const int64_t m = kWhole ? kLanes : c - i;
        Vec sum = Zero();
        for (int64_t oy = ry.first; oy <= ry.last; ++oy) {
          const int64_t line = (y + g.top - oy * stride) * window + x + g.left;
          for (int64_t ox = rx.first; ox <= rx.last; ++ox) {
            const int64_t at = (oy * g.ow + ox) * c + i;
            const IntVec which = LoadBytes(taken + at, m);
            const Vec v = LoadPart(d + at, m);
            sum += which == static_cast<int32_t>(line - ox * stride) ? v
                                                                     : Zero();
          }
        }
        StorePart(out + i, sum, m);
      }
    }
  }
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> dy,
                    ffi::Buffer<ffi::U8> index, ffi::ResultBuffer<ffi::F32> dx,
                    int64_t window, int64_t stride, int64_t top, int64_t left) {
  const Geometry g =
      Make(dx->dimensions(), dy.dimensions(), window, stride, top, left);
  // First and last window that cover a row or column of the image.
  const auto covers = [&](int64_t size, int64_t pad, int64_t count) {
    std::vector<Cover> out(size);
    for (int64_t i = 0; i < size; ++i) {
      const int64_t p = i + pad;
      out[i] = Cover{p < window ? 0 : CeilDiv(p - window + 1, stride),
                     std::min(count - 1, p / stride)};
    }
    return out;
  };
  const std::vector<Cover> rows = covers(g.h, g.top, g.oh);
  const std::vector<Cover> cols = covers(g.w, g.left, g.ow);
  ParallelFor(pool, g.batch, [&](int64_t b) {
    const float* d = dy.typed_data() + b * g.oh * g.ow * g.c;
    const uint8_t* taken = index.typed_data() + b * g.oh * g.ow * g.c;
    float* out = dx->typed_data() + b * g.h * g.w * g.c;
    if (g.c % kLanes == 0) {
      Gather<true>(d, taken, g, rows.data(), cols.data(), out);
    } else {
      Gather<false>(d, taken, g, rows.data(), cols.data(), out);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_max_pool, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("window")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_max_pool_index, ForwardIndex,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::U8>>()
                                  .Attr<int64_t>("window")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_max_pool_gradient, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("window")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

}  // namespace fer
