"""The three networks of the multi-task cascade: P-Net, R-Net and O-Net.

Source: Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment using
Multi-task Cascaded Convolutional Networks", arXiv 1604.02878, Figure 2; used in
"A Light Weight Convolution Neural Network For Real time Facial Expression
Detection", Section III.A. Each can be used alone.

Readings chosen: the layers of the released model rather than the figure's;
pools round sizes up, as that model's framework does; P-Net and R-Net are
counted (6,632 and 100,178) without the landmark head that they have in
training, O-Net (389,040) with it. `landmarks=True` or False chooses.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['ONet', 'PNet', 'RNet']


class _PRelu(nn.Module):
  """max(x, 0) + alpha * min(x, 0), one `alpha` a channel, 0.25 at first."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    alpha = self.param(
      'alpha', nn.initializers.constant(0.25), (x.shape[-1],)
    ).astype(x.dtype)
    alpha = alpha.reshape((1,) * (x.ndim - 1) + (-1,))
    return nn.relu(x) - alpha * nn.relu(-x)


def _scale(image: jax.Array, dtype: Any) -> jax.Array:
  # (255 x - 127.5) / 128, which public MTCNN weights were trained with.
  return image.astype(dtype) * (255 / 128) - 127.5 / 128


def _max_pool(x: jax.Array, window: int, strides: int) -> jax.Array:
  """Max pool whose output size is rounded up: padded at the far edges only."""
  pads = tuple((0, -(n - window) % strides) for n in x.shape[1:3])
  # By name where there is one: the exporter turns that into a single operation.
  for name in ('VALID', 'SAME'):
    if pads == tuple(
      lax.padtype_to_pads(
        x.shape[1:3], (window, window), (strides, strides), name
      )
    ):
      return ops.max_pool(x, window, strides, name)
  return ops.max_pool(x, window, strides, pads)


def _convolve(
  x: jax.Array, features: int, size: int, dtype: Any, name: str
) -> jax.Array:
  """VALID convolution and PReLU; call inside a compact method."""
  x = layers.Conv(
    features, size, padding='VALID', use_bias=True, dtype=dtype, name=name
  )(x)
  return _PRelu(name=f'{name}_prelu')(x)


def _heads(landmarks: bool) -> dict[str, int]:
  return {'face': 2, 'box': 4} | ({'landmarks': 10} if landmarks else {})


class PNet(nn.Module):
  """Proposals: `[B, H, W, 3]` in [0, 1] -> maps of one cell every 2 pixels.

  Fully convolutional: a cell sees 12x12 pixels, and an image of just these
  gives 1x1 maps. H and W must be at least 12.

  Returns a dict of `face` `[B, h, w, 2]` (logits: no face, face), `box`
  `[B, h, w, 4]` (offsets of the corners in sides of the window) and, where
  asked for, `landmarks` `[B, h, w, 10]`. Sows `conv1_out` ....

  Attributes:
    input_shape: (H, W, C) that `models.init` builds for.
    landmarks: whether there is a landmark head (in training only).
  """

  input_shape: tuple[int, int, int] = (12, 12, 3)
  landmarks: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, image: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    del train  # no layer behaves differently
    x = _convolve(_scale(image, self.dtype), 10, 3, self.dtype, 'conv1')
    self.sow('intermediates', 'conv1_out', x)
    x = _max_pool(x, 2, 2)
    for i, features in ((2, 16), (3, 32)):
      x = _convolve(x, features, 3, self.dtype, f'conv{i}')
      self.sow('intermediates', f'conv{i}_out', x)
    return {
      name: layers.Conv(
        features, 1, use_bias=True, dtype=self.dtype, name=name
      )(x).astype(jnp.float32)
      for name, features in _heads(self.landmarks).items()
    }


class _Refiner(nn.Module):
  """What R-Net and O-Net share: convolutions, pools, a dense layer, heads."""

  def run(
    self,
    image: jax.Array,
    convolutions: tuple[tuple[int, int, tuple[int, int] | None], ...],
    dense: int,
  ) -> dict[str, jax.Array]:
    """`convolutions`: (filters, kernel size, (window, strides) of the pool)."""
    if image.shape[1:3] != self.input_shape[:2]:
      raise ValueError(
        f'{type(self).__name__} takes images of {self.input_shape[0]}x'
        f'{self.input_shape[1]} pixels, got {image.shape[1]}x{image.shape[2]}'
      )
    x = _scale(image, self.dtype)
    for i, (features, size, pool) in enumerate(convolutions, 1):
      x = _convolve(x, features, size, self.dtype, f'conv{i}')
      self.sow('intermediates', f'conv{i}_out', x)
      if pool is not None:
        x = _max_pool(x, *pool)
    x = x.reshape((x.shape[0], -1))
    x = _PRelu(name='dense_prelu')(
      nn.Dense(dense, dtype=self.dtype, name='dense')(x)
    )
    self.sow('intermediates', 'features', x)
    return {
      name: nn.Dense(features, dtype=self.dtype, name=name)(x).astype(
        jnp.float32
      )
      for name, features in _heads(self.landmarks).items()
    }


class RNet(_Refiner):
  """Refinement: `[B, 24, 24, 3]` in [0, 1] -> dict of `[B, n]`.

  `face` (2 logits: no face, face), `box` (4 offsets of the corners in sides of
  the window) and, where asked for, `landmarks` (10: five x, then five y). Sows
  `conv1_out` ... and `features`.

  Attributes:
    input_shape: (H, W, C); H and W as in the default unless retrained.
    landmarks: whether there is a landmark head (in training only).
  """

  input_shape: tuple[int, int, int] = (24, 24, 3)
  landmarks: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, image: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    del train
    return self.run(
      image, ((28, 3, (3, 2)), (48, 3, (3, 2)), (64, 2, None)), 128
    )


class ONet(_Refiner):
  """Output: `[B, 48, 48, 3]` in [0, 1] -> dict of `[B, n]`, as `RNet`'s.

  Attributes:
    input_shape: (H, W, C); H and W as in the default unless retrained.
    landmarks: whether there is a landmark head.
  """

  input_shape: tuple[int, int, int] = (48, 48, 3)
  landmarks: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, image: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    del train
    return self.run(
      image,
      ((32, 3, (3, 2)), (64, 3, (3, 2)), (64, 3, (2, 2)), (128, 2, None)),
      256,
    )
