"""Vision transformers of KerasHub as backbones: any photo in, a grid of patch tokens out."""

import keras
from keras import ops

from tfretrieval.backbones.positions import resize_positions, rotary_angles


@keras.saving.register_keras_serializable(package="tfretrieval")
class PatchTokens(keras.layers.Layer):
    """Runs a plain vision transformer of KerasHub on photos of any size, [N, H, W, 3] -> [N, H // P, W // P, C].

    KerasHub builds these networks for one size. This layer takes their parts, resizes the table of position embeddings
    to the photo's own grid as the published code does (`resize_positions`; rotary positions need no table), and returns
    the patch tokens after the last normalisation; class and register tokens take part inside and are left out. Pixels
    at the right and bottom edge that do not fill a patch of P pixels are not seen. At the size that the table was
    trained for, the tokens are those of the KerasHub network.

    The class token and its position are one weight here, their sum: nothing else reads either of them.

    Args:
        network: a `ViTBackbone`, `DINOV2Backbone`, `DINOV3Backbone` or `SigLIPVisionEncoder`, whose weights are
            taken as they are when the layer is made.
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.network_config = keras.saving.serialize_keras_object(network)
        self.rotary, self.antialias, self.normalise = None, False, None
        take = {
            "ViTBackbone": self._take_vit,
            "DINOV2Backbone": self._take_dinov2,
            "DINOV3Backbone": self._take_dinov3,
            "SigLIPVisionEncoder": self._take_siglip,
        }
        if type(network).__name__ not in take:
            raise ValueError(f"{type(network).__name__} is no plain vision transformer; one of {', '.join(take)} is.")
        take[type(network).__name__](network)
        self.dimension = self.project.filters
        self.patch = self.project.kernel_size[0]
        self.built = True

    def _take_vit(self, network) -> None:
        embedding = network.get_layer("vit_patching_and_embedding")
        self.project, self.blocks = embedding.patch_embedding, [network.get_layer("vit_encoder")]
        table = embedding.position_embedding.embeddings
        leading = [(embedding.class_token, table)] if embedding.use_class_token else []
        self._add_tokens(leading, table)

    def _take_dinov2(self, network) -> None:
        embedding = network.embeddings
        self.project, self.blocks = embedding.patch_embeddings.projection, [network.encoder]
        self.normalise, self.antialias = network.layernorm, embedding.antialias_in_interpolation
        registers = [(embedding.register_tokens, None)] if embedding.num_register_tokens else []
        # The table as trained: KerasHub's other copy is already resized to the size it was built for.
        table = embedding.position_embeddings
        self._add_tokens([(embedding.cls_token, table), *registers], table)

    def _take_dinov3(self, network) -> None:
        embedding = network.embeddings
        self.project, self.blocks = embedding.patch_embeddings.projection, [network.encoder]
        self.normalise = network.layernorm
        self.rotary = (network.hidden_dim // network.num_heads, network.rope_theta)
        registers = [(embedding.register_tokens, None)] if embedding.num_register_tokens else []
        self._add_tokens([(embedding.cls_token, None), *registers], None)

    def _take_siglip(self, network) -> None:
        self.project, self.blocks = network.embedding.patch_embedding, list(network.encoder_layers)
        self.normalise = network.post_layer_norm
        self._add_tokens([], network.embedding.position_embedding.embeddings)

    def _add_tokens(self, leading: list, table) -> None:
        """Makes the weights of this layer's own: tokens before the patches, and positions [h, w, C] of the patches."""
        width = self.project.filters

        def tokens(shape, dtype):
            parts = [ops.reshape(token, (-1, width)) for token, _ in leading]
            if parts and leading[0][1] is not None:
                parts[0] = parts[0] + ops.reshape(leading[0][1], (-1, width))[:1]
            return ops.cast(ops.reshape(ops.concatenate(parts), shape), dtype)

        def positions(shape, dtype):
            return ops.cast(ops.reshape(ops.reshape(table, (-1, width))[-shape[0] * shape[1] :], shape), dtype)

        self.count = sum(token.shape[-2] for token, _ in leading)
        self.tokens = self.add_weight((self.count, width), tokens, name="tokens") if leading else None
        side = int(table.shape[-2] ** 0.5) if table is not None else 0
        self.positions = self.add_weight((side, side, width), positions, name="positions") if side else None

    def call(self, inputs, training=None):
        """Returns the patch tokens in the layer's compute dtype, [N, H // P, W // P, C]."""
        maps = self.project(inputs)
        count, height, width, dimension = ops.shape(maps)
        if self.positions is not None:
            places = resize_positions(ops.convert_to_tensor(self.positions), height, width, self.antialias)
            maps = maps + ops.cast(places, maps.dtype)
        tokens = ops.reshape(maps, (count, height * width, dimension))
        if self.tokens is not None:
            leading = ops.cast(ops.convert_to_tensor(self.tokens), tokens.dtype)
            tokens = ops.concatenate([ops.broadcast_to(leading, (count, *self.tokens.shape)), tokens], axis=1)
        extra = {}
        if self.rotary is not None:
            angles = rotary_angles(height, width, *self.rotary)
            waves = tuple(ops.cast(wave, tokens.dtype) for wave in (ops.cos(angles), ops.sin(angles)))
            extra = {"position_embeddings": waves, "num_prefix_tokens": self.count}
        for block in self.blocks:
            tokens = block(tokens, training=training, **extra)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens  # DINO's encoders also return every stage
        if self.normalise is not None:
            tokens = self.normalise(tokens)
        return ops.reshape(tokens[:, self.count :], (count, height, width, dimension))

    def compute_output_spec(self, inputs, training=None):
        """Returns the output's shape and dtype."""
        del training
        sides = [None if side is None else side // self.patch for side in inputs.shape[1:3]]
        return keras.KerasTensor((inputs.shape[0], *sides, self.dimension), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "network": self.network_config}

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its parts included, from `get_config`'s result."""
        return cls(**{**config, "network": keras.saving.deserialize_keras_object(config["network"])})
