"""MTCNN: outputs, pools that round up, the fully convolutional P-Net."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax import models
from fer_jax.models import mtcnn

HEADS = {'face': 2, 'box': 4, 'landmarks': 10}


def _image(shape, seed=0):
  return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize('landmarks', [False, True])
@pytest.mark.parametrize('name', ['mtcnn_pnet', 'mtcnn_rnet', 'mtcnn_onet'])
def test_heads(name, landmarks, draw):
  model = models.create(name, landmarks=landmarks)
  variables = draw(model)
  out = model.apply(variables, _image((3, *model.input_shape)))
  middle = (1, 1) if name == 'mtcnn_pnet' else ()
  expected = dict(HEADS)
  if not landmarks:
    del expected['landmarks']
  assert {k: v.shape for k, v in out.items()} == {
    k: (3, *middle, n) for k, n in expected.items()
  }
  assert all(v.dtype == np.float32 for v in out.values())


def test_pnet_slides_over_an_image(draw):
  model = models.create('mtcnn_pnet')
  variables = draw(model)
  image = _image((1, 20, 26, 3))
  maps = model.apply(variables, image)
  assert maps['face'].shape == (1, 5, 8, 2)
  for y, x in ((0, 0), (4, 7), (2, 5)):
    window = image[:, 2 * y : 2 * y + 12, 2 * x : 2 * x + 12]
    alone = model.apply(variables, window)
    for head, value in alone.items():
      np.testing.assert_allclose(
        maps[head][:, y, x], value[:, 0, 0], rtol=1e-5, atol=1e-5
      )


@pytest.mark.parametrize('name', ['mtcnn_rnet', 'mtcnn_onet'])
def test_other_sizes_are_refused(name):
  model = models.create(name)
  variables = models.shapes(model)
  with pytest.raises(ValueError, match='got 20x20'):
    jax.eval_shape(model.apply, variables, _image((1, 20, 20, 3)))


@settings(deadline=None, max_examples=30)
@given(
  height=st.integers(3, 13),
  width=st.integers(3, 13),
  pool=st.sampled_from([(2, 2), (3, 2)]),
  seed=st.integers(0, 9),
)
def test_pools_round_up(height, width, pool, seed):
  window, stride = pool
  # Negative, so that padding with zeros would show.
  x = _image((2, height, width, 3), seed) - 2
  y = np.asarray(mtcnn._max_pool(x, window, stride))
  rows = -(-(height - window) // stride) + 1
  columns = -(-(width - window) // stride) + 1
  assert y.shape == (2, rows, columns, 3)
  for i in range(rows):
    for j in range(columns):
      patch = x[
        :,
        i * stride : i * stride + window,
        j * stride : j * stride + window,
      ]
      np.testing.assert_array_equal(y[:, i, j], patch.max((1, 2)))


def test_prelu():
  x = np.array([[-2.0, 4.0], [-8.0, -1.0]], np.float32)
  layer = mtcnn._PRelu()
  variables = layer.init(jax.random.key(0), x)
  np.testing.assert_allclose(
    layer.apply(variables, x), [[-0.5, 4.0], [-2.0, -0.25]]
  )
  variables = {'params': {'alpha': np.array([0.1, 2.0], np.float32)}}
  np.testing.assert_allclose(
    layer.apply(variables, x), [[-0.2, 4.0], [-0.8, -2.0]], rtol=1e-6
  )


def test_scaling_of_public_weights():
  for level in (0, 100, 255):
    np.testing.assert_allclose(
      mtcnn._scale(np.float32(level / 255), np.float32),
      (level - 127.5) / 128,
      atol=1e-6,
    )
