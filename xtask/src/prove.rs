//! Long proofs: claims that take a quiet machine and some minutes, and so are no tests.

mod index;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

pub use self::index::index;

/// Threads whose runs must end in the same bits.
const THREADS: [usize; 4] = [1, 2, 3, 7];
/// Steps of those runs.
const STEPS: &str = "30";
/// Channels of the network that nobody planned for, and of its neighbours, which fill vectors.
const ODD: [i64; 3] = [24, 40, 100];
const NEIGHBOURS: [[i64; 3]; 2] = [[16, 32, 96], [32, 48, 112]];
/// Share of the neighbours' share of peak that the odd network reaches, at least.
const ODD_SHARE: f64 = 0.85;
/// Rounds of alternating measurements.
const ROUNDS: usize = 9;

/// Parameters after some steps are the same bits on any number of threads; prints the times too.
///
/// # Errors
/// When they are not, or a run fails.
pub fn threads(root: &Path) -> anyhow::Result<()> {
    let binary = build(root)?;
    let folder = scratch(root, "threads")?;
    let mut first: Option<String> = None;
    for threads in THREADS {
        let run = folder.join(threads.to_string());
        let threads = threads.to_string();
        let arguments = ["train", "--model", "resnet20", "--batch-size", "128", "--max-steps"];
        let output = Command::new(&binary)
            .args(arguments)
            .args([STEPS, "--threads", &threads, "--json", "--run"])
            .arg(&run)
            .output()?;
        let end = last_object(&output)?;
        let seconds = end["seconds"].as_f64().context("the end has its seconds")?;
        let sum = checksum(&run.join("checkpoints/last.safetensors"))?;
        println!("{threads} threads: {seconds:.2} s, tensors {sum}");
        let expected = first.get_or_insert_with(|| sum.clone());
        ensure!(*expected == sum, "{threads} threads end in other bits than {}", THREADS[0]);
    }
    println!("the same bits on all");
    Ok(())
}

/// A network of 24, 40 and 100 channels reaches a share of peak near that of its neighbours.
///
/// # Errors
/// When it does not, or a measurement fails.
pub fn channels(root: &Path) -> anyhow::Result<()> {
    let binary = build(root)?;
    let folder = scratch(root, "channels")?;
    let mut networks = Vec::new();
    for channels in [ODD, NEIGHBOURS[0], NEIGHBOURS[1]] {
        networks.push((channels, network(&binary, &folder, channels)?));
    }
    let mut failed = Vec::new();
    for mode in ["infer", "train"] {
        let mut shares = vec![Vec::new(); networks.len()];
        for _ in 0..ROUNDS {
            for ((_, file), shares) in networks.iter().zip(&mut shares) {
                let arguments = ["bench", "--batch-size", "32", "--seconds", "1", "--json"];
                let output = Command::new(&binary)
                    .args(arguments)
                    .args(["--mode", mode, "--model"])
                    .arg(file)
                    .output()?;
                let share = last_object(&output)?["peak_fraction"].as_f64();
                shares.push(share.context("a bench has its share of peak")?);
            }
        }
        let medians: Vec<f64> = shares.iter_mut().map(|shares| median(shares)).collect();
        for ((channels, _), median) in networks.iter().zip(&medians) {
            println!("{mode}: {channels:?} channels reach {:.1} % of the peak", 100.0 * median);
        }
        let near = medians[0] / (medians[1..].iter().sum::<f64>() / (medians.len() - 1) as f64);
        println!("{mode}: {near:.2} of the neighbours' mean");
        if near < ODD_SHARE {
            failed.push(mode);
        }
    }
    ensure!(failed.is_empty(), "less than {ODD_SHARE} of the neighbours' mean: {failed:?}");
    Ok(())
}

/// resnet18 for pictures of 64 pixels with three stages of such channels, as a file.
fn network(binary: &Path, folder: &Path, channels: [i64; 3]) -> anyhow::Result<PathBuf> {
    let arguments = ["info", "resnet18", "--stem", "small", "--size", "64", "--toml"];
    let output = Command::new(binary).args(arguments).output()?;
    let mut spec: toml::Table = toml::from_str(std::str::from_utf8(&output.stdout)?)?;
    let name = format!("{}-{}-{}", channels[0], channels[1], channels[2]);
    spec.insert("name".into(), name.clone().into());
    let stem = spec.get_mut("stem").and_then(toml::Value::as_table_mut).context("a stem")?;
    stem.insert("channels".into(), channels[0].into());
    let stages = spec.get_mut("stages").and_then(toml::Value::as_array_mut).context("stages")?;
    stages.truncate(channels.len());
    for (stage, channels) in stages.iter_mut().zip(channels) {
        stage.as_table_mut().context("a stage")?.insert("channels".into(), channels.into());
    }
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, toml::to_string(&spec)?)?;
    Ok(file)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The command line in release.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--release", "--package", "resnet-cli"];
    let status = Command::new(cargo).args(arguments).current_dir(root).status()?;
    ensure!(status.success(), "cargo build failed");
    Ok(root.join("target/release/resnet"))
}

/// An empty folder for a proof's files.
fn scratch(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = root.join("target/prove").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The last JSON line that a successful command printed.
fn last_object(output: &std::process::Output) -> anyhow::Result<Value> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = std::str::from_utf8(&output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().context("it printed nothing")?)?)
}

/// What a model file says its tensors' bytes add up to.
fn checksum(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let length = bytes.first_chunk::<8>().context("a safetensors file has a header")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let header: Value = serde_json::from_slice(bytes.get(8..8 + length).context("a header")?)?;
    let sum = header["__metadata__"]["resnet.checksum"].as_str().context("a checksum")?;
    Ok(sum.trim_matches('"').to_owned())
}
