"""The operations, each handing over to the formulation in force."""

from __future__ import annotations

import jax
from jax import lax
from jax import numpy as jnp

from fer_jax.ops import dispatch
from fer_jax.ops import geometry
from fer_jax.ops import native
from fer_jax.ops import shifted
from fer_jax.ops.geometry import Padding

__all__ = ['avg_pool', 'batch_norm', 'conv2d', 'depthwise_conv2d', 'max_pool']

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def _formulation(*arrays: jax.Array) -> str:
  """The formulation in force; kernels know float32 only."""
  name = dispatch.current()
  if name == 'native' and any(a.dtype != jnp.float32 for a in arrays):
    return 'shifted'
  return name


def conv2d(
  x: jax.Array, kernel: jax.Array, strides: int = 1, padding: Padding = 'SAME'
) -> jax.Array:
  """2-D convolution of `x` `[B, H, W, C]` with `kernel` `[h, w, C, F]`."""
  size, window = x.shape[1:3], kernel.shape[:2]
  pads = geometry.pads(size, window, strides, padding)
  name = _formulation(x, kernel)
  if name != 'lax' and window == (1, 1) and pads == ((0, 0), (0, 0)):
    if name == 'native':
      return native.pointwise(x, kernel, strides)
    return shifted.conv1x1(x, kernel, strides)
  if name == 'native':
    return native.conv2d(x, kernel, strides, pads)
  return lax.conv_general_dilated(
    x, kernel, (strides, strides), padding, dimension_numbers=_DIMENSIONS
  )


def depthwise_conv2d(
  x: jax.Array, kernel: jax.Array, strides: int = 1, padding: Padding = 'SAME'
) -> jax.Array:
  """Convolves each channel of `x` `[B, H, W, C]` with its own kernel.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[h, w, 1, C]`, as `lax` wants it for `feature_group_count=C`.
    strides: same step in both directions.
    padding: 'SAME', 'VALID' or explicit pairs.
  """
  name = _formulation(x, kernel)
  if name != 'lax':
    pads = geometry.pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    module = native if name == 'native' else shifted
    return module.depthwise_conv2d(x, kernel, strides, pads)
  return lax.conv_general_dilated(
    x,
    kernel,
    (strides, strides),
    padding,
    dimension_numbers=_DIMENSIONS,
    feature_group_count=x.shape[-1],
  )


def max_pool(
  x: jax.Array, window: int, strides: int, padding: Padding = 'SAME'
) -> jax.Array:
  """Maximum over `window` x `window` pixels of `x` `[B, H, W, C]`."""
  pads = geometry.pads(x.shape[1:3], (window, window), strides, padding)
  name = _formulation(x)
  # The kernels note the pixel taken in one byte.
  if name != 'lax' and window * window < 255:
    module = native if name == 'native' else shifted
    return module.max_pool(x, window, strides, pads)
  return lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (1, window, window, 1),
    (1, strides, strides, 1),
    ((0, 0), *pads, (0, 0)),
  )


def avg_pool(
  x: jax.Array, window: int | tuple[int, int], strides: int = 1
) -> jax.Array:
  """Mean over whole windows (VALID) of `x` `[B, H, W, C]`."""
  h, w = (window, window) if isinstance(window, int) else window
  if dispatch.current() != 'lax' and (h, w) == x.shape[1:3]:
    # One window: a plain sum, whose gradient is a broadcast.
    return jnp.sum(x, (1, 2), keepdims=True) / (h * w)
  total = lax.reduce_window(
    x, 0.0, lax.add, (1, h, w, 1), (1, strides, strides, 1), 'VALID'
  )
  return total / (h * w)


def batch_norm(
  x: jax.Array,
  scale: jax.Array | float,
  bias: jax.Array | float,
  *,
  epsilon: float,
  axis_name: str | None = None,
  relu: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises `x` `[B, H, W, C]` with the statistics of the batch.

  Args:
    x: any float dtype; statistics are computed in float32.
    scale: `[C]`.
    bias: `[C]`.
    epsilon: added to the variance.
    axis_name: mapped axis to average the statistics over (pmap, shard_map).
    relu: apply a ReLU to the result.

  Returns:
    The normalised images, their mean `[C]` and their biased variance `[C]`.
  """
  c = x.shape[-1]
  if axis_name is None and _formulation(x) == 'native':
    scale = jnp.broadcast_to(jnp.asarray(scale, jnp.float32), (c,))
    bias = jnp.broadcast_to(jnp.asarray(bias, jnp.float32), (c,))
    return native.batch_norm(x, scale, bias, epsilon, relu)
  f = x.astype(jnp.float32)
  mean = jnp.mean(f, (0, 1, 2))
  square = jnp.mean(f * f, (0, 1, 2))
  if axis_name is not None:
    mean, square = lax.pmean((mean, square), axis_name)
  var = jnp.maximum(square - mean * mean, 0.0)
  factor = lax.rsqrt(var + epsilon) * scale
  shift = bias - mean * factor
  y = f * factor.reshape((1, 1, 1, -1)) + shift.reshape((1, 1, 1, -1))
  if relu:
    y = jax.nn.relu(y)
  return y, mean, var
