"""Tests of fer_jax.edge.overlay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax import labels
from fer_jax.edge import overlay
from fer_jax.edge.recognizer import Face

NAMES = labels.get('fer2013').names


def face(box, label='happy'):
  rest = 0.3 / (len(NAMES) - 1)
  return Face(box, 0.9, label, {n: 0.7 if n == label else rest for n in NAMES})


def allowed(faces, width, height, scale=1.0):
  """Mask of the pixels that the frames and panels may change."""
  mask = np.zeros((height, width), bool)
  for layout in overlay.layouts(faces, width, height, scale):
    x0, y0, x1, y1 = layout.box
    frame = np.zeros_like(mask)
    frame[y0:y1, x0:x1] = True
    n = layout.line
    frame[y0 + n : y1 - n, x0 + n : x1 - n] = False
    mask |= frame
    x0, y0, x1, y1 = layout.panel
    mask[y0:y1, x0:x1] = True
  return mask


@pytest.mark.parametrize('count', [0, 1, 2, 9])
def test_changes_only_frames_and_panels(photo, count):
  faces = [
    face((20.0 + 50 * i, 30.0, 60.0 + 50 * i, 80.0)) for i in range(count)
  ]
  before = photo.copy()
  after = overlay.annotate(photo, faces)
  np.testing.assert_array_equal(photo, before)
  mask = allowed(faces, 512, 512)
  np.testing.assert_array_equal(after[~mask], photo[~mask])
  assert (after[mask] != photo[mask]).any() == (count > 0)


def test_bars_are_as_long_as_the_probabilities(photo):
  # A probability each, so that a bar in the wrong row shows.
  values = dict(zip(NAMES, (0.4, 0.0, 0.05, 0.3, 0.1, 0.13, 0.02), strict=True))
  one = Face((100.0, 100.0, 200.0, 220.0), 0.9, 'angry', values)
  after = overlay.annotate(photo, [one])
  (layout,) = overlay.layouts([one], 512, 512)
  assert layout.bars
  x0, y0, x1, y1 = layout.panel
  panel = after[y0:y1, x0:x1]
  colour = panel[0, 0]
  row = layout.row
  length = row * 8 - row // 4 - row * 4
  for i, value in enumerate(values.values(), 1):
    line = panel[i * row + row // 2, row * 4 :]
    lit = int((line == colour).all(axis=1).sum())
    assert lit == round(length * value)


def test_text_is_written(photo):
  happy, fear = (
    overlay.annotate(photo, [face((100.0, 100.0, 200.0, 220.0), name)])
    for name in ('happy', 'fear')
  )
  (layout,) = overlay.layouts([face((100.0, 100.0, 200.0, 220.0))], 512, 512)
  x0, y0, x1, _ = layout.panel
  title = np.s_[y0 : y0 + layout.row, x0:x1]
  assert (happy[title] != fear[title]).any()
  assert (happy[title] > 200).all(axis=-1).any()


def test_small_pictures_are_enlarged():
  image = np.arange(48 * 48 * 3, dtype=np.uint32).reshape(48, 48, 3)
  image = (image % 251).astype(np.uint8)
  after = overlay.annotate(image, [])
  assert after.shape == (384, 384, 3)
  np.testing.assert_array_equal(after[::8, ::8], image)
  banner = overlay.annotate(np.zeros((10, 30_000, 3), np.uint8), [])
  assert banner.shape == (10, 30_000, 3)


def test_crowds_get_labels_only():
  crowd = [
    face((30.0 * i, 30.0 * j, 30.0 * i + 29, 30.0 * j + 29))
    for i in range(21)
    for j in range(16)
  ]
  assert not any(x.bars for x in overlay.layouts(crowd, 640, 480))


def test_bars_hide_no_face_and_no_other_bars():
  faces = [
    face((x, y, x + 90.0, y + 110.0))
    for x in (170.0, 690.0)
    for y in (60.0, 570.0)
  ]
  drawn = list(overlay.layouts(faces, 1024, 1024))
  assert all(layout.bars for layout in drawn)
  rectangles = [r for layout in drawn for r in (layout.box, layout.panel)]
  covered = np.zeros((1024, 1024), int)
  for x0, y0, x1, y1 in rectangles:
    covered[y0:y1, x0:x1] += 1
  assert covered.max() == 1


@settings(max_examples=60, deadline=None)
@given(
  size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
  box=st.tuples(*[st.floats(-300, 800)] * 4),
  count=st.integers(1, 5),
)
def test_any_box_in_any_picture(size, box, count):
  width, height = size
  image = np.zeros((height, width, 3), np.uint8)
  faces = [face(box)] * count
  after = overlay.draw(image.copy(), faces)
  assert after.shape == image.shape
  mask = allowed(faces, width, height)
  assert not after[~mask].any()
