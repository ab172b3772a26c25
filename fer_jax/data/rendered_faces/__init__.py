"""Procedurally drawn faces: no download, no licence, exact ground truth.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> params = sample_params(rng, 'happy')
>>> render_face(params, 64).shape
(64, 64, 3)
"""

from fer_jax.data.rendered_faces.parameters import EXPRESSIONS
from fer_jax.data.rendered_faces.parameters import HAIR
from fer_jax.data.rendered_faces.parameters import OCCLUDERS
from fer_jax.data.rendered_faces.parameters import ActionUnits
from fer_jax.data.rendered_faces.parameters import FaceParams
from fer_jax.data.rendered_faces.parameters import Identity
from fer_jax.data.rendered_faces.parameters import View
from fer_jax.data.rendered_faces.parameters import sample_identity
from fer_jax.data.rendered_faces.parameters import sample_params
from fer_jax.data.rendered_faces.parameters import sample_view
from fer_jax.data.rendered_faces.parameters import with_intensity
from fer_jax.data.rendered_faces.pictures import render_face
from fer_jax.data.rendered_faces.pictures import render_scene
from fer_jax.data.rendered_faces.pictures import render_sequence
from fer_jax.data.rendered_faces.pictures import to_grey

__all__ = [
  'EXPRESSIONS',
  'HAIR',
  'OCCLUDERS',
  'ActionUnits',
  'FaceParams',
  'Identity',
  'View',
  'render_face',
  'render_scene',
  'render_sequence',
  'sample_identity',
  'sample_params',
  'sample_view',
  'to_grey',
  'with_intensity',
]
