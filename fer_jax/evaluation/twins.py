"""Test images that the training has seen, pixel for pixel."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ['twin_mask']


def twin_mask(images: np.ndarray, train_images: np.ndarray) -> np.ndarray:
  """Which images have a pixel-identical one in training.

  Args:
    images: uint8 `[N, H, W, C]`.
    train_images: uint8 `[M, H, W, C]`.

  Returns:
    bool `[N]`.

  Raises:
    ValueError: the images differ in size or type, so none could be identical.
  """
  if images.shape[1:] != train_images.shape[1:] or (
    images.dtype != train_images.dtype
  ):
    raise ValueError(
      f'images are {images.dtype} {list(images.shape[1:])}, those of training '
      f'{train_images.dtype} {list(train_images.shape[1:])}'
    )
  seen = {_digest(image) for image in train_images}
  return np.fromiter(
    (_digest(image) in seen for image in images), bool, len(images)
  )


def _digest(image: np.ndarray) -> bytes:
  return hashlib.sha256(np.ascontiguousarray(image)).digest()
