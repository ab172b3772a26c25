"""The readers of the FER-2013 and FER+ files, on good and bad ones."""

from __future__ import annotations

import hashlib
import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from fer_jax.data.arrays import DataError
from fer_jax.data.builders.fer2013 import csv_files
from tests.data import layouts


@pytest.fixture(scope='module')
def data():
  return layouts.fer2013((5, 3, 3), shuffled=True)


# A short list repeated: two thousand free numbers are too many to shrink.
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_pixels_round_trip(values):
  values = (values * 2304)[:2304]
  text = ' '.join(map(str, values)).encode()
  assert csv_files.parse_pixels(text).tolist() == values


def test_pixels_all_widths_at_both_ends():
  for first in (b'0', b'17', b'255'):
    for last in (b'9', b'10', b'100'):
      text = b' '.join([first, *[b'1'] * 2302, last])
      pixels = csv_files.parse_pixels(text)
      assert (pixels[0], pixels[-1]) == (int(first), int(last))
      assert (pixels[1:-1] == 1).all()


@pytest.mark.parametrize(
  ('text', 'problem'),
  [
    (b'', '0 pixels instead of 2304'),
    (b'1 ' * 2303, '2303 pixels'),
    (b'1 ' * 2305, '2305 pixels'),
    (b'1 ' * 2303 + b'256', '256 above 255'),
    (b'1 ' * 2303 + b'1000', 'not a number'),
    (b'1 ' * 2303 + b'-1', 'not a number'),
    (b'1 ' * 2303 + b'1.5', 'not a number'),
    (b'1 ' * 2303 + b'x', 'not a number'),
    (b'1 ' * 2302 + b' 1', 'not a number'),
    (b'\xb2 ' * 2303 + b'1', 'not a number'),
  ],
)
def test_bad_pixels(text, problem):
  with pytest.raises(ValueError, match=problem):
    csv_files.parse_pixels(text)


@pytest.mark.parametrize('name', ['fer2013.csv', 'fer2013.csv.xz'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_reads_plain_and_xz(tmp_path, data, name, end):
  layouts.write_lines(tmp_path / name, layouts.csv_lines(data), end)
  path = csv_files.find(tmp_path, 'fer2013.csv')
  assert path == tmp_path / name
  rows = []
  table = csv_files.read_csv(path, verify_md5=False, progress=rows.append)
  np.testing.assert_array_equal(table.images, data.images)
  np.testing.assert_array_equal(table.labels, data.labels)
  assert table.usages == data.usages.tolist()
  assert sum(rows) == len(data.labels)


def test_last_line_without_newline(tmp_path, data):
  path = tmp_path / 'fer2013.csv'
  path.write_text('\n'.join(layouts.csv_lines(data)))
  table = csv_files.read_csv(path, verify_md5=False)
  np.testing.assert_array_equal(table.images, data.images)


def test_find_nothing(tmp_path):
  assert csv_files.find(tmp_path, 'fer2013.csv') is None


def test_other_md5_names_expected_and_where(tmp_path, data):
  path = layouts.write_lines(tmp_path / 'fer2013.csv', layouts.csv_lines(data))
  with pytest.raises(DataError) as e:
    csv_files.read_csv(path)
  message = str(e.value)
  assert '\n' not in message
  assert csv_files.MD5 in message
  assert hashlib.md5(path.read_bytes()).hexdigest() in message
  assert 'Challenges in Representation Learning' in message
  assert '--noverify' in message


def test_md5_of_the_unpacked_file_is_accepted(tmp_path, data, monkeypatch):
  path = layouts.write_lines(
    tmp_path / 'fer2013.csv.xz', layouts.csv_lines(data)
  )
  unpacked = lzma.decompress(path.read_bytes())
  monkeypatch.setattr(csv_files, 'MD5', hashlib.md5(unpacked).hexdigest())
  assert len(csv_files.read_csv(path).labels) == len(data.labels)


def test_stops_at_a_decompression_bomb(tmp_path, data, monkeypatch):
  path = layouts.write_lines(
    tmp_path / 'fer2013.csv.xz', layouts.csv_lines(data)
  )
  monkeypatch.setattr(csv_files, 'UNPACKED_BYTES', 10_000)
  with pytest.raises(DataError, match='more than 10000 bytes'):
    csv_files.read_csv(path)


def _change(lines, row, new):
  """`lines` with the 1-based data row replaced; line 0 is the header."""
  return [*lines[:row], new, *lines[row + 1 :]]


@pytest.mark.parametrize(
  ('bad', 'problem'),
  [
    (lambda line: line[:4000], 'row 4: 2 fields instead of 3'),
    (lambda line: line.replace(' ', ' 7 ', 1), 'row 4: 2305 pixels'),
    (lambda line: '7' + line[1:], "row 4: label '7' is not 0..6"),
    (lambda line: 'x' + line[1:], "row 4: label 'x'"),
    (lambda line: '' + line[1:], "row 4: label ''"),
    (lambda line: line.rsplit(',', 1)[0] + ',Test', "row 4: usage 'Test'"),
    (lambda line: line.replace(' ', ' 300 ', 1), 'row 4: 2305 pixels'),
    (lambda line: line + ' ' * 200_000, 'row 4: '),
  ],
)
def test_bad_row_is_named(tmp_path, data, bad, problem):
  lines = layouts.csv_lines(data)
  path = layouts.write_lines(
    tmp_path / 'fer2013.csv', _change(lines, 4, bad(lines[4]))
  )
  with pytest.raises(DataError) as e:
    csv_files.read_csv(path, verify_md5=False)
  assert problem in str(e.value)
  assert '\n' not in str(e.value)
  # With the md5 wanted, the message has both.
  with pytest.raises(DataError) as e:
    csv_files.read_csv(path)
  assert problem in str(e.value)
  assert csv_files.MD5 in str(e.value)


def test_other_header(tmp_path, data):
  lines = ['a,b,c', *layouts.csv_lines(data)[1:]]
  path = layouts.write_lines(tmp_path / 'fer2013.csv', lines)
  with pytest.raises(DataError, match='first line must be'):
    csv_files.read_csv(path, verify_md5=False)


@pytest.mark.parametrize('lines', [[], [layouts.CSV_HEADER]])
def test_empty(tmp_path, lines):
  path = layouts.write_lines(tmp_path / 'fer2013.csv', lines)
  with pytest.raises(DataError, match='no row of usage Training'):
    csv_files.read_csv(path, verify_md5=False)


def test_a_split_is_missing(tmp_path):
  data = layouts.fer2013((3, 2, 0))
  path = layouts.write_lines(tmp_path / 'fer2013.csv', layouts.csv_lines(data))
  with pytest.raises(DataError, match='no row of usage PrivateTest'):
    csv_files.read_csv(path, verify_md5=False)


@pytest.mark.parametrize('keep', [0.5, 0.0])
def test_damaged_xz(tmp_path, data, keep):
  path = layouts.write_lines(
    tmp_path / 'fer2013.csv.xz', layouts.csv_lines(data)
  )
  whole = path.read_bytes()
  path.write_bytes(whole[: int(keep * len(whole))] or b'not an archive')
  with pytest.raises(DataError, match=r'fer2013\.csv\.xz: the archive is dam'):
    csv_files.read_csv(path, verify_md5=False)


@pytest.mark.parametrize('name', ['fer2013new.csv', 'fer2013new.csv.xz'])
def test_votes_by_row_number(tmp_path, data, name):
  path = layouts.write_lines(tmp_path / name, layouts.votes_lines(data))
  votes = csv_files.read_votes(path, data.usages.tolist())
  np.testing.assert_array_equal(votes, data.votes)
  assert votes.dtype == np.uint8


def _swap(lines, data):
  i = 1 + int(np.flatnonzero(data.usages != data.usages[0])[0])
  return [lines[0], lines[i], *lines[2:i], lines[1], *lines[i + 1 :]]


@pytest.mark.parametrize(
  ('change', 'problem'),
  [
    (lambda ls, _: ls[:-1], 'has 10 rows, fer2013.csv 11'),
    (lambda ls, _: [*ls, ls[-1]], 'has more rows than the 11'),
    (lambda ls, _: ls[1:], 'first line must be'),
    (lambda ls, _: [], 'first line must be'),
    (lambda ls, _: _change(ls, 3, ls[3] + ',1'), 'row 3: 13 fields'),
    (lambda ls, _: _change(ls, 3, ls[3][:-1] + 'x'), 'row 3: votes'),
    (lambda ls, _: _change(ls, 3, ls[3] + '999'), 'row 3: votes'),
    (_swap, 'row 1: usage'),
  ],
)
def test_bad_votes(tmp_path, data, change, problem):
  path = layouts.write_lines(
    tmp_path / 'fer2013new.csv', change(layouts.votes_lines(data), data)
  )
  with pytest.raises(DataError) as e:
    csv_files.read_votes(path, data.usages.tolist())
  assert problem in str(e.value)


def test_votes_not_text(tmp_path, data):
  path = tmp_path / 'fer2013new.csv'
  path.write_bytes(b'\xff\xfe\x00')
  with pytest.raises(DataError, match='not a readable csv'):
    csv_files.read_votes(path, data.usages.tolist())
