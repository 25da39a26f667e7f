//! What can be wrong with a recipe; each error names the file or flag, and the key.

use std::io;
use std::path::PathBuf;

use resnet_io::system_hint;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The system could not read the file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a file nor a named recipe.
    #[error("no recipe \"{name}\": neither a file nor one of {known}{}", did_you_mean(suggestion))]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// The named ones.
        known: String,
        /// The nearest of them.
        suggestion: Option<String>,
    },
    /// The text is no TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// File and line, or flag.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key \"{key}\"{}", did_you_mean(suggestion))]
    UnknownKey {
        /// File and line, or flag.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The nearest that exists, dotted.
        suggestion: Option<String>,
    },
    /// A value of the wrong type, or none of the allowed words.
    #[error("{origin}: {key}: {message}")]
    BadValue {
        /// File and line, or flag.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What was found and expected.
        message: String,
    },
    /// An assignment without `=`.
    #[error("--set {text}: expected key=value")]
    NotAnAssignment {
        /// What was given.
        text: String,
    },
    /// A number that cannot be.
    #[error("{key} is {found}, expected {expected}")]
    OutOfRange {
        /// The key, dotted.
        key: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A key of the schedule that its kind does not read.
    #[error("schedule.{key} has no effect on a schedule of kind \"{kind}\"")]
    Unused {
        /// The key, without its table.
        key: String,
        /// The kind.
        kind: &'static str,
    },
    /// Both a name and a specification.
    #[error("model.name and model.spec: only one of them can say what the network is")]
    NameAndSpec,
    /// Two ways to hold pictures back.
    #[error("data.val_fraction and data.fold: only one of them can say what is held back")]
    FractionAndFold,
    /// A file of a later format.
    #[error("recipe version {found}, expected at most {newest}")]
    Version {
        /// The file's.
        found: u32,
        /// The newest that this program reads.
        newest: u32,
    },
}

impl RecipeError {
    /// What the user can do about it, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            RecipeError::UnknownKey { .. } | RecipeError::BadValue { .. } => {
                "docs/recipes.md lists every key with its type and meaning".into()
            }
            RecipeError::NotAnAssignment { .. } => "for example --set optimizer.lr=0.05".into(),
            RecipeError::Unused { key, .. } => {
                format!("remove {key}, or choose a kind that reads it")
            }
            RecipeError::Version { .. } => "a newer version of this program wrote it".into(),
            RecipeError::Io { source, .. } => system_hint(source),
            RecipeError::UnknownRecipe { .. } => {
                "a recipe of your own is a TOML file, named by its path".into()
            }
            RecipeError::Syntax { .. } => {
                "a recipe is TOML: `key = value` lines below a [table]".into()
            }
            RecipeError::OutOfRange { .. } => {
                "docs/recipes.md lists every key with its type and meaning".into()
            }
            RecipeError::NameAndSpec | RecipeError::FractionAndFold => "remove one of them".into(),
        })
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}
