"""Embedders that Diffusers has, too: same numbers to 1e-5 in float32."""

import torch
from diffusers import DDPMScheduler
from diffusers.models.embeddings import Timesteps, get_timestep_embedding
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from darkroom.conditioning.image_prompt import ImagePrompt, ImagePromptConfig, PromptImage
from darkroom.conditioning.low_resolution import LowResolution, LowResolutionConfig, Small
from darkroom.conditioning.noise_level import NoiseLevels
from darkroom.conditioning.size_and_crop import Numbers, NumbersConfig
from darkroom.models.vision import VisionConfig


def test_sizes_and_crops():
    keys = ("original_size", "crop", "target_size")
    values = ((1024, 768), (13, 0), (1216, 832))
    embedders = [Numbers(NumbersConfig(key, absent=(0, 0))) for key in keys]
    ours = torch.cat([e(e.prepare([v])) for e, v in zip(embedders, values)], dim=1)
    ids = torch.tensor([[*values[0], *values[1], *values[2]]])
    theirs = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)(ids.flatten()).reshape(1, -1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_noised_image_prompts():
    torch.manual_seed(0)
    width, level = 8, 700
    tower = VisionConfig(width=16, layers=1, heads=2, activation="gelu", projection=width, image_size=28)
    ours = ImagePrompt(ImagePromptConfig(tower, NoiseLevels("cosine")))
    peer = StableUnCLIPImageNormalizer(embedding_dim=width)
    for name in ("mean", "std"):
        values = torch.rand(width) + 0.5
        getattr(ours, name).copy_(values)
        getattr(peer, name).copy_(values[None])
    embedding, noise = torch.randn(width), torch.randn(width)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    noised = scheduler.add_noise(peer.scale(embedding[None]), noise[None], torch.tensor([level]))
    features = get_timestep_embedding(torch.tensor([level]), width, flip_sin_to_cos=True, downscale_freq_shift=0)
    theirs = torch.cat([peer.unscale(noised), features], dim=1)
    got = ours(ours.prepare([PromptImage(embedding, level, noise)]))
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-5)  # the peer's alphas are float32


def test_noised_small_pictures():
    levels = NoiseLevels("scaled_linear", 0.0001, 0.02, highest=349)
    ours = LowResolution(LowResolutionConfig(levels))
    image, noise = torch.randn(2, 3, 8, 8).unbind()
    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear")
    theirs = scheduler.add_noise(image[None], noise[None], torch.tensor([200]))
    torch.testing.assert_close(ours(ours.prepare([Small(image, 200, noise)])).channels, theirs, rtol=1e-5, atol=1e-5)
