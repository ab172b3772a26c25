// Max pool. The forward pass of training remembers, one byte a value, which
// pixel of the window was taken; the gradient then needs no image.
//
// The rule is that of lax's select_and_scatter with `ge`: windows are read row
// by row, and the pixel held gives way unless it is >= the next one; so the
// first of equal pixels wins.
#include "common.h"

namespace fer {
namespace {

typedef uint8_t ByteVec __attribute__((vector_size(kLanes)));

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
      const ByteVec bytes = __builtin_convertvector(at, ByteVec);
      __builtin_memcpy(index + i, &bytes, std::min<int64_t>(m, kLanes));
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

ffi::Error Backward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> dy,
                    ffi::Buffer<ffi::U8> index, ffi::ResultBuffer<ffi::F32> dx,
                    int64_t window, int64_t stride, int64_t top, int64_t left) {
  const Geometry g =
      Make(dx->dimensions(), dy.dimensions(), window, stride, top, left);
  // First and last window that cover a row or column of the image.
  const auto cover = [&](int64_t at, int64_t pad, int64_t count) {
    const int64_t p = at + pad;
    const int64_t first = std::max<int64_t>(0, CeilDiv(p - window + 1, stride));
    return std::make_pair(first, std::min(count - 1, p / stride));
  };
  ParallelFor(pool, g.batch, [&](int64_t b) {
    const float* d = dy.typed_data() + b * g.oh * g.ow * g.c;
    const uint8_t* taken = index.typed_data() + b * g.oh * g.ow * g.c;
    float* out = dx->typed_data() + b * g.h * g.w * g.c;
    for (int64_t y = 0; y < g.h; ++y) {
      const auto [y0, y1] = cover(y, g.top, g.oh);
      for (int64_t x = 0; x < g.w; ++x) {
        const auto [x0, x1] = cover(x, g.left, g.ow);
        for (int64_t i = 0; i < g.c; i += kLanes) {
          const int64_t m = g.c - i;
          Vec sum = Zero();
          for (int64_t oy = y0; oy <= y1; ++oy) {
            for (int64_t ox = x0; ox <= x1; ++ox) {
              const int64_t at = (oy * g.ow + ox) * g.c + i;
              const int64_t tap = (y + g.top - oy * stride) * window +
                                  (x + g.left - ox * stride);
              ByteVec bytes{};
              if (m >= kLanes) {
                __builtin_memcpy(&bytes, taken + at, kLanes);
              } else {
                __builtin_memcpy(&bytes, taken + at, m);
              }
              const IntVec which = __builtin_convertvector(bytes, IntVec);
              const Vec v = LoadPart(d + at, m);
              sum += which == static_cast<int32_t>(tap) ? v : Zero();
            }
          }
          StorePart(out + (y * g.w + x) * g.c + i, sum, m);
        }
      }
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
