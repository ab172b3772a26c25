// Depthwise convolution: forward, and both gradients in one pass.
//
// With stride 1 a row of NHWC pixels is treated as one flat array: a shift by
// one pixel is a shift by C floats, and the weights repeat with the period
// lcm(C, lanes). So every channel count fills the vectors.
#include "common.h"

namespace fer {
namespace {

constexpr int kMaxTaps = 64;

struct Period {
  int64_t vectors;  // vectors until the channels line up again
  explicit Period(int64_t c) : vectors(std::lcm<int64_t>(c, kLanes) / kLanes) {}
};

// weights [taps, c] repeated to [taps, period floats]; flip reverses the taps.
void Tile(const float* w, int64_t taps, int64_t c, int64_t floats, bool flip,
          float* out) {
  for (int64_t t = 0; t < taps; ++t) {
    const float* row = w + (flip ? taps - 1 - t : t) * c;
    for (int64_t i = 0; i < floats; ++i) out[t * floats + i] = row[i % c];
  }
}

// One row of a stride-1 3x3 convolution over flat rows r0, r1, r2.
void Row3(const float* r0, const float* r1, const float* r2, int64_t c,
          const float* tiled, int64_t vectors, int64_t n, float* out) {
  const int64_t period = vectors * kLanes;
  for (int64_t v = 0; v < vectors; ++v) {
    Vec w[9];
    for (int t = 0; t < 9; ++t) w[t] = Load(tiled + t * period + v * kLanes);
    int64_t i = v * kLanes;
    const auto sum = [&](auto load) {
      Vec a = load(r0 + i) * w[0];
      a += load(r0 + i + c) * w[1];
      a += load(r0 + i + 2 * c) * w[2];
      Vec b = load(r1 + i) * w[3];
      b += load(r1 + i + c) * w[4];
      b += load(r1 + i + 2 * c) * w[5];
      a += load(r2 + i) * w[6];
      b += load(r2 + i + c) * w[7];
      a += load(r2 + i + 2 * c) * w[8];
      return a + b;
    };
    for (; i + kLanes <= n; i += period) {
      Store(out + i, sum([](const float* p) { return Load(p); }));
    }
    if (i < n) {
      const int64_t m = n - i;
      StorePart(out + i, sum([m](const float* p) { return LoadPart(p, m); }),
                m);
    }
  }
}

void RowAny(const float* frame, int64_t pitch, int64_t kh, int64_t kw,
            int64_t c, const float* tiled, int64_t vectors, int64_t n,
            float* out) {
  const int64_t period = vectors * kLanes;
  for (int64_t i = 0, v = 0; i < n; i += kLanes, v = v + 1 == vectors ? 0 : v + 1) {
    Vec a = Zero();
    for (int64_t y = 0; y < kh; ++y) {
      for (int64_t x = 0; x < kw; ++x) {
        a += LoadPart(frame + y * pitch + i + x * c, n - i) *
             Load(tiled + (y * kw + x) * period + v * kLanes);
      }
    }
    StorePart(out + i, a, n - i);
  }
}

// Stride-1 correlation of a frame [oh + kh - 1, ow + kw - 1, c].
void Correlate(const float* frame, int64_t oh, int64_t ow, int64_t kh,
               int64_t kw, int64_t c, const float* tiled, int64_t vectors,
               float* out) {
  const int64_t pitch = (ow + kw - 1) * c;
  for (int64_t y = 0; y < oh; ++y) {
    const float* r = frame + y * pitch;
    if (kh == 3 && kw == 3) {
      Row3(r, r + pitch, r + 2 * pitch, c, tiled, vectors, ow * c,
           out + y * ow * c);
    } else {
      RowAny(r, pitch, kh, kw, c, tiled, vectors, ow * c, out + y * ow * c);
    }
  }
}

// partial [taps, period floats] += dy (.) shifted frame, stride 1.
void KernelGradient(const float* frame, const float* dy, const Geometry& g,
                    int64_t vectors, float* partial) {
  const int64_t c = g.c, n = g.ow * c, pitch = (g.ow + g.kw - 1) * c;
  const int64_t period = vectors * kLanes;
  for (int64_t v = 0; v < vectors; ++v) {
    for (int64_t ky = 0; ky < g.kh; ++ky) {
      if (g.kh == 3 && g.kw == 3 && ky > 0) break;
      if (g.kh == 3 && g.kw == 3) {
        Vec a[9];
        for (int t = 0; t < 9; ++t) {
          a[t] = Load(partial + t * period + v * kLanes);
        }
        for (int64_t y = 0; y < g.oh; ++y) {
          const float* r0 = frame + y * pitch;
          const float* r1 = r0 + pitch;
          const float* r2 = r1 + pitch;
          const float* d = dy + y * n;
          int64_t i = v * kLanes;
          const auto add = [&](auto load) {
            const Vec e = load(d + i);
            a[0] += e * load(r0 + i);
            a[1] += e * load(r0 + i + c);
            a[2] += e * load(r0 + i + 2 * c);
            a[3] += e * load(r1 + i);
            a[4] += e * load(r1 + i + c);
            a[5] += e * load(r1 + i + 2 * c);
            a[6] += e * load(r2 + i);
            a[7] += e * load(r2 + i + c);
            a[8] += e * load(r2 + i + 2 * c);
          };
          for (; i + kLanes <= n; i += period) {
            add([](const float* p) { return Load(p); });
          }
          if (i < n) {
            const int64_t m = n - i;
            add([m](const float* p) { return LoadPart(p, m); });
          }
        }
        for (int t = 0; t < 9; ++t) {
          Store(partial + t * period + v * kLanes, a[t]);
        }
        continue;
      }
      for (int64_t kx = 0; kx < g.kw; ++kx) {
        float* p = partial + (ky * g.kw + kx) * period + v * kLanes;
        Vec a = Load(p);
        for (int64_t y = 0; y < g.oh; ++y) {
          const float* r = frame + (y + ky) * pitch + kx * c;
          for (int64_t i = v * kLanes; i < n; i += period) {
            a += LoadPart(dy + y * n + i, n - i) * LoadPart(r + i, n - i);
          }
        }
        Store(p, a);
      }
    }
  }
}

// Strided forward of one image; the frame is [rows, cols, c].
void Strided(const float* frame, int64_t cols, const float* w,
             const Geometry& g, float* out) {
  const int64_t c = g.c;
  for (int64_t y = 0; y < g.oh; ++y) {
    for (int64_t x = 0; x < g.ow; ++x) {
      const float* p = frame + (y * g.stride * cols + x * g.stride) * c;
      for (int64_t i = 0; i < c; i += kLanes) {
        Vec a = Zero();
        for (int64_t ky = 0; ky < g.kh; ++ky) {
          for (int64_t kx = 0; kx < g.kw; ++kx) {
            a += LoadPart(p + (ky * cols + kx) * c + i, c - i) *
                 LoadPart(w + (ky * g.kw + kx) * c + i, c - i);
          }
        }
        StorePart(out + (y * g.ow + x) * c + i, a, c - i);
      }
    }
  }
}

void StridedKernelGradient(const float* frame, int64_t cols, const float* dy,
                           const Geometry& g, float* partial) {
  const int64_t c = g.c;
  for (int64_t ky = 0; ky < g.kh; ++ky) {
    for (int64_t kx = 0; kx < g.kw; ++kx) {
      float* out = partial + (ky * g.kw + kx) * c;
      for (int64_t i = 0; i < c; i += kLanes) {
        Vec a = LoadPart(out + i, c - i);
        for (int64_t y = 0; y < g.oh; ++y) {
          const float* r =
              frame + ((y * g.stride + ky) * cols + kx) * c + i;
          const float* d = dy + y * g.ow * c + i;
          for (int64_t x = 0; x < g.ow; ++x) {
            a += LoadPart(d + x * c, c - i) *
                 LoadPart(r + x * g.stride * c, c - i);
          }
        }
        StorePart(out + i, a, c - i);
      }
    }
  }
}

Geometry Make(const ffi::Buffer<ffi::F32>& x, const ffi::Buffer<ffi::F32>& w,
              const ffi::Span<const int64_t>& out, int64_t stride, int64_t top,
              int64_t left) {
  const auto d = x.dimensions();
  const auto k = w.dimensions();
  const size_t n = d.size(), m = k.size(), o = out.size();
  return Geometry{d[n - 4],   d[n - 3],   d[n - 2], d[n - 1],
                  out[o - 3], out[o - 2], d[n - 1], k[m - 4],
                  k[m - 3],   stride,     top,      left};
}

ffi::Error Forward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                   ffi::Buffer<ffi::F32> w, ffi::ResultBuffer<ffi::F32> y,
                   int64_t stride, int64_t top, int64_t left) {
  const Geometry g = Make(x, w, y->dimensions(), stride, top, left);
  const int64_t members = Members(x.dimensions(), 4);
  const int64_t taps = g.kh * g.kw;
  const Period period(g.c);
  const int64_t floats = period.vectors * kLanes;
  const int64_t rows = (g.oh - 1) * stride + g.kh;
  const int64_t cols = (g.ow - 1) * stride + g.kw;
  std::vector<float> tiled(members * taps * floats);
  for (int64_t m = 0; m < members; ++m) {
    Tile(w.typed_data() + m * taps * g.c, taps, g.c, floats, false,
         tiled.data() + m * taps * floats);
  }
  const float* in = x.typed_data();
  float* out = y->typed_data();
  ParallelFor(pool, members * g.batch, [&](int64_t i) {
    const int64_t m = i / g.batch;
    float* frame = Scratch(0, rows * cols * g.c + kLanes);
    Frame(in + i * g.h * g.w * g.c, g.h, g.w, g.c, rows, cols, g.top, g.left, 1,
          frame);
    float* image = out + i * g.oh * g.ow * g.c;
    if (stride == 1) {
      Correlate(frame, g.oh, g.ow, g.kh, g.kw, g.c,
                tiled.data() + m * taps * floats, period.vectors, image);
    } else {
      Strided(frame, cols, w.typed_data() + m * taps * g.c, g, image);
    }
  });
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                    ffi::Buffer<ffi::F32> w, ffi::Buffer<ffi::F32> dy,
                    ffi::ResultBuffer<ffi::F32> dx,
                    ffi::ResultBuffer<ffi::F32> dw, int64_t stride, int64_t top,
                    int64_t left) {
  const Geometry g = Make(x, w, dy.dimensions(), stride, top, left);
  const int64_t members = Members(x.dimensions(), 4);
  const int64_t taps = g.kh * g.kw;
  const Period period(g.c);
  const int64_t floats = period.vectors * kLanes;
  const int64_t rows = (g.oh - 1) * stride + g.kh;
  const int64_t cols = (g.ow - 1) * stride + g.kw;
  const int64_t width = stride == 1 ? floats : g.c;
  const int64_t each = ImagesPerChunk(g.batch);
  const int64_t chunks = CeilDiv(g.batch, each);
  std::vector<float> flipped(members * taps * floats);
  for (int64_t m = 0; m < members; ++m) {
    Tile(w.typed_data() + m * taps * g.c, taps, g.c, floats, true,
         flipped.data() + m * taps * floats);
  }
  std::vector<float> partials(members * chunks * taps * width);
  ParallelFor(pool, members * chunks, [&](int64_t chunk) {
    const int64_t m = chunk / chunks;
    const int64_t first = m * g.batch + (chunk % chunks) * each;
    const int64_t last = std::min(first + each, (m + 1) * g.batch);
    float* partial = partials.data() + chunk * taps * width;
    const int64_t dx_rows = g.h + g.kh - 1, dx_cols = g.w + g.kw - 1;
    float* frame = Scratch(0, rows * cols * g.c + kLanes);
    float* gradient = Scratch(1, dx_rows * dx_cols * g.c + kLanes);
    for (int64_t i = first; i < last; ++i) {
      const float* d = dy.typed_data() + i * g.oh * g.ow * g.c;
      Frame(d, g.oh, g.ow, g.c, dx_rows, dx_cols, g.kh - 1 - g.top,
            g.kw - 1 - g.left, stride, gradient);
      Correlate(gradient, g.h, g.w, g.kh, g.kw, g.c,
                flipped.data() + m * taps * floats, period.vectors,
                dx->typed_data() + i * g.h * g.w * g.c);
      Frame(x.typed_data() + i * g.h * g.w * g.c, g.h, g.w, g.c, rows, cols,
            g.top, g.left, 1, frame);
      if (stride == 1) {
        KernelGradient(frame, d, g, period.vectors, partial);
      } else {
        StridedKernelGradient(frame, cols, d, g, partial);
      }
    }
  });
  for (int64_t m = 0; m < members; ++m) {
    float* out = dw->typed_data() + m * taps * g.c;
    for (int64_t t = 0; t < taps; ++t) {
      std::vector<double> total(g.c, 0.0);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* p =
            partials.data() + ((m * chunks + chunk) * taps + t) * width;
        for (int64_t i = 0; i < width; ++i) total[i % g.c] += p[i];
      }
      for (int64_t i = 0; i < g.c; ++i) out[t * g.c + i] = total[i];
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_depthwise, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fer_jax_depthwise_gradient, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

}  // namespace fer
