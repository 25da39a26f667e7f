//! A network as plain data: stem, stages, block, shortcut, head. Reads and writes as TOML or JSON.
//!
//! Source: He et al. 2015 (arXiv:1512.03385) for the family, He et al. 2016 (arXiv:1603.05027) for
//! pre-activation, He T. et al. 2018 (arXiv:1812.01187) for the -d tweaks, Xie et al. 2016
//! (arXiv:1611.05431) for groups, Hu et al. 2017 (arXiv:1709.01507) for squeeze and excitation.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Everything that defines a residual network. Every named network is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The name it goes by in reports and files.
    pub name: String,
    /// Classes that the classifier tells apart.
    #[serde(default = "default_classes")]
    pub classes: usize,
    /// Drops features before the classifier with this probability while training.
    #[serde(default)]
    pub dropout: f64,
    /// Skips the last block with this probability while training, earlier ones linearly less often
    /// (Huang et al. 2016, arXiv:1603.09382).
    #[serde(default)]
    pub stochastic_depth: f64,
    /// Starts each block's last gamma at zero, so that blocks begin as identities
    /// (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
    #[serde(default)]
    pub zero_init_last: bool,
    /// The pictures that go in.
    #[serde(default)]
    pub input: InputSpec,
    /// What stands before the first stage.
    pub stem: StemSpec,
    /// What a block is made of.
    pub block: BlockSpec,
    /// The other input of each block's add.
    #[serde(default)]
    pub shortcut: ShortcutSpec,
    /// Batch norm's constants.
    #[serde(default)]
    pub norm: NormSpec,
    /// Runs of blocks at one resolution.
    pub stages: Vec<StageSpec>,
}

/// The pictures that go in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Colour channels.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

/// What stands before the first stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StemSpec {
    /// Which convolutions.
    pub kind: StemKind,
    /// Channels that leave the stem.
    pub channels: usize,
    /// Whether a 3x3 max pool of stride 2 follows.
    pub pool: bool,
}

/// The convolutions of a stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// One 7x7 of stride 2 (the paper's ImageNet networks).
    Large,
    /// One 3x3 of stride 1 (the paper's CIFAR networks, `--stem small`).
    Small,
    /// Three 3x3, the first of stride 2, the first two half as wide (the -d networks).
    Deep,
}

/// What a block is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSpec {
    /// Basic or bottleneck.
    pub kind: BlockKind,
    /// Where normalisation and ReLU stand.
    #[serde(default)]
    pub order: BlockOrder,
    /// Which convolution of a bottleneck carries the stride.
    #[serde(default)]
    pub stride_on: StrideOn,
    /// Groups of the 3x3 convolution in a bottleneck (ResNeXt's cardinality).
    #[serde(default = "one")]
    pub groups: usize,
    /// Channels a group has for each 64 of the stage's (128 makes a wide network).
    #[serde(default = "default_width")]
    pub width_per_group: usize,
    /// Squeeze-and-excitation's reduction, if there is one (16 in the paper).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se_reduction: Option<usize>,
}

/// The residual unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1; the output is four times as wide as the stage's number.
    Bottleneck,
}

impl BlockKind {
    /// How many times wider the block's output is than the stage's `channels`.
    pub fn expansion(self) -> usize {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

/// Where normalisation and ReLU stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockOrder {
    /// After each convolution, the last ReLU after the add (2015).
    #[default]
    PostActivation,
    /// Before each convolution, nothing after the add (2016).
    PreActivation,
}

/// Which convolution of a bottleneck carries the stride.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrideOn {
    /// The first 1x1: the paper's v1.
    Conv1,
    /// The 3x3: torchvision's "v1.5".
    #[default]
    Conv2,
}

/// The other input of each block's add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortcutSpec {
    /// The paper's option.
    pub kind: ShortcutKind,
    /// Halves the picture by a 2x2 average pool before the projection (the -d networks).
    #[serde(default)]
    pub average_pool: bool,
}

/// He et al. 2015, section 3.3 and table 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShortcutKind {
    /// Identity; subsampled and zero-padded where shapes change.
    A,
    /// Projection where shapes change, identity elsewhere.
    B,
    /// Projection everywhere.
    C,
    /// No shortcut at all: the plain network.
    #[serde(rename = "none")]
    None,
}

/// Batch norm's constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormSpec {
    /// Added to the variance.
    pub eps: f64,
    /// Weight of the new batch in the running statistics.
    pub momentum: f64,
}

/// A run of blocks at one resolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Number of blocks.
    pub blocks: usize,
    /// Channels of the 3x3 convolutions (before `width_per_group`).
    pub channels: usize,
    /// Stride of the first block.
    #[serde(default = "one")]
    pub stride: usize,
    /// Dilation of the 3x3 convolutions; the first block keeps that of the stage before.
    #[serde(default = "one")]
    pub dilation: usize,
}

fn one() -> usize {
    1
}

fn default_width() -> usize {
    64
}

fn default_classes() -> usize {
    1000
}

impl Default for InputSpec {
    fn default() -> Self {
        InputSpec { channels: 3, height: 224, width: 224 }
    }
}

impl Default for ShortcutSpec {
    fn default() -> Self {
        ShortcutSpec { kind: ShortcutKind::B, average_pool: false }
    }
}

impl Default for NormSpec {
    fn default() -> Self {
        NormSpec { eps: 1e-5, momentum: 0.1 }
    }
}

/// Why a specification makes no network.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SpecError {
    /// A number is outside what makes sense.
    #[error("{key} is {found}, expected {expected}")]
    OutOfRange {
        /// The key, as in the file.
        key: String,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Two keys contradict each other.
    #[error("{key}: {why}")]
    Conflict {
        /// The key, as in the file.
        key: String,
        /// What it conflicts with.
        why: String,
    },
    /// The name is none that we know.
    #[error("unknown model \"{name}\"")]
    UnknownName {
        /// The name as given.
        name: String,
        /// Known names that look like it, best first.
        similar: Vec<String>,
    },
}

impl NetworkSpec {
    /// Channels of the 3x3 convolution in a block of a stage with `channels`.
    pub fn block_width(&self, channels: usize) -> usize {
        match self.block.kind {
            BlockKind::Basic => channels,
            BlockKind::Bottleneck => channels * self.block.width_per_group / 64 * self.block.groups,
        }
    }

    /// Channels that leave the last stage.
    pub fn features(&self) -> usize {
        let last = self.stages.last().map_or(self.stem.channels, |stage| stage.channels);
        last * self.block.kind.expansion()
    }

    /// Keeps resolution in the last stages by dilation instead of stride, for use as a backbone.
    ///
    /// `output_stride` is 8, 16 or 32 (32 changes nothing), as torchvision's
    /// `replace_stride_with_dilation`.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<NetworkSpec, SpecError> {
        if ![8, 16, 32].contains(&output_stride) {
            return Err(out_of_range("output_stride", output_stride, "8, 16 or 32"));
        }
        let stem = if self.stem.kind == StemKind::Small { 1 } else { 2 };
        let (mut reached, mut dilation) = (stem * if self.stem.pool { 2 } else { 1 }, 1);
        for stage in &mut self.stages {
            if reached * stage.stride > output_stride {
                dilation *= stage.stride;
                stage.stride = 1;
            }
            stage.dilation = dilation;
            reached *= stage.stride;
        }
        Ok(self)
    }

    /// Checks every number before a graph is built from it.
    pub fn validate(&self) -> Result<(), SpecError> {
        let positive = [
            ("classes", self.classes),
            ("input.channels", self.input.channels),
            ("input.height", self.input.height),
            ("input.width", self.input.width),
            ("stem.channels", self.stem.channels),
            ("block.groups", self.block.groups),
            ("block.width_per_group", self.block.width_per_group),
            ("block.se_reduction", self.block.se_reduction.unwrap_or(1)),
        ];
        for (key, value) in positive {
            in_range(key, value, 1, 1 << 20, "a whole number from 1 to 1048576")?;
        }
        in_range("number of stages", self.stages.len(), 1, 8, "1 to 8 stages")?;
        for (i, stage) in self.stages.iter().enumerate() {
            let key = |name: &str| format!("stages[{i}].{name}");
            in_range(&key("blocks"), stage.blocks, 1, 1000, "1 to 1000")?;
            in_range(&key("channels"), stage.channels, 1, 1 << 16, "1 to 65536")?;
            in_range(&key("stride"), stage.stride, 1, 4, "1 to 4")?;
            in_range(&key("dilation"), stage.dilation, 1, 64, "1 to 64")?;
            let width = self.block_width(stage.channels);
            if width == 0 || !width.is_multiple_of(self.block.groups) {
                return Err(SpecError::Conflict {
                    key: key("channels"),
                    why: format!("{width} channels do not make {} groups", self.block.groups),
                });
            }
        }
        for (key, p) in [("dropout", self.dropout), ("stochastic_depth", self.stochastic_depth)] {
            if !(0.0..1.0).contains(&p) {
                return Err(out_of_range(key, p, "from 0 to below 1"));
            }
        }
        if !(self.norm.eps > 0.0 && self.norm.eps < 1.0) {
            return Err(out_of_range("norm.eps", self.norm.eps, "above 0 and below 1"));
        }
        if !(0.0..=1.0).contains(&self.norm.momentum) {
            return Err(out_of_range("norm.momentum", self.norm.momentum, "from 0 to 1"));
        }
        self.validate_combinations()
    }

    fn validate_combinations(&self) -> Result<(), SpecError> {
        let conflict =
            |key: &str, why: &str| Err(SpecError::Conflict { key: key.into(), why: why.into() });
        if self.block.kind == BlockKind::Basic
            && (self.block.groups != 1 || self.block.width_per_group != 64)
        {
            return conflict("block.groups", "basic blocks have one group of the stage's width");
        }
        if self.stem.kind == StemKind::Deep && !self.stem.channels.is_multiple_of(2) {
            return conflict("stem.channels", "a deep stem needs an even number of channels");
        }
        if self.shortcut.kind == ShortcutKind::A {
            let mut cin = self.stem.channels;
            for stage in &self.stages {
                let cout = stage.channels * self.block.kind.expansion();
                if cout < cin {
                    return conflict("shortcut.kind", "shortcut A cannot reduce channels");
                }
                cin = cout;
            }
        }
        if self.shortcut.average_pool && self.shortcut.kind == ShortcutKind::A {
            return conflict("shortcut.average_pool", "shortcut A has no projection");
        }
        Ok(())
    }
}

fn out_of_range(key: &str, found: impl ToString, expected: &'static str) -> SpecError {
    SpecError::OutOfRange { key: key.into(), found: found.to_string(), expected }
}

fn in_range(
    key: &str,
    value: usize,
    least: usize,
    most: usize,
    expected: &'static str,
) -> Result<(), SpecError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(out_of_range(key, value, expected)) }
}
