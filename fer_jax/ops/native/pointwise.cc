// 1x1 convolutions: products of matrices with many rows and few columns.
//
// Vectors run over output channels, so nothing is rearranged. Both gradients
// come from one pass over images and gradient, tile by tile out of the cache.
#include "common.h"

namespace fer {
namespace {

constexpr int64_t kTile = 128;  // pixels

// y [n, cout] = x [n, cin] w; rows of x are `step` floats apart, w is padded to
// [cin, NV vectors] with `pitch` floats a row.
template <int P, int NV>
inline void Block(const float* x, int64_t step, int64_t cin, const float* w,
                  int64_t pitch, float* y, int64_t y_step, int64_t last) {
  Vec a[P][NV] = {};
  for (int64_t c = 0; c < cin; ++c) {
    Vec k[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) k[v] = Load(w + c * pitch + v * kLanes);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Vec s = Splat(x[p * step + c]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) a[p][v] += s * k[v];
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      if (v + 1 < NV) {
        Store(y + p * y_step + v * kLanes, a[p][v]);
      } else {
        StorePart(y + p * y_step + v * kLanes, a[p][v], last);
      }
    }
  }
}

template <int NV>
void Columns(const float* x, int64_t step, int64_t cin, const float* w,
             int64_t pitch, float* y, int64_t y_step, int64_t n,
             int64_t last) {
  constexpr int P = kLanes == 8 ? (NV == 1 ? 8 : NV == 2 ? 5 : 3)
                                : (NV <= 3 ? 8 : 6);
  int64_t i = 0;
  for (; i + P <= n; i += P) {
    Block<P, NV>(x + i * step, step, cin, w, pitch, y + i * y_step, y_step,
                 last);
  }
  for (; i < n; ++i) {
    Block<1, NV>(x + i * step, step, cin, w, pitch, y + i * y_step, y_step,
                 last);
  }
}

void Product(const float* x, int64_t step, int64_t cin, const float* w,
             int64_t pitch, float* y, int64_t y_step, int64_t cout, int64_t n) {
  for (int64_t c = 0; c < cout;) {
    const int64_t vectors = std::min<int64_t>(
        kLanes == 8 ? 3 : 4, CeilDiv(cout - c, kLanes));
    const int64_t last = cout - c - (vectors - 1) * kLanes;
    switch (vectors) {
      case 1:
        Columns<1>(x, step, cin, w + c, pitch, y + c, y_step, n, last);
        break;
      case 2:
        Columns<2>(x, step, cin, w + c, pitch, y + c, y_step, n, last);
        break;
      case 3:
        Columns<3>(x, step, cin, w + c, pitch, y + c, y_step, n, last);
        break;
      default:
        Columns<4>(x, step, cin, w + c, pitch, y + c, y_step, n, last);
    }
    c += vectors * kLanes;
  }
}

// total [cin, pitch] += x^T dy over n pixels.
template <int K, int NV>
inline void Outer(const float* x, int64_t step, const float* dy, int64_t d_step,
                  int64_t n, int64_t last, float* total, int64_t pitch) {
  Vec a[K][NV];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) a[k][v] = Load(total + k * pitch + v * kLanes);
  }
  for (int64_t i = 0; i < n; ++i) {
    Vec d[NV];
#pragma GCC unroll 4
    for (int v = 0; v + 1 < NV; ++v) d[v] = Load(dy + i * d_step + v * kLanes);
    d[NV - 1] = LoadPart(dy + i * d_step + (NV - 1) * kLanes, last);
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      const Vec s = Splat(x[i * step + k]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) a[k][v] += s * d[v];
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      Store(total + k * pitch + v * kLanes, a[k][v]);
    }
  }
}

template <int NV>
void OuterRows(const float* x, int64_t step, int64_t cin, const float* dy,
               int64_t d_step, int64_t n, int64_t last, float* total,
               int64_t pitch) {
  constexpr int K = NV == 1 ? (kLanes == 8 ? 8 : 16) : (kLanes == 8 ? 5 : 8);
  int64_t c = 0;
  for (; c + K <= cin; c += K) {
    Outer<K, NV>(x + c, step, dy, d_step, n, last, total + c * pitch, pitch);
  }
  for (; c + 4 <= cin; c += 4) {
    Outer<4, NV>(x + c, step, dy, d_step, n, last, total + c * pitch, pitch);
  }
  for (; c < cin; ++c) {
    Outer<1, NV>(x + c, step, dy, d_step, n, last, total + c * pitch, pitch);
  }
}

void OuterProduct(const float* x, int64_t step, int64_t cin, const float* dy,
                  int64_t d_step, int64_t cout, int64_t n, float* total,
                  int64_t pitch) {
  for (int64_t c = 0; c < cout;) {
    const int64_t vectors = std::min<int64_t>(2, CeilDiv(cout - c, kLanes));
    const int64_t last = cout - c - (vectors - 1) * kLanes;
    if (vectors == 1) {
      OuterRows<1>(x, step, cin, dy + c, d_step, n, last, total + c, pitch);
    } else {
      OuterRows<2>(x, step, cin, dy + c, d_step, n, last, total + c, pitch);
    }
    c += vectors * kLanes;
  }
}

Geometry Make(const ffi::Span<const int64_t>& x,
              const ffi::Span<const int64_t>& w,
              const ffi::Span<const int64_t>& y, int64_t stride) {
  const size_t n = x.size(), m = w.size(), o = y.size();
  return Geometry{x[n - 4], x[n - 3], x[n - 2], x[n - 1], y[o - 3], y[o - 2],
                  w[m - 1], 1,        1,        stride,   0,        0};
}

// Calls body(x offset, y offset, pixels) for tiles of the chunk's pixels.
template <typename Body>
void ForTiles(const Geometry& g, int64_t first, int64_t last,
              const Body& body) {
  if (g.stride == 1) {
    for (int64_t i = first; i < last; i += kTile) {
      body(i * g.c, i * g.oc, std::min(kTile, last - i));
    }
    return;
  }
  for (int64_t i = first; i < last;) {  // whole or broken rows
    const int64_t row = i / g.ow, x = i % g.ow;
    const int64_t n = std::min({g.ow - x, last - i, kTile});
    const int64_t image = row / g.oh, y = row % g.oh;
    body(((image * g.h + y * g.stride) * g.w + x * g.stride) * g.c, i * g.oc,
         n);
    i += n;
  }
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                   ffi::Buffer<ffi::F32> w, ffi::ResultBuffer<ffi::F32> y,
                   int64_t stride) {
  const Geometry g =
      Make(x.dimensions(), w.dimensions(), y->dimensions(), stride);
  const int64_t members = Members(x.dimensions(), 4);
  const int64_t pitch = RoundUp(g.oc, kLanes);
  std::vector<float> padded(members * g.c * pitch);
  for (int64_t i = 0; i < members * g.c; ++i) {
    std::memcpy(&padded[i * pitch], w.typed_data() + i * g.oc,
                g.oc * sizeof(float));
  }
  const int64_t pixels = g.batch * g.oh * g.ow;
  const int64_t each = std::max<int64_t>(
      kTile, RoundUp(CeilDiv(pixels, 64), kTile));
  const int64_t chunks = CeilDiv(pixels, each);
  ParallelFor(pool, members * chunks, [&](int64_t i) {
    const int64_t m = i / chunks, first = (i % chunks) * each;
    const float* in = x.typed_data() + m * g.batch * g.h * g.w * g.c;
    float* out = y->typed_data() + m * pixels * g.oc;
    ForTiles(g, first, std::min(pixels, first + each),
             [&](int64_t from, int64_t to, int64_t n) {
               Product(in + from, g.c * g.stride, g.c,
                       &padded[m * g.c * pitch], pitch, out + to, g.oc, g.oc,
                       n);
             });
  });
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                    ffi::Buffer<ffi::F32> w, ffi::Buffer<ffi::F32> dy,
                    ffi::ResultBuffer<ffi::F32> dx,
                    ffi::ResultBuffer<ffi::F32> dw, int64_t stride) {
  const Geometry g =
      Make(x.dimensions(), w.dimensions(), dy.dimensions(), stride);
  const int64_t members = Members(x.dimensions(), 4);
  const int64_t turned = RoundUp(g.c, kLanes);
  const int64_t pitch = RoundUp(g.oc, kLanes);
  std::vector<float> transposed(members * g.oc * turned);
  for (int64_t m = 0; m < members; ++m) {
    for (int64_t ci = 0; ci < g.c; ++ci) {
      for (int64_t co = 0; co < g.oc; ++co) {
        transposed[(m * g.oc + co) * turned + ci] =
            w.typed_data()[(m * g.c + ci) * g.oc + co];
      }
    }
  }
  const int64_t pixels = g.batch * g.oh * g.ow;
  const int64_t each = std::max<int64_t>(
      kTile, RoundUp(CeilDiv(pixels, 16), kTile));
  const int64_t chunks = CeilDiv(pixels, each);
  std::vector<float> partials(members * chunks * g.c * pitch);
  if (stride > 1) {  // most pixels of dx meet no output
    const int64_t images = members * g.batch, size = g.h * g.w * g.c;
    ParallelFor(pool, images, [&](int64_t i) {
      std::memset(dx->typed_data() + i * size, 0, size * sizeof(float));
    });
  }
  ParallelFor(pool, members * chunks, [&](int64_t i) {
    const int64_t m = i / chunks, first = (i % chunks) * each;
    const int64_t images = m * g.batch * g.h * g.w * g.c;
    const float* in = x.typed_data() + images;
    float* out = dx->typed_data() + images;
    const float* grad = dy.typed_data() + m * pixels * g.oc;
    float* partial = &partials[i * g.c * pitch];
    ForTiles(g, first, std::min(pixels, first + each),
             [&](int64_t from, int64_t to, int64_t n) {
               OuterProduct(in + from, g.c * stride, g.c, grad + to, g.oc, g.oc,
                            n, partial, pitch);
               Product(grad + to, g.oc, g.oc, &transposed[m * g.oc * turned],
                       turned, out + from, g.c * stride, g.c, n);
             });
  });
  for (int64_t m = 0; m < members; ++m) {
    for (int64_t ci = 0; ci < g.c; ++ci) {
      float* out = dw->typed_data() + (m * g.c + ci) * g.oc;
      for (int64_t co = 0; co < g.oc; ++co) {
        float total = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          total += partials[((m * chunks + chunk) * g.c + ci) * pitch + co];
        }
        out[co] = total;
      }
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_pointwise, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_pointwise_gradient, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride"));

}  // namespace fer
