"""Tests of fer_jax.edge.classifier and runtime."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax import bundles
from fer_jax import labels
from fer_jax.edge import classifier
from fer_jax.edge import runtime

# The bundle of conftest.py.
NAME = 'tiny_fer2013'
SIZE = 48


@pytest.mark.parametrize('precision', ['int8', 'float16', 'float32'])
def test_gives_what_the_interpreter_gives(checkpoints, precision, answers):
  model = classifier.Classifier(NAME, precision=precision, threads=1)
  assert model.labels == labels.get('fer2013').names
  assert model.input_shape == (SIZE, SIZE, 1)
  with np.load(checkpoints / NAME / 'golden.npz') as golden:
    images = golden['image']
  want = answers(checkpoints / NAME / runtime.FILES[precision], images)
  got = np.stack([model.classify(image) for image in images])
  np.testing.assert_allclose(got, want, atol=1e-6)
  assert classifier.golden_difference(model, model.folder)[1] == len(images)


def test_grey_crop_of_a_colour_picture(checkpoints):
  model = classifier.Classifier(NAME)
  generator = np.random.default_rng(3)
  image = generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
  grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  np.testing.assert_array_equal(
    model(image, (0, 0, SIZE, SIZE)), model.classify(grey[..., None])
  )


def test_default_bundle(checkpoints, monkeypatch):
  monkeypatch.setattr(bundles, 'roots', lambda: [checkpoints])
  assert classifier.default_bundle() == NAME
  monkeypatch.setattr(bundles, 'names', lambda: [NAME, classifier.DEFAULT])
  assert classifier.default_bundle() == classifier.DEFAULT
  monkeypatch.setattr(bundles, 'names', lambda: [])
  with pytest.raises(bundles.UnknownBundleError, match='FER_JAX_CHECKPOINTS'):
    classifier.default_bundle()


def change(root, **entries):
  file = root / NAME / 'model.json'
  data = json.loads(file.read_text())
  file.write_text(json.dumps({**data, **entries}))


@pytest.mark.parametrize(
  ('entries', 'reason'),
  [
    ({'input_shape': [64, 64, 1]}, r'model\.json says image \(1, 64, 64, 1\)'),
    ({'input_shape': [48, 48, 3]}, r'model\.json says image \(1, 48, 48, 3\)'),
    ({'kind': 'detector'}, 'holds a detector, where a classifier is needed'),
    ({'labels': ['happy', 'sad']}, 'its labels are not those of model.json'),
    ({'label_set': 'kdef'}, "not those of label set 'kdef'"),
    ({'format': 7}, 'format is not 1'),
  ],
)
def test_refuses_a_model_that_is_not_as_described(
  own_checkpoints, entries, reason
):
  change(own_checkpoints, **entries)
  bundles.write_manifest(own_checkpoints)
  with pytest.raises(bundles.BundleError, match=reason) as caught:
    classifier.Classifier(NAME)
  assert NAME in str(caught.value)
  assert '\n' not in str(caught.value)


def test_refuses_too_few_labels(own_checkpoints):
  six = list(labels.get('fer2013').names[:6])
  change(own_checkpoints, labels=six, label_set='own')
  (own_checkpoints / NAME / 'labels.txt').write_text('\n'.join(six))
  bundles.write_manifest(own_checkpoints)
  with pytest.raises(bundles.BundleError, match='the 6 labels of'):
    classifier.Classifier(NAME)


def test_refuses_a_file_that_is_no_model(own_checkpoints):
  file = own_checkpoints / NAME / 'model_int8.tflite'
  file.write_bytes(b'not a model')
  with pytest.raises(bundles.BundleError, match='SHA-256 differs') as caught:
    classifier.Classifier(NAME)
  assert str(file) in str(caught.value)
  bundles.write_manifest(own_checkpoints)
  with pytest.raises(bundles.BundleError, match='cannot be run') as caught:
    classifier.Classifier(NAME)
  assert str(file) in str(caught.value)


def test_missing_precision(own_checkpoints):
  (own_checkpoints / NAME / 'model.tflite').unlink()
  with pytest.raises(bundles.BundleError, match='it has int8, float16'):
    classifier.Classifier(NAME, precision='float32')
  with pytest.raises(bundles.BundleError, match='choose one of: int8'):
    classifier.Classifier(NAME, precision='int4')


def test_golden_difference_sees_other_weights(own_checkpoints):
  folder = own_checkpoints / NAME
  shutil.copy(folder / 'model_int8.tflite', folder / 'model.tflite')
  with np.load(folder / 'golden.npz') as golden:
    arrays = dict(golden)
  arrays['probabilities'] = np.roll(arrays['probabilities'], 1, axis=1)
  np.savez(folder / 'golden.npz', **arrays)
  bundles.write_manifest(own_checkpoints)
  model = classifier.Classifier(NAME, precision='float32')
  assert classifier.golden_difference(model, folder)[0] > 0.02
  np.savez(folder / 'golden.npz', image=arrays['image'][:, :9])
  with pytest.raises(bundles.BundleError, match=r'golden\.npz'):
    classifier.golden_difference(model, folder)


def ramp(height, width):
  """A picture whose red is the column and whose green is the row."""
  image = np.zeros((height, width, 3), np.uint8)
  image[..., 0] = np.arange(width)
  image[..., 1] = np.arange(height)[:, None]
  return image


def test_crop_is_a_square_with_its_margin():
  crop = classifier.crop_face(
    ramp(100, 200), (50, 20, 70, 60), margin=0.2, size=(48, 48)
  )
  # Centre (60, 40), longer side 40, times 1.2: columns 36..84, rows 16..64.
  np.testing.assert_array_equal(crop, ramp(100, 200)[16:64, 36:84])


def test_crop_repeats_the_edge():
  crop = classifier.crop_face(
    ramp(100, 100), (-20, 10, 20, 30), margin=0.0, size=(20, 20)
  )
  # Cut at the edge the box is 20 x 20 and lies inside.
  np.testing.assert_array_equal(crop, ramp(100, 100)[10:30, 0:20])
  crop = classifier.crop_face(
    ramp(100, 100), (0, 10, 20, 30), margin=1.0, size=(40, 40)
  )
  # Columns -10..30, rows 0..40: the first ten columns repeat column 0.
  assert (crop[:, :10, 0] == 0).all()
  np.testing.assert_array_equal(crop[:, 10:], ramp(100, 100)[0:40, 0:30])


def test_crop_shrinks_by_area():
  image = np.zeros((8, 8, 3), np.uint8)
  image[::2] = 200
  crop = classifier.crop_face(image, (0, 0, 8, 8), margin=0, size=(4, 4))
  assert (crop == 100).all()


def test_crop_of_a_banner_needs_little_memory():
  banner = np.zeros((10, 30_000, 3), np.uint8)
  crop = classifier.crop_face(
    banner, (0, 0, 30_000, 10), margin=0.1, size=(48, 48)
  )
  assert crop.shape == (48, 48, 3)


@pytest.mark.parametrize(
  'box',
  [
    (10, 10, 10, 20),
    (30, 0, 40, 10),
    (-9, -9, 0, 0),
    (float('nan'), 0, 5, 5),
    (5, 5, 1, 1),
  ],
)
def test_crop_refuses_a_box_beside_the_image(box):
  with pytest.raises(ValueError, match='does not meet the image'):
    classifier.crop_face(ramp(30, 30), box, margin=0.1, size=(48, 48))


coordinate = st.floats(-200, 200) | st.floats(-1e9, 1e9)


@settings(max_examples=300, deadline=None)
@given(
  box=st.tuples(coordinate, coordinate, coordinate, coordinate),
  shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
  margin=st.floats(0, 2),
  size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_any_box_that_meets_the_image_gives_a_crop(box, shape, margin, size):
  image = ramp(*shape)
  height, width = shape
  meets = max(box[0], 0) < min(box[2], width) and max(box[1], 0) < min(
    box[3], height
  )
  if not meets:
    with pytest.raises(ValueError, match='does not meet'):
      classifier.crop_face(image, box, margin=margin, size=size)
    return
  crop = classifier.crop_face(image, box, margin=margin, size=size)
  assert crop.shape == (size[1], size[0], 3)
  assert crop.dtype == np.uint8
  # Nothing is invented: every value lies between those of the image, and the
  # columns still run from left to right. OpenCV's fixed-point weights may round
  # a neighbour down by one level (46 of 30,000 random crops, never by two).
  assert crop[..., 0].max() < width
  assert crop[..., 1].max() < height
  assert (np.diff(crop[..., 0].astype(int), axis=1) >= -1).all()
  assert (np.diff(crop[..., 1].astype(int), axis=0) >= -1).all()
