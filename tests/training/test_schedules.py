"""Schedules against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fer_jax.training import schedules


def test_emotionnet_nano_drops_where_the_paper_says():
  steps = 7
  schedule = schedules.emotionnet_nano(steps)
  expected = {
    0: 1e-3, 80: 1e-3, 81: 1e-4, 120: 1e-4, 121: 1e-5, 160: 1e-5, 161: 1e-6,
    180: 1e-6, 181: 5e-7, 199: 5e-7,
  }  # fmt: skip
  for epoch, rate in expected.items():
    np.testing.assert_allclose(schedule(epoch * steps), rate, rtol=1e-5)
  # The last step of epoch 80 still has the first rate.
  np.testing.assert_allclose(schedule(81 * steps - 1), 1e-3, rtol=1e-5)


def test_cosine_closed_form():
  schedule = schedules.cosine(0.1, 110, 10, 0.01)
  np.testing.assert_allclose(schedule(0), 0, atol=1e-9)
  np.testing.assert_allclose(schedule(5), 0.05, rtol=1e-6)
  np.testing.assert_allclose(schedule(10), 0.1, rtol=1e-6)
  middle = 0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * 0.5)) / 2
  np.testing.assert_allclose(schedule(60), middle, rtol=1e-5)
  np.testing.assert_allclose(schedule(110), 0.001, rtol=1e-4)


def test_cosine_without_warmup_starts_at_the_rate():
  np.testing.assert_allclose(schedules.cosine(0.1, 10)(0), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'text'),
  [
    (lambda: schedules.cosine(1.0, 10, 10), 'warm-up of 10 steps'),
    (lambda: schedules.piecewise(1.0, (1, 2), (0.1,), 5), '2 epochs but 1'),
    (lambda: schedules.piecewise(1.0, (2, 2), (0.1, 0.2), 5), 'must increase'),
    (
      lambda: schedules.create('cosin', rate=1, epochs=1, steps_per_epoch=1),
      "unknown schedule 'cosin'; choose one of constant",
    ),
  ],
)
def test_misfits_are_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()
