"""Pictures: paths, folders and patterns in, upright RGB arrays out.

Every kind of picture ends as the same thing, uint8 RGB as a viewer would show
it: turned by its EXIF orientation, grey and CMYK converted, 16 bits reduced to
8, transparency laid on white. Memory is bounded: the header tells the size
before anything is decoded.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fer_jax.edge import headers

if TYPE_CHECKING:
  import numpy as np

__all__ = [
  'MAX_BYTES',
  'MAX_PIXELS',
  'MAX_REDUCED_PIXELS',
  'SUFFIXES',
  'Image',
  'ImageError',
  'expand',
  'read',
]

SUFFIXES = frozenset(
  {'.jpg', '.jpeg', '.jpe', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff'}
  | {'.pgm', '.ppm', '.pbm'}
)
# 64 million pixels decode to 192 MB (768 MB for the rare 16-bit RGBA), which a
# 1 GB board can just hold.
MAX_PIXELS = 64_000_000
# A baseline JPEG is decoded line by line at a half, a quarter or an eighth of
# its size, so many more pixels cost less memory than the limit above.
MAX_REDUCED_PIXELS = 400_000_000
MAX_BYTES = 256 * 1024 * 1024
# From here on a baseline JPEG is decoded at reduced size: no face needs more.
_REDUCE_FROM = 24_000_000


class ImageError(ValueError):
  """A picture cannot be read; the message is one line that says why."""


@dataclasses.dataclass(frozen=True)
class Image:
  """A decoded picture.

  Attributes:
    pixels: uint8 `[h, w, 3]`, RGB, upright. Smaller than `width` x `height`
      where a very large JPEG was decoded at reduced size.
    width: width of the upright picture in pixels of the file.
    height: its height.
  """

  pixels: np.ndarray
  width: int
  height: int


def expand(paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
  """Resolves files, folders and glob patterns to single files.

  A folder gives every picture in it and below it (by suffix, hidden ones left
  out), sorted by name. A path that does not exist is tried as a pattern.

  Yields:
    (path, None), or (path, error) for what gives no file at all.
  """
  for path in paths:
    if os.path.isdir(path):
      found = _folder(path)
      if not found:
        yield path, 'no pictures in this folder'
    elif os.path.lexists(path):
      found = [path]
    elif glob.has_magic(path):
      found = sorted(p for p in glob.glob(path) if os.path.isfile(p))
      if not found:
        yield path, 'no file matches this pattern'
    else:
      found = []
      yield path, 'no such file or folder'
    for item in found:
      yield item, None


def _folder(path: str) -> list[str]:
  found = []
  for folder, folders, files in os.walk(path):
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    found += [
      os.path.join(folder, file)
      for file in sorted(files)
      if not file.startswith('.')
      and pathlib.Path(file).suffix.lower() in SUFFIXES
    ]
  return found


def read(path: str | os.PathLike[str]) -> Image:
  """Reads one picture.

  Raises:
    ImageError: missing, unreadable, no picture, damaged, empty or too large.
  """
  try:
    # A pipe or a device could block for ever or never end.
    if not os.path.isfile(path):
      reason = 'not a file' if os.path.exists(path) else 'no such file'
      raise ImageError(reason)
    with open(path, 'rb') as file:
      size = os.fstat(file.fileno()).st_size
      if size == 0:
        raise ImageError('the file is empty (0 bytes)')
      if size > MAX_BYTES:
        raise ImageError(
          f'{size:,} bytes; files over {MAX_BYTES:,} are not read'
        )
      header = headers.read(file)
      reduction = _reduction(header)
      file.seek(0)
      data = file.read()
  except headers.HeaderError as error:
    raise ImageError(str(error)) from None
  except OSError as error:
    raise ImageError(error.strerror or str(error)) from None
  return _decode(data, header, reduction)


def _reduction(header: headers.Header) -> int:
  """1, 2, 4 or 8: by how much to shrink while decoding.

  Raises:
    ImageError: no pixels, or more than the limits allow.
  """
  width, height = header.width, header.height
  pixels = width * height
  if pixels == 0:
    raise ImageError(f'the picture is {width}x{height}: it has no pixels')
  streamed = header.format == 'jpeg' and not header.progressive
  limit = MAX_REDUCED_PIXELS if streamed else MAX_PIXELS
  if pixels > limit:
    raise ImageError(
      f'{width}x{height} is {pixels:,} pixels; more than {limit:,} are refused '
      '(make the picture smaller)'
    )
  reduction = 1
  while (
    streamed
    and reduction < 8
    and pixels > _REDUCE_FROM * reduction**2
    and min(width, height) >= 16 * reduction
  ):
    reduction *= 2
  return reduction


def _decode(data: bytes, header: headers.Header, reduction: int) -> Image:
  import cv2
  import numpy as np

  if reduction > 1:
    flags = getattr(cv2, f'IMREAD_REDUCED_COLOR_{reduction}')
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
  elif header.format in ('jpeg', 'gif'):
    # The decoder knows CMYK and palettes; these have no alpha worth keeping.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
  else:
    flags = cv2.IMREAD_UNCHANGED
  try:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
  except cv2.error:
    pixels = None
  if pixels is None or pixels.size == 0:
    raise ImageError(f'damaged or unsupported {header.format} data')
  pixels = _upright(_to_rgb(pixels), header.orientation)
  width, height = header.upright_size
  if header.format == 'tiff':  # already turned by the decoder
    height, width = pixels.shape[:2]
  return Image(pixels, width, height)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
  """BGR(A) or grey(+alpha) of any depth to uint8 RGB."""
  import cv2
  import numpy as np

  if pixels.dtype == np.uint16:
    pixels = (pixels >> 8).astype(np.uint8)
  elif pixels.dtype != np.uint8:
    raise ImageError(f'{pixels.dtype} pixels; only 8 and 16 bits are read')
  if pixels.ndim == 2 or pixels.shape[2] == 1:
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
  if pixels.shape[2] == 3:
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
  if pixels.shape[2] != 4:
    raise ImageError(f'{pixels.shape[2]} channels; 1, 3 or 4 are read')
  rgb = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
  alpha = pixels[..., 3:]
  if alpha.min() == 255:
    return rgb
  for top in range(0, len(rgb), 256):  # bands keep the 16-bit copies small
    band = np.s_[top : top + 256]
    part = alpha[band].astype(np.uint16)
    blended = rgb[band] * part + 255 * (255 - part)
    rgb[band] = (blended + 127) // 255
  return rgb


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Undoes EXIF orientation 1..8 (EXIF 2.3, tag 274)."""
  import numpy as np

  if orientation in (5, 6, 7, 8):
    pixels = pixels.transpose(1, 0, 2)
  # After the transposition: which axes are stored backwards.
  if orientation in (3, 4, 7, 8):
    pixels = pixels[::-1]
  if orientation in (2, 3, 6, 7):
    pixels = pixels[:, ::-1]
  return np.ascontiguousarray(pixels)
