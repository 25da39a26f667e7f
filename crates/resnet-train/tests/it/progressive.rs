//! Progressive resizing: which epoch trains on pictures of which size, and what is done to bring them there.

use resnet_io::augment::Step;
use resnet_train::event::{Ending, Event};
use resnet_train::setup::{BatchSize, Setup, prepare};

use crate::tiny::{self, Watch};

fn setup(changes: &[&str]) -> Setup {
    prepare(tiny::recipe(changes), BatchSize::Given).unwrap()
}

/// The rows of each epoch's pictures.
fn rows(changes: &[&str], epochs: u32) -> Vec<usize> {
    let epochs_text = format!("train.epochs={epochs}");
    let setup = setup(&[changes, &[&epochs_text]].concat());
    (0..epochs).map(|epoch| setup.train.size(epoch)[0]).collect()
}

#[test]
fn each_size_has_an_equal_part_of_the_epochs_and_the_last_epochs_the_last() {
    let three = ["augment.progressive=[4, 6, 8]"];
    assert_eq!(rows(&three, 6), [4, 4, 6, 6, 8, 8]);
    assert_eq!(rows(&three, 7), [4, 4, 6, 6, 8, 8, 8]);
    assert_eq!(rows(&three, 8), [4, 4, 6, 6, 6, 8, 8, 8]);
    assert_eq!(rows(&three, 2), [6, 8]);
    assert_eq!(rows(&three, 1), [8]);
    assert_eq!(rows(&["augment.progressive=[4, 4, 4, 8]"], 4), [4, 4, 4, 8]);
    assert_eq!(rows(&["augment.size=6"], 3), [6, 6, 6]);
    assert_eq!(rows(&[], 3), [8, 8, 8]);
    // What looks beyond the end, as a preview may, sees the last.
    assert_eq!(setup(&three).train.size(1000), [8, 8]);
}

#[test]
fn evaluation_sees_the_last_size_unless_told_and_memory_is_planned_for_the_largest() {
    let growing = setup(&["augment.progressive=[4, 8]"]);
    assert_eq!(growing.preprocess.crop, [8, 8]);
    assert_eq!(growing.plan().train_size, [8, 8]);
    let shrinking = setup(&["augment.progressive=[8, 6]", "eval.crop=10"]);
    assert_eq!(shrinking.preprocess.crop, [10, 10]);
    assert_eq!(shrinking.plan().train_size, [8, 8]);
}

#[test]
fn steps_that_set_a_size_set_the_epochs_and_small_pictures_are_scaled_whole_without_one() {
    let set = "data.source=generated:classes=3,images=33,size=100";
    let step = "augment.steps=[{ step = \"random_crop\", size = 100 }]";
    let cut = setup(&[set, step, "augment.progressive=[32, 64]", "train.epochs=2"]);
    for (epoch, size) in [(0, 32), (1, 64)] {
        let spec = cut.train.at(epoch).spec();
        assert_eq!((spec.height, spec.width), (size as usize, size as usize));
        assert_eq!(spec.steps, [Step::RandomCrop { size }]);
    }
    let whole = setup(&["augment.progressive=[4, 8]", "train.epochs=2"]);
    let of = |epoch| whole.train.at(epoch).spec().steps.clone();
    let interpolation = whole.preprocess.interpolation;
    let small = [Step::Resize { side: 4, interpolation }, Step::CenterCrop { height: 4, width: 4 }];
    assert_eq!(of(0)[..2], small);
    // Pictures of 8x8 come as they are.
    assert_eq!(of(1), of(0)[2..]);
    // The recipe is the user's: a resumed run draws the same from it.
    assert_eq!(whole.recipe.augment.steps, of(1));
}

#[test]
fn a_random_part_of_large_pictures_is_scaled_to_the_epochs_size_and_both_are_told() {
    let set = "data.source=generated:classes=3,images=33,size=100";
    // The first of them would be a small picture's, but the network's are not.
    let sizes = "augment.progressive=[48, 48, 48, 96]";
    let setup = setup(&[set, "augment.steps=[]", sizes, "train.epochs=4"]);
    let of = |epoch| setup.train.at(epoch).spec().steps.clone();
    assert_eq!(
        (of(2), of(3)),
        (vec![Step::random_resized_crop(48)], vec![Step::random_resized_crop(96)])
    );
    insta::assert_snapshot!(setup.notices.join("\n"), @r#"
training takes a random part of each picture, scaled to the epoch's size: the recipe's augment.steps do not say what else
training pictures are 48x48 in epochs 1 to 3, 96x96 in epoch 4
"#);
}

#[test]
fn a_run_trains_on_each_size_and_learns() {
    let folder = tempfile::tempdir().unwrap();
    let set = "data.source=generated:classes=2,images=200,size=16";
    let sizes = "augment.progressive=[8, 12, 16]";
    let changes = [set, "augment.steps=", "optimizer.lr=0.1", "train.epochs=12", sizes];
    let mut notices = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Notice(text) = event {
            notices.push(text.clone());
        }
    };
    let watch = Watch { on_event: Some(&mut on_event), ..Watch::default() };
    let recipe = tiny::recipe(&changes);
    let end = tiny::run(folder.path(), &recipe, tiny::executor(), watch).unwrap();
    assert_eq!(end.ending, Ending::Finished);
    assert!(0.7 < end.best_top1.unwrap(), "{end:?}");
    let sizes = "training pictures are 8x8 in epochs 1 to 4, 12x12 in epochs 5 to 8, 16x16 in epochs 9 to 12";
    assert!(notices.iter().any(|notice| notice == sizes), "{notices:?}");
}
