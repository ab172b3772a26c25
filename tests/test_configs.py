"""Every config is locked, complete, and describes a network that exists."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

from experiments.configs import base
from fer_jax import models
from fer_jax.data import augment
from fer_jax.training import schedules

_FILES = sorted(
  p
  for p in (pathlib.Path(__file__).parents[1] / 'experiments/configs').glob(
    '*.py'
  )
  if p.stem != '__init__'
)


@pytest.mark.parametrize('path', _FILES, ids=lambda p: p.stem)
def test_config(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  assert config.is_locked
  with pytest.raises((AttributeError, KeyError), match='batch_size'):
    config.batchsize = 3
  assert set(config.to_dict()) == set(base.get_config().to_dict())
  overrides = config.model.overrides.to_dict()
  model = models.create(config.model.name, **overrides)
  assert models.count_parameters(models.shapes(model)) > 1000
  augment.Augmentation(**config.augment.to_dict())
  schedules.create(
    config.schedule.name,
    rate=config.schedule.rate,
    epochs=config.epochs,
    steps_per_epoch=10,
    warmup_epochs=config.schedule.warmup_epochs,
    boundaries=config.schedule.boundaries,
    factors=config.schedule.factors,
  )
  assert path.stem == 'base' or f'configs/{path.name}' in module.__doc__
