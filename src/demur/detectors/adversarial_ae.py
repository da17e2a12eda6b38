"""AdversarialAE: does the classifier still say the same once an autoencoder has redrawn the input?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np
from keras import ops

from demur.backends import probe
from demur.backends.divergence import Tensor, log_softmax, sharpen
from demur.checks import check_whole, is_number
from demur.classifiers.keras_model import KerasClassifier, graph_of, known_layout
from demur.classifiers.torch_module import is_module
from demur.detectors.base import Detector
from demur.errors import InvalidSetting, ShapeMismatch, WrongType
from demur.network import nets
from demur.network.companion import ready_shape, structure_of
from demur.network.gradient_path import ROWS, check_gradient_path, check_takes_floats, made_up
from demur.network.graph import Half, Opinion, compiled
from demur.network.pair import OnInvalid
from demur.network.passes import joined, over_batches
from demur.rows.layout import (
    Field,
    Layout,
    compatible,
    describe,
    describe_layout,
    fits_either,
    flat,
    mapped,
)
from demur.rows.rows import Rows


class AdversarialAE(Detector):
    """Flags inputs on whose reconstruction the classifier predicts something else, and corrects them.

    An autoencoder is trained, on normal data only, so that the classifier `M` predicts the same on `x` and on its
    reconstruction `x' = AE(x)`. The score is how far the two are apart, `KL(M(x)^(1/T) || M(x'))` as published or both
    ways, plus the same of hidden layers if asked for, joined with the classifier's own uncertainty; the
    prediction on `x'` replaces the one on `x` where the score lies above the threshold. The method is that of Vacanti &
    Van Looveren, 2020 (arXiv:2002.09364), whose score `score_type="kld"` gives.

    Examples:
        >>> detector = AdversarialAE(model=classifier)
        >>> detector.fit(X_train, epochs=1, verbose=False).infer_threshold(X_held_out, fpr=0.05)
        <AdversarialAE on 'digits', inputs (8, 8, 1), threshold ...>
        >>> detector.correct(X_new)["data"]["corrected"].shape
        (40,)

    Args:
        model: the classifier, `(n, *input_shape) -> (n, classes)` of probabilities, or `(n, 1)` of the second of two
            classes: a Keras model; on Keras's backend of the same name a PyTorch module, what JAX computes (a pair of a
            function and its parameters, a Flax or Equinox module), a TensorFlow function or SavedModel. It is used
            frozen: its weights, its statistics and its layers' `trainable` flags stay exactly as they are.
        threshold: scores strictly above it are flagged; see `infer_threshold`. In nats.
        ae: the autoencoder, any Keras model that returns the shape it takes, or on the PyTorch backend a
            `torch.nn.Module`. It is trained in place. Of rows that are several arrays it takes and returns as many.
            Pass a trained one to use it without `fit`: whether it has learned is not checked. The ready one answers
            after `fit` only.
        encoder_net: the autoencoder's first half, a Keras model, to be given with the other half instead of `ae`. With
            none of them, `demur.nets.autoencoder` builds one.
        decoder_net: its second half.
        hidden_layer_kld: `{layer index or name: output dimension}`. Each adds a head: the classifier's feature map of
            that layer, flattened, through a random, seeded, never-trained Dense and a softmax. The divergence between
            the heads on `x` and on `x'` is added to the loss and to the score. Of a PyTorch module, submodules by name,
            such as "layer3.1.conv2".
        model_hl: Keras models `(n, *input_shape) -> (n, any)` of probabilities to use instead of such heads.
        w_model_hl: the weight of each head, in the loss and in the score; ones by default.
        loss_type: what training minimises: "kld" for the K-L divergence, as published, "xent" for the cross-entropy,
            "jeffreys" for the K-L divergences both ways.
        score_type: what the score measures, of the same three. "kld" is the published score; "jeffreys" catches more,
            by what docs/results/detectors.md measures.
        w_uncertainty: weight `w` of the classifier's own uncertainty `u = -log max M(x)^(1/T)`: with a divergence `D`,
            the score is `sqrt(D^2 + (w u)^2)`, close to the larger of the two. An attack that stops at the decision
            boundary leaves a classifier unsure, and one that goes on leaves the two views apart. "balanced" has `fit`
            choose the weight so that either reaches as far on training rows (the ratio of the 95th percentiles;
            before, it is 0). None is "balanced" with Jeffreys' divergence and 0 with the others.
        temperature: sharpens (below 1) or flattens (above 1) the classifier's distribution on `x` before comparing.
        data_type: free text such as "image" or "tabular", kept in the metadata.
        from_logits: whether `model` returns logits instead of probabilities.
        seed: of the heads, the default autoencoder's weights and the order of the training rows.
        on_invalid: what becomes of rows that cannot be judged, because they hold NaN or infinity or because a network
            returns it for them: "raise" an error that names them, or "flag" them: adversarial, with an infinite score,
            the smallest p-value there is and the classifier's class, their indices listed in `data["invalid"]`.
        input_shape: shape of one row, without the batch (or a tuple or dict of shapes), for a classifier that does not
            know it. Otherwise the first rows tell.
        channels_last: of a PyTorch classifier and images: False where rows are `(n, channels, height, width)`, True
            where they are `(n, height, width, channels)`; a module that does not take them so is given them the other
            way round.
        classes: what the classes are called, in the order of the classifier's outputs, where it does not say so itself
            (estimators do, by `classes_`, and Hugging Face's models, by `config.id2label`). Labels are taken, and
            classes given, by these names. None: 0, 1, 2, ...

    Attributes:
        ae: the autoencoder.
        history: after `fit`, the loss and metrics of each epoch by name; among them `agreement`, the share of rows for
            which companion and classifier predict one class.
        agreement: after `fit`, the same of the trained companion, on rows that were held out if there are any.

    Raises:
        NoGradients: the classifier is outside of the graph, or takes whole numbers such as tokens.
        InvalidSetting, WrongType, ShapeMismatch, NotADistribution, UnknownLayer, NoGraph: see `demur.errors`.
    """

    companion_name: ClassVar[str] = "autoencoder"
    companion_argument: ClassVar[str] = "ae"
    network_arguments: ClassVar[tuple[str, ...]] = ("encoder_net", "decoder_net", "model_hl")
    reconstructs: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        threshold: float | None = None,
        ae: Any = None,
        encoder_net: Any = None,
        decoder_net: Any = None,
        hidden_layer_kld: Mapping[int | str, int] | None = None,
        model_hl: Sequence[Any] | None = None,
        w_model_hl: Sequence[float] | None = None,
        loss_type: str = "kld",
        score_type: str = "jeffreys",
        w_uncertainty: float | Literal["balanced"] | None = None,
        temperature: float = 1.0,
        data_type: str | None = None,
        from_logits: bool = False,
        seed: int = 0,
        on_invalid: OnInvalid = "raise",
        input_shape: Any = None,
        channels_last: bool = False,
        classes: Any = None,
    ) -> None:
        if hidden_layer_kld and model_hl:
            raise InvalidSetting("hidden_layer_kld and model_hl are two ways to the same: pass one of them")
        if model_hl is not None and not isinstance(model_hl, list | tuple):
            raise WrongType(f"model_hl is a list of Keras models; got {type(model_hl).__name__}")
        self.hidden_layer_kld = _checked_heads(hidden_layer_kld)
        self.model_hl = list(model_hl or [])
        self.w_model_hl = _checked_weights(w_model_hl, len(self.hidden_layer_kld) + len(self.model_hl))
        super().__init__(
            model,
            companion=_autoencoder(ae, encoder_net, decoder_net),
            threshold=threshold,
            temperature=temperature,
            data_type=data_type,
            from_logits=from_logits,
            seed=seed,
            on_invalid=on_invalid,
            input_shape=input_shape,
            channels_last=channels_last,
            loss_type=loss_type,
            score_type=score_type,
            w_uncertainty=w_uncertainty,
            classes=classes,
        )

    def check_gradients(self, rows: Rows | None) -> None:
        layout = self.classifier.layout
        values = made_up(layout) if rows is None else rows[:ROWS].cast().raw
        x = mapped(ops.convert_to_tensor, values)
        redrawn = self._redrawn(x, training=False)
        check_gradient_path(self._read, x, redrawn, layout, self.companion_name)

    def _make_companion(self) -> None:
        check_takes_floats(self.classifier.layout, self.companion_name)
        dimensions = zip(self.classifier.feature_shapes, self.hidden_layer_kld.values(), strict=True)
        self._heads = [nets.random_head(shape, k, seed=self.seed + i) for i, (shape, k) in enumerate(dimensions)]
        layout = self.classifier.layout
        self._model_hl = [
            KerasClassifier(hl, role=f"model_hl[{i}]", layout=layout) for i, hl in enumerate(self.model_hl)
        ]
        super()._make_companion()
        self._check_reconstruction()

    def build(self, layout: Layout) -> Any:
        shape = ready_shape(layout, "autoencoder", "ae=")
        return nets.autoencoder(shape, channels_first=self.channels_first, seed=self.seed)

    def reconstruct(self, X: Any, *, batch_size: int = 256) -> Any:
        """Return the reconstructions `x'` of inputs: float32 `(n, *input_shape)`, or several where rows are several.

        Examples:
            >>> detector.reconstruct(X_new).shape
            (40, 8, 8, 1)
        """
        check_whole("batch_size", batch_size, 1)
        self.check_trained()
        X = self.ready_for(X)
        source = self.source(X)
        layout = self.classifier.layout
        half = Half(lambda x: flat(self._companion(x, training=False)), [self._companion])
        outputs = joined(over_batches(compiled(half, layout), source, batch_size))
        found = [np.asarray(part, "float32") for part in outputs]
        if isinstance(layout, dict):
            return dict(zip(layout, found, strict=True))
        return tuple(found) if isinstance(layout, tuple) else found[0]

    @property
    def hidden_layers(self) -> list[int | str]:
        return list(self.hidden_layer_kld)

    @property
    def view_weights(self) -> list[float]:
        return [1.0, *self.w_model_hl]

    @property
    def parts(self) -> dict[str, Any]:
        heads = {f"head_{i}": head for i, head in enumerate(self._heads)}
        return {**self.given_parts, **heads}

    @property
    def given_parts(self) -> dict[str, Any]:
        model_hl = {f"model_hl_{i}": model for i, model in enumerate(self.model_hl)}
        return {**super().given_parts, **model_hl}

    @property
    def own_settings(self) -> dict[str, Any]:
        return {**super().own_settings, "hidden_layer_kld": list(self.hidden_layer_kld.items())}

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: dict[str, Any]) -> Self:
        model_hl = [model for name, model in parts.items() if name.startswith("model_hl_")]
        settings = {**settings, "hidden_layer_kld": dict(settings["hidden_layer_kld"]), "model_hl": model_hl}
        return super().from_parts(parts, settings)

    def take_weights(self, parts: dict[str, Any]) -> None:
        for i, head in enumerate(self._heads):
            head.set_weights(parts[f"head_{i}"].get_weights())

    def _read(self, x: Tensor) -> list[Tensor]:
        """The log-probabilities of the classifier and of each head, in one pass through the classifier."""
        log_p, *features = self.classifier(x, training=False)
        heads = [log_softmax(head(f, training=False)) for head, f in zip(self._heads, features, strict=True)]
        return [log_p, *heads, *(hl(x, training=False)[0] for hl in self._model_hl)]

    def reference(self, x: Tensor) -> list[Tensor]:
        log_p, *heads = self._read(x)
        return [sharpen(log_p, self.temperature), *heads]

    def opinion(self, x: Tensor, training: bool) -> Opinion:
        reconstruction = self._redrawn(x, training)
        return Opinion(self._read(reconstruction), reconstruction)

    def _redrawn(self, x: Any, training: bool) -> Any:
        """What the autoencoder makes of a batch, in the batch's structure."""
        found = self._companion(x, training=training)
        if isinstance(found, list):
            return tuple(found) if len(found) > 1 else found[0]
        return found

    def _check_reconstruction(self) -> None:
        layout = self.classifier.layout
        expected = mapped(lambda field: field.shape, layout)
        if graph_of(self._companion) is None:
            expected = mapped(lambda tensor: tuple(tensor.shape[1:]), probe(layout))
        found = structure_of(self._companion, layout)
        wanted, returned = _as_layout(expected), _as_layout(found)
        if not compatible(wanted, returned):
            raise ShapeMismatch(
                f"the autoencoder must return the shape it takes, {describe_layout(wanted)}; it returns "
                f"{describe_layout(returned)}"
            )


def _as_layout(shapes: Any) -> Layout:
    """Shapes of a structure as a layout."""
    if isinstance(shapes, dict):
        return {name: Field(shape) for name, shape in shapes.items()}
    if isinstance(shapes, tuple) and shapes and all(isinstance(shape, tuple) for shape in shapes):
        return tuple(Field(shape) for shape in shapes)
    return Field(shapes)


def _autoencoder(ae: Any, encoder_net: Any, decoder_net: Any) -> Any:
    if ae is not None and (encoder_net is not None or decoder_net is not None):
        raise InvalidSetting("pass the autoencoder as ae, or as encoder_net and decoder_net, not both ways")
    if (encoder_net is None) != (decoder_net is None):
        raise InvalidSetting("encoder_net and decoder_net make an autoencoder together: pass both")
    if encoder_net is None:
        return ae
    if is_module(encoder_net) and is_module(decoder_net):
        import torch

        return torch.nn.Sequential(encoder_net, decoder_net)
    for name, net in (("encoder_net", encoder_net), ("decoder_net", decoder_net)):
        if not isinstance(net, keras.Model):
            raise WrongType(f"{name} must be a Keras model; got {type(net).__name__}")
    encoder, taken = graph_of(encoder_net), known_layout(decoder_net)
    code = None if encoder is None else tuple(encoder.outputs[0].shape[1:])
    if code is not None and isinstance(taken, Field) and not fits_either(code, taken.shape):
        raise ShapeMismatch(
            f"decoder_net must take what encoder_net returns, {describe(code)}; it takes {describe(taken.shape)}"
        )
    return keras.Sequential([encoder_net, decoder_net], name="autoencoder")


def _checked_heads(hidden_layer_kld: Mapping[int | str, int] | None) -> dict[int | str, int]:
    if hidden_layer_kld is not None and not isinstance(hidden_layer_kld, Mapping):
        raise WrongType(f"hidden_layer_kld is a dict of layers and their output dimensions; got {hidden_layer_kld!r}")
    heads = dict(hidden_layer_kld or {})
    for layer, dimension in heads.items():
        if not isinstance(layer, int | str):
            raise WrongType(f"hidden_layer_kld is keyed by layer index or layer name; got {layer!r}")
        check_whole(f"hidden_layer_kld[{layer!r}], an output dimension,", dimension, 2)
    return {layer: int(dimension) for layer, dimension in heads.items()}


def _checked_weights(w_model_hl: Sequence[float] | None, heads: int) -> list[float]:
    weights = [1.0] * heads if w_model_hl is None else list(w_model_hl)
    if len(weights) != heads:
        raise InvalidSetting(f"w_model_hl needs one weight for each hidden head, {heads}; got {len(weights)}")
    if not all(is_number(weight) and weight >= 0 for weight in weights):
        raise InvalidSetting(f"w_model_hl holds finite weights not below 0; got {weights}")
    return [float(weight) for weight in weights]
