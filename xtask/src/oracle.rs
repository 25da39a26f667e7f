//! `cargo xtask oracle`: regenerates the fixtures from PyTorch and Pillow in a private environment.
//!
//! The scripts under `xtask/oracle` compute what our tests compare with; the tests themselves read
//! the stored files and need no Python. `docs/parity.md` says what is compared and how closely.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// A script and the folder or file that it writes.
struct Script {
    name: &'static str,
    output: &'static str,
    data: Data,
}

/// Whether a script reads the folder of real data (`--data`), which is not part of the project.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    Unused,
    /// A file in it, compared with if it is there.
    Welcome(&'static str),
    /// The folder; without it the script is skipped.
    Needed,
}

const SCRIPTS: [Script; 13] = [
    script("ops", "fixtures", Data::Unused),
    script("training", "fixtures", Data::Unused),
    script("scores", "fixtures", Data::Unused),
    script("networks", "fixtures", Data::Unused),
    script("layout", "fixtures", Data::Welcome("torchvision-layout-reference.json")),
    script("curve", "fixtures", Data::Needed),
    script("pickles", "crates/resnet-io/tests/fixtures/weights", Data::Unused),
    script("names", "crates/resnet-io/tests/fixtures/weights/names.tsv", Data::Unused),
    script("pillow", "crates/resnet-io/tests/fixtures/resize.tsv", Data::Unused),
    script("mix", "crates/resnet-io/tests/fixtures/mix.tsv", Data::Unused),
    script("augment", "crates/resnet-io/tests/fixtures/augment.tsv", Data::Unused),
    script("pictures", "crates/resnet-io/tests/fixtures/pictures", Data::Unused),
    script("parquet", "crates/resnet-io/tests/fixtures/parquet", Data::Unused),
];

const fn script(name: &'static str, output: &'static str, data: Data) -> Script {
    Script { name, output, data }
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// An interpreter to use as it is, instead of making an environment.
    pub python: Option<PathBuf>,
    /// The folder of real data.
    pub data: Option<PathBuf>,
    /// Scripts to run; all if empty.
    pub only: Vec<String>,
}

impl Options {
    /// Reads `[--python FILE] [--data FOLDER] [SCRIPT ...]`.
    ///
    /// # Errors
    /// A flag without a value, an unknown flag or script.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--python" => options.python = Some(PathBuf::from(value()?)),
                "--data" => options.data = Some(PathBuf::from(value()?)),
                name if SCRIPTS.iter().any(|script| script.name == name) => {
                    options.only.push(name.into());
                }
                _ => {
                    let known = SCRIPTS.map(|script| script.name).join(", ");
                    bail!("unknown word \"{word}\", expected --python, --data or one of {known}");
                }
            }
        }
        Ok(options)
    }
}

/// Runs the scripts, each with the folder that it writes to.
///
/// # Errors
/// No Python, a failed installation, a script that fails.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let data = options.data.clone().unwrap_or_else(|| root.join("../shared/data"));
    let python = match &options.python {
        Some(python) => python.clone(),
        None => environment(root)?,
    };
    let wanted = |script: &&Script| {
        options.only.is_empty() || options.only.iter().any(|name| name == script.name)
    };
    for script in SCRIPTS.iter().filter(wanted) {
        let mut arguments = vec![root.join(script.output)];
        match script.data {
            Data::Unused => {}
            Data::Welcome(file) => arguments.extend(Some(data.join(file)).filter(|f| f.exists())),
            Data::Needed if data.is_dir() => arguments.push(data.clone()),
            Data::Needed => {
                eprintln!("skipped: {}.py needs {}", script.name, data.display());
                continue;
            }
        }
        let path = root.join("xtask/oracle").join(format!("{}.py", script.name));
        ensure!(path.exists(), "{} is missing", path.display());
        eprintln!("{}.py", script.name);
        // Another number of threads would change the order of PyTorch's sums.
        let mut command = Command::new(&python);
        command.arg(path).args(arguments).env("OMP_NUM_THREADS", "1");
        status(command.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    }
    Ok(())
}

/// The interpreter of a private environment under `target/`, with what `requirements.txt` pins.
/// A copy of that file marks a finished installation.
fn environment(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/oracle-python");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let (pinned, installed) =
        (root.join("xtask/oracle/requirements.txt"), folder.join("installed.txt"));
    let wanted = fs::read_to_string(&pinned).with_context(|| pinned.display().to_string())?;
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    eprintln!("installing PyTorch into {}", folder.display());
    status(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .context("a Python 3 with venv and pip is needed to regenerate fixtures")?;
    let pip = |arguments: &[&OsStr]| {
        status(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(arguments))
    };
    // The build without CUDA is thirty times smaller and computes the same on a CPU; not every
    // package index has it.
    let torch = wanted.lines().find(|line| line.starts_with("torch=="));
    let cpu_build = torch.map(|line| format!("{line}+cpu"));
    if cpu_build.is_none_or(|build| pip(&[OsStr::new(&build)]).is_err()) {
        eprintln!("no build without CUDA there: installing the default one");
    }
    pip(&[OsStr::new("--requirement"), pinned.as_os_str()])?;
    fs::write(&installed, wanted)?;
    Ok(python)
}

/// Stored fixtures that other versions of the scripts made, by the hash that each file carries.
///
/// # Errors
/// A file that cannot be read or says nothing about its making.
pub fn stale(root: &Path) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for folder in ["parity", "ops", "training"].map(|name| root.join("fixtures").join(name)) {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let fixture: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)
                .with_context(|| path.display().to_string())?;
            let made_by = &fixture["made_by"];
            let (script, recorded) = made_by["script"]
                .as_str()
                .zip(made_by["sources_sha256"].as_str())
                .with_context(|| format!("{}: no made_by", path.display()))?;
            if sources_sha256(root, script)? != recorded {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

/// As `made_by` in `fixture.py`: what all scripts share, then the script itself.
fn sources_sha256(root: &Path, script: &str) -> Result<String> {
    let shared = ["fixture", "hashing", "models"].map(|name| format!("xtask/oracle/{name}.py"));
    let mut digest = Sha256::new();
    for source in shared.iter().map(String::as_str).chain([script]) {
        digest.update(fs::read(root.join(source)).with_context(|| source.to_owned())?);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn status(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_scripts_are_read() {
        let options = Options::parse(&["--data", "d", "ops", "curve"]).unwrap();
        let only = vec!["ops".to_string(), "curve".to_string()];
        assert_eq!(options, Options { python: None, data: Some("d".into()), only });
    }

    #[test]
    fn an_unknown_script_is_refused_with_the_known_ones() {
        let error = Options::parse(&["op"]).unwrap_err().to_string();
        assert!(error.contains("\"op\"") && error.contains("ops, training"), "{error}");
    }
}
