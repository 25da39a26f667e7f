//! Layers of a recipe: a file and assignments, each checked on its own, then merged.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Table as Toml, Value};

use super::{Recipe, RecipeError, ScheduleKind, TABLES, Table, Unit};
use crate::suggest;

/// The text of a recipe file and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeText {
    /// What to call it in messages: its path, or the name of an embedded recipe.
    pub origin: String,
    /// TOML.
    pub text: String,
}

/// A change to one key: `--set`, or a flag that stands for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The dotted key.
    pub key: String,
    /// The new value; none takes the key back to its default.
    pub value: Option<Value>,
    /// What to call it in messages: the flag as the user wrote it.
    pub origin: String,
}

impl Assignment {
    /// An assignment by a flag of its own.
    pub fn new(key: &str, value: impl Into<Value>, origin: impl Into<String>) -> Assignment {
        Assignment { key: key.into(), value: Some(value.into()), origin: origin.into() }
    }

    /// Reads `key=value`. The value is TOML; what is not is taken as a text, so that
    /// `schedule.kind=cosine` needs no quotes. An empty value takes the key back to its default.
    ///
    /// # Errors
    /// [`RecipeError::NotAnAssignment`] without `=`.
    pub fn parse(text: &str) -> Result<Assignment, RecipeError> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(RecipeError::NotAnAssignment { text: text.into() });
        };
        let value = value.trim();
        let as_toml = || {
            let mut table: Toml = toml::from_str(&format!("value = {value}")).ok()?;
            let value = table.remove("value")?;
            table.is_empty().then_some(value)
        };
        let parsed = as_toml().unwrap_or_else(|| Value::String(value.into()));
        Ok(Assignment {
            key: key.trim().into(),
            value: (!value.is_empty()).then_some(parsed),
            origin: format!("--set {text}"),
        })
    }
}

/// The recipe of a file, or of the defaults, changed by assignments in their order.
///
/// Another kind of schedule takes along only those keys of the file's schedule that it reads.
///
/// # Errors
/// Unknown keys, values of the wrong type and numbers out of range, each with file and key.
pub fn resolve(
    file: Option<&RecipeText>,
    assignments: &[Assignment],
) -> Result<Recipe, RecipeError> {
    let mut merged = match file {
        Some(file) => parse_file(file)?,
        None => Toml::new(),
    };
    let is_kind = |assignment: &&Assignment| assignment.key == "schedule.kind";
    let (kinds, others): (Vec<_>, Vec<_>) = assignments.iter().partition(is_kind);
    for assignment in &kinds {
        assign(&mut merged, assignment)?;
        drop_unread_schedule_keys(&mut merged);
    }
    for assignment in others {
        assign(&mut merged, assignment)?;
    }
    let recipe = typed(merged.clone()).map_err(|e| RecipeError::Syntax {
        origin: "recipe".into(),
        message: e.message().into(),
    })?;
    recipe.validate()?;
    if let Some(key) = unread_schedule_keys(&merged, &recipe).first() {
        return Err(RecipeError::Unused { key: key.clone(), kind: kind_name(&recipe) });
    }
    Ok(recipe)
}

impl Recipe {
    /// The recipe as a file: every key that has a value and an effect.
    pub fn to_toml(&self) -> String {
        let mut table = Toml::try_from(self).expect("numbers, texts and tables always serialise");
        let unread = unread_schedule_keys(&table, self);
        remove_from_schedule(&mut table, &unread);
        toml::to_string(&table).expect("a table always serialises")
    }
}

fn typed(table: Toml) -> Result<Recipe, toml::de::Error> {
    Value::Table(table).try_into()
}

/// Parses a file and checks its keys and types.
fn parse_file(file: &RecipeText) -> Result<Toml, RecipeError> {
    let at = |span: Option<Range<usize>>| {
        let before = &file.text[..span.map_or(0, |span| span.start).min(file.text.len())];
        format!("{}:{}", file.origin, before.matches('\n').count() + 1)
    };
    let syntax = |e: toml::de::Error| {
        let (origin, message) = (at(e.span()), one_line(e.message()));
        RecipeError::Syntax { origin, message }
    };
    let spanned = DeTable::parse(&file.text).map_err(syntax)?;
    if let Some((key, span)) = unknown_key(spanned.get_ref()) {
        let suggestion = nearest_key(&key);
        return Err(RecipeError::UnknownKey { origin: at(Some(span)), key, suggestion });
    }
    toml::from_str::<Recipe>(&file.text).map_err(|e| {
        let key = e.span().and_then(|span| key_around(spanned.get_ref(), span.start));
        let (origin, message) = (at(e.span()), one_line(e.message()));
        match key {
            Some(key) => RecipeError::BadValue { origin, key, message },
            None => RecipeError::Syntax { origin, message },
        }
    })?;
    toml::from_str(&file.text).map_err(syntax)
}

/// The parser's message without its line breaks, and the word that may have been meant.
fn one_line(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let suggestion = suggest::in_message(&message);
    message + &suggestion
}

/// The first key that no table has, with its place in the text.
fn unknown_key(root: &DeTable<'_>) -> Option<(String, Range<usize>)> {
    for (name, value) in root {
        let table = TABLES.iter().find(|table| table.name == name.get_ref());
        let Some(table) = table else {
            if name.get_ref() == "version" {
                continue;
            }
            return Some((name.get_ref().to_string(), name.span()));
        };
        let DeValue::Table(keys) = value.get_ref() else { continue };
        let unknown = keys.keys().find(|key| table.keys.iter().all(|k| k.name != key.get_ref()));
        if let Some(key) = unknown {
            return Some((format!("{}.{}", table.name, key.get_ref()), key.span()));
        }
    }
    None
}

/// The dotted key whose value stands at a place of the text.
fn key_around(root: &DeTable<'_>, place: usize) -> Option<String> {
    for (name, value) in root {
        if let DeValue::Table(keys) = value.get_ref()
            && let Some((key, _)) = keys.iter().find(|(_, v)| v.span().contains(&place))
        {
            return Some(format!("{}.{}", name.get_ref(), key.get_ref()));
        }
        if value.span().contains(&place) && !matches!(value.get_ref(), DeValue::Table(_)) {
            return Some(name.get_ref().to_string());
        }
    }
    None
}

/// Sets one key, after checking that it exists and takes this value.
fn assign(merged: &mut Toml, assignment: &Assignment) -> Result<(), RecipeError> {
    let Assignment { key, value, origin } = assignment;
    let parts = key.split_once('.').filter(|(table, key)| {
        let table = TABLES.iter().find(|t| t.name == *table);
        table.is_some_and(|table| table.keys.iter().any(|k| k.name == *key))
    });
    let Some((table, name)) = parts else {
        let (origin, suggestion) = (origin.clone(), nearest_key(key));
        return Err(RecipeError::UnknownKey { origin, key: key.clone(), suggestion });
    };
    if let Some(value) = value {
        let alone = Toml::from_iter([(name.to_string(), value.clone())]);
        let alone = Toml::from_iter([(table.to_string(), Value::Table(alone))]);
        typed(alone).map_err(|e| RecipeError::BadValue {
            origin: origin.clone(),
            key: key.clone(),
            message: one_line(e.message()),
        })?;
    }
    let entry = merged.entry(table).or_insert_with(|| Value::Table(Toml::new()));
    let Value::Table(entry) = entry else { unreachable!("each layer was parsed as a recipe") };
    match value {
        Some(value) => entry.insert(name.into(), value.clone()),
        None => entry.remove(name),
    };
    Ok(())
}

/// The known key most like an unknown one, if one is like it at all: first of its own table.
fn nearest_key(unknown: &str) -> Option<String> {
    // Half of the letters in place: less is another word.
    const LEAST: f64 = 0.5;
    let (table, name) = unknown.split_once('.').unwrap_or(("", unknown));
    let best = |candidates: &mut dyn Iterator<Item = (&'static str, String)>| {
        let scored =
            candidates.map(|(last, key)| (strsim::normalized_damerau_levenshtein(name, last), key));
        let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
        best.filter(|(score, key)| LEAST <= *score && key != unknown).map(|(_, key)| key)
    };
    let keys = |table: &'static Table| {
        table.keys.iter().map(move |key| (key.name, format!("{}.{}", table.name, key.name)))
    };
    let own = TABLES.iter().filter(|known| known.name == table).flat_map(keys);
    let tables = TABLES.iter().map(|table| (table.name, table.name.to_string()));
    best(&mut own.into_iter()).or_else(|| best(&mut tables.chain(TABLES.iter().flat_map(keys))))
}

/// Removes what the schedule's kind does not read, after the kind has changed.
fn drop_unread_schedule_keys(merged: &mut Toml) {
    let Ok(recipe) = typed(merged.clone()) else { return };
    let unread = unread_schedule_keys(merged, &recipe);
    remove_from_schedule(merged, &unread);
}

fn remove_from_schedule(recipe: &mut Toml, keys: &[String]) {
    if let Some(Value::Table(schedule)) = recipe.get_mut("schedule") {
        schedule.retain(|key, _| keys.iter().all(|removed| removed != key));
    }
}

/// The keys given for the schedule that its kind does not read.
fn unread_schedule_keys(given: &Toml, recipe: &Recipe) -> Vec<String> {
    let Some(Value::Table(schedule)) = given.get("schedule") else { return Vec::new() };
    let read: &[&str] = match recipe.schedule.kind {
        ScheduleKind::Constant => &["warmup"],
        ScheduleKind::Step => &["every", "gamma", "warmup"],
        ScheduleKind::MultiStep => &["milestones", "gamma", "warmup"],
        ScheduleKind::Cosine => &["min_lr", "warmup"],
        ScheduleKind::OneCycle => {
            &["warmup_fraction", "div", "final_div", "anneal", "cycle_momentum"]
        }
    };
    let is_read = |key: &str| match key {
        "kind" => true,
        "unit" => {
            recipe.schedule.kind != ScheduleKind::OneCycle || recipe.schedule.unit == Unit::Step
        }
        "warmup_kind" | "warmup_factor" => read.contains(&"warmup"),
        "base_momentum" | "max_momentum" => {
            read.contains(&"cycle_momentum") && recipe.schedule.cycle_momentum
        }
        other => read.contains(&other),
    };
    schedule.keys().filter(|key| !is_read(key)).cloned().collect()
}

fn kind_name(recipe: &Recipe) -> &'static str {
    match recipe.schedule.kind {
        ScheduleKind::Constant => "constant",
        ScheduleKind::Step => "step",
        ScheduleKind::MultiStep => "multi-step",
        ScheduleKind::Cosine => "cosine",
        ScheduleKind::OneCycle => "one-cycle",
    }
}
