"""Tests of fer_jax.edge.sources and headers."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax.edge import headers
from fer_jax.edge import sources

WIDTH, HEIGHT = 96, 64


def quarters() -> np.ndarray:
  """RGB: red, green over blue, white; no turn or flip leaves it the same."""
  image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
  image[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
  image[: HEIGHT // 2, WIDTH // 2 :] = (0, 255, 0)
  image[HEIGHT // 2 :, : WIDTH // 2] = (0, 0, 255)
  return image


def write(path, image):
  """Writes RGB(A) or grey with OpenCV."""
  if image.ndim == 3:
    order = [2, 1, 0, 3] if image.shape[2] == 4 else [2, 1, 0]
    image = np.ascontiguousarray(image[..., order])
  assert cv2.imwrite(str(path), image)
  return path


def with_orientation(jpeg: bytes, value: int, order: str = '>') -> bytes:
  """Puts an EXIF segment with an orientation into a JPEG."""
  mark = b'MM' if order == '>' else b'II'
  tiff = mark + struct.pack(order + 'HI', 42, 8)
  tiff += struct.pack(order + 'HHHIHHI', 1, 274, 3, 1, value, 0, 0)
  body = b'Exif\0\0' + tiff
  segment = b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body
  return jpeg[:2] + segment + jpeg[2:]


def corners(pixels):
  """Names of the colours in the corners, row by row."""
  names = {
    (True, False, False): 'red',
    (False, True, False): 'green',
    (False, False, True): 'blue',
    (True, True, True): 'white',
  }
  return [
    names[tuple((pixels[y, x] > 128).tolist())]
    for y in (4, -4)
    for x in (4, -4)
  ]


def png_header(width, height, tail=b''):
  body = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  crc = struct.pack('>I', zlib.crc32(body))
  return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + body + crc + tail


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'webp', 'tiff', 'ppm', 'jpg'])
def test_formats(tmp_path, suffix):
  path = write(tmp_path / f'a.{suffix}', quarters())
  image = sources.read(path)
  assert (image.width, image.height) == (WIDTH, HEIGHT)
  assert image.pixels.shape == (HEIGHT, WIDTH, 3)
  assert image.pixels.dtype == np.uint8
  assert image.pixels.flags.c_contiguous
  assert corners(image.pixels) == ['red', 'green', 'blue', 'white']
  if suffix in ('png', 'bmp', 'tiff', 'ppm'):
    np.testing.assert_array_equal(image.pixels, quarters())


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize(
  ('orientation', 'size', 'want'),
  # The stored picture is red green / blue white. Orientation 6, for instance,
  # says that the first stored row is the right edge of the upright picture.
  [
    (1, (96, 64), ['red', 'green', 'blue', 'white']),
    (2, (96, 64), ['green', 'red', 'white', 'blue']),
    (3, (96, 64), ['white', 'blue', 'green', 'red']),
    (4, (96, 64), ['blue', 'white', 'red', 'green']),
    (5, (64, 96), ['red', 'blue', 'green', 'white']),
    (6, (64, 96), ['blue', 'red', 'white', 'green']),
    (7, (64, 96), ['white', 'green', 'blue', 'red']),
    (8, (64, 96), ['green', 'white', 'red', 'blue']),
    (9, (96, 64), ['red', 'green', 'blue', 'white']),
  ],
)
def test_exif_orientation(tmp_path, orientation, size, want, order):
  path = write(tmp_path / 'a.jpg', quarters())
  path.write_bytes(with_orientation(path.read_bytes(), orientation, order))
  image = sources.read(path)
  assert (image.width, image.height) == size
  assert image.pixels.shape[1::-1] == size
  assert corners(image.pixels) == want


@pytest.mark.parametrize('suffix', ['png', 'webp', 'tiff'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_elsewhere(tmp_path, suffix, orientation):
  pil = pytest.importorskip('PIL.Image')
  ops = pytest.importorskip('PIL.ImageOps')
  exif = pil.Exif()
  exif[274] = orientation
  path = tmp_path / f'a.{suffix}'
  options = {'lossless': True} if suffix == 'webp' else {}
  pil.fromarray(quarters()).save(path, exif=exif, **options)
  with pil.open(path) as picture:
    want = np.asarray(ops.exif_transpose(picture).convert('RGB'))
  image = sources.read(path)
  np.testing.assert_array_equal(image.pixels, want)
  assert (image.width, image.height) == want.shape[1::-1]


def test_broken_exif_does_not_cost_the_picture(tmp_path):
  path = write(tmp_path / 'a.jpg', quarters())
  data = path.read_bytes()
  for body in (b'Exif\0\0', b'Exif\0\0MM', b'Exif\0\0MM\0*\0\0\xff\xff'):
    segment = b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body
    path.write_bytes(data[:2] + segment + data[2:])
    assert corners(sources.read(path).pixels)[0] == 'red'


def test_grey_and_16_bit(tmp_path):
  grey = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8)
  grey = grey.reshape(HEIGHT, WIDTH)
  image = sources.read(write(tmp_path / 'grey.png', grey))
  np.testing.assert_array_equal(image.pixels, np.stack([grey] * 3, -1))
  deep = grey.astype(np.uint16) * 257
  image = sources.read(write(tmp_path / 'deep.png', deep))
  np.testing.assert_array_equal(image.pixels, np.stack([grey] * 3, -1))
  deep = quarters().astype(np.uint16) * 257
  image = sources.read(write(tmp_path / 'colour.png', deep))
  np.testing.assert_array_equal(image.pixels, quarters())
  jpeg = sources.read(write(tmp_path / 'grey.jpg', grey))
  assert jpeg.pixels.shape == (HEIGHT, WIDTH, 3)


def test_transparency_is_laid_on_white(tmp_path):
  rgba = np.dstack([quarters(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
  rgba[:, :10, 3] = 0
  rgba[:, 10:20, 3] = 128
  pixels = sources.read(write(tmp_path / 'a.png', rgba)).pixels
  assert (pixels[:, :10] == 255).all()
  assert pixels[5, 15].tolist() == [255, 127, 127]
  np.testing.assert_array_equal(pixels[:, 20:], quarters()[:, 20:])


def test_cmyk_jpeg(tmp_path):
  pil = pytest.importorskip('PIL.Image')
  path = tmp_path / 'a.jpg'
  pil.fromarray(quarters()).convert('CMYK').save(path, quality=95)
  image = sources.read(path)
  assert image.pixels.shape == (HEIGHT, WIDTH, 3)
  assert corners(image.pixels) == ['red', 'green', 'blue', 'white']


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'', r'empty \(0 bytes\)'),
    (b'this is a text\n' * 9, 'not a picture in a known format'),
    (b'P', 'not a picture in a known format'),
    (png_header(0, 0), '0x0: it has no pixels'),
    (png_header(0, 7), '0x7: it has no pixels'),
    (png_header(50, 50), 'damaged or unsupported png data'),
    (png_header(50, 50)[:20], 'ends inside its header'),
    (b'\xff\xd8\xff', 'ends inside its header'),
    (b'\xff\xd8\xff\xd9\xff\xd9', 'without a frame header'),
    (b'GIF89a\1', 'ends inside its header'),
    (b'RIFF\0\0\0\0WEBPnone' + bytes(20), 'WebP of an unknown kind'),
    (b'II*\0\xff\xff\xff\xff', 'ends inside its header'),
    (b'P6\nwide high\n255\n', 'PNM without a size'),
  ],
)
def test_bad_files(tmp_path, data, reason):
  path = tmp_path / 'a.png'
  path.write_bytes(data)
  with pytest.raises(sources.ImageError, match=reason) as caught:
    sources.read(path)
  assert '\n' not in str(caught.value)


def test_missing_folder_pipe(tmp_path):
  with pytest.raises(sources.ImageError, match='no such file'):
    sources.read(tmp_path / 'none.png')
  with pytest.raises(sources.ImageError, match='not a file'):
    sources.read(tmp_path)
  os.mkfifo(tmp_path / 'pipe.png')
  with pytest.raises(sources.ImageError, match='not a file'):
    sources.read(tmp_path / 'pipe.png')


@pytest.mark.parametrize(
  ('width', 'height'), [(30_000, 30_000), (2**31 - 1, 2**31 - 1)]
)
def test_bombs_are_refused_by_their_header(tmp_path, width, height):
  path = tmp_path / 'bomb.png'
  path.write_bytes(png_header(width, height))
  with pytest.raises(sources.ImageError, match='pixels; more than') as caught:
    sources.read(path)
  assert f'{width}x{height}' in str(caught.value)


def test_large_progressive_jpeg_is_refused():
  frame = struct.pack('>HBHHB', 11, 8, 20_000, 15_000, 1) + b'\1\x11\0'
  for code, progressive in ((0xC0, False), (0xC2, True)):
    data = b'\xff\xd8\xff' + bytes([code]) + frame
    header = headers.read(io.BytesIO(data))
    assert (header.width, header.height) == (15_000, 20_000)
    assert header.progressive is progressive
    if progressive:
      with pytest.raises(sources.ImageError, match='more than 64,000,000'):
        sources._reduction(header)
    else:
      assert sources._reduction(header) == 4


def test_30000_pixels_wide(tmp_path):
  wide = np.zeros((100, 30_000, 3), np.uint8)
  wide[:, -3_000:] = (255, 0, 0)
  image = sources.read(write(tmp_path / 'wide.png', wide))
  assert (image.width, image.height) == (30_000, 100)
  np.testing.assert_array_equal(image.pixels, wide)


def test_large_jpeg_is_decoded_smaller(tmp_path):
  wide = np.zeros((1_000, 30_000, 3), np.uint8)
  wide[:, 15_000:] = (255, 0, 0)
  path = write(tmp_path / 'wide.jpg', wide)
  path.write_bytes(with_orientation(path.read_bytes(), 3))
  image = sources.read(path)
  assert (image.width, image.height) == (30_000, 1_000)
  assert image.pixels.shape == (500, 15_000, 3)
  assert image.pixels[100, 100].tolist() == [254, 0, 0]
  assert image.pixels[100, -100].tolist() == [0, 0, 0]


def test_truncated_data(tmp_path):
  path = write(tmp_path / 'a.png', quarters())
  path.write_bytes(path.read_bytes()[:60])
  with pytest.raises(sources.ImageError, match='damaged or unsupported png'):
    sources.read(path)


@settings(max_examples=300, deadline=None)
@given(
  start=st.sampled_from(
    b'\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF89a|BM|RIFF\0\0\0\0WEBPVP8X|'
    b'RIFF\0\0\0\0WEBPVP8L|RIFF\0\0\0\0WEBPVP8 |II*\0|P6 |'.split(b'|')
  ),
  tail=st.binary(max_size=200),
)
def test_any_bytes_give_a_header_or_its_error(start, tail):
  with contextlib.suppress(headers.HeaderError):
    header = headers.read(io.BytesIO(start + tail))
    assert header.width >= 0
    assert header.height >= 0
    assert 1 <= header.orientation <= 8


def test_expand(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('d/b.PNG', 'd/a.jpg', 'd/e/c.png', 'd/x.txt', 'd/.h/z.png'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b'')
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'odd[1].png').write_bytes(b'')
  found = sources.expand(['d', 'd/*.jpg', 'odd[1].png', 'd/x.txt'])
  assert list(found) == [
    ('d/a.jpg', None),
    ('d/b.PNG', None),
    ('d/e/c.png', None),
    ('d/a.jpg', None),
    ('odd[1].png', None),
    ('d/x.txt', None),
  ]
  assert list(sources.expand(['empty', 'none', 'd/*.gif'])) == [
    ('empty', 'no pictures in this folder'),
    ('none', 'no such file or folder'),
    ('d/*.gif', 'no file matches this pattern'),
  ]
