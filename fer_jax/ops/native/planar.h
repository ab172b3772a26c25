// Between NHWC pixels and planes of one channel each.
#pragma once

#include "common.h"

namespace fer {

#if defined(__AVX512F__)
// Transposes a 16 x 16 block held in 16 vectors.
inline void Transpose16(__m512* r) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]);
    const __m512d b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]);
    const __m512d d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}
#endif

// rows x cols floats at `in` (row pitch `from`) to cols x rows at `out` (`to`).
inline void Transpose(const float* in, int64_t rows, int64_t cols, int64_t from,
                      float* out, int64_t to) {
  if (cols == 1) {
    if (from == 1) {
      std::memcpy(out, in, rows * sizeof(float));
    } else {
      for (int64_t i = 0; i < rows; ++i) out[i] = in[i * from];
    }
    return;
  }
  if (rows == 1 && to == 1) {
    std::memcpy(out, in, cols * sizeof(float));
    return;
  }
#if defined(__AVX512F__)
  for (int64_t j = 0; j < cols; j += 16) {
    const int64_t width = std::min<int64_t>(16, cols - j);
    const __mmask16 columns = (__mmask16)((1u << width) - 1);
    for (int64_t i = 0; i < rows; i += 16) {
      const int64_t height = std::min<int64_t>(16, rows - i);
      const __mmask16 lines = (__mmask16)((1u << height) - 1);
      const float* p = in + i * from + j;
      __m512 r[16];
      if (height == 16) {
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          r[k] = _mm512_maskz_loadu_ps(columns, p + k * from);
        }
      } else {
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          r[k] = k < height ? _mm512_maskz_loadu_ps(columns, p + k * from)
                            : _mm512_setzero_ps();
        }
      }
      Transpose16(r);
      float* q = out + j * to + i;
      if (width == 16) {
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          _mm512_mask_storeu_ps(q + k * to, lines, r[k]);
        }
      } else {
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          if (k < width) _mm512_mask_storeu_ps(q + k * to, lines, r[k]);
        }
      }
    }
  }
#else
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) out[j * to + i] = in[i * from + j];
  }
#endif
}

// Images laid out as planes for a sliding window.
//
// Several images, or some rows of one, are put into one plane a channel, row
// after row with a pitch that lets the zeros after one row serve as the zeros
// before the next; a window over output (y, x) with tap k then reads the flat
// index y * pitch + x + offset[k]. With a stride of s there are s * s planes a
// channel, one for each remainder of row and column. A few flat positions
// belong to no output; what is computed there is ignored.
struct Frame2 {
  int64_t h, w, c;      // source images
  int64_t oh, ow;       // outputs
  int64_t kh, kw, s;    // window
  int64_t top, left;    // zeros before; negative crops
  int64_t pitch, rows;  // of one image in a plane
  int64_t group;        // images together ...
  int64_t strip;        // ... or output rows together, when group is 1
  int64_t flat;         // outputs of a unit, junk included
  int64_t plane;        // floats of one remainder
  int64_t channel;      // floats of one channel

  Frame2(int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int64_t kh,
         int64_t kw, int64_t s, int64_t top, int64_t left, int64_t batch,
         int64_t channels_beside)
      : h(h), w(w), c(c), oh(oh), ow(ow), kh(kh), kw(kw), s(s), top(top),
        left(left) {
    if (s == 1) {
      const int64_t l = std::max<int64_t>(0, left);
      const int64_t t = std::max<int64_t>(0, top);
      pitch = std::max(std::min(left + w, ow + kw - 1), ow + kw - 1 - l);
      rows = std::max(std::min(top + h, oh + kh - 1), oh + kh - 1 - t);
    } else {
      pitch = ow + (kw - 1) / s;
      rows = oh + (kh - 1) / s;
    }
    // What the planes of a unit may take: a good part of the level-2 cache.
    const int64_t budget = 112 * 1024;
    const int64_t wide = std::max<int64_t>(1, s * s * c + channels_beside);
    const int64_t image = rows * pitch;
    group = 1;
    strip = oh;
    if (image * wide > budget) {
      strip = std::max<int64_t>(
          1, std::min(oh, budget / (wide * pitch) - (kh - 1) / s));
      strip = CeilDiv(oh, CeilDiv(oh, strip));
    } else {
      group = std::max<int64_t>(
          1, std::min({CeilDiv(768, image), budget / (image * wide),
                       CeilDiv(batch, 4)}));
    }
    flat = group > 1 ? (group - 1) * image + (oh - 1) * pitch + ow
                     : (strip - 1) * pitch + ow;
    // Vectors may read past the end.
    const int64_t reach = ((kh - 1) / s) * pitch + (kw - 1) / s + 3 * kLanes;
    plane = RoundUp(flat + reach, kLanes);
    channel = s * s * plane + kLanes;
  }

  int64_t Strips() const { return CeilDiv(oh, strip); }
  int64_t Units(int64_t batch) const {
    return group > 1 ? CeilDiv(batch, group) : batch * Strips();
  }
  int64_t Offset(int64_t ky, int64_t kx) const {
    return ((ky % s) * s + kx % s) * plane + (ky / s) * pitch + kx / s;
  }

  struct Unit {
    int64_t image, images, y, rows;
  };
  Unit At(int64_t unit, int64_t batch) const {
    if (group > 1) {
      const int64_t image = unit * group;
      return Unit{image, std::min(group, batch - image), 0, oh};
    }
    const int64_t y = (unit % Strips()) * strip;
    return Unit{unit / Strips(), 1, y, std::min(strip, oh - y)};
  }

  // Fills the planes of a unit.
  void Fill(const float* images, const Unit& u, float* out) const {
    std::memset(out, 0, c * channel * sizeof(float));
    for (int64_t i = 0; i < u.images; ++i) {
      const float* image = images + (u.image + i) * h * w * c;
      const int64_t last = (u.rows - 1) * s + kh;
      for (int64_t r = 0; r < last; ++r) {
        const int64_t y = u.y * s + r - top;
        if (y < 0 || y >= h) continue;
        const float* line = image + y * w * c;
        float* base =
            out + (r % s) * s * plane + (i * rows + r / s) * pitch;
        for (int64_t p = 0; p < s; ++p) {
          // Frame columns p, p + s, ... that hold pixels.
          int64_t q = std::max<int64_t>(0, left);
          q += (p - q % s + s) % s;
          const int64_t end = std::min(left + w, (ow - 1) * s + kw);
          if (q >= end) continue;
          Transpose(line + (q - left) * c, CeilDiv(end - q, s), c, s * c,
                    base + p * plane + q / s, channel);
        }
      }
    }
  }
};

}  // namespace fer
