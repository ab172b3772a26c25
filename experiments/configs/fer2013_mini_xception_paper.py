"""The light-weight CNN paper's own recipe on FER-2013.

  python -m experiments.train \
    --config=experiments/configs/fer2013_mini_xception_paper.py \
    --workdir=out/fer2013_mini_xception_paper

Stated by the paper (Section III.B, IV): Adam, l2 on the weights, 250 epochs,
global average pooling. The rest (rate, batch, l2 of 0.01, ranges of the
augmentation, rate on plateau, 64x64 input) follows the public mini_XCEPTION
training script that the parameter count identifies. The paper reports 67 %.
"""

from experiments.configs import base


def get_config():
  """The config, locked."""
  config = base.get_config()
  with config.unlocked():
    config.epochs = 250.0
    config.batch_size = 32
    config.model.overrides.input_shape = (64, 64, 1)
    config.augment.rotation = 10.0
    config.augment.shift = 0.1
    config.augment.zoom = 0.1
    config.augment.flip = True
    config.loss.l2 = 0.01
    config.schedule.name = 'plateau'
    config.schedule.rate = 1e-3
    config.schedule.patience = 12
    config.schedule.factor = 0.1
  return config
