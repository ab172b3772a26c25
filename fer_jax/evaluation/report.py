"""The content of a `metrics.json`: one network, its files, some splits.

A *source* is one form of the network (`jax`, `model.tflite`, ...): a function
from uint8 images `[N, H, W, C]` to probabilities `[N, K]`. Test-time flip and
the test rows without a twin in training are computed for each source alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_jax.evaluation import calibration
from fer_jax.evaluation import metrics

__all__ = [
  'FORMAT',
  'JAX',
  'headline',
  'seed_summary',
  'source_report',
  'split_report',
]

FORMAT = 1
# Name of the float network among the sources.
JAX = 'jax'

Source = Callable[[np.ndarray], np.ndarray]


def source_report(
  probabilities: np.ndarray,
  labels: np.ndarray,
  names: Sequence[str],
  *,
  flip: np.ndarray | None = None,
  twin: np.ndarray | None = None,
) -> dict[str, Any]:
  """Figures of one source on one split.

  Args:
    probabilities: `[N, K]`.
    labels: int `[N]`.
    names: K class names.
    flip: `[N, K]`, probabilities averaged with the mirror image's.
    twin: bool `[N]`, True where a training image is pixel-identical.

  Returns:
    JSON values: those of `metrics.summarize`, `selective`, and where asked for
    `flip` and `no_twin` with accuracy, interval and count.
  """
  result = metrics.summarize(metrics.Sums.of(probabilities, labels), names)
  result['selective'] = calibration.coverage_table(probabilities, labels)
  if flip is not None:
    result['flip'] = _brief(metrics.Sums.of(flip, labels))
  if twin is not None:
    keep = ~np.asarray(twin, bool)
    sums = metrics.Sums.of(probabilities, labels, keep)
    result['no_twin'] = _brief(sums) if sums.count else {'n': 0}
  return result


def split_report(
  sources: Mapping[str, Source],
  images: np.ndarray,
  labels: np.ndarray,
  names: Sequence[str],
  *,
  logits: np.ndarray | None = None,
  temperature: float | None = None,
  twin: np.ndarray | None = None,
  flip: bool = True,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Figures of every source on one split.

  Args:
    sources: by name; the first is what the others are compared with.
    images: uint8 `[N, H, W, C]` as the sources want them.
    labels: int `[N]`.
    names: K class names.
    logits: `[N, K]` of the float network, where known.
    temperature: fitted on the validation split; with `logits` it gives the
      calibration error after scaling.
    twin: see `source_report`.
    flip: evaluate with test-time flip too.

  Returns:
    The report and the probabilities `[N, K]` by source.
  """
  found, reports = {}, {}
  for name, source in sources.items():
    p = source(images)
    both = (p + source(images[:, :, ::-1])) / 2 if flip else None
    reports[name] = source_report(p, labels, names, flip=both, twin=twin)
    found[name] = p
  reference = next(iter(sources))
  for name, p in found.items():
    if name != reference:
      reports[name][f'versus_{reference}'] = difference(
        found[reference], p, labels
      )
  if logits is not None and temperature is not None:
    plain = metrics.Sums.of(metrics.softmax(logits), labels)
    scaled = metrics.Sums.of(metrics.softmax(logits, temperature), labels)
    reports[reference]['with_temperature'] = {
      'temperature': temperature,
      'ece_before': plain.ece,
      'ece': scaled.ece,
      'nll_before': plain.mean_nll,
      'nll': scaled.mean_nll,
    }
  return {'n': len(labels), 'sources': reports}, found


def difference(
  reference: np.ndarray, other: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
  """How far `other` `[N, K]` is from `reference` on labelled images."""
  before = metrics.Sums.of(reference, labels)
  after = metrics.Sums.of(other, labels)
  return {
    'accuracy_difference': after.accuracy - before.accuracy,
    'agreement': metrics.agreement(reference, other),
    'max_difference': float(np.abs(other - reference).max()),
  }


def headline(
  splits: Mapping[str, dict[str, Any]], split: str, source: str = JAX
) -> dict[str, Any]:
  """The figures a reader looks for first, of one split and source."""
  report = splits[split]['sources'][source]
  keys = (
    'n',
    'accuracy',
    'accuracy_interval_95',
    'balanced_accuracy',
    'recall',
    'confusion',
    'confusion_normalized',
    'nll',
    'ece',
  )
  head = {'split': split, 'source': source, **{k: report[k] for k in keys}}
  scaled = report.get('with_temperature') or {}
  head['ece_before_temperature'] = scaled.get('ece_before')
  head['ece_after_temperature'] = scaled.get('ece')
  # The int8 file is what devices run: its distance from the float network.
  int8 = splits[split]['sources'].get('model_int8.tflite')
  head['float_to_int8'] = int8[f'versus_{source}'] if int8 else None
  return head


def seed_summary(accuracies: Mapping[int, float], split: str) -> dict[str, Any]:
  """Accuracy over training seeds: each, mean and sample standard deviation."""
  values = list(accuracies.values())
  return {
    'split': split,
    'values': list(accuracies),
    'accuracy': values,
    'mean': statistics.fmean(values),
    'std': statistics.stdev(values) if len(values) > 1 else None,
  }


def _brief(sums: metrics.Sums) -> dict[str, Any]:
  low, high = metrics.wilson_interval(sums.correct, sums.count)
  return {
    'n': sums.count,
    'accuracy': sums.accuracy,
    'accuracy_interval_95': [low, high],
    'balanced_accuracy': sums.balanced_accuracy,
    'nll': sums.mean_nll,
    'ece': sums.ece,
  }
