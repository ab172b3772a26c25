"""Batched prediction in JAX, and bringing images to a network's input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.evaluation import predict


class _Mean(nn.Module):
  """Logits: mean of the image, its left half, and a constant."""

  @nn.compact
  def __call__(self, image, *, train=False):
    half = image[:, :, : image.shape[2] // 2]
    mean = jnp.mean(image, axis=(1, 2, 3))
    left = jnp.mean(half, axis=(1, 2, 3))
    return jnp.stack([mean, left, jnp.ones_like(mean)], axis=-1)


def _images(n, shape=(8, 6, 1), seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.mark.parametrize('batch_size', [1, 4, 7, 100])
def test_every_image_once_whatever_the_batch(batch_size):
  images = _images(11)
  found = predict.jax_logits(_Mean(), {}, images, batch_size=batch_size)
  assert found.shape == (11, 3)
  assert found.dtype == np.float32
  expected = images.mean(axis=(1, 2, 3)) / 255
  np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_flip_is_the_mean_of_both():
  images = _images(3)
  found = predict.flipped(
    lambda im: predict.jax_logits(_Mean(), {}, im), images
  )
  # Mean of left half and mirrored left half is the mean of all.
  np.testing.assert_allclose(found[:, 1], found[:, 0], rtol=1e-6)


def test_no_images_is_refused():
  with pytest.raises(ValueError, match='no images'):
    predict.jax_logits(_Mean(), {}, _images(0))
  with pytest.raises(ValueError, match='no images'):
    predict.tflite_probabilities(b'', _images(0))


def test_fit_leaves_alone_what_fits():
  images = _images(2)
  assert predict.fit(images, (8, 6, 1)) is images


def test_fit_sizes_and_channels():
  images = _images(2, (8, 6, 3))
  grey = predict.fit(images, (8, 6, 1))
  expected = cv2.cvtColor(images[1], cv2.COLOR_RGB2GRAY)
  np.testing.assert_array_equal(grey[1, ..., 0], expected)
  larger = predict.fit(grey, (16, 12, 3))
  assert larger.shape == (2, 16, 12, 3)
  assert larger.dtype == np.uint8
  np.testing.assert_array_equal(larger[..., 0], larger[..., 2])
  assert abs(larger.mean() - grey.mean()) < 3


@pytest.mark.parametrize(
  ('images', 'shape'),
  [
    (np.zeros((1, 8, 8, 1), np.float32), (8, 8, 1)),
    (np.zeros((8, 8, 1), np.uint8), (8, 8, 1)),
    (np.zeros((1, 8, 8, 4), np.uint8), (8, 8, 3)),
    (np.zeros((1, 8, 8, 1), np.uint8), (8, 8, 2)),
  ],
)
def test_fit_refuses_other_images(images, shape):
  with pytest.raises(ValueError, match='must be uint8'):
    predict.fit(images, shape)


def test_a_file_that_is_no_tflite(tmp_path):
  path = tmp_path / 'model.tflite'
  path.write_bytes(b'not a flat buffer at all')
  with pytest.raises(predict.TfliteError, match=r'model\.tflite'):
    predict.tflite_probabilities(path, _images(1))
