//! The command line of `resnet`: arguments in, results to stdout, everything else to stderr.
#![forbid(unsafe_code)]

mod arguments;
mod command;
mod failure;
mod signals;
mod view;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::{Failure, Status};
use view::View;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let view = View::new(&arguments.talk);
    match run(&arguments.command, &view) {
        Ok(status) => status.into(),
        Err(failure) => failure.report(),
    }
}

fn run(command: &Command, view: &View) -> Outcome {
    let stop = signals::watch()?;
    match command {
        Command::Train(options) => command::train::run(options, view, &stop),
        Command::Eval(options) => command::eval::run(options, view, &stop),
        Command::Classify(options) => command::classify::run(options, view),
        Command::Info(options) => command::info::run(options, view),
        Command::Data(options) => command::data::run(options, view),
        Command::Bench(options) => command::bench::run(options, view),
        Command::Quantize(options) => command::quantize::run(options, view, &stop),
    }
}

/// What a command returns.
type Outcome = Result<Status, Failure>;
