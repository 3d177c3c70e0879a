"""Models by name: against the parameters and multiply-adds that their authors publish."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from graphflops import UsageError, analyze, load
from graphflops.cli import main
from graphflops.integrations.torchvision_operators import import_torchvision

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries

LLAMA_3_8B = "hidden_size=4096&intermediate_size=14336&num_key_value_heads=8&vocab_size=128256"


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@needs_transformers
class TestTransformers:
    @pytest.mark.parametrize(
        ("target", "published"),
        [
            (f"hf:llama?{LLAMA_3_8B}", 8_030_261_248),
            ("hf:mixtral", 46_702_792_704),
            ("hf:gpt2", 124_439_808),
            ("hf:vit?num_labels=1000", 86_567_656),
            ("hf:t5", 60_506_624),
        ],
    )
    def test_a_model_type_has_the_parameters_that_are_published(self, target: str, published: int) -> None:
        model = load(target).model
        assert parameters(model) == published
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}

    def test_inputs_are_token_ids_of_the_chosen_sizes_and_are_said(self) -> None:
        loaded = load("hf:llama?num_hidden_layers=1", batch=3, seq=7)
        assert {name: (value.dtype, tuple(value.shape)) for name, value in loaded.kwargs.items()} == {
            "input_ids": (torch.int64, (3, 7))
        }
        assert loaded.notes[-1] == "made up: input_ids int64[3, 7]"
        assert analyze(*loaded).inputs == {"input_ids": "int64(3, 7)"}

    def test_speech_has_features_of_thirty_seconds_and_a_text(self) -> None:
        model, _, inputs = load("hf:whisper?encoder_layers=1&decoder_layers=1", seq=9)
        assert type(model).__name__ == "WhisperForConditionalGeneration"
        assert {name: tuple(value.shape) for name, value in inputs.items()} == {
            "input_features": (1, 80, 3000),
            "decoder_input_ids": (1, 9),
        }

    @pytest.mark.parametrize(
        ("target", "name"),
        [
            ("hf:clip?vision_config.num_hidden_layers=1", "CLIPModel"),
            ("hf:llama4?text_config.num_hidden_layers=1", "Llama4ForConditionalGeneration"),
            ("hf:bert?num_hidden_layers=1&architectures=BertModel", "BertModel"),
            ("hf:bart?encoder_layers=1&decoder_layers=1", "BartForConditionalGeneration"),
        ],
    )
    def test_the_class_is_that_of_the_whole_model(self, target: str, name: str) -> None:
        assert type(load(target).model).__name__ == name

    def test_a_part_of_a_model_is_refused(self) -> None:
        with pytest.raises(UsageError, match="if it is a part of a model, name that model"):
            load("hf:sam2_mask_decoder")

    def test_the_image_size_is_that_of_the_configuration_or_of_the_user(self) -> None:
        assert load("hf:vit?num_hidden_layers=1&image_size=64").kwargs["pixel_values"].shape == (1, 3, 64, 64)
        larger = load("hf:vit?num_hidden_layers=1", image=96)
        assert larger.kwargs["pixel_values"].shape == (1, 3, 96, 96)
        assert larger.model.vit.embeddings.position_embeddings.shape[1] == 1 + (96 // 16) ** 2

    def test_a_file_is_read_and_the_class_that_it_names_is_built(self, tmp_path: Path) -> None:
        fields = {"model_type": "bert", "num_hidden_layers": 2, "architectures": ["BertForSequenceClassification"]}
        (tmp_path / "config.json").write_text(json.dumps(fields))
        for name in (tmp_path, tmp_path / "config.json"):
            model = load(f"hf:{name}?hidden_size=24").model
            assert type(model).__name__ == "BertForSequenceClassification"
            assert (model.config.num_hidden_layers, model.config.hidden_size) == (2, 24)

    def test_fewer_layers_have_fewer_layer_types(self, tmp_path: Path) -> None:
        kinds = ["sliding_attention", "full_attention"]
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"model_type": "gemma2", "num_hidden_layers": 2, "layer_types": kinds}))
        assert load(f"hf:{file}?num_hidden_layers=1").model.config.layer_types == kinds[:1]

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("hf:llama?num_hiden_layers=2", "LlamaConfig has no field 'num_hiden_layers'; did you mean num_hidden_"),
            ("hf:clip?vision_config.patch=2", "CLIPVisionConfig has no field 'patch'; did you mean patch_size"),
            ("hf:clip?visoin_config.patch_size=2", "CLIPConfig has no field 'visoin_config'"),
            ("hf:llama?num_hidden_layers", "is not FIELD=VALUE"),
            ("hf:llama?num_hidden_layers=two", "LlamaConfig refuses this configuration"),
            ("hf:./no/config.json", "there is no file ./no/config.json"),
        ],
    )
    def test_a_wrong_name_or_field_is_named(self, target: str, message: str) -> None:
        with pytest.raises(UsageError) as raised:
            load(target)
        assert message in str(raised.value)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model_type": "new"}, "has no model_type 'new': pip install --upgrade transformers"),
            ({"model_type": "own", "auto_map": {}}, "does not execute it"),
            ({"architecture": "resnet50"}, "write timm:resnet50"),
            ({}, "has no model_type"),
            ([], "is not a configuration"),
        ],
    )
    def test_a_file_of_another_kind_says_what_to_do(self, tmp_path: Path, fields: object, message: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps(fields))
        with pytest.raises(UsageError, match=message):
            load(f"hf:{tmp_path}")

    @pytest.mark.slow
    def test_a_repository_is_read_from_the_local_cache_without_a_network(self, tmp_path: Path) -> None:
        cache = tmp_path / "hub" / "models--some--model"
        (cache / "snapshots" / "abc").mkdir(parents=True)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("abc")
        (cache / "snapshots" / "abc" / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
        code = """
import sys, graphflops
for name in ("hf:some/model", "some/model", "hf:other/model"):
    try:
        loaded = graphflops.load(name)
        print(loaded.model.config.n_layer, *loaded.about)
    except graphflops.UsageError as error:
        print(error)
"""
        process = subprocess.run(
            [sys.executable, "-c", code],
            env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        cached, by_search, missing = process.stdout.splitlines()
        assert cached == "1 GPT2LMHeadModel the configuration of some/model in the local cache of the Hub"
        assert by_search.startswith("1 hf:some/model GPT2LMHeadModel")
        assert "HF_HUB_OFFLINE is set" in missing
        assert "config.json" in missing


@needs_torchvision
class TestTorchvision:
    @pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "inception_v3", "efficientnet_v2_s"])
    def test_the_multiply_adds_are_those_that_torchvision_publishes(self, name: str) -> None:
        import_torchvision()
        from torchvision.models import get_model_weights

        weights = get_model_weights(name).DEFAULT
        model, args, kwargs = load(f"torchvision:{name}", training=False)
        assert parameters(model) == weights.meta["num_params"]
        macs = analyze(model, args, kwargs, training=False).work("forward").macs
        assert macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.001)

    def test_no_weights_of_a_backbone_are_downloaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
        loaded = load("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn")
        assert loaded.notes == (
            "in evaluation mode, as training needs the boxes to find",
            "made up: images [float32[3, 800, 800]]",
        )

    def test_videos_and_pairs_of_images_are_made_up(self) -> None:
        assert [tuple(x.shape) for x in load("torchvision:r3d_18", batch=2).kwargs.values()] == [(2, 3, 16, 112, 112)]
        assert [tuple(x.shape) for x in load("torchvision:raft_small").kwargs.values()] == [(1, 3, 520, 960)] * 2

    def test_a_model_of_fixed_size_is_built_for_the_image(self) -> None:
        loaded = load("torchvision:vit_b_32", image=64)
        assert loaded.model.image_size == 64
        assert tuple(loaded.kwargs["x"].shape) == (1, 3, 64, 64)

    def test_options_of_the_model_are_checked(self) -> None:
        assert load("torchvision:resnet18?num_classes=10").model.fc.out_features == 10
        with pytest.raises(UsageError, match="did you mean torchvision:resnet50"):
            load("torchvision:resnet5O")

    def test_a_name_without_a_library_is_found_and_said(self) -> None:
        assert load("resnet18").notes == ("torchvision:resnet18", "made up: x float32[1, 3, 224, 224]")
        with pytest.raises(UsageError, match=r"no model 'resnet17'.* expected MODULE:FACTORY"):
            load("resnet17")


@needs_timm
class TestTimm:
    def test_the_parameters_are_those_that_are_published(self) -> None:
        model, _, inputs = load("timm:vit_base_patch16_224", batch=2)
        assert parameters(model) == 86_567_656
        assert [tuple(x.shape) for x in inputs.values()] == [(2, 3, 224, 224)]

    def test_the_image_size_is_the_models_own_unless_given(self) -> None:
        shape = {"x": (1, 3, 288, 288)}
        assert {name: tuple(x.shape) for name, x in load("timm:ghostnetv2_100", image=288).kwargs.items()} == shape
        fixed = load("timm:vit_tiny_patch16_224", image=96)
        assert fixed.model.patch_embed.img_size == (96, 96)
        channels = load("timm:vit_tiny_patch16_224?in_chans=1&img_size=64").kwargs["x"]
        assert tuple(channels.shape) == (1, 1, 64, 64)

    def test_wrong_names_and_options_are_named(self) -> None:
        with pytest.raises(UsageError, match="did you mean timm:"):
            load("timm:vit_base_patch16_225")
        with pytest.raises(UsageError, match="no_such_option"):
            load("timm:resnet18?no_such_option=1")


@pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed")
class TestDiffusers:
    def test_a_network_has_the_parameters_that_are_published(self) -> None:
        loaded = load("diffusers:UNet2DConditionModel?cross_attention_dim=768&attention_head_dim=8")
        assert parameters(loaded.model) == 859_520_964  # of Stable Diffusion 1.5
        assert loaded.notes == (
            "made up: sample float32[1, 4, 64, 64], timestep int64[1], encoder_hidden_states float32[1, 77, 768]",
        )
        assert not analyze(*loaded, strict=True).unknown

    def test_a_file_and_wrong_names(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(
            '{"_class_name": "UNet2DModel", "sample_size": 32, "layers_per_block": 1}'
        )
        assert load(f"diffusers:{tmp_path}").kwargs["sample"].shape == (1, 3, 32, 32)
        with pytest.raises(UsageError, match="did you mean layers_per_block"):
            load("diffusers:UNet2DModel?layer_per_block=1")
        with pytest.raises(UsageError, match="did you mean diffusers:UNet2DModel"):
            load("diffusers:UNet2DModle")
        with pytest.raises(UsageError, match="not of a pipeline, or its config"):
            load("diffusers:StableDiffusionPipeline")


class TestOwnCode:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "from torch import nn\n\ndef tiny(width=3):\n    return nn.Linear(width, 5)\n"
        (tmp_path / "models_of_mine.py").write_text(code)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])

    @pytest.mark.parametrize(
        ("target", "width"),
        [
            ("models_of_mine.py:tiny", 3),
            ("./models_of_mine.py:tiny", 3),
            ("models_of_mine:tiny", 3),
            ("models_of_mine:tiny(7)", 7),
            ("models_of_mine.py:tiny(width=2 * [9][:1] or 9)", None),
            ("torch.nn:Linear(64, out_features=2)", 64),
        ],
    )
    def test_files_modules_and_calls_with_literals(self, target: str, width: int | None) -> None:
        if width is None:
            with pytest.raises(UsageError, match="arguments are literals"):
                load(target)
        else:
            assert load(target).model.in_features == width

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("no_such_file.py:tiny", "there is no file no_such_file.py"),
            ("models_of_mine.py:tinny", "did you mean tiny"),
            ("models_of_mine.py:tiny(1, 2, 3)", "cannot be called with these arguments"),
            ("torch.nn:Linear", "cannot be called with these arguments"),
            ("no_such.pt2", "there is no file no_such.pt2"),
            ("models_of_mine.pt2", "expected a file of torch.export.save"),
        ],
    )
    def test_one_clear_message(self, target: str, message: str) -> None:
        Path("models_of_mine.pt2").write_text("nothing")
        with pytest.raises(UsageError, match=message):
            load(target)

    def test_an_exported_program_is_analyzed_on_its_own_inputs(self) -> None:
        program = torch.export.export(torch.nn.Linear(3, 5), (torch.zeros(2, 3),))
        torch.export.save(program, "linear.pt2")
        report = analyze(*load("linear.pt2"), training=False)
        assert report.work("forward").macs == 2 * 3 * 5


class OfLightning(torch.nn.Linear):
    example_input_array = torch.zeros(2, 3)


def of_lightning() -> torch.nn.Module:
    return OfLightning(3, 5)


def test_an_example_that_a_model_carries_is_its_input() -> None:
    loaded = load(f"{__file__}:of_lightning", training=False)
    assert loaded.notes == ("made up: input float32[2, 3]",)


@needs_transformers
def test_a_model_that_own_code_builds_with_a_library_has_its_inputs() -> None:
    loaded = load(f"{__file__}:of_transformers", batch=2, seq=5)
    assert loaded.notes == ("made up: input_ids int64[2, 5]",)


def of_transformers() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(n_layer=1, n_embd=24))


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r'needs transformers, .*: pip install "graphflops\[hf\]"'):
        load("hf:llama")


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"seq": True}, {"image": (1, 2, 3)}, {"image": "x"}])
def test_sizes_are_positive_numbers(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        load("hf:llama", **sizes)


@needs_transformers
class TestCommands:
    def test_analyze_says_which_inputs_it_made_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        target = "hf:bert?num_hidden_layers=1"
        assert main(["analyze", target, "-b", "2", "--seq", "5", "--inference"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert " ".join(lines[0].split()) == "model BertForMaskedLM; the default configuration of BertConfig"
        assert " ".join(lines[1].split()) == "input made up: input_ids int64[2, 5]"

    def test_an_input_that_is_given_is_not_made_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        target = "hf:t5?num_layers=1&num_decoder_layers=1"
        assert main(["analyze", target, "--seq", "5", "-i", "input_ids=1x3:int64"]) == 0
        out = capsys.readouterr().out
        assert "made up: decoder_input_ids int64[1, 5]" in out
        assert "int64(1, 3)" in out

    def test_explain_verify_and_compare_take_the_names(self, capsys: pytest.CaptureFixture[str]) -> None:
        one, two = "hf:gpt2?n_layer=1&n_embd=24", "hf:gpt2?n_layer=2&n_embd=24"
        assert main(["explain", one, "--seq", "4", "--of", "lm_head"]) == 0
        assert main(["verify", one, "--seq", "4"]) == 0
        assert main(["compare", one, two, "--seq", "4"]) == 0
        out = capsys.readouterr().out
        assert out.count("made up: input_ids int64[1, 4]") == 4
