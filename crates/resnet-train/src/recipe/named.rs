//! The recipes that come with the program, by name.

use std::path::Path;

use super::{RecipeError, RecipeText};

const EMBEDDED: [(&str, &str); 6] = [
    ("generated", include_str!("../../../../recipes/generated.toml")),
    ("pictures", include_str!("../../../../recipes/pictures.toml")),
    ("cifar-fast", include_str!("../../../../recipes/cifar-fast.toml")),
    ("cifar-paper", include_str!("../../../../recipes/cifar-paper.toml")),
    ("imagenet-paper", include_str!("../../../../recipes/imagenet-paper.toml")),
    ("imagenet-torchvision", include_str!("../../../../recipes/imagenet-torchvision.toml")),
];

/// Names of all embedded recipes.
pub const NAMES: [&str; EMBEDDED.len()] = {
    let mut names = [""; EMBEDDED.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = EMBEDDED[i].0;
        i += 1;
    }
    names
};

/// An embedded recipe.
pub fn named(name: &str) -> Option<RecipeText> {
    let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
    Some(RecipeText { origin: (*name).into(), text: (*text).into() })
}

/// The recipe that `--recipe` means: an embedded one by its name, else a file.
///
/// # Errors
/// When there is neither, or the file cannot be read.
pub fn load(name: &str) -> Result<RecipeText, RecipeError> {
    if let Some(text) = named(name) {
        return Ok(text);
    }
    let path = Path::new(name);
    if !path.exists() {
        let scored = NAMES.map(|known| (strsim::jaro_winkler(name, known), known));
        let best = scored.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        // The usual threshold of this measure for "the same word, misspelt".
        let suggestion = best.filter(|(score, _)| 0.8 < *score).map(|(_, known)| known.into());
        let known = NAMES.join(", ");
        return Err(RecipeError::UnknownRecipe { name: name.into(), known, suggestion });
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| RecipeError::Io { path: path.into(), source })?;
    Ok(RecipeText { origin: name.into(), text })
}
