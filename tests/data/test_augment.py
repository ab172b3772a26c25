"""Augmentation: exact cases, an independent resizer, and its ranges."""

from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fer_jax.data import augment


def _images(n=3, h=12, w=10, c=1):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (n, h, w, c), dtype=np.uint8)


def _keys(n=3, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def test_no_augmentation_only_scales():
  images = _images()
  out = augment.apply(_keys(), images, (12, 10))
  np.testing.assert_allclose(out, images / 255.0, atol=1e-7)


@pytest.mark.parametrize('size', [(24, 20), (17, 31), (9, 8)])
def test_resizing_equals_opencv(size):
  images = _images()
  out = augment.apply(_keys(), images, size)
  for got, image in zip(out, images, strict=True):
    expected = cv2.resize(
      image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR
    )
    np.testing.assert_allclose(got[..., 0] * 255, expected, atol=2e-3)


def test_flip_is_exact_and_happens_to_half():
  image = np.repeat(_images(1), 400, axis=0)
  out = np.asarray(
    augment.apply(_keys(400), image, (12, 10), augment.Augmentation(flip=True))
  )
  plain = image[0] / 255.0
  flipped = np.array([np.allclose(o, plain[:, ::-1], atol=1e-5) for o in out])
  kept = np.array([np.allclose(o, plain, atol=1e-5) for o in out])
  assert np.all(flipped ^ kept)
  assert 150 < flipped.sum() < 250


def test_quarter_turn():
  # The matrix of a quarter turn: y, x of the source are x', -y' of the result.
  image = _images(1, 8, 8)[0]
  turn = jnp.array([[0.0, 1, 0], [-1, 0, 0]])
  out = augment.resample(image, turn, (8, 8))
  np.testing.assert_allclose(out[..., 0], np.rot90(image[..., 0]), atol=1e-3)


def test_shift_by_whole_pixels():
  image = _images(1, 10, 10)[0]
  out = augment.resample(image, jnp.array([[1.0, 0, 0.2], [0, 1, 0]]), (10, 10))
  np.testing.assert_allclose(out[:9], image[1:].astype(float), atol=1e-3)
  np.testing.assert_allclose(out[9], image[9].astype(float), atol=1e-3)


def test_everything_stays_in_range_and_finite():
  config = augment.Augmentation(
    30, 0.3, 0.3, True, 0.5, 0.5, erase=1.0, erase_area=0.4
  )
  out = np.asarray(augment.apply(_keys(), _images(), (16, 16), config))
  assert np.isfinite(out).all()
  assert out.min() >= 0
  assert out.max() <= 1


def test_erasing_fills_a_rectangle_within_its_share():
  images = np.zeros((200, 40, 40, 1), np.uint8)
  config = augment.Augmentation(erase=0.5, erase_area=0.25)
  out = np.asarray(augment.apply(_keys(200), images, (40, 40), config))
  share = (out[..., 0] > 0).mean((1, 2))
  assert 60 < (share > 0).sum() < 140
  assert share.max() < 0.25 + 0.1  # whole pixels round outwards


def test_an_example_does_not_depend_on_its_neighbours():
  config = augment.Augmentation(20, 0.1, 0.1, True, erase=0.5)
  images, keys = _images(4), _keys(4)
  whole = augment.apply(keys, images, (12, 10), config)
  half = augment.apply(keys[2:], images[2:], (12, 10), config)
  np.testing.assert_array_equal(whole[2:], half)


def test_mixup_keeps_distributions():
  images = jax.random.uniform(jax.random.key(0), (4, 6, 6, 1))
  targets = jax.nn.one_hot(jnp.arange(4), 7)
  x, t = augment.mixup(jax.random.key(1), images, targets, 0.4)
  np.testing.assert_allclose(np.sum(t, -1), 1, rtol=1e-6)
  share = float(t[1, 1])
  assert 0.5 <= share <= 1
  np.testing.assert_allclose(
    x[1], share * images[1] + (1 - share) * images[0], atol=1e-6
  )


@pytest.mark.parametrize(
  'bad', [{'rotation': -1}, {'shift': 2}, {'erase': 1.5}, {'zoom': 1}]
)
def test_ranges_are_checked(bad):
  with pytest.raises(ValueError, match=r'augment\.'):
    augment.Augmentation(**bad)
