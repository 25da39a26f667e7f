//! Holding pictures back for validation: exact in number, and stable when files are added.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use resnet_io::DataError;
use resnet_io::source::{DataSet, Fold, HeldBack, OpenOptions, Source, open};

/// Files that are pictures by name; nothing here reads them.
fn add(folder: &Path, class: &str, names: std::ops::Range<u32>) {
    fs::create_dir_all(folder.join(class)).unwrap();
    for name in names {
        fs::write(folder.join(class).join(format!("{name}.png")), "").unwrap();
    }
}

fn split(folder: &Path, fraction: f64) -> Result<DataSet, DataError> {
    opened(folder, HeldBack::Share(fraction))
}

fn opened(place: &Path, held_back: HeldBack) -> Result<DataSet, DataError> {
    let options = OpenOptions { held_back: Some(held_back), ..OpenOptions::default() };
    open(place.to_str().unwrap(), &options)
}

/// What each of `of` folds holds back.
fn folds(place: &Path, of: usize) -> Vec<BTreeSet<String>> {
    let fold = |number| {
        let fold: Fold = format!("{number}/{of}").parse().unwrap();
        let set = opened(place, HeldBack::Fold(fold)).unwrap();
        let (train, val) = (names(set.train.unwrap().as_ref()), names(set.val.unwrap().as_ref()));
        assert!(train.is_disjoint(&val));
        val
    };
    (1..=of).map(fold).collect()
}

fn names(source: &dyn Source) -> BTreeSet<String> {
    (0..source.len()).map(|index| source.name(index)).collect()
}

fn held_back(folder: &Path) -> BTreeSet<String> {
    names(split(folder, 0.2).unwrap().val.unwrap().as_ref())
}

#[test]
fn every_class_gives_its_share_and_no_picture_is_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "many", 0..100);
    add(folder.path(), "some", 0..33);
    add(folder.path(), "few", 0..4);
    let set = split(folder.path(), 0.2).unwrap();
    let (train, val) = (set.train.unwrap(), set.val.unwrap());
    let of_class = |label| (0..val.len()).filter(|&i| val.label(i) == label).count();
    // Rounded: 0.2 * 4, 0.2 * 100, 0.2 * 33.
    assert_eq!([of_class(0), of_class(1), of_class(2)], [1, 20, 7]);
    assert_eq!(train.classes(), ["few", "many", "some"]);
    assert_eq!(train.len() + val.len(), 137);
    assert!(names(train.as_ref()).is_disjoint(&names(val.as_ref())));
}

#[test]
fn an_added_file_moves_at_most_one_other() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "a", 0..40);
    add(folder.path(), "b", 0..40);
    let mut before = held_back(folder.path());
    for name in 40..60 {
        add(folder.path(), "a", name..name + 1);
        let after = held_back(folder.path());
        let added = format!("{name}.png");
        let came = after.difference(&before).filter(|path| !path.ends_with(&added)).count();
        let went = before.difference(&after).count();
        assert!(came + went <= 1, "{came} came and {went} went with {name}");
        before = after;
    }
}

#[test]
fn the_place_and_the_number_of_other_classes_do_not_matter() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    add(one.path(), "b", 0..50);
    add(one.path(), "c", 0..50);
    add(other.path(), "a", 0..10);
    add(other.path(), "b", 0..50);
    let of_b = |folder: &Path| -> BTreeSet<String> {
        let tail = |path: String| path.rsplit_once("/b/").map(|(_, name)| name.to_string());
        held_back(folder).into_iter().filter_map(tail).collect()
    };
    assert_eq!(of_b(one.path()).len(), 10);
    assert_eq!(of_b(one.path()), of_b(other.path()));
}

#[test]
fn a_fraction_that_leaves_a_side_empty_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "a", 0..3);
    add(folder.path(), "b", 0..3);
    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        let found = split(folder.path(), fraction);
        assert!(matches!(found, Err(DataError::BadFraction { .. })), "{fraction}");
    }
    for (fraction, expected) in [(0.01, "for validation"), (0.99, "to train on")] {
        let found = split(folder.path(), fraction);
        assert!(matches!(found, Err(DataError::EmptySide { side, .. }) if side == expected));
    }
    add(&folder.path().join("two"), "train/a", 0..2);
    add(&folder.path().join("two"), "val/a", 0..2);
    let found = split(&folder.path().join("two"), 0.5);
    assert!(matches!(found, Err(DataError::SplitTwice { .. })));
}

#[test]
fn folds_hold_each_picture_back_once_and_are_stratified() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "a", 0..23);
    add(folder.path(), "b", 0..10);
    let folds = folds(folder.path(), 5);
    let all: BTreeSet<String> = folds.iter().flatten().cloned().collect();
    assert_eq!((all.len(), folds.iter().map(BTreeSet::len).sum::<usize>()), (33, 33));
    for fold in &folds {
        let of = |class: &str| fold.iter().filter(|name| name.contains(class)).count();
        assert_eq!(of("/b/"), 2);
        assert!((4..=5).contains(&of("/a/")), "{}", of("/a/"));
    }
}

#[test]
fn a_group_is_never_torn_apart() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    // Groups of one to thirteen pictures, of both classes.
    let mut text = String::from("path,label,patient\n");
    let group = |group: usize| std::iter::repeat_n(group, 1 + group % 7 * 2);
    for (picture, group) in (0..20).flat_map(group).enumerate() {
        text += &format!("{picture}.png,{},p{group}\n", picture % 2);
    }
    let pictures = text.lines().count() - 1;
    fs::write(&list, text).unwrap();
    let group_of = |side: &dyn Source| -> BTreeSet<String> {
        (0..side.len()).map(|index| side.group(index).unwrap().to_string()).collect()
    };
    for share in [0.1, 0.25, 0.5] {
        let set = opened(&list, HeldBack::Share(share)).unwrap();
        let (train, val) = (set.train.unwrap(), set.val.unwrap());
        assert!(group_of(train.as_ref()).is_disjoint(&group_of(val.as_ref())));
        let off = (val.len() as f64 - share * pictures as f64).abs();
        assert!(off <= 7.0, "{} held back for {share}", val.len());
    }
    let folds = folds(&list, 4);
    assert_eq!(folds.iter().flatten().collect::<BTreeSet<_>>().len(), pictures);
    let equal = pictures / 4;
    assert!(folds.iter().all(|fold| fold.len().abs_diff(equal) <= 13), "{folds:?}");
}

#[test]
fn what_is_no_fold_is_refused() {
    for text in ["", "2", "0/5", "6/5", "1/1", "a/b", "1/2/3", "1/1001", "-1/5"] {
        assert!(text.parse::<Fold>().is_err(), "{text}");
    }
    assert_eq!("2/5".parse::<Fold>().unwrap().to_string(), "2/5");
}
