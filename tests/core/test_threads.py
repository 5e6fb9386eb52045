"""Small work gets one thread, and the caller's setting comes back."""

from __future__ import annotations

import pytest
import torch

from basin.core.threads import num_threads_for, threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.global_generator
def test_small_work_gets_one_thread():
    layer = torch.nn.Linear(100, 100)
    assert num_threads_for(layer, 100) == 1
    assert num_threads_for(layer, 1_000_000) == 2


@pytest.mark.usefixtures("two_threads")
def test_the_setting_comes_back_also_after_an_error():
    with threads(1):
        assert torch.get_num_threads() == 1
    with pytest.raises(RuntimeError), threads(1):
        raise RuntimeError
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="num_threads must be a positive"), threads(0):
        pass
