//! Readers of texts: recipes and networks in TOML; a network that is accepted can be counted.
#![no_main]

use resnet_core::spec::NetworkSpec;
use resnet_train::recipe::{RecipeText, resolve};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let file = RecipeText { origin: "fuzz".into(), text: text.into() };
    if let Ok(recipe) = resolve(Some(&file), &[]) {
        let written = RecipeText { origin: "again".into(), text: recipe.to_toml() };
        assert_eq!(resolve(Some(&written), &[]).expect("what was written can be read"), recipe);
    }
    if let Ok(spec) = toml::from_str::<NetworkSpec>(text) {
        let _ = spec.validate();
    }
});
