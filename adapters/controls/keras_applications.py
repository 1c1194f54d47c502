"""keras.applications.ResNet50, which exists at one size and is version 1: the stride of a block is
in its first 1x1 convolution, convolutions have biases, and their padding is TensorFlow's "same"."""

from __future__ import annotations

import re

from adapters.base import Spec, require
from adapters.controls import keras_native
from adapters.controls.keras_native import keras
from adapters.convolutions import EPSILON, MOMENTUM

#: Pattern of the model's names -> what Keras calls that layer.
NAMES = [
    (r"head", "predictions"),
    (r"stem", "conv1_{kind}"),
    (r"stage(\d+)/block(\d+)/conv(\d+)", r"conv{\1}_block\2_\3_{kind}"),
    (r"stage(\d+)/block(\d+)/shortcut", r"conv{\1}_block\2_0_{kind}"),
]


class Adapter(keras_native.Adapter):
    def program(self, spec: Spec) -> Program:
        require(spec.model == "resnet50", "of keras.applications there is a ResNet50 only")
        return Program(spec)


class Program(keras_native.Program):
    def network(self) -> keras.Model:
        config = self._config
        same = (config.channels, config.depths) == (64, (3, 4, 6, 3))
        require(same, "keras.applications has ResNet-50 at its full size only")
        network = keras.applications.ResNet50(
            weights=None,
            input_shape=(config.side, config.side, 3),
            classes=config.classes,
            classifier_activation=None,
        )
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.epsilon, layer.momentum = EPSILON, 1 - MOMENTUM
        return network

    def has(self, path: str) -> bool:
        """Whether the model has a variable: a bias in front of a normalisation starts at 0."""
        return not path.endswith("_conv/bias")

    def paths(self, name: str) -> tuple[str, ...]:
        owner, _, leaf = name.rpartition("/")
        kind = "conv" if leaf == "w" else "bn"
        for pattern, template in NAMES:
            found = re.fullmatch(pattern, owner)
            if found is not None:
                # stages are numbered from 2 there
                layer = re.sub(r"\{(\d)\}", lambda n: str(int(n[1]) + 1), found.expand(template))
                return (f"{layer.format(kind=kind)}/{keras_native.LEAVES[leaf]}",)
        raise KeyError(name)
