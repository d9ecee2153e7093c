"""Make the files beside this script with real Keras and TensorFlow. Not run by the tests.

    python -m venv venv && venv/bin/pip install tensorflow==2.21.0 keras==3.15.1
    venv/bin/python tests/data/keras/make.py

``expected.json`` holds, for each file, what Keras or TensorFlow itself says is in it: names in its own order, shapes, and a digest of the
bytes of each value.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

HERE = Path(__file__).parent
EXPECTED: dict[str, object] = {}


def small() -> keras.Model:
    given = layers.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="stem")(given)
    x = layers.BatchNormalization()(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.BatchNormalization(scale=False, epsilon=1e-5)(y)
    x = layers.Add()([x, y])
    x = keras.Sequential([layers.Input((4, 4, 3)), layers.Conv2D(2, 1), layers.PReLU()], name="tail")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.1)(x)
    return keras.Model(given, layers.Dense(2, activation="softmax", name="head")(x))


def sequence() -> keras.Model:
    given = layers.Input((3,), dtype="int32")
    x = layers.Embedding(5, 4)(given)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(x)
    x = layers.MultiHeadAttention(1, 2)(x, x)
    x = layers.TimeDistributed(layers.Dense(2))(x)
    return keras.Model(given, x)


def digest(value) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]


def told(weights) -> list[list[object]]:
    return [[w.path, list(w.shape), digest(w.numpy())] for w in weights]


def random_values(model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.weights])


def keras_files() -> None:
    for name, make in (("small", small), ("sequence", sequence)):
        keras.backend.clear_session()
        make()  # so that names made up by Keras do not begin at 0
        model = make()
        random_values(model)
        model.save_weights(HERE / f"{name}.weights.h5")
        EXPECTED[f"{name}.weights.h5"] = told(model.weights)
        if name == "small":
            model.compile(keras.optimizers.SGD(momentum=0.9), "categorical_crossentropy")
            model.train_on_batch(np.ones((1, 4, 4, 2)), np.ones((1, 2)) / 2)
        model.save(HERE / f"{name}.keras")
        EXPECTED[f"{name}.keras"] = told(model.weights)
        if name == "small":
            model.save(HERE / "small_full.h5")
            EXPECTED["small_full.h5"] = told(model.weights)
            shutil.rmtree(HERE / "tf2", ignore_errors=True)
            tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(HERE / "tf2" / "ckpt")
            EXPECTED["tf2"] = told(model.weights)


def tf1_files() -> None:
    v1 = tf.compat.v1
    shutil.rmtree(HERE / "tf1", ignore_errors=True)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        with v1.variable_scope("conv"):
            weights = v1.get_variable("weights", (3, 3, 1, 2))
            bias = v1.get_variable("biases", (2,))
        with v1.variable_scope("conv_10"):
            v1.get_variable("weights", (1, 1, 2, 2), trainable=False)
        with v1.variable_scope("conv_2/BatchNorm"):
            v1.get_variable("moving_mean", (2,), trainable=False)
            v1.get_variable("gamma", (2,), dtype=tf.float64, initializer=v1.ones_initializer(), trainable=False)
        with v1.variable_scope("big", partitioner=v1.fixed_size_partitioner(3)):
            v1.get_variable("table", (200, 2), trainable=False)
        step = v1.train.get_or_create_global_step()
        loss = v1.reduce_sum(weights) + v1.reduce_sum(bias)
        train = v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=step)
        averages = tf.train.ExponentialMovingAverage(0.9).apply([weights, bias])
        session.run(v1.global_variables_initializer())
        session.run([train, averages])
        v1.train.Saver().save(session, str(HERE / "tf1" / "model.ckpt"), global_step=step, write_meta_graph=False)
    reader = tf.train.load_checkpoint(str(HERE / "tf1"))
    EXPECTED["tf1"] = sorted([name, shape, digest(reader.get_tensor(name))] for name, shape in reader.get_variable_to_shape_map().items())


if __name__ == "__main__":
    keras_files()
    tf1_files()
    (HERE / "expected.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")
