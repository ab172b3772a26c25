"""Every formulation means what `lax` means: values and all gradients."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.ops import build

FAST = [
  pytest.param(
    'native',
    marks=pytest.mark.skipif(
      not build.available(), reason='no C++ compiler here'
    ),
  ),
  'shifted',
]
PADDINGS = st.one_of(
  st.sampled_from(['SAME', 'VALID']),
  st.tuples(
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
  ),
)
# Compiling is what takes the time.
property_test = settings(max_examples=6, deadline=None, derandomize=True)


def _random(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _values_and_gradients(name, function, *arguments):
  """The results, then the gradients of a fixed random projection of them."""
  with ops.implementation(name):
    results, pull = jax.vjp(function, *arguments)
    leaves, tree = jax.tree.flatten(results)
    weights = [
      jnp.asarray(_random(i + 7, *leaf.shape)) for i, leaf in enumerate(leaves)
    ]
    gradients = pull(jax.tree.unflatten(tree, weights))
  return [np.asarray(x) for x in jax.tree.leaves((results, gradients))]


def _assert_same(name, function, *arguments, tolerance=3e-5):
  expected = _values_and_gradients('lax', function, *arguments)
  actual = _values_and_gradients(name, function, *arguments)
  for a, b in zip(expected, actual, strict=True):
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    scale = max(1.0, float(np.abs(a).max(initial=0)))
    np.testing.assert_allclose(b / scale, a / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize('name', FAST)
@property_test
@given(
  size=st.tuples(st.integers(5, 13), st.integers(5, 13)),
  channels=st.tuples(
    st.sampled_from([1, 3, 8, 11, 19, 32]), st.sampled_from([1, 7, 9, 16, 27])
  ),
  batch=st.integers(1, 9),
  kernel=st.sampled_from([1, 2, 3, 5]),
  stride=st.integers(1, 3),
  padding=PADDINGS,
)
def test_conv2d(name, size, channels, batch, kernel, stride, padding):
  x = _random(0, batch, *size, channels[0])
  w = _random(1, kernel, kernel, *channels)
  _assert_same(
    name, lambda x, w: ops.conv2d(x, w, stride, padding), x, w, tolerance=1e-4
  )


@pytest.mark.parametrize('name', FAST)
@property_test
@given(
  size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
  channels=st.sampled_from([1, 3, 8, 11, 16, 32, 40]),
  batch=st.integers(1, 3),
  kernel=st.sampled_from([1, 3, 5]),
  stride=st.integers(1, 2),
  padding=PADDINGS,
)
def test_depthwise_conv2d(name, size, channels, batch, kernel, stride, padding):
  x = _random(0, batch, *size, channels)
  w = _random(1, kernel, kernel, 1, channels)
  _assert_same(
    name, lambda x, w: ops.depthwise_conv2d(x, w, stride, padding), x, w
  )


@pytest.mark.parametrize('name', FAST)
@pytest.mark.parametrize('ties', [False, True])
@property_test
@given(
  size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
  channels=st.sampled_from([1, 8, 16, 17, 40]),
  window=st.integers(2, 3),
  stride=st.integers(1, 3),
  padding=st.sampled_from(['SAME', 'VALID', ((1, 1), (0, 1))]),
)
def test_max_pool(name, ties, size, channels, window, stride, padding):
  x = _random(0, 2, *size, channels)
  if ties:
    x = np.round(x)
  _assert_same(name, lambda x: ops.max_pool(x, window, stride, padding), x)


@pytest.mark.parametrize('name', FAST)
@pytest.mark.parametrize('relu', [False, True])
@property_test
@given(
  shape=st.tuples(
    st.integers(2, 20),
    st.integers(3, 24),
    st.integers(3, 24),
    st.sampled_from([1, 8, 11, 16, 40, 128]),
  )
)
def test_batch_norm(name, relu, shape):
  c = shape[-1]
  x = _random(0, *shape) + 0.3
  scale, bias = _random(1, c), _random(2, c)
  _assert_same(
    name,
    lambda *a: ops.batch_norm(*a, epsilon=1e-3, relu=relu),
    x,
    scale,
    bias,
    tolerance=2e-4,
  )


@pytest.mark.parametrize('name', FAST)
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_nan_reaches_the_outputs_that_see_it(name, padding):
  x = _random(0, 2, 9, 9, 11)
  x[1, 4, 5, 3] = np.nan
  w, d = _random(1, 3, 3, 11, 9), _random(2, 3, 3, 1, 11)
  cases = {
    'conv2d': lambda: ops.conv2d(x, w, 1, padding),
    'pointwise': lambda: ops.conv2d(x, w[1:2, 1:2], 1, padding),
    'depthwise': lambda: ops.depthwise_conv2d(x, d, 1, padding),
    'max_pool': lambda: ops.max_pool(x, 3, 2, padding),
    'batch_norm': lambda: ops.batch_norm(x, 1.0, 0.0, epsilon=1e-3, relu=True)[
      0
    ],
  }
  for case, function in cases.items():
    found = {}
    for choice in ('lax', name):
      with ops.implementation(choice):
        found[choice] = np.isnan(np.asarray(function()))
    assert found['lax'].any(), case
    np.testing.assert_array_equal(found[name], found['lax'], case)


@pytest.mark.parametrize('name', FAST)
def test_vmap_equals_one_at_a_time(name):
  x, w = _random(0, 3, 4, 8, 8, 11), _random(1, 3, 3, 3, 11, 9)
  p, d = _random(2, 3, 1, 1, 11, 9), _random(3, 3, 3, 3, 1, 11)

  def network(x, w, p, d):
    def loss(x, w, p, d):
      y = ops.depthwise_conv2d(x, d)
      y = ops.conv2d(y, w) + ops.conv2d(y, p)
      y, _, _ = ops.batch_norm(y, 1.0, 0.1, epsilon=1e-3, relu=True)
      return jnp.sum(ops.max_pool(y, 3, 2) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(x, w, p, d)

  with ops.implementation(name):
    together = jax.jit(jax.vmap(network))(x, w, p, d)
    # One image stack for all members.
    shared = jax.jit(jax.vmap(network, in_axes=(None, 0, 0, 0)))(x[0], w, p, d)
    for i in range(3):
      for got, wanted in (
        (together, network(x[i], w[i], p[i], d[i])),
        (shared, network(x[0], w[i], p[i], d[i])),
      ):
        jax.tree.map(
          lambda a, b, i=i: np.testing.assert_allclose(
            a[i], b, rtol=2e-4, atol=2e-3
          ),
          got,
          wanted,
        )


@pytest.mark.skipif(not build.available(), reason='no C++ compiler here')
def test_kernels_repeat_bit_for_bit():
  x, w = _random(0, 37, 14, 14, 11), _random(1, 3, 3, 11, 9)
  p, d = _random(2, 1, 1, 11, 9), _random(3, 3, 3, 1, 11)

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1, 2, 3))
  def loss(x, w, p, d):
    y = ops.depthwise_conv2d(x, d)
    y = ops.conv2d(y, w) + ops.conv2d(y, p)
    y, _, _ = ops.batch_norm(y, 1.0, 0.1, epsilon=1e-3, relu=True)
    return jnp.mean(ops.max_pool(y, 3, 2) ** 2)

  with ops.implementation('native'):
    first = jax.tree.leaves(loss(x, w, p, d))
    for _ in range(30):
      for a, b in zip(first, jax.tree.leaves(loss(x, w, p, d)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize('name', FAST)
def test_inside_scan(name):
  w = _random(1, 3, 3, 4, 4) / 10

  def chain(w):
    body = lambda x, _: (ops.conv2d(x, w), None)  # noqa: E731
    return jnp.sum(lax.scan(body, _random(0, 2, 6, 6, 4), None, 3)[0] ** 2)

  results = []
  for choice in ('lax', name):
    with ops.implementation(choice):
      # A new function each time, or the trace of the other would be reused.
      results.append(jax.jit(jax.value_and_grad(lambda w: chain(w)))(w))
  np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
  np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_other_dtypes_keep_their_dtype(dtype):
  x = jnp.asarray(_random(0, 2, 6, 6, 8), dtype)
  w = jnp.asarray(_random(1, 3, 3, 8, 8), dtype)
  d = jnp.asarray(_random(1, 3, 3, 1, 8), dtype)
  with ops.implementation('cpu'):
    assert ops.conv2d(x, w).dtype == dtype
    assert ops.conv2d(x, w[:1, :1], 2).dtype == dtype
    assert ops.depthwise_conv2d(x, d).dtype == dtype
    assert ops.max_pool(x, 3, 2).dtype == dtype


def test_unknown_implementation_is_refused():
  with (
    pytest.raises(ValueError, match='unknown implementation'),
    ops.implementation('fast'),
  ):
    pass
