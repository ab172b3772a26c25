"""TFDS builder of procedurally drawn faces: crops and scenes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import labels as label_sets
from fer_jax.data import rendered_faces
from fer_jax.data.builders.png import encode_png

__all__ = ['MAX_FACES', 'Builder', 'Config', 'identity_numbers']

_LABELS = label_sets.get('rendered_faces').names
_SPLITS = ('train', 'val', 'test')
MAX_FACES = 4
# Part of every seed, so that identities and pictures draw from other streams.
_IDENTITY, _PICTURE = 1, 2


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
  """What is drawn.

  Attributes:
    kind: `crops` (one face a picture) or `scenes` (0 to 4, with boxes).
    train, val, test: number of pictures.
    size: side of a crop, or width of a scene (4:3), in pixels.
    channels: 1 grey or 3 RGB; scenes are RGB.
    per_identity: crops of one person.
    difficulty: spread of pose, light, blur, noise and performance; 0 is
      frontal and clean.
    occlusion: probability that a face has an occluder.
    seed: other seeds give other people and pictures.
  """

  kind: str = 'crops'
  train: int = 6000
  val: int = 700
  test: int = 700
  size: int = 64
  channels: int = 1
  per_identity: int = 14
  difficulty: float = 1.0
  occlusion: float = 0.12
  seed: int = 0

  def __post_init__(self):
    if self.kind not in ('crops', 'scenes'):
      raise ValueError(f"kind must be 'crops' or 'scenes', not {self.kind!r}")
    if self.channels not in (1, 3):
      raise ValueError(f'channels must be 1 or 3, not {self.channels}')
    low = {'train': 1, 'val': 1, 'test': 1, 'per_identity': 1, 'seed': 0}
    low['size'] = 16 if self.kind == 'crops' else 64
    for key, least in low.items():
      if getattr(self, key) < least:
        raise ValueError(
          f'{key} must be {least} or more, not {getattr(self, key)}'
        )
    for key, most in (('size', 1024), ('difficulty', 2), ('occlusion', 1)):
      if not 0 <= getattr(self, key) <= most:
        raise ValueError(
          f'{key} must be at most {most} and not negative, not '
          f'{getattr(self, key)}'
        )
    if not self.name:
      # The name is the folder: other options must not meet an old build.
      values = (
        self.train, self.val, self.test, self.size, self.channels,
        self.per_identity, self.difficulty, self.occlusion, self.seed,
      )  # fmt: skip
      self.name = '_'.join([self.kind, *map(str, values)])


def identity_numbers(config: Config, split: str) -> range:
  """The people of a split, numbered through all splits: nobody is in two."""
  start = 0
  for name in _SPLITS:
    pictures = getattr(config, name)
    # Scenes draw several people each; two pictures a person keep them varied.
    each = config.per_identity if config.kind == 'crops' else 2
    count = -(-pictures // each)
    if name == split:
      return range(start, start + count)
    start += count
  raise ValueError(
    f'unknown split {split!r}; choose one of {", ".join(_SPLITS)}'
  )


@functools.lru_cache(maxsize=64)  # a person's pictures come one after another
def _identity(seed: int, number: int) -> rendered_faces.Identity:
  rng = np.random.default_rng([seed, _IDENTITY, number])
  return rendered_faces.sample_identity(rng)


class Builder(tfds.core.GeneratorBasedBuilder):
  """Drawn faces in seven expressions, split by person."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Crops and scenes.'}
  _FEW = {'train': 56, 'val': 14, 'test': 14}
  BUILDER_CONFIGS = [
    Config(name='crops', description='64x64 grey'),
    Config(name='crops_rgb', description='64x64 RGB', channels=3),
    Config(
      name='scenes',
      description='320x240 RGB, 0 to 4 faces with boxes',
      kind='scenes',
      train=1000,
      val=200,
      test=200,
      size=320,
      channels=3,
    ),
    Config(name='crops_testing', description='a few crops', **_FEW),
    Config(
      name='scenes_testing',
      description='a few scenes',
      kind='scenes',
      size=96,
      channels=3,
      **_FEW,
    ),
  ]

  # Set by the caller to follow the drawing, one call a picture.
  progress: Callable[[int], object] = staticmethod(lambda rows: None)

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    label = tfds.features.ClassLabel(names=_LABELS)
    if config.kind == 'crops':
      features = {
        'image': tfds.features.Image(
          shape=(config.size, config.size, config.channels),
          encoding_format='png',
        ),
        'label': label,
        'identity': np.int32,
        'intensity': np.float32,
        # Yaw, pitch, roll in degrees.
        'pose': tfds.features.Tensor(shape=(3,), dtype=np.float32),
        'occluder': tfds.features.ClassLabel(names=rendered_faces.OCCLUDERS),
      }
    else:
      features = {
        'image': tfds.features.Image(
          shape=(config.size * 3 // 4, config.size, 3), encoding_format='png'
        ),
        'faces': tfds.features.Sequence(
          {'bbox': tfds.features.BBoxFeature(), 'label': label}
        ),
      }
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label') if config.kind == 'crops' else None,
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # nothing to download
    generate = (
      self._generate_crops
      if self.builder_config.kind == 'crops'
      else self._generate_scenes
    )
    return {split: generate(split) for split in _SPLITS}

  def _generate_examples(self, split: str):
    raise NotImplementedError('see _split_generators')

  def _generate_crops(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    config = self.builder_config
    people = identity_numbers(config, split)
    for i in range(getattr(config, split)):
      person = people[i // config.per_identity]
      rng = np.random.default_rng(
        [config.seed, _PICTURE, _SPLITS.index(split), i]
      )
      params = rendered_faces.sample_params(
        rng,
        _LABELS[i % len(_LABELS)],  # as many of each
        _identity(config.seed, person),
        difficulty=config.difficulty,
        occlusion=config.occlusion,
      )
      image = rendered_faces.render_face(params, config.size)
      if config.channels == 1:
        image = rendered_faces.to_grey(image)
      self.progress(1)
      view = params.view
      yield (
        i,
        {
          'image': encode_png(image),
          'label': params.label,
          'identity': person,
          'intensity': params.intensity,
          'pose': np.array([view.yaw, view.pitch, view.roll], np.float32),
          'occluder': view.occluder,
        },
      )

  def _generate_scenes(
    self, split: str
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    config = self.builder_config
    people = [
      _identity(config.seed, k) for k in identity_numbers(config, split)
    ]
    height, width = config.size * 3 // 4, config.size
    for i in range(getattr(config, split)):
      rng = np.random.default_rng(
        [config.seed, _PICTURE, _SPLITS.index(split), i]
      )
      # Mostly one face near the camera, the use the detectors are built for.
      count = int(rng.choice(MAX_FACES + 1, p=(0.1, 0.45, 0.2, 0.15, 0.1)))
      image, boxes, labels = rendered_faces.render_scene(
        rng,
        (height, width),
        count,
        identities=people,
        difficulty=config.difficulty,
        occlusion=config.occlusion,
      )
      self.progress(1)
      x0, y0, x1, y1 = (
        boxes / np.array([width, height, width, height], np.float32)
      ).T
      yield (
        i,
        {
          'image': encode_png(image),
          'faces': [
            {
              'bbox': tfds.features.BBox(
                ymin=float(y0[k]),
                xmin=float(x0[k]),
                ymax=float(y1[k]),
                xmax=float(x1[k]),
              ),
              'label': int(labels[k]),
            }
            for k in range(count)
          ],
        },
      )
