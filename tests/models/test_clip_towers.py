"""Parity with transformers at narrow widths, random weights in every parameter; 1e-5 in float32."""

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from darkroom.models.clip import ClipTextConfig, ClipTextTower
from darkroom.models.vision import VisionConfig, VisionTower, prepare_image


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, 0.3)


def our_name(name: str) -> str:
    for old, new in (
        ("text_model.", ""),
        ("vision_model.", ""),
        ("embeddings.token_embedding", "token_embedding"),
        ("embeddings.position_embedding", "position_embedding"),
        ("embeddings.patch_embedding", "patch_embedding"),
        ("embeddings.class_embedding", "class_embedding"),
        ("encoder.layers", "layers"),
        ("self_attn.q_proj", "to_q"),
        ("self_attn.k_proj", "to_k"),
        ("self_attn.v_proj", "to_v"),
        ("self_attn.out_proj", "to_out"),
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
        ("mlp.fc1", "ff_in"),
        ("mlp.fc2", "ff_out"),
        ("final_layer_norm", "norm"),
        ("pre_layrnorm", "norm_in"),
        ("post_layernorm", "norm_out"),
        ("text_projection", "projection"),
        ("visual_projection", "projection"),
    ):
        name = name.replace(old, new)
    return name


def copy(peer: nn.Module, ours: nn.Module) -> None:
    state = {our_name(k): v for k, v in peer.state_dict().items() if not k.endswith("position_ids")}
    ours.load_state_dict(state, strict=True)


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def text(request: pytest.FixtureRequest) -> tuple[CLIPTextModelWithProjection, ClipTextTower]:
    torch.manual_seed(0)
    peer = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=128,
            projection_dim=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=12,
            hidden_act=request.param,
            eos_token_id=2,  # as in the published configurations
        )
    ).eval()
    randomise(peer)
    ours = ClipTextTower(ClipTextConfig(32, 3, 4, request.param, 24, vocabulary=50, length=12))
    copy(peer, ours)
    return peer, ours.eval()


TOKENS = torch.tensor([[48, 5, 7, 49] + [49] * 8, [48, 3, 2, 1, 9, 49] + [0] * 6])  # both manners of padding


@pytest.mark.parametrize("skip", [0, 1, 2])
@torch.no_grad()
def test_text_tower_agrees_with_transformers(text: tuple[CLIPTextModelWithProjection, ClipTextTower], skip: int):
    peer, ours = text
    wanted = peer(TOKENS, output_hidden_states=True)
    plain = ours(TOKENS, skip=skip, norm=False, pooled=True)
    # Only the peer's last_hidden_state has passed the final norm.
    norm = ours.norm(wanted.hidden_states[-1 - skip])
    torch.testing.assert_close(plain.tokens, wanted.hidden_states[-1 - skip], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.pooled, wanted.text_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(TOKENS, skip=skip).tokens, norm, rtol=1e-5, atol=1e-5)
    if skip == 0:
        torch.testing.assert_close(ours(TOKENS).tokens, wanted.last_hidden_state, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layers_behind_the_wanted_one_do_not_run(text: tuple[CLIPTextModelWithProjection, ClipTextTower]):
    _, ours = text
    ran = []
    hooks = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(ours.layers)]
    ours(TOKENS, skip=1)
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]


@torch.no_grad()
def test_a_learned_token_stands_for_its_vector_and_never_for_the_end():
    torch.manual_seed(0)
    tower = ClipTextTower(ClipTextConfig(32, 2, 4, "gelu", 24, vocabulary=50, length=12))
    known = TOKENS.clone()
    learned = TOKENS.clone()
    learned[:, 2] = 50
    known[:, 2] = 30
    vectors = tower.token_embedding.weight[30:31].clone()
    got, wanted = tower(learned, pooled=True, learned=vectors), tower(known, pooled=True)
    torch.testing.assert_close(got.tokens, wanted.tokens)
    torch.testing.assert_close(got.pooled, wanted.pooled)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_vision_tower_agrees_with_transformers(activation: str):
    torch.manual_seed(0)
    peer = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=128,
            projection_dim=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=28,
            patch_size=14,
            hidden_act=activation,
        )
    ).eval()
    randomise(peer)
    ours = VisionTower(VisionConfig(32, 2, 4, activation, 24, image_size=28)).eval()
    copy(peer, ours)
    x = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(ours(x), peer(x).image_embeds, rtol=1e-5, atol=1e-5)


def test_preparing_keeps_flat_colours_and_gives_the_towers_size():
    image = torch.tensor([0.5, -0.25, 1.0]).view(1, 3, 1, 1).expand(1, 3, 300, 500)
    x = prepare_image(image, 224)
    wanted = (0.75 - 0.48145466) / 0.26862954
    assert x.shape == (1, 3, 224, 224)
    torch.testing.assert_close(x[0, 0], torch.full((224, 224), wanted), rtol=1e-4, atol=1e-4)


def test_shrinking_removes_what_the_small_picture_cannot_hold():
    stripes = torch.ones(1, 3, 896, 896)
    stripes[..., ::2] = -1.0
    inner = prepare_image(stripes, 224)[0, 0, :, 8:-8]
    assert inner.std() < 0.1  # without the blur, aliasing keeps full contrast
