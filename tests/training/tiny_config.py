"""A training of seconds, for tests; the data folder comes from $FER_JAX_DATA."""

from experiments.configs import base


def get_config():
  """The config, locked."""
  config = base.get_config()
  with config.unlocked():
    config.epochs = 4.0
    config.batch_size = 16
    config.eval_batch_size = 16
    config.data.name = 'rendered_faces'
    config.data.validation_split = 'val'
    config.model.overrides = {'input_shape': (24, 24, 1)}
    config.model.overrides.stem = (4, 4)
    config.model.overrides.modules = (8, 8)
    config.augment.rotation = 10.0
    config.augment.shift = 0.1
    config.augment.flip = True
    config.schedule.name = 'cosine'
    config.schedule.rate = 5e-3
    config.ema_decay = 0.9
    config.steps_per_call = 2
  return config
