"""PNG bytes for the image features of the builders."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ['encode_png']


def encode_png(image: np.ndarray) -> bytes:
  """uint8 `[H, W, 1]` grey or `[H, W, 3]` RGB as PNG.

  TFDS takes encoded bytes as they are; its own encoder runs one TensorFlow
  operation an image and needs twice the time at this size.
  """
  if image.shape[-1] == 3:
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
  done, data = cv2.imencode('.png', image, (cv2.IMWRITE_PNG_COMPRESSION, 1))
  if not done:
    raise ValueError(f'no PNG from an image of shape {image.shape}')
  return data.tobytes()
