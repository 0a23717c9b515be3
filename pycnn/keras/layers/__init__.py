"""Layers, with Keras's names, arguments and behaviour."""

from pycnn.keras._registry import deserialize_layer as deserialize
from pycnn.keras._registry import serialize_layer as serialize
from pycnn.keras.layers.activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.convolutional import Conv2D
from pycnn.keras.layers.core import Identity, Rescaling
from pycnn.keras.layers.dense import Dense
from pycnn.keras.layers.input_layer import Input, InputLayer
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.layers.merging import (
    Add,
    Average,
    Concatenate,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    maximum,
    minimum,
    multiply,
    subtract,
)
from pycnn.keras.layers.normalization import BatchNormalization
from pycnn.keras.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from pycnn.keras.layers.regularization import Dropout, SpatialDropout2D
from pycnn.keras.layers.reshaping import Flatten, Permute, Reshape, ZeroPadding2D

Convolution2D = Conv2D
MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "Average",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Convolution2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "Multiply",
    "Permute",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "SpatialDropout2D",
    "Subtract",
    "ZeroPadding2D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]
