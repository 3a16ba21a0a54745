"""Flicker of each video: how much pixels change from frame to frame, motion included; 0 for a still."""

from torch import Tensor


def flicker(videos: Tensor) -> Tensor:
    """(N, T, C, H, W) in [-1, 1] -> (N,): the mean of |x_(t+1) - x_t| in 8-bit steps, 0 to 255.

    VBench's temporal flickering is 1 - flicker / 255 (arXiv 2311.17982, section 3.1). Motion counts, too, so compare
    with the flicker of a reference, or see `warping_error`, which follows the motion. Raises ValueError for one frame.
    """
    if videos.dim() != 5 or videos.shape[1] < 2:
        raise ValueError(f"flicker: videos are (N, T, C, H, W) of at least two frames, not {tuple(videos.shape)}")
    change = (videos[:, 1:].float() - videos[:, :-1].float()).abs()  # (N, T - 1, C, H, W)
    return change.flatten(1).mean(1) * 127.5
