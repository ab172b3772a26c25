"""EmotionNet Nano-B by the papers' schedule, here on rendered faces or FER-2013.

  python -m experiments.train \
    --config=experiments/configs/emotionnet_nano_b.py --workdir=out/nano_b

Adam, 200 epochs, 1e-3 times 1e-1, 1e-2, 1e-3, 0.5e-3 at epochs 81, 121, 161,
181, cross-entropy; rotation, shifts, zoom and flip, whose ranges the papers do
not print (EmotionNet Nano, Frontiers 2021, training section).
"""

from experiments.configs import base


def get_config():
  """The config, locked."""
  config = base.get_config()
  with config.unlocked():
    config.epochs = 200.0
    config.batch_size = 32
    config.model.name = 'emotionnet_nano_b'
    config.augment.rotation = 10.0
    config.augment.shift = 0.1
    config.augment.zoom = 0.1
    config.augment.flip = True
    config.schedule.name = 'piecewise'
    config.schedule.rate = 1e-3
    config.schedule.boundaries = (81, 121, 161, 181)
    config.schedule.factors = (1e-1, 1e-2, 1e-3, 0.5e-3)
  return config
