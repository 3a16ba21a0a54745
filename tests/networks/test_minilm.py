"""MiniLM: transformers' BERT with the same weights, a pair that others have recorded, padding, refusals."""

import builtins

import pytest
import torch
from safetensors.torch import load_file

from skipdit.networks.fetch import Unavailable, weights
from skipdit.networks.minilm import minilm, read, tokenizer

TEXTS = ["a cat", "Honey pot, bee; Noël!", "A man is eating food.", "A man is eating a piece of bread."]


@pytest.fixture
def fetched(network):
    pytest.importorskip("tokenizers")
    network("minilm"), network("minilm-words")


def test_it_is_the_bert_of_transformers(fetched):
    bert = pytest.importorskip("transformers.models.bert")
    sizes = dict(hidden_size=384, intermediate_size=1536, num_attention_heads=12, num_hidden_layers=6)
    theirs = bert.BertModel(bert.BertConfig(**sizes, layer_norm_eps=1e-12)).eval()
    theirs.load_state_dict(load_file(weights("minilm")), strict=False)
    rows = tokenizer().encode_batch(TEXTS)
    tokens, there = (torch.tensor([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
    assert there.sum(1).min() < there.shape[1]  # some are filled up
    with torch.no_grad():
        hidden = theirs(input_ids=tokens, attention_mask=there).last_hidden_state
    mean = (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    torch.testing.assert_close(minilm()(tokens, there.bool()), torch.nn.functional.normalize(mean, dim=1))


def test_a_recorded_pair_and_what_fills_up_does_not_count(fetched):
    told = []
    found = read(TEXTS, batch_size=2, on_batch=told.append)
    assert told == [2, 4]
    assert found.shape == (4, 384)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert (found[2] @ found[3]).item() == pytest.approx(0.7553, abs=1e-4)  # as others have it
    torch.testing.assert_close(found, read([*TEXTS, "word " * 400])[:4], atol=1e-5, rtol=1e-4)


def test_refusals(fetched, monkeypatch):
    with pytest.raises(ValueError, match="no texts"):
        read([])
    imported = builtins.__import__

    def without(name, *rest):
        if name == "tokenizers":
            raise ImportError(name)
        return imported(name, *rest)

    tokenizer.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pip install 'skipdit\[metrics\]'"):
        read(["a cat"])
