//! `resnet data preview`: a contact sheet of what the network really sees.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use resnet::io::loader::{Batch, LoaderSpec};
use resnet::io::sheet::contact_sheet;
use resnet::io::{Colour, Image, encode};
use resnet::train::TrainError;
use resnet::train::recipe::{self, Assignment};
use resnet::train::score::multi_label::is_there;
use resnet::train::setup::Setup;
use serde_json::json;

use crate::Outcome;
use crate::failure::{Failure, Status};
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  resnet data preview --data flowers --out sheet.png
  resnet data preview --data flowers --recipe imagenet-torchvision --epoch 3 --images 64
Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Draw what the network sees
///
/// Makes the first batches of an epoch as `train` would, with the recipe's augmentation, and draws
/// them on one PNG with their classes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// Pictures: `generated`, a folder (by class), an archive, CIFAR files
    #[arg(long, value_name = "ADDR", default_value = "generated", help_heading = "Data")]
    data: String,
    /// Share of the training pictures held back for validation
    #[arg(long, value_name = "F", help_heading = "Data")]
    val_fraction: Option<f64>,
    /// What to do: a name or a TOML file
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Recipe")]
    recipe: Option<String>,
    /// Change a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,
    /// The seed of order and augmentation
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    seed: Option<u32>,
    /// Pictures to draw
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    images: u32,
    /// Pictures beside each other
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    columns: u32,
    /// The epoch whose first pictures to draw, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    epoch: u32,
    /// The PNG to write
    #[arg(long, value_name = "FILE", default_value = "preview.png")]
    out: PathBuf,
}

pub(super) fn run(options: &Options, view: &View) -> Outcome {
    let text = options.recipe.as_deref().map(recipe::load).transpose().map_err(TrainError::from)?;
    let setup = resnet::set_up(text.as_ref(), &options.assignments()?)?;
    setup.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let epoch = options.epoch - 1;
    let mut queue = setup.train.epoch(epoch, 0);
    let (mut batches, mut count): (Vec<Batch>, usize) = (Vec::new(), 0);
    while count < options.images as usize
        && let Some(batch) = queue.next_batch().map_err(TrainError::from)?
    {
        count += batch.len();
        batches.push(batch);
    }
    drop(queue);
    let LoaderSpec { width, height, colour, .. } = *setup.train.at(epoch).spec();
    let picture = |pixels: &[u8]| Image {
        width,
        height,
        pixels: match colour {
            Colour::Rgb => pixels.to_vec(),
            Colour::Grey => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        },
    };
    let all = batches.iter().flat_map(|batch| (0..batch.len()).map(move |place| (batch, place)));
    let pictures: Vec<(Image, String)> = all
        .take(options.images as usize)
        .map(|(batch, place)| (picture(batch.picture(place)), caption(&setup, batch, place)))
        .collect();
    let shown: Vec<_> =
        pictures.iter().map(|(picture, classes)| (picture.view(), classes.as_str())).collect();
    let sheet = contact_sheet(&shown, options.columns as usize);
    let bytes = encode::png(sheet.view()).map_err(TrainError::from)?;
    let path = options.out.clone();
    std::fs::write(&path, bytes).map_err(|source| TrainError::Io { path, source })?;
    let (path, images) = (options.out.display().to_string(), pictures.len());
    let (columns, rows) = (sheet.width, sheet.height);
    if view.json() {
        let object = json!({"path": path, "images": images, "width": columns, "height": rows});
        writeln!(view.stdout(), "{object}")?;
    } else {
        writeln!(view.stdout(), "{path}: {images} pictures on {columns}x{rows} pixels")?;
    }
    Ok(Status::Done)
}

/// The class of a picture, or its classes; of a mixed one, what weighs more.
fn caption(setup: &Setup, batch: &Batch, place: usize) -> String {
    if !setup.multi_label {
        return setup.classes[batch.labels[place] as usize].clone();
    }
    let targets = batch.targets.chunks_exact(setup.classes.len()).nth(place).unwrap_or_default();
    let there = targets.iter().zip(&setup.classes).filter(|(target, _)| is_there(**target));
    there.map(|(_, class)| class.as_str()).collect::<Vec<_>>().join(" ")
}

impl Options {
    fn assignments(&self) -> Result<Vec<Assignment>, Failure> {
        let mut all = Vec::new();
        for text in &self.set {
            all.push(Assignment::parse(text).map_err(TrainError::from)?);
        }
        all.push(Assignment::new("data.source", self.data.clone(), "--data"));
        if let Some(fraction) = self.val_fraction {
            all.push(Assignment::new("data.val_fraction", fraction, "--val-fraction"));
        }
        if let Some(seed) = self.seed {
            let seed = toml::Value::Integer(seed.into());
            all.push(Assignment::new("train.seed", seed, "--seed"));
        }
        Ok(all)
    }
}
