"""The VGG network of 10 convolutions, 4 pools and 3 dense layers.

Source: row "VGG-Net" in Table 3 of "A Light Weight Convolution Neural Network
For Real time Facial Expression Detection", which prints these layer counts and
87,566,680 parameters, but neither widths nor input size.

Reading chosen: VGG13 of Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep
Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", arXiv 1608.01041, Figure 4: it is the VGG made for FER-2013, it
has the row's layer counts, and with seven classes on 64x64x1 (the paper's own
input) it has 8,756,679 parameters, the row's figure but for the last digit and
a 6 printed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['Vgg']


class Vgg(nn.Module):
  """VGG13 for faces; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  The dense layers fix the image size once initialised.

  Sows `stage1_out` ... (after the pool), `dense1_out` ....

  Attributes:
    num_classes: width of the last dense layer.
    input_shape: (H, W, C) that `models.init` builds for.
    stages: (convolutions, filters) of the stages, each closed by a 2x2 pool.
    dense: widths of the dense layers before the last.
    dropout: (rate after a pool, rate after a dense layer); the original trains
      with (0.25, 0.5). Rates above 0 need `rngs={'dropout': key}` in training.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (64, 64, 1)
  stages: Sequence[tuple[int, int]] = ((2, 64), (2, 128), (3, 256), (3, 256))
  dense: Sequence[int] = (1024, 1024)
  dropout: tuple[float, float] = (0.0, 0.0)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    for i, (count, features) in enumerate(self.stages, 1):
      for j in range(1, count + 1):
        x = layers.Conv(
          features,
          use_bias=True,
          kernel_init=layers.he_normal(),
          dtype=self.dtype,
          name=f'stage{i}_conv{j}',
        )(x)
        x = nn.relu(x)
      x = ops.max_pool(x, 2, 2, 'VALID')
      self.sow('intermediates', f'stage{i}_out', x)
      x = nn.Dropout(self.dropout[0], name=f'stage{i}_drop')(
        x, deterministic=not train
      )
    x = x.reshape((x.shape[0], -1))
    for i, features in enumerate(self.dense, 1):
      x = nn.Dense(features, dtype=self.dtype, name=f'dense{i}')(x)
      x = nn.relu(x)
      self.sow('intermediates', f'dense{i}_out', x)
      x = nn.Dropout(self.dropout[1], name=f'dense{i}_drop')(
        x, deterministic=not train
      )
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)
