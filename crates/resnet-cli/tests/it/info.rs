//! `resnet info`.

use crate::session::Session;

#[test]
fn a_network_is_a_table_of_layers() {
    insta::assert_snapshot!(Session::new().run("info cifar-resnet8").transcript());
}

#[test]
fn a_network_is_an_object_with_the_documented_keys() {
    insta::assert_snapshot!(Session::new().run("info cifar-resnet8 --json").transcript());
}

#[test]
fn a_printed_network_reads_back_as_itself() {
    let session = Session::new();
    let text = session.run("info resnet50-d --toml").stdout;
    session.write("mine.toml", &text);
    assert_eq!(session.run("info mine.toml --toml").stdout, text);
    assert_eq!(session.run("info mine.toml").stdout, session.run("info resnet50-d").stdout);
}

#[test]
fn a_small_stem_keeps_small_pictures_large() {
    let answer = Session::new().run("info resnet18 --stem small --size 32 --classes 100");
    assert_eq!(answer.status, Some(0));
    assert!(answer.stdout.contains("input 32×32×3, 100 classes"), "{}", answer.stdout);
    assert!(answer.stdout.contains("11,220,132"), "{}", answer.stdout);
}

#[test]
fn a_build_says_what_it_uses() {
    let answer = Session::new().run("info --build");
    assert_eq!((answer.status, answer.stdout.lines().count()), (Some(0), 3), "{}", answer.stderr);
    assert!(answer.stdout.contains("JPEG decoder: libjpeg's"), "{}", answer.stdout);
}
