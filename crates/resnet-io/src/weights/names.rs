//! Whose names a file uses, and what we call the same tensors: torchvision's names, everywhere.
//!
//! Three things stand between: dictionaries around the weights (`state_dict`, `model`), prefixes
//! that training wrappers leave (`module.`), and other projects' spellings. `SPELLINGS` is the
//! only place that knows the last.

use std::collections::HashMap;

use super::error::WeightsError;
use super::model_file;
use super::tensor_file::{Skipped, Tensor, TensorFile};

/// Keys under which checkpoints keep the weights, the most specific first. What is beside such a
/// key (optimiser state, averages) is set aside.
const WRAPPERS: [&str; 4] = ["state_dict.", "model_state_dict.", "model.", "net."];

/// Prefixes of every name that say how a network was trained or wrapped: `DataParallel`,
/// `torch.compile`, and Hugging Face's classifier around its backbone.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "resnet."];

/// A name of another project, and ours.
///
/// `{s}` stands for a number, `{s+1}` for one more than it, and `*` for the rest of the name.
type Rule = (&'static str, &'static str);

/// torchvision's names are ours, as are those of timm's resnet50d and seresnet50, and need no rule.
const SPELLINGS: [&[Rule]; 3] = [TIMM_RESNETV2, CIFAR, HUGGING_FACE];

/// timm's pre-activation networks: huggingface/pytorch-image-models `timm/models/resnetv2.py`.
const TIMM_RESNETV2: &[Rule] = &[
    ("stem.conv.*", "conv1.*"),
    ("stages.{s}.blocks.{b}.conv{k}.*", "layer{s+1}.{b}.conv{k}.*"),
    ("stages.{s}.blocks.{b}.norm{k}.*", "layer{s+1}.{b}.bn{k}.*"),
    ("stages.{s}.blocks.{b}.downsample.conv.*", "layer{s+1}.{b}.downsample.0.*"),
    ("norm.*", "bn.*"),
    ("head.fc.*", "fc.*"),
];

/// akamaster/pytorch_resnet_cifar10 `resnet.py`; also kuangliu/pytorch-cifar.
const CIFAR: &[Rule] =
    &[("layer{s}.{b}.shortcut.{k}.*", "layer{s}.{b}.downsample.{k}.*"), ("linear.*", "fc.*")];

/// huggingface/transformers `models/resnet/modeling_resnet.py`.
const HUGGING_FACE: &[Rule] = &[
    ("embedder.embedder.convolution.*", "conv1.*"),
    ("embedder.embedder.normalization.*", "bn1.*"),
    ("encoder.stages.{s}.layers.{b}.layer.{k}.convolution.*", "layer{s+1}.{b}.conv{k+1}.*"),
    ("encoder.stages.{s}.layers.{b}.layer.{k}.normalization.*", "layer{s+1}.{b}.bn{k+1}.*"),
    ("encoder.stages.{s}.layers.{b}.shortcut.convolution.*", "layer{s+1}.{b}.downsample.0.*"),
    ("encoder.stages.{s}.layers.{b}.shortcut.normalization.*", "layer{s+1}.{b}.downsample.1.*"),
    ("classifier.1.*", "fc.*"),
];

/// Unwraps a file's tensors and gives them our names; a model file of ours is left as it is.
///
/// # Errors
/// [`WeightsError::SameName`] when two tensors end up under one name.
pub fn rename(mut file: TensorFile) -> Result<TensorFile, WeightsError> {
    if file.metadata.contains_key(model_file::VERSION) {
        return Ok(file);
    }
    let whole = |tensor: Tensor| Bare { name: tensor.name.clone(), tensor };
    let mut tensors: Vec<Bare> = file.tensors.drain(..).map(whole).collect();
    while strip_prefixes(&mut tensors) || unwrap_once(&mut tensors, &mut file.skipped) {}
    file.skipped.sort_by(|a, b| a.name.cmp(&b.name));

    let mut theirs = HashMap::new();
    for Bare { name, mut tensor } in tensors {
        let name = our_name(&name).unwrap_or(name);
        if let Some(first) = theirs.insert(name.clone(), tensor.name.clone()) {
            let (path, second) = (file.path, tensor.name);
            return Err(WeightsError::SameName { path, name, first, second });
        }
        tensor.name = name;
        file.tensors.push(tensor);
    }
    Ok(file)
}

/// A tensor, and what is left of its name without wrappers and prefixes.
struct Bare {
    name: String,
    tensor: Tensor,
}

/// Takes a training wrapper's prefix off each name that has one; says whether any had.
fn strip_prefixes(tensors: &mut [Bare]) -> bool {
    let mut any = false;
    for Bare { name, .. } in tensors {
        if let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            *name = rest.into();
            any = true;
        }
    }
    any
}

/// Keeps only what is inside the first wrapper that there is; says whether there was one.
fn unwrap_once(tensors: &mut Vec<Bare>, skipped: &mut Vec<Skipped>) -> bool {
    let is_there = |wrapper: &&str| tensors.iter().any(|bare| bare.name.starts_with(*wrapper));
    let Some(wrapper) = WRAPPERS.iter().copied().find(is_there) else { return false };
    for mut bare in std::mem::take(tensors) {
        match bare.name.strip_prefix(wrapper) {
            Some(rest) => {
                bare.name = rest.into();
                tensors.push(bare);
            }
            None => skipped.push(Skipped { name: bare.tensor.name, kind: "tensor".into() }),
        }
    }
    true
}

/// Our name for a tensor (without wrappers and prefixes) if its own is another project's.
pub fn our_name(name: &str) -> Option<String> {
    let mut rules = SPELLINGS.iter().copied().flatten();
    rules.find_map(|(theirs, ours)| Some(fill(ours, &captures(theirs, name)?)))
}

/// What a pattern's placeholders stand for in a name: numbers by letter, and the rest.
struct Captures<'a> {
    numbers: Vec<(char, u32)>,
    rest: &'a str,
}

fn captures<'a>(pattern: &str, name: &'a str) -> Option<Captures<'a>> {
    let mut numbers = Vec::new();
    let mut name = name;
    let mut pattern = pattern.strip_suffix('*').expect("every rule ends in `*`");
    while let Some((literal, after)) = pattern.split_once('{') {
        name = name.strip_prefix(literal)?;
        let digits = name.len() - name.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let letter = after.chars().next().expect("a placeholder has a letter");
        numbers.push((letter, name[..digits].parse().ok()?));
        name = &name[digits..];
        pattern = &after[2..]; // the letter and `}`
    }
    Some(Captures { numbers, rest: name.strip_prefix(pattern)? })
}

fn fill(pattern: &str, captures: &Captures<'_>) -> String {
    let mut name = pattern.replace('*', captures.rest);
    for &(letter, number) in &captures.numbers {
        name = name.replace(&format!("{{{letter}}}"), &number.to_string());
        name = name.replace(&format!("{{{letter}+1}}"), &(u64::from(number) + 1).to_string());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(theirs: &str, ours: &str) {
        assert_eq!(our_name(theirs).as_deref().unwrap_or(theirs), ours);
    }

    #[test]
    fn torchvision_names_stay() {
        check("layer1.0.downsample.0.weight", "layer1.0.downsample.0.weight");
        check("layer1.0.se.fc1.bias", "layer1.0.se.fc1.bias");
        check("conv1.0.weight", "conv1.0.weight");
        check("bn.running_var", "bn.running_var");
        check("fc.bias", "fc.bias");
    }

    #[test]
    fn timm_resnetv2_names_are_known() {
        check("stem.conv.weight", "conv1.weight");
        check("stages.0.blocks.0.norm1.running_mean", "layer1.0.bn1.running_mean");
        check("stages.3.blocks.12.conv3.weight", "layer4.12.conv3.weight");
        check("stages.1.blocks.0.downsample.conv.weight", "layer2.0.downsample.0.weight");
        check("norm.bias", "bn.bias");
        check("head.fc.weight", "fc.weight");
    }

    #[test]
    fn cifar_names_are_known() {
        check("linear.bias", "fc.bias");
        check("layer2.0.shortcut.1.weight", "layer2.0.downsample.1.weight");
    }

    #[test]
    fn hugging_face_names_are_known() {
        check("embedder.embedder.convolution.weight", "conv1.weight");
        check("embedder.embedder.normalization.bias", "bn1.bias");
        check("encoder.stages.0.layers.0.layer.0.convolution.weight", "layer1.0.conv1.weight");
        check("encoder.stages.3.layers.2.layer.1.normalization.weight", "layer4.2.bn2.weight");
        check(
            "encoder.stages.1.layers.0.shortcut.convolution.weight",
            "layer2.0.downsample.0.weight",
        );
        check(
            "encoder.stages.1.layers.0.shortcut.normalization.bias",
            "layer2.0.downsample.1.bias",
        );
        check("classifier.1.weight", "fc.weight");
    }

    #[test]
    fn a_name_that_only_resembles_a_rule_stays() {
        check("stages.x.blocks.0.conv1.weight", "stages.x.blocks.0.conv1.weight");
        check(
            "stages.0.blocks.99999999999.conv1.weight",
            "stages.0.blocks.99999999999.conv1.weight",
        );
        check("linears.weight", "linears.weight");
    }
}
