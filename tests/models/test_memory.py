"""Weights that were loaded compute the bits of those that were made: they begin where torch lets its own begin."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from fedloom.models.memory import in_own_memory


def shifted(weight: torch.Tensor, by: int) -> torch.Tensor:
    """A copy that begins `by` bytes behind where torch would let it begin, strides kept."""
    room = torch.empty(weight.numel() + by // 4)
    return room[by // 4 :].as_strided(weight.shape, weight.stride(), by // 4).copy_(weight)


@pytest.mark.parametrize("by", [4, 8, 44])
def test_where_a_weight_begins_changes_no_bit(by: int) -> None:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Flatten(), torch.nn.Linear(16 * 36, 7))
    made[0].to(memory_format=torch.channels_last)
    made.tied = torch.nn.Linear(16 * 36, 7)  # type: ignore[assignment]
    made.tied.weight = made[2].weight
    pixels = torch.randn(5, 3, 8, 8)
    said = made[:3](pixels)
    for weight in made.parameters():
        weight.data = shifted(weight.detach(), by)
    strides = [weight.stride() for weight in made.parameters()]
    assert all(weight.data_ptr() % 64 for weight in made.parameters())
    assert in_own_memory(made) is made
    assert not any(weight.data_ptr() % 64 for weight in made.parameters())
    assert [weight.stride() for weight in made.parameters()] == strides
    assert made.tied.weight is made[2].weight
    assert torch.equal(made[:3](pixels), said)


def test_a_model_of_transformers(tmp_path) -> None:
    """Its file's header has any length, and its weights begin behind it."""
    from transformers import BertConfig, BertModel

    from fedloom.models.pretrained import pretrained_model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    made = BertModel(BertConfig(vocab_size=30, **sizes)).eval()
    made.save_pretrained(tmp_path)
    for note in ("", "a", "ab", "abcd", "abcdefgh" * 3):
        about = {"format": "pt", "note": note}
        save_file(made.state_dict(), tmp_path / "model.safetensors", metadata=about)
        again = pretrained_model("a model", tmp_path, BertModel)
        assert not any(weight.data_ptr() % 64 for weight in again.parameters())
        assert torch.equal(again(torch.arange(9)[None])[0], made(torch.arange(9)[None])[0])
