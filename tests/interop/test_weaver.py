"""Against weaver-core 0.5.3 itself: the same weights on the same batch."""

import logging

import pytest
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverTransformer

from jettag.errors import CardError, CheckpointError
from jettag.interop.weaver import FEATURES, convert_state_dict, import_checkpoint, read_data_config
from jettag.models import ClassHead, ParticleTransformer, build_backbone

from ..models.conftest import random_jets

COUNTS = [30, 1, 2, 17, 40, 33, 5, 28, 25, 26, 31, 22]
LITTLE = {
    "embed_dims": (24, 16),
    "pair_embed_dims": (8, 8),
    "num_heads": 4,
    "num_layers": 2,
    "num_cls_layers": 2,
}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def weaver_network(num_features=17, num_classes=10, seed=0, drop=0.0, **changes):
    """As published (activation kept after the pair network), with norms and scales off their neutral values."""
    torch.manual_seed(seed)
    block = {"dropout": drop, "attn_dropout": drop, "activation_dropout": drop}
    options = {"use_pre_activation_pair": False, "trim": False, "block_params": block, **changes}
    network = WeaverTransformer(num_features, num_classes, **options)
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if value.ndim == 1 and value.is_floating_point() and "counter" not in name:
                value.add_(0.2 * torch.rand_like(value))
    return network


def ours_from(network, tmp_path, **options):
    torch.save({f"mod.{name}": value for name, value in network.state_dict().items()}, tmp_path / "weaver.pt")
    return import_checkpoint(tmp_path / "weaver.pt", **options)


def as_weaver(network, jets):
    return network(jets.features.transpose(1, 2), jets.p4.transpose(1, 2), jets.mask[:, None])


@pytest.mark.parametrize("features", FEATURES)
def test_outputs_of_the_published_network_agree(features, tmp_path):
    count = len(FEATURES[features])
    network = weaver_network(count).eval()
    backbone, head, facts = ours_from(network, tmp_path)
    assert (facts["features"], facts["legacy"], facts["num_classes"]) == (features, False, 10)
    jets = random_jets(COUNTS, count, width=48)
    with torch.no_grad():
        expected, found = as_weaver(network, jets), head(backbone(jets).jet)
    assert expected.std() > 0.1, "the comparison would be empty"
    assert (found - expected).abs().max() < 1e-5


def test_the_base_size_is_the_published_network():
    network = WeaverTransformer(17, 10)
    count = sum(p.numel() for p in network.parameters())
    backbone = build_backbone("particle_transformer", "base", 17)
    head = ClassHead(backbone.dim, 10)
    assert sum(p.numel() for p in (*backbone.parameters(), *head.parameters())) == count
    assert count == pytest.approx(2.14e6, rel=0.005)  # the paper's table


def test_registers_are_refused_by_name(tmp_path):
    """The published network has none: weights with such tokens, or a network that wants them, are not this one."""
    with pytest.raises(CheckpointError, match="unexpected register_token"):
        convert_state_dict({"mod.register_token": torch.zeros(1, 4, 128)})
    with pytest.raises(CheckpointError, match="missing registers"):
        ours_from(weaver_network(), tmp_path, num_registers=4)


def test_constituents_agree_block_by_block(tmp_path):
    network = weaver_network().eval()
    backbone, _, _ = ours_from(network, tmp_path)
    jets = random_jets(COUNTS)
    seen = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    with torch.no_grad():
        as_weaver(network, jets)
        blocks = list(backbone.blocks)
        for depth, expected in enumerate(seen, start=1):
            backbone.blocks = torch.nn.ModuleList(blocks[:depth])
            found = backbone.constituents(jets)
            # The stream grows from block to block; compare with its size.
            scale = expected[jets.mask].abs().max()
            assert (found - expected)[jets.mask].abs().max() < 1e-5 * max(scale, 1), f"block {depth}"
    assert len(seen) == 8


@pytest.mark.parametrize("last_activation", [True, False])
def test_training_mode_agrees_with_running_statistics(tmp_path, last_activation):
    """In training, weaver-core's input norm counts its padding and ours does not; jets of equal length have none."""
    network = weaver_network(use_pre_activation_pair=not last_activation, **LITTLE).train()
    backbone, head, _ = ours_from(network, tmp_path, pair_activation=last_activation, **NO_DROPOUT)
    jets = random_jets([20] * 8)
    expected, found = as_weaver(network, jets), head(backbone.train()(jets).jet)
    assert (found - expected).abs().max() < 2e-5
    statistics, _ = convert_state_dict(network.state_dict())
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, statistics[name], rtol=1e-4, atol=1e-5, msg=name)


def test_pair_statistics_agree_with_padding_too(tmp_path):
    network = weaver_network(**LITTLE).train()
    backbone, head, _ = ours_from(network, tmp_path, **NO_DROPOUT)
    backbone.train()
    network.embed.input_bn.eval()
    backbone.embedding.norm.eval()
    jets = random_jets(COUNTS, width=48)
    assert (head(backbone(jets).jet) - as_weaver(network, jets)).abs().max() < 2e-5
    statistics, _ = convert_state_dict(network.state_dict())
    for name, value in backbone.state_dict().items():
        if "pair_embedding" in name:
            torch.testing.assert_close(value, statistics[name], rtol=1e-4, atol=1e-5, msg=name)


def test_losses_of_a_training_agree(tmp_path):
    network = weaver_network(**LITTLE).train()
    backbone, head, _ = ours_from(network, tmp_path, **NO_DROPOUT)
    backbone.train()
    head.train()
    optimizers = [
        torch.optim.SGD(network.parameters(), 0.02),
        torch.optim.SGD([*backbone.parameters(), *head.parameters()], 0.02),
    ]
    losses = []
    for step in range(20):
        jets = random_jets([18] * 16, seed=step % 4)
        pair = []
        for optimizer, forward in zip(
            optimizers, (lambda j: as_weaver(network, j), lambda j: head(backbone(j).jet)), strict=True
        ):
            loss = torch.nn.functional.cross_entropy(forward(jets), jets.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pair.append(loss.item())
        losses.append(pair)
    theirs, ours = torch.tensor(losses).T
    assert (theirs - ours).abs().max() < 1e-4
    assert theirs[-1] < 0.9 * theirs[0], "it must have learnt something for this to mean anything"


def old_scaling(x, c_attn):
    """What weaver-core <= 0.4.17 does after every attention: (t, b, E) in, channels transposed and scaled out."""
    t, b, width = x.shape
    x = x.view(t, b, len(c_attn), width // len(c_attn))
    return torch.einsum("tbhd,h->tbdh", x, c_attn).reshape(t, b, width)


def test_old_weights_are_converted_exactly(tmp_path):
    """A network of today made to compute as the old one did, hooks on its projections; our import must agree."""
    network = weaver_network(seed=3, **LITTLE).eval()
    old_state = {}
    for name, value in network.state_dict().items():
        old_state[f"module.{name.replace('in_proj.', 'in_proj_')}"] = value.clone()
    for block in (*network.blocks, *network.cls_blocks):
        scale = block.c_attn.detach().clone()
        block.c_attn.data.fill_(1)
        block.attn.out_proj.register_forward_hook(
            lambda module, args, output, scale=scale: old_scaling(output.transpose(0, 1), scale).transpose(0, 1)
        )
    torch.save(old_state, tmp_path / "old.pt")
    jets = random_jets(COUNTS)
    with torch.no_grad():
        expected = as_weaver(network, jets)
        backbone, head, facts = import_checkpoint(tmp_path / "old.pt")
        assert (head(backbone(jets).jet) - expected).abs().max() < 1e-5
        assert facts["legacy"]
        naive, head, _ = import_checkpoint(tmp_path / "old.pt", legacy=False)
        assert (head(naive(jets).jet) - expected).abs().max() > 1e-2, "the trap the conversion is for"


@pytest.mark.parametrize("prefix", ["", "mod.", "module.mod.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_fall_away(prefix):
    backbone = ParticleTransformer(17, dim=16, embed_dims=(24, 16), pair_dims=(8, 8), num_heads=4, num_layers=2)
    state, head = convert_state_dict({prefix + k: v for k, v in weaver_network(**LITTLE).state_dict().items()})
    backbone.load_state_dict(state)
    assert set(head) == {"layers.0.weight", "layers.0.bias"}


def test_other_shapes_are_read_off_the_weights(tmp_path):
    network = weaver_network(13, 3, fc_params=[(12, 0.1)], **{**LITTLE, "num_layers": 3}).eval()
    backbone, head, _ = ours_from(network, tmp_path)
    assert backbone.settings() | {"num_features": 13, "num_layers": 3, "pair_dims": [8, 8]} == backbone.settings()
    jets = random_jets(COUNTS, 13)
    with torch.no_grad():
        assert (head(backbone(jets).jet) - as_weaver(network, jets)).abs().max() < 1e-5


def test_a_network_without_a_head(tmp_path):
    backbone, head, facts = ours_from(weaver_network(fc_params=None, **LITTLE), tmp_path)
    assert head is None
    assert facts["num_classes"] is None
    assert backbone.num_features == 17


def test_initial_weights_are_drawn_as_weaver_draws_them():
    torch.manual_seed(0)
    theirs, _ = convert_state_dict(WeaverTransformer(17, 10).state_dict())
    ours = build_backbone("particle_transformer", "base", 17).state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.numel() > 500:
            assert value.std() == pytest.approx(theirs[name].std().item(), rel=0.15), name
            assert value.abs().max() == pytest.approx(
                theirs[name].abs().max().item(), rel=0.1 if "token" not in name else 1
            )
        elif value.ndim != 2:
            assert torch.equal(value, theirs[name]) or "token" in name or "linears" in name, name


def damage(state, how):
    if how == "missing":
        del state["blocks.1.fc2.weight"]
    elif how == "shape":
        state["blocks.1.fc2.weight"] = torch.zeros(3, 3)
    elif how == "unexpected":
        state["blocks.1.fc1_g.weight"] = torch.zeros(3, 3)
    elif how == "foreign":
        state = {"conv1.weight": torch.zeros(3)}
    elif how == "object":
        state["blocks.0.c_attn"] = "not a tensor"
    elif how == "empty":
        state = {}
    return state


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("missing", "missing blocks.1.fc2.weight"),
        ("shape", "blocks.1.fc2.weight (3, 3)"),
        ("unexpected", "blocks.1.fc1_g.weight"),
        ("foreign", "conv1.weight"),
        ("object", "blocks.0.c_attn"),
        ("empty", "named tensors"),
    ],
)
def test_weights_that_do_not_fit_are_named(how, named, tmp_path):
    path = tmp_path / "broken.pt"
    torch.save(damage(dict(weaver_network(**LITTLE).state_dict()), how), path)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 5


def test_files_that_are_not_weights(tmp_path):
    html, missing, pickled = tmp_path / "page.pt", tmp_path / "none.pt", tmp_path / "module.pt"
    html.write_text("<html>404</html>")
    torch.save(torch.nn.Linear(2, 2), pickled)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    for path in (html, missing, pickled, tmp_path / "cut.safetensors"):
        with pytest.raises(CheckpointError, match=path.name):
            import_checkpoint(path)


def test_a_feature_set_of_another_size_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="jetclass_kin has 7"):
        ours_from(weaver_network(**LITTLE), tmp_path, features="jetclass_kin")


def test_data_config_names_classes_and_features(tmp_path):
    path = tmp_path / "JetClass_kin.yaml"
    path.write_text("""
labels:
   type: simple
   value: [label_QCD, label_Hbb, label_Tbqq]
inputs:
   pf_points: {pad_mode: wrap, length: 128, vars: [[part_deta, null], [part_dphi, null]]}
   pf_features:
      length: 128
      vars:
        - [part_pt_log, 1.7, 0.7]
        - [part_e_log, 2.0, 0.7]
        - [part_logptrel, -4.7, 0.7]
        - [part_logerel, -4.7, 0.7]
        - [part_deltaR, 0.2, 4.0]
        - [part_deta, null]
        - part_dphi
""")
    config = read_data_config(path)
    assert config.class_names == ("QCD", "Hbb", "Tbqq")
    assert config.features == "jetclass_kin"
    path.write_text("labels: {value: [label_QCD]}\ninputs: {pf_features: {vars: [part_dphi, part_deta]}}")
    assert read_data_config(path).features is None
    path.write_text("labels: {value: [label_QCD]}")
    with pytest.raises(CardError, match=r"no inputs\b"):
        read_data_config(path)
