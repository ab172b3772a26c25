"""Reads the size and orientation of a picture from its first bytes.

A file of a few kilobytes can announce a picture of billions of pixels, so the
size is looked up here, without decoding, before any memory is asked for.
The orientation is read here too, because decoders differ in which formats they
turn upright.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import BinaryIO

__all__ = ['Header', 'HeaderError', 'read']

# EXIF and TIFF tags.
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
# A directory with more entries is no camera's work.
_MAX_ENTRIES = 4096
_MAX_SEGMENTS = 4096


class HeaderError(ValueError):
  """The bytes are not a picture of a known format, or end too early."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What a picture file says about itself.

  Attributes:
    format: 'jpeg', 'png', 'gif', 'bmp', 'webp', 'tiff' or 'pnm'.
    width: pixels in a stored row.
    height: stored rows.
    orientation: EXIF orientation 1..8; 1 is upright.
    progressive: a progressive JPEG, whose decoder holds the whole picture.
  """

  format: str
  width: int
  height: int
  orientation: int = 1
  progressive: bool = False

  @property
  def upright_size(self) -> tuple[int, int]:
    """(width, height) after the orientation is applied."""
    if self.orientation >= 5:
      return self.height, self.width
    return self.width, self.height


def read(file: BinaryIO) -> Header:
  """Header of the picture in a seekable binary file.

  Raises:
    HeaderError: unknown format, or the file ends inside its header.
  """
  file.seek(0)
  start = file.read(32)
  for matches, parse in _FORMATS:
    if matches(start):
      file.seek(0)
      try:
        return parse(file)
      except (struct.error, IndexError, OverflowError):
        raise HeaderError('the file ends inside its header') from None
  raise HeaderError(
    'not a picture in a known format (jpeg, png, webp, bmp, gif, tiff, pnm)'
  )


def _exactly(file: BinaryIO, size: int) -> bytes:
  data = file.read(size)
  if len(data) != size:
    raise HeaderError('the file ends inside its header')
  return data


def _jpeg(file: BinaryIO) -> Header:
  file.seek(2)
  orientation = 1
  for _ in range(_MAX_SEGMENTS):
    marker = _exactly(file, 2)
    while marker[0] == 0xFF and marker[1] == 0xFF:  # fill bytes
      marker = b'\xff' + _exactly(file, 1)
    if marker[0] != 0xFF:
      break
    code = marker[1]
    if code == 0x01 or 0xD0 <= code <= 0xD8:  # markers without a length
      continue
    if code in (0xD9, 0xDA):  # the data begin and no frame was announced
      break
    (length,) = struct.unpack('>H', _exactly(file, 2))
    if length < 2:
      break
    if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
      _, height, width = struct.unpack('>BHH', _exactly(file, 5))
      progressive = code in (0xC2, 0xC6, 0xCA, 0xCE)
      return Header('jpeg', width, height, orientation, progressive)
    body_end = file.tell() + length - 2
    if code == 0xE1 and length > 8 and _exactly(file, 6) == b'Exif\0\0':
      orientation = _exif_orientation(_exactly(file, length - 8))
    file.seek(body_end)
  raise HeaderError('a JPEG without a frame header')


def _png(file: BinaryIO) -> Header:
  data = _exactly(file, 24)
  if data[12:16] != b'IHDR':
    raise HeaderError('a PNG without IHDR')
  width, height = struct.unpack('>II', data[16:24])
  file.seek(33)
  orientation = 1
  for _ in range(_MAX_SEGMENTS):
    chunk = file.read(8)
    if len(chunk) < 8 or chunk[4:] in (b'IEND', b'IDAT'):
      break
    (length,) = struct.unpack('>I', chunk[:4])
    if chunk[4:] == b'eXIf' and length <= 1 << 20:
      orientation = _exif_orientation(_exactly(file, length))
      break
    file.seek(length + 4, 1)
  return Header('png', width, height, orientation)


def _gif(file: BinaryIO) -> Header:
  width, height = struct.unpack('<HH', _exactly(file, 10)[6:])
  return Header('gif', width, height)


def _bmp(file: BinaryIO) -> Header:
  data = _exactly(file, 26)
  (size,) = struct.unpack('<I', data[14:18])
  if size == 12:
    width, height = struct.unpack('<HH', data[18:22])
  else:
    width, height = struct.unpack('<ii', data[18:26])
  # A negative height says that the rows run from top to bottom.
  return Header('bmp', max(width, 0), abs(height))


def _webp(file: BinaryIO) -> Header:
  data = _exactly(file, 30)
  kind = data[12:16]
  if kind == b'VP8 ':
    width, height = struct.unpack('<HH', data[26:30])
    return Header('webp', width & 0x3FFF, height & 0x3FFF)
  if kind == b'VP8L':
    (bits,) = struct.unpack('<I', data[21:25])
    return Header('webp', (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
  if kind != b'VP8X':
    raise HeaderError('a WebP of an unknown kind')
  width = int.from_bytes(data[24:27], 'little') + 1
  height = int.from_bytes(data[27:30], 'little') + 1
  orientation = 1
  if data[20] & 0x08:  # an EXIF chunk follows the picture
    file.seek(30)
    for _ in range(_MAX_SEGMENTS):
      chunk = file.read(8)
      if len(chunk) < 8:
        break
      (length,) = struct.unpack('<I', chunk[4:])
      if chunk[:4] == b'EXIF' and length <= 1 << 20:
        exif = _exactly(file, length)
        orientation = _exif_orientation(exif.removeprefix(b'Exif\0\0'))
        break
      file.seek(length + (length & 1), 1)
  return Header('webp', width, height, orientation)


def _tiff(file: BinaryIO) -> Header:
  tags = _tiff_tags(file.read(8), file)
  if _WIDTH not in tags or _HEIGHT not in tags:
    raise HeaderError('a TIFF without a size')
  # OpenCV turns TIFF files upright itself, by libtiff.
  return Header('tiff', tags[_WIDTH], tags[_HEIGHT])


def _pnm(file: BinaryIO) -> Header:
  text = file.read(1024)[2:]
  lines = [line.split(b'#')[0] for line in text.splitlines()]
  numbers = b' '.join(lines).split()[:2]
  if len(numbers) < 2 or not all(n.isdigit() for n in numbers):
    raise HeaderError('a PNM without a size')
  return Header('pnm', int(numbers[0]), int(numbers[1]))


def _exif_orientation(data: bytes) -> int:
  """Orientation in a block of EXIF; 1 where it is missing or damaged.

  Cameras and editors write broken EXIF often enough that it must not cost the
  picture.
  """
  try:
    value = _tiff_tags(data[:8], io.BytesIO(data)).get(_ORIENTATION, 1)
  except (HeaderError, struct.error):
    return 1
  return value if 1 <= value <= 8 else 1


def _tiff_tags(start: bytes, file: BinaryIO) -> dict[int, int]:
  """Integer tags of the first directory of a TIFF structure."""
  order = {b'II': '<', b'MM': '>'}.get(start[:2])
  if order is None:
    raise HeaderError('a TIFF without a byte order')
  magic, offset = struct.unpack(order + 'HI', start[2:8])
  if magic != 42:
    raise HeaderError('a TIFF of an unknown kind')
  file.seek(offset)
  (count,) = struct.unpack(order + 'H', _exactly(file, 2))
  tags = {}
  for _ in range(min(count, _MAX_ENTRIES)):
    tag, kind, number, value = struct.unpack(
      order + 'HHI4s', _exactly(file, 12)
    )
    if number == 1 and kind in (3, 4):  # SHORT, LONG
      code = 'H' if kind == 3 else 'I'
      (tags[tag],) = struct.unpack_from(order + code, value)
  return tags


_FORMATS = (
  (lambda b: b[:3] == b'\xff\xd8\xff', _jpeg),
  (lambda b: b[:8] == b'\x89PNG\r\n\x1a\n', _png),
  (lambda b: b[:6] in (b'GIF87a', b'GIF89a'), _gif),
  (lambda b: b[:2] == b'BM', _bmp),
  (lambda b: b[:4] == b'RIFF' and b[8:12] == b'WEBP', _webp),
  (lambda b: b[:4] in (b'II*\0', b'MM\0*'), _tiff),
  (lambda b: b[:1] == b'P' and b[1:2] in b'123456' and b[2:3].isspace(), _pnm),
)
