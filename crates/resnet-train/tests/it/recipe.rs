//! Recipes: layers, errors that name file and key, and the reference page.

use std::path::Path;

use resnet_train::recipe::{
    Assignment, NAMES, Recipe, RecipeError, RecipeText, ScheduleKind, load, markdown, named,
    resolve,
};

fn file(text: &str) -> RecipeText {
    RecipeText { origin: "my.toml".into(), text: text.into() }
}

fn sets(texts: &[&str]) -> Vec<Assignment> {
    texts.iter().map(|text| Assignment::parse(text).unwrap()).collect()
}

fn message(error: &RecipeError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// The error of a file under some assignments.
#[track_caller]
fn error(text: &str, assignments: &[&str]) -> String {
    message(&resolve(Some(&file(text)), &sets(assignments)).unwrap_err())
}

#[test]
fn an_unknown_key_of_a_file_is_refused_with_its_line_and_a_suggestion() {
    insta::assert_snapshot!(error("version = 1\n\n[train]\nepoch = 3\n", &[]), @r#"
my.toml:4: unknown key "train.epoch"; did you mean "train.epochs"?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("[optimiser]\nlr = 1\n", &[]), @r#"
my.toml:1: unknown key "optimiser"; did you mean "optimizer"?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("epochs = 3\n", &[]), @r#"
my.toml:1: unknown key "epochs"; did you mean "train.epochs"?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("[train]\nbananas = 3\n", &[]), @r#"
my.toml:2: unknown key "train.bananas"
hint: docs/recipes.md lists every key with its type and meaning
"#);
}

#[test]
fn an_unknown_key_of_an_assignment_is_refused_with_a_suggestion() {
    insta::assert_snapshot!(error("", &["optimizer.learning_rate=1"]), @r#"
--set optimizer.learning_rate=1: unknown key "optimizer.learning_rate"
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["optimizer.momentun=1"]), @r#"
--set optimizer.momentun=1: unknown key "optimizer.momentun"; did you mean "optimizer.momentum"?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["epochs=1"]), @r#"
--set epochs=1: unknown key "epochs"; did you mean "train.epochs"?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["train=1"]), @r#"
--set train=1: unknown key "train"
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(message(&Assignment::parse("train.epochs").unwrap_err()), @r#"
--set train.epochs: expected key=value
hint: for example --set optimizer.lr=0.05
"#);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_file_line_and_key() {
    insta::assert_snapshot!(error("[optimizer]\nlr = \"fast\"\n", &[]), @r#"
my.toml:2: optimizer.lr: invalid type: string "fast", expected f64
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("[schedule]\nkind = \"cosin\"\n", &[]), @r#"
my.toml:2: schedule.kind: unknown variant `cosin`, expected one of `constant`, `step`, `multi-step`, `cosine`, `one-cycle`; did you mean `cosine`?
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("train = 3\n", &[]), @r#"
my.toml:1: train: invalid type: integer `3`, expected struct Train
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["train.epochs=many"]), @r#"
--set train.epochs=many: train.epochs: invalid type: string "many", expected u64
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("[train\n", &[]), @r#"
my.toml:1: unclosed table, expected `]`
hint: a recipe is TOML: `key = value` lines below a [table]
"#);
}

#[test]
fn numbers_out_of_range_name_their_key() {
    insta::assert_snapshot!(error("[optimizer]\nlr = -0.1\n", &[]), @r#"
optimizer.lr is -0.1, expected above 0
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["train.batch_size=1"]), @r#"
train.batch_size is 1, expected 2 to 65536: batch norm cannot train on one picture
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["loss.label_smoothing=nan"]), @r#"
loss.label_smoothing is NaN, expected from 0 to below 1
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["loss.kind=softmax", "loss.pos_weight=2"]), @r#"
loss.pos_weight is 2, expected 1 with softmax
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["loss.kind=softmax", "loss.target_threshold=0.2"]), @r#"
loss.target_threshold is 0.2, expected none with softmax
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("[augment]\nmixup = -0.2\n", &[]), @r#"
augment.mixup is -0.2, expected 0 or more
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["augment.cutmix=inf"]), @r#"
augment.cutmix is inf, expected 0 or more
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["augment.mix_switch=1.5"]), @r#"
augment.mix_switch is 1.5, expected 0 to 1
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["augment.progressive=[32, 0]"]), @r#"
augment.progressive is 0, expected 1 to 16384
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("", &["augment.progressive=[32]", "augment.size=32"]), @r#"
augment.size is 32, expected none beside augment.progressive
hint: docs/recipes.md lists every key with its type and meaning
"#);
    insta::assert_snapshot!(error("version = 2\n", &[]), @r#"
recipe version 2, expected at most 1
hint: a newer version of this program wrote it
"#);
    insta::assert_snapshot!(error("", &["schedule.kind=multi-step"]), @r#"
schedule.milestones is empty, expected at least one number
hint: docs/recipes.md lists every key with its type and meaning
"#);
}

#[test]
fn steps_whose_numbers_cannot_be_are_refused_with_what_may_be() {
    let faults = [
        ("{step=\"flip\",p=1.5}", "p from 0 to 1"),
        ("{step=\"rotation\",degrees=[5.0,-5.0]}", "two angles, the lower first"),
        ("{step=\"color_jitter\",hue=0.6}", "a hue of at most 0.5"),
        ("{step=\"scale_jitter\",sides=[480,256]}", "the smaller first"),
        ("{step=\"rand_augment\",magnitude=31}", "a magnitude below them"),
        ("{step=\"aug_mix\",severity=11}", "a severity of 1 to 10"),
        ("{step=\"random_erasing\",p=0.5,scale=[0.0,0.3]}", "scale and ratio above 0"),
        ("{step=\"random_resized_crop\",size=0}", "a size from 1 to 16384"),
        (
            "{step=\"auto_augment\",policy=\"mnist\"}",
            "expected one of `imagenet`, `cifar10`, `svhn`",
        ),
        ("{step=\"resize\",side=8,interpolation=\"cubic\"}", "unknown variant `cubic`"),
        ("{step=\"trivial\"}", "unknown variant `trivial`"),
    ];
    for (step, expected) in faults {
        let found = error("", &[&format!("augment.steps=[{step}]")]);
        assert!(found.contains("augment.steps") && found.contains(expected), "{step}: {found}");
    }
    let good = "augment.steps=[{step=\"random_resized_crop\",size=8,interpolation=\"bicubic\"},\
                {step=\"aug_mix\"},{step=\"auto_augment\",policy=\"imagenet\"},{step=\"rand_augment\"},\
                {step=\"trivial_augment_wide\"},{step=\"random_erasing\",p=0.1}]";
    let recipe = resolve(None, &sets(&[good])).unwrap();
    assert_eq!(resolve(Some(&file(&recipe.to_toml())), &[]).unwrap(), recipe);
}

#[test]
fn a_key_without_effect_is_refused() {
    insta::assert_snapshot!(error("[schedule]\nkind = \"cosine\"\ngamma = 0.5\n", &[]), @r#"
schedule.gamma has no effect on a schedule of kind "cosine"
hint: remove gamma, or choose a kind that reads it
"#);
    insta::assert_snapshot!(error("", &["schedule.kind=one-cycle", "schedule.warmup=3"]), @r#"
schedule.warmup has no effect on a schedule of kind "one-cycle"
hint: remove warmup, or choose a kind that reads it
"#);
}

#[test]
fn an_unknown_recipe_is_refused_with_a_suggestion() {
    insta::assert_snapshot!(message(&load("cifar-fsat").unwrap_err()), @r#"
no recipe "cifar-fsat": neither a file nor one of generated, pictures, cifar-fast, cifar-paper, imagenet-paper, imagenet-torchvision; did you mean "cifar-fast"?
hint: a recipe of your own is a TOML file, named by its path
"#);
}

#[test]
fn another_kind_of_schedule_leaves_the_keys_of_the_old_one_behind() {
    let text = file("[schedule]\nkind = \"one-cycle\"\ndiv = 10\n");
    let recipe =
        resolve(Some(&text), &sets(&["schedule.warmup=2", "schedule.kind=cosine"])).unwrap();
    assert_eq!((recipe.schedule.kind, recipe.schedule.warmup), (ScheduleKind::Cosine, 2));
}

#[test]
fn later_layers_win_and_an_empty_value_takes_a_key_back() {
    let text = file("[train]\nepochs = 3\nseed = 4\n[data]\nval_fraction = 0.5\n");
    let recipe =
        resolve(Some(&text), &sets(&["train.epochs=5", "data.val_fraction=", "data.val=there"]))
            .unwrap();
    assert_eq!((recipe.train.epochs, recipe.train.seed), (5, 4));
    assert_eq!((recipe.data.val_fraction, recipe.data.val.as_deref()), (None, Some("there")));
}

#[test]
fn a_recipe_survives_its_own_file() {
    let assignments = [&["model.name=resnet18"][..], &["schedule.kind=step", "optimizer.lr=1e-3"]];
    for assignments in assignments {
        let recipe = resolve(None, &sets(assignments)).unwrap();
        let again = resolve(Some(&file(&recipe.to_toml())), &[]).unwrap();
        assert_eq!(again, recipe, "{}", recipe.to_toml());
    }
    let mut recipe = Recipe::default();
    recipe.model.spec = Some(resnet_core::zoo::network("seresnet50").unwrap());
    assert_eq!(resolve(Some(&file(&recipe.to_toml())), &[]).unwrap(), recipe);
}

#[test]
fn the_learning_rate_follows_the_batch_size_where_it_says_for_which_it_is() {
    let rate = |texts: &[&str]| resolve(None, &sets(texts)).unwrap().learning_rate();
    assert_eq!(rate(&["optimizer.lr=0.1", "train.batch_size=64"]), 0.1);
    let scaled = ["optimizer.lr=0.1", "optimizer.lr_batch=256", "train.batch_size=64"];
    assert_eq!(rate(&scaled), 0.025);
}

#[test]
fn every_embedded_recipe_is_valid() {
    for name in NAMES {
        let recipe = resolve(named(name).as_ref(), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let Some(network) = recipe.model.name {
            resnet_core::zoo::network(&network).unwrap();
        }
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/recipes.md is old: run this test with UPDATE_DOCS=1");
}
