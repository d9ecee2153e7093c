"""The network for faces of the package fer, as its own file describes it."""

from __future__ import annotations

import os


def build():
    import keras

    return keras.models.load_model(os.path.join(os.environ["CKPTAUDIT_REAL"], "fer_emotion_model.hdf5"), compile=False)  # noqa: PTH118
