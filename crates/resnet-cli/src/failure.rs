//! How a command ends when it does not succeed: one line that says what and where, one that says
//! what to do, and the exit status.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Error;
use clap::error::ErrorKind;
use resnet::bench::BenchError;
use resnet::io::system_hint;
use resnet::is_wrong_usage;
use resnet::train::TrainError;

/// How a command ended, as its exit status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It did what was asked.
    Done = 0,
    /// It could not.
    Failed = 1,
    /// It was asked for something that makes no sense.
    WrongUsage = 2,
    /// It was asked to stop, and did so in good order.
    Interrupted = 130,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    error: Error,
    hint: Option<String>,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn new(error: impl Into<Error>, hint: Option<String>) -> Failure {
        Failure { status: Status::Failed, error: error.into(), hint }
    }

    /// What was asked makes no sense.
    pub(crate) fn usage(message: impl fmt::Display, hint: impl Into<String>) -> Failure {
        let error = anyhow::anyhow!("{message}");
        Failure { status: Status::WrongUsage, error, hint: Some(hint.into()) }
    }

    /// Adds where it happened.
    pub(crate) fn context(self, place: impl fmt::Display + Send + Sync + 'static) -> Failure {
        Failure { error: self.error.context(place), ..self }
    }

    /// Prints it, and says how the process ends.
    pub(crate) fn report(&self) -> ExitCode {
        if self.is_closed_pipe() {
            return Status::Done.into();
        }
        print_error(&self.line(), self.hint.as_deref());
        self.status.into()
    }

    /// The whole chain of causes in one line. Many errors quote their cause already.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        for cause in self.error.chain() {
            let cause = cause.to_string();
            if !line.contains(&cause) {
                let between = if line.is_empty() { "" } else { ": " };
                line = format!("{line}{between}{cause}");
            }
        }
        line
    }

    /// A reader that has read enough (`| head`) is no failure.
    fn is_closed_pipe(&self) -> bool {
        self.error
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Only stdout is written to without naming a file.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(error, None);
        }
        let hint = system_hint(&error);
        Failure::new(Error::new(error).context("writing to stdout"), Some(hint))
    }
}

/// The library says which of its errors are about how a command was called.
impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        let status = if is_wrong_usage(&error) { Status::WrongUsage } else { Status::Failed };
        let hint = error.hint();
        Failure { status, error: error.into(), hint }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        Failure::new(error, None)
    }
}

/// Prints clap's complaint in our two lines, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Status::WrongUsage.into();
    }
    if !error.use_stderr() {
        // Help and version go to stdout; a reader that went away has seen enough.
        let _ = error.print();
        return Status::Done.into();
    }
    let text = error.to_string();
    let message: Vec<&str> =
        text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let hint = tip.map_or_else(|| "`--help` after the command explains it".into(), str::to_owned);
    print_error(message.trim_start_matches("error: "), Some(&hint));
    Status::WrongUsage.into()
}

fn print_error(message: &str, hint: Option<&str>) {
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let cyan = anstyle::AnsiColor::Cyan.on_default().bold();
    let mut stderr = anstream::stderr().lock();
    // With stderr closed there is nowhere left to complain; the exit status still tells.
    let _ = writeln!(stderr, "{red}error:{red:#} {}", message.replace('\n', " "));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "{cyan}hint:{cyan:#} {hint}");
    }
}
