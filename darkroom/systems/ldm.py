"""The systems of the latent diffusion paper as they were released (papers A.2, A.5).

Unets with "block" attention read no tokens. The released quality numbers are those of the EMA weights.
"""

from __future__ import annotations

from dataclasses import replace

from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.features import VectorsConfig
from darkroom.conditioning.low_resolution import LowResolutionConfig
from darkroom.conditioning.masked_image import MaskedImageConfig
from darkroom.conditioning.segmentation import SegmentationConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.unet import UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems.autoencoders import KL_F8, KL_F16, VQ_F4, VQ_F4_NOATTN, VQ_F8
from darkroom.systems.system import SYSTEMS, Defaults, System

__all__ = ["LDM_CELEBA", "LDM_TEXT_LARGE"]


def until(beta_end: float) -> NoiseSchedule:
    """The usual schedule of the time: linear in the roots, from .0015."""
    return NoiseSchedule("scaled_linear", 0.0015, beta_end)


def ddim(size: int, steps: int, *, eta: float = 0.0, guidance_scale: float = 1.0) -> Defaults:
    return Defaults(size, size, steps, "DDIM", "leading", guidance_scale, eta)


LDM_CELEBA = System(
    name="ldm_celeba256",
    title="Faces, CelebA-HQ",
    unet=UNetConfig(
        in_channels=3,
        out_channels=3,
        model_channels=224,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=2,
        attention="block",
        depth=(0, 1, 1, 1),
        mid_depth=1,
        heads=None,
        head_dim=32,
        context_dim=None,
        vector="none",
        vector_dim=0,
        linear_projections=False,
    ),
    autoencoder=VQ_F4,
    embedders=(),
    schedule=until(0.0195),
    prediction=Prediction.EPS,
    latent_scale=1.0,
    defaults=ddim(256, 200),
    layouts=("ldm_celeba256",),
)
LDM_FFHQ = replace(
    LDM_CELEBA,
    name="ldm_ffhq256",
    title="Faces, FFHQ",
    defaults=ddim(256, 200, eta=1.0),
    layouts=("ldm_ffhq256",),
)
LDM_BEDROOMS = replace(
    LDM_CELEBA,
    name="ldm_lsun_beds256",
    title="Bedrooms, LSUN",
    defaults=ddim(256, 200, eta=1.0),
    layouts=("ldm_lsun_beds256",),
)
LDM_CHURCHES = replace(
    LDM_CELEBA,
    name="ldm_lsun_churches256",
    title="Churches, LSUN",
    unet=replace(
        LDM_CELEBA.unet,
        in_channels=4,
        out_channels=4,
        model_channels=192,
        channel_mult=(1, 2, 2, 4, 4),
        depth=(1, 1, 1, 1, 0),
        heads=8,
        head_dim=None,
        scale_shift=True,
        resblock_updown=True,
    ),
    autoencoder=KL_F8,
    schedule=until(0.0155),
    latent_scale=1.0,
    scale_in_file=True,  # 1 / std of the first training batch
    defaults=ddim(256, 500),  # what the reference runs when asked for 400, which does not divide 1000
    layouts=("ldm_lsun_churches256",),
)
LDM_CLASS = replace(
    LDM_CELEBA,
    name="ldm_cin256",
    title="ImageNet classes, first release, f = 8",
    unet=replace(
        LDM_CELEBA.unet,
        in_channels=4,
        out_channels=4,
        model_channels=256,
        channel_mult=(1, 2, 4),
        attention="transformer",
        depth=(1, 1, 1),
        context_dim=512,
    ),
    autoencoder=VQ_F8,
    embedders=(ClassLabelConfig(rows=1000, width=512, null=None),),
    defaults=ddim(256, 200, eta=1.0),
    layouts=("ldm_cin256",),
)
LDM_CLASS_V2 = replace(
    LDM_CELEBA,
    name="ldm_cin256-v2",
    title="ImageNet classes, f = 4",
    unet=replace(
        LDM_CELEBA.unet,
        model_channels=192,
        channel_mult=(1, 2, 3, 5),
        attention="transformer",
        heads=1,
        head_dim=None,
        context_dim=512,
    ),
    embedders=(ClassLabelConfig(rows=1001, width=512, null=1000, drop_rate=0.1),),
    defaults=ddim(256, 20, guidance_scale=3.0),
    layouts=("ldm_cin256-v2",),
)
LDM_TEXT = replace(
    LDM_CELEBA,
    name="ldm_text2img256",
    title="Text to image, small",
    unet=replace(
        LDM_CELEBA.unet, model_channels=192, channel_mult=(1, 2, 3, 5), attention="transformer", context_dim=640
    ),
    embedders=(BertTextConfig(width=640, layers=32, drop_rate=0.1),),
    defaults=ddim(256, 100, guidance_scale=5.0),
    layouts=("ldm_text2img256",),
)
LDM_TEXT_LARGE = replace(
    LDM_CELEBA,
    name="ldm_text2img-large",
    title="Text to image, 1.45 billion parameters",
    unet=replace(
        LDM_CELEBA.unet,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        channel_mult=(1, 2, 4, 4),
        attention="transformer",
        depth=(1, 1, 1, 0),
        heads=8,
        head_dim=None,
        context_dim=1280,
    ),
    autoencoder=KL_F8,
    embedders=(BertTextConfig(width=1280, layers=32, drop_rate=0.1),),
    schedule=NoiseSchedule("scaled_linear", 0.00085, 0.012),
    latent_scale=0.18215,
    defaults=ddim(256, 200, guidance_scale=5.0),
    layouts=("ldm_text2img-large",),
)
# 300 frequent classes of OpenImages and those that COCO needs: 352 names.
LDM_LAYOUT = replace(
    LDM_CELEBA,
    name="ldm_layout2img-openimages256",
    title="Boxes to image, OpenImages",
    unet=replace(
        LDM_CELEBA.unet,
        model_channels=128,
        attention="transformer",
        depth=(0, 3, 3, 3),
        mid_depth=3,
        context_dim=512,
    ),
    embedders=(BoxesConfig(classes=352, width=512, layers=16),),
    schedule=until(0.0205),
    defaults=ddim(256, 200),
    layouts=("ldm_layout2img-openimages256",),
)
# No configuration was released. After the paper's table 15, with boxes as for OpenImages, COCO's 183 classes, and the
# 8 layers of tokens that bring it to the 345 million parameters of that table.
LDM_LAYOUT_COCO = replace(
    LDM_LAYOUT,
    name="ldm_layout2img-coco256",
    title="Boxes to image, COCO (the paper's table only)",
    unet=replace(
        LDM_LAYOUT.unet,
        in_channels=4,
        out_channels=4,
        model_channels=192,
        channel_mult=(1, 2, 4),
        depth=(2, 2, 2),
        mid_depth=2,
        heads=1,
        head_dim=None,
        dropout=0.1,
    ),
    autoencoder=VQ_F8,
    embedders=(BoxesConfig(classes=183, width=512, layers=8),),
    layouts=(),
)
LDM_SEMANTIC = replace(
    LDM_CELEBA,
    name="ldm_semantic_synthesis256",
    title="Semantic map to landscape",
    unet=replace(
        LDM_CELEBA.unet,
        in_channels=6,
        model_channels=128,
        channel_mult=(1, 4, 8),
        depth=(0, 0, 0),  # attention in the middle only
        heads=8,
        head_dim=None,
    ),
    embedders=(SegmentationConfig(classes=182, channels=3, halvings=2),),
    schedule=until(0.0205),
    defaults=ddim(256, 200),
    layouts=("ldm_semantic_synthesis256",),
)
LDM_SEMANTIC_512 = replace(
    LDM_SEMANTIC,
    name="ldm_semantic_synthesis512",
    title="Semantic map to landscape, fine-tuned at 512",
    defaults=ddim(512, 200),
    layouts=("ldm_semantic_synthesis512",),
)
LDM_SUPER_RESOLUTION = replace(
    LDM_CELEBA,
    name="ldm_bsr_sr",
    title="Super-resolution ×4, trained on BSR degradations",
    unet=replace(
        LDM_CELEBA.unet, in_channels=6, model_channels=160, channel_mult=(1, 2, 2, 4), depth=(0, 0, 0, 1), head_dim=32
    ),
    embedders=(LowResolutionConfig(),),
    schedule=until(0.0155),
    defaults=ddim(256, 100, eta=1.0),
    layouts=("ldm_bsr_sr",),
)
LDM_INPAINTING = replace(
    LDM_CELEBA,
    name="ldm_inpainting_big",
    title="Inpainting",
    unet=replace(LDM_CELEBA.unet, in_channels=7, model_channels=256, heads=8, head_dim=None, resblock_updown=True),
    autoencoder=VQ_F4_NOATTN,
    embedders=(MaskedImageConfig("mask_last"),),
    schedule=until(0.0205),
    defaults=ddim(512, 50),
    layouts=("ldm_inpainting_big",),
)
LDM_RETRIEVAL = replace(
    LDM_CELEBA,
    name="ldm_rdm768x768",
    title="Retrieval-augmented, from CLIP ViT-L/14 vectors",
    unet=replace(
        LDM_CELEBA.unet,
        in_channels=16,
        out_channels=16,
        model_channels=448,
        attention="transformer",
        depth=(1, 1, 1, 0),
        context_dim=768,
    ),
    autoencoder=KL_F16,
    embedders=(VectorsConfig(width=768, key="neighbours"),),
    schedule=until(0.015),
    latent_scale=0.22765929,
    defaults=ddim(768, 50, guidance_scale=5.0),
    layouts=("ldm_rdm768x768",),
)

for system in (
    LDM_CELEBA,
    LDM_FFHQ,
    LDM_CHURCHES,
    LDM_BEDROOMS,
    LDM_CLASS,
    LDM_CLASS_V2,
    LDM_TEXT,
    LDM_TEXT_LARGE,
    LDM_LAYOUT,
    LDM_LAYOUT_COCO,
    LDM_SEMANTIC,
    LDM_SEMANTIC_512,
    LDM_SUPER_RESOLUTION,
    LDM_INPAINTING,
    LDM_RETRIEVAL,
):
    SYSTEMS.add(system.name, system)
