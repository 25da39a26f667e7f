//! Every named network, as a small constructor of a [`NetworkSpec`], and the spellings of others.

use crate::spec::{
    BlockKind, BlockOrder, BlockSpec, InputSpec, NetworkSpec, NormSpec, ShortcutKind, ShortcutSpec,
    SpecError, StageSpec, StemKind, StemSpec, StrideOn,
};

/// Names of all listed networks, in the order of the documentation. `cifar-resnetN`,
/// `cifar-plainN` and `cifar-resnetN-v2` for any N = 6n+2 come on top.
pub const NAMES: &[&str] = &[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
    "resnet50-v1",
    "resnet101-v1",
    "resnet152-v1",
    "resnet18-v2",
    "resnet34-v2",
    "resnet50-v2",
    "resnet101-v2",
    "resnet152-v2",
    "resnet200-v2",
    "resnet18-d",
    "resnet34-d",
    "resnet50-d",
    "resnet101-d",
    "resnet152-d",
    "resnet200-d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "seresnet18",
    "seresnet34",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "plain18",
    "plain34",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet1202",
];

/// The spellings of timm, Keras and the papers, beside ours. Nothing else repeats this table.
const ALIASES: &[(&str, &str)] = &[
    ("resnet18d", "resnet18-d"),
    ("resnet34d", "resnet34-d"),
    ("resnet50d", "resnet50-d"),
    ("resnet101d", "resnet101-d"),
    ("resnet152d", "resnet152-d"),
    ("resnet200d", "resnet200-d"),
    ("resnetv2_18", "resnet18-v2"),
    ("resnetv2_34", "resnet34-v2"),
    ("resnetv2_50", "resnet50-v2"),
    ("resnetv2_101", "resnet101-v2"),
    ("resnetv2_152", "resnet152-v2"),
    ("resnet50v2", "resnet50-v2"),
    ("resnet101v2", "resnet101-v2"),
    ("resnet152v2", "resnet152-v2"),
    ("wide_resnet50", "wide_resnet50_2"),
    ("wide_resnet101", "wide_resnet101_2"),
    ("resnext50", "resnext50_32x4d"),
    ("legacy_seresnet18", "seresnet18"),
    ("legacy_seresnet34", "seresnet34"),
    ("legacy_seresnet50", "seresnet50"),
    ("legacy_seresnet101", "seresnet101"),
    ("legacy_seresnet152", "seresnet152"),
];

/// The network of this name, any known spelling.
///
/// # Errors
/// [`SpecError::UnknownName`] with the names that look most like it.
pub fn network(name: &str) -> Result<NetworkSpec, SpecError> {
    let canonical = canonical_name(name);
    let spec = cifar(&canonical).or_else(|| imagenet(&canonical));
    spec.ok_or_else(|| SpecError::UnknownName { name: name.into(), similar: similar(name) })
}

fn canonical_name(name: &str) -> String {
    let lower = name.trim().to_ascii_lowercase();
    let alias = ALIASES.iter().find(|(theirs, _)| *theirs == lower);
    alias.map_or(lower, |(_, ours)| (*ours).to_string())
}

/// Known names within a small edit distance, best first.
fn similar(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut scored: Vec<(f64, &str)> = NAMES
        .iter()
        .chain(ALIASES.iter().map(|(theirs, _)| theirs))
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, known), *known))
        .filter(|(score, _)| *score >= 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, known)| known.to_string()).collect()
}

/// Depths of the ImageNet families (He et al. 2015, table 1; 200: He et al. 2016, table 5).
fn depth_blocks(depth: usize) -> Option<(BlockKind, [usize; 4])> {
    match depth {
        18 => Some((BlockKind::Basic, [2, 2, 2, 2])),
        34 => Some((BlockKind::Basic, [3, 4, 6, 3])),
        50 => Some((BlockKind::Bottleneck, [3, 4, 6, 3])),
        101 => Some((BlockKind::Bottleneck, [3, 4, 23, 3])),
        152 => Some((BlockKind::Bottleneck, [3, 8, 36, 3])),
        200 => Some((BlockKind::Bottleneck, [3, 24, 36, 3])),
        _ => None,
    }
}

fn imagenet(name: &str) -> Option<NetworkSpec> {
    if !NAMES.contains(&name) {
        return None;
    }
    let digits_at = name.find(|c: char| c.is_ascii_digit())?;
    let (family, rest) = name.split_at(digits_at);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (depth, suffix) = rest.split_at(digits);
    let (kind, blocks) = depth_blocks(depth.parse().ok()?)?;
    let mut spec = torchvision(name, kind, blocks);
    match (family, suffix) {
        ("resnet", "") => {}
        ("resnet", "-v1") => spec.block.stride_on = StrideOn::Conv1,
        ("resnet", "-v2") => spec.block.order = BlockOrder::PreActivation,
        ("resnet", "-d") => {
            spec.stem.kind = StemKind::Deep;
            spec.shortcut.average_pool = true;
        }
        ("wide_resnet", "_2") => spec.block.width_per_group = 128,
        ("resnext", "_32x4d") => (spec.block.groups, spec.block.width_per_group) = (32, 4),
        ("resnext", "_32x8d") => (spec.block.groups, spec.block.width_per_group) = (32, 8),
        ("resnext", "_64x4d") => (spec.block.groups, spec.block.width_per_group) = (64, 4),
        ("seresnet", "") => spec.block.se_reduction = Some(16),
        ("plain", "") => spec.shortcut.kind = ShortcutKind::None,
        _ => return None,
    }
    Some(spec)
}

/// torchvision's ResNet of these blocks ("v1.5").
fn torchvision(name: &str, kind: BlockKind, blocks: [usize; 4]) -> NetworkSpec {
    let stage = |i: usize, blocks| StageSpec {
        blocks,
        channels: 64 << i,
        stride: if i == 0 { 1 } else { 2 },
        dilation: 1,
    };
    NetworkSpec {
        name: name.into(),
        classes: 1000,
        dropout: 0.0,
        stochastic_depth: 0.0,
        zero_init_last: false,
        input: InputSpec::default(),
        stem: StemSpec { kind: StemKind::Large, channels: 64, pool: true },
        block: block(kind),
        shortcut: ShortcutSpec::default(),
        norm: NormSpec::default(),
        stages: blocks.into_iter().enumerate().map(|(i, blocks)| stage(i, blocks)).collect(),
    }
}

fn block(kind: BlockKind) -> BlockSpec {
    BlockSpec {
        kind,
        order: BlockOrder::PostActivation,
        stride_on: StrideOn::Conv2,
        groups: 1,
        width_per_group: 64,
        se_reduction: None,
    }
}

/// The CIFAR networks of depth 6n+2 (He et al. 2015, section 4.2).
fn cifar(name: &str) -> Option<NetworkSpec> {
    let listed = matches!(
        name,
        "resnet20" | "resnet32" | "resnet44" | "resnet56" | "resnet110" | "resnet1202"
    );
    let rest = if listed { name } else { name.strip_prefix("cifar-")? };
    let (plain, rest) = match rest.strip_prefix("plain") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix("resnet")?),
    };
    let (v2, digits) = match rest.strip_suffix("-v2") {
        Some(digits) if !plain => (true, digits),
        _ => (false, rest),
    };
    let depth: usize = digits.parse().ok().filter(|depth| (8..=6002).contains(depth))?;
    if depth % 6 != 2 {
        return None;
    }
    let blocks = (depth - 2) / 6;
    let stage = |i: usize| StageSpec {
        blocks,
        channels: 16 << i,
        stride: if i == 0 { 1 } else { 2 },
        dilation: 1,
    };
    let mut spec = torchvision(name, BlockKind::Basic, [1; 4]);
    spec.classes = 10;
    spec.input = InputSpec { channels: 3, height: 32, width: 32 };
    spec.stem = StemSpec { kind: StemKind::Small, channels: 16, pool: false };
    spec.shortcut.kind = if plain { ShortcutKind::None } else { ShortcutKind::A };
    if v2 {
        spec.block.order = BlockOrder::PreActivation;
    }
    spec.stages = (0..3).map(stage).collect();
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_and_alias_is_a_valid_network() {
        for name in NAMES.iter().chain(ALIASES.iter().map(|(theirs, _)| theirs)) {
            let spec = network(name).unwrap();
            spec.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    #[test]
    fn a_misspelt_name_suggests_the_nearest() {
        let Err(SpecError::UnknownName { similar, .. }) = network("restnet50") else {
            panic!("found a network")
        };
        assert_eq!(similar[0], "resnet50");
    }

    #[test]
    fn only_depths_of_six_n_plus_two_are_cifar_networks() {
        assert_eq!(network("cifar-resnet14").unwrap().stages[0].blocks, 2);
        assert!(network("cifar-resnet15").is_err());
        assert!(network("cifar-plain2").is_err());
        assert!(network("cifar-plain20-v2").is_err());
    }

    #[test]
    fn a_spec_survives_toml_like_serialisation() {
        for name in NAMES {
            let spec = network(name).unwrap();
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<NetworkSpec>(&text).unwrap(), spec);
        }
    }
}
