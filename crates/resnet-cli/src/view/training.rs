//! A run as it goes on: a bar on a terminal, plain lines without one, events as JSON.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use resnet::train::event::{Event, Start, Step};

use super::View;

/// How often a plain line tells of single steps.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Draws a run's events.
pub(crate) struct TrainingView<'a> {
    view: &'a View,
    kind: Kind,
    /// A reader that went away, or another fault of stdout: told at the end, since training goes on.
    fault: Option<io::Error>,
}

enum Kind {
    Json,
    Terminal { bar: Option<ProgressBar>, epochs: u64 },
    Plain { told: Instant },
}

impl<'a> TrainingView<'a> {
    /// As the flags and the terminal ask.
    pub(crate) fn new(view: &'a View) -> TrainingView<'a> {
        let kind = if view.json() {
            Kind::Json
        } else if io::stderr().is_terminal() && !view.quiet() {
            Kind::Terminal { bar: None, epochs: 0 }
        } else {
            Kind::Plain { told: Instant::now() }
        };
        TrainingView { view, kind, fault: None }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        let result = match &mut self.kind {
            Kind::Json => json(self.view, event),
            Kind::Terminal { bar, epochs } => terminal(self.view, bar, epochs, event),
            Kind::Plain { told } => plain(self.view, told, event),
        };
        if let Err(error) = result {
            self.fault.get_or_insert(error);
        }
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// The first fault of stdout.
    pub(crate) fn finish(self) -> io::Result<()> {
        if let Kind::Terminal { bar: Some(bar), .. } = self.kind {
            bar.finish_and_clear();
        }
        self.fault.map_or(Ok(()), Err)
    }
}

fn json(view: &View, event: &Event) -> io::Result<()> {
    match event.to_json() {
        Some(value) => writeln!(view.stdout(), "{value}"),
        None => Ok(()),
    }
}

/// The end of a run is its result; all else is talk.
fn plain(view: &View, told: &mut Instant, event: &Event) -> io::Result<()> {
    match event {
        Event::End(_) => return writeln!(view.stdout(), "{event}"),
        Event::Step(_) if told.elapsed() < PLAIN_INTERVAL => {}
        Event::Evaluating { .. } | Event::Checkpoint { .. } => {}
        Event::Start(_)
        | Event::Notice(_)
        | Event::Step(_)
        | Event::Epoch(_)
        | Event::Evaluation(_) => {
            *told = Instant::now();
            view.note(&event.to_string());
        }
    }
    Ok(())
}

fn terminal(
    view: &View,
    bar: &mut Option<ProgressBar>,
    epochs: &mut u64,
    event: &Event,
) -> io::Result<()> {
    match event {
        Event::Start(start) => {
            view.note(&event.to_string());
            *epochs = start.epochs;
            *bar = Some(new_bar(start));
        }
        Event::Step(step) => {
            if let Some(bar) = bar {
                bar.set_position(step.step);
                bar.set_message(message(step, *epochs));
            }
        }
        Event::Evaluating { images, total } => {
            if let Some(bar) = bar {
                bar.set_message(format!("evaluating {images} of {total}"));
            }
        }
        Event::Checkpoint { .. } => {}
        Event::Notice(_) | Event::Epoch(_) | Event::Evaluation(_) => {
            above(bar, || view.note(&event.to_string()));
        }
        Event::End(_) => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
            return writeln!(view.stdout(), "{event}");
        }
    }
    Ok(())
}

/// Prints above the bar.
fn above(bar: &Option<ProgressBar>, print: impl FnOnce()) {
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

fn new_bar(start: &Start) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} eta {eta}")
        .expect("the template is a constant")
        .progress_chars("━╸ ");
    let bar = ProgressBar::new(start.steps).with_style(style);
    bar.set_position(start.resumed_step);
    bar.reset_eta();
    bar
}

fn message(step: &Step, epochs: u64) -> String {
    let Step { epoch, loss, lr, images_per_second, wait_fraction, .. } = step;
    let quality = step.quality().map(|(name, value)| format!("{name} {:.1} % ", 100.0 * value));
    let (quality, waiting) = (quality.unwrap_or_default(), 100.0 * wait_fraction);
    format!(
        "epoch {epoch}/{epochs} loss {loss:.3} {quality}lr {lr:.4} \
         {images_per_second:.0} images/s, {waiting:.0} % waiting"
    )
}
