"""Probabilities that mean what they say, and when to rather say nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_jax.evaluation import metrics

__all__ = [
  'MAX_TEMPERATURE',
  'MIN_TEMPERATURE',
  'coverage_table',
  'fit_temperature',
  'selective_curve',
]

# Bounds of the search; a perfectly separated set would drive T to 0, a set
# without any relation between logits and labels to infinity.
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """The T that minimises the negative log-likelihood of softmax(logits / T).

  In b = 1/T the loss is convex with derivative mean(E_p[z] - z_y), which grows
  with b: its root is found by bisection. Fit on validation logits only. T does
  not change which class is the largest, so accuracy stays.

  Args:
    logits: float `[N, K]`, N at least 1.
    labels: int `[N]`.

  Returns:
    T in [MIN_TEMPERATURE, MAX_TEMPERATURE].

  Raises:
    ValueError: no rows, shapes that do not match, or logits not finite.

  Source: Guo et al., "On Calibration of Modern Neural Networks".
  """
  z = np.asarray(logits, np.float64)
  y = np.asarray(labels, np.int64)
  if z.ndim != 2 or y.shape != z.shape[:1] or not len(y):
    raise ValueError(
      'a temperature needs logits [N, K] and labels [N] with N >= 1, got '
      f'{list(z.shape)} and {list(y.shape)}'
    )
  if not np.isfinite(z).all():
    raise ValueError('a temperature cannot be fitted: logits are not finite')
  truth = z[np.arange(len(y)), y]

  def slope(log_t: float) -> float:
    p = metrics.softmax(z, math.exp(log_t))
    return float(np.mean((p * z).sum(axis=1) - truth))

  low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
  if slope(low) <= 0:  # still falling at the sharpest: as sharp as allowed
    return MIN_TEMPERATURE
  if slope(high) >= 0:
    return MAX_TEMPERATURE
  for _ in range(60):
    middle = (low + high) / 2
    if slope(middle) > 0:
      low = middle
    else:
      high = middle
  return math.exp((low + high) / 2)


def selective_curve(
  probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """What answering only above a confidence threshold would give.

  Args:
    probabilities: `[N, K]`, N at least 1.
    labels: int `[N]`.

  Returns:
    (threshold, coverage, accuracy), each float64 `[M]` with one entry a
    distinct confidence, thresholds falling: answering where the confidence is
    at least `threshold` answers the share `coverage` of the examples, of which
    the share `accuracy` is right. Equal confidences cannot be told apart by a
    threshold, so they enter together.
  """
  p = np.asarray(probabilities, np.float64)
  y = np.asarray(labels)
  if p.ndim != 2 or y.shape != p.shape[:1] or not len(y):
    raise ValueError(
      'a selective curve needs probabilities [N, K] and labels [N] with '
      f'N >= 1, got {list(p.shape)} and {list(y.shape)}'
    )
  confidence = p.max(axis=1)
  order = np.argsort(-confidence, kind='stable')
  confidence = confidence[order]
  correct = np.cumsum((p.argmax(axis=1) == y)[order])
  last = np.append(np.flatnonzero(np.diff(confidence)), len(y) - 1)
  answered = last + 1
  return confidence[last], answered / len(y), correct[last] / answered


def coverage_table(
  probabilities: np.ndarray,
  labels: np.ndarray,
  coverages: Sequence[float] = (0.25, 0.5, 0.75, 0.9, 1.0),
) -> list[dict[str, Any]]:
  """Rows of `selective_curve` that answer at least the given shares."""
  threshold, coverage, accuracy = selective_curve(probabilities, labels)
  rows = []
  for wanted in coverages:
    # Rounding must not push the full coverage past the end of the curve.
    i = min(int(np.searchsorted(coverage, wanted - 1e-12)), len(coverage) - 1)
    rows.append(
      {
        'threshold': float(threshold[i]),
        'coverage': float(coverage[i]),
        'accuracy': float(accuracy[i]),
      }
    )
  return rows
