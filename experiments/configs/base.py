"""Every key a training config has, with its default.

Other configs start from `get_config()` here and change what they need; the
result is locked, so a mistyped key is refused with a suggestion.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The base config: mini-Xception on FER-2013, no frills."""
  config = config_dict.ConfigDict()
  config.seed = 0
  config.epochs = 100.0
  config.batch_size = 64
  config.eval_batch_size = 128

  config.model = config_dict.ConfigDict()
  config.model.name = 'mini_xception'
  # Fields of the network; num_classes follows from the label set.
  config.model.overrides = config_dict.ConfigDict({'input_shape': (48, 48, 1)})

  config.data = config_dict.ConfigDict()
  config.data.name = 'fer2013'
  config.data.data_dir = ''  # '' is $FER_JAX_DATA, else data/
  config.data.label_set = ''  # '' is the data set's own
  config.data.train_split = 'train'
  config.data.validation_split = 'public_test'
  # Share of the FER+ vote distribution in the training targets, 0..1.
  config.data.soft_weight = 0.0
  # Epochs with votes in the targets, the labels alone after them; 0 is all.
  config.data.soft_epochs = 0.0

  config.augment = config_dict.ConfigDict()  # see fer_jax/data/augment.py
  config.augment.rotation = 0.0
  config.augment.shift = 0.0
  config.augment.zoom = 0.0
  config.augment.flip = False
  config.augment.brightness = 0.0
  config.augment.contrast = 0.0
  config.augment.erase = 0.0
  config.augment.erase_area = 0.2
  config.augment.mixup = 0.0

  config.loss = config_dict.ConfigDict()
  config.loss.label_smoothing = 0.0
  config.loss.l2 = 0.0  # factor of the summed squares of all kernels

  config.optimizer = config_dict.ConfigDict()
  config.optimizer.name = 'adam'  # adam, adamw, sgd
  config.optimizer.weight_decay = 0.0
  config.optimizer.momentum = 0.9
  config.optimizer.clip_norm = 0.0

  config.schedule = config_dict.ConfigDict()
  config.schedule.name = 'constant'  # constant, piecewise, cosine, plateau
  config.schedule.rate = 1e-3
  config.schedule.warmup_epochs = 0.0
  config.schedule.final_factor = 0.0
  config.schedule.boundaries = ()  # piecewise: epochs, counted from 0
  config.schedule.factors = ()  # piecewise: share of the initial rate
  config.schedule.patience = 10  # plateau: epochs without a better loss
  config.schedule.factor = 0.1
  config.schedule.threshold = 1e-4
  config.schedule.minimum = 1e-3  # plateau: smallest share of the rate

  config.ema_decay = 0.0  # average of the weights; 0 keeps none
  config.parallel = 'jit'  # jit, pmap
  # Steps in one compiled call (one lax.scan); 0 is a whole epoch.
  config.steps_per_call = 0
  config.checkpoint_seconds = 120.0  # beside the one after every epoch
  config.tensorboard = False
  return config.lock()
