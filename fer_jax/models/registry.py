"""The networks by name: build, initialise, count and load them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.extend import core as jex_core

from fer_jax import bundles
from fer_jax import ops
from fer_jax.models import emotionnet_nano
from fer_jax.models import grid_detector
from fer_jax.models import iot_classifier
from fer_jax.models import mini_xception
from fer_jax.models import mtcnn
from fer_jax.models import residual_prototype
from fer_jax.models.baselines import dense_lite
from fer_jax.models.baselines import efficientnet_b0
from fer_jax.models.baselines import micro_expnet
from fer_jax.models.baselines import mobilenet_v1
from fer_jax.models.baselines import plain_cnn
from fer_jax.models.baselines import resnet50
from fer_jax.models.baselines import vgg

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


@dataclasses.dataclass(frozen=True)
class Entry:
  """One registered network.

  Attributes:
    factory: the linen module.
    output: what `apply` returns, in words, for the default input.
    paper: where it comes from, in short.
    defaults: constructor arguments that make the variant.
    deployed: further arguments that make the network as it is deployed, which
      is what papers count; empty where that is the network itself.
  """

  factory: Callable[..., nn.Module]
  output: str
  paper: str
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  deployed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NANO = 'EmotionNet Nano (2021)'
_LIGHT = 'A Light Weight CNN For Real time FER (2021)'
_IOT = 'Fast Emotion Recognition for IoT Devices (2021)'

ENTRIES: dict[str, Entry] = {
  'emotionnet_nano_a': Entry(
    emotionnet_nano.EmotionNetNano,
    '7 logits',
    f'{_NANO}, variant A, reconstructed',
    emotionnet_nano.VARIANTS['nano_a'],
    {'use_norm': False},
  ),
  'emotionnet_nano_b': Entry(
    emotionnet_nano.EmotionNetNano,
    '7 logits',
    f'{_NANO}, variant B',
    emotionnet_nano.VARIANTS['nano_b'],
    {'use_norm': False},
  ),
  'residual_prototype': Entry(
    residual_prototype.ResidualPrototype,
    '7 logits',
    f'{_NANO}, prototype; ResNet-20 v1',
  ),
  'mini_xception': Entry(mini_xception.MiniXception, '7 logits', _LIGHT),
  'iot_classifier': Entry(
    iot_classifier.IotClassifier, '4 logits', f'{_IOT}, Table II'
  ),
  'grid_detector': Entry(
    grid_detector.GridDetector, '9x9x11 raw grid', f'{_IOT}, Table I'
  ),
  'mtcnn_pnet': Entry(
    mtcnn.PNet, 'face 2, box 4 a cell', 'MTCNN (2016), proposals'
  ),
  'mtcnn_rnet': Entry(mtcnn.RNet, 'face 2, box 4', 'MTCNN (2016), refinement'),
  'mtcnn_onet': Entry(
    mtcnn.ONet, 'face 2, box 4, landmarks 10', 'MTCNN (2016), output'
  ),
  'resnet50': Entry(resnet50.ResNet50, '7 logits', 'ResNet (2016)'),
  'mobilenet_v1': Entry(
    mobilenet_v1.MobileNetV1, '7 logits', 'MobileNets (2017)'
  ),
  'efficientnet_b0': Entry(
    efficientnet_b0.EfficientNetB0, '7 logits', 'EfficientNet (2019)'
  ),
  'vgg': Entry(vgg.Vgg, '7 logits', 'VGG13 of FER+ (2016)'),
  'plain_cnn': Entry(
    plain_cnn.PlainCnn, '7 logits', 'Real-time CNNs (2017), simple_CNN'
  ),
  'dense_lite': Entry(
    dense_lite.DenseLite, '7 logits', 'DenseNet-1 of LER (2020), reconstructed'
  ),
  'micro_expnet': Entry(
    micro_expnet.MicroExpNet, '8 logits', 'MicroExpNet (2017)'
  ),
}
# Dataclass fields that linen adds to every module.
_NOT_OVERRIDES = ('name', 'parent')


def names() -> tuple[str, ...]:
  """Names of the registered networks."""
  return tuple(ENTRIES)


def create(name: str, /, **overrides: Any) -> nn.Module:
  """Builds the network called `name`; nothing is computed yet.

  Args:
    name: one of `names()`.
    **overrides: fields of the network to set, e.g. `num_classes=4` or
      `input_shape=(64, 64, 1)`. Lists and names of dtypes are welcome, so
      values may come from JSON.

  Raises:
    ValueError: unknown name or field, or a value that makes no network; the
      message lists the choices.
  """
  entry = _entry(name)
  fields = {
    field.name
    for field in dataclasses.fields(entry.factory)
    if field.init and field.name not in _NOT_OVERRIDES
  }
  for key in overrides:
    if key not in fields:
      raise ValueError(_unknown(f'{name}: unknown override', key, fields))
  values = {key: _plain(value) for key, value in overrides.items()}
  if 'dtype' in values:
    values['dtype'] = _dtype(name, values['dtype'])
  shape = values.get('input_shape', (1, 1, 1))
  if (
    not isinstance(shape, tuple)
    or len(shape) != 3
    or not all(_positive(n) for n in shape)
  ):
    raise ValueError(
      f'{name}: input_shape must be (height, width, channels), got {shape!r}'
    )
  if not _positive(values.get('num_classes', 1)):
    raise ValueError(
      f'{name}: num_classes must be a whole number from 1 up, got '
      f'{values["num_classes"]!r}'
    )
  return entry.factory(**(dict(entry.defaults) | values))


def _entry(name: str) -> Entry:
  if name not in ENTRIES:
    raise ValueError(_unknown('unknown model', name, ENTRIES))
  return ENTRIES[name]


def _unknown(what: str, given: str, choices: Iterable[str]) -> str:
  choices = list(choices)
  close = difflib.get_close_matches(str(given), choices, n=1, cutoff=0.5)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  return f'{what} {given!r}.{hint} Choose one of: {", ".join(sorted(choices))}'


def _plain(value: Any) -> Any:
  # linen fields must be hashable for jit.
  if isinstance(value, list | tuple):
    return tuple(_plain(item) for item in value)
  return value


def _positive(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _dtype(name: str, value: Any) -> Any:
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    dtype = None
  if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(
      f'{name}: dtype must be a float type such as float32 or bfloat16, got '
      f'{value!r}'
    )
  return dtype.type


def _initialise(model: nn.Module, rng: jax.Array, batch_size: int) -> Any:
  image = jnp.zeros((batch_size, *model.input_shape), jnp.float32)
  return model.init(rng, image, train=False)


def init(
  model: nn.Module, rng: jax.Array, batch_size: int = 1
) -> dict[str, Any]:
  """Draws the variables of a network for images of its `input_shape`.

  Args:
    model: as made by `create`.
    rng: key, e.g. `jax.random.key(0)`.
    batch_size: of the image traced; the variables do not depend on it.

  Returns:
    `{'params': ..., 'batch_stats': ...}`, the latter where there is batch norm.
  """
  if isinstance(rng, jax.core.Tracer):  # inside somebody's jit
    return _initialise(model, rng, batch_size)
  # Compiling a random draw for each layer takes far longer than the draws:
  # 4.5 s against 0.7 s without optimisation, for four layers on a CPU core.
  return jax.jit(
    _initialise,
    static_argnums=(0, 2),
    compiler_options={'xla_backend_optimization_level': 0},
  )(model, rng, batch_size)


def shapes(model: nn.Module) -> dict[str, Any]:
  """The tree of `init`, with shapes in place of arrays; computes nothing."""
  return jax.eval_shape(
    lambda rng: _initialise(model, rng, 1), jax.random.key(0)
  )


def count_parameters(variables: Mapping[str, Any]) -> int:
  """Numbers in all collections, batch-norm statistics included.

  That is what Keras, and therefore most papers, call total parameters. Takes
  arrays or `shapes(model)`.
  """
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


def count_trainable_parameters(variables: Mapping[str, Any]) -> int:
  """Numbers in the collection `params` alone."""
  return count_parameters(variables['params'])


def multiply_adds(model: nn.Module) -> int:
  """Multiply-adds of the convolutions and dense layers for one image.

  Counted over the traced operations at `model.input_shape`, padding included;
  biases, norms, activations and pools are left out, as is usual.
  """
  image = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
  with ops.implementation('lax'):
    # A new function each time, or a trace of another formulation may be reused.
    traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
      shapes(model), image
    )
  return _multiply_adds(traced.jaxpr)


def _multiply_adds(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      features = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
      outputs = math.prod(equation.outvars[0].aval.shape)
      total += outputs * (math.prod(kernel) // features)
    elif name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      outputs = math.prod(equation.outvars[0].aval.shape)
      total += outputs * math.prod(left[i] for i in contracted)
    for inner in jex_core.jaxprs_in_params(equation.params):
      total += _multiply_adds(inner)
  return total


def load(
  name: str | os.PathLike[str],
) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
  """Loads a released bundle, after checking its files against the manifest.

  Args:
    name: of a bundle (`fer_jax.bundles.names()`), or a path to one.

  Returns:
    The network, its variables, and the names of its classes in order.

  Raises:
    bundles.BundleError: no such bundle, a damaged file, or weights that do not
      fit the network named in `model.json`.
  """
  # Takes a second, which users who only build networks need not wait.
  from orbax import checkpoint as ocp

  path = bundles.find(name).resolve()
  bundles.verify(path)
  data = bundles.metadata(path)
  try:
    model = create(data['model'], **(data.get('overrides') or {}))
    target = shapes(model)
  except (TypeError, ValueError) as error:
    raise bundles.BundleError(f'{path / "model.json"}: {error}') from error
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
    target,
  )
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      variables = checkpointer.restore(path / 'params', target)
  except (KeyError, OSError, TypeError, ValueError) as error:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise bundles.BundleError(
      f'{path / "params"}: not the weights of {data["model"]}: {reason[0]}'
    ) from error
  return model, variables, tuple(data['labels'])
