"""Figures are written, and say what is missing where they cannot be."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from fer_jax.evaluation import figures
from fer_jax.evaluation import metrics


def _written(path):
  image = cv2.imread(str(path))
  return image is not None and image.std() > 5


def test_all_figures(tmp_path):
  rng = np.random.default_rng(0)
  p, y = rng.dirichlet(np.ones(3), 50), rng.integers(0, 2, 50)
  sums = metrics.Sums.of(p, y)  # class 2 has no example
  names = ['a', 'b', 'c']
  assert _written(
    figures.confusion(sums.confusion, names, tmp_path / 'd/c.png')
  )
  assert _written(
    figures.reliability({'x': sums.reliability()}, tmp_path / 'r.png')
  )
  assert _written(figures.selective(p, y, tmp_path / 's.png', 'title'))
  assert _written(
    figures.curves({'loss': ([0, 1, 2], [3, 2, 1])}, tmp_path / 'k.png')
  )


def test_without_matplotlib(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
  with pytest.raises(ImportError, match=r'fer-jax\[figures\]'):
    figures.curves({}, tmp_path / 'k.png')
