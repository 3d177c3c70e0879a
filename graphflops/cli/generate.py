"""The command that counts a generation: generate."""

from typing import Annotated

import typer

from graphflops.cli import options
from graphflops.report.terminal import Terminal, say

DEFAULT_PROMPT = 1024


def generate(
    target: Annotated[str, typer.Argument(help=options.MODEL_HELP, show_default=False)],
    prompt: Annotated[
        int | None, typer.Option(min=1, help="tokens of the prompt; default: 1024, or those of --input")
    ] = None,
    new: Annotated[int, typer.Option(min=1, help="new tokens of the answer")] = 256,
    batch: Annotated[
        int | None, typer.Option("--batch", "-b", min=1, help="requests that are answered together; default: 1")
    ] = None,
    inputs: options.Inputs = None,
    longest: Annotated[
        int | None, typer.Option(min=1, help="length of the cache up to which expressions are derived; default: 4096")
    ] = None,
    all_logits: Annotated[
        bool, typer.Option("--all-logits", help="compute the logits of each token of the prompt, not of the last alone")
    ] = False,
    convention: options.Convention = "standard",
    attention: options.Attention = "flash",
    rules: options.Rules = None,
    rate: options.Rate = None,
    json: options.Json = None,
) -> None:
    """Count a generation: the prompt, each new token, the whole answer, and the bytes of the cache."""
    import inspect

    from graphflops.analysis.generation.generation import generation
    from graphflops.analysis.generation.generation_text import lengths_to_show, print_generation
    from graphflops.cli import targets

    seq = prompt if inputs else prompt or DEFAULT_PROMPT
    loaded = targets.model_and_inputs(target, inputs, batch=batch, seq=seq, training=False)
    loaded.model.eval()
    targets.print_notes(loaded)
    kwargs = dict(loaded.kwargs)
    kwargs.pop("decoder_input_ids", None)  # the decoder begins with one token
    if not all_logits and "logits_to_keep" in inspect.signature(loaded.model.forward).parameters:
        kwargs.setdefault("logits_to_keep", 1)
        say("logits     of the last token of the prompt alone, as generate() computes them; --all-logits for all")
    answer = generation(
        loaded.model,
        loaded.args,
        kwargs,
        new_tokens=new,
        longest=longest,
        attention=attention,  # type: ignore[arg-type]
        convention=convention,
        rules=rules,
        rates=targets.parse_rates(rate),
    )
    print_generation(answer, Terminal(highlight=False))
    if json is not None:
        for length in lengths_to_show(answer):
            answer.decode(length)
        say(f"generation {answer.to_json(json)}")
