//! Events as plain lines, for `log.txt` and for terminals that are none.

use std::fmt;

use super::{End, Ending, Epoch, Evaluation, Event, Start, Step};

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
        let Start { steps_per_epoch, steps, seed, lr, .. } = self;
        writeln!(f, "weights: {weights}")?;
        writeln!(
            f,
            "model: {model}, {params} parameters, {classes} classes; computing with {isa}"
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { step, epoch, loss, top1, lr, images_per_second, wait_fraction, .. } = self;
        write!(
            f,
            "step {step} (epoch {epoch}): loss {loss:.4}, top-1 {:.1} %, lr {lr:.5}, \
             {images_per_second:.0} images/s, {:.0} % waiting for data",
            100.0 * top1,
            100.0 * wait_fraction
        )
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch { epoch, train_loss, train_top1, images_per_second, seconds, .. } = self;
        write!(f, "epoch {epoch}: train loss {train_loss:.4}, top-1 {:.2} %", 100.0 * train_top1)?;
        if let (Some(loss), Some(top1)) = (self.val_loss, self.val_top1) {
            write!(f, "; val loss {loss:.4}, top-1 {:.2} %", 100.0 * top1)?;
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
        let Evaluation { step, val_loss, val_top1, .. } = self;
        write!(f, "step {step}: val loss {val_loss:.4}, top-1 {:.2} %", 100.0 * val_top1)
    }
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
        if let (Some(last), Some(best)) = (self.final_top1, self.best_top1) {
            write!(f, "; top-1 {:.2} %, best {:.2} %", 100.0 * last, 100.0 * best)?;
        }
        Ok(())
    }
}

/// `1 epoch`, `2 epochs`.
fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}
