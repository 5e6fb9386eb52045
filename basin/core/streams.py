"""Independent random streams from one seed, one for each purpose, by name.

Two generators with the same seed draw the same numbers: rows drawn for one purpose would be
correlated, row by row, with those drawn for another. A name is hashed into the seed instead.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["branch", "stream", "weights_generator"]


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of this seed and purpose; same seed and name, same numbers.

    Example:
        >>> import torch
        >>> a, b = (torch.rand(1, generator=stream(0, name)) for name in ("rows", "noise"))
        >>> bool(a == b)
        False
    """
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    # 63 bits: what manual_seed takes on every device.
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def branch(generator: torch.Generator) -> torch.Generator:
    """A generator seeded by ``generator``, on its device, for draws whose number is not known.

    ``generator`` moves on by one draw, however many are taken from the branch. Cost: one number
    read from the device.
    """
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(generator.device).manual_seed(int(seed))


def weights_generator(generator: torch.Generator) -> torch.Generator:
    """A generator for initial weights, seeded by ``generator``: on the CPU, wherever that lives.

    The weights are then the same on every device.
    """
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))
