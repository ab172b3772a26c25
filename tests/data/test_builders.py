"""The TFDS builders as TFDS users meet them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fer_jax.data.builders.fer2013 import fer2013_dataset_builder as fer2013
from fer_jax.data.builders.png import encode_png
from fer_jax.data.builders.rendered_faces import (
  rendered_faces_dataset_builder as rendered,
)
from tests.data import layouts


def test_fer2013_configs():
  assert sorted(fer2013.Builder.builder_configs) == [
    'ferplus', 'ferplus_noverify', 'original', 'original_noverify',
  ]  # fmt: skip
  text = fer2013.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS
  assert 'f8428a1edbd21e88f42c73edd2a14f95' in text
  assert 'Kaggle' in text


def test_fer2013_as_dataset(tmp_path):
  data = layouts.fer2013((6, 3, 3))
  layouts.write_fer2013(tmp_path / 'manual', data, xz=True)
  builder = fer2013.Builder(data_dir=tmp_path, config='ferplus_noverify')
  assert builder.name == 'fer2013'
  assert 'Barsoum' in builder.info.citation
  assert builder.info.features['label'].names[3] == 'happy'
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      manual_dir=str(tmp_path / 'manual')
    )
  )
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  assert sizes == {'train': 6, 'public_test': 3, 'private_test': 3}
  examples = list(tfds.as_numpy(builder.as_dataset(split='public_test')))
  for i, example in enumerate(examples, 6):
    np.testing.assert_array_equal(example['image'], data.images[i])
    np.testing.assert_array_equal(example['votes'], data.votes[i])
    assert example['label'] == data.labels[i]
    assert example['row'] == i + 1
  # (image, label) pairs for code that knows nothing of the rest.
  image, label = next(
    iter(tfds.as_numpy(builder.as_dataset(split='train', as_supervised=True)))
  )
  np.testing.assert_array_equal(image, data.images[0])
  assert label == data.labels[0]


def test_fer2013_ferplus_without_votes(tmp_path):
  data = layouts.fer2013((3, 2, 2))
  layouts.write_fer2013(tmp_path / 'manual', data, votes=False)
  builder = fer2013.Builder(data_dir=tmp_path, config='ferplus_noverify')
  with pytest.raises(FileNotFoundError, match=r'no fer2013new\.csv'):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=str(tmp_path / 'manual')
      )
    )


@pytest.mark.parametrize('config', ['crops_testing', 'scenes_testing'])
def test_rendered_as_dataset(tmp_path, config):
  builder = rendered.Builder(data_dir=tmp_path, config=config)
  assert builder.name == 'rendered_faces'
  builder.download_and_prepare()
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  assert sizes == {'train': 56, 'val': 14, 'test': 14}
  examples = list(tfds.as_numpy(builder.as_dataset(split='val')))
  assert len(examples) == 14
  if config == 'crops_testing':
    assert {e['image'].shape for e in examples} == {(64, 64, 1)}
    assert {int(e['label']) for e in examples} == set(range(7))
  else:
    assert {e['image'].shape for e in examples} == {(72, 96, 3)}
    boxes = np.concatenate([e['faces']['bbox'] for e in examples])
    assert len(boxes) > 3
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize('kind', ['crops', 'scenes'])
@pytest.mark.parametrize('counts', [(1, 1, 1), (100, 13, 29), (5, 50, 5)])
def test_people_are_split(kind, counts):
  config = rendered.Config(
    name='',
    kind=kind,
    **dict(zip(('train', 'val', 'test'), counts, strict=True)),
  )
  people = [
    set(rendered.identity_numbers(config, s)) for s in ('train', 'val', 'test')
  ]
  assert all(people)
  assert sum(map(len, people)) == len(set.union(*people))
  with pytest.raises(ValueError, match='choose one of train, val, test'):
    rendered.identity_numbers(config, 'validation')


def test_bad_config():
  for bad in (
    {'kind': 'films'},
    {'channels': 4},
    {'val': 0},
    {'size': 8},
    {'occlusion': 1.5},
    {'difficulty': -1},
  ):
    with pytest.raises(ValueError, match=next(iter(bad))):
      rendered.Config(name='', **bad)


def test_png_round_trip():
  import tensorflow as tf

  rng = np.random.default_rng(0)
  for channels in (1, 3):
    image = rng.integers(0, 256, (9, 7, channels), dtype=np.uint8)
    np.testing.assert_array_equal(
      tf.io.decode_png(encode_png(image)).numpy(), image
    )
