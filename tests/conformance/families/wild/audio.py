"""Sound and speech."""

from __future__ import annotations

import torch
from zoo import Case

from families.wild.table import signal, tokens, wild


@wild("torchaudio", "ConvTasNet")
def _() -> Case:
    from torchaudio.models import ConvTasNet

    model = ConvTasNet(
        enc_num_feats=16,
        msk_kernel_size=3,
        msk_num_feats=8,
        msk_num_hidden_feats=16,
        msk_num_layers=2,
        msk_num_stacks=1,
    )
    return Case(model, (signal(1, 1, 800),))


@wild("torchaudio", "Conformer with lengths")
def _() -> Case:
    from torchaudio.models import Conformer

    model = Conformer(input_dim=16, num_heads=2, ffn_dim=32, num_layers=2, depthwise_conv_kernel_size=7)
    return Case(model, (signal(2, 20, 16), torch.tensor([20, 13])))


@wild("torchaudio", "wav2vec 2, in training")
def _() -> Case:
    from torchaudio.models import wav2vec2_model

    model = wav2vec2_model(
        extractor_mode="layer_norm",
        extractor_conv_layer_config=[(16, 10, 5), (16, 3, 2)],
        extractor_conv_bias=True,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=8,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=2,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=True,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    return Case(model, (signal(2, 1600),))


@wild("torchaudio", "Tacotron2")
def _() -> Case:
    from torchaudio.models import Tacotron2

    model = Tacotron2(
        n_mels=16,
        n_symbol=30,
        symbol_embedding_dim=16,
        encoder_embedding_dim=16,
        decoder_rnn_dim=32,
        prenet_dim=16,
        attention_rnn_dim=32,
        attention_hidden_dim=16,
        attention_location_n_filter=4,
        postnet_embedding_dim=16,
    )
    inputs = tokens(2, 8, vocab_size=30), torch.tensor([8, 6]), signal(2, 16, 5), torch.tensor([5, 4])
    return Case(model, inputs)


@wild("torchaudio", "mel spectrogram, then DeepSpeech")
def _() -> Case:
    from torch import nn
    from torchaudio.models import DeepSpeech
    from torchaudio.transforms import MelSpectrogram

    class Recognizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mel = MelSpectrogram(n_fft=64, n_mels=16)
            self.net = DeepSpeech(n_feature=16, n_hidden=32, n_class=10)

        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return self.net(self.mel(waveform).unsqueeze(1).transpose(-1, -2))

    return Case(Recognizer(), (signal(2, 800),))


@wild("speechbrain", "ECAPA-TDNN")
def _() -> Case:
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    model = ECAPA_TDNN(
        16,
        lin_neurons=16,
        channels=[16, 16, 48],
        kernel_sizes=[5, 3, 1],
        dilations=[1, 2, 1],
        attention_channels=16,
        groups=[1, 1, 1],
    )
    return Case(model, (signal(2, 40, 16),))


@wild("speechbrain", "TransformerASR, a conformer encoder")
def _() -> Case:
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

    model = TransformerASR(
        tgt_vocab=20,
        input_size=16,
        d_model=32,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        d_ffn=64,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
    )
    return Case(model, (signal(2, 20, 16), tokens(2, 6, vocab_size=20)), {"wav_len": torch.tensor([1.0, 0.8])})


@wild("speechbrain", "CRDNN")
def _() -> Case:
    from speechbrain.lobes.models.CRDNN import CRDNN

    model = CRDNN(
        input_shape=[2, 20, 16],
        cnn_blocks=1,
        cnn_channels=[8],
        rnn_layers=1,
        rnn_neurons=16,
        dnn_blocks=1,
        dnn_neurons=16,
    )
    return Case(model, (signal(2, 20, 16),))


@wild("speechbrain", "SepFormer")
def _() -> Case:
    from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBTransformerBlock

    block = {"num_layers": 1, "d_model": 16, "nhead": 2, "d_ffn": 32, "norm_before": True}
    model = Dual_Path_Model(
        in_channels=16,
        out_channels=16,
        intra_model=SBTransformerBlock(**block),
        inter_model=SBTransformerBlock(**block),
        num_layers=1,
        K=10,
    )
    return Case(model, (signal(1, 16, 100),))


@wild("encodec", "EncodecModel, small")
def _() -> Case:
    from encodec.model import EncodecModel
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    ratios = [4, 2]
    encoder = SEANetEncoder(channels=1, dimension=16, n_filters=4, ratios=ratios, norm="weight_norm", causal=True)
    decoder = SEANetDecoder(channels=1, dimension=16, n_filters=4, ratios=ratios, norm="weight_norm", causal=True)
    quantizer = ResidualVectorQuantizer(dimension=16, n_q=2, bins=16)
    model = EncodecModel(encoder, decoder, quantizer, [2.0], 800, 1)
    return Case(model.eval(), (signal(1, 1, 800),))


@wild("demucs", "HDemucs, time and spectrum")
def _() -> Case:
    from demucs.hdemucs import HDemucs

    model = HDemucs(["drums", "other"], channels=4, samplerate=8000)
    return Case(model, (signal(1, 2, 8192),))


@wild("demucs", "HTDemucs, with a transformer")
def _() -> Case:
    from demucs.htdemucs import HTDemucs

    model = HTDemucs(
        ["drums", "other"], channels=8, t_layers=1, t_heads=2, bottom_channels=32, samplerate=8000, segment=2
    )
    return Case(model, (signal(1, 2, 16000),))


@wild("asteroid", "ConvTasNet")
def _() -> Case:
    from asteroid.models import ConvTasNet

    model = ConvTasNet(2, n_filters=16, kernel_size=16, n_blocks=2, n_repeats=1, bn_chan=8, hid_chan=16, skip_chan=8)
    return Case(model, (signal(1, 800),))


@wild("asteroid", "DPRNNTasNet")
def _() -> Case:
    from asteroid.models import DPRNNTasNet

    model = DPRNNTasNet(2, n_filters=16, kernel_size=16, chunk_size=10, n_repeats=1, bn_chan=8, hid_size=8)
    return Case(model, (signal(1, 800),))


@wild("asteroid", "DCUNet, complex convolutions")
def _() -> Case:
    from asteroid.models import DCUNet

    return Case(
        DCUNet("mini", stft_n_filters=64, stft_kernel_size=64, stft_stride=16, fix_length_mode="pad"),
        (signal(1, 2048),),
    )


@wild("espnet", "ConformerEncoder with lengths")
def _() -> Case:
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

    model = ConformerEncoder(
        16,
        output_size=32,
        attention_heads=2,
        linear_units=32,
        num_blocks=2,
        input_layer="conv2d",
        cnn_module_kernel=7,
        rel_pos_type="latest",
        pos_enc_layer_type="rel_pos",
        selfattention_layer_type="rel_selfattn",
    )
    return Case(model, (signal(2, 40, 16), torch.tensor([40, 31])))


@wild("espnet", "E-Branchformer encoder with lengths")
def _() -> Case:
    from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder

    model = EBranchformerEncoder(
        16, output_size=32, attention_heads=2, cgmlp_linear_units=32, cgmlp_conv_kernel=7, num_blocks=1, linear_units=32
    )
    return Case(model, (signal(2, 40, 16), torch.tensor([40, 31])))


@wild("vocos", "Fourier-based vocoder")
def _() -> Case:
    from torch import nn
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=16, dim=32, intermediate_dim=64, num_layers=2)
    return Case(nn.Sequential(backbone, ISTFTHead(dim=32, n_fft=64, hop_length=16)), (signal(1, 16, 20),))
