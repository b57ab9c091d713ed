"""A codebook trained without gradients: k-means initialization, moving averages, replacement of unused codes."""

import torch
from torch import nn


class CodebookLearner(nn.Module):
    """Keeps each code at the moving average of the latents nearest to it (van den Oord et al., 2017, appendix A.1).

    Args:
        num_codes (`int`): Number of codes.
        channels (`int`): Channels of a code.
        decay (`float`, *optional*, defaults to 0.99): Decay of the moving averages.
        memory (`int`, *optional*, defaults to 16384): Number of latents in the buffer, from which k-means starts and
            unused codes are replaced.
        dead_below (`float`, *optional*, defaults to 0.05): A code that is chosen less often per step than this, on
            average, is replaced by a latent from the buffer.
    """

    counts: torch.Tensor
    sums: torch.Tensor
    remembered: torch.Tensor
    position: torch.Tensor
    started: torch.Tensor

    def __init__(
        self, num_codes: int, channels: int, decay: float = 0.99, memory: int = 16384, dead_below: float = 0.05
    ) -> None:
        super().__init__()
        self.decay, self.dead_below = decay, dead_below
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", torch.zeros(num_codes, channels))
        self.register_buffer("remembered", torch.zeros(memory, channels))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def remember(self, latents: torch.Tensor) -> None:
        """Put a random part of the latents `(n, c)` into the ring buffer."""
        chosen = latents[torch.randperm(len(latents))[:512]]
        places = (self.position + torch.arange(len(chosen), device=latents.device)) % len(self.remembered)
        self.remembered[places] = chosen
        self.position += len(chosen)

    @torch.no_grad()
    def adopt(self, codebook: nn.Embedding) -> None:
        """Start from a codebook that is trained already."""
        self.sums.copy_(codebook.weight)
        self.counts.fill_(1)
        self.started.fill_(True)

    @torch.no_grad()
    def start(self, codebook: nn.Embedding, iterations: int = 15) -> None:
        """Initialize the codes by k-means over the buffer."""
        known = self.remembered[: int(self.position.clamp(max=len(self.remembered)))]
        # In a run of a few steps there are fewer latents than codes, and latents are chosen repeatedly.
        chosen = torch.cat([torch.randperm(len(known)) for _ in range(-(-codebook.num_embeddings // len(known)))])
        centres = known[chosen[: codebook.num_embeddings]].clone()
        for _ in range(iterations):
            nearest = torch.cdist(known, centres).argmin(1)
            counts = torch.bincount(nearest, minlength=len(centres))
            sums = torch.zeros_like(centres).index_add_(0, nearest, known)
            used = counts > 0
            centres[used] = sums[used] / counts[used, None]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(centres, 0)
        codebook.weight.copy_(centres)
        self.adopt(codebook)

    @torch.no_grad()
    def step(self, codebook: nn.Embedding, latents: torch.Tensor, codes: torch.Tensor) -> None:
        """Move the codes towards the latents `(n, c)` that are nearest to them; `codes` `(n,)` are their indices."""
        counts = torch.bincount(codes, minlength=codebook.num_embeddings).to(latents.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        dead = self.counts < self.dead_below
        if dead.any():
            known = self.remembered[: int(self.position.clamp(max=len(self.remembered)))]
            fresh = known[torch.randint(len(known), (int(dead.sum()),))]
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.broadcast(fresh, 0)
            self.counts[dead] = 2 * self.dead_below
            self.sums[dead] = 2 * self.dead_below * fresh
        codebook.weight.copy_(self.sums / self.counts[:, None])
