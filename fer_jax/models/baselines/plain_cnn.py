"""The plain convolutional network.

Source: row "CNN" in Table 2 of "A Light Weight Convolution Neural Network For
Real time Facial Expression Detection", trained by its authors; no layer of it
is printed. Reading chosen: the `simple_CNN` that is published beside the
`mini_XCEPTION` which the paper uses (Arriaga, Valdenegro-Toro and Ploeger,
"Real-time Convolutional Neural Networks for Emotion and Gender Classification",
arXiv 1710.07557, Section III: "a standard fully-convolutional neural network",
about 600,000 parameters): 642,935 of them with seven classes on grey images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['PlainCnn']


class PlainCnn(nn.Module):
  """Plain CNN; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `stage1_out` ... (after the pool), `last_out` and `class_maps`.

  Attributes:
    num_classes: width of the last convolution.
    input_shape: (H, W, C) that `models.init` builds for; any size from 16 up.
    stages: (filters, kernel size) of the stages: convolution, norm, and again,
      ReLU, 2x2 average pool (sizes rounded down).
    last: filters of the convolution before the last.
    dropout: rate after each pool; the original trains with 0.5. A rate above 0
      needs `rngs={'dropout': key}` in training.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (48, 48, 1)
  stages: Sequence[tuple[int, int]] = ((16, 7), (32, 5), (64, 3), (128, 3))
  last: int = 256
  dropout: float = 0.0
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    def block(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
      x = layers.Conv(
        features, size, use_bias=True, dtype=self.dtype, name=name
      )(x)
      return layers.BatchNorm(
        axis_name=self.axis_name, dtype=self.dtype, name=f'{name}_norm'
      )(x, train=train)

    x = image.astype(self.dtype) * 2 - 1
    for i, (features, size) in enumerate(self.stages, 1):
      x = block(x, features, size, f'stage{i}_conv1')
      x = nn.relu(block(x, features, size, f'stage{i}_conv2'))
      x = ops.avg_pool(x, 2, 2)
      self.sow('intermediates', f'stage{i}_out', x)
      x = nn.Dropout(self.dropout, name=f'stage{i}_drop')(
        x, deterministic=not train
      )
    x = block(x, self.last, 3, 'last')
    self.sow('intermediates', 'last_out', x)
    x = layers.Conv(
      self.num_classes, use_bias=True, dtype=self.dtype, name='classes'
    )(x)
    self.sow('intermediates', 'class_maps', x)
    return layers.global_average_pool(x).astype(jnp.float32)
