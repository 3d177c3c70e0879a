"""Generation: what a prompt, each new token, and a whole answer cost, and how large the cache is.

    protocol ─▶ transformers_steps, own_steps ─▶ measuring ─▶ pieces ─▶ law ─▶ Generation, text, JSON, serving

``protocol`` says how a model is called for a prompt and for one more token, ``measuring`` traces both, ``pieces`` fits
polynomials in the batch and the length of the cache, and ``law`` sums them over the tokens of an answer.
"""
