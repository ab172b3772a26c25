"""The networks: images in, logits, grids or face windows out.

>>> import jax
>>> from fer_jax import models
>>> model = models.create('mini_xception', num_classes=7)
>>> variables = models.init(model, jax.random.key(0))
>>> models.count_parameters(variables)
58423
>>> image = jax.numpy.zeros((1, 64, 64, 1))  # float, 0 to 1
>>> model.apply(variables, image).shape  # logits
(1, 7)

In training batch norm updates its statistics, so they are returned as well:

>>> logits, updated = model.apply(
...   variables, image, train=True, mutable=['batch_stats']
... )

Every network names its layers and shows what is inside it; what layer `x` gives
is called `x_out`, as flax keeps `x` for the layer itself:

>>> logits, state = model.apply(variables, image, mutable=['intermediates'])
>>> state['intermediates']['module4_out'][0].shape
(1, 4, 4, 128)

`models.names()` lists the networks, `python -m fer_jax.models` prints them with
sizes and sources; `models.load(name)` gives a released one with its weights and
labels. One architecture is one file here; `registry.py` gives them names.
Nothing in this package imports TensorFlow or reads data.
"""

from fer_jax.models.registry import ENTRIES
from fer_jax.models.registry import Entry
from fer_jax.models.registry import count_parameters
from fer_jax.models.registry import count_trainable_parameters
from fer_jax.models.registry import create
from fer_jax.models.registry import init
from fer_jax.models.registry import load
from fer_jax.models.registry import multiply_adds
from fer_jax.models.registry import names
from fer_jax.models.registry import shapes

__all__ = [
  'ENTRIES',
  'Entry',
  'count_parameters',
  'count_trainable_parameters',
  'create',
  'init',
  'load',
  'multiply_adds',
  'names',
  'shapes',
]
