"""Constants of the closed form, apart from `isplit.design.closed_form` because that loads torch."""

import math
from dataclasses import dataclass

from isplit.setting_checks import check_ranges, check_types


@dataclass(frozen=True, kw_only=True)
class ClosedFormTuning:
    """Constants of the closed form that were found by experiment; there is seldom a reason to change them.

    Args:
        pilot_images: Images that tell which directions of the channels hardly matter.
        held_out_images: Hold out at least this many images from the moments, where there are enough, to choose latents
            and make tables from. From fewer, a joint map would learn the images themselves, so there is none.
        max_latents: Floats of latents at one cut from which ranks, steps and tables are found.
        max_patch_width: Longest vector of a patch; with longer ones the eigenvalue problem takes longer than the
            images.
        samples_per_dimension: Fewest samples for each number of a vector. With so few the shrinkage decides much, yet a
            patch of 2x2 from 1.25 samples per dimension lost 16 points less at VGG16's pool4 than single positions
            from 5, and 17 less at pool5 from 0.31.
        settled_samples: Patches with fewer samples for each number of a vector are compared with the next smaller ones
            (for budgets of bytes). After MobileNetV2's features.5, 8x8 with 0.3 lost 23 points more than 4x4 at 256
            bytes, and 2 points less at 96.
        patch_worth: (side, ratio): channels are given up for a patch of this side where that loses at most this ratio
            of what the budget loses at single positions anyway. From 4 to 8 there is less to gain than from 2 to 4. At
            VGG16's pool3, 8x8 with 32 of 256 channels loses 2 points less than 4x4 with 128 where the ratio is 0.11,
            1 point more at 0.29 and 4 more at 0.64; at conv3_2 it loses 1 to 2 points more at 0.13 to 0.20; at conv4_3,
            4x4 loses 2 less than 2x2 at 0.22.
        compared_worth: Patches that are compared on images held out (for budgets of bytes) may lose so many times the
            ratio of `patch_worth`. After MobileNetV2's features.2.conv.0.2 the expected
            losses of 8x8 with 32 of 96 channels, 4x4 and 2x2 were in the order of the divergences that were measured.
        compared_images: Images that the moments are not from on which splits with patches of two sizes are compared by
            what the network answers; 0 takes the size with the smaller expected loss.
        decoder_factor: Decoders may be estimated again from up to so many times as many images as the moments are from.
        negligible_share: Channels that hold less than this share of the weighted energy together are never worth their
            place in a vector.
        max_joint_width: Longest vector of a joint map. Longer ones take longer to solve for, and there are too few
            images to tell more latents apart: with 2,048 entries VGG16 on tiny-imagenet-20 answered no better between
            340 and 500 bytes.
        joint_worth: A joint map has to lower the expected loss to this share to be worth its weights and operations.
        joint_room: Where a joint map has room for less than this share of the latents, it is not solved for.

    Raises:
        InputError: a value of another type, or a count outside its range; the message names the argument.

    """

    pilot_images: int = 100
    held_out_images: int = 200
    max_latents: int = 2**22
    max_patch_width: int = 2048
    samples_per_dimension: float = 0.25
    settled_samples: float = 1.0
    patch_worth: tuple[tuple[int, float], ...] = ((8, 0.12), (4, 0.25), (2, 0.25))
    compared_worth: float = 2.0
    compared_images: int = 32
    decoder_factor: int = 3
    negligible_share: float = 0.0005
    max_joint_width: int = 1024
    joint_worth: float = 0.95
    joint_room: float = 0.25

    def __post_init__(self) -> None:
        check_types(self)
        positive = ("pilot_images", "held_out_images", "max_latents", "max_patch_width", "decoder_factor")
        check_ranges(self, dict.fromkeys(positive, (1, math.inf)))
        check_ranges(self, dict.fromkeys(("compared_images", "max_joint_width"), (0, math.inf)))
