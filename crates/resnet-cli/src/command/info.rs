//! `resnet info`: the layers of a network with shapes, parameters, multiply-adds and memory.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use resnet::core::build::{BuildOptions, Mode, forward};
use resnet::core::cost::{self, LayerCost};
use resnet::core::spec::NetworkSpec;
use resnet::core::zoo;
use resnet::cpu::Isa;
use resnet::io::decode::JPEG_DECODER;
use resnet::io::weights::ModelFile;
use resnet::train::TrainError;
use resnet::train::model::network;
use serde_json::json;

use crate::Outcome;
use crate::arguments::NetworkChanges;
use crate::failure::{Failure, Status};
use crate::view::table::{Align, Table};
use crate::view::{View, bytes, count};

const EXAMPLES: &str = "\
Examples:
  resnet info                                     the networks that have names
  resnet info resnet50                            its layers and totals
  resnet info resnet18 --stem small --size 64 --classes 200
  resnet info resnet18 --toml > mine.toml         a network to change
  resnet info mine.toml --json                    for programs
  resnet info --verify runs/first/checkpoints/best.safetensors
  resnet info --build                             decoder and instructions in use";

/// Show a network: layers, shapes, parameters, multiply-adds, memory
///
/// Multiply-adds count convolutions and the classifier for one picture, as published tables do;
/// memory is that of all layers' outputs in 32-bit floats.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Network: a name, or a TOML file; none lists the names
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Print the network as TOML, to be changed and used as `--model FILE.toml`
    #[arg(long, requires = "model", conflicts_with = "json")]
    toml: bool,
    /// Read a model file whole, and compare its tensors with the checksum that it carries
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    verify: Option<PathBuf>,
    /// Say how this program was built, and what it uses of this machine
    #[arg(long, conflicts_with_all = ["model", "verify"])]
    build: bool,
    #[command(flatten)]
    changes: NetworkChanges,
}

pub(crate) fn run(options: &Options, view: &View) -> Outcome {
    if let Some(path) = &options.verify {
        return verify(path, view);
    }
    if options.build {
        return build(view);
    }
    let Some(model) = &options.model else {
        return list(view);
    };
    let mut spec = network(model)?;
    options.changes.apply(&mut spec);
    spec.validate().map_err(TrainError::from)?;
    if options.toml {
        let text = toml::to_string(&spec).expect("a specification is plain TOML data");
        view.stdout().write_all(text.as_bytes())?;
        return Ok(Status::Done);
    }
    let channels = vec![0.0; spec.input.channels];
    let scale = vec![1.0; spec.input.channels];
    let build =
        BuildOptions { mean: channels, std: scale, ..BuildOptions::imagenet(1, Mode::Evaluation) };
    let graph = forward(&spec, &build).map_err(|error| {
        let hint = "a larger `--size`, or `--stem small`".to_owned();
        Failure::new(error, Some(hint)).context(spec.name.clone())
    })?;
    let layers = cost::layers(&graph);
    if view.json() { print_json(&spec, &layers, view) } else { print_table(&spec, &layers, view) }
}

/// Says that a model file is whole; an error if it is not.
fn verify(path: &Path, view: &View) -> Outcome {
    let model = ModelFile::read(path).map_err(TrainError::from)?;
    model.verify().map_err(TrainError::from)?;
    let (name, tensors) = (path.display().to_string(), model.file.tensors.len());
    let mut out = view.stdout();
    if view.json() {
        writeln!(out, "{}", json!({ "path": name, "tensors": tensors, "verified": true }))?;
    } else {
        writeln!(out, "{name}: {tensors} tensors, as they were written")?;
    }
    Ok(Status::Done)
}

fn build(view: &View) -> Outcome {
    let (version, isa) = (env!("CARGO_PKG_VERSION"), Isa::detect().name());
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut out = view.stdout();
    if view.json() {
        let object = json!({
            "version": version,
            "target": target,
            "profile": profile,
            "isa": isa,
            "jpeg": JPEG_DECODER,
        });
        writeln!(out, "{object}")?;
        return Ok(Status::Done);
    }
    writeln!(out, "resnet {version}, {profile} build for {target}")?;
    writeln!(out, "instructions: {isa}")?;
    writeln!(out, "JPEG decoder: {JPEG_DECODER}")?;
    Ok(Status::Done)
}

fn list(view: &View) -> Outcome {
    let mut out = view.stdout();
    for name in zoo::NAMES {
        if view.json() {
            writeln!(out, "{}", json!({ "model": name }))?;
        } else {
            writeln!(out, "{name}")?;
        }
    }
    view.note("besides: cifar-resnetN, cifar-resnetN-v2 and cifar-plainN for N = 6n+2, and your own as FILE.toml");
    Ok(Status::Done)
}

fn print_json(spec: &NetworkSpec, layers: &[LayerCost], view: &View) -> Outcome {
    let rows: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "name": layer.name,
                "op": layer.op,
                "output": layer.output,
                "params": layer.params,
                "macs": layer.macs,
                "activation_bytes": layer.activation_bytes,
            })
        })
        .collect();
    let object = json!({
        "model": spec.name,
        "params": total(layers, |layer| layer.params),
        "macs": total(layers, |layer| layer.macs),
        "input": [spec.input.channels, spec.input.height, spec.input.width],
        "classes": spec.classes,
        "layers": rows,
    });
    writeln!(view.stdout(), "{object}")?;
    Ok(Status::Done)
}

fn print_table(spec: &NetworkSpec, layers: &[LayerCost], view: &View) -> Outcome {
    let mut table = Table::new(&[
        ("layer", Align::Left),
        ("op", Align::Left),
        ("output", Align::Right),
        ("params", Align::Right),
        ("MACs", Align::Right),
        ("memory", Align::Right),
    ]);
    for layer in layers {
        let sides: Vec<String> = layer.output[1..].iter().map(usize::to_string).collect();
        let number = |n: u64| if n == 0 { "–".to_owned() } else { count(n) };
        table.row([
            layer.name.clone(),
            layer.op.to_owned(),
            sides.join("×"),
            number(layer.params),
            number(layer.macs),
            bytes(layer.activation_bytes),
        ]);
    }
    table.total([
        spec.name.clone(),
        String::new(),
        String::new(),
        count(total(layers, |layer| layer.params)),
        count(total(layers, |layer| layer.macs)),
        bytes(total(layers, |layer| layer.activation_bytes)),
    ]);
    let mut out = view.stdout();
    table.write(&mut out)?;
    let input = &spec.input;
    writeln!(
        out,
        "\ninput {}×{}×{}, {} classes",
        input.height, input.width, input.channels, spec.classes
    )?;
    Ok(Status::Done)
}

fn total(layers: &[LayerCost], value: impl Fn(&LayerCost) -> u64) -> u64 {
    layers.iter().map(value).sum()
}
