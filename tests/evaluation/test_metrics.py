"""Metrics: by hand, against scikit-learn, and as sums."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fer_jax.evaluation import metrics

# Four images, three classes; predictions 0, 1, 1, 2.
P = np.array(
  [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]]
)
Y = np.array([0, 0, 1, 2])


@st.composite
def predictions(draw):
  n, k = draw(st.integers(1, 40)), draw(st.integers(2, 7))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  return rng.dirichlet(np.full(k, 0.5), n), rng.integers(0, k, n)


def test_by_hand():
  sums = metrics.Sums.of(P, Y)
  np.testing.assert_array_equal(
    sums.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
  )
  assert sums.count == 4
  assert sums.accuracy == 0.75
  np.testing.assert_allclose(sums.recall, [0.5, 1, 1])
  assert sums.balanced_accuracy == pytest.approx(2.5 / 3)
  expected = -np.log([0.7, 0.3, 0.8, 0.5]).mean()
  assert sums.mean_nll == pytest.approx(expected)
  # Every image has a bin of its own: |confidence - right| averages.
  assert sums.ece == pytest.approx((0.3 + 0.6 + 0.2 + 0.5) / 4)


def test_calibration_error_of_one_bin():
  """80 % confident and right in 8 of 10: perfectly calibrated."""
  p = np.tile([0.8, 0.2], (10, 1))
  y = np.array([0] * 8 + [1] * 2)
  assert metrics.Sums.of(p, y).ece == pytest.approx(0, abs=1e-12)
  assert metrics.Sums.of(p, np.ones(10, int)).ece == pytest.approx(0.8)


def test_bin_borders_belong_to_the_bin_below():
  sums = metrics.Sums.of(np.array([[9 / 15, 6 / 15]]), np.array([0]))
  assert sums.bin_count.argmax() == 8


@given(predictions())
@settings(max_examples=60, deadline=None)
def test_agrees_with_scikit_learn(case):
  p, y = case
  k, guess = p.shape[1], p.argmax(axis=1)
  sums = metrics.Sums.of(p, y)
  np.testing.assert_array_equal(
    sums.confusion, sk.confusion_matrix(y, guess, labels=range(k))
  )
  assert sums.accuracy == pytest.approx(sk.accuracy_score(y, guess))
  assert sums.mean_nll == pytest.approx(
    sk.log_loss(y, np.clip(p, 1e-12, 1), labels=range(k)), abs=1e-9
  )
  present = np.unique(y)
  recall = sk.recall_score(y, guess, labels=present, average=None)
  np.testing.assert_allclose(sums.recall[present], recall)
  assert sums.balanced_accuracy == pytest.approx(recall.mean())
  absent = np.setdiff1d(np.arange(k), present)
  assert np.isnan(sums.recall[absent]).all()


@given(predictions(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_batches_add_up_to_the_whole(case, size):
  """Whatever the batches, and with a last one that is filled up."""
  p, y = case
  total = None
  for i in range(0, len(y), size):
    fill = size - len(y[i : i + size])
    part = metrics.Sums.of(
      np.pad(p[i : i + size], ((0, fill), (0, 0))),
      np.pad(y[i : i + size], (0, fill)),
      np.arange(size) < size - fill,
    )
    total = part if total is None else total + part
  whole = metrics.Sums.of(p, y)
  np.testing.assert_array_equal(total.confusion, whole.confusion)
  assert total.nll == pytest.approx(whole.nll)
  assert total.ece == pytest.approx(whole.ece)


@given(st.integers(1, 5000), st.data())
def test_wilson_interval_is_the_score_test_inverted(count, data):
  """At its bounds the score statistic is exactly z (1.96 for 95 %)."""
  correct = data.draw(st.integers(0, count))
  low, high = metrics.wilson_interval(correct, count)
  p = correct / count
  assert 0 <= low <= p + 1e-12
  assert p - 1e-12 <= high <= 1
  for bound in (low, high):
    if 1e-9 < bound < 1 - 1e-9:
      z = (p - bound) / np.sqrt(bound * (1 - bound) / count)
      assert abs(z) == pytest.approx(1.959964, rel=1e-4)


def test_wilson_interval_of_a_known_case():
  low, high = metrics.wilson_interval(8, 10)
  assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


@pytest.mark.parametrize(('correct', 'count'), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_nonsense(correct, count):
  with pytest.raises(ValueError, match='correct <= count'):
    metrics.wilson_interval(correct, count)


def test_softmax_is_stable_and_scaled():
  z = np.array([[1000.0, 1000.0], [0.0, 2.0]])
  p = metrics.softmax(z, temperature=2.0)
  np.testing.assert_allclose(p[0], [0.5, 0.5])
  assert p[1, 1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_summary_is_strict_json_even_with_an_empty_class():
  y = np.array([0, 0, 1, 1])
  summary = metrics.summarize(metrics.Sums.of(P, y), ['a', 'b', 'c'])
  assert summary['recall']['c'] is None
  assert summary['confusion_normalized'][2] == [None] * 3
  assert summary['support'] == {'a': 2, 'b': 2, 'c': 0}
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary
  assert sum(b['n'] for b in summary['reliability']) == 4


def test_refuses_what_is_no_probability():
  bad = P.copy()
  bad[2, 1] = np.nan
  with pytest.raises(ValueError, match='row 2'):
    metrics.Sums.of(bad, Y)
  with pytest.raises(ValueError, match=r'\[N, K\]'):
    metrics.Sums.of(P, Y[:3])
  with pytest.raises(ValueError, match='no examples'):
    _ = metrics.Sums.of(P, Y, np.zeros(4, bool)).accuracy
