// 2-D convolution with few channels, its input gradient and kernel gradient.
//
// Vectors run over pixels, not channels, so that 11 or 27 channels waste
// nothing: images become planes of one channel each (planar.h), a few output
// channels times three vectors of pixels stay in registers, and every weight is
// a broadcast.
#include "planar.h"

namespace fer {
namespace {

constexpr int kBlock = 3;                         // vectors of pixels
constexpr int kMost = kLanes == 8 ? 4 : 8;        // output channels
constexpr int kStep = kBlock * kLanes;

// Output channels cut into nearly equal blocks of kMost at most.
struct Blocks {
  int64_t count, channels;
  explicit Blocks(int64_t channels)
      : count(CeilDiv(channels, kMost)), channels(channels) {}
  int64_t First(int64_t block) const { return block * channels / count; }
};

template <int N>
void Micro(const float* x, int64_t channel, int64_t cin, const int64_t* offset,
           int64_t taps, const float* weights, float* out, int64_t out_plane,
           int64_t flat) {
  for (int64_t f = 0; f < flat; f += kStep) {
    Vec a[N][kBlock] = {};
    const float* w = weights;
    for (int64_t ci = 0; ci < cin; ++ci) {
      const float* p = x + ci * channel + f;
      for (int64_t t = 0; t < taps; ++t) {
        const float* q = p + offset[t];
        const Vec v0 = Load(q);
        const Vec v1 = Load(q + kLanes);
        const Vec v2 = Load(q + 2 * kLanes);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const Vec s = Splat(w[n]);
          a[n][0] += s * v0;
          a[n][1] += s * v1;
          a[n][2] += s * v2;
        }
        w += N;
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      for (int b = 0; b < kBlock; ++b) {
        Store(out + n * out_plane + f + b * kLanes, a[n][b]);
      }
    }
  }
}

using MicroFn = void (*)(const float*, int64_t, int64_t, const int64_t*,
                         int64_t, const float*, float*, int64_t, int64_t);
constexpr MicroFn kMicro[] = {nullptr,  Micro<1>, Micro<2>, Micro<3>, Micro<4>,
                              Micro<5>, Micro<6>, Micro<7>, Micro<8>};

// All output channels of a unit; weights packed [block][cin][tap][n].
void Convolve(const float* x, const Frame2& f, int64_t cin, int64_t cout,
              const std::vector<int64_t>& offset, const float* weights,
              float* out, int64_t out_plane) {
  const Blocks blocks(cout);
  const int64_t taps = offset.size();
  for (int64_t b = 0; b < blocks.count; ++b) {
    const int64_t first = blocks.First(b);
    const int64_t n = blocks.First(b + 1) - first;
    kMicro[n](x, f.channel, cin, offset.data(), taps,
              weights + first * cin * taps, out + first * out_plane, out_plane,
              f.flat);
  }
}

// value(ci, tap, co) packed [block][cin][tap][n].
template <typename Value>
void Pack(int64_t cin, int64_t taps, int64_t cout, const Value& value,
          float* out) {
  const Blocks blocks(cout);
  for (int64_t b = 0; b < blocks.count; ++b) {
    for (int64_t ci = 0; ci < cin; ++ci) {
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t co = blocks.First(b); co < blocks.First(b + 1); ++co) {
          *out++ = value(ci, t, co);
        }
      }
    }
  }
}

Geometry Make(const ffi::Span<const int64_t>& x,
              const ffi::Span<const int64_t>& w,
              const ffi::Span<const int64_t>& y, int64_t stride, int64_t top,
              int64_t left) {
  const size_t n = x.size(), m = w.size(), o = y.size();
  return Geometry{x[n - 4], x[n - 3], x[n - 2], x[n - 1],
                  y[o - 3], y[o - 2], y[o - 1], w[m - 4],
                  w[m - 3], stride,   top,      left};
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                   ffi::Buffer<ffi::F32> w, ffi::ResultBuffer<ffi::F32> y,
                   int64_t stride, int64_t top, int64_t left) {
  const Geometry g =
      Make(x.dimensions(), w.dimensions(), y->dimensions(), stride, top, left);
  const int64_t members = Members(x.dimensions(), 4);
  const Frame2 f(g.h, g.w, g.c, g.oh, g.ow, g.kh, g.kw, g.stride, g.top, g.left,
                 g.batch, g.oc);
  const int64_t taps = g.kh * g.kw, size = taps * g.c * g.oc;
  std::vector<int64_t> offset;
  for (int64_t ky = 0; ky < g.kh; ++ky) {
    for (int64_t kx = 0; kx < g.kw; ++kx) offset.push_back(f.Offset(ky, kx));
  }
  std::vector<float> packed(members * size);
  for (int64_t m = 0; m < members; ++m) {
    const float* k = w.typed_data() + m * size;
    Pack(g.c, taps, g.oc,
         [&](int64_t ci, int64_t t, int64_t co) {
           return k[(t * g.c + ci) * g.oc + co];
         },
         packed.data() + m * size);
  }
  const int64_t units = f.Units(g.batch);
  const int64_t out_plane = RoundUp(f.flat, kStep) + kLanes;
  ParallelFor(pool, members * units, [&](int64_t i) {
    const int64_t m = i / units;
    const Frame2::Unit u = f.At(i % units, g.batch);
    float* planes = Scratch(0, g.c * f.channel + kStep);
    float* result = Scratch(1, g.oc * out_plane);
    f.Fill(x.typed_data() + m * g.batch * g.h * g.w * g.c, u, planes);
    Convolve(planes, f, g.c, g.oc, offset, packed.data() + m * size, result,
             out_plane);
    float* out = y->typed_data() +
                 (m * g.batch + u.image) * g.oh * g.ow * g.oc;
    for (int64_t b = 0; b < u.images; ++b) {
      for (int64_t r = 0; r < u.rows; ++r) {
        Transpose(result + (b * f.rows + r) * f.pitch, g.oc, g.ow, out_plane,
                  out + ((b * g.oh + u.y + r) * g.ow) * g.oc, g.oc);
      }
    }
  });
  return ffi::Error::Success();
}

ffi::Error InputGradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> dy,
                         ffi::Buffer<ffi::F32> w,
                         ffi::ResultBuffer<ffi::F32> dx, int64_t stride,
                         int64_t top, int64_t left) {
  const Geometry g =
      Make(dx->dimensions(), w.dimensions(), dy.dimensions(), stride, top,
           left);
  const int64_t members = Members(dy.dimensions(), 4);
  const int64_t s = stride;
  // Pixel i of the input with (i + top) = s q + a meets taps a + s t, which read
  // outputs q - t. So each remainder a is a stride-1 window over the outputs.
  const int64_t tall = CeilDiv(g.kh, s), broad = CeilDiv(g.kw, s);
  const int64_t qy = g.top / s, qx = g.left / s;
  const int64_t ny = (g.h - 1 + g.top) / s + 1 - qy;
  const int64_t nx = (g.w - 1 + g.left) / s + 1 - qx;
  const Frame2 f(g.oh, g.ow, g.oc, ny, nx, tall, broad, 1, tall - 1 - qy,
                 broad - 1 - qx, g.batch, g.c);
  struct Phase {
    std::vector<int64_t> offset;
    std::vector<float> weights;
  };
  const int64_t size = g.kh * g.kw * g.c * g.oc;
  std::vector<Phase> phases(members * s * s);
  for (int64_t m = 0; m < members; ++m) {
    const float* k = w.typed_data() + m * size;
    for (int64_t a = 0; a < s; ++a) {
      for (int64_t b = 0; b < s; ++b) {
        Phase& p = phases[(m * s + a) * s + b];
        std::vector<int64_t> taps;
        for (int64_t ky = a; ky < g.kh; ky += s) {
          for (int64_t kx = b; kx < g.kw; kx += s) {
            taps.push_back(ky * g.kw + kx);
            p.offset.push_back(f.Offset(tall - 1 - ky / s, broad - 1 - kx / s));
          }
        }
        p.weights.resize(taps.size() * g.c * g.oc);
        Pack(g.oc, taps.size(), g.c,
             [&](int64_t co, int64_t t, int64_t ci) {
               return k[(taps[t] * g.c + ci) * g.oc + co];
             },
             p.weights.data());
      }
    }
  }
  const int64_t units = f.Units(g.batch);
  const int64_t out_plane = RoundUp(f.flat, kStep) + kLanes;
  ParallelFor(pool, members * units, [&](int64_t i) {
    const int64_t m = i / units;
    const Frame2::Unit u = f.At(i % units, g.batch);
    float* planes = Scratch(0, g.oc * f.channel + kStep);
    float* result = Scratch(1, g.c * out_plane);
    f.Fill(dy.typed_data() + m * g.batch * g.oh * g.ow * g.oc, u, planes);
    float* out = dx->typed_data() + (m * g.batch + u.image) * g.h * g.w * g.c;
    for (int64_t a = 0; a < s; ++a) {
      for (int64_t b = 0; b < s; ++b) {
        const Phase& p = phases[(m * s + a) * s + b];
        Convolve(planes, f, g.oc, g.c, p.offset, p.weights.data(), result,
                 out_plane);
        // Columns of this remainder that lie inside the image.
        int64_t x0 = 0;
        while ((x0 + qx) * s + b < g.left) ++x0;
        int64_t x1 = nx;
        while (x1 > x0 && (x1 - 1 + qx) * s + b - g.left >= g.w) --x1;
        if (x0 >= x1) continue;
        for (int64_t image = 0; image < u.images; ++image) {
          for (int64_t r = 0; r < u.rows; ++r) {
            const int64_t y = (u.y + r + qy) * s + a - g.top;
            if (y < 0 || y >= g.h) continue;
            Transpose(result + (image * f.rows + r) * f.pitch + x0, g.c,
                      x1 - x0, out_plane,
                      out + ((image * g.h + y) * g.w + (x0 + qx) * s + b -
                             g.left) *
                                g.c,
                      s * g.c);
          }
        }
      }
    }
  });
  return ffi::Error::Success();
}

constexpr int kPairs = 6;   // (input channel, tap) pairs held together ...
constexpr int kAcross = kLanes == 8 ? 2 : 4;  // ... times output channels

inline float Sum(Vec v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// totals[p * stride_p + n * stride_n] += sum over pixels of x[p] * dy[n].
template <int P, int N>
void Products(const float* const* x, const float* dy, int64_t dy_plane,
              int64_t flat, float* const* totals) {
  Vec a[P][N] = {};
  for (int64_t f = 0; f < flat; f += kLanes) {
    Vec d[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) d[n] = Load(dy + n * dy_plane + f);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Vec v = Load(x[p] + f);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) a[p][n] += v * d[n];
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#if defined(__AVX512F__)
      totals[p][n] += _mm512_reduce_add_ps((__m512)a[p][n]);
#else
      totals[p][n] += Sum(a[p][n]);
#endif
    }
  }
}

template <int P>
void ProductsOf(int64_t n, const float* const* x, const float* dy,
                int64_t dy_plane, int64_t flat, float* const* totals) {
  switch (n) {
    case 1:
      return Products<P, 1>(x, dy, dy_plane, flat, totals);
    case 2:
      return Products<P, 2>(x, dy, dy_plane, flat, totals);
    case 3:
      return Products<P, 3>(x, dy, dy_plane, flat, totals);
    default:
      return Products<P, 4>(x, dy, dy_plane, flat, totals);
  }
}

ffi::Error KernelGradient(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                          ffi::Buffer<ffi::F32> dy,
                          ffi::ResultBuffer<ffi::F32> dw, int64_t stride,
                          int64_t top, int64_t left) {
  const Geometry g =
      Make(x.dimensions(), dw->dimensions(), dy.dimensions(), stride, top,
           left);
  const int64_t members = Members(x.dimensions(), 4);
  const Frame2 f(g.h, g.w, g.c, g.oh, g.ow, g.kh, g.kw, g.stride, g.top, g.left,
                 g.batch, g.oc);
  const int64_t taps = g.kh * g.kw, size = taps * g.c * g.oc;
  const int64_t units = f.Units(g.batch);
  const int64_t chunks = std::min<int64_t>(16, units);
  const int64_t dy_plane = RoundUp(f.flat, kLanes) + kLanes;
  std::vector<float> partials(members * chunks * size);
  ParallelFor(pool, members * chunks, [&](int64_t i) {
    const int64_t m = i / chunks, chunk = i % chunks;
    float* planes = Scratch(0, g.c * f.channel + kStep);
    float* slopes = Scratch(1, g.oc * dy_plane);
    float* partial = partials.data() + i * size;
    const float* in = x.typed_data() + m * g.batch * g.h * g.w * g.c;
    const float* grad = dy.typed_data() + m * g.batch * g.oh * g.ow * g.oc;
    for (int64_t unit = chunk * units / chunks;
         unit < (chunk + 1) * units / chunks; ++unit) {
      const Frame2::Unit u = f.At(unit, g.batch);
      f.Fill(in, u, planes);
      std::memset(slopes, 0, g.oc * dy_plane * sizeof(float));
      for (int64_t b = 0; b < u.images; ++b) {
        for (int64_t r = 0; r < u.rows; ++r) {
          Transpose(
              grad + (((u.image + b) * g.oh + u.y + r) * g.ow) * g.oc, g.ow,
              g.oc, g.oc, slopes + (b * f.rows + r) * f.pitch, dy_plane);
        }
      }
      const int64_t flat = (u.images - 1) * f.rows * f.pitch +
                           (u.rows - 1) * f.pitch + g.ow;
      for (int64_t n = 0; n < g.oc; n += kAcross) {
        const int64_t across = std::min<int64_t>(kAcross, g.oc - n);
        const int64_t pairs = g.c * taps;
        for (int64_t p = 0; p < pairs; p += kPairs) {
          const int64_t held = std::min<int64_t>(kPairs, pairs - p);
          const float* from[kPairs];
          float* to[kPairs];
          for (int64_t k = 0; k < held; ++k) {
            const int64_t ci = (p + k) / taps, t = (p + k) % taps;
            from[k] = planes + ci * f.channel +
                      f.Offset(t / g.kw, t % g.kw);
            to[k] = partial + (t * g.c + ci) * g.oc + n;
          }
          const float* d = slopes + n * dy_plane;
          int64_t k = 0;
          if (held == kPairs) {
            ProductsOf<kPairs>(across, from, d, dy_plane, flat, to);
            k = kPairs;
          }
          for (; k + 3 <= held; k += 3) {
            ProductsOf<3>(across, from + k, d, dy_plane, flat, to + k);
          }
          for (; k < held; ++k) {
            ProductsOf<1>(across, from + k, d, dy_plane, flat, to + k);
          }
        }
      }
    }
  });
  for (int64_t m = 0; m < members; ++m) {
    float* out = dw->typed_data() + m * size;
    const float* from = partials.data() + m * chunks * size;
    std::memcpy(out, from, size * sizeof(float));
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      from += size;
      for (int64_t i = 0; i < size; ++i) out[i] += from[i];
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_conv, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_conv_input_gradient, InputGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_conv_kernel_gradient, KernelGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

}  // namespace fer
