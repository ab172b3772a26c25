"""Leaks, duplicates and blanks, on hand-made arrays and the real set."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.data import arrays
from fer_jax.data import leakage


def _make(split, values, labels):
  """Images 2x2 with a corner that tells them apart; value 0 is blank."""
  images = np.zeros((len(values), 2, 2, 1), np.uint8)
  images[:, 0, 0, 0] = values
  return arrays.Arrays(
    'hand', split, 'fer2013', images, np.array(labels, np.int32)
  )


@pytest.fixture
def parts():
  return [
    _make('train', [1, 2, 3, 1, 0], [0, 1, 2, 0, 4]),
    _make('test', [3, 4, 2, 4, 0], [2, 5, 6, 5, 4]),
  ]


def test_occurs_in(parts):
  assert leakage.occurs_in(parts[1], parts[0]).tolist() == [
    True, False, True, False, True,
  ]  # fmt: skip


def test_other_shape_is_refused(parts):
  other = arrays.Arrays(
    'o', 's', 'fer2013', np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.int32)
  )
  with pytest.raises(ValueError, match='hand/test'):
    leakage.occurs_in(parts[1], other)


def test_blank(parts):
  assert leakage.blank(parts[0]).tolist() == [False] * 4 + [True]
  white = _make('w', [0], [0])
  white.images[:] = 255
  assert leakage.blank(white).tolist() == [True]


def test_duplicates_and_conflicts(parts):
  assert leakage.duplicates(parts) == [
    [(0, 0), (0, 3)],
    [(0, 1), (1, 2)],
    [(0, 2), (1, 0)],
    [(0, 4), (1, 4)],
    [(1, 1), (1, 3)],
  ]
  assert leakage.conflicts(parts) == [[(0, 1), (1, 2)]]


def test_report(parts):
  assert leakage.report(parts[0], parts[1:]) == {
    'images': 10,
    'distinct': 5,
    'duplicated': 5,
    'conflicting': 1,
    'blank': 2,
    'leaked_test': 3,
  }


def test_real_set():
  try:
    train, *tests = (
      arrays.load('fer2013', s)
      for s in ('train', 'public_test', 'private_test')
    )
  except FileNotFoundError as e:
    pytest.skip(str(e))
  report = leakage.report(train, tests)
  leaked = report.pop('leaked_public_test') + report.pop('leaked_private_test')
  assert leaked == 568
  assert report == {
    'images': 35887,
    'distinct': 34034,
    'duplicated': 1516,
    'conflicting': 57,
    'blank': 12,
  }
