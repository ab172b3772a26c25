"""The face detector for IoT devices: one grid of boxes, as in YOLO v1.

Source: Mikhaylevskiy, Chernyavskiy, Pavlishen and Romanova, "Fast Emotion
Recognition Neural Network for IoT Devices", SED 2021, Section III.A, Table I.
The meaning of the 11 output channels is not printed. Reading chosen: two boxes
of (x, y, w, h, confidence) and one class score, in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['GridDetector']


class GridDetector(nn.Module):
  """Table I; `[B, 288, 288, 3]` in [0, 1] -> raw grid `[B, 9, 9, 11]`.

  The output is linear: neither squashed nor decoded. Other image sizes give
  other grids, one cell per 2**len(stages) pixels.

  Sows `stage1_out` ... (after the pool) and `head1_out` ....

  Attributes:
    input_shape: (H, W, C) that `models.init` builds for.
    boxes: predicted a cell, five channels each.
    classes: class scores a cell.
    stages: filters of the stages: two 3x3 convolutions and a 2x2 pool.
    head: filters of the 3x3 convolutions on the grid.
  """

  input_shape: tuple[int, int, int] = (288, 288, 3)
  boxes: int = 2
  classes: int = 1
  stages: Sequence[int] = (8, 16, 32, 64, 128)
  head: Sequence[int] = (192, 192, 192, 192)
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    def block(x: jax.Array, features: int, name: str) -> jax.Array:
      x = layers.Conv(features, dtype=self.dtype, name=name)(x)
      return layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation='relu',
        name=f'{name}_norm',
      )(x, train=train)

    x = image.astype(self.dtype) * 2 - 1
    for i, features in enumerate(self.stages, 1):
      x = block(x, features, f'stage{i}_conv1')
      x = block(x, features, f'stage{i}_conv2')
      x = ops.max_pool(x, 2, 2, 'VALID')
      self.sow('intermediates', f'stage{i}_out', x)
    for i, features in enumerate(self.head, 1):
      x = block(x, features, f'head{i}')
      self.sow('intermediates', f'head{i}_out', x)
    x = layers.Conv(
      5 * self.boxes + self.classes,
      use_bias=True,
      dtype=self.dtype,
      name='grid',
    )(x)
    return x.astype(jnp.float32)
