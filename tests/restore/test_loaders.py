"""The guard against real loaders: each silent failure is caught, each healthy load passes."""

from __future__ import annotations

import importlib.util
import re

import lightning.pytorch as pl
import pytest
import timm
import torch
import transformers
from timm.models import load_checkpoint
from torch import nn

import ckptaudit
from ckptaudit.integrations.lightning import RestoreGuard
from tests.conftest import ROOT, SAMPLES
from tests.restore.networks import SmallNet, copied, prefixed, same, trained

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


# timm -------------------------------------------------------------------------------------------------------------


def small_timm(**arguments) -> nn.Module:
    return timm.create_model("test_resnet", num_classes=7, **arguments)


def test_timm_load_checkpoint(tmp_path):
    state = copied(trained(small_timm()))
    torch.save({"state_dict": prefixed(state)}, tmp_path / "parallel.pth")
    torch.save({"state_dict": prefixed(state, "student.")}, tmp_path / "student.pth")
    model = small_timm()
    with ckptaudit.guard(model) as watch:
        load_checkpoint(model, tmp_path / "parallel.pth", strict=False, weights_only=True)  # timm takes `module.` away itself
    assert same(model, state)
    assert watch.audits[0].coverage.parameters[0] == sum(p.numel() for p in model.parameters())
    model = small_timm()
    before = copied(model)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="sets 0 of"), ckptaudit.guard(model):
        load_checkpoint(model, tmp_path / "student.pth", strict=False, weights_only=True)
    assert same(model, before)
    ckptaudit.load(model, tmp_path / "student.pth")
    assert same(model, state)


def test_timm_builds_and_loads_by_itself(tmp_path):
    state = copied(trained(small_timm()))
    torch.save(state, tmp_path / "good.pth")
    kind = type(small_timm())
    with ckptaudit.guard(kind):
        assert same(small_timm(checkpoint_path=str(tmp_path / "good.pth")), state)
    torch.save({n: t for n, t in state.items() if not n.startswith("layer2")}, tmp_path / "holes.pth")
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="layer2"), ckptaudit.guard(kind):
        load_checkpoint(small_timm(), str(tmp_path / "holes.pth"), strict=False)


# Lightning --------------------------------------------------------------------------------------------------------


class LitNet(pl.LightningModule):
    """What a project has: the network below ``net``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()
        self.strict_loading = False

    def training_step(self, batch, index):
        return self.net(batch).square().mean()

    def test_step(self, batch, index):
        self.net(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-9)


def trainer(folder, *callbacks, **arguments) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(max_steps=1, accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet, **arguments)


@pytest.fixture
def lightning_files(tmp_path):
    """A checkpoint that Lightning wrote, and the same from before ``net`` was called so."""
    model = trained(LitNet())
    writer = trainer(tmp_path)
    writer.strategy.connect(model)
    writer.save_checkpoint(tmp_path / "good.ckpt")
    content = torch.load(tmp_path / "good.ckpt", weights_only=False)
    content["state_dict"] = {name.replace("net.", "model.", 1): tensor for name, tensor in content["state_dict"].items()}
    torch.save(content, tmp_path / "old.ckpt")
    return model, tmp_path / "good.ckpt", tmp_path / "old.ckpt"


def test_lightning_load_from_checkpoint(lightning_files):
    source, good, old = lightning_files
    with ckptaudit.guard(LitNet):
        restored = LitNet.load_from_checkpoint(good, strict=False)
    assert same(restored, copied(source))
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="sets 0 of"), ckptaudit.guard(LitNet):
        LitNet.load_from_checkpoint(old, strict=False)
    model = LitNet()
    assert ckptaudit.load(model, old).verdict.status == "remappable"
    assert same(model, copied(source))


def test_lightning_trainer_with_the_callback(lightning_files, tmp_path):
    source, good, old = lightning_files
    images = torch.utils.data.DataLoader(torch.randn(2, 3, 8, 8))
    model = LitNet()
    trainer(tmp_path, RestoreGuard()).test(model, images, ckpt_path=good, verbose=False)
    assert same(model, copied(source))
    for run in ("test", "fit"):
        model = LitNet()
        before = copied(model)
        with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="sets 0 of"):
            getattr(trainer(tmp_path, RestoreGuard()), run)(model, images, ckpt_path=old)
        assert same(model, before)
        assert not any(m._load_state_dict_pre_hooks for m in model.net.modules())


def test_the_callback_asks_nothing_of_a_run_from_scratch(tmp_path):
    model = LitNet()
    images = torch.utils.data.DataLoader(torch.randn(2, 3, 8, 8))
    trainer(tmp_path, RestoreGuard(), enable_checkpointing=False).fit(model, images)
    assert not any(m._load_state_dict_pre_hooks for m in model.net.modules())


# transformers -----------------------------------------------------------------------------------------------------


def small_vit(**arguments) -> transformers.ViTConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "image_size": 16, "patch_size": 8}
    return transformers.ViTConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_labels=5, **arguments)


@pytest.fixture
def folder(tmp_path):
    """A local folder of random weights, as ``save_pretrained`` writes it."""
    model = transformers.ViTForImageClassification(small_vit())
    trained(model).save_pretrained(tmp_path / "vit")
    return model, tmp_path / "vit"


def test_transformers_from_pretrained(folder, tmp_path):
    source, path = folder
    restored = transformers.ViTForImageClassification.from_pretrained(path)
    assert ckptaudit.verify(restored, path).verdict.fit
    # An older trainer's prefix: from_pretrained warns, and leaves a random network.
    lost = tmp_path / "lost"
    source.config.save_pretrained(lost)
    torch.save(prefixed(copied(source), "student."), lost / "pytorch_model.bin")
    random = transformers.ViTForImageClassification.from_pretrained(lost)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="do not hold the file's values"):
        ckptaudit.verify(random, lost)
    model = transformers.ViTForImageClassification(small_vit())
    ckptaudit.load(model, lost)
    assert same(model, copied(source))


def test_transformers_head_that_stays_random(folder):
    _, path = folder
    restored = transformers.ViTForImageClassification.from_pretrained(path, num_labels=3, ignore_mismatched_sizes=True)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"5 classes and the model 3"):
        ckptaudit.verify(restored, path)
    assert ckptaudit.verify(restored, path, intent="finetune").verdict.fit


def test_transformers_in_half_precision(folder):
    _, path = folder
    restored = transformers.ViTForImageClassification.from_pretrained(path, dtype=torch.bfloat16)
    assert ckptaudit.verify(restored, path).verdict.fit


def test_a_guard_on_a_class_that_loads_itself_says_what_to_use(folder):
    _, path = folder
    cls, kept = transformers.ViTForImageClassification, []
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"ckptaudit\.verify"), ckptaudit.guard(cls):
        kept.append(cls.from_pretrained(path))


def test_transformers_tied_head():
    sizes = {"n_embd": 16, "vocab_size": 50, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(n_layer=1, n_head=2, **sizes)
    source, model = trained(transformers.GPT2LMHeadModel(config)), transformers.GPT2LMHeadModel(config)
    state = copied(source)
    del state["lm_head.weight"]
    with ckptaudit.guard(model):
        model.load_state_dict(state, strict=False)
    assert same(model, copied(source))


# The page about it ------------------------------------------------------------------------------------------------


def test_what_the_page_shows_runs(tmp_path, lightning_files, folder):
    """Each Python block of docs/guard.md, with the names that it leaves to the reader."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guard.md").read_text(), re.DOTALL)
    blocks = [block for block in blocks if "keras" not in block]
    torch.save(trained(small_timm()).state_dict(), tmp_path / "timm.pth")
    spec = importlib.util.spec_from_file_location("tiny_unet", SAMPLES / "tiny_unet.py")
    tiny_unet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny_unet)
    given = [
        {"model": tiny_unet.build()},
        {"model": small_timm(), "path": tmp_path / "timm.pth"},
        {"LitModel": LitNet, "path": lightning_files[1]},
        {"pl": pl},
        {"folder": folder[1]},
        {},
    ]
    for block, names in zip(blocks, given, strict=True):
        exec(block.replace("sample_ckpts/", f"{SAMPLES}/"), names)
