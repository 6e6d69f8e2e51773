"""The default system, at the scale of the picture-book world: 128 px, trained by recipes/picturebook."""

from __future__ import annotations

from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.conditioning.word_text import WordTextConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.bottleneck import KLConfig
from darkroom.models.unet import UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems.system import SYSTEMS, Defaults, System

__all__ = ["PICTUREBOOK"]

# Every word that the captions of the picture-book world hold; letters spell the words on signs.
# fmt: off
WORDS = (
    "a", "above", "an", "and", "apple", "apples", "at", "b", "balloon", "balloons", "beach", "behind", "below",
    "bird", "birds", "black", "blue", "boat", "boats", "bright", "brown", "butterflies", "butterfly", "by", "c",
    "cactus", "cactuses", "car", "cars", "cat", "cats", "cow", "cows", "d", "day", "daytime", "dog", "dogs", "door",
    "duck", "ducks", "e", "evening", "f", "facing", "fish", "flower", "flowers", "four", "front", "g", "grass",
    "green", "grey", "ground", "h", "hat", "hats", "hills", "house", "houses", "i", "in", "j", "k", "kite", "kites",
    "l", "large", "left", "lighthouse", "lighthouses", "m", "meadow", "mountains", "mushroom", "mushrooms", "n",
    "near", "night", "o", "of", "on", "orange", "over", "p", "palm", "palms", "pine", "pines", "pink", "purple",
    "q", "r", "rabbit", "rabbits", "red", "right", "rocket", "rockets", "roof", "s", "sail", "sand", "says",
    "scarf", "sea", "sign", "small", "snow", "snowman", "snowmen", "snowy", "star", "stars", "sunset", "t", "tent",
    "tents", "that", "the", "three", "to", "tree", "trees", "two", "u", "umbrella", "umbrellas", "under", "v", "w",
    "white", "windmill", "windmills", "with", "x", "y", "yellow", "z",
)
# fmt: on

PICTUREBOOK = SYSTEMS.add(
    "picturebook",
    System(
        name="picturebook",
        title="Picture-book scenes at 128 px, the model that ships",
        unet=UNetConfig(
            in_channels=8,
            out_channels=8,
            model_channels=96,
            channel_mult=(1, 3),  # 16 × 16 thin, 8 × 8 wide: what two cores can train
            num_res_blocks=1,
            attention="transformer",
            depth=(1, 1),
            mid_depth=1,
            heads=None,
            head_dim=48,
            context_dim=256,
            vector="linear",
            vector_dim=6 * 32,
            linear_projections=True,
        ),
        autoencoder=AutoencoderConfig(
            channels=96,
            channel_mult=(1, 2),
            num_res_blocks=1,
            decoder_res_blocks=2,
            attention=(False, False),
            mid_attention=False,
            z_channels=8,
            latent_channels=8,
            bottleneck=KLConfig(),
            patch_size=4,
            refine_channels=16,
        ),
        embedders=(
            WordTextConfig(words=WORDS, length=40, width=256, layers=3, heads=4, head_dim=64, drop_rate=0.1),
            NumbersConfig(key="original_size", absent=(128, 128), width=32),
            NumbersConfig(key="crop", absent=(0, 0), width=32),
            NumbersConfig(key="target_size", absent=(128, 128), width=32),
        ),
        schedule=NoiseSchedule("scaled_linear", 0.00085, 0.012, zero_terminal_snr=True),
        prediction=Prediction.V,
        latent_scale=1.0,  # the first stage's own latents have unit variance, channel by channel
        defaults=Defaults(
            128,
            128,
            steps=8,
            sampler="DPM++ 2M",
            schedule="trailing",
            guidance_scale=3.0,
            guidance_interval=(0.12, 0.8),
        ),
    ),
)
