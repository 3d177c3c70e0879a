"""Images and volumes: classification, segmentation, detection."""

from __future__ import annotations

from zoo import Case

from families.wild.table import image, signal, wild


@wild("vit-pytorch", "ViT")
def _() -> Case:
    from vit_pytorch import ViT

    model = ViT(image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64, dim_head=16)
    return Case(model, (image(2, 3, 32, 32),))


@wild("vit-pytorch", "SimpleViT")
def _() -> Case:
    from vit_pytorch import SimpleViT

    model = SimpleViT(image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64)
    return Case(model, (image(2, 3, 32, 32),))


@wild("vit-pytorch", "NaViT, images of different sizes")
def _() -> Case:
    from vit_pytorch.na_vit import NaViT

    model = NaViT(
        image_size=32,
        patch_size=8,
        num_classes=10,
        dim=32,
        depth=2,
        heads=2,
        mlp_dim=64,
        dim_head=16,
        token_dropout_prob=0.1,
    )
    return Case(model, ([[image(3, 32, 32), image(3, 16, 24)], [image(3, 24, 16), image(3, 32, 16)]],))


@wild("vit-pytorch", "CaiT")
def _() -> Case:
    from vit_pytorch.cait import CaiT

    model = CaiT(
        image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, cls_depth=1, heads=2, mlp_dim=64, dim_head=16
    )
    return Case(model, (image(2, 3, 32, 32),))


@wild("vit-pytorch", "CvT")
def _() -> Case:
    from vit_pytorch.cvt import CvT

    model = CvT(
        num_classes=10, s1_emb_dim=16, s1_depth=1, s2_emb_dim=32, s2_depth=1, s2_heads=2, s3_emb_dim=32, s3_depth=1
    )
    return Case(model, (image(2, 3, 64, 64),))


@wild("vit-pytorch", "MaxViT")
def _() -> Case:
    from vit_pytorch.max_vit import MaxViT

    model = MaxViT(num_classes=10, dim_conv_stem=16, dim=16, dim_head=16, depth=(1, 1), window_size=4)
    return Case(model, (image(2, 3, 64, 64),))


@wild("vit-pytorch", "masked autoencoder")
def _() -> Case:
    from vit_pytorch import MAE, ViT

    size = {"image_size": 32, "patch_size": 8, "num_classes": 10, "pool": "mean"}
    encoder = ViT(**size, dim=32, depth=2, heads=2, mlp_dim=64, dim_head=16)
    return Case(MAE(encoder=encoder, decoder_dim=32, decoder_depth=1, decoder_heads=2), (image(2, 3, 32, 32),))


@wild("vit-pytorch", "Dino, student and teacher")
def _() -> Case:
    from vit_pytorch import Dino, ViT

    encoder = ViT(image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64, dim_head=16)
    model = Dino(encoder, image_size=32, projection_hidden_size=32, projection_layers=2, num_classes_K=64)
    return Case(model, (image(2, 3, 32, 32),))


@wild("segmentation-models-pytorch", "Unet on resnet18")
def _() -> Case:
    import segmentation_models_pytorch as smp

    return Case(smp.Unet("resnet18", encoder_weights=None, classes=2), (image(1, 3, 64, 64),))


@wild("segmentation-models-pytorch", "DeepLabV3Plus on mobilenet_v2")
def _() -> Case:
    import segmentation_models_pytorch as smp

    return Case(smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=2), (image(2, 3, 64, 64),))


@wild("segmentation-models-pytorch", "Segformer on mit_b0")
def _() -> Case:
    import segmentation_models_pytorch as smp

    return Case(smp.Segformer("mit_b0", encoder_weights=None, classes=2), (image(1, 3, 64, 64),))


@wild("segmentation-models-pytorch", "FPN on efficientnet-b0")
def _() -> Case:
    import segmentation_models_pytorch as smp

    return Case(smp.FPN("efficientnet-b0", encoder_weights=None, classes=2), (image(1, 3, 64, 64),))


@wild("monai", "UNet of volumes")
def _() -> Case:
    from monai.networks.nets import UNet

    model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
    return Case(model, (image(1, 1, 16, 16, 16),))


@wild("monai", "UNETR")
def _() -> Case:
    from monai.networks.nets import UNETR

    model = UNETR(
        in_channels=1, out_channels=2, img_size=(32, 32, 32), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4
    )
    return Case(model, (image(1, 1, 32, 32, 32),))


@wild("monai", "SwinUNETR")
def _() -> Case:
    from monai.networks.nets import SwinUNETR

    return Case(
        SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1)), (image(1, 1, 64, 64, 64),)
    )


@wild("monai", "SegResNet")
def _() -> Case:
    from monai.networks.nets import SegResNet

    return Case(SegResNet(spatial_dims=3, init_filters=8, in_channels=1, out_channels=2), (image(1, 1, 16, 16, 16),))


@wild("monai", "DynUNet with deep supervision")
def _() -> Case:
    from monai.networks.nets import DynUNet

    model = DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 8, 16],
        deep_supervision=True,
        deep_supr_num=1,
    )
    return Case(model, (image(1, 1, 32, 32),))


@wild("monai", "AttentionUnet")
def _() -> Case:
    from monai.networks.nets import AttentionUnet

    model = AttentionUnet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))
    return Case(model, (image(1, 1, 32, 32),))


@wild("monai", "DiffusionModelUNet")
def _() -> Case:
    import torch
    from monai.networks.nets import DiffusionModelUNet

    model = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(8, 16),
        attention_levels=(False, True),
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=4,
    )
    return Case(model, (signal(1, 1, 16, 16), torch.tensor([10])))


@wild("monai", "VQVAE")
def _() -> Case:
    from monai.networks.nets import VQVAE

    model = VQVAE(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(8, 16),
        num_res_layers=1,
        num_res_channels=(8, 16),
        num_embeddings=16,
        embedding_dim=8,
        downsample_parameters=((2, 4, 1, 1), (2, 4, 1, 1)),
        upsample_parameters=((2, 4, 1, 1, 0), (2, 4, 1, 1, 0)),
    )
    return Case(model, (image(1, 1, 16, 16),))


@wild("kornia", "VisionTransformer")
def _() -> Case:
    from kornia.models.vit import VisionTransformer

    model = VisionTransformer(image_size=32, patch_size=8, in_channels=3, embed_dim=32, depth=2, num_heads=2)
    return Case(model, (image(2, 3, 32, 32),))


@wild("kornia", "HardNet descriptors")
def _() -> Case:
    from kornia.feature import HardNet

    return Case(HardNet(pretrained=False), (image(2, 1, 32, 32),))


@wild("kornia", "augmentation, then a small convolution")
def _() -> Case:
    import kornia.augmentation as K
    from torch import nn

    augmentation = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5), K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0), K.RandomAffine(10.0, p=1.0)
    )
    return Case(nn.Sequential(augmentation, nn.Conv2d(3, 8, 3)), (image(2, 3, 32, 32),))


@wild("ultralytics", "YOLOv8n, detection")
def _() -> Case:
    from ultralytics.nn.tasks import DetectionModel

    return Case(DetectionModel("yolov8n.yaml", verbose=False), (image(1, 3, 64, 64),))


@wild("ultralytics", "YOLO11n, segmentation")
def _() -> Case:
    from ultralytics.nn.tasks import SegmentationModel

    return Case(SegmentationModel("yolo11n-seg.yaml", verbose=False), (image(1, 3, 64, 64),))


@wild("ultralytics", "RT-DETR")
def _() -> Case:
    from ultralytics.nn.tasks import RTDETRDetectionModel

    return Case(RTDETRDetectionModel("rtdetr-l.yaml", verbose=False).eval(), (image(1, 3, 64, 64),))


@wild("lambda-networks", "LambdaLayer")
def _() -> Case:
    from lambda_networks import LambdaLayer

    return Case(LambdaLayer(dim=16, dim_out=16, r=5, dim_k=8, heads=2, dim_u=2), (image(2, 16, 12, 12),))


@wild("bottleneck-transformer-pytorch", "BottleStack")
def _() -> Case:
    from bottleneck_transformer_pytorch import BottleStack

    model = BottleStack(dim=16, fmap_size=12, dim_out=32, num_layers=2, heads=2, dim_head=8, rel_pos_emb=True)
    return Case(model, (image(2, 16, 12, 12),))


@wild("halonet-pytorch", "HaloAttention")
def _() -> Case:
    from halonet_pytorch import HaloAttention

    return Case(HaloAttention(dim=16, block_size=4, halo_size=2, dim_head=8, heads=2), (image(2, 16, 16, 16),))


@wild("segformer-pytorch", "Segformer")
def _() -> Case:
    from segformer_pytorch import Segformer

    model = Segformer(dims=(8, 16, 16, 32), heads=(1, 1, 2, 2), num_layers=1, decoder_dim=16, num_classes=4)
    return Case(model, (image(1, 3, 64, 64),))


@wild("uniformer-pytorch", "Uniformer of videos")
def _() -> Case:
    from uniformer_pytorch import Uniformer

    model = Uniformer(
        num_classes=10, dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), mhsa_types=("l", "l", "g", "g"), dim_head=8
    )
    return Case(model, (image(1, 3, 4, 32, 32),))


@wild("timesformer-pytorch", "TimeSformer of videos")
def _() -> Case:
    from timesformer_pytorch import TimeSformer

    model = TimeSformer(
        dim=32, image_size=32, patch_size=8, num_frames=4, num_classes=10, depth=2, heads=2, dim_head=16
    )
    return Case(model, (image(1, 4, 3, 32, 32),))


@wild("axial-attention", "AxialAttention")
def _() -> Case:
    from axial_attention import AxialAttention

    return Case(AxialAttention(dim=16, dim_index=1, heads=2, num_dimensions=2), (image(2, 16, 8, 8),))


@wild("byol-pytorch", "BYOL on a resnet")
def _() -> Case:
    from byol_pytorch import BYOL
    from torchvision import models

    model = BYOL(
        models.resnet18(), image_size=32, hidden_layer="avgpool", projection_size=32, projection_hidden_size=32
    )
    return Case(model, (image(2, 3, 32, 32),))


@wild("efficientnet-pytorch", "EfficientNet-B0")
def _() -> Case:
    from efficientnet_pytorch import EfficientNet

    return Case(EfficientNet.from_name("efficientnet-b0"), (image(2, 3, 64, 64),))


@wild("segment-anything", "image encoder, prompts and masks")
def _() -> Case:
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
    from torch import nn

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = ImageEncoderViT(
                img_size=64,
                patch_size=16,
                embed_dim=32,
                depth=2,
                num_heads=2,
                out_chans=32,
                use_rel_pos=True,
                window_size=2,
                global_attn_indexes=(1,),
            )
            self.prompts = PromptEncoder(32, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=8)
            self.masks = MaskDecoder(
                transformer_dim=32, transformer=TwoWayTransformer(depth=1, embedding_dim=32, num_heads=2, mlp_dim=64)
            )

        def forward(self, image: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            sparse, dense = self.prompts(points=(points, labels), boxes=None, masks=None)
            return self.masks(self.encoder(image), self.prompts.get_dense_pe(), sparse, dense, multimask_output=True)

    return Case(Segmenter(), (image(1, 3, 64, 64), signal(1, 2, 2), torch.ones(1, 2, dtype=torch.long)))


@wild("facenet-pytorch", "InceptionResnetV1")
def _() -> Case:
    from facenet_pytorch import InceptionResnetV1

    return Case(InceptionResnetV1(classify=True, num_classes=10).train(), (image(2, 3, 96, 96),))


@wild("lpips", "LPIPS by AlexNet")
def _() -> Case:
    from lpips import LPIPS

    return Case(LPIPS(net="alex", pnet_rand=True, verbose=False), (image(1, 3, 64, 64), image(1, 3, 64, 64)))


@wild("pytorch-msssim", "multi-scale SSIM after a convolution")
def _() -> Case:
    import torch
    from pytorch_msssim import MS_SSIM
    from torch import nn

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 3, 3, padding=1)
            self.loss = MS_SSIM(data_range=1.0, win_size=3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 1 - self.loss(self.net(image), image)

    return Case(Loss(), (image(1, 3, 64, 64),))


@wild("lightly", "SimCLR with its loss")
def _() -> Case:
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from torch import nn
    from torchvision import models

    class SimCLR(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(*list(models.resnet18().children())[:-1])
            self.head = SimCLRProjectionHead(512, 64, 32)
            self.loss = NTXentLoss()

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            left, right = (self.head(self.backbone(image).flatten(1)) for image in (first, second))
            return self.loss(left, right)

    return Case(SimCLR(), (image(2, 3, 32, 32), image(2, 3, 32, 32)))


@wild("torchxrayvision", "DenseNet")
def _() -> Case:
    from torchxrayvision.models import DenseNet

    model = DenseNet(num_classes=5, in_channels=1, growth_rate=8, block_config=(2, 2), num_init_features=16)
    return Case(model, (image(2, 1, 64, 64),))


@wild("pytorchvideo", "SlowFast")
def _() -> Case:
    from pytorchvideo.models.slowfast import create_slowfast

    model = create_slowfast(model_depth=18, model_num_class=10, head_pool_kernel_sizes=((2, 1, 1), (8, 1, 1)))
    return Case(model, ([image(1, 3, 2, 32, 32), image(1, 3, 8, 32, 32)],))


@wild("pytorchvideo", "X3D")
def _() -> Case:
    from pytorchvideo.models.x3d import create_x3d

    model = create_x3d(input_clip_length=4, input_crop_size=64, model_num_class=10, depth_factor=1.0)
    return Case(model, (image(1, 3, 4, 64, 64),))


@wild("sam2", "Hiera image encoder with a feature pyramid")
def _() -> Case:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    trunk = Hiera(
        embed_dim=16,
        num_heads=1,
        stages=(1, 1, 2, 1),
        global_att_blocks=(3,),
        window_pos_embed_bkg_spatial_size=(4, 4),
    )
    neck = FpnNeck(PositionEmbeddingSine(num_pos_feats=16), d_model=16, backbone_channel_list=[128, 64, 32, 16])
    return Case(ImageEncoder(trunk=trunk, neck=neck), (image(1, 3, 64, 64),))


@wild("torchsr", "EDSR")
def _() -> Case:
    from torchsr.models import edsr_r16f64

    return Case(edsr_r16f64(scale=2, pretrained=False), (image(1, 3, 12, 12),))


@wild("resnest", "ResNeSt-14")
def _() -> Case:
    from resnest.torch.resnet import Bottleneck, ResNet

    model = ResNet(Bottleneck, [1, 1, 1, 1], radix=2, groups=1, bottleneck_width=64, deep_stem=True, stem_width=8)
    return Case(model, (image(2, 3, 64, 64),))


@wild("pretrainedmodels", "SE-ResNeXt, small")
def _() -> Case:
    from pretrainedmodels.models.senet import SENet, SEResNeXtBottleneck

    model = SENet(
        SEResNeXtBottleneck,
        [1, 1, 1, 1],
        groups=32,
        reduction=16,
        dropout_p=None,
        inplanes=64,
        input_3x3=False,
        downsample_kernel_size=1,
        downsample_padding=0,
        num_classes=10,
    )
    return Case(model, (image(1, 3, 224, 224),))


@wild("labml-nn", "Switch Transformer layer")
def _() -> Case:
    import torch
    from labml_nn.transformers.feed_forward import FeedForward
    from labml_nn.transformers.switch import SwitchFeedForward

    model = SwitchFeedForward(
        capacity_factor=1.2, drop_tokens=False, is_scale_prob=True, n_experts=4, expert=FeedForward(16, 32), d_model=16
    )
    return Case(model, (torch.rand(6, 2, 16),))
