"""Formulations that XLA compiles well for a CPU, without kernels of our own.

A depthwise convolution is a sum of shifted products and a max pool a maximum of
shifted slices; a strided 1x1 convolution is a slice and a matrix product.
"""

from __future__ import annotations

import functools
import itertools

import jax
from jax import lax
from jax import numpy as jnp

from fer_jax.ops import geometry

__all__ = ['conv1x1', 'depthwise_conv2d', 'max_pool']

_Pads = tuple[tuple[int, int], tuple[int, int]]


def _shifts(x, window, stride, size):
  """The pixels under each tap of the window, as views of the padded `x`."""
  for ky, kx in itertools.product(*map(range, window)):
    yield lax.slice(
      x,
      (0, ky, kx, 0),
      (
        x.shape[0],
        ky + (size[0] - 1) * stride + 1,
        kx + (size[1] - 1) * stride + 1,
        x.shape[3],
      ),
      (1, stride, stride, 1),
    )


def _pad(x, pads, value):
  return lax.pad(
    x,
    jnp.asarray(value, x.dtype),
    ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv2d(
  x: jax.Array, kernel: jax.Array, stride: int, pads: _Pads
) -> jax.Array:
  """`x` `[B, H, W, C]` with `kernel` `[h, w, 1, C]`."""
  window = kernel.shape[:2]
  size = geometry.output_size(x.shape[1:3], window, stride, pads)
  taps = kernel.reshape((-1, x.shape[3]))
  views = _shifts(_pad(x, pads, 0), window, stride, size)
  total = None
  for view, tap in zip(views, taps, strict=True):
    total = view * tap if total is None else total + view * tap
  return total


def _depthwise_forward(x, kernel, stride, pads):
  return depthwise_conv2d(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(stride, pads, residuals, dy):
  x, kernel = residuals
  window, c = kernel.shape[:2], x.shape[3]
  size = dy.shape[1:3]
  # dx: the gradient with its pixels `stride` apart, under the turned kernel.
  low = [k - 1 - p[0] for k, p in zip(window, pads, strict=True)]
  high = [
    n - 1 - (s - 1) * stride + p[0]
    for n, s, p in zip(x.shape[1:3], size, pads, strict=True)
  ]
  spread = lax.pad(
    dy,
    jnp.zeros((), dy.dtype),
    (
      (0, 0, 0),
      (low[0], high[0], stride - 1),
      (low[1], high[1], stride - 1),
      (0, 0, 0),
    ),
  )
  dx = depthwise_conv2d(spread, kernel[::-1, ::-1], 1, ((0, 0), (0, 0)))
  # A sum over pixels as a product with ones: XLA's reduction over the major
  # dimensions is far slower than its matrix product.
  flat = dy.reshape((-1, c))
  ones = jnp.ones((1, flat.shape[0]), dy.dtype)
  taps = [
    jnp.dot(ones, view.reshape((-1, c)) * flat, precision='highest')
    for view in _shifts(_pad(x, pads, 0), window, stride, size)
  ]
  return dx, jnp.stack(taps).reshape(kernel.shape)


depthwise_conv2d.defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, pads: _Pads) -> jax.Array:
  """Maximum over `window` x `window` pixels of `x` `[B, H, W, C]`."""
  size = geometry.output_size(x.shape[1:3], (window, window), stride, pads)
  views = _shifts(_pad(x, pads, -jnp.inf), (window, window), stride, size)
  return functools.reduce(jnp.maximum, views)


def _pool_forward(x, window, stride, pads):
  size = geometry.output_size(x.shape[1:3], (window, window), stride, pads)
  views = _shifts(_pad(x, pads, -jnp.inf), (window, window), stride, size)
  held = next(views)
  inside = _shifts(
    _pad(jnp.ones((1, *x.shape[1:3], 1), bool), pads, False),
    (window, window),
    stride,
    size,
  )
  taken = jnp.zeros(held.shape, jnp.uint8)
  any_yet = next(inside)
  top = held
  for tap, (view, real) in enumerate(zip(views, inside, strict=True), 1):
    top = jnp.maximum(top, view)
    # The rule of select_and_scatter with `ge`; padding is never taken.
    change = real & ~(any_yet & (held >= view))
    held = jnp.where(change, view, held)
    taken = jnp.where(change, jnp.uint8(tap), taken)
    any_yet = any_yet | real
  return top, (taken, x.shape[1:3])


def _pool_backward(window, stride, pads, residuals, dy):
  taken, (h, w) = residuals
  size = dy.shape[1:3]
  rows, cols = h + sum(pads[0]), w + sum(pads[1])
  total = None
  for tap, (ky, kx) in enumerate(
    itertools.product(range(window), range(window))
  ):
    part = jnp.where(taken == tap, dy, 0)
    part = lax.pad(
      part,
      jnp.zeros((), dy.dtype),
      (
        (0, 0, 0),
        (ky, rows - ky - (size[0] - 1) * stride - 1, stride - 1),
        (kx, cols - kx - (size[1] - 1) * stride - 1, stride - 1),
        (0, 0, 0),
      ),
    )
    total = part if total is None else total + part
  (top, _), (left, _) = pads
  return (total[:, top : top + h, left : left + w],)


max_pool.defvjp(_pool_forward, _pool_backward)


def conv1x1(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """`x` `[B, H, W, C]` with `kernel` `[1, 1, C, F]`, no padding."""
  if stride > 1:
    x = x[:, ::stride, ::stride]
  y = x.reshape((-1, x.shape[3])) @ kernel[0, 0]
  return y.reshape((*x.shape[:3], kernel.shape[3]))
