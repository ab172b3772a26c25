"""A tiny bundle of every kind, exported once, so that no test needs a release.

The network is a single convolution: it knows nothing of faces, but its files
have the signature, the precisions and the golden pairs of a real bundle.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fer_jax import bundles
from fer_jax import labels

NAME = 'tiny_fer2013'
DETECTOR = 'tiny_detector'
SIZE = 48
# In a process of its own: importing TensorFlow raises other people's warnings,
# and the device code is tested without it.
_EXPORT = """
import sys
import numpy as np
import tensorflow as tf

folder, size = sys.argv[1], int(sys.argv[2])
generator = np.random.default_rng(0)
kernel = tf.constant(generator.normal(0, 0.4, (5, 5, 1, 8)), tf.float32)
dense = tf.constant(generator.normal(0, 2.0, (8, 7)), tf.float32)
signature = [tf.TensorSpec([1, size, size, 1], tf.uint8, name='image')]


class Classifier(tf.Module):
  @tf.function(input_signature=signature)
  def __call__(self, image):
    x = tf.cast(image, tf.float32) / 127.5 - 1.0
    x = tf.nn.relu(tf.nn.conv2d(x, kernel, 4, 'SAME'))
    return {'probabilities': tf.nn.softmax(tf.reduce_mean(x, (1, 2)) @ dense)}


class Detector(tf.Module):
  @tf.function(input_signature=signature)
  def __call__(self, image):
    # A bright square is a face: two overlapping boxes and one far off.
    light = tf.reduce_mean(tf.cast(image[:, 12:36, 12:36], tf.float32))
    boxes = [[0.25, 0.25, 0.75, 0.75], [0.26, 0.25, 0.76, 0.75], [0, 0, 1, 1]]
    scores = [[0.9, 0.8, 0.1]]
    return {
      'boxes': tf.constant([boxes], tf.float32) + 0.0 * light,
      'scores': tf.constant(scores, tf.float32) * light / 255.0,
    }


def write(module, name, precision):
  path = f'{folder}/{name}.saved'
  tf.saved_model.save(module, path)
  converter = tf.lite.TFLiteConverter.from_saved_model(path)
  if precision == 'float16':
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
  if precision == 'int8':
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
      {'image': generator.integers(0, 256, (1, size, size, 1), np.uint8)}
      for _ in range(20)
    )
  with open(f'{folder}/{name}_{precision}.tflite', 'wb') as file:
    file.write(converter.convert())


for precision in ('float32', 'float16', 'int8'):
  write(Classifier(), 'classifier', precision)
write(Detector(), 'detector', 'float32')
"""


def _answers(path, images):
  """Probabilities of a `.tflite`, run without any code of fer_jax."""
  from ai_edge_litert.interpreter import Interpreter

  runner = Interpreter(str(path)).get_signature_runner('serving_default')
  return np.concatenate(
    [runner(image=i[None])['probabilities'] for i in images]
  )


@pytest.fixture
def answers():
  """(path, images) -> probabilities, by the bare interpreter."""
  return _answers


@pytest.fixture(scope='session')
def released(tmp_path_factory):
  """A folder of bundles: `tiny_fer2013` and `tiny_detector`; do not change."""
  work = tmp_path_factory.mktemp('export')
  subprocess.run(
    [sys.executable, '-W', 'ignore', '-c', _EXPORT, str(work), str(SIZE)],
    check=True,
    capture_output=True,
  )
  root = tmp_path_factory.mktemp('bundles')
  classifier, detector = root / NAME, root / DETECTOR
  names = list(labels.get('fer2013').names)
  for folder, kind, classes in (
    (classifier, 'classifier', names),
    (detector, 'detector', ['face']),
  ):
    folder.mkdir()
    (folder / 'labels.txt').write_text('\n'.join(classes) + '\n')
    (folder / 'card.md').write_text('# A network for tests\n')
    (folder / 'metrics.json').write_text('{}\n')
    metadata = {
      'format': 1,
      'model': 'tiny',
      'overrides': {},
      'label_set': 'fer2013' if kind == 'classifier' else 'face',
      'labels': classes,
      'input_shape': [SIZE, SIZE, 1],
      'kind': kind,
      'data': 'none',
      'temperature': None,
    }
    (folder / 'model.json').write_text(json.dumps(metadata))
  for precision, file in (
    ('float32', 'model.tflite'),
    ('float16', 'model_float16.tflite'),
    ('int8', 'model_int8.tflite'),
  ):
    shutil.copy(work / f'classifier_{precision}.tflite', classifier / file)
  shutil.copy(work / 'detector_float32.tflite', detector / 'model.tflite')
  shutil.copy(work / 'detector_float32.tflite', detector / 'model_int8.tflite')
  (classifier / 'params').mkdir()
  (classifier / 'params' / 'weights').write_bytes(b'weights')
  images = np.random.default_rng(1).integers(
    0, 256, (4, SIZE, SIZE, 1), np.uint8
  )
  np.savez(
    classifier / 'golden.npz',
    image=images,
    probabilities=_answers(classifier / 'model.tflite', images),
    probabilities_int8=_answers(classifier / 'model_int8.tflite', images),
  )
  bundles.write_manifest(root)
  return root


@pytest.fixture
def checkpoints(released, monkeypatch):
  """The released bundles where `fer-jax` looks first; do not change them."""
  monkeypatch.setenv('FER_JAX_CHECKPOINTS', str(released))
  return released


@pytest.fixture
def own_checkpoints(released, tmp_path, monkeypatch):
  """A copy of the bundles that a test may damage."""
  root = tmp_path / 'checkpoints'
  shutil.copytree(released, root)
  monkeypatch.setenv('FER_JAX_CHECKPOINTS', str(root))
  return root


@pytest.fixture
def photo():
  """An upright uint8 RGB `[512, 512, 3]` photo with one face."""
  from skimage import data

  return data.astronaut()
