// Batch normalisation with the statistics of the batch, and a ReLU if wanted.
//
// Memory is what it costs, so passes are counted: forward reads the images
// twice and writes once, backward reads images and gradient twice and writes
// once. The ReLU is free: its mask is computed again from the images.
//
// Pixels are one flat array in which the channels repeat with a period of
// lcm(C, lanes) floats, so every channel count fills the vectors.
#include <cmath>

#include "common.h"

namespace fer {
namespace {

// Vectors after which channels line up, at least 8 so that sums are independent
// of each other.
int64_t PeriodOf(int64_t c) {
  const int64_t vectors = std::lcm<int64_t>(c, kLanes) / kLanes;
  return vectors * CeilDiv(8, vectors);
}

struct Cut {
  int64_t pixels, c, vectors, floats, each, chunks;
  Cut(int64_t pixels, int64_t c)
      : pixels(pixels), c(c), vectors(PeriodOf(c)), floats(vectors * kLanes) {
    const int64_t group = floats / c;  // pixels a period
    // About 32k floats, 512 chunks at most.
    const int64_t want = std::max<int64_t>(CeilDiv(32768, c),
                                           CeilDiv(pixels, 512));
    each = RoundUp(want, group);
    chunks = CeilDiv(pixels, each);
  }
  int64_t First(int64_t chunk) const { return chunk * each * c; }
  int64_t Size(int64_t chunk) const {
    return (std::min(pixels, (chunk + 1) * each) - chunk * each) * c;
  }
};

void Tile(const float* values, int64_t c, int64_t floats, float* out) {
  for (int64_t i = 0; i < floats; ++i) out[i] = values[i % c];
}

// Calls body(offset, v, load, store) for every vector of n floats; v counts the
// vectors of the period.
template <typename Body>
inline void ForVectors(int64_t n, int64_t vectors, const Body& body) {
  const int64_t period = vectors * kLanes;
  int64_t i = 0;
  for (; i + period <= n; i += period) {
    if (vectors == 8) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) body(i + v * kLanes, v, kLanes);
    } else {
      for (int64_t v = 0; v < vectors; ++v) {
        body(i + v * kLanes, v, kLanes);
      }
    }
  }
  for (int64_t v = 0; i < n; i += kLanes, ++v) body(i, v, n - i);
}

// Adds the lanes of `partial` [floats] by channel.
void Fold(const float* partial, int64_t c, int64_t floats, double* total) {
  for (int64_t i = 0; i < floats; ++i) total[i % c] += partial[i];
}

struct Coefficients {
  std::vector<float> factor, shift, inverse;
  Coefficients(const float* mean, const float* var, const float* scale,
               const float* bias, float epsilon, int64_t c)
      : factor(c), shift(c), inverse(c) {
    for (int64_t i = 0; i < c; ++i) {
      inverse[i] = 1.0f / std::sqrt(var[i] + epsilon);
      factor[i] = inverse[i] * scale[i];
      shift[i] = bias[i] - mean[i] * factor[i];
    }
  }
};

void ForwardOne(ffi::ThreadPool& pool, const float* x, const float* scale,
                const float* bias, float* y, float* mean, float* var,
                const Cut& cut, float epsilon, bool relu) {
  const int64_t c = cut.c, floats = cut.floats;
  std::vector<float> partials(cut.chunks * 2 * floats);
  ParallelFor(pool, cut.chunks, [&](int64_t chunk) {
    const float* in = x + cut.First(chunk);
    float* sums = partials.data() + chunk * 2 * floats;
    if (cut.vectors == 8) {
      Vec s[8] = {}, q[8] = {};
      ForVectors(cut.Size(chunk), 8, [&](int64_t i, int64_t v, int64_t m) {
        const Vec a = LoadPart(in + i, m);
        s[v] += a;
        q[v] += a * a;
      });
      for (int v = 0; v < 8; ++v) {
        Store(sums + v * kLanes, s[v]);
        Store(sums + floats + v * kLanes, q[v]);
      }
    } else {
      ForVectors(cut.Size(chunk), cut.vectors,
                 [&](int64_t i, int64_t v, int64_t m) {
                   const Vec a = LoadPart(in + i, m);
                   float* p = sums + v * kLanes;
                   Store(p, Load(p) + a);
                   Store(p + floats, Load(p + floats) + a * a);
                 });
    }
  });
  std::vector<double> s(c, 0.0), q(c, 0.0);
  for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
    const float* sums = partials.data() + chunk * 2 * floats;
    Fold(sums, c, floats, s.data());
    Fold(sums + floats, c, floats, q.data());
  }
  for (int64_t i = 0; i < c; ++i) {
    const double m = s[i] / cut.pixels;
    const double v = q[i] / cut.pixels - m * m;
    mean[i] = m;
    var[i] = v < 0.0 ? 0.0 : v;
  }
  const Coefficients k(mean, var, scale, bias, epsilon, c);
  std::vector<float> factor(floats), shift(floats);
  Tile(k.factor.data(), c, floats, factor.data());
  Tile(k.shift.data(), c, floats, shift.data());
  // Backwards: the end of the images is what the caches still hold.
  ParallelFor(pool, cut.chunks, [&](int64_t turn) {
    const int64_t chunk = cut.chunks - 1 - turn;
    const float* in = x + cut.First(chunk);
    float* out = y + cut.First(chunk);
    ForVectors(cut.Size(chunk), cut.vectors,
               [&](int64_t i, int64_t v, int64_t m) {
                 Vec a = LoadPart(in + i, m) * Load(&factor[v * kLanes]) +
                         Load(&shift[v * kLanes]);
                 if (relu) a = a <= 0.0f ? Zero() : a;  // keeps NaN
                 StorePart(out + i, a, m);
               });
  });
}

void BackwardOne(ffi::ThreadPool& pool, const float* x, const float* scale,
                 const float* bias, const float* mean, const float* var,
                 const float* dy, const float* dmean, const float* dvar,
                 float* dx, float* dscale, float* dbias, const Cut& cut,
                 float epsilon, bool relu) {
  const int64_t c = cut.c, floats = cut.floats;
  const Coefficients k(mean, var, scale, bias, epsilon, c);
  std::vector<float> factor(floats), shift(floats), center(floats);
  Tile(k.factor.data(), c, floats, factor.data());
  Tile(k.shift.data(), c, floats, shift.data());
  Tile(mean, c, floats, center.data());
  const auto masked = [&](Vec a, Vec d, int64_t v) {
    if (!relu) return d;
    const Vec y = a * Load(&factor[v * kLanes]) + Load(&shift[v * kLanes]);
    return y > 0.0f ? d : Zero();
  };
  std::vector<float> partials(cut.chunks * 2 * floats);
  ParallelFor(pool, cut.chunks, [&](int64_t chunk) {
    const float* in = x + cut.First(chunk);
    const float* grad = dy + cut.First(chunk);
    float* sums = partials.data() + chunk * 2 * floats;
    if (cut.vectors == 8) {
      Vec s[8] = {}, q[8] = {};
      ForVectors(cut.Size(chunk), 8, [&](int64_t i, int64_t v, int64_t m) {
        const Vec a = LoadPart(in + i, m);
        const Vec d = masked(a, LoadPart(grad + i, m), v);
        s[v] += d;
        q[v] += d * (a - Load(&center[v * kLanes]));
      });
      for (int v = 0; v < 8; ++v) {
        Store(sums + v * kLanes, s[v]);
        Store(sums + floats + v * kLanes, q[v]);
      }
    } else {
      ForVectors(cut.Size(chunk), cut.vectors,
                 [&](int64_t i, int64_t v, int64_t m) {
                   const Vec a = LoadPart(in + i, m);
                   const Vec d = masked(a, LoadPart(grad + i, m), v);
                   float* p = sums + v * kLanes;
                   Store(p, Load(p) + d);
                   Store(p + floats, Load(p + floats) +
                                         d * (a - Load(&center[v * kLanes])));
                 });
    }
  });
  std::vector<double> s(c, 0.0), q(c, 0.0);
  for (int64_t chunk = 0; chunk < cut.chunks; ++chunk) {
    const float* sums = partials.data() + chunk * 2 * floats;
    Fold(sums, c, floats, s.data());
    Fold(sums + floats, c, floats, q.data());
  }
  // dx = factor * dy + slope * (x - mean) + offset.
  std::vector<float> slope(floats), offset(floats);
  {
    std::vector<float> b(c), o(c);
    for (int64_t i = 0; i < c; ++i) {
      const double inverse = k.inverse[i];
      dbias[i] = s[i];
      dscale[i] = q[i] * inverse;
      const double through_var =
          dvar[i] - 0.5 * q[i] * scale[i] * inverse * inverse * inverse;
      b[i] = 2.0 * through_var / cut.pixels;
      o[i] = (dmean[i] - scale[i] * inverse * s[i]) / cut.pixels;
    }
    Tile(b.data(), c, floats, slope.data());
    Tile(o.data(), c, floats, offset.data());
  }
  ParallelFor(pool, cut.chunks, [&](int64_t turn) {
    const int64_t chunk = cut.chunks - 1 - turn;
    const float* in = x + cut.First(chunk);
    const float* grad = dy + cut.First(chunk);
    float* out = dx + cut.First(chunk);
    ForVectors(cut.Size(chunk), cut.vectors,
               [&](int64_t i, int64_t v, int64_t m) {
                 const Vec a = LoadPart(in + i, m);
                 const Vec d = masked(a, LoadPart(grad + i, m), v);
                 StorePart(out + i,
                           d * Load(&factor[v * kLanes]) +
                               ((a - Load(&center[v * kLanes])) *
                                    Load(&slope[v * kLanes]) +
                                Load(&offset[v * kLanes])),
                           m);
               });
  });
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                   ffi::Buffer<ffi::F32> scale, ffi::Buffer<ffi::F32> bias,
                   ffi::ResultBuffer<ffi::F32> y,
                   ffi::ResultBuffer<ffi::F32> mean,
                   ffi::ResultBuffer<ffi::F32> var, float epsilon, bool relu) {
  const auto d = x.dimensions();
  const int64_t c = d[d.size() - 1];
  const int64_t members = scale.element_count() / c;
  const Cut cut(x.element_count() / c / members, c);
  for (int64_t m = 0; m < members; ++m) {
    const int64_t at = m * cut.pixels * c;
    ForwardOne(pool, x.typed_data() + at, scale.typed_data() + m * c,
               bias.typed_data() + m * c, y->typed_data() + at,
               mean->typed_data() + m * c, var->typed_data() + m * c, cut,
               epsilon, relu);
  }
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                    ffi::Buffer<ffi::F32> scale, ffi::Buffer<ffi::F32> bias,
                    ffi::Buffer<ffi::F32> mean, ffi::Buffer<ffi::F32> var,
                    ffi::Buffer<ffi::F32> dy, ffi::Buffer<ffi::F32> dmean,
                    ffi::Buffer<ffi::F32> dvar, ffi::ResultBuffer<ffi::F32> dx,
                    ffi::ResultBuffer<ffi::F32> dscale,
                    ffi::ResultBuffer<ffi::F32> dbias, float epsilon,
                    bool relu) {
  const auto d = x.dimensions();
  const int64_t c = d[d.size() - 1];
  const int64_t members = scale.element_count() / c;
  const Cut cut(x.element_count() / c / members, c);
  for (int64_t m = 0; m < members; ++m) {
    const int64_t at = m * cut.pixels * c, k = m * c;
    BackwardOne(pool, x.typed_data() + at, scale.typed_data() + k,
                bias.typed_data() + k, mean.typed_data() + k,
                var.typed_data() + k, dy.typed_data() + at,
                dmean.typed_data() + k, dvar.typed_data() + k,
                dx->typed_data() + at, dscale->typed_data() + k,
                dbias->typed_data() + k, cut, epsilon, relu);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_batch_norm, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<float>("epsilon")
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_batch_norm_gradient, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<float>("epsilon")
                                  .Attr<bool>("relu"));

}  // namespace fer
