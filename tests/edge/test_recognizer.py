"""Tests of fer_jax.edge.recognizer."""

from __future__ import annotations

import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from fer_jax import labels
from fer_jax.edge import Face
from fer_jax.edge import Recognizer
from fer_jax.edge import Result
from fer_jax.edge import sources
from fer_jax.edge.detectors import Detection
from fer_jax.edge.detectors import mtcnn

# The bundle of conftest.py.
NAME = 'tiny_fer2013'


class Fixed:
  """A detector that always finds the same two faces."""

  name = 'fixed'
  margin = 0.0

  def __call__(self, image):
    height, width = image.shape[:2]
    return [
      Detection((0.0, 0.0, width / 2, height / 2), 0.9),
      Detection((width / 4, height / 4, width * 1.0, height * 1.0), 0.8),
    ]


@pytest.fixture
def recognizer(checkpoints):
  return Recognizer(NAME, Fixed(), threads=1)


def test_faces_of_an_array(recognizer, photo):
  faces = recognizer(photo)
  assert [face.box for face in faces] == [
    (0, 0, 256, 256),
    (128, 128, 512, 512),
  ]
  for face in faces:
    assert isinstance(face, Face)
    assert tuple(face.probabilities) == labels.get('fer2013').names
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=0.02)
    assert face.label == max(face.probabilities, key=face.probabilities.get)
  want = recognizer.classifier(photo, (128, 128, 512, 512))
  assert list(faces[1].probabilities.values()) == want.tolist()


def test_path_and_array_agree(recognizer, photo, tmp_path):
  path = tmp_path / 'a.png'
  cv2.imwrite(str(path), photo[..., ::-1])
  assert recognizer(path) == recognizer(photo) == recognizer(str(path))


def test_grey_arrays(recognizer, photo):
  grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
  want = recognizer(np.dstack([grey] * 3))
  assert recognizer(grey) == want
  assert recognizer(grey[..., None]) == want
  assert recognizer(photo[:, ::-1]) == recognizer(photo[:, ::-1].copy())


@pytest.mark.parametrize(
  'image',
  [
    np.zeros((4, 4, 3), np.float32),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((1, 4, 4, 3), np.uint8),
    np.zeros(4, np.uint8),
  ],
)
def test_refuses_what_is_no_picture(recognizer, image):
  with pytest.raises(sources.ImageError, match='the image'):
    recognizer(image)


def test_boxes_of_a_reduced_jpeg_are_in_pixels_of_the_file(
  recognizer, tmp_path
):
  path = str(tmp_path / 'a.jpg')
  cv2.imwrite(path, np.zeros((1_000, 30_000, 3), np.uint8))
  result, image = recognizer.recognize(path)
  assert (result.width, result.height) == (30_000, 1_000)
  assert image.pixels.shape[1] == 15_000
  assert [face.box for face in result.faces] == [
    (0, 0, 15_000, 500),
    (7_500, 250, 30_000, 1_000),
  ]


def test_results_go_on_after_a_bad_file(recognizer, photo, tmp_path):
  cv2.imwrite(str(tmp_path / 'b.png'), photo)
  (tmp_path / 'a.png').write_bytes(b'')
  got = list(recognizer.results([str(tmp_path), 'none.png']))
  assert got[0] == Result(
    str(tmp_path / 'a.png'), None, None, (), 'the file is empty (0 bytes)'
  )
  assert got[1].error is None
  assert len(got[1].faces) == 2
  assert got[2].error == 'no such file or folder'


def test_two_threads_share_a_recognizer(recognizer, photo):
  pictures = [photo, np.ascontiguousarray(photo[::-1])]
  want = [recognizer(p) for p in pictures]
  assert want[0] != want[1]
  wrong = []

  def work(i):
    for _ in range(50):
      if recognizer(pictures[i]) != want[i]:
        wrong.append(i)

  threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []


@pytest.mark.skipif(not mtcnn.available(), reason='no extra mtcnn')
def test_astronaut(checkpoints, photo):
  (face,) = Recognizer(NAME, 'mtcnn')(photo)
  assert 160 < face.box[0] < 200
  assert 40 < face.box[1] < 90


def test_import_loads_neither_jax_nor_tensorflow(checkpoints):
  code = f"""
import sys
import fer_jax.edge
light = {{'numpy', 'cv2', 'ai_edge_litert'}} & set(sys.modules)
assert not light, light
import numpy as np
from fer_jax.edge import Recognizer
import fer_jax.edge.cli, fer_jax.edge.selftest, fer_jax.edge.timing
Recognizer({NAME!r}, 'full-frame')(np.zeros((9, 9, 3), np.uint8))
heavy = {{'jax', 'flax', 'tensorflow', 'matplotlib'}} & set(sys.modules)
assert not heavy, heavy
ours = sorted(m for m in sys.modules if m.startswith('fer_jax.'))
assert all(
  m.startswith('fer_jax.edge') or m in ('fer_jax.labels', 'fer_jax.bundles')
  for m in ours
), ours
"""
  subprocess.run([sys.executable, '-c', code], check=True)
