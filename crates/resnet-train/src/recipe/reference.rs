//! `docs/recipes.md`, made from the declarations of the tables.

use std::fmt::Write;

use toml::{Table as Toml, Value};

use super::{Key, NAMES, Recipe, TABLES, Table};

const HEAD: &str = "\
<!-- Generated from crates/resnet-train/src/recipe/tables.rs: change it there; a test says how to update this file. -->
# Recipes

A recipe is a TOML file that holds everything a training run's result depends on.
`resnet train --recipe FILE` follows it, `--set table.key=value` changes one key (the value is TOML; a bare word is taken as text; an empty value takes the key back to its default), and every run writes the resolved recipe into its folder as `recipe.toml`.
An unknown key is an error, and so is a key that has no effect on the chosen schedule.
The format has a version, `version = 1`, on its first line.
";

/// The reference page of all keys.
pub fn markdown() -> String {
    let mut page = HEAD.to_string();
    let named = NAMES.map(|name| format!("`{name}`")).join(", ");
    let _ = writeln!(page, "These come with the program, for `--recipe NAME`: {named}.");
    let defaults = Toml::try_from(Recipe::default()).expect("the defaults always serialise");
    for table in &TABLES {
        let _ = writeln!(page, "\n## `[{}]`\n\n{}\n", table.name, joined(table.about));
        let _ = writeln!(page, "| key | type | default | meaning |\n| --- | --- | --- | --- |");
        for key in table.keys {
            let default = default_of(&defaults, table, key);
            let (name, ty, doc) = (key.name, type_name(key.ty), joined(key.doc));
            let _ = writeln!(page, "| `{name}` | {ty} | {default} | {doc} |");
        }
    }
    page
}

/// A documentation comment as one line of a table.
fn joined(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn default_of(defaults: &Toml, table: &Table, key: &Key) -> String {
    let value = defaults.get(table.name).and_then(Value::as_table).and_then(|t| t.get(key.name));
    value.map(|value| format!("`{value}`")).unwrap_or_default()
}

/// The words for a Rust type that a writer of TOML understands.
fn type_name(ty: &str) -> &'static str {
    match ty.strip_prefix("Option<").and_then(|ty| ty.strip_suffix('>')).unwrap_or(ty) {
        "bool" => "true or false",
        "f64" => "number",
        "u64" | "usize" => "whole number",
        "Vec<f64>" => "list of numbers",
        "Vec<u64>" | "Vec<usize>" => "list of whole numbers",
        "Vec<Step>" => "list of tables",
        "NetworkSpec" => "table",
        _ => "text",
    }
}
