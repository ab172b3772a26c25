"""Training targets from labels and annotator votes; relabelling.

Pure numpy functions on whole splits; rows are images, columns classes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax import labels as label_sets
from fer_jax.data import arrays

__all__ = ['hard_targets', 'mix', 'remap', 'soft_targets']


def hard_targets(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """One-hot rows, float32 `[N, num_classes]`, of class indices `[N]`.

  Raises:
    ValueError: a label outside `0..num_classes - 1`.
  """
  labels = np.asarray(labels)
  if labels.size and not (0 <= labels.min() <= labels.max() < num_classes):
    raise ValueError(
      f'labels must be 0..{num_classes - 1}, found '
      f'{labels.min()}..{labels.max()}'
    )
  return np.eye(num_classes, dtype=np.float32)[labels]


def soft_targets(
  votes: np.ndarray, labels: np.ndarray, label_set: str = 'fer2013'
) -> np.ndarray:
  """FER+ votes as a distribution over the classes of `label_set`.

  Votes for what the set does not have (contempt, unknown, not a face for
  `fer2013`) are dropped and the rest is scaled to sum 1. A row left without a
  vote falls back to the one-hot of its own label, so that no image is lost.

  Args:
    votes: integer counts `[N, 10]`, columns in the order of label set
      `ferplus`.
    labels: int `[N]`, class indices of `label_set`.
    label_set: name in `fer_jax.labels`; classes without a FER+ column keep 0.

  Returns:
    float32 `[N, K]`, rows non-negative, sum 1.

  Raises:
    ValueError: shapes that do not fit.
  """
  votes = np.asarray(votes)
  columns = len(label_sets.get('ferplus'))
  if votes.ndim != 2 or votes.shape[1] != columns:
    raise ValueError(f'votes must be [N, {columns}], not {list(votes.shape)}')
  if len(votes) != len(labels):
    raise ValueError(f'{len(votes)} rows of votes but {len(labels)} labels')
  num_classes = len(label_sets.get(label_set))
  counts = np.zeros((len(votes), num_classes), np.float32)
  for column, target in enumerate(label_sets.mapping('ferplus', label_set)):
    if target is not None:
      counts[:, target] = votes[:, column]
  total = counts.sum(axis=1, keepdims=True)
  hard = hard_targets(labels, num_classes)
  return np.where(total > 0, counts / np.maximum(total, 1), hard)


def mix(hard: np.ndarray, soft: np.ndarray, weight: float) -> np.ndarray:
  """`(1 - weight) * hard + weight * soft`, float32.

  Args:
    hard: `[N, K]`, rows of sum 1.
    soft: `[N, K]`, rows of sum 1.
    weight: share of `soft`, 0..1.
  """
  if not 0 <= weight <= 1:
    raise ValueError(f'weight must be in 0..1, not {weight}')
  if hard.shape != soft.shape:
    raise ValueError(f'shapes differ: {hard.shape} and {soft.shape}')
  return ((1 - weight) * hard + weight * soft).astype(np.float32)


def remap(data: arrays.Arrays, label_set: str) -> arrays.Arrays:
  """`data` with the classes of another label set, matched by name.

  Rows whose class `label_set` does not have are dropped (`iot4` keeps four of
  the seven expressions); with nothing to drop the images stay memory-mapped.
  """
  mapping = label_sets.mapping(data.label_set, label_set)
  table = np.array([-1 if t is None else t for t in mapping], np.int32)
  labels = table[data.labels]
  keep = labels >= 0
  if keep.all():
    return dataclasses.replace(data, label_set=label_set, labels=labels)
  return dataclasses.replace(
    data,
    label_set=label_set,
    images=np.asarray(data.images[keep]),
    labels=labels[keep],
    attributes={k: v[keep] for k, v in data.attributes.items()},
  )
