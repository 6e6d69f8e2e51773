"""Parity with transformers at narrow widths, random weights in every parameter; 1e-4 of the largest depth, float32."""

import torch
from transformers import BitConfig, DPTConfig, DPTForDepthEstimation

from darkroom.models.depth import DepthConfig, DepthEstimator, depth_input

PAIRS = (
    ("dpt.embeddings.backbone.bit.embedder.convolution", "stem_conv"),
    ("dpt.embeddings.backbone.bit.embedder.norm", "stem_norm"),
    ("dpt.embeddings.backbone.bit.encoder.stages", "stages"),
    (".downsample.conv", ".shortcut.0"),
    (".downsample.norm", ".shortcut.1"),
    ("dpt.embeddings.projection", "patch_embedding"),
    ("dpt.embeddings.cls_token", "class_token"),
    ("dpt.embeddings.position_embeddings", "position_embedding"),
    ("dpt.encoder.layer.", "layers."),
    ("dpt.layers.", "layers."),
    (".attention.attention.query", ".to_q"),
    (".attention.attention.key", ".to_k"),
    (".attention.attention.value", ".to_v"),
    (".attention.output.dense", ".to_out"),
    (".attention.q_proj", ".to_q"),
    (".attention.k_proj", ".to_k"),
    (".attention.v_proj", ".to_v"),
    (".attention.o_proj", ".to_out"),
    (".mlp.fc1", ".ff_in"),
    (".mlp.fc2", ".ff_out"),
    (".intermediate.dense", ".ff_in"),
    (".output.dense", ".ff_out"),
    (".layernorm_before", ".norm1"),
    (".layernorm_after", ".norm2"),
    ("dpt.layernorm", "norm"),
    ("neck.reassemble_stage.readout_projects.2.0", "readout.0"),
    ("neck.reassemble_stage.readout_projects.3.0", "readout.1"),
    ("neck.reassemble_stage.layers.2.projection", "project.0"),
    ("neck.reassemble_stage.layers.3.projection", "project.1"),
    ("neck.reassemble_stage.layers.3.resize", "shrink"),
    ("neck.convs", "reduce"),
    ("residual_layer1.convolution", "unit1.conv"),
    ("residual_layer2.convolution", "unit2.conv"),
    ("projection", "out"),
    ("head.head.0", "head1"),
    ("head.head.2", "head2"),
    ("head.head.4", "head3"),
)


def our_name(name: str) -> str:
    for old, new in PAIRS:
        name = name.replace(old, new)
    for i in range(4):
        name = name.replace(f"neck.fusion_stage.layers.{i}.", f"fusions.{3 - i}.")
    if name.startswith("stages"):
        name = name.replace(".layers.", ".")
    return name


CONFIG = DepthConfig(
    stem=32,
    stages=(128, 128, 256),
    blocks=(1, 2, 1),
    width=32,
    layers=4,
    heads=4,
    taps=(2, 3),
    features=16,
    image_size=64,
)


def peer_model() -> DPTForDepthEstimation:
    bit = BitConfig(
        embedding_size=32,
        hidden_sizes=[128, 128, 256],
        depths=[1, 2, 1],
        layer_type="bottleneck",
        global_padding="same",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3"],
    )
    peer = DPTForDepthEstimation(
        DPTConfig(
            is_hybrid=True,
            backbone_config=bit,
            backbone_featmap_shape=[1, 256, 4, 4],
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=64,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[128, 128, 32, 32],
            neck_ignore_stages=[0, 1],
            reassemble_factors=[1, 1, 1, 0.5],
            readout_type="project",
            fusion_hidden_size=16,
            use_batch_norm_in_fusion_residual=False,
            layer_norm_eps=1e-6,  # the reference's; the published configuration has 1e-12
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(0.1 * torch.randn_like(p))
        peer.head.head[4].bias.fill_(3.0)  # so that the last relu passes something
    return peer


@torch.no_grad()
def test_agrees_with_transformers():
    peer, ours = peer_model(), DepthEstimator(CONFIG).eval()
    ours.load_state_dict({our_name(k): v for k, v in peer.state_dict().items()}, strict=True)
    x = torch.randn(2, 3, 64, 64)
    got, wanted = ours(x)[:, 0], peer(x).predicted_depth
    assert wanted.std() > 1e-3
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.max()))


@torch.no_grad()
def test_other_aspects_give_a_map_of_the_same_aspect():
    assert DepthEstimator(CONFIG)(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


def test_the_input_changes_as_little_as_it_can():
    assert depth_input(torch.zeros(1, 3, 512, 512)).shape[-2:] == (384, 384)
    assert depth_input(torch.zeros(1, 3, 512, 768)).shape[-2:] == (384, 576)
    assert depth_input(torch.zeros(1, 3, 768, 512)).shape[-2:] == (576, 384)
