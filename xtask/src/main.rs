//! `cargo xtask COMMAND`: the project's habits.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use xtask::{oracle, prove, tidy};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy    check the tree against the rules of the house (also run as a test)
  oracle [--python FILE] [--data FOLDER] [SCRIPT ...]
          regenerate the fixtures from PyTorch (docs/parity.md says more)
  prove threads    the same bits after 30 steps on 1, 2, 3 and 7 threads, and their times
  prove channels   a network of 24, 40 and 100 channels runs as near the peak as its neighbours
  prove index      a folder of a million files opens in 10 s at first and in 2 s again
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["tidy"] => run_tidy(),
        ["oracle", ref rest @ ..] => run_oracle(rest),
        ["prove", "threads"] => prove::threads(workspace_root()).map(|()| ExitCode::SUCCESS),
        ["prove", "channels"] => prove::channels(workspace_root()).map(|()| ExitCode::SUCCESS),
        ["prove", "index"] => prove::index(workspace_root()).map(|()| ExitCode::SUCCESS),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_tidy() -> anyhow::Result<ExitCode> {
    let report = tidy::check(&tidy::Tree::read(workspace_root())?);
    print!("{report}");
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_oracle(words: &[&str]) -> anyhow::Result<ExitCode> {
    oracle::run(workspace_root(), &oracle::Options::parse(words)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of the workspace: the one above this crate.
fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root")
}
