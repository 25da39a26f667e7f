//! The keys of a recipe: each table is declared once, with type, default and documentation.
//!
//! The declarations make the typed structures, their defaults, the list of known keys (for unknown
//! ones and their suggestions) and `docs/recipes.md`.

use resnet_core::precision::Precision;
use resnet_core::spec::{NetworkSpec, ShortcutKind, StemKind};
use resnet_io::augment::Step;
use resnet_io::loader::{LastBatch, Sampling};
use resnet_io::resize::Filter;
use resnet_io::source::{Fold, HeldBack};
use serde::{Deserialize, Serialize};

/// A documented table of a recipe.
#[derive(Debug)]
pub struct Table {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in order.
    pub keys: &'static [Key],
}

/// A documented key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name within the table.
    pub name: &'static str,
    /// Its Rust type.
    pub ty: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Declares a table: the structure, its defaults and its documentation from one text.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident as $table:literal {
            $($(#[doc = $doc:literal])+ $key:ident: $ty:ty = $default:expr;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }

        impl $name {
            /// The keys with their documentation.
            pub const TABLE: Table = Table {
                name: $table,
                about: concat!($($about,)+),
                keys: &[$(Key {
                    name: stringify!($key),
                    ty: stringify!($ty),
                    doc: concat!($($doc,)+),
                },)*],
            };
        }
    };
}

table! {
    /// The network.
    Model as "model" {
        /// A named network, or the path of a TOML specification. Without it: resnet20 for pictures
        /// up to 64 pixels, resnet18 above.
        name: Option<String> = None;
        /// The whole specification in place of a name; what a run writes down when the
        /// specification came from a file.
        spec: Option<NetworkSpec> = None;
        /// Channels of the pictures: 3 (red, green, blue) or 1 (greyscale). Without it: the network's own.
        in_channels: Option<usize> = None;
        /// The stem: `"large"` (7x7), `"small"` (3x3, no pool) or `"deep"`. Without it: the
        /// network's own.
        stem: Option<StemKind> = None;
        /// The shortcut: `"A"`, `"B"`, `"C"` or `"none"`. Without it: the network's own.
        shortcut: Option<ShortcutKind> = None;
        /// Starts each block's last gamma at zero. Without it: the network's own.
        zero_init_last: Option<bool> = None;
        /// Drops features before the classifier with this probability. Without it: the network's
        /// own.
        dropout: Option<f64> = None;
        /// Skips the last block with this probability, earlier ones linearly less often. Without
        /// it: the network's own.
        stochastic_depth: Option<f64> = None;
        /// A file of weights to start from. Without it: random ones, by `train.seed`.
        weights: Option<String> = None;
        /// Starts the classifier anew, whatever `weights` has for it.
        new_head: bool = false;
    }
}

table! {
    /// The pictures.
    Data as "data" {
        /// Where they are: `generated`, a folder, an archive or a CIFAR file, as `--data`.
        source: String = "generated".into();
        /// Where the validation pictures are, if elsewhere, as `--val`.
        val: Option<String> = None;
        /// The share of the training pictures held back for validation, between 0 and 1.
        val_fraction: Option<f64> = None;
        /// The part of the training pictures held back for validation, as `"2/5"`: the second of five.
        /// A training with each of the five is a cross-validation.
        fold: Option<Fold> = None;
        /// Mean of each channel, of values in 0..1. A network of one channel takes one number, or weighs
        /// three as luma does (0.299, 0.587, 0.114).
        mean: Vec<f64> = resnet_core::build::IMAGENET_MEAN.to_vec();
        /// Standard deviation of each channel, likewise.
        std: Vec<f64> = resnet_core::build::IMAGENET_STD.to_vec();
        /// Turns pictures as their EXIF data say, in training, evaluation and later use.
        exif: bool = true;
        /// Threads that decode and augment, on top of the computing ones; two a processor at most.
        /// Results do not depend on it.
        workers: usize = 1;
        /// Reads every picture before training starts, and does not start if one is broken. Without
        /// it, another takes the place of a broken one in training, and evaluation leaves it out.
        strict: bool = false;
        /// Keeps decoded pictures in memory, up to half of what is free. Results do not depend on
        /// it.
        cache: bool = false;
        /// How often each training picture comes in an epoch: `"each"` once, or `"balanced"`: all
        /// classes equally often, in an epoch as long as the set.
        sampling: Sampling = Sampling::Each;
        /// A last training batch that is not full: `"keep"` trains on it, `"drop"` leaves it out.
        last_batch: LastBatch = LastBatch::Keep;
        /// A file with the names of the classes in their order, one a line, or columns `index`,
        /// `wnid`, `label` between tabs. Without it: the bytes of their names.
        classes_file: Option<String> = None;
    }
}

impl Data {
    /// What is held back for validation.
    pub fn held_back(&self) -> Option<HeldBack> {
        self.val_fraction.map(HeldBack::Share).or(self.fold.map(HeldBack::Fold))
    }
}

table! {
    /// What happens to training pictures.
    Augment as "augment" {
        /// The steps, in order: `{ step = "pad_crop", padding = 4 }`, `{ step = "flip", p = 0.5 }`,
        /// `{ step = "random_resized_crop", size = 224, scale = [0.08, 1.0], ratio = [0.75, 1.3333] }`,
        /// `{ step = "resize", side = 256 }`, `{ step = "center_crop", height = 224, width = 224 }`,
        /// `{ step = "scale_jitter", sides = [256, 480] }`, `{ step = "random_crop", size = 224 }`,
        /// `{ step = "rotation", degrees = [-15.0, 15.0] }`,
        /// `{ step = "color_jitter", brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 }`,
        /// `{ step = "grayscale", p = 0.1 }`, `{ step = "lighting", std = 0.1 }`,
        /// `{ step = "rand_augment", ops = 2, magnitude = 9 }`, `{ step = "trivial_augment_wide" }`,
        /// `{ step = "auto_augment", policy = "imagenet" }` (or `"cifar10"`, `"svhn"`),
        /// `{ step = "aug_mix", severity = 3, width = 3 }`, `{ step = "random_erasing", p = 0.1 }`.
        /// Those that scale take `interpolation`: `"bilinear"` where it is not given, `"bicubic"`, `"lanczos"`,
        /// `"box"` or `"nearest"`.
        /// Where none of them brings pictures of other sizes to the network's, one that does is put
        /// first, and told.
        steps: Vec<Step> = Vec::new();
        /// Rows and columns of training pictures: steps that set a size take this one. Without it: as in
        /// evaluation.
        size: Option<usize> = None;
        /// Progressive resizing, in place of `size`: rows and columns of training pictures as training goes on,
        /// each for an equal part of the epochs, as `[128, 160, 192]`. A number that is there twice lasts twice as
        /// long. Of epochs that cannot be shared equally, the later numbers get more.
        progressive: Vec<usize> = Vec::new();
        /// Repeated augmentation: an epoch has each of its pictures so often, augmented anew each time, and so
        /// many times fewer pictures.
        repeats: u64 = 1;
        /// Mixup: each picture is blended with the one before it in its batch; the share is drawn from
        /// Beta(mixup, mixup) for the whole batch (torchvision's MixUp). 0 does not.
        mixup: f64 = 0.0;
        /// CutMix: a rectangle of each picture is the one's before it; its share is drawn from
        /// Beta(cutmix, cutmix) for the whole batch (torchvision's CutMix). 0 does not.
        cutmix: f64 = 0.0;
        /// Where both are on: the share of batches that take CutMix. Training's top-1 counts mixed
        /// pictures by the class that weighs more.
        mix_switch: f64 = 0.5;
    }
}

impl Augment {
    /// Rows and columns of the last training pictures, where the recipe says them.
    pub fn final_size(&self) -> Option<usize> {
        self.progressive.last().copied().or(self.size)
    }
}

table! {
    /// How parameters change. The update is PyTorch's SGD: `v = momentum * v + g + decay * w`, then
    /// `w = w - lr * v` (Nesterov: `w - lr * (g + decay * w + momentum * v)`). The learning rate
    /// scales the step, not what enters `v`.
    Optimizer as "optimizer" {
        /// The learning rate; the schedule's highest.
        lr: f64 = 0.1;
        /// The batch size that `lr` is meant for: another one scales it in proportion. 0 takes `lr`
        /// as it is.
        lr_batch: usize = 0;
        /// Momentum.
        momentum: f64 = 0.9;
        /// Nesterov's form of it.
        nesterov: bool = false;
        /// Weight decay.
        weight_decay: f64 = 1e-4;
        /// What decays: `"all"` parameters, or `"weights"` of convolutions and classifier alone (no
        /// norms, no biases).
        decay: DecayGroup = DecayGroup::All;
        /// Scales gradients so that their norm, over all parameters, is at most this. 0 does not.
        clip_norm: f64 = 0.0;
    }
}

table! {
    /// The learning rate over time. A key that the chosen kind does not read is an error.
    Schedule as "schedule" {
        /// `"constant"`, `"step"`, `"multi-step"`, `"cosine"` (PyTorch's schedulers of these names)
        /// or `"one-cycle"` (OneCycleLR in two phases).
        kind: ScheduleKind = ScheduleKind::Constant;
        /// What `every`, `milestones` and `warmup` count, and when the rate changes: `"epoch"` or
        /// `"step"`. One-cycle always changes by step.
        unit: Unit = Unit::Epoch;
        /// `step`: the rate is multiplied by `gamma` each time so many have passed.
        every: u64 = 30;
        /// `multi-step`: the rate is multiplied by `gamma` when so many have passed.
        milestones: Vec<u64> = Vec::new();
        /// `step` and `multi-step`: the factor.
        gamma: f64 = 0.1;
        /// `cosine`: the rate at the end.
        min_lr: f64 = 0.0;
        /// All but one-cycle: so many of warm-up come first; what follows counts from its end, as
        /// in PyTorch's SequentialLR.
        warmup: u64 = 0;
        /// How the rate warms up: `"linear"` (LinearLR) or `"constant"` (ConstantLR).
        warmup_kind: WarmupKind = WarmupKind::Linear;
        /// The warm-up begins at this share of the rate.
        warmup_factor: f64 = 0.1;
        /// `one-cycle`: the share of all steps in which the rate rises (`pct_start`).
        warmup_fraction: f64 = 0.3;
        /// `one-cycle`: the first rate is `lr / div` (`div_factor`).
        div: f64 = 25.0;
        /// `one-cycle`: the last rate is `lr / div / final_div` (`final_div_factor`).
        final_div: f64 = 1e4;
        /// `one-cycle`: `"cos"` or `"linear"` between them (`anneal_strategy`).
        anneal: Anneal = Anneal::Cos;
        /// `one-cycle`: momentum falls from `max_momentum` to `base_momentum` while the rate rises,
        /// and back.
        cycle_momentum: bool = false;
        /// `one-cycle` with `cycle_momentum`: the lowest momentum.
        base_momentum: f64 = 0.85;
        /// `one-cycle` with `cycle_momentum`: the highest momentum.
        max_momentum: f64 = 0.95;
    }
}

table! {
    /// What is minimised, averaged over the batch.
    Loss as "loss" {
        /// `"softmax"`: softmax cross-entropy (PyTorch's CrossEntropyLoss), or `"bce"`: binary
        /// cross-entropy of each class by itself, averaged over the classes, too (BCEWithLogitsLoss).
        /// Without it: `"bce"` where pictures may have several classes, else `"softmax"`.
        kind: Option<LossKind> = None;
        /// Weight `s` of the uniform distribution mixed into the targets: `(1 - s) * target + s /
        /// classes`, in both kinds.
        label_smoothing: f64 = 0.0;
        /// `bce`: targets above this, after smoothing and mixing, become 1 and all others 0 (timm's
        /// `--bce-target-thresh`). Without it: they stay as they are.
        target_threshold: Option<f64> = None;
        /// `bce`: what a class that is there counts beside one that is not (PyTorch's `pos_weight`, one
        /// for all classes).
        pos_weight: f64 = 1.0;
    }
}

table! {
    /// How long, and in what portions.
    Train as "train" {
        /// Passes over the training pictures; the schedule's length.
        epochs: u64 = 10;
        /// Pictures a step. A last batch of one borrows a picture from the one before it.
        batch_size: usize = 128;
        /// What activations and their gradients are stored as. In bf16 they take half the memory; weights,
        /// statistics, sums and the loss stay in f32.
        precision: TrainPrecision = TrainPrecision::F32;
        /// Initial weights, order, augmentation and dropout follow from it.
        seed: u64 = 0;
        /// Stops after so many steps in all, evaluates and saves; the schedule keeps its length. 0
        /// does not.
        max_steps: u64 = 0;
        /// Stops after so many seconds of this process, evaluates and saves; the schedule keeps its
        /// length. 0 does not.
        max_seconds: f64 = 0.0;
        /// One line in `metrics.jsonl` for so many steps.
        log_every: u64 = 1;
    }
}

table! {
    /// What is kept, and when. `last` is written after each epoch and when a run stops, `best`
    /// when the evaluation is better than all before it.
    Checkpoint as "checkpoint" {
        /// Also after so many steps. 0 does not.
        every_steps: u64 = 0;
        /// Also after so many seconds. 0 does not. Results do not depend on it.
        every_seconds: f64 = 300.0;
        /// How many of the last epochs keep a file of their own (`epoch-N`).
        keep: usize = 0;
    }
}

table! {
    /// How accuracy is measured.
    Eval as "eval" {
        /// After so many epochs, and after the last.
        every_epochs: u64 = 1;
        /// Pictures at a time; 0 takes the training's. Results do not depend on it.
        batch_size: usize = 0;
        /// The shorter side is scaled to this many pixels first. Without it: 256 for networks of 224
        /// pixels, not at all for those of small pictures.
        resize: Option<usize> = None;
        /// How pictures are scaled: `"bilinear"`, `"bicubic"`, `"lanczos"`, `"box"` or `"nearest"`.
        interpolation: Filter = Filter::Bilinear;
        /// The middle of so many rows and columns is taken. Without it: `augment.size`, the last of
        /// `augment.progressive`, or the network's input.
        crop: Option<usize> = None;
    }
}

/// What activations are stored as in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainPrecision {
    /// 32-bit floats.
    F32,
    /// Their upper halves.
    Bf16,
}

impl From<TrainPrecision> for Precision {
    fn from(precision: TrainPrecision) -> Precision {
        match precision {
            TrainPrecision::F32 => Precision::F32,
            TrainPrecision::Bf16 => Precision::Bf16,
        }
    }
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayGroup {
    /// All of them.
    All,
    /// Weights of convolutions and classifier.
    Weights,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Softmax cross-entropy.
    Softmax,
    /// Binary cross-entropy of each class.
    Bce,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Not at all.
    Constant,
    /// By a factor, at regular distances.
    Step,
    /// By a factor, at given points.
    MultiStep,
    /// Along half a cosine.
    Cosine,
    /// Up, then down (Smith and Topin 2017, arXiv:1708.07120).
    OneCycle,
}

/// What a schedule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Passes over the training pictures.
    Epoch,
    /// Updates of the parameters.
    Step,
}

/// How a learning rate warms up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmupKind {
    /// Along a line, from its share to the whole.
    Linear,
    /// By its share until the end of the warm-up.
    Constant,
}

/// The curve of one-cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anneal {
    /// Half a cosine.
    Cos,
    /// A line.
    Linear,
}
