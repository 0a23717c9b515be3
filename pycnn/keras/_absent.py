"""Names of Keras that are not here, and what is said to those who ask for them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from pycnn.keras._errors import did_you_mean

__all__ = ["ABSENT", "explain_missing_names"]

# By module of Keras 3. Whether the lists are true is tested beside Keras itself.
ABSENT: dict[str, frozenset[str]] = {
    "layers": frozenset(
        """
        ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
        AdaptiveMaxPooling3D AdditiveAttention AlphaDropout Attention AugMix AutoContrast
        AveragePooling1D AveragePooling3D AvgPool1D AvgPool3D Bidirectional CategoryEncoding
        CenterCrop ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose
        Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D
        Convolution1D Convolution1DTranspose Convolution2DTranspose Convolution3D
        Convolution3DTranspose Cropping1D Cropping2D Cropping3D CutMix DepthwiseConv1D
        DepthwiseConv2D Discretization Dot EinsumDense Embedding Equalization FlaxLayer GRU
        GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling3D
        GlobalAvgPool1D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool3D GlobalMaxPooling1D
        GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing Hashing
        IntegerLookup JaxLayer LSTM LSTMCell Lambda LayerNormalization Masking
        MaxNumBoundingBoxes MaxPool1D MaxPool3D MaxPooling1D MaxPooling3D MelSpectrogram
        MixUp MultiHeadAttention Normalization PReLU Pipeline RMSNormalization RNN
        RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
        RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
        RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
        RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomZoom RepeatVector Resizing ReversibleEmbedding
        STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D
        SeparableConvolution2D SimpleRNN SimpleRNNCell Solarization SpatialDropout1D
        SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup TFSMLayer
        TextVectorization TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D
        UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding3D dot
        """.split()
    ),
    "optimizers": frozenset(
        """
        Adadelta Adafactor Adagrad Adamax Ftrl Lamb Lion LossScaleOptimizer MultiOptimizer
        Muon Nadam RMSprop ScheduleFreeAdamW
        """.split()
    ),
    "losses": frozenset(
        """
        BinaryFocalCrossentropy CTC CategoricalFocalCrossentropy
        CategoricalGeneralizedCrossEntropy Circle Dice Tversky binary_focal_crossentropy
        categorical_focal_crossentropy categorical_generalized_cross_entropy circle ctc dice
        tversky
        """.split()
    ),
    "metrics": frozenset(
        """
        AUC BinaryIoU ConcordanceCorrelation F1Score FBetaScore IoU MeanIoU OneHotIoU
        OneHotMeanIoU PearsonCorrelation PrecisionAtRecall R2Score RecallAtPrecision
        SensitivityAtSpecificity SpecificityAtSensitivity binary_focal_crossentropy
        categorical_focal_crossentropy concordance_correlation pearson_correlation
        """.split()
    ),
    "callbacks": frozenset(
        """
        OrbaxCheckpoint RemoteMonitor SwapEMAWeights
        """.split()
    ),
    "activations": frozenset(
        """
        sparsemax
        """.split()
    ),
    "initializers": frozenset(
        """
        STFT STFTInitializer stft
        """.split()
    ),
    "regularizers": frozenset(
        """
        OrthogonalRegularizer orthogonal_regularizer
        """.split()
    ),
    "utils": frozenset(
        """
        FeatureSpace array_to_img audio_dataset_from_directory deserialize_keras_object
        get_file get_source_inputs image_dataset_from_directory img_to_array load_img
        model_to_dot pack_x_y_sample_weight pad_sequences plot_model save_img
        serialize_keras_object split_dataset text_dataset_from_directory
        timeseries_dataset_from_array unpack_x_y_sample_weight
        """.split()
    ),
    "": frozenset(
        """
        DTypePolicy FloatDTypePolicy Function Operation Quantizer RematScope StatelessScope
        SymbolicScope applications constraints device distillation distribution
        dtype_policies export mixed_precision name_scope preprocessing quantizers remat
        visualization wrappers
        """.split()
    ),
}


def explain_missing_names(module: ModuleType) -> None:
    """Let a module tell those who ask for a name it lacks whether Keras has it, or the nearest.

    What the module does itself about names it lacks comes first.
    """
    known = module.__name__.removeprefix("pycnn").removeprefix(".keras").lstrip(".")
    absent = ABSENT.get(known, frozenset())
    before: Callable[[str], Any] | None = getattr(module, "__getattr__", None)

    def missing(name: str) -> Any:
        if before is not None:
            try:
                return before(name)
            except AttributeError:
                pass
        text = f"module {module.__name__!r} has no attribute {name!r}"
        if name in absent:
            where = f"keras.{known}.{name}" if known else f"keras.{name}"
            raise AttributeError(f"{text}: {where} of Keras is not available in pycnn.")
        if name.startswith("_"):
            raise AttributeError(text)
        raise AttributeError(f"{text}.{did_you_mean(name, _public(module))}")

    module.__dict__["__getattr__"] = missing


def _public(module: ModuleType) -> list[str]:
    """The names a module offers, second spellings included, without what it imports from others."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and str(getattr(value, "__module__", value)).startswith(("pycnn", "<module 'pycnn"))
    ]
