//! Events as plain lines, for `log.txt` and for terminals that are none.

use std::fmt;

use super::{End, Ending, Epoch, Evaluation, Event, Start, Step, Validation};

/// Share of the time spent waiting from which on something should be done about it.
const WORTH_A_HINT: f64 = 0.1;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Start(start) => start.fmt(f),
            Event::Notice(text) => write!(f, "note: {text}"),
            Event::Step(step) => step.fmt(f),
            Event::Evaluating { images, total } => write!(f, "evaluating: {images} of {total}"),
            Event::Epoch(epoch) => epoch.fmt(f),
            Event::Evaluation(evaluation) => evaluation.fmt(f),
            Event::Checkpoint { path, step } => write!(f, "step {step}: saved {}", path.display()),
            Event::End(end) => end.fmt(f),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Start { weights, model, params, run, isa, .. } = self;
        let Start { train_images, val_images, classes, epochs, batch_size, .. } = self;
        let Start { steps_per_epoch, steps, seed, lr, memory_bytes, .. } = self;
        writeln!(f, "weights: {weights}")?;
        writeln!(
            f,
            "model: {model}, {params} parameters, {classes} classes; computing with {isa}, {} of memory",
            gigabytes(*memory_bytes)
        )?;
        writeln!(f, "data: {train_images} images to train on, {val_images} to evaluate")?;
        writeln!(
            f,
            "plan: {} of {} of {batch_size} images ({} in all), learning rate up to {lr}, seed {seed}",
            counted(*epochs, "epoch"),
            counted(*steps_per_epoch, "step"),
            counted(*steps, "step")
        )?;
        write!(f, "run: {}", run.display())?;
        match self.resumed_step {
            0 => Ok(()),
            step => write!(f, " (resumed after step {step})"),
        }
    }
}

/// An amount of memory as people know it from their machines.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { step, epoch, loss, lr, images_per_second, wait_fraction, .. } = self;
        write!(f, "step {step} (epoch {epoch}): loss {loss:.4}, ")?;
        if let Some((name, value)) = self.quality() {
            write!(f, "{name} {:.1} %, ", 100.0 * value)?;
        }
        write!(
            f,
            "lr {lr:.5}, {images_per_second:.0} images/s, {:.0} % waiting for data",
            100.0 * wait_fraction
        )
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch { epoch, train_loss, images_per_second, seconds, .. } = self;
        write!(f, "epoch {epoch}: train loss {train_loss:.4}")?;
        if let Some((name, value)) = quality(self.train_top1, self.train_f1_micro) {
            write!(f, ", {name} {:.2} %", 100.0 * value)?;
        }
        if self.val.loss.is_some() {
            write!(f, "; {}", self.val)?;
        }
        if self.best {
            write!(f, " (best)")?;
        }
        if 0 < self.replaced {
            write!(f, "; {} replaced", counted(self.replaced, "broken image"))?;
        }
        if let Some(skipped) = self.skipped.filter(|&skipped| 0 < skipped) {
            write!(f, "; {} left out", counted(skipped, "broken image"))?;
        }
        write!(
            f,
            "; {images_per_second:.0} images/s, {:.0} % waiting for data, {seconds:.1} s",
            100.0 * self.wait_fraction
        )?;
        if WORTH_A_HINT < self.wait_fraction {
            write!(
                f,
                " (hint: more data.workers, or smaller pictures: `resnet data pack --resize`)"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.val)
    }
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Validation { loss, top1, map, f1_micro, .. } = *self;
        if let Some(loss) = loss {
            write!(f, "val loss {loss:.4}")?;
        }
        for (name, value) in [("top-1", top1), ("mAP", map), ("F1", f1_micro)] {
            if let Some(value) = value {
                write!(f, ", {name} {:.2} %", 100.0 * value)?;
            }
        }
        Ok(())
    }
}

impl Step {
    /// How good the batch's predictions are, and what the number is called.
    pub fn quality(&self) -> Option<(&'static str, f64)> {
        quality(self.top1, self.f1_micro)
    }
}

/// Top-1, or F1 of all decisions together, with its name.
fn quality(top1: Option<f64>, f1_micro: Option<f64>) -> Option<(&'static str, f64)> {
    top1.map(|top1| ("top-1", top1)).or(f1_micro.map(|f1| ("F1", f1)))
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let End { step, epoch, seconds, .. } = self;
        let why = match self.ending {
            Ending::Finished => "finished",
            Ending::AlreadyFinished => "was finished already",
            Ending::MaxSteps => "stopped at the limit of steps",
            Ending::MaxTime => "stopped at the limit of time",
            Ending::Interrupted => "interrupted",
        };
        let (epochs, steps) = (counted(*epoch, "epoch"), counted(*step, "step"));
        write!(f, "{why} after {epochs}, {steps}, {seconds:.1} s")?;
        for (name, last, best) in
            [("top-1", self.final_top1, self.best_top1), ("mAP", self.final_map, self.best_map)]
        {
            if let (Some(last), Some(best)) = (last, best) {
                write!(f, "; {name} {:.2} %, best {:.2} %", 100.0 * last, 100.0 * best)?;
            }
        }
        Ok(())
    }
}

/// `1 epoch`, `2 epochs`.
fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}
