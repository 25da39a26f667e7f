//! The flags. Each is declared once; those that several commands share mean the same in all.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use resnet::core::spec::{NetworkSpec, StemKind};
use resnet::cpu::Isa;
use resnet::io::resize::Filter;
use resnet::{Device, ModelRequest};

use crate::command;
use crate::failure::Failure;

const EXIT_STATUS: &str = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Residual networks: train, evaluate, classify, measure.
///
/// Results go to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "resnet", version, max_term_width = 100, after_help = EXIT_STATUS)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) talk: Talk,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(command::train::Options),
    Eval(command::eval::Options),
    Classify(command::classify::Options),
    Info(command::info::Options),
    Data(command::data::Options),
    Bench(command::bench::Options),
    Quantize(command::quantize::Options),
}

/// How it talks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Talking")]
pub(crate) struct Talk {
    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for every decision
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Changes to the network.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkChanges {
    /// Classes to tell apart [default: the network's own]
    #[arg(long, value_name = "N")]
    pub(crate) classes: Option<usize>,
    /// Channels of the pictures
    #[arg(long, value_name = "N")]
    pub(crate) in_channels: Option<usize>,
    /// Rows and columns of the pictures
    #[arg(long, value_name = "PIXELS")]
    pub(crate) size: Option<usize>,
    /// `small`: a 3x3 stem without pooling, for small pictures
    #[arg(long, value_name = "KIND")]
    pub(crate) stem: Option<Stem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stem {
    /// 3x3 of stride 1, no pooling
    Small,
}

impl NetworkChanges {
    /// Changes a network as the flags say.
    pub(crate) fn apply(&self, spec: &mut NetworkSpec) {
        if let Some(classes) = self.classes {
            spec.classes = classes;
        }
        if let Some(channels) = self.in_channels {
            spec.input.channels = channels;
        }
        if let Some(size) = self.size {
            (spec.input.height, spec.input.width) = (size, size);
        }
        if self.stem == Some(Stem::Small) {
            spec.stem.kind = StemKind::Small;
            spec.stem.pool = false;
        }
    }
}

/// Where and how it computes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Computing")]
pub(crate) struct Compute {
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceKind,
    /// Threads that compute [default: all cores this process may use]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Numbers to compute with [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<Precision>,
    /// No shortcuts in arithmetic: no Winograd, no reduced precision
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceKind {
    /// This machine's processor
    Cpu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats
    F32,
    /// 32-bit floats of which activations keep the upper half: half the memory
    Bf16,
    /// Bytes with scales, in inference
    Int8,
}

impl From<Precision> for resnet::core::precision::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Int8 => Self::Int8,
        }
    }
}

impl Compute {
    /// The device of the flags, for what stores activations in f32 or bf16 or as a model file says.
    pub(crate) fn device(&self) -> Result<Device, Failure> {
        match self.precision {
            None | Some(Precision::F32 | Precision::Bf16) => self.any_device(),
            Some(Precision::Int8) => Err(Failure::usage(
                "--precision int8 is for `bench`",
                "a model on bytes computes on bytes without being told",
            )),
        }
    }

    /// The device of the flags, for what computes in f32 alone.
    pub(crate) fn device_in_f32(&self) -> Result<Device, Failure> {
        match self.precision {
            Some(Precision::Bf16) => Err(Failure::usage(
                "--precision bf16 is for train, eval, classify and bench",
                "leave --precision out",
            )),
            None | Some(Precision::F32 | Precision::Int8) => self.device(),
        }
    }

    /// What is computed with: f32 where nothing is said.
    pub(crate) fn precision(&self) -> resnet::core::precision::Precision {
        self.precision.map_or_else(Default::default, Into::into)
    }

    /// The device, whatever the precision. `RESNET_ISA` may force a narrower instruction set.
    pub(crate) fn any_device(&self) -> Result<Device, Failure> {
        let DeviceKind::Cpu = self.device;
        if let (true, Some(precision @ (Precision::Bf16 | Precision::Int8))) =
            (self.exact, self.precision)
        {
            let name = resnet::core::precision::Precision::from(precision).name();
            let message = format!("--exact and --precision {name} exclude each other");
            return Err(Failure::usage(message, "leave one of them out"));
        }
        let mut device = Device { exact: self.exact, ..Device::detect() };
        if let Some(threads) = self.threads {
            device.threads = threads.get();
        }
        if let Ok(name) = std::env::var("RESNET_ISA") {
            device.isa = Isa::parse(&name).map_err(|error| {
                Failure::usage(format!("RESNET_ISA: {error}"), "unset it to take the best")
            })?;
        }
        Ok(device)
    }
}

/// The network, its weights, and what a foreign weights file does not say.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct Model {
    /// Network: a name that `resnet info` lists, or a TOML file; a model file of ours needs none
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) model: Option<String>,
    /// Weights: a model file of ours, safetensors, .pth or .th
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Mean of each channel, of pixels in 0..1; one number for greyscale
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    pub(crate) mean: Option<Vec<f64>>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    pub(crate) std: Option<Vec<f64>>,
    /// Shorter side after resizing
    #[arg(long, value_name = "PIXELS")]
    pub(crate) resize: Option<usize>,
    /// Side of the square cut from the centre
    #[arg(long, value_name = "PIXELS")]
    pub(crate) crop: Option<usize>,
    /// How pictures are resized
    #[arg(long, value_name = "FILTER")]
    pub(crate) interpolation: Option<Interpolation>,
    /// Whether pictures are turned as their EXIF data say
    #[arg(long, value_name = "BOOL")]
    pub(crate) exif: Option<bool>,
    /// Names of the classes: one a line, or columns `index`, `wnid`, `label` between tabs
    #[arg(long, value_name = "FILE")]
    pub(crate) classes_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interpolation {
    /// The pixel that is nearest, without antialiasing
    Nearest,
    /// The mean of what a pixel covers
    Box,
    /// A triangle
    Bilinear,
    /// A cubic
    Bicubic,
    /// A windowed sinc
    Lanczos,
}

impl Interpolation {
    fn filter(self) -> Filter {
        match self {
            Interpolation::Nearest => Filter::Nearest,
            Interpolation::Box => Filter::Box,
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Lanczos => Filter::Lanczos,
        }
    }
}

impl Model {
    /// What to load.
    pub(crate) fn request(&self, compute: &Compute) -> Result<ModelRequest, Failure> {
        let Some(weights) = self.weights.clone() else {
            let hint = "`resnet train` makes a model file; --weights runs/.../checkpoints/best.safetensors";
            return Err(Failure::usage(
                "--weights is missing: there is nothing to compute with",
                hint,
            ));
        };
        Ok(ModelRequest {
            weights,
            model: self.model.clone(),
            classes_file: self.classes_file.clone(),
            mean: self.mean.clone(),
            std: self.std.clone(),
            resize: self.resize,
            crop: self.crop,
            interpolation: self.interpolation.map(Interpolation::filter),
            exif: self.exif,
            precision: compute.precision(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The commands among lines of text, without comments; a backslash joins lines.
    fn commands(text: &str) -> Vec<Vec<String>> {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().filter_map(|line| {
            let line = line.trim();
            line.strip_prefix("cargo run --release --").or_else(|| line.strip_prefix("resnet "))
        });
        // Comments and explanations stand two blanks or more away, or behind a `#`; the rest may be the shell's.
        let command = |line: &str| {
            let line = line.split(" #").next().unwrap_or_default().trim_start();
            let line = line.split(" > ").next().unwrap_or_default();
            let line = line.split("  ").next().unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        lines.map(command).collect()
    }

    #[track_caller]
    fn check(place: &str, text: &str, at_least: usize) {
        let found = commands(text);
        assert!(at_least <= found.len(), "{place}: {found:?}");
        for words in found {
            let line = words.join(" ");
            let words = std::iter::once("resnet".to_owned()).chain(words);
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{place}: resnet {line}\n{error}");
            }
        }
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        check("README.md", include_str!("../../../README.md"), 8);
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let all = Arguments::command();
        let nested = all.get_subcommands().flat_map(|command| command.get_subcommands());
        for command in all.get_subcommands().chain(nested) {
            let help = command.get_after_help().expect("every command has examples").to_string();
            check(command.get_name(), &help, 2);
        }
    }

    #[test]
    fn the_flags_contradict_nothing() {
        Arguments::command().debug_assert();
    }
}
