//! Wrong input: one line that says what and where, one that says what to do, the right exit status.

use crate::pictures::noise;
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
    check("misspelt_recipe_word", &Session::new(), "train --set schedule.kind=cosin");
    check("recipe_value_out_of_range", &Session::new(), "train --set optimizer.momentum=2");
    check("no_recipe_file", &Session::new(), "train --recipe mine.toml");
    check("misspelt_generated_key", &Session::new(), "train --data generated:imges=100");
    let session = Session::new();
    session.write("mine.toml", "version = 1\n\n[train]\nepoch = 3\n");
    check("misspelt_key_in_a_recipe_file", &session, "train --recipe mine.toml");
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
    session.write("notes.txt", "these are words");
    check("no_image_set", &session, "train --data notes.txt --run r");
    session.write("small/cat/1.bmp", bmp());
    session.write("small/dog/1.bmp", bmp());
    check("fraction_too_small", &session, "train --data small --val-fraction 0.1 --run r");
    check("no_fold", &session, "train --data small --fold 6/5 --run r");
    check("no_known_set", &session, "data download cifar11");
    // Port 9 discards, where anything listens at all.
    check("no_server", &session, "data download mnist --mirror http://127.0.0.1:9");
    assert!(!session.folder().join("r").exists(), "a run that cannot begin leaves nothing");
}

#[test]
fn files_that_are_no_pictures() {
    let session = Session::new();
    tiny_run(&session);
    session.write("text.jpg", "these are words");
    session.write("cut.jpg", [0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F', b'I', b'F', 0, 1]);
    session.write("empty.png", "");
    let jpeg = include_bytes!("../fixtures/colours.jpg");
    session.write("half.jpg", &jpeg[..jpeg.len() - 40]);
    session.write("whole.jpg", jpeg);
    let weights = "--weights r/checkpoints/last.safetensors";
    check(
        "no_picture",
        &session,
        &format!("classify {weights} text.jpg cut.jpg half.jpg empty.png none.png whole.jpg"),
    );
    let line = format!("classify {weights} half.jpg none.png --json");
    check("no_picture_json", &session, &line);
}

#[test]
fn a_broken_picture_among_others_is_named_and_counted() {
    let session = Session::new();
    for class in ["cat", "dog"] {
        for i in 0..4 {
            session.write(&format!("set/{class}/{i}.bmp"), noise(16, 16, 1 + i));
        }
    }
    session.write("set/cat/words.jpg", "these are words");
    check("broken_pictures_where_none_may_be", &session, "train --data set --run r --strict");
    let line = "train --data set --val set --run r --epochs 3 --batch-size 3 --json";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let log = std::fs::read_to_string(session.folder().join("r/log.txt")).unwrap();
    for what in ["another takes its place", "left out"] {
        let line = format!("note: set/cat/words.jpg: not an image: text; {what}");
        assert_eq!(log.lines().filter(|found| *found == line).count(), 1, "{log}");
    }
    let events = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let epochs = events.filter(|event: &serde_json::Value| event["event"] == "epoch");
    let counts = epochs.map(|epoch| (epoch["replaced"].clone(), epoch["skipped"].clone()));
    assert_eq!(counts.collect::<Vec<_>>(), vec![(1.into(), 1.into()); 3]);
    let weights = "--weights r/checkpoints/last.safetensors";
    let answer = session.run(&format!("eval {weights} --data set --json"));
    let found: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&found["images"], &found["skipped"]), (&8.into(), &1.into()));
    assert!(answer.stderr.contains("set/cat/words.jpg: not an image: text"), "{}", answer.stderr);
    for i in 0..4 {
        session.write(&format!("set/cat/{i}.bmp"), "these are words");
    }
    check("a_class_of_broken_pictures", &session, &format!("eval {weights} --data set"));
}

#[test]
fn weights_that_do_not_fit() {
    let session = Session::new();
    tiny_run(&session);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../resnet-io/tests/fixtures/weights");
    let hostile = ["call.pkl", "call_in_dict.pkl", "call_beside_tensor.pth"];
    let truncated = ["wrapped_truncated.pth", "wrapped_legacy_truncated.pth"];
    for name in hostile.into_iter().chain(truncated) {
        let bytes = std::fs::read(format!("{fixtures}/{name}")).unwrap();
        session.write(name, bytes);
        let line = format!("eval --model resnet20 --weights {name}");
        check(name, &session, &line);
    }
    // What the pickles' calls of `os.system` would have made.
    assert!(!session.folder().join("executed-by-pickle").exists());
    check("no_weights_file", &session, "eval --model resnet20 --weights none.pth");
    let line = "eval --model resnet32 --weights r/checkpoints/last.safetensors";
    check("weights_of_another_network", &session, line);
    check("no_weights", &session, "eval --model resnet20");
    check("two_means", &session, &format!("{line} --mean 0.5,0.5"));
    check("four_channels", &session, "train --in-channels 4 --run s");
    check("no_size", &session, "train --size 0 --run s");
}

#[test]
fn weights_for_another_number_of_classes() {
    let session = Session::new();
    tiny_run(&session);
    let data = "--data generated:classes=5,images=40,size=16 --batch-size 8 --max-steps 1 --quiet";
    let line = format!("train --weights r/checkpoints/last.safetensors {data} --run s");
    check("weights_for_other_classes", &session, &line);
    assert_eq!(session.run(&format!("{line} --new-head")).status, Some(0));
    check("pictures_of_other_classes", &session, "eval --weights r/checkpoints/last.safetensors");
}

#[test]
fn a_run_that_is_none_and_a_checkpoint_that_is_damaged() {
    let session = Session::new();
    check("no_run", &session, "train --resume nowhere");
    tiny_run(&session);
    check("changed_on_resume", &session, "train --resume r --batch-size 16");
    let path = session.folder().join("r/checkpoints/last.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let answer = session.run("info --verify r/checkpoints/last.safetensors");
    assert_eq!((answer.status, answer.stdout.as_str()), (Some(1), ""));
    assert!(answer.stderr.contains("last.safetensors: checksum "), "{}", answer.stderr);
    let answer = session.run("train --resume r");
    assert_eq!(answer.status, Some(1));
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let [error, hint] = lines[..] else { panic!("{}", answer.stderr) };
    assert!(error.starts_with("error: r/checkpoints/last.safetensors: checksum "), "{error}");
    assert!(hint.starts_with("hint: --weights begins a new run"), "{hint}");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    check("truncated_checkpoint", &session, "train --resume r");
}

#[test]
fn a_batch_larger_than_the_set() {
    let line = "train --data generated:classes=3,images=96,size=16 --run r --batch-size 1000";
    check("batch_too_large", &Session::new(), line);
    let line = "train --data generated:classes=3,images=96,size=16 --run r --batch-size 1";
    check("batch_of_one", &Session::new(), line);
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
    let train = "train --data generated:classes=3,images=96,size=16 --run r --epochs 1 --json";
    for line in ["info resnet152", "info resnet152 --json", "info --help", train] {
        let mut command = session.command(line);
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let answer = session.answer(output);
        assert_eq!((answer.status, answer.stderr.as_str()), (Some(0), ""), "{line}");
    }
    // Training goes on without its reader.
    assert!(session.folder().join("r/checkpoints/best.safetensors").exists());
}
