"""What is kept for backward passes, counted on graphs whose size is known."""

from __future__ import annotations

import math

import torch

from basin.core import memory
from basin.core.memory import available_memory, bytes_kept


def test_each_block_counts_once():
    x = torch.ones(100, requires_grad=True)
    assert bytes_kept(lambda: x.sin()) == 400
    assert bytes_kept(lambda: (x.sin(), x.cos())) == 400  # both keep x
    assert bytes_kept(lambda: x.exp().sin().exp()) == 800  # two results
    assert bytes_kept(lambda: (x.view(10, 10).sin(), x.sin())) == 400  # a view is no new block
    assert bytes_kept(lambda: x + 1) == 0


def test_freed_addresses_are_not_taken_for_old_blocks():
    x = torch.ones(1000, requires_grad=True)

    def chain():
        return sum((x * i).exp().sum() for i in range(20))

    assert bytes_kept(chain) == 20 * 4000


def test_memory_of_the_machine_is_some_bytes():
    assert 1e7 < available_memory() < 1e15
    assert available_memory("meta") == math.inf


def test_a_container_leaves_what_its_limit_says(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\ninactive_file 50000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 350_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 1e7
