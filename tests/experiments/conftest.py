"""A finished training of a tiny network, and the bundle made from it."""

from __future__ import annotations

import json
import pathlib

import optax
import pytest

from fer_jax import labels as label_sets
from fer_jax import models
from fer_jax.training import checkpoints
from fer_jax.training import state

OVERRIDES = {'input_shape': [24, 24, 1], 'stem': [4], 'modules': [8, 8]}


def write_training(workdir: pathlib.Path, seed: int) -> pathlib.Path:
  """A training's folder as `experiments.train` leaves it, with one save."""
  workdir.mkdir(parents=True)
  config = {
    'seed': seed,
    'model': {'name': 'mini_xception', 'overrides': OVERRIDES},
    'data': {
      'name': 'rendered_faces',
      'train_split': 'train',
      'validation_split': 'val',
    },
    'label_set': 'rendered_faces',
    'labels': list(label_sets.get('rendered_faces').names),
    'input_shape': OVERRIDES['input_shape'],
  }
  (workdir / 'config.json').write_text(json.dumps(config))
  model = models.create('mini_xception', num_classes=7, **OVERRIDES)
  with checkpoints.Checkpoints(workdir) as saver:
    saver.save(state.create(model, optax.sgd(0.1), seed), {'accuracy': 0.1})
  return workdir


@pytest.fixture(scope='session')
def training(tmp_path_factory) -> pathlib.Path:
  return write_training(tmp_path_factory.mktemp('runs') / 'tiny', seed=0)


@pytest.fixture(scope='session')
def sibling(tmp_path_factory) -> pathlib.Path:
  """The same training from another seed."""
  return write_training(tmp_path_factory.mktemp('runs') / 'tiny_1', seed=1)


@pytest.fixture(scope='session')
def export_flags(training, prepared):
  """Arguments of a working export, but name and folder."""
  return [
    f'--workdir={training}',
    f'--data_dir={prepared}',
    '--representative=20',
    '--parity_images=21',
    # Weights are random: near-ties everywhere, which int8 may break.
    '--min_agreement=0',
    '--max_accuracy_drop=1',
  ]
