//! The training loop: epochs of steps, an evaluation after each, checkpoints that a kill cannot hurt.
//!
//! All that a step depends on is the state of the executor and the step's number: order and
//! augmentation are functions of (seed, epoch, sample), the learning rate of the step. Sums over the
//! begun epoch are kept to the bit. So a resumed run goes on as if nothing had been.
//! [`crate::checkpoint`] says in which order things are written.

mod broken;
mod report;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use resnet_core::executor::Executor;
use resnet_core::step::Targets;
use resnet_io::loader::{Batch, Batches};
use resnet_io::weights::{ModelMeta, atomic};

use self::broken::{Part, Told};
use self::report::Reporter;
use crate::checkpoint::{self, Best, Bits, Progress};
use crate::engine::{BatchTargets, Engine};
use crate::error::TrainError;
use crate::evaluate::{Evaluation, evaluate};
use crate::event::{self, End, Ending, Event, Validation};
use crate::recipe::LossKind;
use crate::run_folder::RunFolder;
use crate::schedule::{Hyper, Position, hyper};
use crate::score::{Score, Sums};
use crate::setup::Setup;

/// What a caller hands to [`train`] beside the run itself.
pub struct Control<'a> {
    /// Becomes true when someone asks to stop: the run saves and ends after the step.
    pub stop: &'a AtomicBool,
    /// Is told what happens.
    pub on_event: &'a mut dyn FnMut(&Event),
    /// Is called at the moments in which a kill would hurt most; tests end the process there.
    pub on_moment: Option<&'a dyn Fn(Moment)>,
    /// The instruction set that the executor computes with, for the checkpoint's notes.
    pub isa: String,
}

/// A moment between two things that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Gradients are there, parameters are not yet changed.
    MidStep,
    /// Parameters are changed, nothing says so yet.
    BeforeMetrics,
    /// A batch of an evaluation is done.
    DuringEvaluation,
    /// The epoch's line is written, the checkpoint is not.
    BeforeCheckpoint,
    /// `best` is replaced, `last` is not.
    BetweenBestAndLast,
    /// The checkpoint is committed, nothing else has been written.
    AfterCheckpoint,
}

/// Trains until the run is finished, reaches a limit or is asked to stop.
///
/// Goes on from the folder's last checkpoint if there is one.
///
/// # Errors
/// The first thing that cannot be: data, executor, disk, a loss that is not finite. The last good
/// checkpoint stays.
pub fn train<'a>(
    setup: &'a Setup,
    run: &'a RunFolder,
    executor: Box<dyn Executor>,
    control: Control<'a>,
) -> Result<End, TrainError> {
    Trainer::begin(setup, run, executor, control)?.run()
}

struct Trainer<'a> {
    setup: &'a Setup,
    run: &'a RunFolder,
    engine: Engine,
    meta: ModelMeta,
    progress: Progress,
    report: Reporter<'a>,
    told: Told,
    stop: &'a AtomicBool,
    on_moment: Option<&'a dyn Fn(Moment)>,
    /// When this process began to train.
    started: Instant,
    /// Seconds of training before that.
    seconds_before: f64,
    last_save: Instant,
}

/// The clocks of one epoch, or of what is left of it.
struct Pace {
    began: Instant,
    images: u64,
    /// Waiting for pictures.
    waited_seconds: f64,
    /// Steps alone, without evaluation.
    train_seconds: f64,
}

impl<'a> Trainer<'a> {
    fn begin(
        setup: &'a Setup,
        run: &'a RunFolder,
        executor: Box<dyn Executor>,
        control: Control<'a>,
    ) -> Result<Trainer<'a>, TrainError> {
        let batch_size = setup.recipe.train.batch_size;
        let states = setup.first_states()?;
        let mut engine = Engine::for_training(executor, setup.plan(), batch_size, states)?;
        let mut notices = setup.notices.clone();
        let mut progress = Progress {
            train_images: setup.train.source().len(),
            isa: control.isa.clone(),
            ..Progress::default()
        };
        if run.checkpoints().last.exists() {
            progress = start::restore(setup, run, &mut engine, &control.isa, &mut notices)?;
        }
        let report = Reporter::open(run, progress.metrics_bytes, control.on_event)?;
        let mut trainer = Trainer {
            setup,
            run,
            engine,
            meta: setup.meta(),
            seconds_before: progress.seconds,
            progress,
            report,
            told: Told::default(),
            stop: control.stop,
            on_moment: control.on_moment,
            started: Instant::now(),
            last_save: Instant::now(),
        };
        trainer.report_start(notices)?;
        Ok(trainer)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.setup.train.steps_per_epoch() as u64
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn moment(&self, moment: Moment) {
        if let Some(on_moment) = self.on_moment {
            on_moment(moment);
        }
    }

    fn run(mut self) -> Result<End, TrainError> {
        let epochs = self.setup.recipe.train.epochs;
        if epochs <= self.progress.epoch {
            return self.end(Ending::AlreadyFinished);
        }
        while self.progress.epoch < epochs {
            if let Some(ending) = self.epoch()? {
                return self.stop_early(ending);
            }
        }
        self.end(Ending::Finished)
    }

    /// What is left of an epoch, its evaluation and its checkpoint. An ending if it came to none.
    fn epoch(&mut self) -> Result<Option<Ending>, TrainError> {
        let steps = self.steps_per_epoch();
        let done = self.progress.step - self.progress.epoch * steps;
        let mut pace = Pace::start();
        // Epochs are at most a million, steps of one fit the counter of its loader.
        let epoch = self.progress.epoch as u32;
        self.engine.set_train_size(self.setup.train.size(epoch));
        let mut batches = self.setup.train.epoch(epoch, done as usize);
        for _ in done..steps {
            if let Some(ending) = self.asked_to_stop() {
                return Ok(Some(ending));
            }
            let Some(batch) = batches.next_batch()? else { break };
            pace.waited_seconds = batches.waited().as_secs_f64();
            self.step(&batch, &mut pace)?;
            batches.recycle(batch);
            self.save_if_due()?;
        }
        pace.finish(&batches);
        drop(batches);
        self.finish_epoch(&pace)
    }

    fn asked_to_stop(&self) -> Option<Ending> {
        let limits = &self.setup.recipe.train;
        if self.stop.load(Ordering::Relaxed) {
            Some(Ending::Interrupted)
        } else if 0 < limits.max_steps && limits.max_steps <= self.progress.step {
            Some(Ending::MaxSteps)
        } else if 0.0 < limits.max_seconds
            && limits.max_seconds <= self.started.elapsed().as_secs_f64()
        {
            Some(Ending::MaxTime)
        } else {
            None
        }
    }

    fn hyper(&self) -> Hyper {
        let recipe = &self.setup.recipe;
        let at = Position {
            step: self.progress.step,
            steps_per_epoch: self.steps_per_epoch(),
            epochs: recipe.train.epochs,
        };
        let base = Hyper { lr: recipe.learning_rate(), momentum: recipe.optimizer.momentum };
        hyper(&recipe.schedule, base, at)
    }

    fn step(&mut self, batch: &Batch, pace: &mut Pace) -> Result<(), TrainError> {
        self.told.tell(&mut self.report, Part::Train, &batch.broken)?;
        self.progress.replaced += batch.broken.len() as u64;
        let hyper = self.hyper();
        let targets = match self.engine.plan().targets {
            Targets::Classes => BatchTargets::Classes(&batch.labels),
            Targets::Dense => BatchTargets::Dense(&batch.targets),
        };
        let forward = self.engine.gradients(&batch.pixels, targets, self.progress.step)?;
        if !forward.loss.is_finite() {
            return Err(self.not_finite("loss".into(), self.progress.step + 1, hyper.lr));
        }
        self.moment(Moment::MidStep);
        let grad_norm = self.engine.update(hyper)?;
        self.moment(Moment::BeforeMetrics);
        let loss = f64::from(forward.loss);
        let mut sums = Sums::default();
        match self.setup.multi_label {
            true => {
                let images = batch.len() as u64;
                sums.add_decisions(&forward.logits, &batch.targets, images, loss);
            }
            false => sums.add_batch(&forward.logits, &batch.labels, loss),
        }
        let (top1, f1_micro) = self.quality(&sums);
        self.progress.sums.merge(sums);
        self.progress.step += 1;
        pace.images += batch.len() as u64;
        if self.progress.step == 1 {
            self.check_first_loss(loss)?;
        }
        let event = Event::Step(event::Step {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            loss,
            top1,
            f1_micro,
            lr: hyper.lr,
            grad_norm: grad_norm.map(f64::from).filter(|norm| norm.is_finite()),
            seconds: self.seconds(),
            images_per_second: pace.images as f64 / pace.began.elapsed().as_secs_f64(),
            wait_fraction: pace.waited_seconds / pace.began.elapsed().as_secs_f64(),
        });
        if self.progress.step.is_multiple_of(self.setup.recipe.train.log_every) {
            self.report.measure(&event)?;
        }
        self.report.show(&event);
        Ok(())
    }

    /// Top-1, or F1 of all decisions together: what sums over training pictures can tell.
    fn quality(&self, sums: &Sums) -> (Option<f64>, Option<f64>) {
        match self.setup.multi_label {
            true => (None, Some(sums.decisions.f1())),
            false => (Some(sums.mean(sums.top1 as f64)), None),
        }
    }

    /// A fresh network knows nothing: its loss is near the logarithm of the number of classes, or of two
    /// where each class is by itself. Far from it, pixels or labels are probably not what they should be.
    fn check_first_loss(&mut self, loss: f64) -> Result<(), TrainError> {
        // Fresh networks of all families lie between 0.9 and 1.6 times the logarithm.
        const FAR: f64 = 2.5;
        let (expected, name) = match self.setup.recipe.loss.kind {
            None | Some(LossKind::Softmax) => {
                ((self.setup.classes.len() as f64).ln(), "ln(classes)")
            }
            Some(LossKind::Bce) if self.setup.recipe.loss.pos_weight == 1.0 => {
                (std::f64::consts::LN_2, "ln(2)")
            }
            // It depends on how many labels there are.
            Some(LossKind::Bce) => return Ok(()),
        };
        if self.setup.given.is_none() && !(expected / FAR..=expected * FAR).contains(&loss) {
            let text = format!(
                "the first loss is {loss:.3}, a fresh network's should be near {name} = \
                 {expected:.3}: look at the pictures' mean and std, and at the labels"
            );
            self.report.note(Event::Notice(text))?;
        }
        Ok(())
    }

    fn not_finite(&self, what: String, step: u64, lr: f64) -> TrainError {
        let (epoch, checkpoint) = (self.progress.epoch + 1, self.run.checkpoints().last.exists());
        TrainError::NotFinite { what, step, epoch, lr, checkpoint }
    }

    fn save_if_due(&mut self) -> Result<(), TrainError> {
        let due = &self.setup.recipe.checkpoint;
        let by_steps = 0 < due.every_steps && self.progress.step.is_multiple_of(due.every_steps);
        let by_time =
            0.0 < due.every_seconds && due.every_seconds <= self.last_save.elapsed().as_secs_f64();
        if by_steps || by_time { self.save(Files::Last) } else { Ok(()) }
    }

    fn finish_epoch(&mut self, pace: &Pace) -> Result<Option<Ending>, TrainError> {
        let (epoch, eval) = (self.progress.epoch + 1, &self.setup.recipe.eval);
        let is_due =
            epoch.is_multiple_of(eval.every_epochs) || epoch == self.setup.recipe.train.epochs;
        let mut score = None;
        if is_due && self.setup.val.is_some() {
            score = self.evaluate()?;
            if score.is_none() {
                return Ok(Some(Ending::Interrupted));
            }
        }
        let is_best = score.is_some_and(|score| is_better(&score, self.progress.best.as_ref()));
        let sums = std::mem::take(&mut self.progress.sums);
        let (train_top1, train_f1_micro) = self.quality(&sums);
        let event = Event::Epoch(event::Epoch {
            epoch,
            step: self.progress.step,
            // Every epoch has a step, and every step a picture.
            train_loss: sums.mean(sums.loss.0),
            train_top1,
            train_f1_micro,
            val: score.as_ref().map(Validation::new).unwrap_or_default(),
            replaced: std::mem::take(&mut self.progress.replaced),
            skipped: score.map(|score| score.skipped),
            best: is_best,
            images_per_second: pace.images as f64 / pace.train_seconds,
            wait_fraction: pace.waited_seconds / pace.train_seconds,
            seconds: pace.began.elapsed().as_secs_f64(),
        });
        self.report.measure(&event)?;
        self.report.note(event)?;
        self.progress.epoch = epoch;
        if let Some(score) = score {
            let (goal, loss) = (Bits(score.quality.goal()), Bits(score.loss));
            self.progress.final_goal = Some(goal);
            if is_best {
                self.progress.best = Some(Best { epoch, goal, loss });
            }
        }
        self.save(if is_best { Files::BestAndLast } else { Files::Last })?;
        self.keep_epoch(epoch)?;
        Ok(None)
    }

    /// Evaluates all validation pictures; none if asked to stop meanwhile.
    fn evaluate(&mut self) -> Result<Option<Score>, TrainError> {
        let Some(val) = &self.setup.val else { return Ok(None) };
        let total = val.source().len() as u64;
        let (report, on_moment) = (&mut self.report, self.on_moment);
        let same: Vec<u32> = (0..).take(self.setup.classes.len()).collect();
        let found = evaluate(&mut self.engine, val, &same, self.stop, &mut |images| {
            report.show(&Event::Evaluating { images, total });
            if let Some(on_moment) = on_moment {
                on_moment(Moment::DuringEvaluation);
            }
        })?;
        let Some(Evaluation { score, broken, .. }) = found else { return Ok(None) };
        self.told.tell(&mut self.report, Part::Val, &broken)?;
        if !score.loss.is_finite() {
            let lr = self.hyper().lr;
            return Err(self.not_finite("evaluation's loss".into(), self.progress.step, lr));
        }
        Ok(Some(score))
    }

    /// Writes a checkpoint, in the order that [`crate::checkpoint`] proves safe.
    fn save(&mut self, files: Files) -> Result<(), TrainError> {
        // The last good checkpoint must not be replaced by a bad one.
        if let Some(name) = self.engine.not_finite()? {
            return Err(self.not_finite(name, self.progress.step, self.hyper().lr));
        }
        self.moment(Moment::BeforeCheckpoint);
        self.progress.epoch_step =
            self.progress.step - self.progress.epoch * self.steps_per_epoch();
        self.progress.finished = self.setup.recipe.train.epochs <= self.progress.epoch;
        self.progress.metrics_bytes = self.report.sync()?;
        self.progress.seconds = self.seconds();
        let paths = self.run.checkpoints();
        if files == Files::BestAndLast {
            checkpoint::save(&paths.best, &self.meta, &self.progress, self.engine.executor())?;
        }
        self.moment(Moment::BetweenBestAndLast);
        checkpoint::save(&paths.last, &self.meta, &self.progress, self.engine.executor())?;
        self.moment(Moment::AfterCheckpoint);
        self.last_save = Instant::now();
        self.report.show(&Event::Checkpoint { path: paths.last, step: self.progress.step });
        Ok(())
    }

    /// Keeps a copy of the last epochs' checkpoints, where the recipe wants it.
    fn keep_epoch(&self, epoch: u64) -> Result<(), TrainError> {
        let keep = self.setup.recipe.checkpoint.keep as u64;
        if keep == 0 {
            return Ok(());
        }
        let copy = self.run.epoch(epoch);
        atomic::copy(&self.run.checkpoints().last, &copy).map_err(crate::error::io_error(copy))?;
        let old = self.run.epoch(epoch.saturating_sub(keep));
        match std::fs::remove_file(&old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(crate::error::io_error(old)(e))
            }
            _ => Ok(()),
        }
    }

    /// Saves, then evaluates where it stands. The checkpoint does not know of that evaluation: a run
    /// that goes on writes the same metrics as one that never stopped.
    fn stop_early(mut self, ending: Ending) -> Result<End, TrainError> {
        self.save(Files::Last)?;
        let is_evaluated = self.progress.epoch_step == 0 && self.progress.final_goal.is_some();
        if ending != Ending::Interrupted && !is_evaluated {
            let began = Instant::now();
            if let Some(score) = self.evaluate()? {
                let seconds = began.elapsed().as_secs_f64();
                let (step, val) = (self.progress.step, Validation::new(&score));
                let event = Event::Evaluation(event::Evaluation { step, val, seconds });
                self.report.measure(&event)?;
                self.report.note(event)?;
                self.progress.final_goal = Some(Bits(score.quality.goal()));
            }
        }
        self.end(ending)
    }

    fn end(mut self, ending: Ending) -> Result<End, TrainError> {
        let Progress { best, final_goal, step, epoch, .. } = self.progress;
        let last = final_goal.map(|goal| goal.0);
        let best = best.map(|best| best.goal.0).or(last);
        let (run, seconds) = (self.run.path().into(), self.seconds());
        let ((best_top1, final_top1), (best_map, final_map)) = match self.setup.multi_label {
            true => ((None, None), (best, last)),
            false => ((best, last), (None, None)),
        };
        let end =
            End { ending, best_top1, final_top1, best_map, final_map, run, step, epoch, seconds };
        self.report.note(Event::End(end.clone()))?;
        Ok(end)
    }
}

/// Which files a save replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Last,
    BestAndLast,
}

impl Pace {
    fn start() -> Pace {
        Pace { began: Instant::now(), images: 0, waited_seconds: 0.0, train_seconds: 0.0 }
    }

    fn finish(&mut self, batches: &Batches) {
        self.waited_seconds = batches.waited().as_secs_f64();
        // Never zero: the fractions are numbers even where nothing was left to do.
        self.train_seconds = self.began.elapsed().as_secs_f64().max(1e-9);
    }
}

/// A higher top-1 or mAP, or an equal one and a lower loss.
fn is_better(score: &Score, best: Option<&Best>) -> bool {
    best.is_none_or(|best| {
        let goal = score.quality.goal();
        best.goal.0 < goal || (best.goal.0 == goal && score.loss < best.loss.0)
    })
}
