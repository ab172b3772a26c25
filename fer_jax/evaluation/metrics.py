"""Classification metrics as sums with a count, divided once at the end.

A mean of batch means is wrong as soon as the last batch is shorter. Here every
metric is a function of `Sums`, which add up exactly over batches, devices and
test sets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
  'BINS',
  'Sums',
  'agreement',
  'confusion_matrix',
  'normalize_rows',
  'softmax',
  'summarize',
  'wilson_interval',
]

# Equal-width confidence bins of the calibration error; 15 is the usual choice
# (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599).
BINS = 15
# Probabilities below this count as this: a wrong 0 would cost infinity.
_TINY = 1e-12


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """Softmax of `logits / temperature` over the last axis, in float64."""
  z = np.asarray(logits, np.float64) / temperature
  z = z - z.max(axis=-1, keepdims=True)
  e = np.exp(z)
  return e / e.sum(axis=-1, keepdims=True)


def confusion_matrix(
  labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> np.ndarray:
  """Counts `[K, K]`, row = true class, column = predicted class."""
  labels = np.asarray(labels, np.int64)
  predictions = np.asarray(predictions, np.int64)
  index = labels * num_classes + predictions
  counts = np.bincount(index, minlength=num_classes * num_classes)
  return counts.reshape(num_classes, num_classes)


def normalize_rows(confusion: np.ndarray) -> np.ndarray:
  """Confusion `[K, K]` with rows summing to 1; rows without examples are NaN."""
  confusion = np.asarray(confusion, np.float64)
  total = confusion.sum(axis=1, keepdims=True)
  return np.divide(
    confusion,
    total,
    out=np.full_like(confusion, np.nan),
    where=total > 0,
  )


def wilson_interval(
  correct: int, count: int, z: float = 1.959963984540054
) -> tuple[float, float]:
  """Wilson score interval of a proportion; the default `z` gives 95 %.

  Args:
    correct: successes, 0..count.
    count: trials, at least 1.
    z: quantile of the normal distribution.

  Returns:
    Lower and upper bound in [0, 1].

  Raises:
    ValueError: there are no trials, or more successes than trials.
  """
  if count < 1 or not 0 <= correct <= count:
    raise ValueError(
      f'an interval needs 0 <= correct <= count and count >= 1, got '
      f'correct={correct}, count={count}'
    )
  p = correct / count
  centre = p + z * z / (2 * count)
  half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
  scale = 1 + z * z / count
  return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def agreement(a: np.ndarray, b: np.ndarray) -> float:
  """Share of rows in which `a` and `b` `[N, K]` have the same largest entry."""
  return float(np.mean(np.argmax(a, axis=-1) == np.argmax(b, axis=-1)))


@dataclasses.dataclass(frozen=True)
class Sums:
  """Everything the metrics need, summed over examples.

  Attributes:
    confusion: int64 `[K, K]`, row = true, column = predicted class.
    nll: sum of -log p(true class), natural logarithm.
    bin_count: int64 `[BINS]`, examples by confidence of the prediction.
    bin_confidence: float64 `[BINS]`, sums of that confidence.
    bin_correct: int64 `[BINS]`, how many of them were right.
  """

  confusion: np.ndarray
  nll: float
  bin_count: np.ndarray
  bin_confidence: np.ndarray
  bin_correct: np.ndarray

  @classmethod
  def of(
    cls,
    probabilities: np.ndarray,
    labels: np.ndarray,
    mask: np.ndarray | None = None,
  ) -> Sums:
    """Sums over one batch.

    Args:
      probabilities: `[N, K]`, rows in [0, 1]. They need not sum to exactly 1
        (int8 probabilities come in steps of 1/256).
      labels: int `[N]`.
      mask: bool `[N]`; rows that are False (padding) count nowhere.

    Raises:
      ValueError: shapes do not match, or a probability is not finite.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels, np.int64)
    if p.ndim != 2 or y.shape != p.shape[:1]:
      raise ValueError(
        f'probabilities must be [N, K] and labels [N], got {list(p.shape)} and '
        f'{list(y.shape)}'
      )
    if mask is not None:
      p, y = p[np.asarray(mask, bool)], y[np.asarray(mask, bool)]
    if not np.isfinite(p).all():
      bad = int((~np.isfinite(p)).any(axis=1).argmax())
      raise ValueError(f'probabilities of row {bad} are not finite')
    prediction = p.argmax(axis=1) if len(p) else np.zeros(0, np.int64)
    confidence = p.max(axis=1) if len(p) else np.zeros(0)
    correct = prediction == y
    # Bin i holds confidences in (i / BINS, (i + 1) / BINS].
    index = np.clip(
      np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1
    )
    return cls(
      confusion=confusion_matrix(y, prediction, p.shape[1]),
      nll=float(-np.log(np.maximum(p[np.arange(len(y)), y], _TINY)).sum()),
      bin_count=np.bincount(index, minlength=BINS),
      bin_confidence=np.bincount(index, weights=confidence, minlength=BINS),
      bin_correct=np.bincount(index[correct], minlength=BINS),
    )

  def __add__(self, other: Sums) -> Sums:
    return Sums(
      self.confusion + other.confusion,
      self.nll + other.nll,
      self.bin_count + other.bin_count,
      self.bin_confidence + other.bin_confidence,
      self.bin_correct + other.bin_correct,
    )

  @property
  def count(self) -> int:
    return int(self.confusion.sum())

  @property
  def correct(self) -> int:
    return int(np.trace(self.confusion))

  @property
  def accuracy(self) -> float:
    return self.correct / self._nonzero()

  @property
  def recall(self) -> np.ndarray:
    """Recall `[K]` of each class; NaN where the class has no example."""
    return np.diagonal(normalize_rows(self.confusion)).copy()

  @property
  def balanced_accuracy(self) -> float:
    """Mean recall over the classes that have examples."""
    self._nonzero()
    return float(np.nanmean(self.recall))

  @property
  def mean_nll(self) -> float:
    return self.nll / self._nonzero()

  @property
  def ece(self) -> float:
    """Expected calibration error: count-weighted |confidence - accuracy|."""
    gap = np.abs(self.bin_confidence - self.bin_correct)
    return float(gap.sum() / self._nonzero())

  def reliability(self) -> list[dict[str, Any]]:
    """The bins with examples: range, count, mean confidence, accuracy."""
    return [
      {
        'from': i / BINS,
        'to': (i + 1) / BINS,
        'n': int(n),
        'confidence': float(self.bin_confidence[i] / n),
        'accuracy': float(self.bin_correct[i] / n),
      }
      for i, n in enumerate(self.bin_count)
      if n
    ]

  def _nonzero(self) -> int:
    if not self.count:
      raise ValueError('no examples to compute a metric from')
    return self.count


def summarize(sums: Sums, names: Sequence[str]) -> dict[str, Any]:
  """The metrics of `sums` as JSON values (None where undefined).

  Args:
    sums: over at least one example.
    names: K class names in index order.
  """
  if len(names) != len(sums.confusion):
    raise ValueError(
      f'{len(names)} class names for {len(sums.confusion)} classes'
    )
  low, high = wilson_interval(sums.correct, sums.count)
  rows = normalize_rows(sums.confusion)
  return {
    'n': sums.count,
    'accuracy': sums.accuracy,
    'accuracy_interval_95': [low, high],
    'balanced_accuracy': sums.balanced_accuracy,
    'recall': {
      name: _number(r) for name, r in zip(names, sums.recall, strict=True)
    },
    'support': {
      name: int(n)
      for name, n in zip(names, sums.confusion.sum(axis=1), strict=True)
    },
    'confusion': sums.confusion.tolist(),
    'confusion_normalized': [[_number(v) for v in row] for row in rows],
    'nll': sums.mean_nll,
    'ece': sums.ece,
    'reliability': sums.reliability(),
  }


def _number(value: float) -> float | None:
  return float(value) if math.isfinite(value) else None
