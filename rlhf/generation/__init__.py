"""From text to tokens and back: tokenizer, cached decoding, sampling."""
