//! Wrong input: one line that says what and where, one that says what to do, the right exit status.

use crate::session::Session;

/// Types `resnet LINE` in a session and compares the whole answer.
#[track_caller]
fn check(name: &str, session: &Session, line: &str) {
    let answer = session.run(line);
    assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
    insta::assert_snapshot!(name, format!("$ resnet {line}\n{}", answer.transcript()));
}

#[test]
fn a_command_that_is_none() {
    check("no_command", &Session::new(), "");
    check("misspelt_command", &Session::new(), "inf resnet50");
    check("misspelt_flag", &Session::new(), "info resnet50 --jsn");
    check("flag_without_value", &Session::new(), "info resnet50 --size");
    check("flag_with_a_wrong_value", &Session::new(), "info resnet50 --size large");
}

#[test]
fn a_misspelt_model() {
    check("misspelt_model", &Session::new(), "info restnet50");
    check("unheard_of_model", &Session::new(), "info transformer");
    check("no_model_file", &Session::new(), "info mine.toml");
}

#[test]
fn a_network_file_with_a_misspelt_key() {
    let session = Session::new();
    let good = session.run("info resnet18 --toml").stdout;
    session.write("key.toml", good.replace("width_per_group", "width_pergroup"));
    check("misspelt_network_key", &session, "info key.toml");
    session.write("value.toml", good.replace("\"basic\"", "\"basics\""));
    check("wrong_network_value", &session, "info value.toml");
    session.write("range.toml", good.replacen("blocks = 2", "blocks = 0", 1));
    check("network_value_out_of_range", &session, "info range.toml");
    session.write("syntax.toml", "name = ");
    check("network_file_that_is_no_toml", &session, "info syntax.toml");
}

#[test]
fn pictures_too_small_for_the_network() {
    check("picture_too_small", &Session::new(), "info resnet50 --size 0");
}

/// A run of two steps on tiny pictures, whose checkpoint other commands use.
fn tiny_run(session: &Session) {
    let line = "train --data generated:classes=3,images=96,size=16 --run r --max-steps 2 \
                --batch-size 32 --quiet";
    assert_eq!(session.run(line).status, Some(0));
}

#[test]
fn a_misspelt_recipe_key_or_recipe() {
    check("misspelt_recipe_key", &Session::new(), "train --set optimizer.momentun=0.8");
    check("misspelt_recipe", &Session::new(), "train --recipe cifar-fats");
    check("misspelt_model_to_train", &Session::new(), "train --model restnet20");
}

#[test]
fn pictures_that_make_no_set() {
    let session = Session::new();
    std::fs::create_dir(session.folder().join("empty")).unwrap();
    check("empty_folder", &session, "train --data empty --run r");
    session.write("one/cat/1.bmp", bmp());
    session.write("one/cat/2.bmp", bmp());
    check("one_class", &session, "train --data one --run r");
    check("no_such_place", &session, "train --data generatd --run r");
    assert!(!session.folder().join("r").exists(), "a run that cannot begin leaves nothing");
}

#[test]
fn files_that_are_no_pictures() {
    let session = Session::new();
    tiny_run(&session);
    session.write("text.jpg", "these are words");
    session.write("cut.jpg", [0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F', b'I', b'F', 0, 1]);
    session.write("empty.png", "");
    let weights = "--weights r/checkpoints/last.safetensors";
    check(
        "no_picture",
        &session,
        &format!("classify {weights} text.jpg cut.jpg empty.png none.png"),
    );
}

#[test]
fn weights_that_do_not_fit() {
    let session = Session::new();
    tiny_run(&session);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../resnet-io/tests/fixtures/weights");
    for name in ["call_in_dict.pkl", "wrapped_truncated.pth", "wrapped_legacy_truncated.pth"] {
        let bytes = std::fs::read(format!("{fixtures}/{name}")).unwrap();
        session.write(name, bytes);
        let line = format!("eval --model resnet20 --weights {name}");
        check(name, &session, &line);
    }
    let line = "eval --model resnet32 --weights r/checkpoints/last.safetensors";
    check("weights_of_another_network", &session, line);
    check("no_weights", &session, "eval --model resnet20");
}

#[test]
fn a_batch_larger_than_the_set() {
    let line = "train --data generated:classes=3,images=96,size=16 --run r --batch-size 1000";
    check("batch_too_large", &Session::new(), line);
}

/// Two by two grey pixels.
fn bmp() -> Vec<u8> {
    let mut bytes = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend(b"\x02\0\0\0\x02\0\0\0\x01\0\x18\0\0\0\0\0\x10\0\0\0");
    bytes.resize(0x36, 0);
    bytes.extend([128; 16]);
    bytes
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let session = Session::new();
    let mut command = session.command("info resnet152");
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
