"""The alignment gate as a finding: do pseudo and LiDAR cloud of the frames trained on lie on each other?"""

from collections.abc import Sequence
from dataclasses import asdict, replace

from ..alignment import TOLERANCE, check_alignment
from ..errors import OcclabError
from ..frames import Frame
from .finding import Experiment, Finding

GAIN = 1.1
"""Where undoing the estimate gives this many times the IoU, it is what holds the score down."""


def misaligned_clouds(frames: Sequence[Frame]) -> Finding:
    """:func:`occlab.check_alignment` over frames, pooled."""
    try:
        found = check_alignment(list(frames))
    except OcclabError as error:  # no Open3D here, or too few points to tell
        return Finding("misaligned-target", "not-measurable", str(error))
    numbers = {n: v for n, v in asdict(found).items() if n in ("scale", "z_offset", "yaw", "pitch", "axes", "units")}
    evidence = numbers | {"iou": found.iou, "iou_aligned": found.iou_aligned, "cost": found.cost}
    evidence |= {"cutoff": [f"{name} {value}" for name, value in TOLERANCE.items()], "source": "occlab.check_alignment"}
    if found.ok:
        return Finding("misaligned-target", "pass", f"Pseudo and LiDAR cloud of {found.name} lie on each other.", evidence)

    def again() -> tuple[float, float]:
        repaired = [replace(frame, pseudo=found.repair(frame.pseudo)) for frame in frames]
        return found.iou, check_alignment(repaired).iou

    experiment = Experiment(
        "Undo the estimate", "IoU of the pseudo cloud's voxels with the LiDAR's", 0.9 * found.iou_aligned, 1.0, again
    )
    why = (
        f"This alone costs the LiDAR {found.cost:.2f} of an IoU of 1 with itself; the network has to learn it away, if it can."
    )
    fix = "found = occlab.check_alignment(frames)\npseudo = found.repair(frame.pseudo)  # better: mend what made it so"
    verdict = "fail" if found.iou_aligned > GAIN * found.iou else "warn"
    return Finding("misaligned-target", verdict, "; ".join(found.findings) + ".", evidence, why, fix, experiment)
