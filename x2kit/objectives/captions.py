"""Losses of captions read from left to right: next token with label smoothing, self-critical training."""

from __future__ import annotations

from torch import Tensor

from x2kit.objectives.masked_language import IGNORED


def next_token_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Average the cross-entropy of next tokens with X-VLM's label smoothing.

    The correct token weighs 1 - `smoothing`, each of the other V - 1 tokens `smoothing` / V (official code), so weights
    sum to slightly less than 1.

    Args:
        logits: [B, K, V].
        labels: [B, K] int64, -100 where there is nothing to predict.
        smoothing: 0 for plain cross-entropy.
    Returns: scalar, nats a token; 0 without tokens to predict.
    """
    logs = logits.float().log_softmax(-1)
    kept = labels != IGNORED
    correct = logs.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    share = smoothing / logs.shape[-1]
    losses = -(1 - smoothing - share) * correct - share * logs.sum(-1)
    return (losses * kept).sum() / kept.sum().clamp_min(1)


def mean_log_probability(logits: Tensor, ids: Tensor, end: int) -> Tensor:
    """Average the log-probabilities of each text's tokens up to its first end token, included.

    Args:
        logits: [N, T, V], position i holds those of token i.
        ids: [N, T] int64, drawn tokens.
        end: token that ends a text; a text without it counts whole.
    Returns: [N].
    """
    logs = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    ended = ids == end
    kept = ended.long().cumsum(1) - ended.long() == 0
    return (logs * kept).sum(1) / kept.sum(1)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Compute the mean reward of the other samples of an image: [B, S] to [B, S], S at least 2."""
    return (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def self_critical_loss(log_probability: Tensor, rewards: Tensor, baseline: Tensor) -> Tensor:
    """Compute the REINFORCE loss of sampled captions (Rennie et al., arXiv:1612.00563).

    Args:
        log_probability: [N], of the samples; the gradient flows here.
        rewards: [N].
        baseline: [N], rewards of the greedy captions of their images, or `leave_one_out`.
    Returns: scalar, the negative mean of log-probability times advantage.
    """
    return -(log_probability * (rewards - baseline).detach()).mean()
