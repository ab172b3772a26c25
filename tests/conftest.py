"""Settings every test shares, and a small prepared data set."""

from __future__ import annotations

import json
import os
import pathlib

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import pytest


def write_prepared(
  root: pathlib.Path, *, rows: dict[str, int], size: int = 48, seed: int = 0
) -> None:
  """Writes a prepared `rendered_faces` of learnable patterns.

  Each class is a bright bar in its own place on noise: enough for a network to
  learn something in a few steps, and nothing to download or draw.
  """
  rng = np.random.default_rng(seed)
  info = {'format': 1, 'name': 'rendered_faces', 'label_set': 'rendered_faces'}
  splits = {}
  for split, count in rows.items():
    labels = (np.arange(count) % 7).astype(np.int32)
    images = rng.integers(0, 120, (count, size, size, 1), dtype=np.uint8)
    for i, label in enumerate(labels):
      top = int(label) * size // 7
      images[i, top : top + size // 8] = 250
    folder = root / 'rendered_faces' / split
    folder.mkdir(parents=True)
    entry = {}
    for key, value in {'images': images, 'labels': labels}.items():
      np.save(folder / f'{key}.npy', value)
      entry[key] = {
        'shape': list(value.shape),
        'dtype': str(value.dtype),
        'bytes': (folder / f'{key}.npy').stat().st_size,
      }
    splits[split] = entry
  info['splits'] = splits
  (root / 'rendered_faces' / 'metadata.json').write_text(json.dumps(info))


@pytest.fixture(scope='session')
def prepared(tmp_path_factory) -> pathlib.Path:
  """A data folder with a small `rendered_faces`."""
  root = tmp_path_factory.mktemp('data')
  write_prepared(root, rows={'train': 80, 'val': 21, 'test': 14})
  return root
