"""Losses by hand, optimizers by one step."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fer_jax.training import losses
from fer_jax.training import optimizers


def test_cross_entropy_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  targets = jnp.array([[1.0, 0, 0], [0, 0.5, 0.5]])
  expected = [np.log(2), -(0.5 * np.log(0.1) + 0.5 * np.log(0.8))]
  np.testing.assert_allclose(
    losses.cross_entropy(logits, targets), expected, rtol=1e-6
  )


def test_cross_entropy_of_hard_labels_equals_optax():
  logits = jax.random.normal(jax.random.key(0), (5, 7))
  labels = jnp.array([0, 3, 6, 2, 2])
  np.testing.assert_allclose(
    losses.cross_entropy(logits, jax.nn.one_hot(labels, 7)),
    optax.softmax_cross_entropy_with_integer_labels(logits, labels),
    rtol=1e-6,
  )


def test_smoothing_keeps_a_distribution():
  smoothed = losses.smooth(jnp.array([[1.0, 0, 0, 0]]), 0.2)
  np.testing.assert_allclose(smoothed, [[0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def _params():
  return {
    'conv': {'kernel': jnp.full((2, 2), 3.0), 'bias': jnp.full((2,), 5.0)},
    'norm': {'scale': jnp.full((2,), 7.0)},
  }


def test_l2_counts_kernels_only():
  assert float(losses.l2_penalty(_params())) == 4 * 9


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_decay_touches_kernels_only(name):
  params = _params()
  tx = optimizers.create(name, 0.1, weight_decay=0.5)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  assert np.all(np.asarray(updates['conv']['kernel']) < 0)
  np.testing.assert_array_equal(updates['conv']['bias'], 0)
  np.testing.assert_array_equal(updates['norm']['scale'], 0)


def test_refusals():
  with pytest.raises(ValueError, match='choose one of adam, adamw, sgd'):
    optimizers.create('adma', 0.1)
  with pytest.raises(ValueError, match='no weight decay'):
    optimizers.create('adam', 0.1, weight_decay=0.1)
