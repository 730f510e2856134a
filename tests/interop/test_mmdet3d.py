"""What a configuration says, what is not carried, what changes nothing; and the proposals of the original analysis."""

import math

import pytest

from occlab.interop import read_mmdet3d
from occlab.training import TrainConfig

STOOD = TrainConfig()

MMCV = """
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.4, 0.4, 0.4]
_dim_ = 256
model = dict(
    type='SomebodysOcc',
    head=dict(
        type='OccHead',
        channels=_dim_,
        loss_occ=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=2.0),
        loss_dice=dict(type='DiceLoss', naive_dice=True, eps=1e-4, loss_weight=0.25),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25)))
data = dict(samples_per_gpu=2, workers_per_gpu=4)
optimizer = dict(
    type='AdamW', lr=2e-4, weight_decay=0.01,
    paramwise_cfg=dict(custom_keys={'img_backbone': dict(lr_mult=0.1), 'refine': dict(lr_mult=10.0)}))
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='CosineAnnealing', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3)
runner = dict(type='IterBasedRunner', max_iters=28130 * 2)
fp16 = dict(loss_scale=512.)
seed = 3
"""

MMENGINE = """
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.8, weight_decay=1e-4),
    clip_grad=dict(max_norm=10),
    accumulative_counts=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', T_max=19500, eta_min_ratio=1e-3, by_epoch=False, begin=500, end=20000)]
train_cfg = dict(by_epoch=False, max_iters=20000)
train_dataloader = dict(batch_size=8)
randomness = dict(seed=7)
"""


def test_an_mmcv_file_is_read():
    read = read_mmdet3d(MMCV)
    c = read.config
    assert read.style == "mmcv"
    assert (c.optimizer, c.learning_rate, c.weight_decay, c.clip_norm, c.seed) == ("adamw", 2e-4, 0.01, 35, 3)
    assert (c.schedule, c.warmup_steps, c.steps, c.batch_size) == ("cosine", 500, 56260, 2)
    assert c.grid.shape == (20, 256, 256)
    assert (c.model.in_channels, c.model.out_channels) == (160, 20)
    assert (c.loss.bce, c.loss.dice, c.loss.focal, c.loss.dice_smooth) == (2.0, 0.25, 0.0, 1e-4)
    assert c.custom_keys == {"refine": {"lr_mult": 10.0}}
    assert read.said["learning_rate"].where == "optimizer.lr (line 15)"
    assert read.said["loss.bce"].where == "model.head.loss_occ.loss_weight (line 10)"
    carried = " ".join(read.not_carried)
    assert len(read.not_carried) == 6
    for part in ("data (line 13)", "workers_per_gpu", "fp16 (line 20): float16", "SomebodysOcc", "L1Loss", "['img_backbone']"):
        assert part in carried
    assert "changes once an epoch" in carried
    assert read.changes_nothing == ()


def test_an_mmengine_file_is_read():
    read = read_mmdet3d(MMENGINE)
    c = read.config
    assert read.style == "mmengine"
    assert (c.optimizer, c.learning_rate, c.momentum, c.weight_decay, c.clip_norm) == ("sgd", 0.02, 0.8, 1e-4, 10)
    assert (c.schedule, c.warmup_steps, c.steps, c.batch_size, c.seed) == ("cosine", 500, 20000, 8, 7)
    assert read.not_carried == (
        "optim_wrapper.accumulative_counts (line 6): gradients of 4 batches are added up; occlab steps after each batch",
    )
    assert read.said["warmup_steps"].where == "param_scheduler[0].end (line 8)"


def test_a_silent_file_leaves_the_training_as_it_stood():
    read = read_mmdet3d("# nothing here\n")
    assert (read.config, read.said, read.not_carried, read.changes_nothing) == (STOOD, {}, (), ())


def test_a_section_that_is_there_means_what_its_framework_means():
    text = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
    alone, based = read_mmdet3d(text), read_mmdet3d("_base_ = './schedule.py'\n" + text)
    assert (alone.config.clip_norm, alone.config.momentum, alone.config.weight_decay) == (None, 0.0, 0.0)
    assert "no clip_grad" in alone.said["clip_norm"].where
    assert (based.config.clip_norm, based.config.momentum) == (STOOD.clip_norm, STOOD.momentum)
    assert "clip_norm" not in based.said


def test_adam_without_weight_decay_is_adamw_without_it():
    read = read_mmdet3d("optimizer = dict(type='Adam', lr=1e-3)\n")
    assert (read.config.optimizer, read.config.weight_decay, read.not_carried) == ("adamw", 0.0, ())
    read = read_mmdet3d("optimizer = dict(type='Adam', lr=1e-3, weight_decay=0.1)\n")
    assert "not Adam" in read.not_carried[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr_config = dict(policy='step', step=[8, 11])", "lr_config.policy (line 1): occlab has no schedule step"),
        ("lr_config = dict(policy='poly', power=0.9)", "lr_config.policy (line 1): occlab has no schedule poly"),
        ("lr_config = dict(policy='fixed', warmup='exp', warmup_iters=9)", "a warm-up of kind exp"),
        ("lr_config = dict(policy='fixed', warmup='linear', warmup_iters=9, warmup_ratio=0.1)", "starts at 0.1"),
        ("lr_config = dict(policy='fixed', warmup='linear', warmup_iters=9, warmup_by_epoch=True)", "9 epochs"),
        ("lr_config = dict(policy='CosineAnnealing', by_epoch=False, min_lr=0)", "the cosine ends at 0 of"),
        ("runner = dict(type='EpochBasedRunner', max_epochs=24)", "24 epochs; occlab counts in steps"),
        ("param_scheduler = [dict(type='MultiStepLR', milestones=[8, 11])]", "occlab has no schedule MultiStepLR"),
        ("param_scheduler = dict(type='LinearLR', end=2)", "a warm-up of 2 epochs"),
        ("optimizer = dict(type='LAMB', lr=1)", "occlab trains with AdamW or SGD, not LAMB"),
        ("optimizer = dict(type='AdamW', betas=(0.9, 0.95))", "betas 0.9 and 0.999, not (0.9, 0.95)"),
        ("optimizer = dict(type='AdamW', amsgrad=True)", "no such settings: amsgrad"),
        ("optimizer = dict(lr=-1)", "learning_rate must be a finite number above 0, got -1"),
        ("optimizer = dict(lr='high')", "optimizer.lr (line 1): expected a finite number, got high"),
        ("optimizer = dict(paramwise_cfg=dict(norm_decay_mult=0.))", "no such settings: norm_decay_mult"),
        ("optimizer_config = dict(grad_clip=dict(max_norm=1, norm_type=1))", "a norm of power 1"),
        ("optim_wrapper = dict(type='AmpOptimWrapper', clip_grad=None)", "float16 with a scaled loss"),
        ("point_cloud_range = [0, 0, 0, 1, 1, 1]", "whole number of cells"),
        ("model = dict(type='OccupancyUNet', head='linear')", "UNetConfig.head must be"),
        ("model = dict(type='OccupancyUNet', dropout=0.1)", "no such settings: dropout"),
        ("model = dict(type='OccupancyUNet', out_channels=16)", "out_channels is 16, but the grid has 32 heights"),
        ("model = dict(type='OccupancyUNet', loss_occ=dict(type='OccupancyLoss', bce=0, dice=0))", "weights >= 0, not all 0"),
        ("train_pipeline = [dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5)]", "probabilities 0.5 and 0"),
        (
            "train_pipeline = [dict(type='ObjectSample')]",
            "train_pipeline (line 1): steps that occlab has no setting for: ObjectSample",
        ),
        ("occlab = dict(targets='softish')", "targets must be"),
        ("dataset_type = 'MyDataset'", "not read, because occlab has no such settings: dataset_type"),
    ],
)
def test_what_is_not_carried_is_said_with_its_place(text, says):
    read = read_mmdet3d(text + "\n")
    assert len(read.not_carried) == 1
    assert says in read.not_carried[0]
    assert "\n" not in read.not_carried[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "lr_config = dict(policy='fixed', warmup='linear', warmup_iters=0)",
            "lr_config.warmup (line 1): a warm-up of 0 steps",
        ),
        ("lr_config = dict(policy='fixed', warmup=None, warmup_iters=500)", "warmup_iters without a warmup"),
        ("lr_config = dict(policy='fixed', warmup='linear', warmup_iters=5, warmup_ratio=1.0)", "from the full rate"),
        (
            "param_scheduler = [dict(type='LinearLR', begin=0, end=0, by_epoch=False)]",
            "param_scheduler[0] (line 1): a warm-up of 0",
        ),
        ("optimizer_config = dict(grad_clip=dict(max_norm=None, norm_type=2))", "its norm changes nothing"),
        (
            "optimizer = dict(paramwise_cfg=dict(custom_keys={'refine': dict(lr_mult=1.0)}))",
            "['refine'] (line 1): lr_mult 1 leaves",
        ),
        ("optimizer = dict(paramwise_cfg=dict(bias_lr_mult=1.0))", "bias_lr_mult (line 1): a multiplier of 1"),
        (
            "optimizer = dict(type='AdamW', weight_decay=0, paramwise_cfg=dict(custom_keys={'head': dict(decay_mult=0.)}))",
            "decay_mult changes nothing where the weight decay is 0",
        ),
        (
            "optimizer = dict(paramwise_cfg=dict(custom_keys={'refin': dict(lr_mult=2.), 'refine': dict(lr_mult=10.)}))",
            "['refin'] (line 1): longer keys override it",
        ),
        (
            "model = dict(type='OccupancyUNet')\noptimizer = dict(paramwise_cfg=dict(custom_keys={'rfine': dict(lr_mult=2)}))",
            "['rfine'] (line 2): no parameter's name contains it",
        ),
        ("optimizer = dict(lr=1e-3)\noptimizer = dict(lr=1e-4)", "optimizer (line 1) changes nothing: line 2 sets it again"),
        ("optimizer = {'lr': 1e-3, 'lr': 1e-4}", "optimizer.lr (line 1) changes nothing"),
        ("optimizer = dict(lr=1e-3)\nrandomness = dict(seed=0)", "optimizer (line 1): mmengine does not read this"),
        (
            "optimizer = dict(type='SGD', lr=0.5)\nlr_config = dict(policy='OneCycle', max_lr=1e-3)",
            "optimizer.lr (line 1): the one-cycle schedule sets the rate from lr_config.max_lr (line 2)",
        ),
        ("train_pipeline = [dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.0)]", "mirrored with probability 0"),
    ],
)
def test_an_option_that_changes_nothing_is_said(text, says):
    read = read_mmdet3d(text + "\n")
    assert len(read.changes_nothing) == 1
    assert says in read.changes_nothing[0]


def test_a_multiplier_of_one_that_shields_from_a_shorter_key_is_an_option_that_counts():
    keys = "custom_keys={'refine': dict(lr_mult=10.), 'refine.0': dict(lr_mult=1.)}"
    assert read_mmdet3d(f"optimizer = dict(paramwise_cfg=dict({keys}))\n").changes_nothing == ()


def test_a_cosine_that_starts_before_the_warmup_ends_is_told_from_ours():
    text = "lr_config = dict(policy='CosineAnnealing', by_epoch=False, min_lr_ratio=1e-3, warmup='linear', warmup_iters={},\n"
    text += "warmup_ratio=1/3)\nrunner = dict(max_iters=1000)\n"
    assert read_mmdet3d(text.format(10)).not_carried == ()
    (sentence,) = read_mmdet3d(text.format(500)).not_carried
    assert "at step 500 the rate is 0.50 of the peak here" in sentence


def test_two_cosines_are_no_schedule_of_ours():
    one = "dict(type='CosineAnnealingLR', T_max={}, eta_min_ratio=1e-3, begin={}, end={}, by_epoch=False)"
    read = read_mmdet3d(f"param_scheduler = [{one.format(8, 0, 8)}, {one.format(12, 8, 20)}]\n")
    assert "schedule" not in read.said
    assert read.config.schedule == "constant"


# The proposals of the original analysis, each as somebody would have written it.


@pytest.mark.parametrize("rate", ["1e-3", "5e-4", "10 * 1e-4"])
def test_snippet_a_higher_rate_with_a_warmup_of_500(rate):
    text = f"optimizer = dict(type='AdamW', lr={rate}, weight_decay=0.01)\n"
    text += "lr_config = dict(policy='CosineAnnealing', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3,\n"
    text += "                 min_lr_ratio=1e-3)\n"
    config = read_mmdet3d(text).config
    assert config == TrainConfig(learning_rate=eval(rate), warmup_steps=500, schedule="cosine")
    text = f"optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr={rate}), clip_grad=dict(max_norm=0.1))\n"
    text += "param_scheduler = [dict(type='LinearLR', start_factor=1.0 / 3, by_epoch=False, begin=0, end=500)]\n"
    assert read_mmdet3d(text).config == TrainConfig(learning_rate=eval(rate), warmup_steps=500)


@pytest.mark.parametrize(
    "text",
    [
        "optimizer = dict(paramwise_cfg=dict(custom_keys={'refine': dict(lr_mult=10.0)}))",
        "optim_wrapper = dict(clip_grad=dict(max_norm=0.1), paramwise_cfg=dict(custom_keys={'refine': dict(lr_mult=10.0)}))",
    ],
)
def test_snippet_ten_times_the_rate_for_the_refinement(text):
    read = read_mmdet3d(text + "\n")
    assert read.config == TrainConfig(custom_keys={"refine": {"lr_mult": 10.0}})
    assert (read.not_carried, read.changes_nothing) == ((), ())


@pytest.mark.parametrize("norm", [1.0, 10.0])
def test_snippet_clipping_less(norm):
    for text in (
        f"optimizer_config = dict(grad_clip=dict(max_norm={norm}, norm_type=2))",
        f"optim_wrapper = dict(clip_grad=dict(max_norm={norm}, norm_type=2))",
    ):
        assert read_mmdet3d(text + "\n").config == TrainConfig(clip_norm=norm)


def snippet_of(fields):
    read = read_mmdet3d(f"model = dict(type='OccupancyUNet', {fields})\n")
    assert (read.not_carried, read.changes_nothing) == ((), ())
    return read.config


def test_snippet_a_deeper_network_with_residuals_and_attention():
    model = snippet_of("channels=[256, 512, 1024, 2048], block='residual', attention='both'").model
    assert (model.channels, model.block, model.attention) == ((256, 512, 1024, 2048), "residual", "both")


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_snippet_focal_loss_and_more_dice(weight):
    loss = snippet_of(f"loss_occ=dict(type='OccupancyLoss', focal=1.0, focal_alpha=0.25, focal_gamma=2.0, dice={weight})").loss
    assert (loss.focal, loss.focal_alpha, loss.focal_gamma, loss.dice, loss.bce) == (1.0, 0.25, 2.0, weight, 1.0)
    text = "model = dict(type='Other', a=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),\n"
    text += f"    b=dict(type='DiceLoss', naive_dice=True, loss_weight={weight}))\n"
    loss = read_mmdet3d(text).config.loss
    assert (loss.bce, loss.focal, loss.focal_alpha, loss.focal_gamma, loss.dice) == (0.0, 1.0, 0.25, 2.0, weight)


def test_snippet_heavier_low_heights():
    weights = [2.0] * 12 + [1.0] * 20
    loss = snippet_of(f"loss_occ=dict(type='OccupancyLoss', height_weights={weights})").loss
    assert loss.height_weights == tuple(weights)


def test_snippet_initial_weights():
    assert snippet_of("init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu')").init == "kaiming"
    assert snippet_of("init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform')").init == "xavier"
    read = read_mmdet3d("model = dict(type='OccupancyUNet', init_cfg=dict(type='Xavier', layer='Conv2d'))\n")
    assert "distribution 'uniform', not normal" in read.not_carried[0]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("occlab = dict(output_prior=0.1)", {"output_prior": 0.1}),
        ("occlab = dict(layer_decay=0.9)", {"layer_decay": 0.9}),
        ("occlab = dict(targets='hard')", {"targets": "hard"}),
        ("occlab = dict(quarter_turns=True)", {"quarter_turns": True}),
        ("point_cloud_range = [-54, -54, -5, 54, 54, 3]\nvoxel_size = [0.6, 0.6, 0.25]", {}),
    ],
)
def test_snippet_prior_layer_rates_targets_and_grid(text, changes):
    read = read_mmdet3d(text + "\n")
    assert read.config == TrainConfig(**changes)
    assert (read.not_carried, read.changes_nothing) == ((), ())


def test_snippet_rotation_and_flips():
    text = "train_pipeline = [\n"
    text += "    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),\n"
    text += "    dict(type='GlobalRotScaleTrans', rot_range=[-0.3925, 0.3925], scale_ratio_range=[1.0, 1.0],\n"
    text += "         translation_std=[0, 0, 0])]\n"
    wrapped = "train_dataloader = dict(dataset=dict(type='CBGSDataset', dataset=dict(pipeline=train_pipeline)))\n"
    for whole in (text, text + "data = dict(train=dict(pipeline=train_pipeline))\n", text + wrapped):
        read = read_mmdet3d(whole)
        assert read.config.flip
        assert math.isclose(read.config.rotation, math.degrees(0.3925))
        assert read.not_carried == ()
    read = read_mmdet3d("train_pipeline = [dict(type='GlobalRotScaleTrans')]\n")
    assert math.isclose(read.config.rotation, 45, rel_tol=1e-6)
    assert "frames are scaled" in read.not_carried[0]


def test_a_schedule_of_the_momentum_is_no_schedule_of_the_rate_and_epochs_are_no_steps():
    read = read_mmdet3d(
        "train_cfg = dict(by_epoch=True, max_epochs=6)\n"
        "param_scheduler = [dict(type='CosineAnnealingMomentum', eta_min=0.9, end=2.4),\n"
        "    dict(type='MultiStepLR', begin=0, end=6, milestones=[3])]\n"
    )
    said = "\n".join(read.not_carried)
    assert "CosineAnnealingMomentum changes the momentum" in said
    assert "MultiStepLR from epoch 0 to 6" in said
    assert "6 epochs; occlab counts in steps, and the file does not say how many these are" in said
