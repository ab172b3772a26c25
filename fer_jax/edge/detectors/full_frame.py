"""No search at all: the whole picture is one face, already cut out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_jax.edge.detectors.base import Detection

if TYPE_CHECKING:
  import numpy as np

__all__ = ['FullFrame']


class FullFrame:
  """One box round the whole picture, for pictures that are face crops."""

  name = 'full-frame'
  margin = 0.0

  def __call__(self, image: np.ndarray) -> list[Detection]:
    height, width = image.shape[:2]
    return [Detection((0.0, 0.0, float(width), float(height)), 1.0)]
