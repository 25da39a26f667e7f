//! A temporary folder in which commands are typed, and what they answer.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Every command: each has help with examples and a chapter of the reference.
pub(crate) const COMMANDS: [&str; 12] = [
    "train",
    "eval",
    "classify",
    "info",
    "bench",
    "quantize",
    "data",
    "data check",
    "data stats",
    "data preview",
    "data pack",
    "data download",
];

/// A folder of its own for one test.
pub(crate) struct Session {
    folder: tempfile::TempDir,
}

/// What a command did.
pub(crate) struct Answer {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Session {
    pub(crate) fn new() -> Session {
        Session {
            folder: tempfile::tempdir().expect("the system has a folder for temporary files"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in the folder")).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command `resnet` in the folder, without what the caller's environment would change.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resnet"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder())
            .env("RESNET_CACHE", self.folder().join("cache"))
            .env_remove("RESNET_ISA")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("NO_COLOR")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    /// Types `resnet LINE` and waits.
    pub(crate) fn run(&self, line: &str) -> Answer {
        self.answer(self.command(line).output().expect("the binary was built"))
    }

    /// Reads a finished command, with the folder's path taken out.
    pub(crate) fn answer(&self, output: Output) -> Answer {
        let clean = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("output is text");
            text.replace(&*self.folder().to_string_lossy(), "FOLDER")
        };
        Answer {
            status: output.status.code(),
            stdout: clean(output.stdout),
            stderr: clean(output.stderr),
        }
    }
}

impl Answer {
    /// The whole answer as text, for snapshots.
    pub(crate) fn transcript(&self) -> String {
        let mut text = match self.status {
            Some(status) => format!("exit status: {status}\n"),
            None => "killed by a signal\n".to_owned(),
        };
        for (name, part) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !part.is_empty() {
                writeln!(text, "--- {name}\n{}", part.trim_end()).expect("a string takes all");
            }
        }
        text
    }
}
