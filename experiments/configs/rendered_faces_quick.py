"""A minute of training on procedurally drawn faces: the demo and the tests.

  python -m fer_jax.data.prepare --dataset=rendered_faces
  python -m experiments.train \
    --config=experiments/configs/rendered_faces_quick.py \
    --workdir=out/rendered_faces_quick

Says nothing about accuracy on real faces.
"""

from experiments.configs import base


def get_config():
  """The config, locked."""
  config = base.get_config()
  with config.unlocked():
    config.epochs = 6.0
    config.data.name = 'rendered_faces'
    config.data.validation_split = 'val'
    config.augment.rotation = 10.0
    config.augment.shift = 0.05
    config.augment.zoom = 0.1
    config.augment.flip = True
    config.schedule.name = 'cosine'
    config.schedule.rate = 4e-3
    config.schedule.warmup_epochs = 0.5
    config.steps_per_call = 16
  return config
