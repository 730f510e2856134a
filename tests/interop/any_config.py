"""Training configurations of every kind, for hypothesis."""

from hypothesis import strategies as st

from occlab import OccupancyLoss, UNetConfig, VoxelGrid
from occlab.training import TrainConfig

positive = st.floats(1e-9, 1e3)
mults = st.dictionaries(st.sampled_from(["lr_mult", "decay_mult"]), st.floats(0, 100))
names = st.sampled_from(["refine", "head", "head.0", "stem", "norm", "no such part", "x'y\"z", "ß", "lambda"]) | st.text(
    max_size=5
)


@st.composite
def losses(draw, heights):
    weights = {name: draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for name in ("bce", "dice", "focal", "tversky")}
    weights["dice"] += 0 if any(weights.values()) else 1
    if weights["focal"]:
        weights |= {"focal_alpha": draw(st.floats(0, 1)), "focal_gamma": draw(st.floats(0, 5))}
    if weights["tversky"]:
        weights |= {"tversky_alpha": draw(st.floats(0.1, 1))}
    if draw(st.booleans()):
        weights["height_weights"] = tuple(draw(st.lists(st.floats(0.1, 9), min_size=heights, max_size=heights)))
    else:
        weights["lovasz"] = draw(st.sampled_from([0.0, 1.0]))
    return OccupancyLoss(**weights, dice_smooth=draw(positive))


@st.composite
def grids(draw):
    edge = draw(st.sampled_from([0.25, 0.4, 0.5, 0.6, 0.1 + 0.2]))
    low = draw(st.floats(-60, 60))
    nx, ny, nz = draw(st.tuples(*[st.integers(1, 40)] * 3))
    return VoxelGrid.from_shape((low, low, -5, low + nx * edge, low + ny * edge, -5 + nz * 0.25), (nz, ny, nx))


@st.composite
def configs(draw, keys=names):
    grid = draw(grids())
    heights = grid.shape[0]
    model = UNetConfig(
        in_channels=draw(st.integers(1, 512)),
        out_channels=heights,
        channels=tuple(draw(st.lists(st.integers(1, 512), min_size=2, max_size=4))),
        width=draw(st.floats(0.1, 2)),
        head=draw(st.sampled_from(["rectified", "logits"])),
        block=draw(st.sampled_from(["plain", "residual"])),
        attention=draw(st.sampled_from(["none", "channel", "spatial", "both"])),
        skip=draw(st.sampled_from(["full", "half"])),
        bn_momentum=draw(st.floats(0.001, 1)),
    )
    optimizer = draw(st.sampled_from(["adamw", "sgd"]))
    own = {"momentum": draw(st.floats(0, 0.99))} if optimizer == "sgd" else {"adam_epsilon": draw(positive)}
    steps = draw(st.integers(1, 10**6))
    schedule = draw(st.sampled_from(["constant", "cosine", "one-cycle"]))
    warmup = 0 if schedule == "one-cycle" else draw(st.integers(0, min(steps - 1, 2000)))
    prior = draw(st.none() | st.just("measured") | st.floats(0.001, 0.999))
    if prior is not None and model.head == "rectified":
        own["prior_in"] = draw(st.sampled_from(["convolution", "norm"]))
    return TrainConfig(
        model=model,
        grid=grid,
        loss=draw(losses(heights)),
        targets=draw(st.sampled_from(["soft", "hard"])),
        init=draw(st.sampled_from(["default", "kaiming", "xavier"])),
        zero_last=draw(st.booleans()),
        output_prior=prior,
        optimizer=optimizer,
        learning_rate=draw(positive),
        weight_decay=draw(st.floats(0, 1)),
        warmup_steps=warmup,
        schedule=schedule,
        layer_decay=draw(st.floats(0.1, 1)),
        clip_norm=draw(st.none() | positive),
        custom_keys=draw(st.dictionaries(keys, mults, max_size=3)),
        steps=steps,
        batch_size=draw(st.integers(1, 64)),
        flip=draw(st.booleans()),
        quarter_turns=draw(st.booleans()),
        rotation=draw(st.floats(0, 180)),
        precision=draw(st.sampled_from(["32-true", "bf16-mixed"])),
        seed=draw(st.integers(0, 2**31)),
        snapshot_steps=tuple(draw(st.lists(st.integers(0, steps), max_size=3))),
        **own,
    )
