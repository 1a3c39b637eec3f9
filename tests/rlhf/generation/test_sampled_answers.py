"""Answers read alike wherever they are sampled, where a vocabulary puts blanks before words."""

import pytest
import torch
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.generate import Generation
from playout.rlhf.generation.responses import responses_of
from playout.rlhf.generation.tokenizer import Tokenizer
from small_language import INST
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Inner

TALK = [{"role": "user", "content": "the cat"}]


def blanks_before_words():
    """A small vocabulary as SentencePiece makes them: a text that begins gets a blank."""
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    special = [AddedToken(one, special=True) for one in ("<pad>", "<s>", "</s>")]
    letters = sorted({*"the cat sat INST[]/user.", "\u2581", "\ue000"})
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    inner.train_from_iterator(["the cat sat [INST] the cat [/INST] sat"] * 9, trainer)
    return Tokenizer(inner, pad="<pad>", end="</s>", bos="<s>", template=ChatTemplate(INST))


@pytest.mark.parametrize(("prompt", "text"), [("the cat", " sat"), (TALK, "sat")])
def test_an_answer_in_turns_begins_and_what_follows_a_text_goes_on(prompt, text):
    tokenizer = blanks_before_words()
    ids = tokenizer.encode("sat")
    assert tokenizer.decode(ids, continues=True) == " sat" and tokenizer.decode(ids) == "sat"
    out = generation_of(tokenizer, ids)
    assert responses_of(out, tokenizer, [prompt]).responses == [text]
    if not isinstance(prompt, str):  # as rounds of learning read it
        assert conversation_format(tokenizer).answer([*ids, tokenizer.end_id]) == text


def generation_of(tokenizer, ids):
    """A prompt of one token, and an answer that ended."""
    answer = torch.tensor([[*ids, tokenizer.end_id]])
    count, yes = torch.tensor([answer.shape[1]]), torch.tensor([True])
    return Generation([[tokenizer.bos_id]], answer, count, torch.zeros(answer.shape), yes, yes)
