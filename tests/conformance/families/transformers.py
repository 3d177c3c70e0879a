"""transformers beside the language models: encoders, encoders with decoders, vision, audio, several senses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from transformers import AutoModel
from zoo import Case, Entry, floats, ids, on_meta

from families.configurations import shallow

Inputs = Callable[[Any], dict[str, Any]]


def text(config: Any) -> dict[str, Any]:
    return {"input_ids": ids(2, 16)}


def translation(config: Any) -> dict[str, Any]:
    return {"input_ids": ids(2, 16), "decoder_input_ids": ids(2, 12)}


def image(config: Any) -> dict[str, Any]:
    size = getattr(config, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return {"pixel_values": floats(2, getattr(config, "num_channels", None) or 3, height, width)}


def video(config: Any) -> dict[str, Any]:
    return {"pixel_values": floats(1, config.num_frames, 3, config.image_size, config.image_size)}


def waveform(config: Any) -> dict[str, Any]:
    return {"input_values": floats(2, 16000)}


def sound(config: Any) -> dict[str, Any]:
    return {"input_values": floats(1, config.audio_channels, 16000)}


def spectrogram(config: Any) -> dict[str, Any]:
    return {"input_values": floats(2, config.max_length, config.num_mel_bins)}


def features(config: Any) -> dict[str, Any]:
    return {"input_features": floats(2, 100, getattr(config, "feature_projection_input_dim", None) or 80)}


def dictation(config: Any) -> dict[str, Any]:
    return {
        "input_features": floats(1, config.num_mel_bins, 2 * config.max_source_positions),
        "decoder_input_ids": ids(1, 8),
    }


def speech(config: Any) -> dict[str, Any]:
    return {"input_features": floats(1, 200, config.input_feat_per_channel), "decoder_input_ids": ids(1, 8)}


def captioned(config: Any) -> dict[str, Any]:
    vision = getattr(config, "vision_config", config)
    return {**image(vision), "input_ids": ids(2, 16)}


FAMILIES: tuple[tuple[Inputs, str], ...] = (
    (
        text,
        """
        albert bert big_bird camembert canine convbert data2vec-text deberta deberta-v2 distilbert esm fnet funnel ibert
        layoutlm lilt longformer luke markuplm megatron-bert mobilebert modernbert mpnet nomic_bert nystromformer
        reformer roberta roc_bert splinter squeezebert tapas xlm xlm-roberta-xl yoso
        """,
    ),
    (
        translation,
        """
        bart blenderbot fsmt led longt5 m2m_100 marian mt5 nllb-moe pegasus_x prophetnet switch_transformers t5 umt5
        """,
    ),
    (
        image,
        """
        beit bit convnext convnextv2 cvt data2vec-vision deit dinov2 dinov2_with_registers dinov3_vit donut-swin dpt
        efficientnet focalnet glpn hgnet_v2 hiera ijepa levit mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 poolformer
        pvt pvt_v2 regnet resnet segformer siglip_vision_model swiftformer swin swin2sr swinv2 textnet vit vit_mae
        vit_msn vitdet yolos
        """,
    ),
    (video, "timesformer videomae vivit"),
    (waveform, "data2vec-audio hubert sew sew-d unispeech unispeech-sat wav2vec2 wav2vec2-conformer wavlm"),
    (sound, "encodec mimi"),
    (spectrogram, "audio-spectrogram-transformer"),
    (features, "wav2vec2-bert"),
    (dictation, "whisper"),
    (speech, "speech_to_text"),
    (captioned, "align altclip blip chinese_clip clip clipseg flava git groupvit owlvit siglip vilt"),
)

CHANGES: dict[str, dict[str, Any]] = {
    "esm": {"vocab_size": 33, "pad_token_id": 1},  # ESM-2's; there is no default
    "funnel": {"block_sizes": [1, 1, 1], "architectures": ["FunnelModel"]},  # it has two, and asks which
    "reformer": {"axial_pos_shape": [4, 4], "attn_layers": ["local", "lsh"]},  # a place for each of the 16 tokens
}
"""values for fields that a default configuration leaves unset"""


def entries() -> Iterator[Entry]:
    for inputs, names in FAMILIES:
        for name in names.split():
            yield Entry("transformers", name, _builder(name, inputs))


CHANCES = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "apply_spec_augment", "quant_mode")
"""fields of models that drop layers or input spans at random in training, or branch on ranges of activations: such a
model is counted as in inference.
"""

VALUED = ("encodec", "mimi")
"""models that read sizes from the values of buffers: they are built on the CPU, not on meta"""


def _builder(name: str, inputs: Inputs) -> Callable[[], Case]:
    def build() -> Case:
        config = shallow(name, **CHANGES.get(name, {}))
        place = (lambda make: make()) if name in VALUED else on_meta
        model = place(lambda: AutoModel.from_config(config))
        return Case(model.train(not any(hasattr(config, name) for name in CHANCES)), (), inputs(config))

    return build
