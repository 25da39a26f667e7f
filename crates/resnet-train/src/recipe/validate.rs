//! Which numbers a recipe may hold.

use std::ops::RangeInclusive;

use super::{LossKind, Recipe, RecipeError, ScheduleKind, VERSION};

const POSITIVE: &str = "above 0";
const NOT_NEGATIVE: &str = "0 or more";
const BELOW_ONE: &str = "from 0 to below 1";
const COUNTED: &str = "1 or more";
/// Rows or columns of a picture.
const SIDES: RangeInclusive<usize> = 1..=16_384;
const SIDES_TEXT: &str = "1 to 16384";

impl Recipe {
    /// Checks every number.
    ///
    /// # Errors
    /// [`RecipeError::OutOfRange`] with the first key that cannot be.
    pub fn validate(&self) -> Result<(), RecipeError> {
        if self.version == 0 || VERSION < self.version {
            return Err(RecipeError::Version { found: self.version, newest: VERSION });
        }
        self.validate_data()?;
        self.validate_augment()?;
        self.validate_optimizer()?;
        self.validate_schedule()?;
        self.validate_lengths()
    }

    fn validate_data(&self) -> Result<(), RecipeError> {
        let (model, data) = (&self.model, &self.data);
        below_one("model.dropout", model.dropout.unwrap_or(0.0))?;
        below_one("model.stochastic_depth", model.stochastic_depth.unwrap_or(0.0))?;
        if model.name.is_some() && model.spec.is_some() {
            return Err(RecipeError::NameAndSpec);
        }
        let fraction = data.val_fraction.unwrap_or(0.5);
        check("data.val_fraction", fraction, 0.0 < fraction && fraction < 1.0, "inside 0 and 1")?;
        if data.val_fraction.is_some() && data.fold.is_some() {
            return Err(RecipeError::FractionAndFold);
        }
        let channels = model.in_channels.unwrap_or(3);
        let expected = "3 (red, green, blue) or 1 (greyscale)";
        check("model.in_channels", channels as f64, [1, 3].contains(&channels), expected)?;
        for (key, values) in [("data.mean", &data.mean), ("data.std", &data.std)] {
            // Three numbers stand for one channel, but not the other way round.
            let fits = values.len() == 3 || (values.len() == 1 && model.in_channels == Some(1));
            if !fits {
                let found = format!("{} numbers", values.len());
                return Err(out_of_range(key, found, "one for each channel"));
            }
        }
        data.mean.iter().try_for_each(|&v| check("data.mean", v, v.is_finite(), "numbers"))?;
        data.std.iter().try_for_each(|&v| positive("data.std", v))?;
        let workers = data.workers;
        check("data.workers", workers as f64, (1..=256).contains(&workers), "1 to 256")?;
        let sizes = [
            ("eval.resize", self.eval.resize),
            ("eval.crop", self.eval.crop),
            ("augment.size", self.augment.size),
        ];
        for (key, size) in sizes {
            let size = size.unwrap_or(1);
            check(key, size as f64, SIDES.contains(&size), SIDES_TEXT)?;
        }
        Ok(())
    }

    fn validate_augment(&self) -> Result<(), RecipeError> {
        let augment = &self.augment;
        for step in &augment.steps {
            if let Some(expected) = step.fault() {
                let found = toml::Value::try_from(step).map(|step| step.to_string());
                let found = found.unwrap_or_else(|_| format!("{step:?}"));
                return Err(out_of_range("augment.steps", found, expected));
            }
        }
        for &size in &augment.progressive {
            check("augment.progressive", size as f64, SIDES.contains(&size), SIDES_TEXT)?;
        }
        if let (Some(size), [_, ..]) = (augment.size, &augment.progressive[..]) {
            return Err(out_of_range("augment.size", size, "none beside augment.progressive"));
        }
        let repeats = augment.repeats;
        check("augment.repeats", repeats as f64, (1..=16).contains(&repeats), "1 to 16")?;
        not_negative("augment.mixup", augment.mixup)?;
        not_negative("augment.cutmix", augment.cutmix)?;
        let switch = augment.mix_switch;
        check("augment.mix_switch", switch, (0.0..=1.0).contains(&switch), "0 to 1")
    }

    fn validate_optimizer(&self) -> Result<(), RecipeError> {
        let optimizer = &self.optimizer;
        positive("optimizer.lr", optimizer.lr)?;
        below_one("optimizer.momentum", optimizer.momentum)?;
        not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
        not_negative("optimizer.clip_norm", optimizer.clip_norm)?;
        if optimizer.nesterov && optimizer.momentum == 0.0 {
            return Err(out_of_range("optimizer.momentum", 0.0, "above 0 with nesterov"));
        }
        self.validate_loss()
    }

    fn validate_loss(&self) -> Result<(), RecipeError> {
        let loss = &self.loss;
        below_one("loss.label_smoothing", loss.label_smoothing)?;
        positive("loss.pos_weight", loss.pos_weight)?;
        let threshold = loss.target_threshold.unwrap_or(0.0);
        below_one("loss.target_threshold", threshold)?;
        if loss.kind != Some(LossKind::Softmax) {
            return Ok(());
        }
        if loss.target_threshold.is_some() {
            return Err(out_of_range("loss.target_threshold", threshold, "none with softmax"));
        }
        check("loss.pos_weight", loss.pos_weight, loss.pos_weight == 1.0, "1 with softmax")
    }

    fn validate_schedule(&self) -> Result<(), RecipeError> {
        let schedule = &self.schedule;
        check("schedule.every", schedule.every as f64, 0 < schedule.every, COUNTED)?;
        let milestones = &schedule.milestones;
        if schedule.kind == ScheduleKind::MultiStep && milestones.is_empty() {
            return Err(out_of_range("schedule.milestones", "empty", "at least one number"));
        }
        positive("schedule.gamma", schedule.gamma)?;
        not_negative("schedule.min_lr", schedule.min_lr)?;
        let factor = schedule.warmup_factor;
        let holds = 0.0 < factor && factor <= 1.0;
        check("schedule.warmup_factor", factor, holds, "above 0 and at most 1")?;
        let fraction = schedule.warmup_fraction;
        check("schedule.warmup_fraction", fraction, (0.0..=1.0).contains(&fraction), "0 to 1")?;
        positive("schedule.div", schedule.div)?;
        positive("schedule.final_div", schedule.final_div)?;
        below_one("schedule.base_momentum", schedule.base_momentum)?;
        below_one("schedule.max_momentum", schedule.max_momentum)
    }

    fn validate_lengths(&self) -> Result<(), RecipeError> {
        let (train, eval) = (&self.train, &self.eval);
        // An epoch is a 32-bit counter of the random streams.
        let epochs = train.epochs;
        check("train.epochs", epochs as f64, (1..=1_000_000).contains(&epochs), "1 to 1000000")?;
        let batch_size = train.batch_size;
        let expected = "2 to 65536: batch norm cannot train on one picture";
        check("train.batch_size", batch_size as f64, (2..=65_536).contains(&batch_size), expected)?;
        not_negative("train.max_seconds", train.max_seconds)?;
        check("train.log_every", train.log_every as f64, 0 < train.log_every, COUNTED)?;
        not_negative("checkpoint.every_seconds", self.checkpoint.every_seconds)?;
        check("eval.every_epochs", eval.every_epochs as f64, 0 < eval.every_epochs, COUNTED)?;
        let batch_size = eval.batch_size;
        check("eval.batch_size", batch_size as f64, batch_size <= 65_536, "0 to 65536")
    }
}

fn out_of_range(key: &'static str, found: impl ToString, expected: &'static str) -> RecipeError {
    RecipeError::OutOfRange { key, found: found.to_string(), expected }
}

fn check(
    key: &'static str,
    found: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), RecipeError> {
    if holds { Ok(()) } else { Err(out_of_range(key, found, expected)) }
}

fn positive(key: &'static str, found: f64) -> Result<(), RecipeError> {
    check(key, found, 0.0 < found && found.is_finite(), POSITIVE)
}

fn not_negative(key: &'static str, found: f64) -> Result<(), RecipeError> {
    check(key, found, 0.0 <= found && found.is_finite(), NOT_NEGATIVE)
}

fn below_one(key: &'static str, found: f64) -> Result<(), RecipeError> {
    check(key, found, (0.0..1.0).contains(&found), BELOW_ONE)
}
