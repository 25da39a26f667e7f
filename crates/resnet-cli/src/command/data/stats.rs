//! `resnet data stats`: sizes, channels and classes of a set, as text, JSON or a page with pictures.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use resnet::io::decode::decode;
use resnet::io::resize::{Filter, resize, shorter_side};
use resnet::io::source::{Encoded, Source};
use resnet::io::survey::{self, Part, Side, Statistics};
use resnet::io::{DataError, encode};
use resnet::train::TrainError;
use serde::Serialize;

use super::Place;
use crate::Outcome;
use crate::failure::{Failure, Status};
use crate::view::{View, bytes, count};

const EXAMPLES: &str = "\
Examples:
  resnet data stats --data flowers
  resnet data stats --data flowers --html flowers.html
  resnet data stats --data cifar-10-batches-bin --json
Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Pictures of each class on the page.
const SHOWN: usize = 6;
/// Pixels of their shorter side.
const SHOWN_SIDE: usize = 72;
/// The most classes that the page shows pictures of.
const SHOWN_CLASSES: usize = 200;

/// Measure sizes, channels and classes
///
/// Mean and std are over all pixels of all pictures of a part, as `data.mean` and `data.std` of a
/// recipe want them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Also write a page with pictures and histograms, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Class {
    name: String,
    images: usize,
}

/// What is told of a part.
#[derive(Debug, Serialize)]
struct PartReport {
    part: &'static str,
    images: u64,
    broken: u64,
    bytes: u64,
    /// Lowest, middle, highest.
    width: [usize; 3],
    height: [usize; 3],
    mean: [f64; 3],
    std: [f64; 3],
    classes: Vec<Class>,
    /// Pictures without any class, where they may have any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_class: Option<usize>,
    /// Pixels with each value, of red, green and blue.
    histogram: Vec<Vec<u64>>,
}

pub(super) fn run(options: &Options, view: &View) -> Outcome {
    let set = options.place.open()?;
    set.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let mut parts = survey::parts(&set);
    parts.retain(|(part, _)| *part != Part::Unused);
    let bar = super::progress(view, parts.iter().map(|(_, source)| source.len()).sum());
    let threads = options.place.threads();
    let report = |&(part, source): &(Part, &dyn Source)| {
        let statistics = Statistics::of(source, threads, &|| bar.inc(1));
        report(part, source, &statistics)
    };
    let reports: Vec<PartReport> = parts.iter().map(report).collect();
    bar.finish_and_clear();
    let mut out = view.stdout();
    for report in &reports {
        if view.json() {
            let text = serde_json::to_string(report).expect("a report is plain data");
            writeln!(out, "{text}")?;
        } else {
            print(&mut out, report)?;
        }
    }
    if let Some(path) = &options.html {
        let shown: Vec<Vec<Shown>> = parts.iter().map(|(_, source)| shown(*source)).collect();
        write_page(path, &options.place.data, &reports, &shown)?;
        view.note(&format!("page: {}", path.display()));
    }
    Ok(Status::Done)
}

fn report(part: Part, source: &dyn Source, statistics: &Statistics) -> PartReport {
    let mut images = vec![0; source.classes().len()];
    let mut without_class = 0;
    for index in 0..source.len() {
        let labels = source.labels(index);
        labels.as_slice().iter().for_each(|&label| images[label as usize] += 1);
        without_class += usize::from(labels.as_slice().is_empty());
    }
    let class = |(name, images): (&String, usize)| Class { name: name.clone(), images };
    let (mean, std) = statistics.mean_and_std();
    PartReport {
        part: part.name(),
        images: statistics.images,
        broken: statistics.broken,
        bytes: statistics.bytes,
        width: statistics.extent(Side::Columns),
        height: statistics.extent(Side::Rows),
        mean,
        std,
        classes: source.classes().iter().zip(images).map(class).collect(),
        without_class: source.is_multi_label().then_some(without_class),
        histogram: statistics.histogram.iter().map(|counts| counts.to_vec()).collect(),
    }
}

fn print(out: &mut impl Write, report: &PartReport) -> std::io::Result<()> {
    let PartReport { part, images, broken, width, height, mean, std, classes, .. } = report;
    let (images, size) = (count(*images), bytes(report.bytes));
    writeln!(out, "{part}: {images} images of {} classes, {size}, {broken} broken", classes.len())?;
    let range = |[low, middle, high]: &[usize; 3]| format!("{low} to {high}, median {middle}");
    writeln!(out, "  columns {}; rows {}", range(width), range(height))?;
    let three = |[r, g, b]: &[f64; 3]| format!("{r:.4},{g:.4},{b:.4}");
    writeln!(out, "  mean {}; std {}", three(mean), three(std))?;
    for Class { name, images } in classes {
        writeln!(out, "  {:>9} {name}", count(*images as u64))?;
    }
    if let Some(without) = report.without_class {
        let named: usize = classes.iter().map(|class| class.images).sum();
        let each = named as f64 / source_images(report).max(1) as f64;
        writeln!(out, "  {each:.2} classes a picture; {} without one", count(without as u64))?;
    }
    Ok(())
}

/// Pictures of a part, broken ones included.
fn source_images(report: &PartReport) -> u64 {
    report.images + report.broken
}

/// Pictures of a class, as addresses that hold their bytes.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    pictures: Vec<String>,
}

/// The first pictures of each class that can be read.
fn shown(source: &dyn Source) -> Vec<Shown> {
    let name = |name: &String| Shown { name: name.clone(), pictures: Vec::new() };
    let mut classes: Vec<Shown> = source.classes().iter().take(SHOWN_CLASSES).map(name).collect();
    for index in 0..source.len() {
        for &label in source.labels(index).as_slice() {
            let Some(class) = classes.get_mut(label as usize) else { continue };
            if class.pictures.len() < SHOWN
                && let Ok(png) = thumbnail(source, index)
            {
                let text = BASE64_STANDARD.encode(png);
                class.pictures.push(format!("data:image/png;base64,{text}"));
            }
        }
    }
    classes
}

fn thumbnail(source: &dyn Source, index: usize) -> Result<Vec<u8>, DataError> {
    let decoded;
    let encoded = source.read(index)?;
    let picture = match &encoded {
        Encoded::Pixels(picture) => *picture,
        Encoded::File(bytes) => {
            decoded = decode(&source.name(index), bytes)?;
            decoded.view()
        }
    };
    let side = SHOWN_SIDE.min(picture.width.min(picture.height));
    let (width, height) = shorter_side(picture.width, picture.height, side);
    encode::png(resize(picture, width, height, Filter::Bilinear).view())
}

/// A curve through the counts, in a box of 256x100 with its origin at the top.
fn curve(counts: &[u64], highest: u64) -> String {
    let point = |(value, &count): (usize, &u64)| {
        format!("{value},{:.1}", 100.0 - 98.0 * count as f64 / highest.max(1) as f64)
    };
    counts.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

fn write_page(
    path: &Path,
    data: &str,
    reports: &[PartReport],
    shown: &[Vec<Shown>],
) -> Result<(), Failure> {
    let parts: Vec<_> = reports
        .iter()
        .zip(shown)
        .map(|(report, shown)| {
            // The ends hold clipped pixels and would flatten the rest.
            let inner = report.histogram.iter().flat_map(|counts| &counts[1..255]).copied();
            let highest = inner.max().unwrap_or(1);
            let curves: Vec<_> = report.histogram.iter().map(|c| curve(c, highest)).collect();
            let most = report.classes.iter().map(|class| class.images).max().unwrap_or(1).max(1);
            let (size, report) = (bytes(report.bytes), Serde(report));
            context! { report, shown => Serde(shown), curves, most, size }
        })
        .collect();
    let mut pages = Environment::new();
    let page = pages
        .add_template("stats.html", include_str!("stats.html"))
        .and_then(|()| pages.get_template("stats.html"))
        .and_then(|template| template.render(context! { data, parts }));
    let page = page.map_err(|error| Failure::new(error, None))?;
    std::fs::write(path, page).map_err(|source| TrainError::Io { path: path.into(), source }.into())
}
