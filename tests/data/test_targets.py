"""Targets from labels and votes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fer_jax import labels as label_sets
from fer_jax.data import arrays
from fer_jax.data import targets

_VOTES = hnp.arrays(
  np.uint8,
  st.tuples(st.integers(0, 12), st.just(10)),
  elements=st.integers(0, 10),
)


def test_hard_targets():
  np.testing.assert_array_equal(
    targets.hard_targets(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]]
  )
  assert targets.hard_targets(np.array([], int), 3).shape == (0, 3)
  for bad in (-1, 3):
    with pytest.raises(ValueError, match=r'0\.\.2'):
      targets.hard_targets(np.array([bad]), 3)


def test_soft_targets_by_hand():
  # neutral happy surprise sad angry disgust fear contempt unknown not_a_face
  votes = np.array(
    [
      [4, 0, 0, 1, 3, 2, 0, 0, 0, 0],
      [0, 3, 0, 0, 0, 0, 0, 5, 1, 1],
      [0, 0, 0, 0, 0, 0, 0, 2, 0, 8],
    ],
    np.uint8,
  )
  soft = targets.soft_targets(votes, np.array([6, 0, 5]))
  # angry disgust fear happy sad surprise neutral
  np.testing.assert_allclose(
    soft,
    [
      [0.3, 0.2, 0, 0, 0.1, 0, 0.4],
      [0, 0, 0, 1, 0, 0, 0],
      [0, 0, 0, 0, 0, 1, 0],  # nothing left: the label
    ],
    rtol=1e-6,
  )
  assert soft.dtype == np.float32


@given(_VOTES, st.sampled_from(['fer2013', 'iot4', 'ckplus', 'ckplus8']))
@settings(max_examples=60, deadline=None)
def test_soft_targets_are_distributions(votes, label_set):
  classes = label_sets.get(label_set).names
  labels = np.arange(len(votes)) % len(classes)
  soft = targets.soft_targets(votes, labels, label_set)
  assert soft.shape == (len(votes), len(classes))
  assert soft.dtype == np.float32
  assert (soft >= 0).all()
  np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
  # Ratios of the kept votes survive, by name.
  names = label_sets.get('ferplus').names
  for row, target, label in zip(votes, soft, labels, strict=True):
    kept = {n: int(v) for n, v in zip(names, row, strict=True) if n in classes}
    total = sum(kept.values())
    for name, value in zip(classes, target, strict=True):
      expected = (
        kept.get(name, 0) / total if total else float(name == classes[label])
      )
      assert value == pytest.approx(expected)


@given(_VOTES, st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_mix(votes, weight):
  labels = np.arange(len(votes)) % 7
  hard = targets.hard_targets(labels, 7)
  soft = targets.soft_targets(votes, labels)
  mixed = targets.mix(hard, soft, weight)
  assert mixed.dtype == np.float32
  np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    mixed, (1 - weight) * hard + weight * soft, atol=1e-6
  )


def test_bad_shapes():
  votes = np.zeros((3, 10), np.uint8)
  with pytest.raises(ValueError, match=r'\[N, 10\]'):
    targets.soft_targets(votes[:, :8], np.zeros(3, int))
  with pytest.raises(ValueError, match='3 rows of votes but 2 labels'):
    targets.soft_targets(votes, np.zeros(2, int))
  hard = targets.hard_targets(np.zeros(3, int), 7)
  with pytest.raises(ValueError, match='shapes differ'):
    targets.mix(hard, hard[:2], 0.5)
  with pytest.raises(ValueError, match=r'0\.\.1'):
    targets.mix(hard, hard, 1.5)


def _seven():
  images = np.arange(14, dtype=np.uint8)[:, None, None, None]
  labels = np.tile(np.arange(7, dtype=np.int32), 2)
  return arrays.Arrays(
    'x', 'train', 'fer2013', images, labels, {'row': np.arange(14)}
  )


def test_remap_to_fewer_classes_drops_rows():
  data = targets.remap(_seven(), 'iot4')
  assert data.label_set == 'iot4'
  # fer2013: angry 0, happy 3, surprise 5, neutral 6.
  assert data.attributes['row'].tolist() == [0, 3, 5, 6, 7, 10, 12, 13]
  assert data.images.ravel().tolist() == data.attributes['row'].tolist()
  names = label_sets.get('iot4').names
  assert [names[k] for k in data.labels[:4]] == [
    'angry', 'happy', 'surprise', 'neutral',
  ]  # fmt: skip
  assert data.labels.dtype == np.int32


def test_remap_that_keeps_all_does_not_copy():
  source = _seven()
  data = targets.remap(source, 'kdef')
  assert data.images is source.images
  before = [label_sets.get('fer2013').names[k] for k in source.labels]
  after = [label_sets.get('kdef').names[k] for k in data.labels]
  assert before == after
