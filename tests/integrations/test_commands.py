"""Commands without a subcommand, ResNet-BK's own commands, and where its old options are."""

import pytest

from graphflops.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


class TestResnetBk:
    def test_its_analysis_is_the_default_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        own = run(capsys, "resnet-bk", "analyze", "--seq", "16")
        assert own == run(capsys, "analyze", "--seq", "16")
        assert own[0] == 0

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize(
        ("command", "arguments"),
        [
            ("analyze", ["--config", "d_model=8,n_layers=1,n_seq=16"]),
            ("compare", ["--seq", "16", "--to", "BASELINE_CONFIG,d_model=8"]),
            ("compare", ["--lengths", "16,32"]),
            ("scale", ["--config", "n_layers=1,d_model=8", "--size", "B=1..4"]),
        ],
    )
    def test_old_options_work_and_say_where_they_are_now(
        self, capsys: pytest.CaptureFixture[str], command: str, arguments: list[str]
    ) -> None:
        code, out, err = run(capsys, "resnet-bk", command, *arguments)
        assert (code, err) == (0, "")
        assert run(capsys, command, *arguments) == (
            0,
            out,
            f"hint: options of ResNet-BK are now those of: graphflops resnet-bk {command}\n",
        )

    def test_its_commands_take_no_other_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = run(capsys, "resnet-bk", "analyze", "hf:llama")
        assert code != 0
        assert "hf:llama" in err

    def test_help_of_the_commands_for_all_models_names_none_of_its_options(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = {"analyze": ["--config"], "compare": ["--from", "--lengths", "--steps"], "scale": ["--config"]}
        for command, names in options.items():
            for words, expected in (((command,), False), (("resnet-bk", command), True)):
                _, out, _ = run(capsys, *words, "--help")
                assert [name in out for name in names] == [expected] * len(names)


class TestWithoutSubcommand:
    def test_a_model_is_analyzed(self, capsys: pytest.CaptureFixture[str]) -> None:
        short = run(capsys, "torch.nn:Linear(3, 5)", "-i", "input=2x3")
        assert short == run(capsys, "analyze", "torch.nn:Linear(3, 5)", "-i", "input=2x3")
        assert short[0] == 0

    def test_a_saved_report_is_shown(
        self, capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(str(tmp_path))
        assert run(capsys, "torch.nn:GELU", "-i", "input=8", "--json", "gelu.json")[0] == 0
        assert run(capsys, "gelu.json") == run(capsys, "show", "gelu.json")

    def test_a_command_that_is_misspelled_is_no_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = run(capsys, "analize", "torch.nn:GELU")
        assert code != 0
        assert "Did you mean 'analyze'" in err


@pytest.mark.parametrize(("module", "name"), [("Embedding(10, 4)", "input"), ("EmbeddingBag(10, 4)", "input")])
def test_a_forgotten_dtype_of_token_ids_is_hinted_at(
    capsys: pytest.CaptureFixture[str], module: str, name: str
) -> None:
    code, _, err = run(capsys, f"torch.nn:{module}", "-i", f"{name}=2x8")
    assert code != 0
    assert f"{name}=2x8 is float32; for indices or token ids write {name}=2x8:int64" in err
    assert ":int64" not in run(capsys, "torch.nn:Linear(3, 5)", "-i", "input=2x8")[2]
