"""Temperature and abstention against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax.evaluation import calibration
from fer_jax.evaluation import metrics


@pytest.mark.parametrize(('z', 'right'), [(4.0, 75), (1.0, 90), (0.5, 60)])
def test_two_classes_with_one_margin(z, right):
  """The likelihood is maximal where sigmoid(z / T) is the share right."""
  logits = np.tile([z, 0.0], (100, 1))
  labels = np.array([0] * right + [1] * (100 - right))
  found = calibration.fit_temperature(logits, labels)
  share = right / 100
  assert found == pytest.approx(z / math.log(share / (1 - share)), rel=1e-6)
  scaled = metrics.softmax(logits, found)
  assert metrics.Sums.of(scaled, labels).ece == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(0.3, 5.0))
@settings(max_examples=15, deadline=None)
def test_recovers_a_temperature(seed, temperature):
  """Labels drawn from softmax(z) and logits z * T need about T back."""
  rng = np.random.default_rng(seed)
  z = rng.normal(0, 2, (4000, 5))
  p = metrics.softmax(z)
  labels = (p.cumsum(axis=1) < rng.uniform(size=(4000, 1))).sum(axis=1)
  found = calibration.fit_temperature(z * temperature, np.minimum(labels, 4))
  assert found == pytest.approx(temperature, rel=0.12)


def test_is_a_minimum_and_keeps_decisions():
  rng = np.random.default_rng(0)
  z, y = rng.normal(0, 5, (300, 7)), rng.integers(0, 7, 300)
  z[np.arange(300), y] += 3

  def nll(t):
    return metrics.Sums.of(metrics.softmax(z, t), y).nll

  t = calibration.fit_temperature(z, y)
  assert nll(t) <= min(nll(t * 1.01), nll(t / 1.01), nll(1.0))
  assert metrics.agreement(metrics.softmax(z, t), z) == 1.0


def test_bounds():
  z = np.array([[1.0, 0.0], [0.0, 1.0]])
  assert (
    calibration.fit_temperature(z, np.array([0, 1]))
    == calibration.MIN_TEMPERATURE
  )
  assert (
    calibration.fit_temperature(z, np.array([1, 0]))
    == calibration.MAX_TEMPERATURE
  )


def test_refuses_bad_logits():
  with pytest.raises(ValueError, match='not finite'):
    calibration.fit_temperature(np.array([[np.nan, 1.0]]), np.array([0]))
  with pytest.raises(ValueError, match='N >= 1'):
    calibration.fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_selective_curve_by_hand():
  p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]])
  y = np.array([0, 0, 0, 1])
  threshold, coverage, accuracy = calibration.selective_curve(p, y)
  # The two at 0.6 cannot be told apart and enter together.
  np.testing.assert_allclose(threshold, [0.9, 0.8, 0.6])
  np.testing.assert_allclose(coverage, [0.25, 0.5, 1.0])
  np.testing.assert_allclose(accuracy, [1.0, 0.5, 0.75])


@given(st.integers(1, 200), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_selective_curve_is_what_thresholding_gives(n, seed):
  rng = np.random.default_rng(seed)
  p = np.round(rng.dirichlet(np.ones(3), n), 1)  # rounded: many ties
  y = rng.integers(0, 3, n)
  curve = calibration.selective_curve(p, y)
  for threshold, coverage, accuracy in zip(*curve, strict=True):
    answered = p.max(axis=1) >= threshold
    assert coverage == pytest.approx(answered.mean())
    right = (p.argmax(axis=1) == y)[answered]
    assert accuracy == pytest.approx(right.mean())
  assert curve[1][-1] == 1.0


def test_coverage_table_answers_at_least_what_was_asked():
  rng = np.random.default_rng(0)
  p, y = rng.dirichlet(np.ones(4), 97), rng.integers(0, 4, 97)
  rows = calibration.coverage_table(p, y, (0.1, 0.5, 1.0))
  for row, wanted in zip(rows, (0.1, 0.5, 1.0), strict=True):
    assert wanted <= row['coverage'] < wanted + 2 / 97
  assert rows[-1]['coverage'] == 1.0
  assert rows[-1]['accuracy'] == pytest.approx((p.argmax(axis=1) == y).mean())
