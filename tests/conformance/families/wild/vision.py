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
