import numpy as np
import pytest

SIDE = 48
PATCHES = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "image_shape": (SIDE, SIDE, 3)}
DINO_V2 = {**PATCHES, "patch_size": 8, "intermediate_dim": 32, "position_embedding_shape": (SIDE, SIDE)}
CONFIGS = {
    "vit": ("ViTBackbone", {**PATCHES, "patch_size": (8, 8), "mlp_dim": 32}),
    "vit_no_class": ("ViTBackbone", {**PATCHES, "patch_size": (8, 8), "mlp_dim": 32, "use_class_token": False}),
    "dinov2": ("DINOV2Backbone", {**DINO_V2, "num_register_tokens": 0}),
    "dinov2_registers": (
        "DINOV2Backbone",
        {**DINO_V2, "num_register_tokens": 4, "antialias_in_interpolation": True, "use_swiglu_ffn": True},
    ),
    "dinov3": ("DINOV3Backbone", {**PATCHES, "patch_size": 8, "intermediate_dim": 32, "num_register_tokens": 3}),
    "siglip": ("SigLIPVisionEncoder", {**PATCHES, "patch_size": 8, "intermediate_dim": 32}),
    "swin": (
        "SwinTransformerBackbone",
        {
            "image_shape": (SIDE, SIDE, 3),
            "embed_dim": 8,
            "depths": (2, 2),
            "num_heads": (1, 2),
            "window_size": 3,
            "drop_path": 0.2,
        },
    ),
    "resnet": (
        "ResNetBackbone",
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 64],
            "stackwise_num_blocks": [1, 1],
            "stackwise_num_strides": [1, 2],
            "block_type": "basic_block",
        },
    ),
}


@pytest.fixture(scope="session")
def make_network():
    """Makes tiny networks of KerasHub whose weights are all random, so that no part can hide."""
    import keras_hub

    def make(name, **changes):
        class_name, config = CONFIGS[name]
        network = getattr(keras_hub.models, class_name)(**{**config, **changes})
        rng = np.random.default_rng(1)
        for weight in network.weights:
            if "float" in str(weight.dtype):
                low = 0.5 if "variance" in weight.name else -0.5
                weight.assign(rng.uniform(low, low + 1.0, weight.shape))
        if name.startswith("dinov2"):  # KerasHub keeps a second, resized table: of one size here, so equal
            network.embeddings.interpolated_position_embeddings.assign(network.embeddings.position_embeddings)
        return network

    return make


@pytest.fixture
def tiny(monkeypatch):
    """Adds an entry of `BACKBONES` for one of the tiny networks, and returns its name."""
    from tfretrieval.backbones import BACKBONES, Backbone, PatchTokens, SwinMaps, hub

    def add(name, scaling="torch", stages=()):
        import keras_hub

        class_name, config = CONFIGS[name]
        layer = SwinMaps if name == "swin" else PatchTokens
        finish = hub.flat if name == "resnet" else hub.any_size(layer)

        def make(weights):
            if weights is not None:
                return hub.open_preset(weights, class_name, config)
            return getattr(keras_hub.models, class_name)(**config)

        entry = Backbone(make, scaling, f"keras_hub.models.{class_name}", finish, stages, presets=True)
        monkeypatch.setitem(BACKBONES, f"tiny_{name}", entry)
        return f"tiny_{name}"

    return add
