"""jettag import weaver: a network of weaver-core becomes a run, and says what it said before."""

import h5py
import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_table

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def test_an_imported_network_predicts_what_weaver_does(files, jettag, call_json, tmp_path):
    torch.manual_seed(0)
    network = ParticleTransformer(
        input_dim=17,
        num_classes=10,
        pair_input_dim=4,
        embed_dims=[32, 32],
        pair_embed_dims=[16, 16],
        num_heads=4,
        num_layers=2,
        num_cls_layers=1,
        fc_params=[],
        activation="gelu",
        use_pre_activation_pair=False,
        trim=False,
    ).eval()
    torch.save({f"mod.{name}": value for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    facts = call_json("import", "weaver", tmp_path / "net.pt", "--out", tmp_path / "run")
    assert tuple(facts["class_names"]) == CLASSES
    assert len(facts["feature_names"]) == 17

    path = files / "test" / "Tbqq.root"
    code, _, err = jettag("predict", tmp_path / "run", "--data", path, "--out", tmp_path / "scores.h5")
    assert code == 0, err
    with h5py.File(tmp_path / "scores.h5") as file:
        scores = np.stack([file["jets"][f"score_{name}"] for name in CLASSES], axis=1)

    table = read_table(expand_inputs([path]), load_card("jetclass"), features="jetclass_full", labels=False)
    jets = table.batch(np.arange(len(table)))
    with torch.no_grad():
        logits = network(jets.features.transpose(1, 2), v=jets.p4.transpose(1, 2), mask=jets.mask[:, None].float())
    np.testing.assert_allclose(scores, torch.softmax(logits, 1).numpy(), atol=1e-5)
    assert jettag("eval", tmp_path / "run", "--data", files / "test" / "*.root")[0] == 0
    assert jettag("import", "weaver", tmp_path / "net.pt", "--out", tmp_path / "run")[0] == 2


def test_what_is_no_network_is_refused(jettag, tmp_path):
    (tmp_path / "net.pt").write_text("not a checkpoint")
    code, out, err = jettag("import", "weaver", tmp_path / "net.pt", "--out", tmp_path / "run")
    assert (code, out) == (5, "")
    assert err.startswith("error: ")
    assert not (tmp_path / "run").exists()
