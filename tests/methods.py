"""Every method of training, measuring and looking into networks that the library promises, as code that makes one.

A row is a name and an expression in the names of its section's module. `docs/operations.md` is made of these tables.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from functools import partial
from typing import Any, NamedTuple


class Method(NamedTuple):
    """One row of the tables."""

    name: str
    module: str
    code: str

    def make(self) -> Any:
        """Return what the code makes."""
        return eval(self.code, {**vars(importlib.import_module(self.module)), "partial": partial})

    def summary(self) -> str:
        """Return the first line of what the documentation says of it."""
        name = self.code.removeprefix("partial(").split("(")[0].split(",")[0]
        made = getattr(importlib.import_module(self.module), name)
        return inspect.getdoc(made).splitlines()[0]


def rows(module: str, **code: str) -> list[Method]:
    """Return rows of one module; underscores in names stand for spaces."""
    return [Method(name.replace("_", " "), module, expression) for name, expression in code.items()]


OPTIMIZERS = rows(
    "cyconv.optimizers",
    SGD="SGD(0.1)",
    momentum="SGD(0.05, momentum=0.9)",
    Nesterov="SGD(0.05, momentum=0.9, nesterov=True)",
    AdaGrad="Adagrad(0.5)",
    AdaDelta="Adadelta(5.0)",
    RMSProp="RMSprop(0.05)",
    Adam="Adam(0.05)",
    AdamW="AdamW(0.05)",
    Adamax="Adamax(0.05)",
    Nadam="NAdam(0.05)",
    AMSGrad="Adam(0.05, amsgrad=True)",
    AdaBound="AdaBound(0.05)",
    weight_decay="SGD(0.1, weight_decay=0.01)",
)

STEPS = rows(
    "cyconv.optimizers",
    L1_penalty="L1(0.01)",
    L2_penalty="L2(0.01)",
    gradient_clipping_by_norm="ClipNorm(1.0)",
    gradient_clipping_by_value="ClipValue(0.5)",
    parameter_groups='ParameterGroup("weight", learning_rate_scale=0.1, weight_decay=0.0)',
    frozen_layers='ParameterGroup("weight", frozen=True)',
)

SCHEDULES = rows(
    "cyconv.schedules",
    step="StepDecay(2, 0.5)",
    steps_at_will="MultiStepDecay([1, 3], 0.1)",
    linear="LinearDecay()",
    cosine="CosineDecay(5)",
    exponential="ExponentialDecay(0.9)",
    warm_up="WarmUp(3)",
    one_cycle="OneCycle(10)",
    on_plateau="ReduceOnPlateau(patience=0, threshold=0.9)",
)

CALLBACKS = [
    *rows("cyconv.training", early_stopping="EarlyStopping(patience=2)", checkpoints='Checkpoint("run.ckpt")'),
    *rows("cyconv.averaging", moving_average_of_the_weights="AverageWeights(0.9)"),
]

INITIALIZERS = rows(
    "cyconv.initializers",
    constant_standard_deviation="partial(normal, std=0.05)",
    one_over_root_n="lecun_normal",
    one_over_root_n_uniform="lecun_uniform",
    as_PyTorch="fan_in_uniform",
    Glorot="glorot_normal",
    Glorot_uniform="glorot_uniform",
    He="he_normal",
    He_uniform="he_uniform",
    orthogonal="orthogonal",
    bilinear="bilinear",
    uniform="partial(uniform, bound=0.1)",
    constant="partial(constant, value=0.5)",
    zeros="zeros",
    ones="ones",
)

AUGMENTATION = rows(
    "cyconv.data.augmentation",
    flips="RandomHorizontalFlip()",
    flips_upside_down="RandomVerticalFlip()",
    crops="RandomCrop(16, padding=2)",
    shifts="RandomShift(2)",
    rotation="RandomRotation(15)",
    affine_maps="RandomAffine(degrees=10, scale=0.1, shear=5, shift=0.1)",
    colour="ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)",
    cut_out="Cutout(4)",
    elastic="ElasticTransform(2)",
    normalisation="Normalize([0.5, 0.5, 0.5], [0.2, 0.2, 0.2])",
    one_after_the_other="Compose([RandomHorizontalFlip(), RandomShift(1)])",
    targets_of_valid_convolutions="CropTargets(2)",
)

METRICS = rows(
    "cyconv.metrics",
    accuracy="accuracy",
    top_k_accuracy="top_k_accuracy",
    confusion_matrix="confusion_matrix",
    precision="precision",
    recall="recall",
    F1="f1",
    intersection_over_union="iou",
    Dice="dice",
)

SANITY_CHECKS = rows(
    "cyconv.diagnose",
    initial_loss_near_log_of_the_classes="initial_loss",
    overfit_a_tiny_batch="overfit",
    gradient_check="gradients",
    dead_ReLU_share="dead_relus",
    update_to_weight_ratio="update_ratios",
    activations_layer_by_layer="activation_statistics",
)

UNDERSTANDING = [
    *rows(
        "cyconv.analysis",
        summary_table="summary",
        number_of_parameters="count_parameters",
        number_of_multiply_adds="count_flops",
        receptive_field="receptive_field",
        receptive_fields_of_all_layers="receptive_fields",
        formula_for_parameters_of_convolutions="conv_parameters",
        formula_for_multiply_adds_of_convolutions="conv_flops",
        formula_for_parameters_of_linear_layers="linear_parameters",
        formula_for_multiply_adds_of_linear_layers="linear_flops",
        formula_for_receptive_fields="stack_windows",
        activations="activations",
        gradient_of_a_score="input_gradient",
        saliency="saliency",
        images_that_maximise_a_filter="maximizing_images",
    ),
    *rows(
        "cyconv.visualize",
        training_curves="learning_curves",
        confusion_matrix_drawn="confusion_matrix",
        filters_before_and_after_training="filters",
        feature_maps_drawn="feature_maps",
        images_that_maximise_a_filter_drawn="maximizing_images",
        saliency_drawn="saliency",
        segmentation_overlays="segmentation",
    ),
]

IMAGE_FILTERS = (
    rows(
        "cyconv.image",
        correlation="correlate",
        true_convolution_of_images="convolve",
        Gaussian="gaussian",
        box="box",
        sharpen="sharpen",
        Sobel="sobel",
        Laplacian="laplacian",
    )
    if importlib.util.find_spec("cyconv.image")
    else []
)

METHODS = {
    "Filters of single images": IMAGE_FILTERS,
    "Optimizers": OPTIMIZERS,
    "Gradients and groups of parameters": STEPS,
    "Schedules of the learning rate": SCHEDULES,
    "Callbacks": CALLBACKS,
    "Initial weights": INITIALIZERS,
    "Augmentation": AUGMENTATION,
    "Metrics": METRICS,
    "Sanity checks": SANITY_CHECKS,
    "Understanding a network": UNDERSTANDING,
}
