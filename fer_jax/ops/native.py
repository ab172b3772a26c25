"""The operations as C++ kernels, called through `jax.ffi`.

float32 on a CPU only. Each has its own gradient; under `vmap` the kernels get
the members as a leading dimension and run them in one call.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax import numpy as jnp

from fer_jax.ops import geometry

__all__ = ['batch_norm', 'conv2d', 'depthwise_conv2d', 'max_pool', 'pointwise']

_Pads = tuple[tuple[int, int], tuple[int, int]]


def _call(name, shapes, *arguments, **attributes):
  return jax.ffi.ffi_call(name, shapes, vmap_method='broadcast_all')(
    *arguments, **attributes
  )


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _attributes(stride: int, pads: _Pads) -> dict[str, np.int64]:
  return {
    'stride': np.int64(stride),
    'top': np.int64(pads[0][0]),
    'left': np.int64(pads[1][0]),
  }


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(
  x: jax.Array, kernel: jax.Array, stride: int, pads: _Pads
) -> jax.Array:
  """`x` `[B, H, W, C]` with `kernel` `[h, w, C, F]`."""
  h, w = geometry.output_size(x.shape[1:3], kernel.shape[:2], stride, pads)
  return _call(
    'fer_jax_conv',
    _float(x.shape[0], h, w, kernel.shape[3]),
    x,
    kernel,
    **_attributes(stride, pads),
  )


def _conv_forward(x, kernel, stride, pads):
  return conv2d(x, kernel, stride, pads), (x, kernel)


def _conv_backward(stride, pads, residuals, dy):
  x, kernel = residuals
  attributes = _attributes(stride, pads)
  # Two calls, so that XLA can drop the first where nobody wants it.
  dx = _call('fer_jax_conv_input_gradient', _like(x), dy, kernel, **attributes)
  dw = _call('fer_jax_conv_kernel_gradient', _like(kernel), x, dy, **attributes)
  return dx, dw


conv2d.defvjp(_conv_forward, _conv_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv2d(
  x: jax.Array, kernel: jax.Array, stride: int, pads: _Pads
) -> jax.Array:
  """`x` `[B, H, W, C]` with `kernel` `[h, w, 1, C]`."""
  h, w = geometry.output_size(x.shape[1:3], kernel.shape[:2], stride, pads)
  return _call(
    'fer_jax_depthwise',
    _float(x.shape[0], h, w, x.shape[3]),
    x,
    kernel,
    **_attributes(stride, pads),
  )


def _depthwise_forward(x, kernel, stride, pads):
  return depthwise_conv2d(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(stride, pads, residuals, dy):
  x, kernel = residuals
  return tuple(
    _call(
      'fer_jax_depthwise_gradient',
      (_like(x), _like(kernel)),
      x,
      kernel,
      dy,
      **_attributes(stride, pads),
    )
  )


depthwise_conv2d.defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def pointwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """`x` `[B, H, W, C]` with `kernel` `[1, 1, C, F]`, without padding."""
  b, h, w, _ = x.shape
  return _call(
    'fer_jax_pointwise',
    _float(b, -(-h // stride), -(-w // stride), kernel.shape[3]),
    x,
    kernel,
    stride=np.int64(stride),
  )


def _pointwise_forward(x, kernel, stride):
  return pointwise(x, kernel, stride), (x, kernel)


def _pointwise_backward(stride, residuals, dy):
  x, kernel = residuals
  return tuple(
    _call(
      'fer_jax_pointwise_gradient',
      (_like(x), _like(kernel)),
      x,
      kernel,
      dy,
      stride=np.int64(stride),
    )
  )


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def _pool_shape(x, window, stride, pads):
  h, w = geometry.output_size(x.shape[1:3], (window, window), stride, pads)
  return x.shape[0], h, w, x.shape[3]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, pads: _Pads) -> jax.Array:
  """Maximum over `window` x `window` pixels of `x` `[B, H, W, C]`."""
  return _call(
    'fer_jax_max_pool',
    _float(*_pool_shape(x, window, stride, pads)),
    x,
    window=np.int64(window),
    **_attributes(stride, pads),
  )


def _pool_forward(x, window, stride, pads):
  shape = _pool_shape(x, window, stride, pads)
  y, index = _call(
    'fer_jax_max_pool_index',
    (_float(*shape), jax.ShapeDtypeStruct(shape, jnp.uint8)),
    x,
    window=np.int64(window),
    **_attributes(stride, pads),
  )
  return y, (index, x.shape[1:3])


def _pool_backward(window, stride, pads, residuals, dy):
  index, (h, w) = residuals
  return (
    _call(
      'fer_jax_max_pool_gradient',
      _float(dy.shape[0], h, w, dy.shape[3]),
      dy,
      index,
      window=np.int64(window),
      **_attributes(stride, pads),
    ),
  )


max_pool.defvjp(_pool_forward, _pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
  x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalised `x` `[B, H, W, C]`, then mean and biased variance `[C]`."""
  c = x.shape[-1]
  return tuple(
    _call(
      'fer_jax_batch_norm',
      (_like(x), _float(c), _float(c)),
      x,
      scale,
      bias,
      epsilon=np.float32(epsilon),
      relu=relu,
    )
  )


def _norm_forward(x, scale, bias, epsilon, relu):
  y, mean, var = batch_norm(x, scale, bias, epsilon, relu)
  return (y, mean, var), (x, scale, bias, mean, var)


def _norm_backward(epsilon, relu, residuals, cotangents):
  x, scale, bias, mean, var = residuals
  return tuple(
    _call(
      'fer_jax_batch_norm_gradient',
      (_like(x), _like(scale), _like(bias)),
      x,
      scale,
      bias,
      mean,
      var,
      *cotangents,
      epsilon=np.float32(epsilon),
      relu=relu,
    )
  )


batch_norm.defvjp(_norm_forward, _norm_backward)
